// SPDX-License-Identifier: BSD-2-Clause
//! The memory slot server: which guest memory there is, and what is behind it.
//!
//! * A slot is created without a single frame (S2.1). The first request for one of its pages takes
//!   a frame from the pool, zeroed, maps it into the GSpace and keeps it until the slot goes or
//!   the page is reclaimed (S2.9).
//! * A change of the slots is a sequence of calls that never wait (S3): [`MemSlots::set_region`]
//!   begins it, [`MemSlots::advance`] takes it one step further and answers [`Step::Done`], or what
//!   it is waiting for. Whoever drives it (`control`, or `vcpu`) makes that happen: readers leave
//!   by themselves, `hpt` flushes, `vpa` lets go. This server calls nobody.
//! * Everything that a change needs is allocated before its first step. Until the frames are given
//!   back at the very end, [`MemSlots::abort`] restores the original slot with its contents.
//!
//! Nothing here allocates memory; the arrays come from the caller.
//!
//! Requirements without an object here: S2.16 and S2.17 (POWER9 has no RMO, and the page size of
//! the VRMA is in the partition table), S3.3, S3.7, S3.9 and S3.10 (no notifiers, no index that
//! grows, no host addresses, no machinery to tear down). S3.8 is answered by collecting C from the
//! entries instead of flushing them.
#![no_std]
#![forbid(unsafe_code)]

mod calls;
mod change;
mod pages;
mod pool;
mod region;

pub use calls::Images;
pub use change::{Step, Waiting};
pub use pages::{Answer, PageWord};
pub use pool::{Frame, FrameSize, Pool, PoolStats};

use heapless::Vec;
use partita_papr::Gfn;
use partita_srcu::{MAX_SLOTS, Policy, Slot, Writer};

/// Pages that one call of a long operation touches at most.
pub const BATCH: usize = 64;
/// Page words that one call of a long operation looks at at most.
pub const SCAN: usize = 1024;

/// Why a request about slots was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Base or size is not a multiple of the machine's page size (EINVAL, S2.2).
    Alignment,
    /// The region wraps or ends past the guest real addresses (EINVAL).
    Range,
    /// A flag that does not exist (EINVAL).
    Flags,
    /// Another slot, this one, has part of the region (EEXIST).
    Overlap(u16),
    /// Size or read-only flag of an existing slot would change (EINVAL).
    Changed,
    /// There is no such slot (EINVAL).
    NoSlot,
    /// All slots are in use (ENOMEM).
    TooManySlots,
    /// No page words are left for the region (ENOMEM).
    NoPageWords,
    /// Another change has not been finished (EBUSY).
    InProgress,
    /// There is no change to advance or abort, or it cannot be aborted any more.
    NoChange,
}

/// Why a frame stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmapError {
    /// An entry of the hash page table or a view still pins the page (`RevokeFirst`).
    Pinned,
    /// The kernel refused for another reason.
    Failed,
}

/// What the server asks of the kernel. Frames are named; their caps are the implementation's
/// business, and so are the page tables of the GSpace.
pub trait Kernel {
    /// Makes a frame of the pool ready for a page: it is all zeros afterwards, whoever had it
    /// before. Called each time that the frame leaves the pool.
    fn prepare(&mut self, frame: Frame) -> Result<(), KernelFailed>;
    /// Maps a frame at a page of the GSpace. Fails if the GSpace is dead or has no tables left.
    fn map(&mut self, gfn: Gfn, frame: Frame, writable: bool) -> Result<(), KernelFailed>;
    /// Takes a frame out of the GSpace.
    fn unmap(&mut self, gfn: Gfn, frame: Frame) -> Result<(), UnmapError>;
    /// Ends a frame at once, with its mappings, pinned or not.
    fn destroy(&mut self, frame: Frame) -> Result<(), KernelFailed>;
    /// Zeroes `length` bytes of a frame from `offset`, both multiples of 4096.
    fn zero(&mut self, frame: Frame, offset: u64, length: u64) -> Result<(), KernelFailed>;
    /// Copies 4096 bytes between two places, both multiples of 4096.
    fn copy(&mut self, to: (Frame, u64), from: (Frame, u64)) -> Result<(), KernelFailed>;
    /// Writes bytes into a frame from `offset`; they lie within it.
    fn write(&mut self, frame: Frame, offset: u64, bytes: &[u8]) -> Result<(), KernelFailed>;
}

/// The kernel did not make, map or show a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelFailed;

/// A slot and what is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    slot: Slot,
    /// Frames it is made of.
    size: FrameSize,
    /// Its page words: first and count.
    words: (usize, usize),
    /// Its frames are taken in groups of 16 MiB.
    grouped: bool,
    /// Groups that it has taken.
    groups: u64,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Slots.
    pub slots: usize,
    /// Pages with a frame (S2: pinned by the slot).
    pub held: u64,
    /// Pages whose frame came from the caller, not from the pool.
    pub foreign: u64,
    /// Pages in the GSpace.
    pub mapped: u64,
    /// Pages being reclaimed.
    pub busy: u64,
    /// log2 of the largest page that every slot can have; 0 without slots.
    pub page_shift: u32,
    /// Frames of each size, in the order of [`FrameSize::ALL`].
    pub frames: [PoolStats; 3],
}

/// The server's state.
#[derive(Debug)]
pub struct MemSlots<'a, K> {
    kernel: K,
    writer: Writer<'a>,
    pool: Pool<'a>,
    words: &'a mut [PageWord],
    /// Sorted by base.
    regions: Vec<Region, MAX_SLOTS>,
    change: Option<change::Change>,
    /// log2 of the machine's page size: bases and sizes are multiples of it.
    ram_shift: u32,
}

impl<'a, K: Kernel> MemSlots<'a, K> {
    /// A server without slots. `words` has one word for each page that slots can have in all, all
    /// zero; `ram_shift` is 12, 16 or 21. The largest page that the guest is told of must not be
    /// larger.
    pub fn new(
        kernel: K,
        writer: Writer<'a>,
        pool: Pool<'a>,
        words: &'a mut [PageWord],
        ram_shift: u32,
    ) -> Self {
        MemSlots {
            kernel,
            writer,
            pool,
            words,
            regions: Vec::new(),
            change: None,
            ram_shift,
        }
    }

    /// The slot that holds `gfn`.
    pub fn lookup(&self, gfn: Gfn, policy: Policy) -> Option<Slot> {
        self.writer.lookup(gfn, policy)
    }

    /// The slot with number `id`, as it was last published.
    pub fn slot(&self, id: u16) -> Option<Slot> {
        self.regions
            .iter()
            .map(|region| region.slot)
            .find(|slot| slot.id == id)
    }

    /// Generation of the published slots.
    pub fn generation(&self) -> u64 {
        self.writer.generation()
    }

    /// Exact counts, from the words themselves.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats {
            slots: self.regions.len(),
            ..Stats::default()
        };
        for (to, size) in stats.frames.iter_mut().zip(FrameSize::ALL) {
            *to = self.pool.stats(size);
        }
        let shifts = self.regions.iter().map(|r| u32::from(r.slot.page_shift));
        stats.page_shift = shifts.min().unwrap_or(0);
        for word in self
            .regions
            .iter()
            .flat_map(|region| self.region_words(region))
        {
            stats.held += u64::from(word.frame_index().is_some());
            stats.foreign += u64::from(word.is_foreign());
            stats.mapped += u64::from(word.is_mapped());
            stats.busy += u64::from(word.is_busy());
        }
        stats
    }

    fn region_words(&self, region: &Region) -> &[PageWord] {
        let (first, count) = region.words;
        self.words
            .get(first..first.saturating_add(count))
            .unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests;
