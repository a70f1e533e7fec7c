// SPDX-License-Identifier: BSD-2-Clause
//! Deleting and revoking capabilities, and the end of objects.
//!
//! The last capability to a CNode or TCB becomes a zombie while the slots inside are emptied, one at a
//! time with preemption points. A zombie found inside another container is not followed: it changes
//! places with the first slot of its own container, where the revocation of its memory finds it.

use crate::cap::{Cap, Zombie};
use crate::error::Outcome;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Ref, Slot, TCB_SLOTS, ThreadState};
use partita_abi::CapRights;

impl<M: Machine> Kernel<'_, M> {
    /// Deletes everything derived from the capability in `slot`.
    pub(crate) fn revoke(&self, slot: Ref<Slot>) -> Outcome {
        while let Some(next) = self.at(slot).next() {
            if self.at(slot).is_empty() || !self.is_parent(slot, next) {
                break;
            }
            self.delete(next, true)?;
            self.preemption_point()?;
        }
        Ok(())
    }

    /// Deletes the capability in `slot`. `exposed`: the slot itself must be empty afterwards; else a
    /// zombie may have changed places with something that has to be deleted next.
    pub(crate) fn delete(&self, slot: Ref<Slot>, exposed: bool) -> Outcome {
        loop {
            let s = self.at(slot);
            let cap = s.cap();
            if cap.is_null() {
                return Ok(());
            }
            let remainder = match cap {
                Cap::Zombie(z) => Some(z),
                _ => self.finalise(slot, cap)?,
            };
            let Some(zombie) = remainder else {
                self.empty_slot(slot);
                return Ok(());
            };
            self.set_cap(slot, &Cap::Zombie(zombie));
            if zombie.remaining == 0 {
                self.empty_slot(slot);
                return Ok(());
            }
            let inside = slot.addr() >= zombie.slots
                && slot.addr() < zombie.slots + 32 * container_slots(&zombie);
            if inside && zombie.remaining == 1 && slot.addr() == zombie.slots {
                // The zombie lies in the first slot of its own container, all others are empty.
                self.empty_slot(slot);
                return Ok(());
            }
            if !exposed {
                if inside {
                    return Ok(());
                }
                let Some(first) = Ref::new(zombie.slots) else {
                    return Ok(());
                };
                let inner = self.at::<Slot>(first).cap();
                self.swap_or_move(&Cap::Zombie(zombie), slot, &inner, first);
                return Ok(());
            }
            self.reduce(slot, zombie)?;
            self.preemption_point()?;
        }
    }

    /// Empties the last slot of a zombie's container.
    fn reduce(&self, slot: Ref<Slot>, zombie: Zombie) -> Outcome {
        let Some(last) = Ref::<Slot>::new(zombie.slots + 32 * (zombie.remaining - 1)) else {
            return Ok(());
        };
        if last != slot {
            self.delete(last, false)?;
        }
        // The zombie may have moved on or away meanwhile.
        if let Cap::Zombie(now) = self.at(slot).cap()
            && now.slots == zombie.slots
            && now.remaining == zombie.remaining
            && (last == slot || self.at(last).is_empty())
        {
            self.set_cap(
                slot,
                &Cap::Zombie(Zombie {
                    remaining: zombie.remaining - 1,
                    ..zombie
                }),
            );
        }
        Ok(())
    }

    fn swap_or_move(&self, zombie: &Cap, slot: Ref<Slot>, inner: &Cap, first: Ref<Slot>) {
        if inner.is_null() {
            self.move_cap(zombie, slot, first);
        } else {
            self.swap_caps(zombie, slot, inner, first);
        }
    }

    /// Ends what the capability stands for. What is left to do for a container comes back as a
    /// zombie. Preemptible: then the capability is still there, without rights, and this is called again.
    fn finalise(&self, slot: Ref<Slot>, cap: Cap) -> Outcome<Option<Zombie>> {
        let last = self.is_final(slot);
        match cap {
            Cap::Frame(f) => {
                if let Some(mapping) = f.mapping {
                    self.unmap_frame(&f, mapping);
                }
            }
            Cap::View(view) => {
                self.unmap_view(&view);
                if last {
                    self.finalise_gspace(view.gspace);
                }
            }
            _ if !last => {}
            Cap::Endpoint { ep, badge, .. } => {
                // Who is woken must not come back by this very capability.
                let rights = CapRights::NONE;
                self.set_cap(slot, &Cap::Endpoint { ep, badge, rights });
                self.cancel_all_ipc(ep)?;
            }
            Cap::Notification { ntfn, badge, .. } => {
                let rights = CapRights::NONE;
                self.set_cap(
                    slot,
                    &Cap::Notification {
                        ntfn,
                        badge,
                        rights,
                    },
                );
                self.finalise_notification(ntfn)?;
            }
            Cap::Reply { reply, .. } => self.finalise_reply(reply),
            Cap::CNode { addr, radix, .. } => {
                return Ok(Some(Zombie {
                    slots: addr,
                    addr,
                    kind: radix,
                    remaining: 1 << radix,
                }));
            }
            Cap::Thread(t) => {
                self.unbind_notification(t);
                self.suspend(t);
                if let Some(own) = self.at(t).own_context.get() {
                    self.set_owner(own, None);
                }
                self.detach_sched_context(t);
                if let Some(v) = Ref::new(self.at(t).vcpu.get()) {
                    self.detach_vcpu(v);
                }
                return Ok(Some(Zombie {
                    slots: self.tcb_slot(t, 0).addr(),
                    addr: t.addr(),
                    kind: Zombie::TCB,
                    remaining: TCB_SLOTS as u64,
                }));
            }
            Cap::SchedContext(sc) => self.finalise_sched_context(sc),
            Cap::Timer(timer) => self.finalise_timer(timer)?,
            Cap::IrqHandler { index } => self.release_irq(index)?,
            Cap::PageTable {
                addr,
                mapping: Some(mapping),
            } => self.unmap_table(addr, mapping),
            Cap::VSpace { addr } => self.release_pid(addr),
            Cap::AsidPool { addr, index } => self.release_pool(addr, index),
            Cap::GSpace(g) => self.finalise_gspace(g),
            Cap::GPageTable {
                addr,
                mapping: Some(mapping),
            } => {
                self.remove_gpage_table(addr, mapping);
            }
            Cap::Hpt { addr, lpid, .. } => self.finalise_hpt(addr, lpid),
            Cap::HptGfns { addr, .. } => self.finalise_gfns(addr),
            Cap::VCpu { vcpu, .. } => self.finalise_vcpu(vcpu)?,
            Cap::Null
            | Cap::Untyped(_)
            | Cap::Zombie(_)
            | Cap::IrqControl
            | Cap::SchedControl { .. }
            | Cap::PlatformControl
            | Cap::PageTable { mapping: None, .. }
            | Cap::GPageTable { mapping: None, .. }
            | Cap::LpidControl
            | Cap::AsidControl => {}
        }
        Ok(None)
    }

    /// Stops a thread (seL4: suspend).
    pub(crate) fn suspend(&self, t: Ref<crate::object::Tcb>) {
        self.cancel_ipc(t, true);
        self.cancel_yield_to(t);
        self.make_unready(t);
        self.set_state(t, ThreadState::Inactive);
        self.at(t).fault_label.set(0);
        if let Some(v) = self.vcpu_of(t) {
            self.end_sleep(v);
        }
        self.give_back_time(t);
    }
}

fn container_slots(zombie: &Zombie) -> u64 {
    if zombie.kind == Zombie::TCB {
        TCB_SLOTS as u64
    } else {
        1 << zombie.kind
    }
}
