// SPDX-License-Identifier: BSD-2-Clause
//! What is frequent and not in assembly, without decoding what is not used: a fault, the entries of hash page tables,
//! dispatch counters; and invocations that need no scheduler. Whatever is unusual is left to the general code, which
//! comes to the same result.

use crate::cap::{Cap, EXTRA_SHIFT, TYPE_SHIFT, rights_bit, tag};
use crate::error::Failure;
use crate::hpt::Table;
use crate::ipc::reg;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{
    Endpoint, EndpointState, Ref, Slot, Tcb, ThreadState, reschedule, tcb_slot, thread_kind,
};
use crate::vcpu::Vcpu;
use partita_abi::{
    FaultLabel, InvocationLabel, IpcBufferLayout, MessageInfo, address_space as space, syscall,
};
use partita_papr::Ptex;

/// Address in the first word of an object capability.
const ADDR: u64 = (1 << EXTRA_SHIFT) - 1;

/// Types of objects, beside VCPUs, whose invocation changes no thread's saved registers but the caller's results.
const LOCAL_OBJECTS: u64 = 1 << tag::UNTYPED
    | 1 << tag::FRAME
    | 1 << tag::PAGE_TABLE
    | 1 << tag::TIMER
    | 1 << tag::GSPACE
    | 1 << tag::GPAGE_TABLE
    | 1 << tag::GSPACE_VIEW;

/// What became of a system call whose caller's other registers are still in the core.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Local {
    /// Nothing was done.
    Refused = 0,
    /// Done; the caller goes on.
    Settled = 1,
    /// Done; what runs next is to be chosen.
    Unsettled = 2,
}

impl<'k, M: Machine> Kernel<'k, M> {
    /// Handles the running thread's system call if it is an invocation of an object that has nothing to do with
    /// threads' registers: only the volatile ones need to be in the TCB.
    #[inline(always)]
    pub fn local_syscall(&self) -> Local {
        let Some(t) = self.current() else {
            return Local::Refused;
        };
        let tcb = self.at(t);
        let gpr = &tcb.context.gpr;
        if gpr[reg::NUMBER].get() as i64 as isize != syscall::CALL
            || tcb.cspace_epoch.get() != self.core.cspace_epoch.get()
        {
            return Local::Refused;
        }
        let Some(slot) = self.cached_slot(tcb, gpr[reg::CAP].get()) else {
            return Local::Refused;
        };
        let w0 = self.at(slot).w0.get();
        let kind = w0 >> TYPE_SHIFT;
        if kind == tag::HPT {
            return match self.quick_hpt(t, tcb, w0, self.at(slot).w1.get()) {
                true => Local::Settled,
                false => Local::Refused,
            };
        }
        if kind == tag::VCPU {
            return self.local_vcpu(t, slot);
        }
        if 1u64 << (kind & 63) & LOCAL_OBJECTS == 0 {
            return Local::Refused;
        }
        self.local_invocation(t, slot)
    }

    // Not part of the way for tables, which would save registers for it.
    #[inline(never)]
    fn local_vcpu(&self, t: Ref<Tcb>, slot: Ref<Slot>) -> Local {
        match self.quick_counter(self.at(t), self.at(slot).w0.get()) {
            true => Local::Settled,
            false => self.local_invocation(t, slot),
        }
    }

    #[inline(never)]
    fn local_invocation(&self, t: Ref<Tcb>, slot: Ref<Slot>) -> Local {
        self.invoke_local(t, slot);
        if self.settled() {
            Local::Settled
        } else {
            Local::Unsettled
        }
    }

    /// Whether the running thread just goes on: nothing is to be scheduled.
    fn settled(&self) -> bool {
        let core = self.core;
        self.follow(&core.current).is_some_and(wants_to_run)
            && core.reschedule.get() == 0
            && core.candidate.is_none()
            && core.deadline.get() != 0
    }

    /// Whether the running thread's system call is a send that does not wait, and names a slot without a capability:
    /// nothing is done then.
    pub fn sends_to_nobody(&self) -> bool {
        let Some(t) = self.current() else {
            return false;
        };
        let tcb = self.at(t);
        let gpr = &tcb.context.gpr;
        gpr[reg::NUMBER].get() as i64 as isize == syscall::NB_SEND
            && tcb.cspace_epoch.get() == self.core.cspace_epoch.get()
            && self
                .cached_slot(tcb, gpr[reg::CAP].get())
                .is_some_and(|slot| matches!(self.at(slot).cap(), Cap::Null))
    }

    /// LPID of the hash page table that the running thread's system call invokes, if it does.
    pub fn local_table(&self) -> Option<u64> {
        let tcb = self.at(self.current()?);
        let gpr = &tcb.context.gpr;
        if gpr[reg::NUMBER].get() as i64 as isize != syscall::CALL
            || tcb.cspace_epoch.get() != self.core.cspace_epoch.get()
        {
            return None;
        }
        let slot = self.at(self.cached_slot(tcb, gpr[reg::CAP].get())?);
        (slot.w0.get() >> TYPE_SHIFT == tag::HPT).then(|| slot.w1.get())
    }

    /// An invocation on the entries of a hash page table: a good part of what a guest's hypercall costs. It touches
    /// nothing but the table, what its entries pin, and the caller's registers.
    #[inline(always)]
    fn quick_hpt(&self, t: Ref<Tcb>, tcb: &Tcb, w0: u64, lpid: u64) -> bool {
        let gpr = &tcb.context.gpr;
        let info = MessageInfo(gpr[reg::INFO].get());
        let order = (w0 >> EXTRA_SHIFT & 0xff) as u32;
        if info.extra_caps() != 0 {
            return false;
        }
        let Ok(table) = self.table(w0 & ADDR, order, lpid) else {
            return false;
        };
        if info.label() == InvocationLabel::HPTInsert as u64
            && info.length() >= 3
            && table.g.poisoned.get() == 0
        {
            self.quick_insert(t, tcb, &table)
        } else {
            self.quick_entry(t, tcb, &table)
        }
    }

    #[inline(never)]
    fn quick_insert(&self, t: Ref<Tcb>, tcb: &Tcb, table: &Table<'_>) -> bool {
        let word = |i: usize| tcb.context.gpr[reg::MR0 + i].get();
        let Some(ptex) = Ptex::new(word(0), table.order) else {
            return false;
        };
        match self.insert_hpte(table, ptex, word(1), word(2)) {
            Ok(()) => quick_answer(tcb, 0),
            Err(refusal) => self.answer_error(t, refusal.into()),
        }
        true
    }

    #[inline(never)]
    fn quick_entry(&self, t: Ref<Tcb>, tcb: &Tcb, table: &Table<'_>) -> bool {
        let gpr = &tcb.context.gpr;
        let info = MessageInfo(gpr[reg::INFO].get());
        let words = &gpr[reg::MR0..reg::MR0 + space::FAST_MESSAGE_REGISTERS];
        match self.invoke_hpte(table, info.label(), words, info.length() as usize) {
            Some(Ok(length)) => quick_answer(tcb, length),
            Some(Err(Failure::Error(error))) => self.answer_error(t, error),
            _ => return false,
        }
        true
    }

    /// Binding and unbinding of a dispatch counter: what is left of a guest's H_REGISTER_VPA for the kernel.
    #[inline(always)]
    fn quick_counter(&self, tcb: &Tcb, w0: u64) -> bool {
        const BIND: u64 = InvocationLabel::VCPUBindDispatchCounter as u64;
        const UNBIND: u64 = InvocationLabel::VCPUUnbindDispatchCounter as u64;
        // The right is GrantReply.
        if w0 & rights_bit::GRANT_REPLY << EXTRA_SHIFT == 0 {
            return false;
        }
        let gpr = &tcb.context.gpr;
        let info = MessageInfo(gpr[reg::INFO].get());
        let Some(v) = Ref::<Vcpu>::new(w0 & ADDR) else {
            return false;
        };
        let v = self.at(v);
        let Some(g) = v.gspace.get() else {
            return false;
        };
        match (info.label(), info.extra_caps()) {
            (UNBIND, 0) => v.dispatch_counter.set(0),
            (BIND, 1) if info.length() != 0 && tcb.ipc_buffer.get() != 0 => {
                let word = 8 * IpcBufferLayout::CAPS_OR_BADGES as u64;
                let cptr = self.m.read_word(tcb.ipc_buffer.get() + word);
                let Some(slot) = self.cached_slot(tcb, cptr) else {
                    return false;
                };
                // Matched in its place: no copy.
                let cap = self.at(slot).cap();
                let Cap::View(view) = &cap else {
                    return false;
                };
                // A refusal has no effect: the general code finds the same and says why.
                if self.bind_counter(v, g, view, gpr[reg::MR0].get()).is_err() {
                    return false;
                }
            }
            _ => return false,
        }
        quick_answer(tcb, 0);
        true
    }

    /// Sends the running thread's fault to a handler that waits for it on time of its own; false: nothing was
    /// done.
    #[inline(always)]
    pub fn quick_fault(&self, label: FaultLabel, words: &[u64]) -> bool {
        let Some(t) = self.current() else {
            return false;
        };
        let tcb = self.at(t);
        let handler = &tcb.slots[tcb_slot::FAULT];
        let (w0, badge) = (handler.w0.get(), handler.w1.get());
        let rights = w0 >> EXTRA_SHIFT & 0xff;
        let wanted = rights_bit::SEND | rights_bit::CAN_REPLY;
        if w0 >> TYPE_SHIFT != tag::ENDPOINT || rights & wanted != wanted || words.len() > 5 {
            return false;
        }
        let Some(ep) = Ref::<Endpoint>::new(w0 & ADDR) else {
            return false;
        };
        let ep = self.at(ep);
        if !ep.is(EndpointState::Receive) {
            return false;
        }
        let Some(server_ref) = ep.head.get() else {
            return false;
        };
        let server = self.at(server_ref);
        let Some(reply_ref) = server.reply.get() else {
            return false;
        };
        if server.sched_context.is_none()
            || server.core.get() != self.core.id.get()
            || server.queue_next.get().is_some()
            || !self.core.candidate.is_none()
        {
            return false;
        }

        let reply = self.at(reply_ref);
        ep.head.set(None);
        ep.tail.set(None);
        ep.enter(EndpointState::Idle);
        tcb.fault_label.set(label as u64);
        let gpr = &server.context.gpr;
        let zero = core::hint::black_box(0);
        for i in 0..8 {
            let word = words.get(i).copied();
            gpr[reg::MR0 + i].set(word.unwrap_or(zero));
            if let Some(word) = word {
                tcb.fault_words[i].set(word);
            }
        }
        gpr[reg::NUMBER].set(0);
        gpr[reg::CAP].set(badge);
        gpr[reg::INFO].set(MessageInfo::new(label as u64, 0, 0, words.len() as u64).0);
        server.blocked_on.set(0);
        server.reply.set(None);
        server.state.set(ThreadState::Running as u64);
        tcb.state.set(ThreadState::BlockedOnReply as u64);
        tcb.reply.set(Some(reply_ref));
        reply.tcb.set(Some(t));
        reply
            .can_grant
            .set(u64::from(rights & rights_bit::GRANT != 0));
        reply.prev.set(None);
        reply.next.set(None);
        reply.sched_context.set(None);
        self.core.candidate.set(Some(server_ref));
        true
    }

    /// Switches to the thread that was made ready, or from one that just blocked to the best of the queue, if
    /// nothing unusual goes on and it has budget; false: nothing was done.
    #[inline(always)]
    pub fn quick_switch(&self) -> bool {
        let core = self.core;
        let Some(old) = core.current.get() else {
            return false;
        };
        let candidate = core.candidate.get();
        let ready = core.ready_top.get();
        let Some(next_ref) = (match candidate {
            Some(c) => Some(c),
            None if ready != 0 => core.ready_head[(ready - 1) as usize & 255].get(),
            None => None,
        }) else {
            return false;
        };
        let next = self.at(next_ref);
        let Some(sc_ref) = next.sched_context.get() else {
            return false;
        };
        let sc = self.at(sc_ref);
        let old = self.at(old);
        let old_runs = wants_to_run(old);
        let Some(old_sc) = self.follow(&core.current_sc) else {
            return false;
        };
        let plain = next.kind.get() == thread_kind::USER
            && wants_to_run(next)
            && next.core.get() == core.id.get()
            && old.core.get() == core.id.get()
            && sc.in_release_queue.get() == 0
            && sc.period.get() != 0
            && sc.vcpu.is_none()
            && old_sc.vcpu.is_none()
            && core.reschedule.get() != reschedule::ROTATE
            && core.release.first.is_none()
            && core.timers.first.is_none();
        // Whatever else is ready must be worse; so must the running thread be, which stays ready.
        if !plain || next.priority.get() + 1 < ready || old_runs && candidate.is_none() {
            return false;
        }
        if old_runs && (old.priority.get() >= next.priority.get() || old.sched_context.is_none()) {
            return false;
        }
        let now = self.m.now();
        if now >= sc.replenish_at.get() || sc.remaining.get() <= 0 {
            return false;
        }
        if candidate.is_none() {
            self.dequeue(next_ref);
        } else if old_runs && let Some(r) = core.current.get() {
            self.enqueue(r, true);
        }
        if !core.current_sc.is(sc_ref) {
            let used = now.wrapping_sub(core.charged_from.get());
            old_sc
                .remaining
                .set(old_sc.remaining.get().wrapping_sub(used as i64));
            old_sc
                .consumed
                .set(old_sc.consumed.get().wrapping_add(used));
            core.charged_from.set(now);
            core.current_sc.set(Some(sc_ref));
            let at = now.wrapping_add(sc.remaining.get() as u64);
            core.deadline.set(at);
            self.m.set_deadline(at);
        }
        core.candidate.set(None);
        core.reschedule.set(0);
        core.current.set(Some(next_ref));
        true
    }
}

/// The answer to an invocation that succeeded; what is beyond its length is the caller's own.
#[inline(always)]
fn quick_answer(tcb: &Tcb, length: usize) {
    let gpr = &tcb.context.gpr;
    gpr[reg::CAP].set(0);
    gpr[reg::INFO].set(MessageInfo::new(0, 0, 0, length as u64).0);
}

/// Running or Restart.
#[inline(always)]
fn wants_to_run(t: &Tcb) -> bool {
    const { assert!(ThreadState::Running as u64 == 1 && ThreadState::Restart as u64 == 2) };
    t.state.get().wrapping_sub(1) < 2
}
