// SPDX-License-Identifier: BSD-2-Clause
//! Endpoints: sending, receiving and the transfer of messages.

use crate::cap::Cap;
use crate::error::{LookupFailure, Outcome};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::object::{
    Endpoint, EndpointState, Notification, Ref, Reply, Slot, Tcb, ThreadState, send_flags,
};
use crate::waiting::{link_by_priority, unlink_by_priority};
use partita_abi::{
    CapRights, FaultLabel, IpcBufferLayout, MessageInfo, address_space as space, fault, syscall,
};

/// General registers of the system call interface.
pub(crate) mod reg {
    pub const NUMBER: usize = 0;
    pub const CAP: usize = 3;
    pub const MR0: usize = 4;
    pub const INFO: usize = 12;
    pub const REPLY: usize = 14;
    pub const DEST: usize = 15;
}

const FAST: usize = space::FAST_MESSAGE_REGISTERS;

/// What a sender may do, from its capability and system call.
#[derive(Clone, Copy)]
pub(crate) struct Send {
    pub badge: u64,
    pub flags: u64,
    pub blocking: bool,
    /// The receiver may run on the sender's scheduling context.
    pub donate: bool,
}

impl<M: Machine> Kernel<'_, M> {
    /// Message register `i` of a thread; `None` if it has no IPC buffer for it.
    pub(crate) fn message_register(&self, t: Ref<Tcb>, i: usize) -> Option<u64> {
        let tcb = self.at(t);
        if i < FAST {
            return Some(tcb.context.gpr[reg::MR0 + i].get());
        }
        match tcb.ipc_buffer.get() {
            0 => None,
            buffer => Some(
                self.m
                    .read_word(buffer + 8 * (IpcBufferLayout::MSG + i) as u64),
            ),
        }
    }

    /// Sets message register `i` of a thread; false if it has no place for it.
    pub(crate) fn set_message_register(&self, t: Ref<Tcb>, i: usize, value: u64) -> bool {
        let tcb = self.at(t);
        if i < FAST {
            tcb.context.gpr[reg::MR0 + i].set(value);
            return true;
        }
        match tcb.ipc_buffer.get() {
            0 => false,
            // What is behind the buffer is somebody else's memory.
            _ if i >= space::MAX_MESSAGE_REGISTERS => false,
            buffer => {
                self.m
                    .write_word(buffer + 8 * (IpcBufferLayout::MSG + i) as u64, value);
                true
            }
        }
    }

    pub(crate) fn set_received(&self, t: Ref<Tcb>, badge: u64, info: MessageInfo) {
        let gpr = &self.at(t).context.gpr;
        gpr[reg::CAP].set(badge);
        gpr[reg::INFO].set(info.0);
        gpr[reg::NUMBER].set(0);
        // Nothing of the receiver's past beyond the length, as on the fast path.
        for i in 0..FAST {
            if i >= info.length() as usize {
                gpr[reg::MR0 + i].set(0);
            }
        }
    }

    /// A thread receives a notification's bits instead of a message.
    #[inline(always)]
    pub(crate) fn set_signalled(&self, t: Ref<Tcb>, badge: u64) {
        let gpr = &self.at(t).context.gpr;
        gpr[reg::CAP].set(badge);
        gpr[reg::INFO].set(0);
        gpr[reg::NUMBER].set(0);
        // Eight stores; a call of memset takes several times as long.
        let zero = core::hint::black_box(0);
        for r in &gpr[reg::MR0..reg::MR0 + FAST] {
            r.set(zero);
        }
    }

    /// Takes a thread that waits to receive out of its endpoint's queue.
    #[inline]
    pub(crate) fn leave_receive(&self, t: Ref<Tcb>) {
        let tcb = self.at(t);
        if let Some(ep) = Ref::<Endpoint>::new(tcb.blocked_on.get()) {
            self.unqueue(t, self.at(ep));
        }
        if let Some(reply) = tcb.reply.take() {
            self.at(reply).tcb.set(None);
        }
    }

    /// Sends from `sender` through an endpoint (seL4: sendIPC).
    pub(crate) fn send_ipc(&self, sender: Ref<Tcb>, ep_ref: Ref<Endpoint>, send: Send) {
        let ep = self.at(ep_ref);
        if !ep.is(EndpointState::Receive) {
            if send.blocking {
                let s = self.at(sender);
                self.make_unready(sender);
                self.set_state(sender, ThreadState::BlockedOnSend);
                s.blocked_on.set(ep_ref.addr());
                s.send_badge.set(send.badge);
                s.send_flags.set(send.flags);
                if send.badge == ep.cancel_badge.get() {
                    ep.cancel_next.set(None);
                }
                link_by_priority(self, sender, &ep.head, &ep.tail);
                ep.enter(EndpointState::Send);
            }
            return;
        }
        let Some(receiver) = ep.head.get() else {
            return;
        };
        self.unqueue(receiver, ep);
        self.transfer(
            sender,
            Some(ep_ref),
            send.badge,
            send.flags & send_flags::GRANT != 0,
            receiver,
        );
        let r = self.at(receiver);
        let reply = r.reply.take();
        if let Some(reply) = reply {
            self.at(reply).tcb.set(None);
        }
        self.set_state(receiver, ThreadState::Running);
        let wants_reply =
            send.flags & send_flags::CALL != 0 || self.at(sender).fault_label.get() != 0;
        if wants_reply {
            match reply {
                Some(reply) if send.flags & send_flags::GRANT_REPLY != 0 => {
                    let grant = send.flags & send_flags::GRANT != 0;
                    self.push_reply(sender, receiver, reply, send.donate, grant);
                }
                _ => {
                    self.make_unready(sender);
                    self.give_up_call(sender);
                }
            }
        } else if send.donate
            && r.sched_context.is_none()
            && let Some(sc) = self.at(sender).sched_context.get()
        {
            if self.at(sc).owner.is(sender) {
                // No answer brings it back: it is the receiver's from now on.
                self.set_owner(sc, Some(receiver));
            }
            self.donate(sc, receiver);
        }
        self.make_ready(receiver);
    }

    /// Receives on an endpoint (seL4: receiveIPC).
    pub(crate) fn receive_ipc(
        &self,
        receiver: Ref<Tcb>,
        ep_ref: Ref<Endpoint>,
        can_grant: bool,
        reply: Option<Ref<Reply>>,
        blocking: bool,
    ) {
        let r = self.at(receiver);
        if let Some(reply) = reply {
            let object = self.at(reply);
            if let Some(other) = object.tcb.get()
                && other != receiver
            {
                // The reply object is taken from whoever waits with it or for it.
                self.cancel_ipc(other, true);
                self.give_back_time(other);
            }
            object.home.set(r.core.get());
        }
        if let Some(ntfn) = r.bound_notification.get() {
            self.at(ntfn).home.set(r.core.get());
            if self.take_signal(receiver, ntfn) {
                return;
            }
            if blocking {
                self.return_sched_context(ntfn, receiver);
            }
        }
        if blocking {
            self.give_back_time(receiver);
        }
        let ep = self.at(ep_ref);
        ep.receive_from(self.at(receiver).core.get());
        if !ep.is(EndpointState::Send) {
            if blocking {
                self.make_unready(receiver);
                self.set_state(receiver, ThreadState::BlockedOnReceive);
                r.blocked_on.set(ep_ref.addr());
                r.send_flags
                    .set(if can_grant { send_flags::GRANT } else { 0 });
                r.reply.set(reply);
                if let Some(reply) = reply {
                    self.at(reply).tcb.set(Some(receiver));
                }
                link_by_priority(self, receiver, &ep.head, &ep.tail);
                ep.enter(EndpointState::Receive);
            } else {
                self.set_received(receiver, 0, MessageInfo::default());
            }
            return;
        }
        let Some(sender) = ep.head.get() else { return };
        self.unqueue(sender, ep);
        let s = self.at(sender);
        let flags = s.send_flags.get();
        self.transfer(
            sender,
            Some(ep_ref),
            s.send_badge.get(),
            flags & send_flags::GRANT != 0,
            receiver,
        );
        let wants_reply = flags & send_flags::CALL != 0 || s.fault_label.get() != 0;
        if wants_reply {
            match reply {
                Some(reply) if flags & send_flags::GRANT_REPLY != 0 => {
                    let donate = s.fault_label.get() != FaultLabel::Timeout as u64;
                    self.push_reply(
                        sender,
                        receiver,
                        reply,
                        donate,
                        flags & send_flags::GRANT != 0,
                    );
                }
                _ => self.give_up_call(sender),
            }
        } else {
            self.set_state(sender, ThreadState::Running);
            self.make_ready(sender);
        }
        if r.sched_context.is_none() {
            // The message came without time.
            self.make_ready(receiver);
        }
    }

    /// Nobody will answer `caller`'s call or fault: it stops, and repeats the call when it is resumed.
    pub(crate) fn give_up_call(&self, caller: Ref<Tcb>) {
        if self.at(caller).fault_label.get() == 0 {
            self.take_back_call(caller);
        }
        self.at(caller).fault_label.set(0);
        self.set_state(caller, ThreadState::Inactive);
        self.give_back_time(caller);
    }

    /// Takes a thread out of an endpoint's queue.
    fn unqueue(&self, t: Ref<Tcb>, ep: &Endpoint) {
        if ep.cancel_next.is(t) {
            ep.cancel_next.set(self.at(t).queue_next.get());
        }
        unlink_by_priority(self, t, &ep.head, &ep.tail);
        self.at(t).blocked_on.set(0);
        if ep.head.is_none() {
            ep.enter(EndpointState::Idle);
        }
    }

    /// Changes the priority of a thread that is in no ready queue. One that waits keeps its place by priority.
    pub(crate) fn requeue_blocked(&self, t: Ref<Tcb>, priority: u64) {
        let tcb = self.at(t);
        let addr = tcb.blocked_on.get();
        let queue = match self.state(t) {
            ThreadState::BlockedOnReceive | ThreadState::BlockedOnSend => {
                Ref::<Endpoint>::new(addr).map(|ep| {
                    let ep = self.at(ep);
                    ep.cancel_next.set(None);
                    (&ep.head, &ep.tail)
                })
            }
            ThreadState::BlockedOnNotification => Ref::<Notification>::new(addr).map(|ntfn| {
                let ntfn = self.at(ntfn);
                (&ntfn.head, &ntfn.tail)
            }),
            _ => None,
        };
        if let Some((head, tail)) = queue {
            unlink_by_priority(self, t, head, tail);
        }
        tcb.priority.set(priority);
        if let Some((head, tail)) = queue {
            link_by_priority(self, t, head, tail);
        }
    }

    /// Copies a message, or the sender's pending fault, to the receiver (seL4: doIPCTransfer).
    pub(crate) fn transfer(
        &self,
        sender: Ref<Tcb>,
        ep: Option<Ref<Endpoint>>,
        badge: u64,
        grant: bool,
        receiver: Ref<Tcb>,
    ) {
        let s = self.at(sender);
        if s.fault_label.get() != 0 {
            // Of a vCPU's thread only the end of its budget is a fault.
            let length = self.fault_message(sender, receiver);
            let info = MessageInfo::new(s.fault_label.get(), 0, 0, length as u64);
            self.set_received(receiver, badge, info);
            return;
        }
        if let Some(v) = self.vcpu_of(sender) {
            self.transfer_exit(self.at(v), badge, receiver);
            return;
        }
        let info = MessageInfo(s.context.gpr[reg::INFO].get());
        let mut length = (info.length() as usize).min(space::MAX_MESSAGE_REGISTERS);
        if length <= FAST && info.extra_caps() == 0 {
            // Most messages: what `set_received` does, too, in one go.
            let (from, to) = (&s.context.gpr, &self.at(receiver).context.gpr);
            to[reg::CAP].set(badge);
            to[reg::INFO].set(MessageInfo::new(info.label(), 0, 0, length as u64).0);
            to[reg::NUMBER].set(0);
            for i in 0..FAST {
                let word = from[reg::MR0 + i].get();
                to[reg::MR0 + i].set(if i < length { word } else { 0 });
            }
            return;
        }
        for i in 0..length {
            let copied = match self.message_register(sender, i) {
                Some(word) => self.set_message_register(receiver, i, word),
                None => false,
            };
            if !copied {
                length = i;
                break;
            }
        }
        let (extra, unwrapped) = match grant && info.extra_caps() != 0 {
            true => self.transfer_caps(sender, info.extra_caps(), ep, receiver),
            false => (0, 0),
        };
        let info = MessageInfo::new(info.label(), unwrapped, extra, length as u64);
        self.set_received(receiver, badge, info);
    }

    /// Transfers capabilities; returns how many and which were unwrapped to badges.
    #[inline(never)]
    fn transfer_caps(
        &self,
        sender: Ref<Tcb>,
        count: u64,
        ep: Option<Ref<Endpoint>>,
        receiver: Ref<Tcb>,
    ) -> (u64, u64) {
        let (from, to) = (
            self.at(sender).ipc_buffer.get(),
            self.at(receiver).ipc_buffer.get(),
        );
        if from == 0 || to == 0 {
            return (0, 0);
        }
        let word = |buffer: u64, i: usize| buffer + 8 * i as u64;
        // All are looked up first: if one leads nowhere, none travels.
        let mut sources = [None; space::MAX_EXTRA_CAPS];
        for (i, source) in sources.iter_mut().enumerate().take(count as usize) {
            let at = IpcBufferLayout::CAPS_OR_BADGES + i;
            match self.lookup_slot(sender, self.m.read_word(word(from, at))) {
                Ok(slot) => *source = Some(slot),
                Err(_) => return (0, 0),
            }
        }
        let mut slot = self.receive_slot(receiver, to);
        let mut unwrapped = 0;
        for (i, source) in (0..count).zip(sources.into_iter().flatten()) {
            let at = IpcBufferLayout::CAPS_OR_BADGES + i as usize;
            let cap = self.at(source).cap();
            match cap {
                Cap::Endpoint {
                    ep: other, badge, ..
                } if Some(other) == ep => {
                    self.m.write_word(word(to, at), badge);
                    unwrapped |= 1 << i;
                }
                _ => {
                    let Some(dest) = slot.take() else {
                        return (i, unwrapped);
                    };
                    let Ok(derived) = self.derive(source, cap) else {
                        return (i, unwrapped);
                    };
                    if derived.is_null() {
                        return (i, unwrapped);
                    }
                    self.insert(&derived, source, dest);
                }
            }
        }
        (count, unwrapped)
    }

    /// The empty slot that a receiver set aside for a capability.
    fn receive_slot(&self, receiver: Ref<Tcb>, buffer: u64) -> Option<Ref<Slot>> {
        let word = |i: usize| self.m.read_word(buffer + 8 * i as u64);
        let root = self
            .lookup_slot(receiver, word(IpcBufferLayout::RECEIVE_CNODE))
            .ok()?;
        let slot = self
            .lookup_target(
                self.at(root).cap(),
                word(IpcBufferLayout::RECEIVE_INDEX),
                word(IpcBufferLayout::RECEIVE_DEPTH),
                false,
            )
            .ok()?;
        if self.at(slot).is_empty() {
            Some(slot)
        } else {
            None
        }
    }

    /// Ends a thread's blocked IPC. With `restart_later` the thread is left inactive, its program
    /// counter on the system call that it was blocked in, so that resuming it repeats the call.
    pub(crate) fn cancel_ipc(&self, t: Ref<Tcb>, restart_later: bool) {
        let tcb = self.at(t);
        let state = self.state(t);
        let mut in_syscall = true;
        match state {
            ThreadState::BlockedOnReceive | ThreadState::BlockedOnSend => {
                if let Some(ep) = Ref::<Endpoint>::new(tcb.blocked_on.get()) {
                    self.unqueue(t, self.at(ep));
                }
                if state == ThreadState::BlockedOnReceive {
                    if let Some(reply) = tcb.reply.take() {
                        self.at(reply).tcb.set(None);
                        // What was left of the call: the fast path does not keep its number.
                        tcb.context.gpr[reg::NUMBER].set(syscall::RECV as u64);
                    }
                } else if tcb.fault_label.get() != 0 {
                    tcb.fault_label.set(0);
                    in_syscall = false;
                }
            }
            ThreadState::BlockedOnNotification => {
                if let Some(ntfn) = Ref::<Notification>::new(tcb.blocked_on.get()) {
                    self.unqueue_from_notification(t, self.at(ntfn));
                }
            }
            ThreadState::BlockedOnReply => {
                if tcb.fault_label.get() != 0 {
                    tcb.fault_label.set(0);
                    in_syscall = false;
                } else if restart_later && self.vcpu_of(t).is_none() {
                    // The fast path does not keep the number.
                    tcb.context.gpr[reg::NUMBER].set(syscall::CALL as u64);
                }
                self.cut_reply(t);
            }
            _ => return,
        }
        if restart_later {
            if in_syscall {
                self.take_back_call(t);
            }
            self.set_state(t, ThreadState::Inactive);
        }
    }

    /// A call is given up: when the thread goes on, it makes the same call again.
    fn take_back_call(&self, t: Ref<Tcb>) {
        match self.vcpu_of(t) {
            Some(v) => self.cancel_exit(t, v),
            None => self.rewind(t),
        }
    }

    /// Puts a thread's program counter back on its system call.
    pub(crate) fn rewind(&self, t: Ref<Tcb>) {
        let pc = &self.at(t).context.pc;
        pc.set(pc.get().wrapping_sub(4));
    }

    /// Everybody who waits at an endpoint repeats the system call; a fault stops there. Preemptible.
    pub(crate) fn cancel_all_ipc(&self, ep_ref: Ref<Endpoint>) -> Outcome {
        let ep = self.at(ep_ref);
        while let Some(t) = ep.head.get() {
            self.restart_sender(t);
            if !ep.head.is_none() {
                self.preemption_point()?;
            }
        }
        Ok(())
    }

    /// The senders with `badge` repeat their system calls. Preemptible: the endpoint keeps the place.
    pub(crate) fn cancel_badged_sends(&self, ep_ref: Ref<Endpoint>, badge: u64) -> Outcome {
        let ep = self.at(ep_ref);
        if !ep.is(EndpointState::Send) {
            return Ok(());
        }
        let mut next = ep.head.get();
        if ep.cancel_badge.replace(badge) == badge && !ep.cancel_next.is_none() {
            next = ep.cancel_next.get();
        }
        while let Some(t) = next {
            next = self.at(t).queue_next.get();
            ep.cancel_next.set(next);
            if self.at(t).send_badge.get() == badge {
                self.restart_sender(t);
            }
            if next.is_some() {
                self.preemption_point()?;
            }
        }
        Ok(())
    }

    fn restart_sender(&self, t: Ref<Tcb>) {
        let faulted = self.at(t).fault_label.get() != 0;
        self.cancel_ipc(t, true);
        if faulted {
            // Its fault has no handler any more: the thread stays where it is.
            self.give_back_time(t);
            return;
        }
        self.set_state(t, ThreadState::Restart);
        self.make_ready(t);
    }

    /// Answers the caller that waits on a reply object (seL4: doReplyTransfer).
    pub(crate) fn reply_transfer(&self, sender: Ref<Tcb>, reply: Ref<Reply>, grant: bool) {
        let Some(receiver) = self.at(reply).tcb.get() else {
            return;
        };
        if self.state(receiver) != ThreadState::BlockedOnReply {
            return;
        }
        self.pop_reply(reply, receiver);
        let r = self.at(receiver);
        if r.fault_label.get() == 0
            && let Some(v) = self.vcpu_of(receiver)
        {
            self.vcpu_reply(receiver, v, sender);
            return;
        }
        if r.fault_label.get() == 0 {
            self.transfer(sender, None, 0, grant, receiver);
            self.set_state(receiver, ThreadState::Running);
        } else {
            let restart = self.fault_reply(receiver, sender);
            r.fault_label.set(0);
            self.set_state(
                receiver,
                if restart {
                    ThreadState::Restart
                } else {
                    ThreadState::Inactive
                },
            );
        }
        if self.runnable(receiver) {
            self.make_ready(receiver);
        } else {
            self.give_back_time(receiver);
        }
    }

    /// A thread's fault becomes a message to its handler; without one the thread stops.
    pub fn fault_of(&self, t: Ref<Tcb>, label: FaultLabel, words: &[u64]) {
        let tcb = self.at(t);
        let index = match label {
            FaultLabel::Timeout => crate::object::tcb_slot::TIMEOUT,
            _ => crate::object::tcb_slot::FAULT,
        };
        let handler = self.at(self.tcb_slot(t, index)).cap();
        tcb.fault_label.set(label as u64);
        for (to, from) in tcb.fault_words.iter().zip(words) {
            to.set(*from);
        }
        match handler {
            Cap::Endpoint { ep, badge, rights }
                if rights.contains(CapRights::WRITE)
                    && (rights.contains(CapRights::GRANT)
                        || rights.contains(CapRights::GRANT_REPLY)) =>
            {
                let grant = rights.contains(CapRights::GRANT);
                let flags = send_flags::GRANT_REPLY | if grant { send_flags::GRANT } else { 0 };
                let donate = label != FaultLabel::Timeout && !tcb.sched_context.is_none();
                self.make_unready(t);
                self.send_ipc(
                    t,
                    ep,
                    Send {
                        badge,
                        flags,
                        blocking: true,
                        donate,
                    },
                );
            }
            _ => {
                tcb.fault_label.set(0);
                self.make_unready(t);
                self.set_state(t, ThreadState::Inactive);
                self.give_back_time(t);
            }
        }
    }

    /// The running thread faulted.
    pub fn fault(&self, label: FaultLabel, words: &[u64]) {
        if let Some(t) = self.current() {
            self.fault_of(t, label, words);
        }
    }

    /// A capability pointer of the running thread led nowhere.
    pub(crate) fn cap_fault(&self, t: Ref<Tcb>, cptr: u64, receiving: bool, why: LookupFailure) {
        // The fault is of the system call: its address is the sc instruction, and the thread repeats
        // it when the handler answers.
        self.rewind(t);
        let w = why.words();
        let ip = self.at(t).context.pc.get();
        self.fault_of(
            t,
            FaultLabel::CapFault,
            &[ip, cptr, u64::from(receiving), w[0], w[1], w[2], w[3]],
        );
    }

    /// Writes the message of `t`'s pending fault to `receiver`; returns its length.
    #[inline(never)]
    fn fault_message(&self, t: Ref<Tcb>, receiver: Ref<Tcb>) -> usize {
        let tcb = self.at(t);
        let c = &tcb.context;
        let words = &tcb.fault_words;
        let length = match FaultLabel::from_number(tcb.fault_label.get()) {
            Some(FaultLabel::CapFault) => fault::cap_fault::LENGTH,
            Some(FaultLabel::VMFault) => fault::vm_fault::LENGTH,
            Some(FaultLabel::Timeout) => fault::timeout::LENGTH,
            Some(FaultLabel::UserException) => fault::user_exception::LENGTH,
            Some(FaultLabel::UnknownSyscall) => {
                use fault::unknown_syscall as w;
                for i in 0..8 {
                    self.set_message_register(receiver, w::R3 + i, c.gpr[3 + i].get());
                }
                let tail = [
                    (w::FAULT_IP, c.pc.get()),
                    (w::SP, c.gpr[1].get()),
                    (w::LR, c.lr.get()),
                    (w::MSR, c.msr.get()),
                    (w::SYSCALL, c.gpr[reg::NUMBER].get()),
                ];
                for (i, word) in tail {
                    if !self.set_message_register(receiver, i, word) {
                        return FAST;
                    }
                }
                return w::LENGTH;
            }
            _ => 0,
        };
        for (i, word) in words.iter().enumerate().take(length) {
            self.set_message_register(receiver, i, word.get());
        }
        length
    }

    /// Applies the answer to a fault; whether the thread goes on (seL4: handleFaultReply).
    fn fault_reply(&self, faulted: Ref<Tcb>, handler: Ref<Tcb>) -> bool {
        let tcb = self.at(faulted);
        let info = MessageInfo(self.at(handler).context.gpr[reg::INFO].get());
        let length = info.length() as usize;
        let c = &tcb.context;
        let word = |i: usize| {
            if i < length {
                self.message_register(handler, i)
            } else {
                None
            }
        };
        match FaultLabel::from_number(tcb.fault_label.get()) {
            Some(FaultLabel::UnknownSyscall) => {
                use fault::unknown_syscall as w;
                for i in 0..8 {
                    if let Some(v) = word(w::R3 + i) {
                        c.gpr[3 + i].set(v);
                    }
                }
                for (i, cell) in [(w::FAULT_IP, &c.pc), (w::SP, &c.gpr[1]), (w::LR, &c.lr)] {
                    if let Some(v) = word(i) {
                        cell.set(v);
                    }
                }
                info.label() == 0
            }
            Some(FaultLabel::UserException) => {
                use fault::user_exception as w;
                for (i, cell) in [(w::FAULT_IP, &c.pc), (w::SP, &c.gpr[1])] {
                    if let Some(v) = word(i) {
                        cell.set(v);
                    }
                }
                info.label() == 0
            }
            Some(FaultLabel::Timeout) => info.label() == 0,
            _ => true,
        }
    }
}
