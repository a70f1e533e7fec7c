// SPDX-License-Identifier: BSD-2-Clause
//! Memory of guests and what shows it: GSpaces, hash page tables, views, page tables.

use super::Rig;
use partita_abi::{CapRights, InvocationLabel as L, ObjectType, init_cnode};

/// log2 of the bytes of a hash page table.
pub const HPT_ORDER: u64 = 18;
/// Rights of a page, as an argument.
pub const READ_WRITE: u64 = CapRights::READ.0 | CapRights::WRITE.0;

impl Rig {
    /// A GSpace with an LPID.
    #[track_caller]
    pub fn gspace(&self) -> u64 {
        let gspace = self.make(ObjectType::GSpace);
        let control = init_cnode::LPID_CONTROL as u64;
        self.ok(control, L::LPIDControlAssign, &[], &[gspace]);
        gspace
    }

    /// A table of a GSpace, mapped at 0: first that of the first GiB, then that of its first 2 MiB.
    #[track_caller]
    pub fn gpage_table(&self, gspace: u64) -> u64 {
        let table = self.make(ObjectType::GPageTable);
        self.ok(table, L::GPageTableMap, &[0, 0], &[gspace]);
        table
    }

    /// Both tables for the first 2 MiB of a GSpace, the outer one first.
    #[track_caller]
    pub fn gpage_tables(&self, gspace: u64) -> [u64; 2] {
        [self.gpage_table(gspace), self.gpage_table(gspace)]
    }

    /// A page of 4 KiB of a GSpace.
    #[track_caller]
    pub fn guest_page(&self, gspace: u64, gpa: u64) -> u64 {
        let page = self.make(ObjectType::Frame4K);
        self.ok(page, L::PageMap, &[gpa, READ_WRITE, 0], &[gspace]);
        page
    }

    /// A hash page table and its array of GFNs.
    #[track_caller]
    pub fn unbound_hpt(&self) -> (u64, u64) {
        let hpt = self.make_many(ObjectType::Hpt, HPT_ORDER, 1);
        (hpt, self.make_many(ObjectType::HptGfns, HPT_ORDER - 2, 1))
    }

    /// The same, bound to a GSpace, with a VRMA of 4 KiB pages.
    #[track_caller]
    pub fn hpt(&self, gspace: u64) -> (u64, u64) {
        let (hpt, gfns) = self.unbound_hpt();
        self.ok(hpt, L::HPTBind, &[12], &[gspace, gfns]);
        (hpt, gfns)
    }

    /// A view of a GSpace, with all rights.
    #[track_caller]
    pub fn view(&self, gspace: u64) -> u64 {
        let (view, root) = (self.fresh(), init_cnode::CNODE as u64);
        self.ok(gspace, L::GSpaceMakeView, &[view, 64, READ_WRITE], &[root]);
        view
    }

    /// Tables of a VSpace down to pages of 4 KiB at `vaddr`, where there are none; the outermost first.
    #[track_caller]
    pub fn page_tables(&self, vspace: u64, vaddr: u64) -> [u64; 3] {
        [(); 3].map(|()| {
            let table = self.make(ObjectType::PageTable);
            self.ok(table, L::PageTableMap, &[vaddr, 0], &[vspace]);
            table
        })
    }

    /// The same, of the root task's.
    #[track_caller]
    pub fn own_page_tables(&self, vaddr: u64) -> [u64; 3] {
        self.page_tables(init_cnode::VSPACE as u64, vaddr)
    }
}
