// SPDX-License-Identifier: BSD-2-Clause
//! TCB invocations.

use crate::cap::Cap;
use crate::cnode::update;
use crate::error::{Outcome, SysError};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Context, Ref, SchedContext, Slot, Tcb, ThreadState, tcb_slot};
use crate::syscall::Args;
use core::cell::Cell;
use partita_abi::{CapRights, InvocationLabel, address_space as space, user_context};

impl<M: Machine> Kernel<'_, M> {
    /// `own` is the slot of the capability to the thread that is invoked.
    pub(crate) fn invoke_tcb(&self, own: Ref<Slot>, t: Ref<Tcb>, args: &Args) -> Outcome<usize> {
        use InvocationLabel as L;
        match args.label {
            L::TCBReadRegisters => return self.read_registers(t, args),
            L::TCBWriteRegisters => self.write_registers(t, args)?,
            L::TCBCopyRegisters => self.copy_registers(t, args)?,
            L::TCBConfigure => self.configure(own, t, args)?,
            L::TCBSetPriority => {
                let priority = self.arg(args, 0)?;
                self.check_priority(priority, self.authority(args, 0)?)?;
                self.set_priority(t, priority);
            }
            L::TCBSetMCPriority => {
                let mcp = self.arg(args, 0)?;
                self.check_priority(mcp, self.authority(args, 0)?)?;
                self.at(t).mcp.set(mcp);
            }
            L::TCBSetSchedParams => self.set_sched_params(own, t, args)?,
            L::TCBSetTimeoutEndpoint => {
                let (from, cap) = self.cap_arg(args, 0)?;
                self.check_fault_handler(&cap, 1)?;
                self.replace_tcb_cap(own, t, tcb_slot::TIMEOUT, from, &cap)?;
            }
            L::TCBSetIPCBuffer => {
                let vaddr = self.arg(args, 0)?;
                let (from, cap) = self.cap_arg(args, 0)?;
                let cap = self.check_buffer(from, cap, vaddr)?;
                self.install_buffer(own, t, from, &cap, vaddr)?;
            }
            L::TCBSetSpace => {
                let (fault_slot, fault_cap) = self.cap_arg(args, 0)?;
                let space = self.check_space(args, 1)?;
                self.check_fault_handler(&fault_cap, 1)?;
                self.replace_tcb_cap(own, t, tcb_slot::FAULT, fault_slot, &fault_cap)?;
                self.install_space(own, t, &space)?;
            }
            L::TCBSuspend => self.suspend(t),
            L::TCBResume => self.resume(t),
            L::TCBBindNotification => {
                let (_, cap) = self.cap_arg(args, 0)?;
                if !self.at(t).bound_notification.is_none() {
                    return Err(SysError::IllegalOperation.into());
                }
                let Cap::Notification { ntfn, rights, .. } = cap else {
                    return Err(SysError::IllegalOperation.into());
                };
                let n = self.at(ntfn);
                if !rights.contains(CapRights::READ) || !n.bound_tcb.is_none() || !n.head.is_none()
                {
                    return Err(SysError::IllegalOperation.into());
                }
                self.bind_notification(t, ntfn);
            }
            L::TCBUnbindNotification => {
                if self.at(t).bound_notification.is_none() {
                    return Err(SysError::IllegalOperation.into());
                }
                self.unbind_notification(t);
            }
            L::TCBSetTLSBase => {
                let base = self.arg(args, 0)?;
                self.pull(t);
                self.at(t).context.gpr[13].set(base);
            }
            L::TCBSetFlags => {
                let (clear, set) = (self.arg(args, 0)?, self.arg(args, 1)?);
                let flags = &self.at(t).flags;
                // Bit 0, fpuDisabled, cannot be cleared: no PD has floating point.
                flags.set((flags.get() & !clear | set) | 1);
                self.set_message_register(args.thread, 0, flags.get());
                return Ok(1);
            }
            _ => return Err(SysError::IllegalOperation.into()),
        }
        Ok(0)
    }

    /// The thread whose maximum controlled priority bounds what is given.
    fn authority(&self, args: &Args, i: usize) -> Outcome<Ref<Tcb>> {
        match self.cap_arg(args, i)?.1 {
            Cap::Thread(t) => Ok(t),
            _ => Err(SysError::InvalidCapability(i as u64 + 1).into()),
        }
    }

    fn check_priority(&self, priority: u64, authority: Ref<Tcb>) -> Outcome {
        let mcp = self.at(authority).mcp.get();
        if priority > mcp {
            return Err(SysError::Range(space::MIN_PRIORITY as u64, mcp).into());
        }
        Ok(())
    }

    /// A fault handler is an endpoint that the kernel may send through and be answered, or none.
    fn check_fault_handler(&self, cap: &Cap, number: u64) -> Outcome {
        match cap {
            Cap::Null => Ok(()),
            Cap::Endpoint { rights, .. }
                if rights.contains(CapRights::WRITE)
                    && (rights.contains(CapRights::GRANT)
                        || rights.contains(CapRights::GRANT_REPLY)) =>
            {
                Ok(())
            }
            _ => Err(SysError::InvalidCapability(number).into()),
        }
    }

    fn check_buffer(&self, slot: Ref<Slot>, cap: Cap, vaddr: u64) -> Outcome<Cap> {
        if vaddr == 0 {
            return Ok(Cap::Null);
        }
        let Cap::Frame(f) = cap else {
            return Err(SysError::IllegalOperation.into());
        };
        if f.device || !f.rights.contains(CapRights::READ.union(CapRights::WRITE)) {
            return Err(SysError::IllegalOperation.into());
        }
        if !vaddr.is_multiple_of(space::IPC_BUFFER_BYTES as u64) {
            return Err(SysError::Alignment.into());
        }
        self.derive(slot, cap)
    }

    /// The two roots of a TCB's spaces, checked: (slot, capability) of each.
    fn check_space(&self, args: &Args, first: usize) -> Outcome<[(Ref<Slot>, Cap); 2]> {
        let cspace_data = self.arg(args, 0)?;
        // A VSpace root has no data; the argument is part of the message all the same.
        let _vspace_data = self.arg(args, 1)?;
        let (cspace_slot, cspace) = self.cap_arg(args, first)?;
        let (vspace_slot, vspace) = self.cap_arg(args, first + 1)?;
        let cspace = if cspace_data == 0 {
            cspace
        } else {
            update(cspace, cspace_data, false)
        };
        if !matches!(cspace, Cap::CNode { .. }) {
            return Err(SysError::IllegalOperation.into());
        }
        let Cap::VSpace { addr } = vspace else {
            return Err(SysError::IllegalOperation.into());
        };
        if self.pid_of(addr) == 0 {
            return Err(SysError::IllegalOperation.into());
        }
        Ok([
            (cspace_slot, self.derive(cspace_slot, cspace)?),
            (vspace_slot, vspace),
        ])
    }

    fn install_space(&self, own: Ref<Slot>, t: Ref<Tcb>, space: &[(Ref<Slot>, Cap); 2]) -> Outcome {
        self.replace_tcb_cap(own, t, tcb_slot::CSPACE, space[0].0, &space[0].1)?;
        self.at(t).cspace_epoch.set(u64::MAX);
        self.replace_tcb_cap(own, t, tcb_slot::VSPACE, space[1].0, &space[1].1)?;
        // The capability may have gone with the old CSpace; so does the PID then.
        if let Cap::VSpace { addr } = self.at(self.tcb_slot(t, tcb_slot::VSPACE)).cap() {
            self.pull(t);
            self.at(t).pid.set(self.pid_of(addr));
        }
        Ok(())
    }

    fn install_buffer(
        &self,
        own: Ref<Slot>,
        t: Ref<Tcb>,
        from: Ref<Slot>,
        cap: &Cap,
        vaddr: u64,
    ) -> Outcome {
        self.replace_tcb_cap(own, t, tcb_slot::BUFFER, from, cap)?;
        let tcb = self.at(t);
        tcb.ipc_buffer_vaddr.set(vaddr);
        // The capability may have gone with the old CSpace; so does the frame then.
        tcb.ipc_buffer.set(match tcb.slots[tcb_slot::BUFFER].cap() {
            Cap::Frame(f) => f.addr + (vaddr & ((1 << f.bits) - 1)),
            _ => 0,
        });
        Ok(())
    }

    /// Puts a copy of a capability into a slot of a TCB, in place of what is there.
    fn replace_tcb_cap(
        &self,
        own: Ref<Slot>,
        t: Ref<Tcb>,
        index: usize,
        from: Ref<Slot>,
        cap: &Cap,
    ) -> Outcome {
        let slot = self.tcb_slot(t, index);
        self.delete(slot, true)?;
        // Deleting may have taken the source with it, or the thread itself (as in seL4).
        if !cap.is_null()
            && self.at(from).cap().same_object(cap)
            && self.at(own).cap() == Cap::Thread(t)
        {
            self.insert(cap, from, slot);
        }
        Ok(())
    }

    fn configure(&self, own: Ref<Slot>, t: Ref<Tcb>, args: &Args) -> Outcome {
        let vaddr = self.arg(args, 2)?;
        let space = self.check_space(args, 0)?;
        let (buffer_slot, buffer) = self.cap_arg(args, 2)?;
        let buffer = self.check_buffer(buffer_slot, buffer, vaddr)?;
        self.install_space(own, t, &space)?;
        self.install_buffer(own, t, buffer_slot, &buffer, vaddr)
    }

    fn set_sched_params(&self, own: Ref<Slot>, t: Ref<Tcb>, args: &Args) -> Outcome {
        let (mcp, priority) = (self.arg(args, 0)?, self.arg(args, 1)?);
        let authority = self.authority(args, 0)?;
        let (_, sc_cap) = self.cap_arg(args, 1)?;
        let (fault_slot, fault_cap) = self.cap_arg(args, 2)?;
        self.check_priority(mcp, authority)?;
        self.check_priority(priority, authority)?;
        let tcb = self.at(t);
        let sc = match sc_cap {
            Cap::SchedContext(sc) => {
                if !tcb.sched_context.is_none() && !tcb.sched_context.is(sc) {
                    return Err(SysError::IllegalOperation.into());
                }
                let s = self.at(sc);
                if s.tcb.get().is_some_and(|other| other != t)
                    || !s.notification.is_none() && !s.tcb.is(t)
                {
                    return Err(SysError::IllegalOperation.into());
                }
                Some(sc)
            }
            Cap::Null => {
                if self.core.current.is(t) {
                    return Err(SysError::IllegalOperation.into());
                }
                None
            }
            _ => return Err(SysError::InvalidCapability(2).into()),
        };
        self.check_fault_handler(&fault_cap, 3)?;
        self.replace_tcb_cap(own, t, tcb_slot::FAULT, fault_slot, &fault_cap)?;
        tcb.mcp.set(mcp);
        self.set_priority(t, priority);
        match sc {
            Some(sc) if !tcb.sched_context.is(sc) => self.attach_sched_context(sc, t),
            None => {
                if let Some(own) = tcb.own_context.get() {
                    self.set_owner(own, None);
                }
                self.detach_sched_context(t);
                self.make_ready(t);
            }
            _ => {}
        }
        Ok(())
    }

    /// A thread gets a scheduling context of its own.
    pub(crate) fn attach_sched_context(&self, sc: Ref<SchedContext>, t: Ref<Tcb>) {
        self.end_loan(sc);
        self.set_owner(sc, Some(t));
        self.donate(sc, t);
        if self.runnable(t) {
            self.make_ready(t);
        }
    }

    /// A thread loses the scheduling context that it has.
    pub(crate) fn detach_sched_context(&self, t: Ref<Tcb>) {
        let tcb = self.at(t);
        if let Some(sc) = tcb.sched_context.get() {
            self.make_unready(t);
            tcb.sched_context.set(None);
            self.at(sc).tcb.set(None);
            self.look_again(t);
        }
    }

    /// Starts or restarts a thread (seL4: restart).
    pub(crate) fn resume(&self, t: Ref<Tcb>) {
        match self.state(t) {
            ThreadState::Running | ThreadState::Restart => {}
            _ => {
                self.cancel_ipc(t, true);
                self.at(t).fault_label.set(0);
                if let Some(v) = self.vcpu_of(t) {
                    self.restart_vcpu(v);
                }
                self.set_state(t, ThreadState::Restart);
                self.make_ready(t);
            }
        }
    }

    fn read_registers(&self, t: Ref<Tcb>, args: &Args) -> Outcome<usize> {
        let suspend = self.arg(args, 0)?;
        let count = self.arg(args, 1)?;
        if count < 1 || count > user_context::COUNT as u64 {
            return Err(SysError::Range(1, user_context::COUNT as u64).into());
        }
        if self.core.current.is(t) {
            return Err(SysError::IllegalOperation.into());
        }
        if suspend & 1 != 0 {
            self.suspend(t);
        }
        self.pull(t);
        let context = &self.at(t).context;
        let mut length = 0;
        for i in 0..count as usize {
            let Some(cell) = register(context, i) else {
                break;
            };
            if !self.set_message_register(args.thread, i, cell.get()) {
                break;
            }
            length = i + 1;
        }
        Ok(length)
    }

    fn write_registers(&self, t: Ref<Tcb>, args: &Args) -> Outcome {
        let resume = self.arg(args, 0)?;
        let count = self.arg(args, 1)?;
        if self.core.current.is(t) {
            return Err(SysError::IllegalOperation.into());
        }
        if count > args.length.saturating_sub(2) as u64 {
            return Err(SysError::Truncated.into());
        }
        let count = count.min(user_context::COUNT as u64) as usize;
        self.pull(t);
        if matches!(
            self.state(t),
            ThreadState::BlockedOnReceive
                | ThreadState::BlockedOnSend
                | ThreadState::BlockedOnReply
                | ThreadState::BlockedOnNotification
        ) {
            // The system call that it waits in is given up: the new registers count.
            self.cancel_ipc(t, true);
        }
        let context = &self.at(t).context;
        for i in 0..count {
            // The machine state is the kernel's alone.
            if i != user_context::MSR
                && let Some(cell) = register(context, i)
            {
                cell.set(self.arg(args, 2 + i)?);
            }
        }
        if resume & 1 != 0 {
            self.resume(t);
        } else if self.state(t) == ThreadState::Inactive {
            self.give_back_time(t);
        }
        Ok(())
    }

    fn copy_registers(&self, t: Ref<Tcb>, args: &Args) -> Outcome {
        let flags = self.arg(args, 0)?;
        let Cap::Thread(source) = self.cap_arg(args, 0)?.1 else {
            return Err(SysError::InvalidCapability(1).into());
        };
        if flags & 1 != 0 {
            self.suspend(source);
        }
        self.pull(source);
        self.pull(t);
        let (from, to) = (&self.at(source).context, &self.at(t).context);
        let frame = [user_context::PC, user_context::R1, user_context::CR];
        for i in 0..user_context::COUNT {
            let wanted = if frame.contains(&i) {
                flags & 4 != 0
            } else {
                flags & 8 != 0
            };
            if i != user_context::MSR
                && wanted
                && let (Some(a), Some(b)) = (register(from, i), register(to, i))
            {
                b.set(a.get());
            }
        }
        if flags & 2 != 0 {
            self.resume(t);
        }
        Ok(())
    }
}

/// Register `i` of `user_context`.
fn register(c: &Context, i: usize) -> Option<&Cell<u64>> {
    use user_context as u;
    Some(match i {
        u::PC => &c.pc,
        u::R1 => &c.gpr[1],
        u::MSR => &c.msr,
        u::CR => &c.cr,
        u::LR => &c.lr,
        u::CTR => &c.ctr,
        u::XER => &c.xer,
        u::R0 => &c.gpr[0],
        u::R2..=u::R31 => &c.gpr[i - u::R2 + 2],
        _ => return None,
    })
}
