// SPDX-License-Identifier: BSD-2-Clause
//! CNode invocations.

use crate::cap::Cap;
use crate::error::{LookupFailure, Outcome, SysError};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::syscall::Args;
use partita_abi::{CapRights, InvocationLabel};

impl<M: Machine> Kernel<'_, M> {
    pub(crate) fn invoke_cnode(&self, root: Cap, args: &Args) -> Outcome<usize> {
        use InvocationLabel as L;
        let index = || self.arg(args, 0);
        let depth = || self.arg(args, 1);
        match args.label {
            L::CNodeRevoke => {
                let slot = self.lookup_target(root, index()?, depth()?, false)?;
                self.revoke(slot)?;
            }
            L::CNodeDelete => {
                let slot = self.lookup_target(root, index()?, depth()?, false)?;
                self.delete(slot, true)?;
            }
            L::CNodeCancelBadgedSends => {
                let slot = self.lookup_target(root, index()?, depth()?, false)?;
                match self.at(slot).cap() {
                    Cap::Endpoint { ep, badge, rights }
                        if rights == CapRights::ALL && badge != 0 =>
                    {
                        self.cancel_badged_sends(ep, badge)?;
                    }
                    Cap::Endpoint { rights, .. } if rights == CapRights::ALL => {}
                    _ => return Err(SysError::IllegalOperation.into()),
                }
            }
            L::CNodeCopy | L::CNodeMint | L::CNodeMove | L::CNodeMutate => {
                self.transfer_cap(root, args)?;
            }
            L::CNodeRotate => self.rotate(root, args)?,
            _ => return Err(SysError::IllegalOperation.into()),
        }
        Ok(0)
    }

    fn transfer_cap(&self, root: Cap, args: &Args) -> Outcome {
        use InvocationLabel as L;
        let (dest_index, dest_depth) = (self.arg(args, 0)?, self.arg(args, 1)?);
        let (src_index, src_depth) = (self.arg(args, 2)?, self.arg(args, 3)?);
        let (_, src_root) = self.cap_arg(args, 0)?;
        let dest = self.lookup_target(root, dest_index, dest_depth, false)?;
        self.ensure_empty(dest)?;
        let src = self.lookup_target(src_root, src_index, src_depth, true)?;
        let cap = self.at(src).cap();
        if cap.is_null() {
            let failure = LookupFailure::MissingCapability {
                bits_left: src_depth,
            };
            return Err(SysError::FailedLookup(true, failure).into());
        }
        let moved = matches!(args.label, L::CNodeMove | L::CNodeMutate);
        let new = match args.label {
            L::CNodeCopy => {
                let rights = CapRights::from_word(self.arg(args, 4)?);
                self.derive(src, mask_rights(cap, rights))?
            }
            L::CNodeMint => {
                let rights = CapRights::from_word(self.arg(args, 4)?);
                let badge = self.arg(args, 5)?;
                self.derive(src, update(mask_rights(cap, rights), badge, false))?
            }
            L::CNodeMutate => update(cap, self.arg(args, 4)?, true),
            _ => cap,
        };
        if new.is_null() {
            return Err(SysError::IllegalOperation.into());
        }
        if moved {
            self.move_cap(&new, src, dest);
        } else {
            self.insert(&new, src, dest);
        }
        Ok(())
    }

    fn rotate(&self, root: Cap, args: &Args) -> Outcome {
        let (dest_index, dest_depth) = (self.arg(args, 0)?, self.arg(args, 1)?);
        let dest_badge = self.arg(args, 2)?;
        let (pivot_index, pivot_depth) = (self.arg(args, 3)?, self.arg(args, 4)?);
        let pivot_badge = self.arg(args, 5)?;
        let (src_index, src_depth) = (self.arg(args, 6)?, self.arg(args, 7)?);
        let (_, pivot_root) = self.cap_arg(args, 0)?;
        let (_, src_root) = self.cap_arg(args, 1)?;
        let dest = self.lookup_target(root, dest_index, dest_depth, false)?;
        let src = self.lookup_target(src_root, src_index, src_depth, true)?;
        let pivot = self.lookup_target(pivot_root, pivot_index, pivot_depth, true)?;
        if pivot == src || pivot == dest {
            return Err(SysError::IllegalOperation.into());
        }
        if src != dest {
            self.ensure_empty(dest)?;
        }
        let missing = |source, depth| {
            SysError::FailedLookup(
                source,
                LookupFailure::MissingCapability { bits_left: depth },
            )
        };
        let src_cap = self.at(src).cap();
        if src_cap.is_null() {
            return Err(missing(true, src_depth).into());
        }
        let pivot_cap = self.at(pivot).cap();
        if pivot_cap.is_null() {
            return Err(missing(false, pivot_depth).into());
        }
        // The pivot's capability ends in the destination, the source's in the pivot.
        let new_src = update(src_cap, pivot_badge, true);
        let new_pivot = update(pivot_cap, dest_badge, true);
        if new_src.is_null() || new_pivot.is_null() {
            return Err(SysError::IllegalOperation.into());
        }
        if src == dest {
            self.swap_caps(&new_src, src, &new_pivot, pivot);
        } else {
            self.move_cap(&new_pivot, pivot, dest);
            self.move_cap(&new_src, src, pivot);
        }
        Ok(())
    }
}

/// The capability with no more than `rights`.
pub(crate) fn mask_rights(cap: Cap, rights: CapRights) -> Cap {
    match cap {
        Cap::Endpoint {
            ep,
            badge,
            rights: r,
        } => Cap::Endpoint {
            ep,
            badge,
            rights: r.intersection(rights),
        },
        Cap::Notification {
            ntfn,
            badge,
            rights: r,
        } => Cap::Notification {
            ntfn,
            badge,
            rights: r.intersection(rights),
        },
        Cap::Reply { reply, can_grant } => Cap::Reply {
            reply,
            can_grant: can_grant && rights.contains(CapRights::GRANT),
        },
        Cap::Frame(f) => Cap::Frame(crate::cap::Frame {
            rights: f.rights.intersection(rights),
            ..f
        }),
        Cap::View(v) => Cap::View(crate::cap::View {
            rights: v.rights.intersection(rights),
            ..v
        }),
        Cap::VCpu { vcpu, rights: r } => Cap::VCpu {
            vcpu,
            rights: r.intersection(rights),
        },
        other => other,
    }
}

/// The capability with a badge, or a CNode with another guard (seL4: updateCapData). `Null` where
/// that is not allowed: a badged capability is not badged again.
pub(crate) fn update(cap: Cap, data: u64, preserve: bool) -> Cap {
    match cap {
        Cap::Endpoint { ep, badge, rights } => {
            if !preserve && badge == 0 {
                Cap::Endpoint {
                    ep,
                    badge: data,
                    rights,
                }
            } else {
                Cap::Null
            }
        }
        Cap::Notification {
            ntfn,
            badge,
            rights,
        } => {
            if !preserve && badge == 0 {
                Cap::Notification {
                    ntfn,
                    badge: data,
                    rights,
                }
            } else {
                Cap::Null
            }
        }
        Cap::CNode { addr, radix, .. } => {
            let guard_bits = (data & 0x3f) as u32;
            if guard_bits + radix > 64 {
                return Cap::Null;
            }
            let mask = if guard_bits == 0 {
                0
            } else {
                u64::MAX >> (64 - guard_bits)
            };
            Cap::CNode {
                addr,
                radix,
                guard: (data >> 6) & mask & (u64::MAX >> 6),
                guard_bits,
            }
        }
        other => other,
    }
}
