// SPDX-License-Identifier: BSD-2-Clause
//! Exits as the kernel sends them, and answers as it takes them.

use partita_abi::{GuestExit, ReplyAction as Action};
use partita_vcpu::{Exit, ReplyAction};
use sel4_microkit::FastReply;

/// A hypercall's status is in these bits of the label, the action above them.
const ACTION_SHIFT: u32 = 48;

const fn label(action: Action) -> u64 {
    (action as u64) << ACTION_SHIFT
}

/// The message of an answer. `first` are the words that an injection leaves in r4 to r7 when it
/// answers a hypercall: what is there.
#[inline(always)]
pub(crate) fn message(action: ReplyAction, first: [u64; 4]) -> FastReply {
    match action {
        ReplyAction::Resume { status, words } => {
            let label = status as u64 & ((1 << ACTION_SHIFT) - 1);
            match *words.as_slice() {
                [] => FastReply::new(label, []),
                [a] => FastReply::new(label, [a]),
                [a, b] => FastReply::new(label, [a, b]),
                [a, b, c, ..] => FastReply::new(label, [a, b, c]),
            }
        }
        ReplyAction::Inject(i) => {
            let [a, b, c, d] = first;
            let words = [a, b, c, d, i.vector, i.srr1_bits, i.dar, i.dsisr];
            FastReply::new(label(Action::Inject), words)
        }
        ReplyAction::Yield => FastReply::new(label(Action::Yield), []),
        ReplyAction::Idle => FastReply::new(label(Action::Idle), []),
        ReplyAction::Stop => FastReply::new(label(Action::Stop), []),
    }
}

/// What an exit to the parent means. `None`: the guest just goes on.
pub(crate) fn exit(number: u64, words: &[u64; 8]) -> Option<Exit> {
    let [a, _, c, d, e, ..] = *words;
    Some(match GuestExit::from_number(number)? {
        GuestExit::None => return None,
        GuestExit::Hypercall => Exit::UnroutedHypercall { number: a },
        GuestExit::Paused => Exit::Paused,
        GuestExit::Entry => return None,
        GuestExit::EmulationAssist => Exit::EmulationAssistance,
        GuestExit::FacilityUnavailable => Exit::FacilityUnavailable { cause: c as u8 },
        GuestExit::MachineCheck => Exit::MachineCheck {
            srr1: c,
            dar: d,
            dsisr: e,
        },
        GuestExit::SystemReset => Exit::Host,
        GuestExit::BadReply => Exit::MalformedReply,
        // A storage fault comes here only if nobody has the guest's memory.
        GuestExit::HptDead | GuestExit::DataStorage | GuestExit::InstructionStorage => {
            Exit::HptDead
        }
        GuestExit::SoftPatch | GuestExit::Other => Exit::Other,
    })
}
