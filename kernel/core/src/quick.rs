// SPDX-License-Identifier: BSD-2-Clause
//! The most frequent system calls besides Call, without decoding what they don't use: signals, and receiving on
//! an endpoint or notification. Whatever is unusual is left to the general code, which comes to the
//! same result.

use crate::cap::{EXTRA_SHIFT, TYPE_SHIFT, rights_bit, tag};
use crate::ipc::reg;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{
    Endpoint, EndpointState, Notification, NotificationState, Ref, Reply, Slot, Tcb, ThreadState,
    reschedule, tcb_slot, thread_kind,
};
use partita_abi::{FaultLabel, MessageInfo, syscall};

/// Address in the first word of an object capability.
const ADDR: u64 = (1 << EXTRA_SHIFT) - 1;

impl<'k, M: Machine> Kernel<'k, M> {
    /// Handles the running thread's system call if it is one of these; false: nothing was done.
    #[inline(always)]
    pub fn quick_syscall(&self) -> bool {
        let Some(t) = self.current() else {
            return false;
        };
        let tcb = self.at(t);
        let gpr = &tcb.context.gpr;
        let number = gpr[reg::NUMBER].get() as i64 as isize;
        if tcb.cspace_epoch.get() != self.core.cspace_epoch.get() {
            return false;
        }
        match number {
            syscall::NB_SEND | syscall::SEND => self.quick_send(tcb, gpr[reg::CAP].get(), number),
            syscall::RECV => self.quick_receive(t, tcb),
            syscall::NB_SEND_RECV => {
                if !self.quick_send(tcb, gpr[reg::DEST].get(), syscall::NB_SEND) {
                    return false;
                }
                if !self.quick_receive(t, tcb) {
                    self.receive(t, gpr[reg::CAP].get(), true, true);
                }
                true
            }
            syscall::REPLY_RECV => {
                let Some((_, reply)) = self.quick_object(tcb, gpr[reg::REPLY].get(), tag::REPLY)
                else {
                    return false;
                };
                let Some(reply) = Ref::<Reply>::new(reply) else {
                    return false;
                };
                // Capabilities are not granted through this path.
                if gpr[reg::INFO].get() & 0x180 != 0 {
                    return false;
                }
                self.reply_transfer(t, reply, false);
                if !self.quick_receive(t, tcb) {
                    self.receive(t, gpr[reg::CAP].get(), true, true);
                }
                true
            }
            _ => false,
        }
    }

    /// Handles the running thread's system call if it touches nothing but its own registers and a
    /// notification: signalling without waking anybody, a send to nothing, receiving what has arrived. False:
    /// nothing was done.
    #[inline(always)]
    pub fn local_syscall(&self) -> bool {
        let Some(t) = self.current() else {
            return false;
        };
        let tcb = self.at(t);
        let gpr = &tcb.context.gpr;
        let number = gpr[reg::NUMBER].get() as i64 as isize;
        if !matches!(number, syscall::NB_SEND | syscall::SEND | syscall::RECV) {
            return false;
        }
        if tcb.cspace_epoch.get() != self.core.cspace_epoch.get() {
            return false;
        }
        let Some((w0, w1)) = self.quick_slot(tcb, gpr[reg::CAP].get()) else {
            return false;
        };
        let rights = w0 >> EXTRA_SHIFT & 0xff;
        match number {
            syscall::NB_SEND | syscall::SEND => {
                if w0 == 0 {
                    return number == syscall::NB_SEND;
                }
                if w0 >> TYPE_SHIFT != tag::NOTIFICATION || rights & rights_bit::SEND == 0 {
                    return false;
                }
                let Some(ntfn) = Ref::<Notification>::new(w0 & ADDR) else {
                    return false;
                };
                let ntfn = self.at(ntfn);
                match ntfn.state.get() {
                    s if s == NotificationState::Active as u64 => {
                        ntfn.badge.set(ntfn.badge.get() | w1);
                        true
                    }
                    s if s == NotificationState::Idle as u64 => {
                        let wakes = match self.follow(&ntfn.bound_tcb) {
                            Some(b) => b.state.get() == ThreadState::BlockedOnReceive as u64,
                            None => false,
                        };
                        if !wakes {
                            ntfn.state.set(NotificationState::Active as u64);
                            ntfn.badge.set(w1);
                        }
                        !wakes
                    }
                    _ => false,
                }
            }
            syscall::RECV if rights & rights_bit::RECEIVE != 0 => {
                let ntfn = match w0 >> TYPE_SHIFT {
                    tag::NOTIFICATION => Ref::new(w0 & ADDR),
                    tag::ENDPOINT => {
                        // A reply object in use would have to be taken first.
                        let free = self
                            .quick_object(tcb, gpr[reg::REPLY].get(), tag::REPLY)
                            .and_then(|(_, reply)| Ref::<Reply>::new(reply))
                            .is_some_and(|reply| self.at(reply).tcb.is_none());
                        if free {
                            tcb.bound_notification.get()
                        } else {
                            None
                        }
                    }
                    _ => None,
                };
                let Some(r) = ntfn else { return false };
                let ntfn = self.at(r);
                if ntfn.state.get() != NotificationState::Active as u64
                    || !ntfn.sched_context.is_none()
                    || ntfn.bound_tcb.get().is_some_and(|b| b != t)
                {
                    return false;
                }
                ntfn.state.set(NotificationState::Idle as u64);
                self.set_signalled(t, ntfn.badge.take());
                true
            }
            _ => false,
        }
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

    /// The words of the capability that a small pointer names.
    #[inline(always)]
    fn quick_slot(&self, tcb: &Tcb, cptr: u64) -> Option<(u64, u64)> {
        if cptr >= tcb.fast_cnode_slots.get() {
            return None;
        }
        let slot = self.at(Ref::<Slot>::new(tcb.fast_cnode.get() + 32 * cptr)?);
        Some((slot.w0.get(), slot.w1.get()))
    }

    /// Type-specific byte and address of a capability of type `tag`.
    #[inline(always)]
    fn quick_object(&self, tcb: &Tcb, cptr: u64, tag: u64) -> Option<(u64, u64)> {
        let (w0, _) = self.quick_slot(tcb, cptr)?;
        if w0 >> TYPE_SHIFT != tag {
            return None;
        }
        Some(((w0 >> EXTRA_SHIFT) & 0xff, w0 & ADDR))
    }

    #[inline(always)]
    fn quick_send(&self, tcb: &Tcb, cptr: u64, number: isize) -> bool {
        let Some((w0, w1)) = self.quick_slot(tcb, cptr) else {
            return false;
        };
        if w0 == 0 {
            // A non-blocking send to nothing does nothing; a blocking one is a fault.
            return number == syscall::NB_SEND;
        }
        if w0 >> TYPE_SHIFT != tag::NOTIFICATION || (w0 >> EXTRA_SHIFT) & rights_bit::SEND == 0 {
            return false;
        }
        match Ref::<Notification>::new(w0 & ADDR) {
            Some(ntfn) => {
                if !self.quick_wake(ntfn, w1) {
                    self.signal(ntfn, w1);
                }
                true
            }
            None => false,
        }
    }

    /// Delivers a signal to the one thread that waits for it, with time of its own; false: nothing was done.
    #[inline(always)]
    fn quick_wake(&self, ntfn: Ref<Notification>, badge: u64) -> bool {
        let ntfn = self.at(ntfn);
        let waiting = ntfn.state.get() == NotificationState::Waiting as u64;
        if ntfn.state.get() == NotificationState::Active as u64 || !self.core.candidate.is_none() {
            return false;
        }
        let link = if waiting { &ntfn.head } else { &ntfn.bound_tcb };
        let Some(t_ref) = link.get() else {
            return false;
        };
        let t = self.at(t_ref);
        if t.sched_context.is_none()
            || t.core.get() != self.core.id.get()
            || !t.queue_next.is_none()
            || !t.queue_prev.is_none()
        {
            return false;
        }
        if waiting {
            ntfn.head.set(None);
            ntfn.tail.set(None);
            ntfn.state.set(NotificationState::Idle as u64);
        } else {
            if t.state.get() != ThreadState::BlockedOnReceive as u64 {
                return false;
            }
            let Some(ep) = Ref::<Endpoint>::new(t.blocked_on.get()) else {
                return false;
            };
            let ep = self.at(ep);
            ep.head.set(None);
            ep.tail.set(None);
            ep.enter(EndpointState::Idle);
            if let Some(reply) = t.reply.take() {
                self.at(reply).tcb.set(None);
            }
        }
        t.blocked_on.set(0);
        t.state.set(ThreadState::Running as u64);
        self.set_signalled(t_ref, badge);
        self.core.candidate.set(Some(t_ref));
        true
    }

    /// Whether the running thread just goes on: nothing is to be scheduled.
    #[inline(always)]
    pub fn settled(&self) -> bool {
        let core = self.core;
        match self.follow(&core.current) {
            Some(t) => {
                wants_to_run(t)
                    && t.kind.get() == thread_kind::USER
                    && core.reschedule.get() == 0
                    && core.candidate.is_none()
                    && core.deadline.get() != 0
            }
            None => false,
        }
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
            && core.release_head.is_none()
            && core.timer_head.is_none();
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

    /// Waits for a notification with which nothing unusual goes on.
    #[inline(always)]
    fn quick_wait(&self, t: Ref<Tcb>, tcb: &Tcb, rights: u64, ntfn: u64) -> bool {
        let Some(r) = Ref::<Notification>::new(ntfn) else {
            return false;
        };
        let ntfn = self.at(r);
        if rights & rights_bit::RECEIVE == 0
            || !ntfn.sched_context.is_none()
            || ntfn.bound_tcb.get().is_some_and(|b| b != t)
        {
            return false;
        }
        match ntfn.state.get() {
            s if s == NotificationState::Active as u64 => {
                ntfn.state.set(NotificationState::Idle as u64);
                self.set_signalled(t, ntfn.badge.take());
                true
            }
            s if s == NotificationState::Idle as u64 => {
                self.set_state(t, ThreadState::BlockedOnNotification);
                tcb.blocked_on.set(r.addr());
                tcb.queue_next.set(None);
                tcb.queue_prev.set(None);
                ntfn.head.set(Some(t));
                ntfn.tail.set(Some(t));
                ntfn.state.set(NotificationState::Waiting as u64);
                true
            }
            _ => false,
        }
    }

    /// Receive on an endpoint at which nobody waits to send, or on a notification.
    #[inline(always)]
    fn quick_receive(&self, t: Ref<Tcb>, tcb: &Tcb) -> bool {
        let gpr = &tcb.context.gpr;
        let cptr = gpr[reg::CAP].get();
        if let Some((rights, ntfn)) = self.quick_object(tcb, cptr, tag::NOTIFICATION) {
            return self.quick_wait(t, tcb, rights, ntfn);
        }
        let Some((rights, ep)) = self.quick_object(tcb, gpr[reg::CAP].get(), tag::ENDPOINT) else {
            return false;
        };
        let Some((_, reply)) = self.quick_object(tcb, gpr[reg::REPLY].get(), tag::REPLY) else {
            return false;
        };
        let (Some(ep_ref), Some(reply_ref)) = (Ref::<Endpoint>::new(ep), Ref::<Reply>::new(reply))
        else {
            return false;
        };
        let (ep, reply) = (self.at(ep_ref), self.at(reply_ref));
        if rights & rights_bit::RECEIVE == 0 || !reply.tcb.is_none() {
            return false;
        }
        if let Some(r) = tcb.bound_notification.get() {
            let ntfn = self.at(r);
            if ntfn.state.get() == NotificationState::Active as u64 {
                self.take_signal(t, r);
                return true;
            }
            if !ntfn.sched_context.is_none() {
                return false;
            }
        }
        if !ep.is(EndpointState::Idle) {
            return false;
        }
        self.set_state(t, ThreadState::BlockedOnReceive);
        tcb.blocked_on.set(ep_ref.addr());
        tcb.send_flags.set(0);
        tcb.reply.set(Some(reply_ref));
        reply.tcb.set(Some(t));
        tcb.queue_next.set(None);
        tcb.queue_prev.set(None);
        ep.head.set(Some(t));
        ep.tail.set(Some(t));
        ep.receive_from(tcb.core.get());
        ep.enter(EndpointState::Receive);
        true
    }
}

/// Running or Restart.
#[inline(always)]
fn wants_to_run(t: &Tcb) -> bool {
    const { assert!(ThreadState::Running as u64 == 1 && ThreadState::Restart as u64 == 2) };
    t.state.get().wrapping_sub(1) < 2
}
