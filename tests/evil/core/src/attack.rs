// SPDX-License-Identifier: BSD-2-Clause
//! The course of an attack.

use crate::holding::{Kind, Place};
use crate::random_call::{Call, Way};
use crate::report::{Figures, Slot};
use core::mem::MaybeUninit;
use partita_abi::{MessageInfo, ReplyAction, syscall};
use sel4::arch;
use sel4_microkit::FastReply;
use testkit::Random;

/// Calls of an attack, or a few more: 120,000, or what the environment of the compilation says in `EVIL_CALLS`.
pub const TARGET: u64 = match option_env!("EVIL_CALLS") {
    Some(text) => match u64::from_str_radix(text, 10) {
        Ok(calls) => calls,
        Err(_) => panic!("EVIL_CALLS is no number"),
    },
    None => 120_000,
};
/// Calls of the first part: five of six.
pub const GENTLE: u64 = TARGET / 6 * 5;
/// Calls of the last stage.
const LAST: u64 = 2_000;
/// Calls behind one event in the first part.
const BURST: u64 = 64;
/// Events that are served before the attack begins, so that the guest is on its way.
const PRELUDE: u64 = 32;
/// In the second part, calls between two messages that are received and answered.
const RECEIVE_EVERY: u64 = 64;

/// How far an attack goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// What would end the guest is left out.
    Gentle,
    /// Anything, but messages without time for those who answer them.
    Wild,
    /// Messages without time to them too; no more calls.
    Last,
}

/// What is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A guest's hypercall.
    Hypercall,
    /// Another exit of a guest.
    Exit,
    /// A call of a protection domain.
    Call,
}

/// An attack on the way.
pub struct Attack {
    place: Place,
    random: Random,
    slot: Slot,
    figures: Figures,
}

impl Attack {
    /// An attack from `place`, which nobody has noticed yet.
    pub fn new(place: Place, slot: Slot) -> Self {
        let figures = Figures {
            seed: slot.seed,
            ..Figures::default()
        };
        slot.report.set(&figures);
        Attack {
            place,
            random: Random::new(slot.seed),
            slot,
            figures,
        }
    }

    /// Whether the first part goes on: until every attacker is through with it, since the guest does not
    /// survive the second.
    pub fn is_gentle(&self) -> bool {
        self.figures.calls < GENTLE || !self.slot.all_have(GENTLE)
    }

    /// Whether the attack is over.
    pub fn is_done(&self) -> bool {
        self.figures.done
    }

    /// Behind an event of the guest: a burst, and, once the first part is over, all the rest. Returns
    /// what is really answered instead of `honest`.
    pub fn event(&mut self, event: Event, honest: FastReply) -> FastReply {
        self.figures.events += 1;
        let begun = self.figures.events > PRELUDE && !self.figures.done;
        if begun {
            if self.is_gentle() {
                self.burst();
                self.figures.gentle_events = self.figures.events;
            }
            // Its answer to this event may be the last that the guest gets.
            if !self.is_gentle() {
                self.finish();
            }
        }
        self.slot.report.set(&self.figures);
        if begun && self.random.chance(1, 4) {
            self.figures.lies += 1;
            return self.lie(event, honest);
        }
        honest
    }

    /// The second part.
    pub fn finish(&mut self) {
        self.calls((TARGET - GENTLE).saturating_sub(LAST), Stage::Wild);
        self.calls(LAST, Stage::Last);
        self.figures.done = true;
        self.slot.report.set(&self.figures);
    }

    /// Some calls of the first part, unless it has made them all and waits for another attacker.
    pub fn burst(&mut self) {
        if self.figures.calls < GENTLE {
            self.calls(BURST, Stage::Gentle);
        }
    }

    fn calls(&mut self, count: u64, stage: Stage) {
        for i in 0..count {
            if stage != Stage::Gentle && i % RECEIVE_EVERY == RECEIVE_EVERY - 1 {
                self.receive();
            }
            let call = self.place.next_call(&mut self.random, stage);
            if perform(&call) {
                self.figures.accepted += 1;
            }
            self.figures.calls += 1;
            if i % 256 == 0 {
                self.slot.report.set(&self.figures);
            }
        }
    }

    /// Takes a message out of turn, which gives up the caller that waits for an answer, and answers with
    /// noise through the reply object itself.
    fn receive(&mut self) {
        let (Some(input), Some(reply)) = (
            self.place.of(Kind::Input).next(),
            self.place.of(Kind::Reply).next(),
        ) else {
            return;
        };
        arch::recv(syscall::NB_RECV, input.first, reply.first);
        let words = [(); 8].map(|()| MaybeUninit::new(self.random.word()));
        let info = MessageInfo::new(self.random.word() >> 12, 0, 0, self.random.below(9));
        arch::send(syscall::NB_SEND, reply.first, info.0, words);
    }

    /// An answer that is not the right one. As long as another attacker has calls to make it is one that the
    /// kernel understands: the guest stops with any other.
    fn lie(&mut self, event: Event, honest: FastReply) -> FastReply {
        let done = self.slot.all_are_done();
        let r = &mut self.random;
        let mut words = [(); 8].map(|()| r.word());
        if done {
            return FastReply::new(r.word() >> 12, words);
        }
        let action = |action: ReplyAction| (action as u64) << 48;
        match event {
            // The guest's calls are only as good as its servers.
            Event::Call => honest,
            Event::Exit | Event::Hypercall => match r.below(4) {
                0 => FastReply::new(action(ReplyAction::Yield), []),
                1 if event == Event::Hypercall => {
                    FastReply::new(action(ReplyAction::Idle), [words[0]])
                }
                2 => {
                    words[4] = r.pick(&[0x300, 0x400, 0x500, 0x700, 0x900, 0xc00, 0xe40]);
                    words[5] &= 0x783f_0000;
                    FastReply::new(action(ReplyAction::Inject), words)
                }
                _ if event == Event::Hypercall => {
                    let status = r.word() & ((1 << 48) - 1);
                    FastReply::new(action(ReplyAction::Resume) | status, words)
                }
                _ => honest,
            },
        }
    }
}

/// Makes the call; whether it was an invocation that the kernel carried out.
fn perform(call: &Call) -> bool {
    let mut fast = arch::NO_WORDS;
    for (to, from) in fast.iter_mut().zip(&call.words) {
        *to = MaybeUninit::new(*from);
    }
    sel4::with_ipc_buffer_mut(|buffer| {
        let slow = buffer.msg_regs_mut().iter_mut().skip(fast.len());
        for (to, from) in slow.zip(call.words.iter().skip(fast.len())) {
            *to = *from;
        }
        for (to, from) in buffer.caps_or_badges_mut().iter_mut().zip(&call.caps) {
            *to = *from;
        }
    });
    let info = MessageInfo::new(call.label, 0, call.extra, call.length).0;
    match call.way {
        Way::Call => MessageInfo(arch::call(call.cptr, info, fast).info).label() == 0,
        Way::NbSend => {
            arch::send(syscall::NB_SEND, call.cptr, info, fast);
            false
        }
    }
}
