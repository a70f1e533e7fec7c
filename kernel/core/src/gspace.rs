// SPDX-License-Identifier: BSD-2-Clause
//! Guest-physical address spaces: which page of memory stands at which guest real address, with which
//! rights, and how often it is in use (pinned).
//!
//! A GSpace has a table for each GiB of guest memory; an entry there is a 2 MiB page or another table of
//! 4 KiB pieces. A page that a hash page table entry or a view refers to is pinned: it cannot be unmapped,
//! and when its frame is deleted all the same, the guest's hash page table is poisoned first
//! (docs/KERNEL.md, the pin rule).

use crate::cap::{Cap, Frame, Mapping, View};
use crate::error::{LookupFailure, Outcome, SysError};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Link, Object, Ref, Slot};
use crate::syscall::Args;
use crate::vcpu::Vcpu;
use core::cell::Cell;
use partita_abi::{CapRights, InvocationLabel, address_space as space, limits};

/// GiB of guest memory that a GSpace can address.
pub const GSPACE_TABLES: usize = limits::GSPACE_GIB;
/// Views of a GSpace that can be mapped at one time.
pub const GSPACE_VIEWS: usize = limits::GSPACE_VIEWS;
/// Address spaces that can see the real hash page table.
pub const HPT_VIEWS: usize = limits::HPT_VIEWS;

const VALID: u64 = 1;
const TABLE: u64 = 2;
const SIZE_SHIFT: u32 = 2;
const RIGHTS_SHIFT: u32 = 4;
const DEVICE: u64 = 1 << 6;
/// Devices can be at any real address.
const ADDR: u64 = 0x00ff_ffff_ffff_f000;
/// Virtual address in `MappedView::place`.
const PLACE_VADDR: u64 = (1 << 48) - 1;

/// `MappedView::gpa` of one whose page was taken away by force: it shows the GSpace's empty page.
pub const TAKEN_AWAY: u64 = u64::MAX;

/// A mapped view.
#[repr(C)]
pub struct MappedView {
    /// PID and virtual address, 0 if unused.
    pub place: Cell<u64>,
    /// Guest real address of the piece, or [`TAKEN_AWAY`].
    pub gpa: Cell<u64>,
}

/// Guest-physical address space: 4 KiB, and an empty page behind it ([`empty_page`]).
#[repr(C)]
pub struct GSpace {
    /// LPID, 0 until one is assigned.
    pub lpid: Cell<u64>,
    /// Real address of the hash page table, 0 if none is bound.
    pub hpt: Cell<u64>,
    /// log2 of its bytes.
    pub hpt_order: Cell<u64>,
    /// Real address of the array of guest frame numbers, 4 bytes for each entry.
    pub gfns: Cell<u64>,
    /// dw0 of the partition-table entry.
    pub partition: Cell<u64>,
    /// 1 while no vCPU may run, from the deletion of what an entry uses to the end of Clear or of the
    /// table: see the pin rule.
    pub poisoned: Cell<u64>,
    /// 1 while all translated faults come to the hypervisor (VPM1).
    pub intercept: Cell<u64>,
    /// How far an interrupted Clear came, bytes.
    pub cleared: Cell<u64>,
    /// 1 while pin counts include entries that are gone: only those of views count.
    pub stale_pins: Cell<u64>,
    /// How far an interrupted [`Kernel::count_pins_anew`] came, pieces of 2 MiB.
    pub recounted: Cell<u64>,
    /// vCPUs of this guest.
    pub vcpus: Link<Vcpu>,
    /// Address spaces that see the real table: PID << 48 | address.
    pub hpt_views: [Cell<u64>; HPT_VIEWS],
    /// Mapped views.
    pub views: [MappedView; GSPACE_VIEWS],
    /// Tables, one a GiB.
    pub tables: [Link<GPageTable>; GSPACE_TABLES],
}
impl Object for GSpace {}
const _: () = assert!(core::mem::size_of::<GSpace>() <= 4096);

/// Real address of the page that views show whose own page was taken away by force: their holders find out when they
/// next invoke something, and until then their accesses are not faults. It is part of the GSpace, so it joins
/// nobody but those who shared the guest's memory anyway. The kernel never reads it.
fn empty_page(g: Ref<GSpace>) -> u64 {
    g.addr() + 4096
}

/// 512 guest pages and their pin counts: 8 KiB.
#[repr(C)]
pub struct GPageTable {
    /// Pages.
    pub leaves: [Cell<u64>; 512],
    /// How many hash page table entries and views refer to each.
    pub pins: [Cell<u32>; 512],
}
impl Object for GPageTable {}

/// Where a table stands in a GSpace.
enum Place<'k> {
    /// For a GiB.
    Gib(&'k Link<GPageTable>),
    /// For 2 MiB: the entry of the GiB's table.
    Piece(&'k Cell<u64>),
}

/// A page of a guest.
#[derive(Clone, Copy)]
pub(crate) struct Leaf {
    table: Ref<GPageTable>,
    index: usize,
    /// Real address of the frame.
    pub addr: u64,
    /// log2 of the frame's size.
    pub bits: u32,
    pub rights: CapRights,
    pub device: bool,
}

fn frame_bits(word: u64) -> u32 {
    match (word >> SIZE_SHIFT) & 3 {
        0 => 12,
        1 => 16,
        _ => 21,
    }
}

/// The table of 4 KiB pieces that an entry of a GiB's table names.
pub(crate) fn inner_table(word: u64) -> Option<Ref<GPageTable>> {
    if word & TABLE != 0 {
        Ref::new(word & ADDR)
    } else {
        None
    }
}

impl<M: Machine> Kernel<'_, M> {
    /// The GSpace with an LPID.
    pub(crate) fn gspace_of(&self, lpid: u64) -> Option<Ref<GSpace>> {
        Ref::new(self.g.gspaces.get(lpid as usize)?.get())
    }

    /// The page at `gpa`.
    #[inline(always)]
    pub(crate) fn leaf(&self, g: &GSpace, gpa: u64) -> Option<Leaf> {
        let mut table = g.tables.get((gpa >> 30) as usize)?.get()?;
        let mut index = (gpa >> 21) as usize & 511;
        let mut word = self.at(table).leaves[index].get();
        if word & TABLE != 0 {
            table = Ref::new(word & ADDR)?;
            index = (gpa >> 12) as usize & 511;
            word = self.at(table).leaves[index].get();
        }
        if word & VALID == 0 {
            return None;
        }
        let bits = frame_bits(word);
        let addr = word & ADDR;
        // The entries of a 64 KiB page are sixteen; its pins are counted in the first.
        let (index, addr) = if bits == 16 {
            (index & !15, addr & !0xffff)
        } else {
            (index, addr)
        };
        Some(Leaf {
            table,
            index,
            addr,
            bits,
            rights: CapRights((word >> RIGHTS_SHIFT) & 3),
            device: word & DEVICE != 0,
        })
    }

    fn pins(&self, leaf: &Leaf) -> &Cell<u32> {
        let table = self.at(leaf.table);
        &table.pins[leaf.index & 511]
    }

    /// Counts one more use; false if it cannot be counted.
    #[inline]
    pub(crate) fn pin(&self, leaf: &Leaf) -> bool {
        let pins = self.pins(leaf);
        match pins.get().checked_add(1) {
            Some(n) => {
                pins.set(n);
                true
            }
            None => false,
        }
    }

    #[inline]
    pub(crate) fn unpin(&self, leaf: &Leaf) {
        let pins = self.pins(leaf);
        pins.set(pins.get().saturating_sub(1));
    }

    fn pinned(&self, g: &GSpace, leaf: &Leaf) -> bool {
        if g.stale_pins.get() == 0 {
            return self.pins(leaf).get() != 0;
        }
        let mut views = g.views.iter().filter(|v| v.place.get() != 0);
        views.any(|v| {
            self.leaf(g, v.gpa.get())
                .is_some_and(|l| l.table == leaf.table && l.index == leaf.index)
        })
    }

    /// The entries of the hash page table are gone, all at once: what they pinned is free now. The counts
    /// follow when somebody next needs them ([`Self::count_pins_anew`]).
    pub(crate) fn forget_pins(&self, g: &GSpace) {
        g.stale_pins.set(1);
        g.recounted.set(0);
    }

    /// Makes all pin counts those of the views. Preemptible; meanwhile there is no entry that could pin.
    pub(crate) fn count_pins_anew(&self, g: &GSpace) -> Outcome {
        if g.stale_pins.get() == 0 {
            return Ok(());
        }
        let pieces = |table| self.at::<GPageTable>(table).leaves.iter();
        loop {
            let at = g.recounted.get() as usize;
            let Some(table) = g.tables.get(at / 512) else {
                break;
            };
            let Some(table) = table.get() else {
                g.recounted.set((at / 512 + 1) as u64 * 512);
                continue;
            };
            if at.is_multiple_of(512) {
                self.at(table).pins.iter().for_each(|p| p.set(0));
            }
            // Up to the next table of small pieces, and that one.
            let mut rest = pieces(table).enumerate().skip(at % 512);
            let inner = rest.find_map(|(i, leaf)| Some((i, inner_table(leaf.get())?)));
            let next = inner.map_or(512, |(i, _)| i + 1);
            g.recounted.set((at / 512 * 512 + next) as u64);
            if let Some((_, inner)) = inner {
                self.at(inner).pins.iter().for_each(|p| p.set(0));
            }
            self.preemption_point()?;
        }
        for view in &g.views {
            if view.place.get() != 0
                && let Some(leaf) = self.leaf(g, view.gpa.get())
            {
                self.pin(&leaf);
            }
        }
        g.stale_pins.set(0);
        Ok(())
    }

    pub(crate) fn invoke_lpid_control(&self, args: &Args) -> Outcome<usize> {
        if args.label != InvocationLabel::LPIDControlAssign {
            return Err(SysError::IllegalOperation.into());
        }
        let Cap::GSpace(r) = self.cap_arg(args, 0)?.1 else {
            return Err(SysError::InvalidCapability(1).into());
        };
        let g = self.at(r);
        if g.lpid.get() != 0 {
            return Err(SysError::IllegalOperation.into());
        }
        // LPID 0 is the host.
        let Some(lpid) = (1..self.g.gspaces.len()).find(|i| self.g.gspaces[*i].get() == 0) else {
            return Err(SysError::NotEnoughMemory(0).into());
        };
        self.g.gspaces[lpid].set(r.addr());
        g.lpid.set(lpid as u64);
        self.m.set_partition(lpid as u64, 0);
        Ok(0)
    }

    pub(crate) fn invoke_gspace(
        &self,
        slot: Ref<Slot>,
        r: Ref<GSpace>,
        args: &Args,
    ) -> Outcome<usize> {
        if args.label != InvocationLabel::GSpaceMakeView {
            return Err(SysError::IllegalOperation.into());
        }
        let (index, depth) = (self.arg(args, 0)?, self.arg(args, 1)?);
        let rights = CapRights::from_word(self.arg(args, 2)? & 3);
        let (_, root) = self.cap_arg(args, 0)?;
        if !rights.contains(CapRights::READ) {
            return Err(SysError::InvalidArgument(2).into());
        }
        let dest = self.lookup_target(root, index, depth, false)?;
        self.ensure_empty(dest)?;
        // Not a parent itself: all views of a GSpace name one object, and revoking one would take the
        // others.
        self.insert(
            &Cap::View(View {
                gspace: r,
                rights,
                mapping: None,
            }),
            slot,
            dest,
        );
        Ok(0)
    }

    pub(crate) fn invoke_gpage_table(
        &self,
        slot: Ref<Slot>,
        addr: u64,
        mapping: Option<Mapping>,
        args: &Args,
    ) -> Outcome<usize> {
        match args.label {
            InvocationLabel::GPageTableMap => {
                let gpa = self.arg(args, 0)?;
                let _attr = self.arg(args, 1)?;
                let Cap::GSpace(r) = self.cap_arg(args, 0)?.1 else {
                    return Err(SysError::InvalidCapability(1).into());
                };
                let g = self.at(r);
                if g.lpid.get() == 0 {
                    return Err(SysError::IllegalOperation.into());
                }
                // Also if that GSpace is gone: the table has old entries until it is unmapped.
                if mapping.is_some() {
                    return Err(SysError::InvalidCapability(0).into());
                }
                let Some(first) = g.tables.get((gpa >> 30) as usize) else {
                    return Err(SysError::InvalidArgument(0).into());
                };
                let align = match first.get() {
                    None => {
                        first.set(Ref::new(addr));
                        30
                    }
                    Some(t) => {
                        let leaf = &self.at(t).leaves[(gpa >> 21) as usize & 511];
                        if leaf.get() != 0 {
                            return Err(SysError::DeleteFirst.into());
                        }
                        leaf.set(addr | TABLE);
                        21
                    }
                };
                let place = Mapping {
                    pid: g.lpid.get() | Mapping::GUEST,
                    vaddr: gpa >> align << align,
                };
                self.set_cap(
                    slot,
                    &Cap::GPageTable {
                        addr,
                        mapping: Some(place),
                    },
                );
            }
            InvocationLabel::GPageTableUnmap => {
                if !self.is_final(slot) {
                    return Err(SysError::RevokeFirst.into());
                }
                if let Some(m) = mapping {
                    if let Some((r, _)) = self.place_of(addr, m)
                        && self.table_in_use(self.at(r), addr, m)
                    {
                        return Err(SysError::RevokeFirst.into());
                    }
                    self.remove_gpage_table(addr, m);
                    self.set_cap(
                        slot,
                        &Cap::GPageTable {
                            addr,
                            mapping: None,
                        },
                    );
                }
            }
            _ => return Err(SysError::IllegalOperation.into()),
        }
        Ok(0)
    }

    /// Where a table stands, if it still does.
    fn place_of(&self, addr: u64, mapping: Mapping) -> Option<(Ref<GSpace>, Place<'_>)> {
        let r = self.gspace_of(mapping.lpid()?)?;
        let first = self.at(r).tables.get((mapping.vaddr >> 30) as usize)?;
        let outer = first.get()?;
        if outer.addr() == addr {
            return Some((r, Place::Gib(first)));
        }
        let leaf = &self.at(outer).leaves[(mapping.vaddr >> 21) as usize & 511];
        (leaf.get() == addr | TABLE).then_some((r, Place::Piece(leaf)))
    }

    /// Whether a table that stands at `mapping` has a table below it, or pages that are pinned.
    fn table_in_use(&self, g: &GSpace, addr: u64, mapping: Mapping) -> bool {
        let Some(r) = Ref::<GPageTable>::new(addr) else {
            return false;
        };
        let t = self.at(r);
        let below = |at: u64| {
            self.leaf(g, at)
                .is_some_and(|l| l.table == r && at >= mapping.vaddr)
        };
        let pinned = match g.stale_pins.get() {
            0 => t.pins.iter().any(|p| p.get() != 0),
            _ => g
                .views
                .iter()
                .any(|v| v.place.get() != 0 && below(v.gpa.get())),
        };
        pinned || t.leaves.iter().any(|l| l.get() & TABLE != 0)
    }

    /// Takes a table out of its GSpace, and empties it; whatever is pinned below poisons the hash page
    /// table first.
    pub(crate) fn remove_gpage_table(&self, addr: u64, mapping: Mapping) {
        if let Some((r, place)) = self.place_of(addr, mapping) {
            if self.table_in_use(self.at(r), addr, mapping) {
                self.poison(r);
            }
            match place {
                Place::Gib(first) => first.set(None),
                Place::Piece(leaf) => leaf.set(0),
            }
        }
        if let Some(t) = Ref::<GPageTable>::new(addr) {
            let t = self.at(t);
            for (leaf, pins) in t.leaves.iter().zip(&t.pins) {
                leaf.set(0);
                pins.set(0);
            }
        }
    }

    /// Maps a frame at a guest real address.
    pub(crate) fn map_guest_frame(
        &self,
        slot: Ref<Slot>,
        f: Frame,
        r: Ref<GSpace>,
        gpa: u64,
        rights: CapRights,
    ) -> Outcome {
        let g = self.at(r);
        let lpid = g.lpid.get();
        if lpid == 0 || g.poisoned.get() != 0 {
            return Err(SysError::IllegalOperation.into());
        }
        if !gpa.is_multiple_of(1 << f.bits) {
            return Err(SysError::Alignment.into());
        }
        if f.mapping.is_some_and(|m| self.mapping_lives(&m)) {
            return Err(SysError::InvalidCapability(0).into());
        }
        let Some(first) = g.tables.get((gpa >> 30) as usize) else {
            return Err(SysError::InvalidArgument(0).into());
        };
        let missing = |bits_left| {
            SysError::FailedLookup(false, LookupFailure::MissingCapability { bits_left })
        };
        let Some(t) = first.get() else {
            return Err(missing(30).into());
        };
        let word = self.at(t).leaves[(gpa >> 21) as usize & 511].get();
        let (table, index, count) = match f.bits {
            21 => (t, (gpa >> 21) as usize & 511, 1),
            bits => {
                if word & TABLE == 0 {
                    return Err(if word == 0 {
                        missing(21)
                    } else {
                        SysError::DeleteFirst
                    }
                    .into());
                }
                let Some(t) = Ref::new(word & ADDR) else {
                    return Err(missing(21).into());
                };
                (
                    t,
                    (gpa >> 12) as usize & 511,
                    if bits == 16 { 16 } else { 1 },
                )
            }
        };
        let leaves = &self.at(table).leaves[index..index + count];
        if leaves.iter().any(|l| l.get() != 0) {
            return Err(SysError::DeleteFirst.into());
        }
        let rights = f.rights.intersection(rights);
        if !rights.contains(CapRights::READ) {
            return Err(SysError::InvalidArgument(1).into());
        }
        let size = match f.bits {
            12 => 0,
            16 => 1,
            _ => 2u64,
        };
        let word = VALID
            | (size << SIZE_SHIFT)
            | ((rights.0 & 3) << RIGHTS_SHIFT)
            | if f.device { DEVICE } else { 0 };
        for (i, leaf) in leaves.iter().enumerate() {
            leaf.set(word | (f.addr + ((i as u64) << 12)));
        }
        let place = Mapping {
            pid: lpid | Mapping::GUEST,
            vaddr: gpa,
        };
        self.set_cap(
            slot,
            &Cap::Frame(Frame {
                mapping: Some(place),
                ..f
            }),
        );
        Ok(())
    }

    /// The leaf of a frame that is mapped in a GSpace, if it is still there.
    fn leaf_of(&self, f: &Frame, mapping: &Mapping) -> Option<(Ref<GSpace>, Leaf)> {
        let r = self.gspace_of(mapping.lpid()?)?;
        let leaf = self.leaf(self.at(r), mapping.vaddr)?;
        if leaf.addr == f.addr && leaf.bits == f.bits {
            Some((r, leaf))
        } else {
            None
        }
    }

    /// Whether a frame's guest page is in use, so that it cannot be unmapped.
    pub(crate) fn guest_frame_pinned(&self, f: &Frame, mapping: &Mapping) -> bool {
        match self.leaf_of(f, mapping) {
            Some((r, leaf)) => self.pinned(self.at(r), &leaf),
            None => false,
        }
    }

    /// Takes a frame out of its GSpace; if it is pinned, the hash page table is poisoned first.
    pub(crate) fn unmap_guest_frame(&self, f: &Frame, mapping: &Mapping) {
        let Some((r, leaf)) = self.leaf_of(f, mapping) else {
            return;
        };
        if self.pinned(self.at(r), &leaf) {
            self.poison(r);
        }
        let count = if leaf.bits == 16 { 16 } else { 1 };
        for l in self
            .at(leaf.table)
            .leaves
            .iter()
            .skip(leaf.index)
            .take(count)
        {
            l.set(0);
        }
        self.pins(&leaf).set(0);
    }

    /// Whether what a frame or table remembers of its mapping can still be true.
    pub(crate) fn mapping_lives(&self, m: &Mapping) -> bool {
        match m.lpid() {
            Some(lpid) => self.gspace_of(lpid).is_some(),
            None => self.root_of(m.pid).is_some(),
        }
    }

    /// No vCPU runs on this GSpace and no hardware walks its table any more, until it is cleared.
    pub(crate) fn poison(&self, r: Ref<GSpace>) {
        let g = self.at(r);
        if g.poisoned.replace(1) == 0 {
            g.cleared.set(0);
            self.force_out(r);
            if g.lpid.get() != 0 {
                self.m.set_partition(g.lpid.get(), 0);
            }
        }
        // Also if it is poisoned by a Clear that is not at its end, which leaves these.
        for view in &g.views {
            self.take_away(r, view);
        }
        self.vcpus(r).for_each(|v| v.dispatch_counter.set(0));
    }

    pub(crate) fn invoke_view(&self, slot: Ref<Slot>, view: View, args: &Args) -> Outcome<usize> {
        match args.label {
            InvocationLabel::ViewMap => {
                let (gpa, vaddr) = (self.arg(args, 0)?, self.arg(args, 1)?);
                let _attr = self.arg(args, 2)?;
                let Cap::VSpace { addr: root } = self.cap_arg(args, 0)?.1 else {
                    return Err(SysError::InvalidCapability(1).into());
                };
                self.map_view(slot, view, root, gpa, vaddr)?;
            }
            InvocationLabel::ViewUnmap => {
                self.unmap_view(&view);
                self.set_cap(
                    slot,
                    &Cap::View(View {
                        mapping: None,
                        ..view
                    }),
                );
            }
            _ => return Err(SysError::IllegalOperation.into()),
        }
        Ok(0)
    }

    fn map_view(&self, slot: Ref<Slot>, view: View, root: u64, gpa: u64, vaddr: u64) -> Outcome {
        let g = self.at(view.gspace);
        if view.mapping.is_some() || !view.rights.contains(CapRights::READ) {
            return Err(SysError::InvalidCapability(0).into());
        }
        if g.lpid.get() == 0 || g.poisoned.get() != 0 {
            return Err(SysError::IllegalOperation.into());
        }
        if (gpa | vaddr) & 0xfff != 0 {
            return Err(SysError::Alignment.into());
        }
        if vaddr >> limits::VIEW_VADDR_BITS != 0 || vaddr > space::USER_VSPACE_TOP as u64 {
            return Err(SysError::InvalidArgument(1).into());
        }
        let pid = self.pid_of(root);
        if pid == 0 {
            return Err(SysError::FailedLookup(false, LookupFailure::InvalidRoot).into());
        }
        let Some(leaf) = self.leaf(g, gpa) else {
            let failure = LookupFailure::MissingCapability { bits_left: 12 };
            return Err(SysError::FailedLookup(true, failure).into());
        };
        let Some(free) = g.views.iter().find(|v| v.place.get() == 0) else {
            return Err(SysError::NotEnoughMemory(0).into());
        };
        let page = leaf.addr + (gpa & ((1 << leaf.bits) - 1));
        let rights = leaf.rights.intersection(view.rights);
        let entry = self.empty_entry(root, vaddr, 12)?;
        // While pins are counted anew, views are counted at the end.
        if g.stale_pins.get() == 0 && !self.pin(&leaf) {
            return Err(SysError::IllegalOperation.into());
        }
        self.write_page(entry, page, rights, leaf.device);
        let mapping = Mapping { pid, vaddr };
        free.place.set(pid << 48 | vaddr);
        free.gpa.set(gpa);
        self.set_cap(
            slot,
            &Cap::View(View {
                mapping: Some((mapping, gpa)),
                ..view
            }),
        );
        Ok(())
    }

    /// Ends the mapping that a view capability remembers.
    pub(crate) fn unmap_view(&self, view: &View) {
        let Some((mapping, gpa)) = view.mapping else {
            return;
        };
        let g = self.at(view.gspace);
        let place = mapping.pid << 48 | mapping.vaddr;
        // One whose page was taken away may have stood at the place of one that is there now.
        let find = |at| {
            let mut views = g.views.iter();
            views.find(|v| v.place.get() == place && v.gpa.get() == at)
        };
        if let Some(v) = find(gpa).or_else(|| find(TAKEN_AWAY)) {
            self.drop_view(view.gspace, v);
            for vcpu in self.vcpus(view.gspace) {
                if vcpu.dispatch_counter_view.get() == place {
                    vcpu.dispatch_counter.set(0);
                }
            }
        }
    }

    /// Whether the kernel has not ended the mapping that a view capability remembers.
    pub(crate) fn view_shows(&self, view: &View) -> bool {
        let Some((mapping, gpa)) = view.mapping else {
            return false;
        };
        let place = mapping.pid << 48 | mapping.vaddr;
        let views = &self.at(view.gspace).views;
        views
            .iter()
            .any(|v| v.place.get() == place && v.gpa.get() == gpa)
    }

    /// What a view shows goes by force: it shows the empty page now.
    fn take_away(&self, r: Ref<GSpace>, view: &MappedView) {
        let place = view.place.get();
        if place == 0 {
            return;
        }
        let g = self.at(r);
        if let Some(page) = self.viewed_page(g, view) {
            self.replace_page(place >> 48, place & PLACE_VADDR, page, empty_page(r));
        }
        if let Some(leaf) = self.leaf(g, view.gpa.get()) {
            self.unpin(&leaf);
        }
        view.gpa.set(TAKEN_AWAY);
    }

    /// Real address of the guest's page that a view shows.
    fn viewed_page(&self, g: &GSpace, view: &MappedView) -> Option<u64> {
        // The leaf is there as long as it is pinned.
        let leaf = self.leaf(g, view.gpa.get())?;
        Some(leaf.addr + (view.gpa.get() & ((1 << leaf.bits) - 1)))
    }

    fn drop_view(&self, r: Ref<GSpace>, view: &MappedView) {
        let g = self.at(r);
        let place = view.place.replace(0);
        if place == 0 {
            return;
        }
        let (pid, vaddr) = (place >> 48, place & PLACE_VADDR);
        if view.gpa.get() == TAKEN_AWAY {
            self.clear_entry(pid, vaddr, 12, empty_page(r));
        } else if let Some(page) = self.viewed_page(g, view) {
            self.clear_entry(pid, vaddr, 12, page);
            if let Some(leaf) = self.leaf(g, view.gpa.get()) {
                self.unpin(&leaf);
            }
        }
    }

    /// The last capability to a GSpace goes: so do its LPID and everything that runs on it.
    pub(crate) fn finalise_gspace(&self, r: Ref<GSpace>) {
        let g = self.at(r);
        self.poison(r);
        self.drop_hpt_views(g);
        for view in &g.views {
            self.drop_view(r, view);
        }
        while let Some(v) = g.vcpus.get() {
            self.detach_vcpu(v);
        }
        let lpid = g.lpid.replace(0);
        if lpid != 0 {
            self.g.gspaces[lpid as usize & (self.g.gspaces.len() - 1)].set(0);
        }
    }
}
