// SPDX-License-Identifier: BSD-2-Clause
//! Calls of `vcpu` and `control` (`partita_guest_protocol::vpa`).

use crate::pd::Pd;
use partita_guest_protocol::{Answer, Words, answer, vpa};
use partita_vpa::{Invalid, Pages, Progress};

/// Serves one call.
pub(crate) fn serve(server: &mut Pd, label: u64, words: &Words) -> Answer {
    let [a, b, c, d, ..] = *words;
    match label {
        vpa::RELEASE => progress(server.release(pages(a, b), from(c))),
        vpa::HARVEST_DIRTY => progress(server.harvest_dirty(pages(a, b), from(c))),
        vpa::UNREGISTER_ALL => match server.vcpu(a) {
            Some(vcpu) => progress(server.unregister_all(vcpu)),
            None => Answer::label(answer::INVALID),
        },
        vpa::GET => value(server.get(a, b)),
        vpa::SET => value(server.set(a, b, [c, d]).map(|()| [])),
        _ => Answer::label(answer::INVALID),
    }
}

fn pages(first: u64, count: u64) -> Pages {
    Pages { first, count }
}

/// A vCPU to begin with; one that is out of range is behind the last.
fn from(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn progress(progress: Progress) -> Answer {
    Answer::ok(match progress {
        Progress::Done => [vpa::DONE, 0],
        Progress::More(next) => [vpa::MORE, next.into()],
        Progress::NotYet(vcpu) => [vpa::NOT_YET, vcpu.number().into()],
    })
}

fn value<const N: usize>(result: Result<[u64; N], Invalid>) -> Answer {
    let invalid = match result {
        Ok(words) => return Answer::ok(words),
        Err(Invalid::Vcpu) => vpa::Invalid::Vcpu,
        Err(Invalid::Id) => vpa::Invalid::Id,
        Err(Invalid::Alignment) => vpa::Invalid::Alignment,
        Err(Invalid::Length) => vpa::Invalid::Length,
        Err(Invalid::CrossesPage) => vpa::Invalid::CrossesPage,
        Err(Invalid::NoSlot) => vpa::Invalid::NoSlot,
        Err(Invalid::NeedsVpa) => vpa::Invalid::NeedsVpa,
        Err(Invalid::InUse) => vpa::Invalid::InUse,
    };
    Answer::label(invalid.label())
}
