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
            if sc.remaining.get() <= 0 {
                // Its owner has no grace: the timer was set for the end of the callee's.
                self.core.deadline.set(0);
            }
            let older = r.prev.take();
            sc.reply.set(older);
            if let Some(older) = older {
                let o = self.at(older);
                o.next.set(None);
                o.sched_context.set(Some(sc_ref));
            }
            if self.at(caller).sched_context.is_none() {
                self.donate(sc_ref, caller);
            } else if let Some(callee) = sc.tcb.take() {
                // The caller was given another one meanwhile.
                self.make_unready(callee);
                self.at(callee).sched_context.set(None);
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
        }
        if let Some(next) = r.next.take() {
            self.at(next).prev.set(None);
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

    /// Gives a scheduling context to `to` (seL4: schedContext_donate).
    pub(crate) fn donate(&self, sc_ref: Ref<SchedContext>, to: Ref<Tcb>) {
        let sc = self.at(sc_ref);
        if let Some(from) = sc.tcb.get() {
            if from == to {
                return;
            }
            self.make_unready(from);
            self.at(from).sched_context.set(None);
        }
        sc.tcb.set(Some(to));
        let t = self.at(to);
        t.sched_context.set(Some(sc_ref));
        if t.core.get() != sc.core.get() {
            self.dequeue(to);
            t.core.set(sc.core.get());
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
