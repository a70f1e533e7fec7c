// SPDX-License-Identifier: BSD-2-Clause
//! A check of the confinement rule on a live hash page table, for the debug configuration: every entry
//! that hardware could use maps a page of the GSpace, with no more rights than the page has, and is
//! counted among its pins.

use crate::gspace::{GPageTable, GSpace, TAKEN_AWAY, inner_table};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::Link;
use partita_abi::CapRights;
use partita_papr::hpte::{self, Isa30Hpte};
use partita_papr::{HptOrder, PageSize, protection};

/// What is wrong with a table. Numbers of entries are those of the table (ptex).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An entry whose size does not decode.
    Size(u64),
    /// An entry for a guest page that is not there.
    NotMapped(u64),
    /// An entry that points elsewhere than to the frame of its guest page.
    Address(u64),
    /// An entry that allows stores to a read-only page.
    Rights(u64),
    /// An entry whose storage control is not that of its memory.
    StorageControl(u64),
    /// Entries and views use pages so often, and they are counted so often.
    Pins {
        /// Uses.
        used: u64,
        /// The sum of all pin counts.
        counted: u64,
    },
}

/// Result of [`Kernel::audit_guest`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Valid entries that were checked.
    pub entries: u64,
    /// The first thing that is wrong.
    pub wrong: Option<Finding>,
}

impl<M: Machine> Kernel<'_, M> {
    /// Checks the table of the guest with this LPID. `None`: it has none that hardware can reach.
    pub fn audit_guest(&self, lpid: u64) -> Option<Audit> {
        let g = self.at(self.gspace_of(lpid)?);
        let order = HptOrder::new(g.hpt_order.get() as u32)?;
        if g.hpt.get() == 0 || g.poisoned.get() != 0 {
            return None;
        }
        let (mut audit, mut used) = (Audit::default(), 0);
        for ptex in 0..order.entries() {
            let at = g.hpt.get() + hpte::SIZE as u64 * ptex;
            let v = self.m.read_hpte(at, 0);
            if v & hpte::VALID == 0 {
                continue;
            }
            audit.entries += 1;
            let r = self.m.read_hpte(at, 1);
            match self.audit_entry(g, ptex, Isa30Hpte { v, r }) {
                Ok(pieces) => used += pieces,
                Err(finding) => {
                    audit.wrong = Some(finding);
                    return Some(audit);
                }
            }
        }
        let views = g.views.iter();
        let shown = views.filter(|v| v.place.get() != 0 && v.gpa.get() != TAKEN_AWAY);
        used += shown.count() as u64;
        let counted = self.all_pins(g);
        if used != counted {
            audit.wrong = Some(Finding::Pins { used, counted });
        }
        Some(audit)
    }

    /// How many leaves the entry pins, if it is as it must be.
    fn audit_entry(&self, g: &GSpace, ptex: u64, e: Isa30Hpte) -> Result<u64, Finding> {
        let size = PageSize::decode(e.v, e.r).ok_or(Finding::Size(ptex))?;
        let gpa = u64::from(self.m.read_half(g.gfns.get() + 4 * ptex)) << 12;
        let pieces = if size.shift() > 21 {
            size.bytes() >> 21
        } else {
            1
        };
        for i in 0..pieces {
            let gpa = gpa + (i << 21);
            let leaf = self.leaf(g, gpa).ok_or(Finding::NotMapped(ptex))?;
            if leaf.bits < size.shift().min(21) {
                return Err(Finding::NotMapped(ptex));
            }
            let real = leaf.addr + (gpa & ((1 << leaf.bits) - 1));
            let mapped = e.r & hpte::RPN_ISA30 & !(size.bytes() - 1);
            if mapped + (i << 21) != real {
                return Err(Finding::Address(ptex));
            }
            if protection::is_writable(e.r) && !leaf.rights.contains(CapRights::WRITE) {
                return Err(Finding::Rights(ptex));
            }
            let control = if leaf.device {
                hpte::I | hpte::G
            } else {
                hpte::M
            };
            if e.r & hpte::WIMG != control {
                return Err(Finding::StorageControl(ptex));
            }
        }
        Ok(pieces)
    }

    fn all_pins(&self, g: &GSpace) -> u64 {
        let sum = |t: &GPageTable| t.pins.iter().map(|p| u64::from(p.get())).sum::<u64>();
        let mut pins = 0;
        for t in g.tables.iter().filter_map(Link::get) {
            let t = self.at(t);
            pins += sum(t);
            for inner in t.leaves.iter().filter_map(|leaf| inner_table(leaf.get())) {
                pins += sum(self.at(inner));
            }
        }
        pins
    }
}

/// For printing: the guest is sound, or what is wrong.
impl core::fmt::Display for Audit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.wrong {
            None => write!(f, "{} entries, all confined", self.entries),
            Some(finding) => write!(
                f,
                "NOT CONFINED after {} entries: {finding:x?}",
                self.entries
            ),
        }
    }
}
