// SPDX-License-Identifier: BSD-2-Clause
//! Resolving capability pointers.

use crate::cap::{Cap, TYPE_SHIFT, tag};
use crate::error::{Failure, LookupFailure, Outcome, SysError};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Ref, Slot, Tcb, tcb_slot};
use partita_abi::address_space::WORD_BITS;

const WORD: u32 = WORD_BITS as u32;

/// Where a walk ended.
struct Found {
    slot: Ref<Slot>,
    /// Bits of the pointer left over.
    bits: u32,
    /// Index bits of the last CNode.
    radix: u32,
}

impl<M: Machine> Kernel<'_, M> {
    /// Resolves the `depth` low bits of `cptr` from `root`. A slot that is not a CNode ends the walk;
    /// the bits left over are returned.
    fn resolve(&self, root: Cap, cptr: u64, depth: u32) -> Result<Found, LookupFailure> {
        let mut cap = root;
        let mut bits = depth;
        if !matches!(cap, Cap::CNode { .. }) {
            return Err(LookupFailure::InvalidRoot);
        }
        loop {
            let Cap::CNode {
                addr,
                radix,
                guard,
                guard_bits,
            } = cap
            else {
                return Err(LookupFailure::InvalidRoot);
            };
            let level = radix + guard_bits;
            if level == 0 {
                // Such a CNode cannot be made; do not spin on one.
                return Err(LookupFailure::InvalidRoot);
            }
            let found = if guard_bits == 0 {
                0
            } else if guard_bits > bits {
                return Err(LookupFailure::GuardMismatch {
                    bits_left: u64::from(bits),
                    guard,
                    guard_bits: u64::from(guard_bits),
                });
            } else {
                (cptr >> (bits - guard_bits)) & mask(guard_bits)
            };
            if found != guard {
                return Err(LookupFailure::GuardMismatch {
                    bits_left: u64::from(bits),
                    guard,
                    guard_bits: u64::from(guard_bits),
                });
            }
            if level > bits {
                return Err(LookupFailure::DepthMismatch {
                    bits_left: u64::from(bits),
                    bits_found: u64::from(level),
                });
            }
            let index = (cptr >> (bits - level)) & mask(radix);
            let Some(slot) = Ref::new(addr + 32 * index) else {
                return Err(LookupFailure::InvalidRoot);
            };
            bits -= level;
            if bits == 0 {
                return Ok(Found { slot, bits, radix });
            }
            cap = self.at(slot).cap();
            if !matches!(cap, Cap::CNode { .. }) {
                return Ok(Found { slot, bits, radix });
            }
        }
    }

    /// The slot that `cptr` names in a thread's CSpace.
    pub(crate) fn lookup_slot(&self, tcb: Ref<Tcb>, cptr: u64) -> Result<Ref<Slot>, LookupFailure> {
        let t = self.at(tcb);
        if t.cspace_epoch.get() != self.core.cspace_epoch.get() {
            self.refresh_fast_cnode(tcb);
        }
        if let Some(slot) = self.cached_slot(t, cptr) {
            return Ok(slot);
        }
        let root = self.at(self.tcb_slot(tcb, tcb_slot::CSPACE)).cap();
        let Found { slot, bits, radix } = self.resolve(root, cptr, WORD)?;
        if bits < WORD && radix < WORD && !self.needs_slow_path(tcb) {
            t.near_cnode
                .set(slot.addr() - 32 * ((cptr >> bits) & mask(radix)));
            t.near_left.set(bits.into());
            t.near_radix.set(radix.into());
            t.near_prefix.set(cptr >> bits >> radix);
        }
        Ok(slot)
    }

    /// The slot of a pointer into one of the two CNodes that a thread remembers, in their epoch.
    #[inline(always)]
    pub(crate) fn cached_slot(&self, t: &Tcb, cptr: u64) -> Option<Ref<Slot>> {
        if cptr < t.fast_cnode_slots.get() {
            return Ref::new(t.fast_cnode.get() + 32 * cptr);
        }
        let (left, radix) = (t.near_left.get() & 63, t.near_radix.get() & 63);
        let rest = cptr >> left;
        if t.near_cnode.get() == 0 || rest >> radix != t.near_prefix.get() {
            return None;
        }
        let slot = Ref::<Slot>::new(t.near_cnode.get() + 32 * (rest & ((1 << radix) - 1)))?;
        // With bits left over, a CNode there would be walked into.
        let ends = left == 0 || self.at(slot).w0.get() >> TYPE_SHIFT != tag::CNODE;
        ends.then_some(slot)
    }

    /// Finds the CNode that small pointers index (Microkit: slot 0 of the root CNode), for look-ups
    /// by [`crate::object::Tcb::fast_cnode`].
    pub(crate) fn refresh_fast_cnode(&self, tcb: Ref<Tcb>) {
        let t = self.at(tcb);
        t.cspace_epoch.set(self.core.cspace_epoch.get());
        t.fast_cnode.set(0);
        t.fast_cnode_slots.set(0);
        t.near_cnode.set(0);
        if self.needs_slow_path(tcb) {
            return;
        }
        let mut cap = self.at(self.tcb_slot(tcb, tcb_slot::CSPACE)).cap();
        let mut bits = WORD;
        // A pointer below 2^radix walks zero guards and zero indexes down to the last CNode.
        for _ in 0..4 {
            let Cap::CNode {
                addr,
                radix,
                guard,
                guard_bits,
            } = cap
            else {
                return;
            };
            if guard != 0 || radix + guard_bits > bits || radix + guard_bits == 0 {
                return;
            }
            bits -= radix + guard_bits;
            if bits == 0 {
                t.fast_cnode.set(addr);
                t.fast_cnode_slots.set(1 << radix);
                return;
            }
            let Some(first) = Ref::new(addr) else { return };
            cap = self.at::<Slot>(first).cap();
        }
    }

    /// The capability that `cptr` names, for an operation whose failure is a fault.
    pub(crate) fn lookup_cap(&self, tcb: Ref<Tcb>, cptr: u64) -> Outcome<(Ref<Slot>, Cap)> {
        let slot = self
            .lookup_slot(tcb, cptr)
            .map_err(|failure| Failure::Fault { cptr, failure })?;
        Ok((slot, self.at(slot).cap()))
    }

    /// The slot at `index` with `depth` bits under `root`, for CNode operations: every bit must be
    /// resolved. `source` says which side failed.
    pub(crate) fn lookup_target(
        &self,
        root: Cap,
        index: u64,
        depth: u64,
        source: bool,
    ) -> Outcome<Ref<Slot>> {
        let failed = |failure| Failure::Error(SysError::FailedLookup(source, failure));
        if !matches!(root, Cap::CNode { .. }) {
            return Err(failed(LookupFailure::InvalidRoot));
        }
        if !(1..=u64::from(WORD)).contains(&depth) {
            return Err(SysError::Range(1, u64::from(WORD)).into());
        }
        let Found {
            slot, bits: left, ..
        } = self.resolve(root, index, depth as u32).map_err(failed)?;
        if left != 0 {
            return Err(failed(LookupFailure::DepthMismatch {
                bits_left: u64::from(left),
                bits_found: 0,
            }));
        }
        Ok(slot)
    }
}

fn mask(bits: u32) -> u64 {
    if bits >= 64 {
        u64::MAX
    } else {
        (1 << bits) - 1
    }
}
