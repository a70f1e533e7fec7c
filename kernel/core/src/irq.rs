// SPDX-License-Identifier: BSD-2-Clause
//! Interrupts, timers and the platform.

use crate::cap::Cap;
use crate::error::{Outcome, SysError};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Ref, Slot, Timer};
use crate::queue;
use crate::syscall::Args;
use partita_abi::{CapRights, InvocationLabel};

impl<M: Machine> Kernel<'_, M> {
    fn irq_slot(&self, index: usize) -> Option<&Slot> {
        self.g.irqs.get(index).map(|irq| &irq.notification)
    }

    fn slot_ref(&self, slot: &Slot) -> Option<Ref<Slot>> {
        self.m.address_of(slot)
    }

    pub(crate) fn invoke_irq_control(&self, parent: Ref<Slot>, args: &Args) -> Outcome<usize> {
        let (level, first) = match args.label {
            InvocationLabel::IRQIssueIRQHandler => (true, 1),
            // seL4: trigger 0 is level, 1 edge.
            InvocationLabel::IRQIssueIRQHandlerTrigger => (self.arg(args, 1)? == 0, 2),
            _ => return Err(SysError::IllegalOperation.into()),
        };
        let source = self.arg(args, 0)?;
        let (index, depth) = (self.arg(args, first)?, self.arg(args, first + 1)?);
        let (_, root) = self.cap_arg(args, 0)?;
        let used = self
            .g
            .irqs
            .iter()
            .any(|i| i.used.get() != 0 && i.source.get() == source);
        if used {
            return Err(SysError::RevokeFirst.into());
        }
        let dest = self.lookup_target(root, index, depth, false)?;
        self.ensure_empty(dest)?;
        let Some(n) = self.g.irqs.iter().position(|i| i.used.get() == 0) else {
            return Err(SysError::NotEnoughMemory(0).into());
        };
        if !self
            .m
            .irq_configure(source, self.core.id.get() as usize, level)
        {
            return Err(SysError::InvalidArgument(0).into());
        }

        let irq = &self.g.irqs[n];
        irq.source.set(source);
        irq.used.set(1);
        irq.core.set(self.core.id.get());
        irq.pending_ack.set(0);
        self.insert(&Cap::IrqHandler { index: n }, parent, dest);
        Ok(0)
    }

    pub(crate) fn invoke_irq_handler(&self, index: usize, args: &Args) -> Outcome<usize> {
        let Some(irq) = self.g.irqs.get(index) else {
            return Err(SysError::InvalidCapability(0).into());
        };
        match args.label {
            InvocationLabel::IRQAckIRQ => {
                irq.pending_ack.set(0);
                let here = self.core.id.get();
                if irq.core.get() != here && self.m.irq_route_here(irq.source.get()) {
                    irq.core.set(here);
                }
                self.m.irq_ack(irq.source.get());
            }
            InvocationLabel::IRQSetIRQHandler => {
                let (from, cap) = self.cap_arg(args, 0)?;
                let Cap::Notification { rights, .. } = cap else {
                    return Err(SysError::InvalidCapability(1).into());
                };
                if !rights.contains(CapRights::WRITE) {
                    return Err(SysError::InvalidCapability(1).into());
                }
                self.replace_notification(self.irq_slot(index), from, &cap)?;
                if irq.pending_ack.get() == 0 {
                    self.m.irq_ack(irq.source.get());
                }
            }
            InvocationLabel::IRQClearIRQHandler => {
                if let Some(slot) = self.irq_slot(index).and_then(|s| self.slot_ref(s)) {
                    self.m.irq_mask(irq.source.get());
                    self.delete(slot, true)?;
                }
            }
            _ => return Err(SysError::IllegalOperation.into()),
        }
        Ok(0)
    }

    /// Puts a copy of a notification capability into a slot of the kernel's own.
    fn replace_notification(&self, slot: Option<&Slot>, from: Ref<Slot>, cap: &Cap) -> Outcome {
        if let Some(slot) = slot.and_then(|s| self.slot_ref(s)) {
            self.delete(slot, true)?;
            self.insert(cap, from, slot);
        }
        Ok(())
    }

    /// The last capability to an interrupt handler is gone.
    pub(crate) fn release_irq(&self, index: usize) -> Outcome {
        let Some(irq) = self.g.irqs.get(index) else {
            return Ok(());
        };
        self.m.irq_mask(irq.source.get());
        if let Some(slot) = self.slot_ref(&irq.notification) {
            self.delete(slot, true)?;
        }
        irq.used.set(0);
        Ok(())
    }

    /// A device interrupt arrived on this core; the source stays masked until Ack.
    pub fn external_interrupt(&self, source: u64) {
        let found = self
            .g
            .irqs
            .iter()
            .find(|i| i.used.get() != 0 && i.source.get() == source);
        self.m.irq_mask(source);
        if let Some(irq) = found {
            irq.pending_ack.set(1);
            self.signal_slot(&irq.notification);
        }
    }

    pub(crate) fn invoke_timer(&self, r: Ref<Timer>, args: &Args) -> Outcome<usize> {
        let timer = self.at(r);
        match args.label {
            InvocationLabel::TimerSet => {
                let deadline = self.arg(args, 0)?;
                self.disarm(r);
                self.arm(r, deadline);
            }
            InvocationLabel::TimerCancel => self.disarm(r),
            InvocationLabel::TimerSetNotification => {
                let (from, cap) = self.cap_arg(args, 0)?;
                let Cap::Notification { rights, .. } = cap else {
                    return Err(SysError::InvalidCapability(1).into());
                };
                if !rights.contains(CapRights::WRITE) {
                    return Err(SysError::InvalidCapability(1).into());
                }
                self.replace_notification(Some(&timer.notification), from, &cap)?;
            }
            _ => return Err(SysError::IllegalOperation.into()),
        }
        Ok(0)
    }

    /// Puts a timer that is not armed into this core's queue.
    pub(crate) fn arm(&self, r: Ref<Timer>, deadline: u64) {
        self.at(r).armed.set(self.core.id.get() + 1);
        self.enter_queue(&self.core.timers, r, deadline);
        self.core.deadline.set(0);
    }

    pub(crate) fn disarm(&self, r: Ref<Timer>) {
        if let Some(core) = self.at(r).armed.replace(0).checked_sub(1) {
            self.leave_queue(&self.core_state(core).timers, r);
        }
    }

    /// Signals the timers whose deadlines have passed. What is too many for one interrupt is left to the next, which
    /// comes at once.
    pub(crate) fn expire_timers(&self, now: u64) {
        for _ in 0..queue::AT_ONCE {
            let Some(r) = self.core.timers.first.get() else {
                break;
            };
            let timer = self.at(r);
            if timer.node.time.get() > now {
                break;
            }
            self.disarm(r);
            self.signal_slot(&timer.notification);
        }
    }

    pub(crate) fn finalise_timer(&self, r: Ref<Timer>) -> Outcome {
        self.disarm(r);
        match self.slot_ref(&self.at(r).notification) {
            Some(slot) => self.delete(slot, true),
            None => Ok(()),
        }
    }

    pub(crate) fn invoke_platform(&self, args: &Args) -> Outcome<usize> {
        match args.label {
            InvocationLabel::PlatformPowerOff => self.m.power_off(),
            InvocationLabel::PlatformReboot => self.m.reboot(),
            InvocationLabel::PlatformGetTime => {
                let Some((date, time)) = self.m.read_clock() else {
                    return Err(SysError::IllegalOperation.into());
                };
                self.set_message_register(args.thread, 0, date);
                self.set_message_register(args.thread, 1, time);
                return Ok(2);
            }
            InvocationLabel::PlatformSetTime => {
                let (date, time) = (self.arg(args, 0)?, self.arg(args, 1)?);
                // Firmware may be busy for long.
                let accepted = loop {
                    match self.m.write_clock(date, time) {
                        Some(accepted) => break accepted,
                        None => self.preemption_point()?,
                    }
                };
                if !accepted {
                    return Err(SysError::InvalidArgument(0).into());
                }
            }
            _ => return Err(SysError::IllegalOperation.into()),
        }
        Ok(0)
    }
}
