// SPDX-License-Identifier: BSD-2-Clause
//! System calls: from the registers of the running thread to an operation.

use crate::cap::Cap;
use crate::error::{Failure, LookupFailure, Outcome, SysError};
use crate::ipc::{Send, reg};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Ref, Slot, Tcb, send_flags};
use partita_abi::{
    CapRights, FaultLabel, InvocationLabel, IpcBufferLayout, MessageInfo, address_space as space,
    syscall,
};

/// The arguments of an invocation.
pub(crate) struct Args {
    pub label: InvocationLabel,
    pub thread: Ref<Tcb>,
    pub length: usize,
    pub caps: [Option<Ref<Slot>>; space::MAX_EXTRA_CAPS],
}

/// What the sending half of a system call does.
#[derive(Clone, Copy)]
struct How {
    /// The sender waits for an answer.
    call: bool,
    /// The sender waits for a receiver, and faults if its pointer leads nowhere.
    blocking: bool,
    /// A receiver without a scheduling context gets the sender's.
    donate: bool,
}

impl How {
    const CALL: How = How {
        call: true,
        blocking: true,
        donate: true,
    };
    const SEND: How = How {
        call: false,
        blocking: true,
        donate: false,
    };
    const NB_SEND: How = How {
        call: false,
        blocking: false,
        donate: false,
    };
    /// The sender waits right after: its time can go with the message.
    const NB_SEND_RECV: How = How {
        call: false,
        blocking: false,
        donate: true,
    };
}

impl<'k, M: Machine> Kernel<'k, M> {
    /// Handles the system call that the running thread's registers describe.
    pub fn syscall(&self) {
        let Some(t) = self.current() else { return };
        let gpr = &self.at(t).context.gpr;
        let number = gpr[reg::NUMBER].get() as i64 as isize;
        let cptr = gpr[reg::CAP].get();
        match number {
            syscall::CALL => {
                self.invoke(t, cptr, How::CALL);
            }
            syscall::SEND => {
                self.invoke(t, cptr, How::SEND);
            }
            syscall::NB_SEND => {
                self.invoke(t, cptr, How::NB_SEND);
            }
            syscall::RECV => self.receive(t, cptr, true, true),
            syscall::NB_RECV => self.receive(t, cptr, false, true),
            syscall::WAIT => self.receive(t, cptr, true, false),
            syscall::NB_WAIT => self.receive(t, cptr, false, false),
            syscall::REPLY_RECV => {
                match self.lookup_cap(t, gpr[reg::REPLY].get()) {
                    Ok((_, Cap::Reply { reply, can_grant })) => {
                        let grant = can_grant && self.at(reply).can_grant.get() != 0;
                        self.reply_transfer(t, reply, grant);
                    }
                    Ok(_) => {}
                    Err(Failure::Fault { cptr, failure }) => {
                        self.cap_fault(t, cptr, true, failure);
                        return;
                    }
                    Err(_) => {}
                }
                self.receive(t, cptr, true, true);
            }
            syscall::NB_SEND_RECV | syscall::NB_SEND_WAIT => {
                // A thread that was just started or resumed is in state Restart.
                if self.invoke(t, gpr[reg::DEST].get(), How::NB_SEND_RECV) && self.runnable(t) {
                    self.receive(t, cptr, true, number == syscall::NB_SEND_RECV);
                }
            }
            syscall::YIELD => self.yield_now(),
            _ => {
                self.rewind(t);
                self.fault_of(t, FaultLabel::UnknownSyscall, &[]);
            }
        }
    }

    /// Receives on the endpoint or notification that `cptr` names.
    pub(crate) fn receive(&self, t: Ref<Tcb>, cptr: u64, blocking: bool, with_reply: bool) {
        let missing = LookupFailure::MissingCapability { bits_left: 0 };
        let cap = match self.lookup_cap(t, cptr) {
            Ok((_, cap)) => cap,
            Err(Failure::Fault { cptr, failure }) => {
                return self.cap_fault(t, cptr, true, failure);
            }
            Err(_) => return,
        };
        match cap {
            Cap::Endpoint { ep, rights, .. } if rights.contains(CapRights::READ) => {
                let mut reply = None;
                if with_reply {
                    let reply_cptr = self.at(t).context.gpr[reg::REPLY].get();
                    match self.lookup_cap(t, reply_cptr) {
                        Ok((_, Cap::Reply { reply: r, .. })) => reply = Some(r),
                        Ok((_, Cap::Null)) => {}
                        Ok(_) => return self.cap_fault(t, reply_cptr, true, missing),
                        Err(Failure::Fault { cptr, failure }) => {
                            return self.cap_fault(t, cptr, true, failure);
                        }
                        Err(_) => return,
                    }
                }
                self.receive_ipc(t, ep, rights.contains(CapRights::GRANT), reply, blocking);
            }
            Cap::Notification { ntfn, rights, .. }
                if rights.contains(CapRights::READ)
                    && self.at(ntfn).bound_tcb.get().is_none_or(|b| b == t) =>
            {
                self.wait(t, ntfn, blocking);
            }
            _ => self.cap_fault(t, cptr, true, missing),
        }
    }

    /// Sends to, or invokes, what `cptr` names; whether the thread may go on to receive.
    fn invoke(&self, t: Ref<Tcb>, cptr: u64, how: How) -> bool {
        match self.decode(t, cptr, how) {
            Ok(result) => {
                if let Some(length) = result
                    && how.call
                {
                    self.answer(t, 0, length);
                }
                true
            }
            Err(failure) => self.fail(t, &failure, how),
        }
    }

    /// A Call that invokes the object in `slot`, which is none of IPC.
    pub(crate) fn invoke_local(&self, t: Ref<Tcb>, slot: Ref<Slot>) {
        match self.arguments(t) {
            Ok(args) => match self.invocation(slot, self.at(slot).cap(), &args) {
                Ok(length) => self.answer(t, 0, length),
                Err(failure) => {
                    self.fail(t, &failure, How::CALL);
                }
            },
            Err(failure) => {
                self.fail(t, &failure, How::CALL);
            }
        }
    }

    /// What a failed system call tells its caller; whether that may go on to receive.
    #[cold]
    #[inline(never)]
    fn fail(&self, t: Ref<Tcb>, failure: &Failure, how: How) -> bool {
        match *failure {
            Failure::Error(error) => {
                if how.call {
                    self.answer_error(t, error);
                }
                true
            }
            Failure::Fault { cptr, failure } => {
                if how.blocking {
                    self.cap_fault(t, cptr, false, failure);
                }
                !how.blocking
            }
            Failure::Preempted => {
                // Repeated from the start; progress is kept in the objects.
                self.rewind(t);
                self.choose_again();
                false
            }
        }
    }

    /// The answer to a Call that failed.
    pub(crate) fn answer_error(&self, t: Ref<Tcb>, error: SysError) {
        let (words, length) = error.words();
        for (i, w) in words.iter().enumerate().take(length) {
            self.set_message_register(t, i, *w);
        }
        self.answer(t, error.code() as u64, length);
    }

    /// The kernel's answer to a Call on one of its objects, if the caller still waits for it. What is beyond its
    /// length is the caller's own.
    pub(crate) fn answer(&self, t: Ref<Tcb>, label: u64, length: usize) {
        if self.runnable(t) {
            let gpr = &self.at(t).context.gpr;
            gpr[reg::NUMBER].set(0);
            gpr[reg::CAP].set(0);
            gpr[reg::INFO].set(MessageInfo::new(label, 0, 0, length as u64).0);
        }
    }

    /// What `cptr` names decides: `Ok(None)` for IPC, `Ok(Some(n))` for an invocation whose answer has
    /// `n` words.
    fn decode(&self, t: Ref<Tcb>, cptr: u64, how: How) -> Outcome<Option<usize>> {
        let (slot, cap) = self.lookup_cap(t, cptr)?;
        match cap {
            Cap::Endpoint { ep, badge, rights } => {
                if !rights.contains(CapRights::WRITE) {
                    return Err(SysError::InvalidCapability(0).into());
                }
                if MessageInfo(self.at(t).context.gpr[reg::INFO].get()).extra_caps() != 0 {
                    // A pointer that leads nowhere is a fault of the sender, before anything else.
                    self.arguments(t)?;
                }
                let mut flags = 0;
                if how.call {
                    flags |= send_flags::CALL;
                }
                if rights.contains(CapRights::GRANT) {
                    flags |= send_flags::GRANT | send_flags::GRANT_REPLY;
                }
                if rights.contains(CapRights::GRANT_REPLY) {
                    flags |= send_flags::GRANT_REPLY;
                }
                self.send_ipc(
                    t,
                    ep,
                    Send {
                        badge,
                        flags,
                        blocking: how.blocking,
                        donate: how.donate,
                    },
                );
                Ok(None)
            }
            Cap::Notification {
                ntfn,
                badge,
                rights,
            } => {
                if !rights.contains(CapRights::WRITE) {
                    return Err(SysError::InvalidCapability(0).into());
                }
                self.signal(ntfn, badge);
                Ok(Some(0))
            }
            Cap::Reply { reply, can_grant } => {
                let grant = can_grant && self.at(reply).can_grant.get() != 0;
                self.reply_transfer(t, reply, grant);
                Ok(Some(0))
            }
            Cap::Null | Cap::Zombie(_) => Err(SysError::InvalidCapability(0).into()),
            _ => {
                let args = self.arguments(t)?;
                self.invocation(slot, cap, &args).map(Some)
            }
        }
    }

    fn arguments(&self, t: Ref<Tcb>) -> Outcome<Args> {
        let tcb = self.at(t);
        let info = MessageInfo(tcb.context.gpr[reg::INFO].get());
        let mut length = (info.length() as usize).min(space::MAX_MESSAGE_REGISTERS);
        let mut caps = [None; space::MAX_EXTRA_CAPS];
        if tcb.ipc_buffer.get() == 0 {
            length = length.min(space::FAST_MESSAGE_REGISTERS);
        } else {
            for (i, cap) in caps.iter_mut().enumerate().take(info.extra_caps() as usize) {
                let word = IpcBufferLayout::CAPS_OR_BADGES + i;
                let cptr = self.m.read_word(tcb.ipc_buffer.get() + 8 * word as u64);
                *cap = Some(self.lookup_cap(t, cptr)?.0);
            }
        }
        let label = InvocationLabel::from_number(info.label())
            .unwrap_or(InvocationLabel::InvalidInvocation);
        Ok(Args {
            label,
            thread: t,
            length,
            caps,
        })
    }

    /// Argument word `i`.
    pub(crate) fn arg(&self, args: &Args, i: usize) -> Outcome<u64> {
        if i < args.length
            && let Some(word) = self.message_register(args.thread, i)
        {
            Ok(word)
        } else {
            Err(SysError::Truncated.into())
        }
    }

    /// Extra capability `i`.
    pub(crate) fn cap_arg(&self, args: &Args, i: usize) -> Outcome<(Ref<Slot>, Cap)> {
        match args.caps.get(i) {
            Some(Some(slot)) => Ok((*slot, self.at(*slot).cap())),
            _ => Err(SysError::Truncated.into()),
        }
    }

    fn invocation(&self, slot: Ref<Slot>, cap: Cap, args: &Args) -> Outcome<usize> {
        match cap {
            Cap::Untyped(u) => self.invoke_untyped(slot, u, args),
            Cap::CNode { .. } => self.invoke_cnode(cap, args),
            Cap::Thread(t) => self.invoke_tcb(slot, t, args),
            Cap::SchedControl { core } => self.invoke_sched_control(core, args),
            Cap::SchedContext(sc) => self.invoke_sched_context(sc, args),
            Cap::IrqControl => self.invoke_irq_control(slot, args),
            Cap::IrqHandler { index } => self.invoke_irq_handler(index, args),
            Cap::Frame(f) => self.invoke_frame(slot, f, args),
            Cap::PageTable { addr, mapping } => self.invoke_page_table(slot, addr, mapping, args),
            Cap::AsidControl => self.invoke_asid_control(args),
            Cap::AsidPool { addr, index } => self.invoke_asid_pool(addr, index, args),
            Cap::Timer(timer) => self.invoke_timer(timer, args),
            Cap::PlatformControl => self.invoke_platform(args),
            Cap::LpidControl => self.invoke_lpid_control(args),
            Cap::GSpace(g) => self.invoke_gspace(slot, g, args),
            Cap::GPageTable { addr, mapping } => self.invoke_gpage_table(slot, addr, mapping, args),
            Cap::View(view) => self.invoke_view(slot, view, args),
            Cap::Hpt { addr, order, lpid } => self.invoke_hpt(slot, addr, order, lpid, args),
            Cap::HptGfns { .. } => Err(SysError::IllegalOperation.into()),
            Cap::VCpu { vcpu, rights } => self.invoke_vcpu(vcpu, rights, args),
            Cap::VSpace { .. } => Err(SysError::IllegalOperation.into()),
            Cap::Null
            | Cap::Zombie(_)
            | Cap::Endpoint { .. }
            | Cap::Notification { .. }
            | Cap::Reply { .. } => Err(SysError::InvalidCapability(0).into()),
        }
    }

    /// Stops a long operation if an interrupt is pending.
    pub(crate) fn preemption_point(&self) -> Outcome {
        if self.m.preemption_pending() {
            Err(Failure::Preempted)
        } else {
            Ok(())
        }
    }
}
