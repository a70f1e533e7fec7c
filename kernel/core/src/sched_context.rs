// SPDX-License-Identifier: BSD-2-Clause
//! SchedControl and SchedContext invocations, YieldTo.

use crate::cap::Cap;
use crate::error::{Outcome, SysError};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Ref, SchedContext, Tcb, thread_kind};
use crate::sched::replenish;
use crate::syscall::Args;
use crate::vcpu::Vcpu;
use partita_abi::{FaultLabel, InvocationLabel, limits};

/// Longest period, microseconds (one hour).
const MAX_PERIOD_US: u64 = 3_600_000_000;

impl<M: Machine> Kernel<'_, M> {
    pub(crate) fn invoke_sched_control(&self, core: usize, args: &Args) -> Outcome<usize> {
        if args.label != InvocationLabel::SchedControlConfigureFlags {
            return Err(SysError::IllegalOperation.into());
        }
        let budget_us = self.arg(args, 0)?;
        let period_us = self.arg(args, 1)?;
        let extra_refills = self.arg(args, 2)?;
        let badge = self.arg(args, 3)?;
        let flags = self.arg(args, 4)?;
        let Cap::SchedContext(r) = self.cap_arg(args, 0)?.1 else {
            return Err(SysError::InvalidCapability(1).into());
        };
        let least = limits::MIN_BUDGET_US as u64;
        if !(least..=MAX_PERIOD_US).contains(&budget_us) {
            return Err(SysError::Range(least, MAX_PERIOD_US).into());
        }
        if !(budget_us..=MAX_PERIOD_US).contains(&period_us) {
            return Err(SysError::Range(budget_us, MAX_PERIOD_US).into());
        }
        // A periodic refill needs no list of refills: any number that fits seL4's object is taken.
        if extra_refills > 254 {
            return Err(SysError::Range(0, 254).into());
        }
        let sc = self.at(r);
        let p = &sc.pending;
        p.core.set(core as u64);
        p.budget.set(self.microseconds(budget_us));
        p.period.set(self.microseconds(period_us));
        p.badge.set(badge);
        p.flags.set(flags);
        p.valid.set(1);
        if sc.reply.is_none() || self.may_be_extended(sc) {
            self.apply_pending(r);
        } else if let Some(t) = sc.tcb.get() {
            // The way back must not be the fast one.
            self.at(t).cspace_epoch.set(u64::MAX);
        }
        Ok(0)
    }

    /// Whether a lent scheduling context may get new parameters at once: on the same core, for a thread that
    /// waits in its timeout fault for just that.
    fn may_be_extended(&self, sc: &SchedContext) -> bool {
        sc.pending.core.get() == sc.core.get()
            && self
                .follow(&sc.tcb)
                .is_some_and(|t| t.fault_label.get() == FaultLabel::Timeout as u64)
    }

    /// Gives a scheduling context the parameters that SchedControl recorded, and a whole budget.
    pub(crate) fn apply_pending(&self, r: Ref<SchedContext>) {
        let sc = self.at(r);
        let p = &sc.pending;
        p.valid.set(0);
        self.charge_user(r);
        self.unpostpone(r);
        sc.budget.set(p.budget.get());
        sc.period.set(p.period.get());
        sc.overrun.set(0);
        sc.remaining.set(0);
        sc.replenish_at.set(self.m.now());
        replenish(sc, self.m.now());
        sc.badge.set(p.badge.get());
        sc.flags.set(p.flags.get());
        let core = p.core.get();
        if let Some(t) = sc.tcb.get() {
            if sc.core.get() != core {
                self.make_unready(t);
                self.at(t).core.set(core);
            }
            sc.core.set(core);
            self.make_ready(t);
        } else {
            sc.core.set(core);
        }
    }

    pub(crate) fn invoke_sched_context(&self, r: Ref<SchedContext>, args: &Args) -> Outcome<usize> {
        use InvocationLabel as L;
        let sc = self.at(r);
        match args.label {
            L::SchedContextConsumed => return Ok(self.answer_consumed(args.thread, r)),
            L::SchedContextBind => match self.cap_arg(args, 0)?.1 {
                Cap::Thread(t) => {
                    if !sc.tcb.is_none()
                        || !sc.notification.is_none()
                        || !self.at(t).sched_context.is_none()
                    {
                        return Err(SysError::IllegalOperation.into());
                    }
                    self.attach_sched_context(r, t);
                }
                Cap::Notification { ntfn, .. } => {
                    if !sc.tcb.is_none()
                        || !sc.notification.is_none()
                        || !self.at(ntfn).sched_context.is_none()
                    {
                        return Err(SysError::IllegalOperation.into());
                    }
                    self.end_loan(r);
                    self.set_owner(r, None);
                    sc.notification.set(Some(ntfn));
                    self.at(ntfn).sched_context.set(Some(r));
                    if let Some(t) = self.at(ntfn).bound_tcb.get() {
                        // It may have work already, but no time.
                        self.make_ready(t);
                    }
                }
                _ => return Err(SysError::InvalidCapability(1).into()),
            },
            L::SchedContextUnbind => {
                if sc.tcb.is(args.thread) {
                    return Err(SysError::IllegalOperation.into());
                }
                self.unbind_all(r);
            }
            L::SchedContextUnbindObject => match self.cap_arg(args, 0)?.1 {
                Cap::Thread(t) if sc.tcb.is(t) && t != args.thread => {
                    if sc.owner.is(t) {
                        self.set_owner(r, None);
                    }
                    self.detach_sched_context(t);
                    self.make_ready(t);
                }
                Cap::Notification { ntfn, .. } if sc.notification.is(ntfn) => {
                    self.unbind_sc_notification(r);
                }
                Cap::Thread(_) | Cap::Notification { .. } => {
                    return Err(SysError::IllegalOperation.into());
                }
                _ => return Err(SysError::InvalidCapability(1).into()),
            },
            L::SchedContextYieldTo => return self.yield_to(r, args),
            _ => return Err(SysError::IllegalOperation.into()),
        }
        Ok(0)
    }

    /// Nobody has it or will get it back, no call that it is lent through brings it anywhere.
    fn unbind_all(&self, r: Ref<SchedContext>) {
        let sc = self.at(r);
        self.end_yield_to(r);
        self.set_owner(r, None);
        self.end_loan(r);
        self.unbind_sc_notification(r);
        if let Some(t) = sc.tcb.get() {
            self.detach_sched_context(t);
            self.make_ready(t);
        }
        if sc.pending.valid.get() != 0 {
            self.apply_pending(r);
        }
    }

    /// Cuts the calls that a scheduling context is lent through off it.
    pub(crate) fn end_loan(&self, r: Ref<SchedContext>) {
        if let Some(reply) = self.at(r).reply.take() {
            self.at(reply).sched_context.set(None);
        }
    }

    /// Makes a scheduling context a thread's own, or nobody's.
    pub(crate) fn set_owner(&self, r: Ref<SchedContext>, owner: Option<Ref<Tcb>>) {
        let sc = self.at(r);
        if let Some(old) = sc.owner.take() {
            self.at(old).own_context.set(None);
        }
        if let Some(t) = owner {
            if let Some(other) = self.at(t).own_context.take() {
                self.at(other).owner.set(None);
                self.count_dispatches(other, None);
            }
            self.at(t).own_context.set(Some(r));
            sc.owner.set(owner);
        }
        self.count_dispatches(r, owner.and_then(|t| self.vcpu_of(t)));
    }

    /// The dispatches of a scheduling context are those of its owner's VCPU, whoever has the time: from now on of this one.
    pub(crate) fn count_dispatches(&self, r: Ref<SchedContext>, vcpu: Option<Ref<Vcpu>>) {
        let sc = self.at(r);
        let old = sc.vcpu.get();
        sc.vcpu.set(vcpu);
        if let Some(old) = old
            && vcpu != Some(old)
            && self.g.cores.iter().any(|c| c.current_sc.is(r))
        {
            self.note_dispatch(old, false, self.m.now());
        }
    }

    pub(crate) fn unbind_sc_notification(&self, r: Ref<SchedContext>) {
        if let Some(ntfn) = self.at(r).notification.take() {
            self.at(ntfn).sched_context.set(None);
            self.holder_changed(r);
        }
    }

    fn answer_consumed(&self, thread: Ref<Tcb>, r: Ref<SchedContext>) -> usize {
        self.charge_user(r);
        let ticks = self.at(r).consumed.replace(0);
        self.set_message_register(thread, 0, self.as_microseconds(ticks));
        1
    }

    /// Lets the thread of `r` run before the caller, if its priority and core allow it; the caller comes right
    /// after it. The answer, what was consumed, is as of then.
    fn yield_to(&self, r: Ref<SchedContext>, args: &Args) -> Outcome<usize> {
        let sc = self.at(r);
        let Some(target) = sc.tcb.get() else {
            return Err(SysError::IllegalOperation.into());
        };
        let (t, caller) = (self.at(target), self.at(args.thread));
        if target == args.thread || t.priority.get() > caller.mcp.get() {
            return Err(SysError::IllegalOperation.into());
        }
        self.end_yield_to(r);
        if !self.schedulable(target) || t.queued.get() == 0 {
            // It cannot run, or runs on another core.
            return Ok(self.answer_consumed(args.thread, r));
        }
        self.dequeue(target);
        let here = t.core.get() == caller.core.get();
        if here && t.priority.get() >= caller.priority.get() && self.schedulable(args.thread) {
            caller.yield_to.set(Some(r));
            caller.kind.set(thread_kind::YIELDED);
            sc.yield_from.set(Some(args.thread));
            self.core.current.set(None);
            self.enqueue(args.thread, true);
            self.enqueue(target, true);
            self.choose_again();
            self.set_message_register(args.thread, 0, 0);
            Ok(1)
        } else {
            self.enqueue(target, true);
            Ok(self.answer_consumed(args.thread, r))
        }
    }

    /// The thread that yielded to `r` does not wait for it any more, and learns what it consumed.
    pub(crate) fn end_yield_to(&self, r: Ref<SchedContext>) {
        if let Some(t) = self.at(r).yield_from.get() {
            self.answer_consumed(t, r);
            self.cancel_yield_to(t);
        }
    }

    /// As `end_yield_to`, for the thread that waits.
    pub(crate) fn complete_yield_to(&self, t: Ref<Tcb>) {
        match self.at(t).yield_to.get() {
            Some(r) => self.end_yield_to(r),
            None => self.at(t).kind.set(thread_kind::USER),
        }
    }

    /// Forgets that `t` yielded.
    pub(crate) fn cancel_yield_to(&self, t: Ref<Tcb>) {
        if let Some(r) = self.at(t).yield_to.take() {
            self.at(r).yield_from.set(None);
            self.at(t).kind.set(thread_kind::USER);
        }
    }

    /// The last capability to a scheduling context goes.
    pub(crate) fn finalise_sched_context(&self, r: Ref<SchedContext>) {
        self.unbind_all(r);
        self.unpostpone(r);
        for core in &self.g.cores {
            if core.current_sc.is(r) {
                core.current_sc.set(None);
                core.deadline.set(0);
            }
        }
    }
}
