// SPDX-License-Identifier: BSD-2-Clause
//! Hash page tables: the kernel writes the entries that hardware walks, from requests in guest real
//! addresses (docs/KERNEL.md, the confinement rule).
//!
//! Requests have the guest's format (B in dw0); the real table has ISA 3.0's. R and C of a valid entry are
//! final only after its tlbie (S4.11).

use crate::cap::Cap;
use crate::error::{LookupFailure, Outcome, SysError};
use crate::gspace::{GSpace, Leaf};
use crate::ipc::reg;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Ref, Slot};
use crate::syscall::Args;
use core::cell::Cell;
use partita_abi::{CapRights, InvocationLabel, address_space as space, limits};
use partita_papr::hpte::{self, GuestHpte, Isa30Hpte};
use partita_papr::{HptOrder, PageSize, Ptex, pate, protection, tlbie};

/// Bytes of the table that Clear handles between preemption points.
const CLEAR_STEP: u64 = 1 << 16;
/// Largest table that can be shown to a PD (bounds the loop that maps it).
const MAX_VIEW_ORDER: u32 = limits::HPT_VIEW_MAX_ORDER as u32;

/// Why an entry is not filled in.
#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    /// dw0 is not what a valid entry has.
    BadDw0,
    /// The page size or the address is none.
    BadDw1,
    /// The entry is valid.
    InUse,
    /// The guest has no page of 2^n bytes there.
    NoPage(u32),
    /// The page's pin count is at its end.
    TooManyPins,
}

impl From<Refusal> for SysError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BadDw0 => SysError::InvalidArgument(1),
            Refusal::BadDw1 => SysError::InvalidArgument(2),
            Refusal::InUse => SysError::DeleteFirst,
            Refusal::NoPage(bits) => {
                let bits_left = u64::from(bits);
                SysError::FailedLookup(true, LookupFailure::MissingCapability { bits_left })
            }
            Refusal::TooManyPins => SysError::NotEnoughMemory(0),
        }
    }
}

/// A bound table, its GSpace alive.
pub(crate) struct Table<'k> {
    pub(crate) g: &'k GSpace,
    addr: u64,
    pub(crate) order: HptOrder,
    lpid: u64,
}

impl Table<'_> {
    fn entry(&self, ptex: Ptex) -> u64 {
        self.addr + hpte::SIZE as u64 * ptex.get()
    }
}

impl<'k, M: Machine> Kernel<'k, M> {
    pub(crate) fn table(&self, addr: u64, order: u32, lpid: u64) -> Outcome<Table<'k>> {
        let unbound = SysError::IllegalOperation;
        let g = self.at(self.gspace_of(lpid).ok_or(unbound)?);
        if lpid == 0 || g.hpt.get() != addr {
            return Err(unbound.into());
        }
        let order = HptOrder::new(order).ok_or(unbound)?;
        Ok(Table {
            g,
            addr,
            order,
            lpid,
        })
    }

    /// An invocation on entries, with its results in `words`; `None` if `label` is another's.
    pub(crate) fn invoke_hpte(
        &self,
        t: &Table<'_>,
        label: u64,
        words: &[Cell<u64>],
        length: usize,
    ) -> Option<Outcome<usize>> {
        const INSERT: u64 = InvocationLabel::HPTInsert as u64;
        const REMOVE: u64 = InvocationLabel::HPTRemove as u64;
        const REMOVE_BATCH: u64 = InvocationLabel::HPTRemoveBatch as u64;
        const UPDATE: u64 = InvocationLabel::HPTUpdate as u64;
        const CLEAR_RC: u64 = InvocationLabel::HPTClearRC as u64;
        if !(INSERT..=CLEAR_RC).contains(&label) {
            return None;
        }
        if t.g.poisoned.get() != 0 {
            return Some(Err(SysError::IllegalOperation.into()));
        }
        let word = |i: usize| match words.get(i) {
            Some(w) if i < length => Ok(w.get()),
            _ => Err(SysError::Truncated),
        };
        let ptex = |i: usize| {
            Ptex::new(word(i)?, t.order).ok_or(SysError::Range(0, t.order.entries() - 1))
        };
        let one = |rc: u64| {
            words[0].set(rc);
            1
        };
        let invoke = || -> Outcome<usize> {
            Ok(match label {
                INSERT => {
                    let (ptex, v, r) = (ptex(0)?, word(1)?, word(2)?);
                    self.insert_hpte(t, ptex, v, r).map_err(SysError::from)?;
                    0
                }
                REMOVE => one(self.remove_hpte(t, ptex(0)?)?),
                REMOVE_BATCH => {
                    let count = word(0)?;
                    if !(1..=4).contains(&count) {
                        return Err(SysError::Range(1, 4).into());
                    }
                    let count = count as usize;
                    let mut list = [None; 4];
                    for i in 0..count {
                        let p = ptex(1 + i)?;
                        self.valid_hpte(t, p)?;
                        if list[..i].contains(&Some(p)) {
                            return Err(SysError::InvalidArgument(1 + i as u64).into());
                        }
                        list[i] = Some(p);
                    }
                    let list = || list.iter().flatten();
                    for p in list() {
                        let rb = self.begin_removal(t, *p);
                        self.m.tlbie_hpte(t.lpid, rb);
                    }
                    self.m.tlbie_sync();
                    for (p, w) in list().zip(words) {
                        w.set(self.end_removal(t, *p));
                    }
                    count
                }
                UPDATE => {
                    let (ptex, r) = (ptex(0)?, word(1)?);
                    let old = self.valid_hpte(t, ptex)?;
                    one(self.update_hpte(t, ptex, old, r))
                }
                _ => {
                    let (ptex, mask) = (ptex(0)?, word(1)?);
                    if mask & !(hpte::R | hpte::C) != 0 {
                        return Err(SysError::InvalidArgument(1).into());
                    }
                    let old = self.valid_hpte(t, ptex)?;
                    one(self.clear_rc(t, ptex, old, mask))
                }
            })
        };
        Some(invoke())
    }

    /// Takes an entry out of the table; its R and C.
    fn remove_hpte(&self, t: &Table<'_>, ptex: Ptex) -> Outcome<u64> {
        self.valid_hpte(t, ptex)?;
        let rb = self.begin_removal(t, ptex);
        self.m.tlbie_hpte(t.lpid, rb);
        self.m.tlbie_sync();
        Ok(self.end_removal(t, ptex))
    }

    pub(crate) fn invoke_hpt(
        &self,
        slot: Ref<Slot>,
        addr: u64,
        order: u32,
        lpid: u64,
        args: &Args,
    ) -> Outcome<usize> {
        use InvocationLabel as L;
        if args.label == L::HPTBind {
            return self.bind_hpt(slot, addr, order, lpid, args);
        }
        let t = self.table(addr, order, lpid)?;
        // All arguments of these are in registers.
        let gpr = &self.at(args.thread).context.gpr;
        let words = &gpr[reg::MR0..reg::MR0 + space::FAST_MESSAGE_REGISTERS];
        if let Some(done) = self.invoke_hpte(&t, args.label as u64, words, args.length) {
            return done;
        }
        if t.g.poisoned.get() != 0 && args.label != L::HPTClear {
            return Err(SysError::IllegalOperation.into());
        }
        match args.label {
            L::HPTClear => {
                self.clear_table(&t)?;
                Ok(0)
            }
            L::HPTSetFaultMode => {
                let intercept = self.arg(args, 0)?;
                if intercept > 1 {
                    return Err(SysError::Range(0, 1).into());
                }
                t.g.intercept.set(intercept);
                if let Some(r) = self.gspace_of(t.lpid) {
                    self.force_out(r);
                }
                Ok(0)
            }
            L::HPTMapView => {
                let vaddr = self.arg(args, 0)?;
                let Cap::VSpace { addr: root } = self.cap_arg(args, 0)?.1 else {
                    return Err(SysError::InvalidCapability(1).into());
                };
                self.map_hpt_view(&t, root, vaddr)?;
                Ok(0)
            }
            _ => Err(SysError::IllegalOperation.into()),
        }
    }

    fn bind_hpt(
        &self,
        slot: Ref<Slot>,
        addr: u64,
        order: u32,
        lpid: u64,
        args: &Args,
    ) -> Outcome<usize> {
        let vrma = match self.arg(args, 0)? {
            12 => PageSize::Size4K,
            16 => PageSize::Size64K,
            24 => PageSize::Size16M,
            _ => return Err(SysError::InvalidArgument(0).into()),
        };
        let Cap::GSpace(r) = self.cap_arg(args, 0)?.1 else {
            return Err(SysError::InvalidCapability(1).into());
        };
        let (gfns_slot, gfns) = self.cap_arg(args, 1)?;
        let Cap::HptGfns { addr: gfns, bits } = gfns else {
            return Err(SysError::InvalidCapability(2).into());
        };
        let g = self.at(r);
        let in_use = |gfns| {
            self.g
                .gspaces
                .iter()
                .filter_map(|a| Ref::<GSpace>::new(a.get()))
                .any(|other| self.at(other).gfns.get() == gfns)
        };
        // A table that was bound has entries, whose pages nothing pins any more.
        if g.lpid.get() == 0
            || g.hpt.get() != 0
            || lpid != 0
            || in_use(gfns)
            || !self.is_final(slot)
            || !self.is_final(gfns_slot)
        {
            return Err(SysError::IllegalOperation.into());
        }
        if bits + 2 < order {
            return Err(SysError::InvalidCapability(2).into());
        }
        let order_checked = HptOrder::new(order).ok_or(SysError::IllegalOperation)?;
        let dw0 = pate::dw0(addr, order_checked, vrma).ok_or(SysError::Alignment)?;
        self.count_pins_anew(g)?;

        g.hpt.set(addr);
        g.hpt_order.set(u64::from(order));
        g.gfns.set(gfns);
        g.partition.set(dw0);
        g.poisoned.set(0);
        self.m.set_partition(g.lpid.get(), dw0);
        self.set_cap(
            slot,
            &Cap::Hpt {
                addr,
                order,
                lpid: g.lpid.get(),
            },
        );
        Ok(0)
    }

    fn read_hpte(&self, t: &Table<'_>, ptex: Ptex) -> Isa30Hpte {
        let at = t.entry(ptex);
        Isa30Hpte {
            v: self.m.read_hpte(at, 0),
            r: self.m.read_hpte(at, 1),
        }
    }

    fn valid_hpte(&self, t: &Table<'_>, ptex: Ptex) -> Outcome<Isa30Hpte> {
        let e = self.read_hpte(t, ptex);
        if e.v & hpte::VALID == 0 {
            return Err(SysError::InvalidArgument(0).into());
        }
        Ok(e)
    }

    /// The frames behind a guest page of 2^`bits` bytes at `gpa`, which is aligned: the first leaf and the
    /// real address.
    #[inline(always)]
    fn backing(&self, g: &GSpace, gpa: u64, bits: u32) -> Option<(Leaf, u64)> {
        let leaf = self.leaf(g, gpa)?;
        let real = leaf.addr + (gpa & ((1 << leaf.bits) - 1));
        if bits > leaf.bits && !self.is_contiguous(g, gpa, bits, &leaf, real) {
            return None;
        }
        Some((leaf, real))
    }

    /// Whether a 16 MiB page has eight 2 MiB frames in a row behind it, alike and aligned.
    fn is_contiguous(&self, g: &GSpace, gpa: u64, bits: u32, first: &Leaf, real: u64) -> bool {
        first.bits == 21
            && bits == 24
            && real & ((1 << 24) - 1) == 0
            && (1..8).all(|i| {
                self.leaf(g, gpa + (i << 21)).is_some_and(|next| {
                    next.bits == 21
                        && next.addr == real + (i << 21)
                        && next.rights == first.rights
                        && next.device == first.device
                })
            })
    }

    #[inline(always)]
    fn pin_page(&self, g: &GSpace, gpa: u64, bits: u32, first: &Leaf) -> bool {
        match bits {
            24 => self.pin_large(g, gpa),
            _ => self.pin(first),
        }
    }

    /// Pins the eight frames of a 16 MiB page, or none.
    fn pin_large(&self, g: &GSpace, gpa: u64) -> bool {
        for i in 0..8 {
            let pinned = self.leaf(g, gpa + (i << 21)).is_some_and(|l| self.pin(&l));
            if !pinned {
                for j in 0..i {
                    if let Some(l) = self.leaf(g, gpa + (j << 21)) {
                        self.unpin(&l);
                    }
                }
                return false;
            }
        }
        true
    }

    #[inline(always)]
    fn unpin_page(&self, g: &GSpace, gpa: u64, bits: u32) {
        if bits == 24 {
            self.unpin_large(g, gpa);
        } else if let Some(l) = self.leaf(g, gpa) {
            self.unpin(&l);
        }
    }

    fn unpin_large(&self, g: &GSpace, gpa: u64) {
        for i in 0..8 {
            if let Some(l) = self.leaf(g, gpa + (i << 21)) {
                self.unpin(&l);
            }
        }
    }

    fn gfn_word(&self, t: &Table<'_>, ptex: Ptex) -> u64 {
        t.g.gfns.get() + 4 * ptex.get()
    }

    fn set_gfn(&self, t: &Table<'_>, ptex: Ptex, gpa: u64) {
        self.m
            .write_half(self.gfn_word(t, ptex), (gpa >> 12) as u32);
    }

    fn gpa(&self, t: &Table<'_>, ptex: Ptex) -> u64 {
        u64::from(self.m.read_half(self.gfn_word(t, ptex))) << 12
    }

    /// Fills in an empty entry.
    #[inline(always)]
    pub(crate) fn insert_hpte(
        &self,
        t: &Table<'_>,
        ptex: Ptex,
        v: u64,
        r: u64,
    ) -> Result<(), Refusal> {
        let request = GuestHpte { v, r };
        if !request.has_valid_segment_size() || v & hpte::VALID == 0 {
            return Err(Refusal::BadDw0);
        }
        let size = PageSize::decode(v, r).ok_or(Refusal::BadDw1)?;
        let gpa = size.real_address(r);
        if gpa >> 44 != 0 || size.shift() > 24 {
            return Err(Refusal::BadDw1);
        }
        if self.m.read_hpte(t.entry(ptex), 0) & hpte::VALID != 0 {
            return Err(Refusal::InUse);
        }
        let missing = Refusal::NoPage(size.shift());
        let (leaf, real) = self.backing(t.g, gpa, size.shift()).ok_or(missing)?;
        if !self.pin_page(t.g, gpa, size.shift(), &leaf) {
            return Err(Refusal::TooManyPins);
        }
        self.set_gfn(t, ptex, gpa);
        let entry = GuestHpte {
            v: v & !(hpte::LOCK | hpte::ABSENT),
            r: real_r(r, size, real, &leaf),
        }
        .to_isa30();
        self.m.publish_hpte(t.entry(ptex), entry.v, entry.r);
        Ok(())
    }

    /// Takes V from an entry; returns the operand of its tlbie.
    fn begin_removal(&self, t: &Table<'_>, ptex: Ptex) -> u64 {
        let e = self.read_hpte(t, ptex);
        self.m.invalidate_hpte(t.entry(ptex), e.v & !hpte::VALID);
        operand(ptex, e)
    }

    /// After the tlbie: R and C are final; the page is unpinned.
    #[inline(always)]
    fn end_removal(&self, t: &Table<'_>, ptex: Ptex) -> u64 {
        let e = self.read_hpte(t, ptex);
        self.unpin_page(t.g, self.gpa(t, ptex), page_size(e).shift());
        self.m.write_hpte(t.entry(ptex), 1, 0);
        self.m.write_hpte(t.entry(ptex), 0, 0);
        e.r & (hpte::R | hpte::C)
    }

    fn update_hpte(&self, t: &Table<'_>, ptex: Ptex, old: Isa30Hpte, r: u64) -> u64 {
        let rb = operand(ptex, old);
        self.m.invalidate_hpte(t.entry(ptex), old.v & !hpte::VALID);
        self.m.tlbie_hpte(t.lpid, rb);
        self.m.tlbie_sync();
        let now = self.m.read_hpte(t.entry(ptex), 1);
        let mut new = (now & !PROTECTION) | (r & PROTECTION);
        let writable = self
            .leaf(t.g, self.gpa(t, ptex))
            .is_some_and(|l| l.rights.contains(CapRights::WRITE));
        if !writable {
            new = protection::read_only(new);
        }
        self.m.publish_hpte(t.entry(ptex), old.v, new);
        now & (hpte::R | hpte::C)
    }

    fn clear_rc(&self, t: &Table<'_>, ptex: Ptex, old: Isa30Hpte, mask: u64) -> u64 {
        let rb = operand(ptex, old);
        let at = t.entry(ptex);
        if mask & hpte::C == 0 {
            // R alone: a byte store to the live entry, then the tlbie (S3.4).
            let before = self.m.read_hpte(at, 1);
            if mask & hpte::R != 0 {
                self.m.clear_hpte_r(at);
                self.m.tlbie_hpte(t.lpid, rb);
                self.m.tlbie_sync();
            }
            return before & (hpte::R | hpte::C);
        }
        self.m.invalidate_hpte(at, old.v & !hpte::VALID);
        self.m.tlbie_hpte(t.lpid, rb);
        self.m.tlbie_sync();
        let now = self.m.read_hpte(at, 1);
        self.m.publish_hpte(at, old.v, now & !mask);
        now & (hpte::R | hpte::C)
    }

    /// Empties the table and ends the poisoned state. Preemptible: no vCPU runs until it is done.
    fn clear_table(&self, t: &Table<'_>) -> Outcome {
        let g = t.g;
        if g.cleared.get() == 0 {
            if let Some(r) = self.gspace_of(t.lpid) {
                self.force_out(r);
            }
            self.m.set_partition(t.lpid, 0);
        }
        // Poisoned meanwhile, so that an interrupted Clear leaves nothing half-usable.
        g.poisoned.set(1);
        let end = 1u64 << t.order.get();
        let mut at = g.cleared.get();
        while at < end {
            self.m.clear(t.addr + at, CLEAR_STEP.min(end - at));
            at += CLEAR_STEP;
            g.cleared.set(at);
            if at < end {
                self.preemption_point()?;
            } else {
                self.forget_pins(g);
            }
        }
        self.count_pins_anew(g)?;
        g.cleared.set(0);
        g.poisoned.set(0);
        self.m.set_partition(t.lpid, g.partition.get());
        Ok(())
    }

    /// The last capability to a bound table goes: nothing may walk it any more.
    pub(crate) fn finalise_hpt(&self, addr: u64, lpid: u64) {
        let Some(r) = self.gspace_of(lpid) else {
            return;
        };
        let g = self.at(r);
        if lpid == 0 || g.hpt.get() != addr {
            return;
        }
        self.poison(r);
        self.drop_hpt_views(g);
        g.hpt.set(0);
        g.gfns.set(0);
        g.partition.set(0);
        // A Clear that was interrupted ends with its table.
        g.cleared.set(0);
        self.forget_pins(g);
        // No vCPU enters without a table; what was poisoned was this one.
        g.poisoned.set(0);
    }

    /// The array of frame numbers goes: its table cannot be used without it.
    pub(crate) fn finalise_gfns(&self, addr: u64) {
        for cell in &self.g.gspaces {
            if let Some(r) = Ref::<GSpace>::new(cell.get())
                && self.at(r).gfns.get() == addr
            {
                self.finalise_hpt(self.at(r).hpt.get(), self.at(r).lpid.get());
            }
        }
    }

    /// Shows the real table, read-only, at `vaddr`: in 2 MiB pages, or 4 KiB pages if it is smaller.
    fn map_hpt_view(&self, t: &Table<'_>, root: u64, vaddr: u64) -> Outcome {
        let order = t.order.get();
        let pid = self.pid_of(root);
        let size = 1u64 << order;
        if pid == 0 {
            return Err(SysError::FailedLookup(false, LookupFailure::InvalidRoot).into());
        }
        if order > MAX_VIEW_ORDER {
            return Err(SysError::IllegalOperation.into());
        }
        let shift = if order >= 21 { 21 } else { 12 };
        if vaddr & ((1 << shift) - 1) != 0 {
            return Err(SysError::Alignment.into());
        }
        let top = space::USER_VSPACE_TOP as u64;
        if vaddr > top || size - 1 > top - vaddr {
            return Err(SysError::InvalidArgument(0).into());
        }
        let Some(free) = t.g.hpt_views.iter().find(|v| v.get() == 0) else {
            return Err(SysError::NotEnoughMemory(0).into());
        };
        let mut at = 0;
        while at < size {
            self.empty_entry(root, vaddr + at, shift)?;
            at += 1 << shift;
        }
        at = 0;
        while at < size {
            let entry = self.empty_entry(root, vaddr + at, shift)?;
            self.write_page(entry, t.addr + at, CapRights::READ, false);
            at += 1 << shift;
        }
        free.set(pid << 48 | vaddr);
        Ok(())
    }

    /// Takes the real table out of the address spaces that see it.
    pub(crate) fn drop_hpt_views(&self, g: &GSpace) {
        let order = g.hpt_order.get() as u32;
        let shift = if order >= 21 { 21 } else { 12 };
        for view in &g.hpt_views {
            let place = view.replace(0);
            if place == 0 {
                continue;
            }
            let (pid, vaddr) = (place >> 48, place & ((1 << 48) - 1));
            let mut at = 0;
            while at < 1 << order {
                self.clear_entry(pid, vaddr + at, shift, g.hpt.get() + at);
                at += 1 << shift;
            }
        }
    }
}

/// PP0, key, N and PP: what H_PROTECT changes.
const PROTECTION: u64 = hpte::PP0 | hpte::KEY_HIGH | hpte::KEY_LOW | hpte::N | hpte::PP;

/// dw1 of the real entry: the real address, the rights that the page has, the storage control that its
/// memory has.
#[inline(always)]
fn real_r(r: u64, size: PageSize, real: u64, leaf: &Leaf) -> u64 {
    let low = hpte::RPN & ((1 << size.shift()) - 1);
    let mut new = (r & !(hpte::RPN & !low)) | real;
    new &= !hpte::WIMG;
    new |= if leaf.device {
        hpte::I | hpte::G
    } else {
        hpte::M
    };
    if !leaf.rights.contains(CapRights::WRITE) {
        new = protection::read_only(new);
    }
    new
}

#[inline(always)]
fn operand(ptex: Ptex, e: Isa30Hpte) -> u64 {
    let g = e.to_guest();
    tlbie::rb(ptex, g.v, g.r, page_size(e))
}

/// Page size of a real entry. The kernel wrote it: it decodes.
#[inline(always)]
fn page_size(e: Isa30Hpte) -> PageSize {
    PageSize::decode(e.v, e.r).unwrap_or(PageSize::Size4K)
}
