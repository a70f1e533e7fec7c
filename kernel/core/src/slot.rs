// SPDX-License-Identifier: BSD-2-Clause
//! Slots and the capability derivation tree.
//!
//! The tree is a doubly linked list in depth-first order, as in seL4: a capability's descendants
//! follow it directly, and whether one is the parent of another is read off the capabilities and two
//! flags ([`Kernel::is_parent`]).

use crate::cap::{Cap, Untyped, tag};
use crate::error::{Failure, SysError};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Ref, Slot, TCB_SLOTS, Tcb, tcb_slot};

/// Flags in the low bits of [`Slot::next`].
mod flag {
    /// Descendants may exist.
    pub const REVOCABLE: u64 = 1;
    /// First of its badge: the badge was set here.
    pub const FIRST_BADGED: u64 = 2;
    /// The slot lies in a TCB.
    pub const IN_TCB: u64 = 4;
    pub const MASK: u64 = 31;
}

impl Slot {
    /// Next slot in the list.
    #[inline]
    pub fn next(&self) -> Option<Ref<Slot>> {
        Ref::new(self.next.get() & !flag::MASK)
    }

    fn set_next(&self, next: Option<Ref<Slot>>) {
        let addr = next.map_or(0, Ref::addr);
        self.next.set(addr | (self.next.get() & flag::MASK));
    }

    fn flag(&self, f: u64) -> bool {
        self.next.get() & f != 0
    }

    fn set_flag(&self, f: u64, on: bool) {
        let v = self.next.get();
        self.next.set(if on { v | f } else { v & !f });
    }
}

impl<M: Machine> Kernel<'_, M> {
    /// Writes a capability's words and keeps the CSpace caches honest: whoever changes a CNode
    /// capability starts a new epoch, so that no cached look-up survives.
    pub(crate) fn set_cap(&self, slot: Ref<Slot>, cap: &Cap) {
        let s = self.at(slot);
        let (w0, w1) = cap.pack();
        if s.w0.get() >> crate::cap::TYPE_SHIFT == tag::CNODE {
            self.new_cspace_epoch();
        }
        s.w0.set(w0);
        s.w1.set(w1);
    }

    pub(crate) fn new_cspace_epoch(&self) {
        for core in &self.g.cores {
            core.cspace_epoch.set(core.cspace_epoch.get() + 1);
        }
    }

    /// The TCB that `slot` lies in and its index there.
    fn owner_tcb(&self, slot: Ref<Slot>) -> Option<(Ref<Tcb>, usize)> {
        if !self.at(slot).flag(flag::IN_TCB) {
            return None;
        }
        let tcb_size = 1u64 << partita_abi::ObjectType::Tcb.bits();
        let tcb = slot.addr() & !(tcb_size - 1);
        let first = tcb + core::mem::offset_of!(Tcb, slots) as u64;
        Some((Ref::new(tcb)?, ((slot.addr() - first) / 32) as usize))
    }

    /// Marks the slots of a new TCB.
    pub(crate) fn mark_tcb_slots(&self, tcb: Ref<Tcb>) {
        for slot in &self.at(tcb).slots {
            slot.set_flag(flag::IN_TCB, true);
        }
    }

    /// Slot `index` of a TCB.
    pub(crate) fn tcb_slot(&self, tcb: Ref<Tcb>, index: usize) -> Ref<Slot> {
        debug_assert!(index < TCB_SLOTS);
        let first = tcb.addr() + core::mem::offset_of!(Tcb, slots) as u64;
        match Ref::new(first + 32 * index as u64) {
            Some(slot) => slot,
            None => unreachable!("an address inside a TCB is not zero"),
        }
    }

    /// Puts `cap`, derived from the one in `src`, into the empty slot `dest`.
    pub(crate) fn insert(&self, cap: &Cap, src: Ref<Slot>, dest: Ref<Slot>) {
        let source = self.at(src);
        let source_cap = source.cap();
        let new_revocable = match (cap, &source_cap) {
            (Cap::Endpoint { badge: new, .. }, Cap::Endpoint { badge: old, .. })
            | (Cap::Notification { badge: new, .. }, Cap::Notification { badge: old, .. }) => {
                new != old
            }
            (Cap::IrqHandler { .. }, Cap::IrqControl) => true,
            (Cap::Untyped(_), _) => true,
            _ => false,
        };
        // A copy of an untyped capability: only one of the two may hand out the memory.
        if let (Cap::Untyped(new), Cap::Untyped(old)) = (cap, &source_cap)
            && new.addr == old.addr
            && new.bits == old.bits
        {
            let full = Untyped {
                free: 1 << old.bits,
                zeroed: 0,
                ..*old
            };
            self.set_cap(src, &Cap::Untyped(full));
        }
        self.link_after(cap, src, dest, new_revocable, new_revocable);
    }

    /// Puts `cap`, a new child of the one in `parent`, into the empty slot `dest`.
    pub(crate) fn insert_child(&self, cap: &Cap, parent: Ref<Slot>, dest: Ref<Slot>) {
        self.link_after(cap, parent, dest, true, true);
    }

    fn link_after(&self, cap: &Cap, src: Ref<Slot>, dest: Ref<Slot>, revocable: bool, first: bool) {
        let (s, d) = (self.at(src), self.at(dest));
        self.set_cap(dest, cap);
        let next = s.next();
        d.prev.set(Some(src));
        d.set_next(next);
        d.set_flag(flag::REVOCABLE, revocable);
        d.set_flag(flag::FIRST_BADGED, first);
        if let Some(n) = next {
            self.at(n).prev.set(Some(dest));
        }
        s.set_next(Some(dest));
    }

    /// A capability that has no parent (at boot).
    pub(crate) fn insert_root(&self, cap: &Cap, dest: Ref<Slot>) {
        let d = self.at(dest);
        self.set_cap(dest, cap);
        d.prev.set(None);
        d.set_next(None);
        d.set_flag(flag::REVOCABLE, true);
        d.set_flag(flag::FIRST_BADGED, true);
    }

    /// Moves the capability of `src`, changed to `cap`, into the empty slot `dest`.
    pub(crate) fn move_cap(&self, cap: &Cap, src: Ref<Slot>, dest: Ref<Slot>) {
        let (s, d) = (self.at(src), self.at(dest));
        let (prev, next) = (s.prev.get(), s.next());
        let (revocable, first) = (s.flag(flag::REVOCABLE), s.flag(flag::FIRST_BADGED));
        self.set_cap(dest, cap);
        d.prev.set(prev);
        d.set_next(next);
        d.set_flag(flag::REVOCABLE, revocable);
        d.set_flag(flag::FIRST_BADGED, first);
        self.clear_words(src);
        if let Some(p) = prev {
            self.at(p).set_next(Some(dest));
        }
        if let Some(n) = next {
            self.at(n).prev.set(Some(dest));
        }
    }

    /// Exchanges two slots; `cap_a` (from `a`) ends in `b` and `cap_b` in `a`.
    pub(crate) fn swap_caps(&self, cap_a: &Cap, a: Ref<Slot>, cap_b: &Cap, b: Ref<Slot>) {
        let (sa, sb) = (self.at(a), self.at(b));
        self.set_cap(a, cap_b);
        self.set_cap(b, cap_a);
        let (pa, na) = (sa.prev.get(), sa.next());
        let (ra, fa) = (sa.flag(flag::REVOCABLE), sa.flag(flag::FIRST_BADGED));
        let (pb, nb) = (sb.prev.get(), sb.next());
        let (rb, fb) = (sb.flag(flag::REVOCABLE), sb.flag(flag::FIRST_BADGED));
        // Neighbours that are the other slot itself stay neighbours.
        let swapped = |r: Option<Ref<Slot>>| match r {
            Some(x) if x == a => Some(b),
            Some(x) if x == b => Some(a),
            other => other,
        };
        let set = |slot: Ref<Slot>, prev, next, revocable, first| {
            let s = self.at(slot);
            s.prev.set(prev);
            s.set_next(next);
            s.set_flag(flag::REVOCABLE, revocable);
            s.set_flag(flag::FIRST_BADGED, first);
        };
        set(b, swapped(pa), swapped(na), ra, fa);
        set(a, swapped(pb), swapped(nb), rb, fb);
        for slot in [a, b] {
            let s = self.at(slot);
            if let Some(p) = s.prev.get() {
                self.at(p).set_next(Some(slot));
            }
            if let Some(n) = s.next() {
                self.at(n).prev.set(Some(slot));
            }
        }
    }

    fn clear_words(&self, slot: Ref<Slot>) {
        let s = self.at(slot);
        self.set_cap(slot, &Cap::Null);
        s.prev.set(None);
        s.next.set(s.next.get() & flag::IN_TCB);
    }

    /// Takes the capability out of the tree and the slot; what hung below it hangs below its
    /// predecessor then.
    pub(crate) fn empty_slot(&self, slot: Ref<Slot>) {
        let s = self.at(slot);
        if s.is_empty() {
            return;
        }
        let (prev, next) = (s.prev.get(), s.next());
        if let Some(p) = prev {
            self.at(p).set_next(next);
        }
        if let Some(n) = next {
            let n = self.at(n);
            n.prev.set(prev);
            if s.flag(flag::FIRST_BADGED) {
                n.set_flag(flag::FIRST_BADGED, true);
            }
        }
        self.clear_words(slot);
        self.tcb_slot_emptied(slot);
    }

    /// A TCB keeps what its slots say in decoded form; forget it with the capability.
    fn tcb_slot_emptied(&self, slot: Ref<Slot>) {
        let Some((tcb, index)) = self.owner_tcb(slot) else {
            return;
        };
        let t = self.at(tcb);
        match index {
            tcb_slot::CSPACE => {
                t.fast_cnode.set(0);
                t.fast_cnode_slots.set(0);
                t.near_cnode.set(0);
            }
            tcb_slot::VSPACE => {
                t.pid.set(0);
                self.pull(tcb);
            }
            tcb_slot::BUFFER => t.ipc_buffer.set(0),
            _ => {}
        }
    }

    /// Whether the capability in `a` is an ancestor of the one in `b`, given that `b` follows `a`.
    pub(crate) fn is_parent(&self, a: Ref<Slot>, b: Ref<Slot>) -> bool {
        let (sa, sb) = (self.at(a), self.at(b));
        if !sa.flag(flag::REVOCABLE) {
            return false;
        }
        let (ca, cb) = (sa.cap(), sb.cap());
        if !ca.same_region(&cb) {
            return false;
        }
        match ca.badge() {
            None | Some(0) => true,
            Some(badge) => cb.badge() == Some(badge) && !sb.flag(flag::FIRST_BADGED),
        }
    }

    /// Whether anything was derived from the capability in `slot`.
    pub(crate) fn has_children(&self, slot: Ref<Slot>) -> bool {
        match self.at(slot).next() {
            Some(next) => self.is_parent(slot, next),
            None => false,
        }
    }

    /// Fails with `RevokeFirst` if anything was derived from the capability in `slot`.
    pub(crate) fn ensure_no_children(&self, slot: Ref<Slot>) -> Result<(), Failure> {
        if self.has_children(slot) {
            Err(SysError::RevokeFirst.into())
        } else {
            Ok(())
        }
    }

    /// Fails with `DeleteFirst` if the slot is in use.
    pub(crate) fn ensure_empty(&self, slot: Ref<Slot>) -> Result<(), Failure> {
        if self.at(slot).is_empty() {
            Ok(())
        } else {
            Err(SysError::DeleteFirst.into())
        }
    }

    /// Whether no other capability names the same object. Copies are neighbours in the list.
    pub(crate) fn is_final(&self, slot: Ref<Slot>) -> bool {
        let s = self.at(slot);
        let cap = s.cap();
        let same = |other: Option<Ref<Slot>>| match other {
            Some(o) => self.at(o).cap().shares_life(&cap),
            None => false,
        };
        !same(s.prev.get()) && !same(s.next())
    }

    /// The capability that a copy of `cap` (in `slot`) is: page and untyped capabilities do not copy
    /// as they are.
    pub(crate) fn derive(&self, slot: Ref<Slot>, cap: Cap) -> Result<Cap, Failure> {
        match cap {
            Cap::Untyped(_) => {
                self.ensure_no_children(slot)?;
                Ok(cap)
            }
            Cap::Zombie(_) | Cap::IrqControl => Ok(Cap::Null),
            Cap::Frame(f) => Ok(Cap::Frame(crate::cap::Frame { mapping: None, ..f })),
            Cap::View(v) => Ok(Cap::View(crate::cap::View { mapping: None, ..v })),
            // A second capability would not know where the first one's table is mapped, and outlive it.
            Cap::PageTable { mapping: None, .. } | Cap::GPageTable { mapping: None, .. } => {
                Err(SysError::IllegalOperation.into())
            }
            other => Ok(other),
        }
    }
}
