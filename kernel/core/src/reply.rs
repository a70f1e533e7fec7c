// SPDX-License-Identifier: BSD-2-Clause
//! Reply objects, the call stack of a scheduling context, and donation.

use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Notification, Ref, Reply, SchedContext, Tcb, ThreadState};

impl<M: Machine> Kernel<'_, M> {
    /// `caller` waits for `callee`'s answer through `reply` (seL4: reply_push).
    pub(crate) fn push_reply(
        &self,
        caller: Ref<Tcb>,
        callee: Ref<Tcb>,
        reply: Ref<Reply>,
        donate: bool,
        grant: bool,
    ) {
        let (c, r) = (self.at(caller), self.at(reply));
        self.make_unready(caller);
        self.set_state(caller, ThreadState::BlockedOnReply);
        c.reply.set(Some(reply));
        r.tcb.set(Some(caller));
        r.can_grant.set(u64::from(grant));
        r.next.set(None);
        r.prev.set(None);
        r.sched_context.set(None);
        if let Some(sc_ref) = c.sched_context.get()
            && donate
            && self.at(callee).sched_context.is_none()
        {
            let sc = self.at(sc_ref);
            let older = sc.reply.get();
            r.prev.set(older);
            if let Some(older) = older {
                self.at(older).next.set(Some(reply));
                self.at(older).sched_context.set(None);
            }
            r.sched_context.set(Some(sc_ref));
            sc.reply.set(Some(reply));
            self.donate(sc_ref, callee);
        }
    }

    /// Takes `reply` off its call stack because the call was answered: a scheduling context that was
    /// lent through it returns to the caller.
    pub(crate) fn pop_reply(&self, reply: Ref<Reply>, caller: Ref<Tcb>) {
        let r = self.at(reply);
        if let Some(sc_ref) = r.sched_context.take() {
            let sc = self.at(sc_ref);
            if self.core.current_sc.is(sc_ref) && sc.remaining.get() <= 0 {
                // Who gets it back has no grace: the timer was set for the end of the callee's.
                self.charge();
                self.core.deadline.set(0);
            }
            let older = r.prev.take();
            sc.reply.set(older);
            if let Some(older) = older {
                let o = self.at(older);
                o.next.set(None);
                o.sched_context.set(Some(sc_ref));
            } else if sc.remaining.get() < 0 {
                sc.overrun.set(sc.remaining.get().unsigned_abs());
            }
            if self.at(caller).sched_context.is_none() {
                self.donate(sc_ref, caller);
            } else {
                // The caller was given another one meanwhile.
                if !sc.reply.is_none()
                    && let Some(callee) = sc.tcb.get()
                {
                    self.detach_sched_context(callee);
                    self.make_ready(callee);
                }
                self.loan_ended(sc_ref);
            }
        } else {
            self.unlink_reply(reply);
        }
        r.tcb.set(None);
        self.at(caller).reply.set(None);
    }

    /// Takes `caller`'s reply object off the call stack without an answer: the stack is cut there.
    pub(crate) fn cut_reply(&self, caller: Ref<Tcb>) {
        if let Some(reply) = self.at(caller).reply.take() {
            self.unlink_reply(reply);
            self.at(reply).tcb.set(None);
        }
    }

    fn unlink_reply(&self, reply: Ref<Reply>) {
        let r = self.at(reply);
        if let Some(sc) = r.sched_context.take() {
            self.at(sc).reply.set(None);
            self.loan_ended(sc);
        }
        if let Some(next) = r.next.take() {
            self.at(next).prev.set(None);
            if let Some(t) = self.follow(&self.at(next).tcb) {
                // When the time gets there it is not lent through any call any more.
                t.cspace_epoch.set(u64::MAX);
            }
        }
        if let Some(prev) = r.prev.take() {
            self.at(prev).next.set(None);
        }
    }

    /// The last capability to a reply object goes.
    pub(crate) fn finalise_reply(&self, reply: Ref<Reply>) {
        let Some(t) = self.at(reply).tcb.get() else {
            self.unlink_reply(reply);
            return;
        };
        match self.state(t) {
            // The caller can never be answered; its time comes back to it, it stays blocked for ever
            // as in seL4 (until it is resumed).
            ThreadState::BlockedOnReply => {
                self.pop_reply(reply, t);
                self.give_up_call(t);
            }
            _ => self.cancel_ipc(t, true),
        }
    }

    /// No answer brings a lent scheduling context back: who has it keeps it until it has nothing to do. If
    /// nobody has it, it returns at once.
    fn loan_ended(&self, sc_ref: Ref<SchedContext>) {
        let sc = self.at(sc_ref);
        if sc.remaining.get() < 0 {
            sc.overrun.set(sc.remaining.get().unsigned_abs());
        }
        self.holder_changed(sc_ref);
    }

    /// To whom a scheduling context belongs may have changed: whoever has it gives it back, now or when it has
    /// nothing to do.
    pub(crate) fn holder_changed(&self, sc_ref: Ref<SchedContext>) {
        let Some(t) = self.at(sc_ref).tcb.get() else {
            self.return_to_owner(sc_ref);
            return;
        };
        match self.state(t) {
            ThreadState::Inactive | ThreadState::BlockedOnReceive => self.give_back_time(t),
            _ => self.at(t).cspace_epoch.set(u64::MAX),
        }
    }

    /// Whether a thread must take the slow path, which looks at its time: that is not its own and lent through
    /// no call, or has an overrun or new parameters that count when it is back.
    pub(crate) fn needs_slow_path(&self, t: Ref<Tcb>) -> bool {
        match self.follow(&self.at(t).sched_context) {
            Some(sc) if !sc.reply.is_none() => {
                sc.remaining.get() <= 0 || sc.pending.valid.get() != 0
            }
            Some(sc) => self.belongs_elsewhere(sc, t),
            None => false,
        }
    }

    /// Whether the time that `t` runs on is another thread's or another's notification's. (Lent through calls
    /// it always is.)
    fn belongs_elsewhere(&self, sc: &SchedContext, t: Ref<Tcb>) -> bool {
        match self.follow(&sc.notification) {
            Some(ntfn) => ntfn.bound_tcb.get().is_some_and(|b| b != t),
            None => !sc.owner.is(t),
        }
    }

    /// A thread that has nothing to do, because it receives or was stopped, gives up what was lent to it and is
    /// lent through no call any more. (Who waits for a notification may be in the middle of its work.)
    pub(crate) fn give_back_time(&self, t: Ref<Tcb>) {
        let Some(sc_ref) = self.at(t).sched_context.get() else {
            return;
        };
        let sc = self.at(sc_ref);
        if sc.reply.is_none() && self.belongs_elsewhere(sc, t) {
            self.detach_sched_context(t);
            self.return_to_owner(sc_ref);
        }
    }

    /// A scheduling context that nobody has goes to its owner, if that one has none, or to the thread of its
    /// notification if that one can run.
    fn return_to_owner(&self, sc_ref: Ref<SchedContext>) {
        if let Some(t) = self
            .follow(&self.at(sc_ref).notification)
            .and_then(|ntfn| ntfn.bound_tcb.get())
        {
            self.make_ready(t);
        } else if let Some(owner) = self.at(sc_ref).owner.get()
            && self.at(owner).sched_context.is_none()
        {
            self.donate(sc_ref, owner);
            self.make_ready(owner);
        }
    }

    /// Gives a scheduling context to `to` (seL4: schedContext_donate).
    pub(crate) fn donate(&self, sc_ref: Ref<SchedContext>, to: Ref<Tcb>) {
        let sc = self.at(sc_ref);
        let from = sc.tcb.get();
        if let Some(from) = from {
            if from == to {
                return;
            }
            self.make_unready(from);
            self.at(from).sched_context.set(None);
            self.look_again(from);
        }
        sc.tcb.set(Some(to));
        let t = self.at(to);
        t.sched_context.set(Some(sc_ref));
        if self.needs_slow_path(to) {
            t.cspace_epoch.set(u64::MAX);
        }
        if t.core.get() != sc.core.get() {
            self.dequeue(to);
            t.core.set(sc.core.get());
        }
        if sc.pending.valid.get() != 0 && sc.reply.is_none() && sc.owner.is(to) {
            self.apply_pending(sc_ref);
        }
        if let Some(from) = from
            && !self.core.current.is(from)
        {
            // It may have time of its notification's. (For the running thread that is seen at the end.)
            self.make_ready(from);
        }
    }

    /// The reason why a thread had to take the slow path may be gone.
    pub(crate) fn look_again(&self, t: Ref<Tcb>) {
        let tcb = self.at(t);
        if tcb.fast_cnode_slots.get() == 0 {
            tcb.cspace_epoch.set(u64::MAX);
        }
    }

    /// A passive thread that is signalled runs on the notification's scheduling context.
    pub(crate) fn lend_sched_context(&self, ntfn: &Notification, t: Ref<Tcb>) {
        if self.at(t).sched_context.is_none()
            && let Some(sc) = ntfn.sched_context.get()
            && self.at(sc).tcb.is_none()
        {
            self.donate(sc, t);
        }
    }

    /// ... and gives it back when it waits again.
    pub(crate) fn return_sched_context(&self, ntfn: Ref<Notification>, t: Ref<Tcb>) {
        let Some(sc) = self.at(ntfn).sched_context.get() else {
            return;
        };
        let tcb = self.at(t);
        if tcb.sched_context.is(sc) {
            self.make_unready(t);
            tcb.sched_context.set(None);
            self.at(sc).tcb.set(None);
        }
    }
}
