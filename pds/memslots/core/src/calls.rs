// SPDX-License-Identifier: BSD-2-Clause
//! The server's side of `partita_guest_protocol::memslots`.

use crate::{Answer as Page, Error, FrameSize, Kernel, MemSlots, PoolStats, Stats, Step, Waiting};
use partita_guest_protocol::channel::Peer;
use partita_guest_protocol::memslots as protocol;
use partita_guest_protocol::memslots::{Refusal, Source, WRITE};
use partita_guest_protocol::{Answer, Words, answer};
use partita_papr::{Gfn, GuestReal, PAGE_SHIFT};

/// The guest's files, as they are mapped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Images<'a> {
    /// Kernel.
    pub kernel: &'a [u8],
    /// Initrd; empty if there is none.
    pub initrd: &'a [u8],
}

/// What is loaded where no file is meant.
static ZEROS: [u8; 1 << PAGE_SHIFT] = [0; 1 << PAGE_SHIFT];

impl<K: Kernel> MemSlots<'_, K> {
    /// Serves a call of `peer`.
    #[inline]
    pub fn call(&mut self, images: &Images<'_>, peer: Peer, label: u64, words: &Words) -> Answer {
        let [a, b, ..] = *words;
        match label {
            protocol::REQUEST => with_gfn(a, |gfn| {
                page(self.request(gfn, b as u32 & 0xff, b & WRITE != 0))
            }),
            protocol::ZERO => with_gfn(a, |gfn| page(self.zero(gfn, b as u32 & 0xff))),
            protocol::COPY => with_gfn(a, |to| with_gfn(b, |from| page(self.copy(to, from)))),
            _ if peer.manages() => self.manage(images, label, words),
            _ => Answer::label(answer::INVALID),
        }
    }

    #[inline(never)]
    fn manage(&mut self, images: &Images<'_>, label: u64, words: &Words) -> Answer {
        let [a, b, c, d, ..] = *words;
        match label {
            protocol::SET_REGION => {
                let (Ok(id), Ok(flags)) = (u16::try_from(a), u8::try_from(d)) else {
                    return Answer::label(answer::INVALID);
                };
                change(self.set_region(id, b, c, flags))
            }
            protocol::ADVANCE => change(self.advance()),
            protocol::ABORT => change(self.abort()),
            protocol::LOAD => match Source::from_word(a) {
                Some(source) => self.load_step(images, source, b, c, d),
                None => Answer::label(answer::INVALID),
            },
            protocol::STATS => stats(&self.stats(), a),
            protocol::RECLAIM_BEGIN => with_gfn(a, |gfn| match self.reclaim_begin(gfn) {
                Ok((first, end)) => Answer::ok([first.get(), end]),
                Err(error) => refused(error),
            }),
            protocol::RECLAIM_FINISH => with_gfn(a, |gfn| change(self.reclaim_finish(gfn))),
            protocol::RECLAIM_CANCEL => with_gfn(a, |gfn| match self.reclaim_cancel(gfn) {
                Ok(()) => Answer::ok([]),
                Err(error) => refused(error),
            }),
            protocol::RECLAIM_BY_FORCE => with_gfn(a, |gfn| change(self.reclaim_by_force(gfn))),
            _ => Answer::label(answer::INVALID),
        }
    }

    /// Copies what one call copies at most.
    fn load_step(
        &mut self,
        images: &Images<'_>,
        source: Source,
        offset: u64,
        to: u64,
        bytes: u64,
    ) -> Answer {
        let step = bytes.min(protocol::LOAD_STEP);
        if GuestReal::new(to).is_none() || to.checked_add(step).is_none() {
            return page(Page::Refused);
        }
        let file = match source {
            Source::Kernel => images.kernel,
            Source::Initrd => images.initrd,
            Source::Zeros => return self.load_zeros(to, step),
        };
        let piece = usize::try_from(offset)
            .ok()
            .and_then(|offset| file.get(offset..)?.get(..step as usize));
        let Some(piece) = piece else {
            return page(Page::Refused);
        };
        Answer::new(page(self.load(to, piece)).label, [step])
    }

    fn load_zeros(&mut self, to: u64, bytes: u64) -> Answer {
        let mut done = 0;
        while done < bytes {
            let now = (bytes - done).min(ZEROS.len() as u64);
            let answer = self.load(to + done, ZEROS.get(..now as usize).unwrap_or(&ZEROS));
            if answer != Page::Ready {
                return page(answer);
            }
            done += now;
        }
        Answer::ok([bytes])
    }
}

#[inline]
fn with_gfn(word: u64, f: impl FnOnce(Gfn) -> Answer) -> Answer {
    match Gfn::new(word) {
        Some(gfn) => f(gfn),
        None => page(Page::Refused),
    }
}

#[inline]
fn page(answer: Page) -> Answer {
    Answer::label(match answer {
        Page::Ready => protocol::READY,
        Page::Busy => protocol::BUSY,
        Page::Refused => protocol::REFUSED,
    })
}

fn change(result: Result<Step, Error>) -> Answer {
    match result {
        Ok(step) => protocol_step(step).to_answer(),
        Err(error) => refused(error),
    }
}

fn protocol_step(step: Step) -> protocol::Step {
    match step {
        Step::Done => protocol::Step::Done,
        Step::Restored => protocol::Step::Restored,
        Step::Flush { first, end } => protocol::Step::Flush {
            first: first.get(),
            end,
        },
        Step::NotYet(Waiting::Nobody) => protocol::Step::Again,
        Step::NotYet(Waiting::Reader(number)) => protocol::Step::Reader(number as u64),
        Step::NotYet(Waiting::Pinned(gfn)) => protocol::Step::Pinned(gfn.get()),
        Step::NotYet(Waiting::Failed) => protocol::Step::Failed,
    }
}

fn refused(error: Error) -> Answer {
    let (refusal, word) = match error {
        Error::Alignment => (Refusal::Alignment, 0),
        Error::Range => (Refusal::Range, 0),
        Error::Flags => (Refusal::Flags, 0),
        Error::Overlap(id) => (Refusal::Overlap, u64::from(id)),
        Error::Changed => (Refusal::Changed, 0),
        Error::NoSlot => (Refusal::NoSlot, 0),
        Error::TooManySlots => (Refusal::TooManySlots, 0),
        Error::NoPageWords => (Refusal::NoPageWords, 0),
        Error::InProgress => (Refusal::InProgress, 0),
        Error::NoChange => (Refusal::NoChange, 0),
    };
    Answer::new(refusal.label(), [word])
}

fn stats(stats: &Stats, which: u64) -> Answer {
    if which == protocol::STATS_SLOTS {
        let Stats {
            slots,
            held,
            foreign,
            mapped,
            busy,
            page_shift,
            frames: _,
        } = *stats;
        let shift = page_shift.into();
        return Answer::ok([slots as u64, held, foreign, mapped, busy, shift]);
    }
    let number = usize::try_from(which - 1).unwrap_or(usize::MAX);
    match (FrameSize::ALL.get(number), stats.frames.get(number)) {
        (Some(size), Some(pool)) => {
            let PoolStats {
                total,
                free,
                committed,
            } = *pool;
            Answer::ok([size.bytes(), total, free, committed])
        }
        _ => Answer::label(answer::INVALID),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::tests::with;
    use partita_guest_protocol::memslots::{LOAD_STEP, Step};
    use std::vec;

    const MEMORY: u64 = 1 << 20;

    fn words<const N: usize>(given: [u64; N]) -> Words {
        Answer::ok(given).words
    }

    /// Only those who manage the guest change its slots.
    #[test]
    fn servers_may_only_ask_for_pages() {
        with([0, 16, 0], 16, 16, |server, _| {
            let images = Images::default();
            let create = words([0, 0, MEMORY, 0]);
            for peer in [Peer::Hpt(0), Peer::Vpa(1), Peer::Serial, Peer::Guest] {
                for label in protocol::SET_REGION..=protocol::RECLAIM_BY_FORCE {
                    let answer = server.call(&images, peer, label, &create);
                    assert_eq!(answer, Answer::label(answer::INVALID));
                }
            }
            let answer = server.call(&images, Peer::Vcpu, protocol::SET_REGION, &create);
            assert_eq!(answer, Step::Done.to_answer());
            let request = words([3, 12 | WRITE]);
            let answer = server.call(&images, Peer::Hpt(0), protocol::REQUEST, &request);
            assert_eq!(answer, Answer::label(protocol::READY));
            let answer = server.call(&images, Peer::Control, 99, &request);
            assert_eq!(answer, Answer::label(answer::INVALID));
        });
    }

    /// A file arrives in bounded steps, at any alignment, and not a byte from behind its end.
    #[test]
    fn files_are_loaded_in_steps() {
        with([0, 16, 0], 16, 16, |server, _| {
            let kernel = vec![7; LOAD_STEP as usize + 5];
            let images = Images {
                kernel: &kernel,
                initrd: &[],
            };
            server.set_region(0, 0, MEMORY, 0).unwrap();
            let mut load = |source: Source, offset: u64, to: u64, bytes: u64| {
                let request = words([source as u64, offset, to, bytes]);
                server.call(&images, Peer::Vcpu, protocol::LOAD, &request)
            };
            let all = kernel.len() as u64;
            assert_eq!(load(Source::Kernel, 0, 100, all), Answer::ok([LOAD_STEP]));
            assert_eq!(
                load(Source::Kernel, LOAD_STEP, 100 + LOAD_STEP, 5),
                Answer::ok([5])
            );
            assert_eq!(load(Source::Zeros, 0, 3, 1 << 40), Answer::ok([LOAD_STEP]));
            for (source, offset, to, bytes) in [
                (Source::Kernel, all - 1, 0, 2),
                (Source::Kernel, u64::MAX, 0, 2),
                (Source::Initrd, 0, 0, 1),
                (Source::Zeros, 0, MEMORY - 1, 2),
                (Source::Zeros, 0, u64::MAX, 2),
            ] {
                let answer = load(source, offset, to, bytes);
                assert_eq!(
                    answer.label,
                    protocol::REFUSED,
                    "{source:?} {offset:#x} {to:#x}"
                );
            }
        });
    }

    #[test]
    fn refusals_and_statistics() {
        with([0, 16, 0], 16, 16, |server, _| {
            let images = Images::default();
            let mut call =
                |label, given: [u64; 4]| server.call(&images, Peer::Control, label, &words(given));
            let refused = |refusal: Refusal, word| Answer::new(refusal.label(), [word]);
            assert_eq!(
                call(protocol::SET_REGION, [0, 1, MEMORY, 0]),
                refused(Refusal::Alignment, 0)
            );
            assert_eq!(
                call(protocol::SET_REGION, [1 << 16, 0, MEMORY, 0]),
                Answer::label(answer::INVALID)
            );
            assert_eq!(
                call(protocol::SET_REGION, [9, 0, MEMORY, 0]),
                Answer::ok([0])
            );
            assert_eq!(
                call(protocol::SET_REGION, [0, 0, MEMORY, 0]),
                refused(Refusal::Overlap, 9)
            );
            assert_eq!(
                call(protocol::ADVANCE, [0; 4]),
                refused(Refusal::NoChange, 0)
            );
            assert_eq!(call(protocol::ZERO, [17, 12, 0, 0]), Answer::ok([]));
            assert_eq!(
                call(protocol::STATS, [0; 4]),
                Answer::ok([1, 1, 0, 1, 0, 16])
            );
            let medium = Answer::ok([0x1_0000, 16, 15, 16]);
            assert_eq!(call(protocol::STATS, [2, 0, 0, 0]), medium);
            assert_eq!(call(protocol::STATS, [4, 0, 0, 0]).label, answer::INVALID);
            assert_eq!(
                call(protocol::RECLAIM_BEGIN, [17, 0, 0, 0]),
                Answer::ok([16, 32])
            );
            let busy = call(protocol::REQUEST, [17, 12, 0, 0]);
            assert_eq!(busy, Answer::label(protocol::BUSY));
            let done = call(protocol::RECLAIM_FINISH, [17, 0, 0, 0]);
            assert_eq!(done, Step::Done.to_answer());
            let done = call(protocol::RECLAIM_BY_FORCE, [17, 0, 0, 0]);
            assert_eq!(done, Step::Done.to_answer());
            assert_eq!(
                call(protocol::RECLAIM_BY_FORCE, [1 << 20, 0, 0, 0]),
                refused(Refusal::NoSlot, 0)
            );
            assert_eq!(
                call(protocol::RECLAIM_CANCEL, [u64::MAX, 0, 0, 0]),
                Answer::label(protocol::REFUSED)
            );
        });
    }
}
