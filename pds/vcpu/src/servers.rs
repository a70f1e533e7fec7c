// SPDX-License-Identifier: BSD-2-Clause
//! Calls to `memslots`, `hpt` and `vpa`.

use core::fmt;
use partita_guest_protocol::memslots::{self, Source, Step};
use partita_guest_protocol::{answer, channel, hpt, vpa};
use partita_papr::{Gfn, PAGE_SHIFT};
use sel4_microkit::{Channel, MessageInfo, var};

/// A server did not do what it was asked to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    server: &'static str,
    operation: &'static str,
    label: u64,
    word: u64,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed {
            server,
            operation,
            label,
            word,
        } = self;
        write!(f, "{server}: {operation}: answer {label:#x}, {word:#x}")
    }
}

impl core::error::Error for Failed {}

fn call<const N: usize>(id: usize, label: u64, words: [u64; N]) -> (u64, [u64; 8]) {
    let (info, answer) = Channel::new(id).pp_call_mrs(MessageInfo::new(label, N), words);
    (info.label(), answer)
}

/// `memslots`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memslots;

impl Memslots {
    fn failed<T>(operation: &'static str, label: u64, word: u64) -> Result<T, Failed> {
        let server = "memslots";
        Err(Failed {
            server,
            operation,
            label,
            word,
        })
    }

    /// Has the page put into the GSpace, for writing.
    pub(crate) fn request(self, page: Gfn) -> bool {
        let size = u64::from(PAGE_SHIFT) | memslots::WRITE;
        let words = [page.get(), size];
        call(channel::MEMSLOTS, memslots::REQUEST, words).0 == memslots::READY
    }

    /// Makes slot 0 of all guest memory; the guest has no other slot and does not run.
    pub(crate) fn create(self, bytes: u64) -> Result<(), Failed> {
        let mut answer = call(channel::MEMSLOTS, memslots::SET_REGION, [0, 0, bytes, 0]);
        loop {
            let (label, words) = answer;
            match Step::from_words(&words).filter(|_| label == answer::OK) {
                Some(Step::Done) => return Ok(()),
                Some(Step::Again | Step::Reader(_)) => {}
                _ => return Self::failed("slot 0", label, words[0]),
            }
            answer = call(channel::MEMSLOTS, memslots::ADVANCE, []);
        }
    }

    /// log2 of the largest page that all slots can have.
    pub(crate) fn page_shift(self) -> Result<u64, Failed> {
        match call(channel::MEMSLOTS, memslots::STATS, [memslots::STATS_SLOTS]) {
            (answer::OK, [_, _, _, _, _, shift, ..]) => Ok(shift),
            (label, [word, ..]) => Self::failed("page sizes", label, word),
        }
    }

    /// Copies `bytes` from `offset` of a file to guest real address `gpa`.
    pub(crate) fn load(
        self,
        source: Source,
        offset: u64,
        gpa: u64,
        bytes: u64,
    ) -> Result<(), Failed> {
        let mut done = 0;
        while done < bytes {
            let words = [source as u64, offset + done, gpa + done, bytes - done];
            let (label, [copied, ..]) = call(channel::MEMSLOTS, memslots::LOAD, words);
            // What it says is not added up before it is looked at.
            if label != memslots::READY || copied == 0 || copied > bytes - done {
                return Self::failed("load", label, gpa + done);
            }
            done += copied;
        }
        Ok(())
    }
}

/// `hpt`, any instance: the table is one.
pub(crate) struct Hpt;

impl Hpt {
    /// Makes an operation's calls until it is complete; `words[0]` is the cursor.
    fn run(name: &'static str, label: u64, rest: u64) -> Result<(), Failed> {
        let mut cursor = 0;
        loop {
            let (status, [next, more, ..]) = call(channel::HPT, label, [cursor, rest]);
            if status != answer::OK {
                return Err(Failed {
                    server: "hpt",
                    operation: name,
                    label: status,
                    word: next,
                });
            }
            if more == hpt::DONE {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Empties the table; no vCPU runs.
    pub(crate) fn reset() -> Result<(), Failed> {
        Self::run("reset", hpt::RESET, 0)
    }

    /// Sets the virtual real mode area up to `bytes`; what is above comes on demand.
    pub(crate) fn set_up_vrma(bytes: u64) -> Result<(), Failed> {
        Self::run("virtual real mode area", hpt::SET_UP_VRMA, bytes)
    }
}

/// `vpa`, all instances: any may have views of a vCPU's areas.
pub(crate) struct Vpa;

impl Vpa {
    /// Channels of the instances that the system description has.
    fn instances() -> impl Iterator<Item = usize> {
        let others = [
            *var!(vpa_1: usize = 0),
            *var!(vpa_2: usize = 0),
            *var!(vpa_3: usize = 0),
        ];
        const { assert!(channel::INSTANCES == 4) };
        core::iter::once(channel::VPA).chain(others.into_iter().filter(|id| *id != 0))
    }

    /// Has all areas of a vCPU forgotten; it is paused or stopped. False: ask again.
    pub(crate) fn unregister_all(vcpu: u64) -> Result<bool, Failed> {
        let mut done = true;
        for instance in Self::instances() {
            done &= Self::unregister_at(instance, vcpu)?;
        }
        Ok(done)
    }

    fn unregister_at(instance: usize, vcpu: u64) -> Result<bool, Failed> {
        let (label, [progress, who, ..]) = call(instance, vpa::UNREGISTER_ALL, [vcpu]);
        if label != answer::OK {
            return Err(Failed {
                server: "vpa",
                operation: "unregister all",
                label,
                word: who,
            });
        }
        Ok(progress == vpa::DONE)
    }
}
