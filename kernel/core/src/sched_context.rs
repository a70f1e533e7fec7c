// SPDX-License-Identifier: BSD-2-Clause
//! SchedControl and SchedContext invocations, YieldTo.

use crate::cap::Cap;
use crate::error::{Outcome, SysError};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Ref, SchedContext, Tcb};
use crate::syscall::Args;
use partita_abi::{InvocationLabel, limits};

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
        self.charge_user(r);
        self.unpostpone(r);
        let now = self.m.now();
        sc.budget.set(self.microseconds(budget_us));
        sc.period.set(self.microseconds(period_us));
        sc.remaining.set(sc.budget.get() as i64);
        sc.replenish_at.set(now.saturating_add(sc.period.get()));
        sc.badge.set(badge);
        sc.flags.set(flags);
        let moved = sc.core.get() != core as u64;
        if let Some(t) = sc.tcb.get() {
            if moved {
                self.make_unready(t);
                self.at(t).core.set(core as u64);
            }
            sc.core.set(core as u64);
            self.make_ready(t);
        } else {
            sc.core.set(core as u64);
        }
        Ok(0)
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
                    sc.notification.set(Some(ntfn));
                    self.at(ntfn).sched_context.set(Some(r));
                }
                _ => return Err(SysError::InvalidCapability(1).into()),
            },
            L::SchedContextUnbind => {
                if sc.tcb.is(args.thread) {
                    return Err(SysError::IllegalOperation.into());
                }
                self.unbind_thread(r);
                self.unbind_sc_notification(r);
                // A loan ends, too: no answer brings it back to the lender.
                if let Some(reply) = sc.reply.take() {
                    self.at(reply).sched_context.set(None);
                }
            }
            L::SchedContextUnbindObject => match self.cap_arg(args, 0)?.1 {
                Cap::Thread(t) if sc.tcb.is(t) && t != args.thread => self.unbind_thread(r),
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

    fn unbind_thread(&self, r: Ref<SchedContext>) {
        if let Some(t) = self.at(r).tcb.get() {
            self.detach_sched_context(t);
        }
    }

    fn unbind_sc_notification(&self, r: Ref<SchedContext>) {
        if let Some(ntfn) = self.at(r).notification.take() {
            self.at(ntfn).sched_context.set(None);
        }
    }

    fn answer_consumed(&self, thread: Ref<Tcb>, r: Ref<SchedContext>) -> usize {
        self.charge_user(r);
        let ticks = self.at(r).consumed.replace(0);
        self.set_message_register(thread, 0, self.as_microseconds(ticks));
        1
    }

    /// Lets the thread of `r` run before the caller where the priorities allow it.
    fn yield_to(&self, r: Ref<SchedContext>, args: &Args) -> Outcome<usize> {
        let sc = self.at(r);
        let Some(target) = sc.tcb.get() else {
            return Err(SysError::IllegalOperation.into());
        };
        if target == args.thread || !self.at(args.thread).yield_to.is_none() {
            return Err(SysError::IllegalOperation.into());
        }
        let caller = self.at(args.thread);
        if self.at(target).priority.get() > caller.mcp.get() {
            return Err(SysError::IllegalOperation.into());
        }
        let same = self.at(target).priority.get() >= caller.priority.get();
        if self.schedulable(target) && same && self.at(target).core.get() == caller.core.get() {
            self.dequeue(target);
            self.enqueue(target, true);
            if self.core.current.is(args.thread) {
                self.core.reschedule.set(crate::object::reschedule::ROTATE);
            }
        }
        Ok(self.answer_consumed(args.thread, r))
    }

    pub(crate) fn cancel_yield_to(&self, t: Ref<Tcb>) {
        self.at(t).yield_to.set(None);
    }

    /// The last capability to a scheduling context goes.
    pub(crate) fn finalise_sched_context(&self, r: Ref<SchedContext>) {
        let sc = self.at(r);
        self.unpostpone(r);
        self.unbind_thread(r);
        self.unbind_sc_notification(r);
        if let Some(reply) = sc.reply.take() {
            self.at(reply).sched_context.set(None);
        }
        for core in &self.g.cores {
            if core.current_sc.is(r) {
                core.current_sc.set(None);
                core.deadline.set(0);
            }
        }
    }
}
