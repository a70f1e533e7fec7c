// SPDX-License-Identifier: BSD-2-Clause
//! Notifications.

use crate::cap::{ADDR_MASK, Cap, TYPE_SHIFT, tag};
use crate::error::Outcome;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{Notification, NotificationState, Ref, Slot, Tcb, ThreadState};
use crate::waiting::{link_by_priority, unlink_by_priority};
use partita_abi::MessageInfo;

impl<M: Machine> Kernel<'_, M> {
    /// Delivers badge bits (seL4: sendSignal).
    #[inline]
    pub(crate) fn signal(&self, ntfn_ref: Ref<Notification>, badge: u64) {
        let ntfn = self.at(ntfn_ref);
        if ntfn.state.get() == NotificationState::Active as u64 {
            ntfn.badge.set(ntfn.badge.get() | badge);
            return;
        }
        if let Some(t) = ntfn.head.get() {
            self.unqueue_from_notification(t, ntfn);
            self.deliver(t, ntfn, badge);
            return;
        }
        if let Some(t) = ntfn.bound_tcb.get()
            && self.state(t) == ThreadState::BlockedOnReceive
        {
            self.leave_receive(t);
            self.deliver(t, ntfn, badge);
            return;
        }
        ntfn.state.set(NotificationState::Active as u64);
        ntfn.badge.set(badge);
    }

    fn deliver(&self, t: Ref<Tcb>, ntfn: &Notification, badge: u64) {
        self.set_signalled(t, badge);
        self.set_state(t, ThreadState::Running);
        self.lend_sched_context(ntfn, t);
        self.make_ready(t);
    }

    /// Takes the bits of an active notification into `t`'s registers; false if there are none.
    pub(crate) fn take_signal(&self, t: Ref<Tcb>, ntfn_ref: Ref<Notification>) -> bool {
        let ntfn = self.at(ntfn_ref);
        if ntfn.state.get() != NotificationState::Active as u64 {
            return false;
        }
        ntfn.state.set(NotificationState::Idle as u64);
        self.set_signalled(t, ntfn.badge.take());
        self.lend_sched_context(ntfn, t);
        true
    }

    /// Waits for a notification (seL4: receiveSignal).
    pub(crate) fn wait(&self, t: Ref<Tcb>, ntfn_ref: Ref<Notification>, blocking: bool) {
        self.at(ntfn_ref).home.set(self.at(t).core.get());
        if self.take_signal(t, ntfn_ref) {
            return;
        }
        if !blocking {
            self.set_received(t, 0, MessageInfo::default());
            return;
        }
        let ntfn = self.at(ntfn_ref);
        let tcb = self.at(t);
        self.make_unready(t);
        self.set_state(t, ThreadState::BlockedOnNotification);
        tcb.blocked_on.set(ntfn_ref.addr());
        self.return_sched_context(ntfn_ref, t);
        link_by_priority(self, t, &ntfn.head, &ntfn.tail);
        ntfn.state.set(NotificationState::Waiting as u64);
    }

    pub(crate) fn unqueue_from_notification(&self, t: Ref<Tcb>, ntfn: &Notification) {
        unlink_by_priority(self, t, &ntfn.head, &ntfn.tail);
        self.at(t).blocked_on.set(0);
        if ntfn.head.is_none() {
            ntfn.state.set(NotificationState::Idle as u64);
        }
    }

    /// Everybody who waits repeats the system call. Preemptible.
    fn cancel_all_signals(&self, ntfn_ref: Ref<Notification>) -> Outcome {
        let ntfn = self.at(ntfn_ref);
        while let Some(t) = ntfn.head.get() {
            self.cancel_ipc(t, true);
            self.set_state(t, ThreadState::Restart);
            self.make_ready(t);
            if !ntfn.head.is_none() {
                self.preemption_point()?;
            }
        }
        Ok(())
    }

    /// Binds a notification to a thread.
    pub(crate) fn bind_notification(&self, t: Ref<Tcb>, ntfn: Ref<Notification>) {
        self.at(t).bound_notification.set(Some(ntfn));
        self.at(ntfn).bound_tcb.set(Some(t));
        if let Some(sc) = self.at(ntfn).sched_context.get() {
            self.holder_changed(sc);
        }
    }

    /// Ends the binding of a thread's notification.
    pub(crate) fn unbind_notification(&self, t: Ref<Tcb>) {
        if let Some(ntfn) = self.at(t).bound_notification.take() {
            self.at(ntfn).bound_tcb.set(None);
        }
    }

    /// The last capability to a notification goes. Preemptible.
    pub(crate) fn finalise_notification(&self, ntfn_ref: Ref<Notification>) -> Outcome {
        let ntfn = self.at(ntfn_ref);
        if let Some(sc) = ntfn.sched_context.get() {
            self.unbind_sc_notification(sc);
        }
        if let Some(t) = ntfn.bound_tcb.take() {
            self.at(t).bound_notification.set(None);
        }
        self.cancel_all_signals(ntfn_ref)
    }

    /// Signals through the capability in `slot`, if it is one that may.
    pub(crate) fn signal_slot(&self, slot: &Slot) {
        let w0 = slot.w0.get();
        if w0 >> TYPE_SHIFT == tag::VCPU {
            // The timer inside a VCPU, without decoding.
            if let Some(vcpu) = Ref::new(w0 & ADDR_MASK) {
                self.wake_vcpu(vcpu);
            }
        } else if let Cap::Notification {
            ntfn,
            badge,
            rights,
        } = slot.cap()
            && rights.contains(partita_abi::CapRights::WRITE)
        {
            self.signal(ntfn, badge);
        }
    }
}
