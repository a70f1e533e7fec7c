// SPDX-License-Identifier: BSD-2-Clause
//! Retype: memory becomes objects.

use crate::cap::{CLEAR_CHUNK, Cap, Frame, Untyped};
use crate::error::{Failure, Outcome, SysError};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Ref, Slot};
use crate::syscall::Args;
use partita_abi::{CapRights, InvocationLabel, ObjectType, limits};

/// log2 of the smallest untyped.
pub const MIN_UNTYPED_BITS: u64 = 6;
/// log2 of the largest untyped.
pub const MAX_UNTYPED_BITS: u64 = 47;

impl<M: Machine> Kernel<'_, M> {
    pub(crate) fn invoke_untyped(
        &self,
        slot: Ref<Slot>,
        untyped: Untyped,
        args: &Args,
    ) -> Outcome<usize> {
        if args.label != InvocationLabel::UntypedRetype {
            return Err(SysError::IllegalOperation.into());
        }
        let kind = self.arg(args, 0)?;
        let size_bits = self.arg(args, 1)?;
        let node_index = self.arg(args, 2)?;
        let node_depth = self.arg(args, 3)?;
        let offset = self.arg(args, 4)?;
        let count = self.arg(args, 5)?;
        let (_, root) = self.cap_arg(args, 0)?;
        let kind = ObjectType::from_number(kind).ok_or(SysError::InvalidArgument(0))?;
        let bits = object_bits(kind, size_bits)?;
        let node = if node_depth == 0 {
            root
        } else {
            let slot = self.lookup_target(root, node_index, node_depth, false)?;
            self.at(slot).cap()
        };
        let Cap::CNode {
            addr: node, radix, ..
        } = node
        else {
            return Err(SysError::FailedLookup(
                false,
                crate::error::LookupFailure::MissingCapability {
                    bits_left: node_depth,
                },
            )
            .into());
        };
        let slots = 1u64 << radix;
        if offset >= slots {
            return Err(SysError::Range(0, slots - 1).into());
        }
        if count == 0 || count > limits::RETYPE_FAN_OUT as u64 {
            return Err(SysError::Range(1, limits::RETYPE_FAN_OUT as u64).into());
        }
        if count > slots - offset {
            return Err(SysError::Range(1, slots - offset).into());
        }
        let dest = |i: u64| Ref::<Slot>::new(node + 32 * (offset + i));
        for i in 0..count {
            if let Some(slot) = dest(i) {
                self.ensure_empty(slot)?;
            }
        }
        if untyped.device && !is_frame(kind) && kind != ObjectType::Untyped {
            return Err(SysError::InvalidArgument(1).into());
        }
        let reset = !self.has_children(slot) && untyped.free != 0;
        let free = if reset { 0 } else { untyped.free };
        let size = 1u64 << bits;
        let total = 1u64 << untyped.bits;
        let start = (untyped.addr + free).next_multiple_of(size) - untyped.addr;
        let fits = count.checked_mul(size).and_then(|n| n.checked_add(start));
        let end = match fits {
            Some(end) if end <= total => end,
            _ => return Err(SysError::NotEnoughMemory(total - free.min(total)).into()),
        };
        // Device memory is not ours to clear; memory that stays untyped is cleared when it is used.
        if !untyped.device && kind != ObjectType::Untyped {
            let zeroed = if reset { 0 } else { untyped.zeroed };
            self.clear_for(slot, untyped, free, start, end, zeroed)?;
        }

        // Nothing fails from here on.
        self.set_cap(
            slot,
            &Cap::Untyped(Untyped {
                free: end,
                zeroed: 0,
                ..untyped
            }),
        );
        for i in 0..count {
            let addr = untyped.addr + start + i * size;
            if let (Some(dest), Some(cap)) = (
                dest(i),
                self.new_object(kind, addr, bits, size_bits, untyped.device),
            ) {
                self.insert_child(&cap, slot, dest);
            }
        }
        Ok(0)
    }

    /// Clears `[start, end)` of an untyped, remembering how far it came when it is preempted.
    fn clear_for(
        &self,
        slot: Ref<Slot>,
        untyped: Untyped,
        free: u64,
        start: u64,
        end: u64,
        zeroed: u64,
    ) -> Outcome {
        // A gap before `start` is given up when the call is interrupted: progress counts from there.
        let mut done = (free + zeroed * CLEAR_CHUNK).max(start);
        while done < end {
            let chunk = (end - done).min(CLEAR_CHUNK);
            self.m.clear(untyped.addr + done, chunk);
            done += chunk;
            if done < end && self.m.preemption_pending() {
                let zeroed = (done - start) / CLEAR_CHUNK;
                self.set_cap(
                    slot,
                    &Cap::Untyped(Untyped {
                        free: start,
                        zeroed,
                        ..untyped
                    }),
                );
                return Err(Failure::Preempted);
            }
        }
        Ok(())
    }

    fn new_object(
        &self,
        kind: ObjectType,
        addr: u64,
        bits: u32,
        size_bits: u64,
        device: bool,
    ) -> Option<Cap> {
        Some(match kind {
            ObjectType::Untyped => Cap::Untyped(Untyped {
                addr,
                bits,
                free: 0,
                zeroed: 0,
                device,
            }),
            ObjectType::Tcb => {
                let tcb = Ref::new(addr)?;
                self.mark_tcb_slots(tcb);
                self.at(tcb).core.set(0);
                self.at(tcb).cspace_epoch.set(u64::MAX);
                Cap::Thread(tcb)
            }
            ObjectType::Endpoint => Cap::Endpoint {
                ep: Ref::new(addr)?,
                badge: 0,
                rights: CapRights::ALL,
            },
            ObjectType::Notification => Cap::Notification {
                ntfn: Ref::new(addr)?,
                badge: 0,
                rights: CapRights::READ.union(CapRights::WRITE),
            },
            ObjectType::CNode => Cap::CNode {
                addr,
                radix: size_bits as u32,
                guard: 0,
                guard_bits: 0,
            },
            ObjectType::Reply => Cap::Reply {
                reply: Ref::new(addr)?,
                can_grant: true,
            },
            ObjectType::SchedContext => Cap::SchedContext(Ref::new(addr)?),
            ObjectType::Frame4K | ObjectType::Frame64K | ObjectType::Frame2M => Cap::Frame(Frame {
                addr,
                bits,
                rights: CapRights::READ.union(CapRights::WRITE),
                device,
                mapping: None,
            }),
            ObjectType::PageTable => Cap::PageTable {
                addr,
                mapping: None,
            },
            ObjectType::VSpace => Cap::VSpace { addr },
            ObjectType::Timer => Cap::Timer(Ref::new(addr)?),
            ObjectType::GPageTable => Cap::GPageTable {
                addr,
                mapping: None,
            },
            ObjectType::GSpace => Cap::GSpace(Ref::new(addr)?),
            ObjectType::Hpt => Cap::Hpt {
                addr,
                order: bits,
                lpid: 0,
            },
            ObjectType::HptGfns => Cap::HptGfns { addr, bits },
            ObjectType::VCpu => Cap::VCpu {
                vcpu: Ref::new(addr)?,
                rights: CapRights::ALL,
            },
        })
    }
}

fn is_frame(kind: ObjectType) -> bool {
    matches!(
        kind,
        ObjectType::Frame4K | ObjectType::Frame64K | ObjectType::Frame2M
    )
}

/// log2 of an object's size in bytes, from the arguments of Retype.
fn object_bits(kind: ObjectType, size_bits: u64) -> Result<u32, Failure> {
    match kind {
        ObjectType::Untyped => {
            if size_bits < MIN_UNTYPED_BITS {
                return Err(SysError::InvalidArgument(1).into());
            }
            if size_bits > MAX_UNTYPED_BITS {
                return Err(SysError::Range(MIN_UNTYPED_BITS, MAX_UNTYPED_BITS).into());
            }
            Ok(size_bits as u32)
        }
        ObjectType::CNode => {
            let most = MAX_UNTYPED_BITS - u64::from(kind.bits());
            if size_bits == 0 {
                return Err(SysError::InvalidArgument(1).into());
            }
            if size_bits > most {
                return Err(SysError::Range(1, most).into());
            }
            Ok(size_bits as u32 + kind.bits())
        }
        // A table of 2^18 to 2^36 bytes, or four bytes for each of its entries.
        ObjectType::Hpt | ObjectType::HptGfns => {
            let (least, most) = if kind == ObjectType::Hpt {
                (18, 36)
            } else {
                (16, 34)
            };
            if !(least..=most).contains(&size_bits) {
                return Err(SysError::Range(least, most).into());
            }
            Ok(size_bits as u32)
        }
        _ => Ok(kind.bits()),
    }
}
