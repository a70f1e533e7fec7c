// SPDX-License-Identifier: BSD-2-Clause
//! What `memslots`, `hpt` and `vpa` are asked to do at the guest's start and restart. They are not
//! trusted to come to an end: how many calls an operation needs follows from sizes, and what only
//! waits for another core has [`PATIENCE`]. More than that is [`Failed`], as is an answer that
//! makes no sense.

use core::fmt;
use partita_guest_protocol::memslots::{self, Source, Step};
use partita_guest_protocol::{Words, answer, channel, hpt, layout, vpa};
use partita_papr::{HptOrder, PAGE_SHIFT};

/// Ticks of the timebase (512 MHz) that a server may answer "not yet": ten seconds. It waits for an
/// instance of a server on another core to leave a section of some hundred instructions; such an
/// instance can be without its processor for milliseconds (the turns of the others of its priority, or
/// its own overrun of a budget), and for longer if the machine is a simulation on a busy host.
pub const PATIENCE: u64 = 10 * 512_000_000;

/// Protected procedure calls, and the time.
pub trait Calls {
    /// Calls the server on a channel; answers label and words.
    fn call<const N: usize>(&self, channel: usize, label: u64, words: [u64; N]) -> (u64, Words);
    /// Timebase, ticks.
    fn now(&self) -> u64;
}

/// A server did not do what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Whom we asked.
    pub server: &'static str,
    /// What for.
    pub operation: &'static str,
    /// What is wrong.
    pub why: Why,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A refusal, or words that make no sense: the label and the word in question.
    Answer {
        /// Label of the answer.
        label: u64,
        /// The word.
        word: u64,
    },
    /// It has had this many calls, as many as the work can need, and wants more.
    Calls(u64),
    /// It has said "not yet" for [`PATIENCE`].
    Late,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.server, self.operation)?;
        match self.why {
            Why::Answer { label, word } => write!(f, "answer {label:#x}, {word:#x}"),
            Why::Calls(calls) => write!(f, "no end after {calls} calls"),
            Why::Late => write!(f, "not ready after ten seconds"),
        }
    }
}

impl core::error::Error for Failed {}

/// The servers of one guest.
#[derive(Clone, Copy, Debug)]
pub struct Servers<C>(pub C);

/// The operation in progress, for errors.
#[derive(Clone, Copy)]
struct Operation(&'static str, &'static str);

impl Operation {
    fn failed<T>(self, why: Why) -> Result<T, Failed> {
        Err(Failed {
            server: self.0,
            operation: self.1,
            why,
        })
    }

    fn answered<T>(self, label: u64, word: u64) -> Result<T, Failed> {
        self.failed(Why::Answer { label, word })
    }
}

impl<C: Calls> Servers<C> {
    /// Makes slot 0 of all guest memory; the guest has no other slot and does not run, so nothing is
    /// waited for but readers of the slots.
    pub fn create_slot(&self, bytes: u64) -> Result<(), Failed> {
        let operation = Operation("memslots", "slot 0");
        let start = self.0.now();
        let mut answer = self
            .0
            .call(channel::MEMSLOTS, memslots::SET_REGION, [0, 0, bytes, 0]);
        loop {
            let (label, words) = answer;
            match Step::from_words(&words).filter(|_| label == answer::OK) {
                Some(Step::Done) => return Ok(()),
                Some(Step::Again | Step::Reader(_)) => {}
                _ => return operation.answered(label, words[0]),
            }
            self.wait(operation, start)?;
            answer = self.0.call(channel::MEMSLOTS, memslots::ADVANCE, []);
        }
    }

    /// log2 of the largest page that all slots can have.
    pub fn page_shift(&self) -> Result<u64, Failed> {
        let words = [memslots::STATS_SLOTS];
        match self.0.call(channel::MEMSLOTS, memslots::STATS, words) {
            (answer::OK, [_, _, _, _, _, shift, ..]) => Ok(shift),
            (label, [word, ..]) => Operation("memslots", "page sizes").answered(label, word),
        }
    }

    /// Copies `bytes` from `offset` of a file to guest real address `gpa`, in the fewest calls.
    pub fn load(&self, source: Source, offset: u64, gpa: u64, bytes: u64) -> Result<(), Failed> {
        let mut done = 0;
        while done < bytes {
            let rest = bytes - done;
            let words = [source as u64, offset + done, gpa + done, rest];
            let (label, [copied, ..]) = self.0.call(channel::MEMSLOTS, memslots::LOAD, words);
            if label != memslots::READY || copied != rest.min(memslots::LOAD_STEP) {
                return Operation("memslots", "load").answered(label, gpa + done);
            }
            done += copied;
        }
        Ok(())
    }

    /// Empties the hash page table of this order; no vCPU runs. `end` is where guest real addresses
    /// end, bytes: the server goes through a word for each entry and for each page.
    pub fn reset_table(&self, order: u32, end: u64) -> Result<(), Failed> {
        let entries = HptOrder::new(order).map_or(0, HptOrder::entries);
        let words = entries + layout::rmap_bytes(end) / 8;
        let operation = Operation("hpt", "reset");
        self.complete(operation, hpt::RESET, 0, words / hpt::SCAN + 1)
    }

    /// Sets the virtual real mode area up to `bytes`; what is above comes on demand.
    pub fn set_up_vrma(&self, bytes: u64) -> Result<(), Failed> {
        let operation = Operation("hpt", "virtual real mode area");
        let pages = bytes >> PAGE_SHIFT;
        self.complete(operation, hpt::SET_UP_VRMA, bytes, pages / hpt::BATCH + 1)
    }

    /// Makes an operation's calls to `hpt` (any instance, as the table is one); word 0 is the
    /// cursor. `calls` suffice.
    fn complete(
        &self,
        operation: Operation,
        label: u64,
        rest: u64,
        calls: u64,
    ) -> Result<(), Failed> {
        let mut cursor = 0;
        for _ in 0..calls {
            let (status, [next, more, ..]) = self.0.call(channel::HPT, label, [cursor, rest]);
            match more {
                hpt::DONE if status == answer::OK => return Ok(()),
                hpt::MORE if status == answer::OK && next > cursor => cursor = next,
                _ => return operation.answered(status, next),
            }
        }
        operation.failed(Why::Calls(calls))
    }

    /// Has all areas of a vCPU forgotten by all instances of `vpa`, on these channels: any may have
    /// views of them. It is paused or stopped, so an instance only asks for a second call if another
    /// is at work on the same areas.
    pub fn unregister_all(
        &self,
        vcpu: u64,
        instances: impl Iterator<Item = usize> + Clone,
    ) -> Result<(), Failed> {
        let operation = Operation("vpa", "unregister all");
        let start = self.0.now();
        loop {
            let mut done = true;
            for instance in instances.clone() {
                let (label, [progress, who, ..]) =
                    self.0.call(instance, vpa::UNREGISTER_ALL, [vcpu]);
                match progress {
                    vpa::DONE if label == answer::OK => {}
                    vpa::NOT_YET if label == answer::OK => done = false,
                    _ => return operation.answered(label, who),
                }
            }
            if done {
                return Ok(());
            }
            self.wait(operation, start)?;
        }
    }

    fn wait(&self, operation: Operation, start: u64) -> Result<(), Failed> {
        if self.0.now().wrapping_sub(start) > PATIENCE {
            return operation.failed(Why::Late);
        }
        Ok(())
    }
}
