// SPDX-License-Identifier: BSD-2-Clause
//! Ready queues, processor time and the choice of what runs next.
//!
//! Time is kept per scheduling context: a periodic refill (docs/KERNEL.md says where that differs
//! from seL4's sporadic one). It is charged only when the core changes to another scheduling
//! context, so a call and its reply, which run on one, never read the clock.

use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{
    Core, Link, Ref, SchedContext, Tcb, ThreadState, entry, reschedule, tcb_slot, thread_kind,
};
use crate::queue;
use partita_abi::{FaultLabel, limits};

impl<M: Machine> Kernel<'_, M> {
    pub(crate) fn state(&self, t: Ref<Tcb>) -> ThreadState {
        ThreadState::from_number(self.at(t).state.get())
    }

    pub(crate) fn set_state(&self, t: Ref<Tcb>, state: ThreadState) {
        self.at(t).state.set(state as u64);
    }

    /// Whether the thread wants to run, whatever its time.
    pub(crate) fn runnable(&self, t: Ref<Tcb>) -> bool {
        matches!(self.state(t), ThreadState::Running | ThreadState::Restart)
    }

    /// Whether the thread can run now.
    pub(crate) fn schedulable(&self, t: Ref<Tcb>) -> bool {
        self.runnable(t)
            && match self.follow(&self.at(t).sched_context) {
                Some(sc) => sc.in_release_queue.get() == 0 && sc.period.get() != 0,
                None => false,
            }
    }

    /// Adds a thread to its core's ready queue.
    pub(crate) fn enqueue(&self, t: Ref<Tcb>, front: bool) {
        let tcb = self.at(t);
        if tcb.queued.get() != 0 {
            return;
        }
        let core = self.core_state(tcb.core.get());
        let p = tcb.priority.get() as usize & (crate::object::PRIORITIES - 1);
        let (head, tail) = (&core.ready_head[p], &core.ready_tail[p]);
        tcb.queued.set(1);
        match (head.get(), tail.get()) {
            (Some(first), Some(_)) if front => {
                tcb.queue_prev.set(None);
                tcb.queue_next.set(Some(first));
                self.at(first).queue_prev.set(Some(t));
                head.set(Some(t));
            }
            (Some(_), Some(last)) => {
                tcb.queue_next.set(None);
                tcb.queue_prev.set(Some(last));
                self.at(last).queue_next.set(Some(t));
                tail.set(Some(t));
            }
            _ => {
                tcb.queue_next.set(None);
                tcb.queue_prev.set(None);
                head.set(Some(t));
                tail.set(Some(t));
                let word = &core.ready_bits[p / 64];
                word.set(word.get() | 1 << (p % 64));
                if p as u64 + 1 > core.ready_top.get() {
                    core.ready_top.set(p as u64 + 1);
                }
            }
        }
        if !core::ptr::eq(core, self.core) {
            core.reschedule.set(reschedule::CHOOSE);
            let better = match self.follow(&core.current) {
                Some(c) => c.priority.get() < tcb.priority.get(),
                None => true,
            };
            if better {
                self.m.kick(core.id.get() as usize);
            }
        }
    }

    /// Takes a thread out of its core's ready queue.
    pub(crate) fn dequeue(&self, t: Ref<Tcb>) {
        let tcb = self.at(t);
        if tcb.queued.get() == 0 {
            return;
        }
        tcb.queued.set(0);
        let core = self.core_state(tcb.core.get());
        let p = tcb.priority.get() as usize & (crate::object::PRIORITIES - 1);
        unlink(self, t, &core.ready_head[p], &core.ready_tail[p]);
        if core.ready_head[p].is_none() {
            let word = &core.ready_bits[p / 64];
            word.set(word.get() & !(1 << (p % 64)));
            core.ready_top.set(highest(core));
        }
    }

    /// A thread became runnable: it runs at the end of this kernel entry if it is the best.
    ///
    /// One without a scheduling context gets that of the notification it is bound to, if nobody runs on it:
    /// a passive thread does not depend on where it was when its time was taken.
    pub(crate) fn make_ready(&self, t: Ref<Tcb>) {
        let tcb = self.at(t);
        if tcb.sched_context.is_none()
            && self.runnable(t)
            && let Some(ntfn) = self.follow(&tcb.bound_notification)
        {
            self.lend_sched_context(ntfn, t);
        }
        if !self.schedulable(t) || tcb.queued.get() != 0 || self.core.current.is(t) {
            return;
        }
        if self.running_elsewhere(t).is_some() {
            return;
        }
        if tcb.core.get() == self.core.id.get() && self.core.candidate.is_none() {
            self.core.candidate.set(Some(t));
        } else if !self.core.candidate.is(t) {
            self.enqueue(t, false);
            self.choose_again();
        }
    }

    /// The scheduler must look at the queues at the end of this kernel entry.
    pub(crate) fn choose_again(&self) {
        if self.core.reschedule.get() == 0 {
            self.core.reschedule.set(reschedule::CHOOSE);
        }
    }

    /// Takes a thread out of whatever makes it run; its state is the caller's business.
    pub(crate) fn make_unready(&self, t: Ref<Tcb>) {
        self.dequeue(t);
        if self.core.candidate.is(t) {
            self.core.candidate.set(None);
        }
        if self.core.current.is(t) {
            self.choose_again();
        } else if let Some(core) = self.running_elsewhere(t) {
            self.vacate(core);
        }
    }

    /// The other core that runs a thread, if one does.
    #[inline]
    pub(crate) fn running_elsewhere(&self, t: Ref<Tcb>) -> Option<&Core> {
        let id = self.at(t).core.get();
        if id == self.core.id.get() {
            return None;
        }
        let core = self.core_state(id);
        core.current.is(t).then_some(core)
    }

    /// Takes the running thread off another core, which chooses anew as soon as it can. What the thread
    /// has come into the kernel for meanwhile has not begun: it does it again when it goes on.
    fn vacate(&self, core: &Core) {
        self.m.stop_core(core.id.get() as usize);
        if let Some(t) = core.current.take()
            && core.entry.replace(entry::NONE) == entry::CALL
        {
            self.rewind(t);
        }
        self.charge_on(core);
        if let Some(v) = self.follow(&core.current_sc).and_then(|sc| sc.vcpu.get()) {
            self.note_dispatch(v, false, core.charged_from.get());
        }
        core.current_sc.set(None);
        core.deadline.set(0);
        core.reschedule.set(reschedule::CHOOSE);
    }

    /// If another core runs a thread, takes it off there, so that its registers can be used or what it runs
    /// with can change; it is ready to go on.
    pub(crate) fn pull(&self, t: Ref<Tcb>) {
        if let Some(core) = self.running_elsewhere(t) {
            self.vacate(core);
            if self.schedulable(t) {
                self.enqueue(t, true);
            }
        }
    }

    /// If another core runs a thread, makes that core look at what the thread runs with.
    pub(crate) fn nudge(&self, t: Ref<Tcb>) {
        if let Some(core) = self.running_elsewhere(t) {
            core.reschedule.set(reschedule::CHOOSE);
            self.m.kick(core.id.get() as usize);
        }
    }

    /// Ends a kernel entry: afterwards `core.current` is what runs.
    pub fn finish(&self) {
        if let Some(c) = self.current()
            && self.at(c).sched_context.is_none()
        {
            self.make_ready(c);
        }
        if let Some(c) = self.current()
            && self.at(c).core.get() != self.core.id.get()
        {
            // Its scheduling context, or a new one, belongs to another core: it goes on there.
            self.core.current.set(None);
            self.make_ready(c);
        }
        loop {
            let current = self.current();
            let current_ok = match current {
                Some(c) => self.schedulable(c),
                None => false,
            };
            let again = self.core.reschedule.get();
            if current_ok && again == 0 && self.core.candidate.is_none() {
                if self.may_enter(current) {
                    break;
                }
                // It waits for its server now: what was true of it a moment ago is not any more.
                continue;
            }
            self.core.reschedule.set(0);
            let next = self.choose(if current_ok { current } else { None }, again);
            self.core.current.set(next);
            if let Some(t) = next
                && self.at(t).kind.get() == thread_kind::YIELDED
            {
                self.complete_yield_to(t);
            }
            if self.switch_time(next) && self.may_enter(next) {
                break;
            }
        }
        if self.core.deadline.get() == 0 {
            self.program_deadline();
        }
    }

    /// A guest's processor has checks of its own before it goes on; one that fails leaves it blocked.
    fn may_enter(&self, t: Option<Ref<Tcb>>) -> bool {
        match t.and_then(|t| Some((t, self.vcpu_of(t)?))) {
            Some((t, vcpu)) => self.prepare_entry(t, vcpu),
            None => true,
        }
    }

    fn choose(&self, current: Option<Ref<Tcb>>, again: u64) -> Option<Ref<Tcb>> {
        let priority = |t: Ref<Tcb>| self.at(t).priority.get();
        let mut best = current;
        if again == reschedule::ROTATE
            && let Some(c) = best.take()
        {
            self.enqueue(c, false);
        }
        if let Some(c) = self.core.candidate.take()
            && self.schedulable(c)
        {
            match best {
                Some(b) if priority(b) >= priority(c) => self.enqueue(c, false),
                Some(b) => {
                    self.enqueue(b, true);
                    best = Some(c);
                }
                None => best = Some(c),
            }
        }
        let top = self.core.ready_top.get();
        let queued_is_better = match best {
            Some(b) => top > priority(b) + 1,
            None => top > 0,
        };
        if queued_is_better {
            if let Some(b) = best {
                self.enqueue(b, true);
            }
            best = self.core.ready_head[(top - 1) as usize & 255].get();
            if let Some(b) = best {
                self.dequeue(b);
            }
        }
        best
    }

    /// Moves the charging of time to the next thread's scheduling context. False if that one has no
    /// budget left: it waits in the release queue then, and another choice must be made.
    fn switch_time(&self, next: Option<Ref<Tcb>>) -> bool {
        let next_sc = match next {
            Some(t) => self.at(t).sched_context.get(),
            None => None,
        };
        if self.core.current_sc.get() == next_sc && next_sc.is_some() {
            return true;
        }
        self.charge();
        let now = self.core.charged_from.get();
        if let Some(r) = next_sc {
            let sc = self.at(r);
            if now >= sc.replenish_at.get() {
                replenish(sc, now);
            }
            let grace = match next {
                Some(t) if self.has_grace(t, sc) => self.grace(),
                _ => 0,
            };
            if sc.remaining.get() <= -grace && !self.next_turn(r, now) {
                self.core.current.set(None);
                if let Some(v) = self
                    .follow(&self.core.current_sc)
                    .and_then(|sc| sc.vcpu.get())
                {
                    self.note_dispatch(v, false, now);
                }
                self.core.current_sc.set(None);
                return false;
            }
        }
        let vcpu_of = |sc: Option<Ref<SchedContext>>| sc.and_then(|sc| self.at(sc).vcpu.get());
        if let Some(v) = vcpu_of(self.core.current_sc.get()) {
            self.note_dispatch(v, false, now);
        }
        if let Some(v) = vcpu_of(next_sc) {
            self.note_dispatch(v, true, now);
        }
        self.core.current_sc.set(next_sc);
        self.core.deadline.set(0);
        true
    }

    /// Charges the time since the last charge to the current scheduling context.
    pub(crate) fn charge(&self) {
        self.charge_on(self.core);
    }

    /// [`Self::charge`] for any core.
    fn charge_on(&self, core: &Core) {
        let now = self.m.now();
        if let Some(sc) = self.follow(&core.current_sc) {
            let used = now.saturating_sub(core.charged_from.get());
            sc.remaining
                .set(sc.remaining.get().saturating_sub_unsigned(used));
            sc.consumed.set(sc.consumed.get().wrapping_add(used));
        }
        core.charged_from.set(now);
    }

    /// If a core runs on a scheduling context, charges it there and has that core set its timer anew.
    pub(crate) fn charge_user(&self, r: Ref<SchedContext>) {
        if let Some(core) = self.g.cores.iter().find(|c| c.current_sc.is(r)) {
            self.charge_on(core);
            core.deadline.set(0);
            if !core::ptr::eq(core, self.core) {
                self.m.kick(core.id.get() as usize);
            }
        }
    }

    /// Puts a scheduling context without budget into the release queue.
    fn postpone(&self, r: Ref<SchedContext>) {
        let sc = self.at(r);
        if sc.in_release_queue.get() != 0 {
            return;
        }
        if let Some(t) = sc.tcb.get() {
            self.make_unready(t);
        }
        sc.in_release_queue.set(1);
        let core = self.core_state(sc.core.get());
        self.enter_queue(&core.release, r, sc.replenish_at.get());
        core.deadline.set(0);
    }

    /// Takes a scheduling context out of the release queue.
    pub(crate) fn unpostpone(&self, r: Ref<SchedContext>) {
        let sc = self.at(r);
        if sc.in_release_queue.get() == 0 {
            return;
        }
        sc.in_release_queue.set(0);
        let core = self.core_state(sc.core.get());
        self.leave_queue(&core.release, r);
    }

    /// The deadline of this core passed, or an earlier one than it thinks.
    pub fn timer_interrupt(&self) {
        self.charge();
        let now = self.core.charged_from.get();
        self.core.deadline.set(0);
        if !self.core.release.first.is_none() {
            self.release(now);
        }
        self.expire_timers(now);
        if let (Some(t), Some(sc)) = (self.current(), self.core.current_sc.get()) {
            let context = self.at(sc);
            let left = context.remaining.get();
            if left <= 0 {
                if self.has_grace(t, context) && left > -self.grace() {
                    // Its answer takes the slow path, which looks at the time.
                    self.at(t).cspace_epoch.set(u64::MAX);
                } else {
                    self.budget_expired(t, sc, now);
                }
            }
        }
    }

    /// Ends the waiting of scheduling contexts whose time has come. What is too much for one interrupt is left to the
    /// next, which comes at once.
    #[inline(never)]
    fn release(&self, now: u64) {
        for _ in 0..queue::AT_ONCE {
            let Some(r) = self.core.release.first.get() else {
                break;
            };
            let sc = self.at(r);
            if sc.replenish_at.get() > now {
                break;
            }
            self.unpostpone(r);
            replenish(sc, now);
            if sc.remaining.get() <= 0 {
                if sc.budget.get() == sc.period.get() {
                    // What was charged after it began to wait is waited for, too, and paid for by
                    // that: a round has no period that would end by itself.
                    let owed = sc.remaining.replace(0).unsigned_abs();
                    sc.replenish_at.set(now.saturating_add(owed));
                }
                self.postpone(r);
            } else if let Some(t) = sc.tcb.get() {
                self.make_ready(t);
            }
        }
    }

    /// Whether the thread runs on time that a caller gave it and has no timeout handler.
    fn has_grace(&self, t: Ref<Tcb>, sc: &SchedContext) -> bool {
        !sc.reply.is_none() && self.at(self.tcb_slot(t, tcb_slot::TIMEOUT)).is_empty()
    }

    /// How long a thread may go on on lent time after the end of the budget, ticks.
    fn grace(&self) -> i64 {
        self.microseconds(limits::DONATION_GRACE_US as u64) as i64
    }

    fn budget_expired(&self, t: Ref<Tcb>, r: Ref<SchedContext>, now: u64) {
        let sc = self.at(r);
        let timeout_handler = !self.at(self.tcb_slot(t, tcb_slot::TIMEOUT)).is_empty();
        if sc.budget.get() != sc.period.get() && timeout_handler {
            let consumed = self.as_microseconds(sc.consumed.get());
            self.fault_of(t, FaultLabel::Timeout, &[sc.badge.get(), consumed]);
        } else if self.next_turn(r, now) {
            self.core.reschedule.set(reschedule::ROTATE);
        }
    }

    /// The budget is used up: starts a new turn, or lets the scheduling context wait in the release queue
    /// (false). What was overrun on lent time is paid for: by waiting, or, where the server has answered and time
    /// is round robin, by a shorter turn if that is enough.
    fn next_turn(&self, r: Ref<SchedContext>, now: u64) -> bool {
        let sc = self.at(r);
        let lent = !sc.reply.is_none();
        let owed = if lent {
            sc.remaining.get().min(0).unsigned_abs()
        } else {
            sc.overrun.get()
        };
        sc.overrun.set(0);
        if sc.budget.get() == sc.period.get() {
            // Its own turn may have taken too long, for want of an interrupt: it is just over.
            sc.remaining.set(0);
            sc.replenish_at.set(now.saturating_add(owed));
            if owed == 0 || !lent && owed < sc.budget.get() {
                replenish(sc, now);
                sc.remaining.set(sc.remaining.get() - owed as i64);
                return true;
            }
        } else {
            let earliest = now.saturating_add(owed);
            sc.replenish_at.set(sc.replenish_at.get().max(earliest));
        }
        self.postpone(r);
        false
    }

    /// Asks the machine for an interrupt at the next event of this core.
    fn program_deadline(&self) {
        let mut at = u64::MAX;
        if let Some(sc) = self.follow(&self.core.current_sc) {
            let left = sc.remaining.get();
            let grace = self.current().is_some_and(|t| self.has_grace(t, sc));
            let left = if left > 0 {
                left as u64
            } else if grace {
                (self.grace() + left).max(0) as u64
            } else {
                0
            };
            at = self.core.charged_from.get().saturating_add(left);
        }
        if let Some(sc) = self.follow(&self.core.release.first) {
            at = at.min(sc.replenish_at.get());
        }
        if let Some(timer) = self.follow(&self.core.timers.first) {
            at = at.min(timer.node.time.get());
        }
        self.core.deadline.set(at);
        self.m.set_deadline(at);
    }

    /// Timebase ticks of so many microseconds.
    pub(crate) fn microseconds(&self, us: u64) -> u64 {
        us.saturating_mul(self.m.timebase_hz() / 1_000_000)
    }

    /// Microseconds of so many timebase ticks.
    pub(crate) fn as_microseconds(&self, ticks: u64) -> u64 {
        ticks / (self.m.timebase_hz() / 1_000_000).max(1)
    }

    /// Yield: the rest of the running thread's budget in this turn is given up.
    pub(crate) fn yield_now(&self) {
        self.charge();
        if let Some(r) = self.core.current_sc.get() {
            let sc = self.at(r);
            self.core.deadline.set(0);
            sc.remaining.set(sc.remaining.get().min(0));
            // What it owes is paid as at any end of a turn.
            if self.next_turn(r, self.core.charged_from.get()) {
                self.core.reschedule.set(reschedule::ROTATE);
            }
        }
    }

    /// Changes a thread's priority.
    pub(crate) fn set_priority(&self, t: Ref<Tcb>, priority: u64) {
        let tcb = self.at(t);
        if tcb.queued.get() != 0 {
            self.dequeue(t);
            tcb.priority.set(priority);
            self.enqueue(t, false);
            self.choose_again();
        } else {
            self.requeue_blocked(t, priority);
            self.nudge(t);
            if self.core.current.is(t) {
                self.choose_again();
            }
        }
    }
}

/// A new turn or period: the budget comes back; an overrun stays charged.
pub(crate) fn replenish(sc: &SchedContext, now: u64) {
    let (budget, period) = (sc.budget.get(), sc.period.get());
    sc.remaining.set(sc.remaining.get().min(0) + budget as i64);
    if budget == period {
        // Round robin: a turn ends when it is used up and not before, whoever else runs meanwhile.
        sc.replenish_at.set(u64::MAX);
        return;
    }
    let next = sc.replenish_at.get().saturating_add(period);
    sc.replenish_at
        .set(if next > now { next } else { now + period });
}

fn highest(core: &Core) -> u64 {
    for (i, word) in core.ready_bits.iter().enumerate().rev() {
        if word.get() != 0 {
            return i as u64 * 64 + 64 - u64::from(word.get().leading_zeros());
        }
    }
    0
}

/// Takes a thread out of a doubly linked queue.
pub(crate) fn unlink<M: Machine>(
    k: &Kernel<'_, M>,
    t: Ref<Tcb>,
    head: &Link<Tcb>,
    tail: &Link<Tcb>,
) {
    let tcb = k.at(t);
    let (prev, next) = (tcb.queue_prev.take(), tcb.queue_next.take());
    match prev {
        Some(p) => k.at(p).queue_next.set(next),
        None => head.set(next),
    }
    match next {
        Some(n) => k.at(n).queue_prev.set(prev),
        None => tail.set(prev),
    }
}
