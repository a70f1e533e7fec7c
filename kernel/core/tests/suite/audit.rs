// SPDX-License-Identifier: BSD-2-Clause
//! The check of the confinement rule finds what it is there for.

use crate::rig::{READ_WRITE, Rig};
use partita_abi::{CapRights, InvocationLabel as L, ObjectType, init_cnode};
use partita_kernel_core::audit::{Audit, Finding};
use partita_kernel_core::cap::Cap;
use partita_kernel_core::machine::Machine;

const READ: u64 = CapRights::READ.0;
const VALID: u64 = 1;
/// A segment of 4 KiB pages, coherent memory, PP 2.
const R: u64 = 0x12;
const PTEX: u64 = 77;

/// A guest with a table of 2^18 bytes, a writable page at 0 and a read-only page at 0x1000.
struct Guest {
    rig: Rig,
    hpt: u64,
    table: u64,
    gfns: u64,
    pages: [u64; 2],
}

impl Guest {
    fn new() -> Guest {
        let rig = Rig::new();
        let gspace = rig.gspace();
        let (hpt, gfns) = rig.hpt(gspace);
        rig.gpage_tables(gspace);
        let pages = [(0, READ_WRITE), (0x1000, READ)].map(|(gpa, rights)| {
            let page = rig.make(ObjectType::Frame4K);
            rig.ok(page, L::PageMap, &[gpa, rights, 0], &[gspace]);
            page
        });
        let Cap::Hpt { addr, .. } = rig.cap(hpt) else {
            panic!("no table")
        };
        let Cap::HptGfns { addr: gfns, .. } = rig.cap(gfns) else {
            panic!("no array")
        };
        Guest {
            rig,
            hpt,
            table: addr,
            gfns,
            pages,
        }
    }

    fn insert(&self, ptex: u64, gpa: u64) {
        self.rig
            .ok(self.hpt, L::HPTInsert, &[ptex, VALID, gpa | R], &[]);
    }

    /// Changes an entry behind the kernel's back.
    fn forge(&self, ptex: u64, change: impl Fn(u64) -> u64) {
        let at = self.table + 16 * ptex;
        let r = self.rig.m.read_hpte(at, 1);
        self.rig.m.write_hpte(at, 1, change(r));
    }

    fn audit(&self) -> Audit {
        self.rig.k().audit_guest(1).expect("the guest has a table")
    }

    fn wrong(&self) -> Option<Finding> {
        self.audit().wrong
    }
}

/// What the kernel itself has written is confined, whatever has been asked for.
#[test]
fn sound_tables() {
    let g = Guest::new();
    assert_eq!(g.audit(), Audit::default());
    g.insert(PTEX, 0);
    g.insert(PTEX + 1, 0x1000);
    g.insert(0, 0);
    let audit = g.audit();
    assert_eq!((audit.entries, audit.wrong), (3, None));
    g.rig.ok(g.hpt, L::HPTUpdate, &[PTEX + 1, 2], &[]);
    g.rig.ok(g.hpt, L::HPTRemove, &[0], &[]);
    assert_eq!((g.audit().entries, g.wrong()), (2, None));
}

#[test]
fn each_kind_of_forgery_is_found() {
    let forge = |ptex: u64, change: &dyn Fn(u64) -> u64| {
        let g = Guest::new();
        g.insert(PTEX, 0);
        g.insert(PTEX + 1, 0x1000);
        g.forge(ptex, change);
        g.wrong()
    };
    // Somebody else's memory.
    let found = forge(PTEX, &|r| r + 0x1000);
    assert_eq!(found, Some(Finding::Address(PTEX)));
    // A read-only page becomes writable.
    let found = forge(PTEX + 1, &|r| r & !3 | 2);
    assert_eq!(found, Some(Finding::Rights(PTEX + 1)));
    // Memory as a device.
    let found = forge(PTEX, &|r| r | 0x28);
    assert_eq!(found, Some(Finding::StorageControl(PTEX)));
    // An entry that nobody counts.
    let g = Guest::new();
    g.insert(PTEX, 0);
    let at = g.table + 16 * PTEX;
    let [v, r] = [0, 1].map(|i| g.rig.m.read_hpte(at, i));
    g.rig.m.write_hpte(g.table + 16, 1, r);
    g.rig.m.write_hpte(g.table + 16, 0, v);
    let (used, counted) = (2, 1);
    assert_eq!(g.wrong(), Some(Finding::Pins { used, counted }));
    // One whose guest page does not exist.
    let g = Guest::new();
    g.insert(PTEX, 0);
    g.rig.m.write_half(g.gfns + 4 * PTEX, 5);
    assert_eq!(g.wrong(), Some(Finding::NotMapped(PTEX)));
}

/// A table that hardware cannot reach has nothing to hide: the frame is gone, the entry still there.
#[test]
fn a_poisoned_table_is_not_looked_at() {
    let g = Guest::new();
    g.insert(PTEX, 0);
    let (index, depth) = (g.pages[0], 64);
    let cnode = init_cnode::CNODE as u64;
    g.rig.ok(cnode, L::CNodeDelete, &[index, depth], &[]);
    assert_eq!(g.rig.k().audit_guest(1), None);
    g.rig.ok(g.hpt, L::HPTClear, &[], &[]);
    assert_eq!(g.audit(), Audit::default());
    assert_eq!(g.rig.k().audit_guest(2), None);
}
