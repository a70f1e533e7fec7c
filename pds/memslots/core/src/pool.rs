// SPDX-License-Identifier: BSD-2-Clause
//! The frames that guests' memory is made of.

/// Sizes of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameSize {
    /// 4 KiB.
    Small = 0,
    /// 64 KiB.
    Medium = 1,
    /// 2 MiB.
    Large = 2,
}

impl FrameSize {
    /// All sizes, smallest first.
    pub const ALL: [FrameSize; 3] = [FrameSize::Small, FrameSize::Medium, FrameSize::Large];

    /// log2 of the bytes.
    pub const fn shift(self) -> u32 {
        match self {
            FrameSize::Small => 12,
            FrameSize::Medium => 16,
            FrameSize::Large => 21,
        }
    }

    /// Bytes.
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// 4 KiB pages.
    pub const fn pages(self) -> u64 {
        self.bytes() >> 12
    }
}

/// A frame by its size and number. Numbers below the pool's total are the pool's; others are
/// foreign, and the [`crate::Kernel`] knows what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame {
    /// Size.
    pub size: FrameSize,
    /// Number among the frames of that size, less than 2^28.
    pub index: u32,
}

/// Numbers of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Frames in all.
    pub total: u64,
    /// Frames that no page has.
    pub free: u64,
    /// Frames that the existing slots would have if all their pages were touched.
    pub committed: u64,
}

/// Free frames of one size, as a stack.
#[derive(Debug)]
struct Stack<'a> {
    free: &'a mut [u32],
    count: usize,
    committed: u64,
}

/// All free frames.
#[derive(Debug)]
pub struct Pool<'a> {
    stacks: [Stack<'a>; 3],
}

impl<'a> Stack<'a> {
    fn new(free: &'a mut [u32]) -> Self {
        // Lowest number on top.
        let count = free.len();
        for (i, slot) in free.iter_mut().rev().enumerate() {
            *slot = i as u32;
        }
        Stack {
            free,
            count,
            committed: 0,
        }
    }
}

impl<'a> Pool<'a> {
    /// A pool of as many frames of each size as the slices have elements; their contents do not
    /// matter.
    pub fn new(small: &'a mut [u32], medium: &'a mut [u32], large: &'a mut [u32]) -> Self {
        Pool {
            stacks: [Stack::new(small), Stack::new(medium), Stack::new(large)],
        }
    }

    fn stack(&self, size: FrameSize) -> &Stack<'a> {
        let [small, medium, large] = &self.stacks;
        match size {
            FrameSize::Small => small,
            FrameSize::Medium => medium,
            FrameSize::Large => large,
        }
    }

    fn stack_mut(&mut self, size: FrameSize) -> &mut Stack<'a> {
        let [small, medium, large] = &mut self.stacks;
        match size {
            FrameSize::Small => small,
            FrameSize::Medium => medium,
            FrameSize::Large => large,
        }
    }

    /// Counts of one size.
    pub fn stats(&self, size: FrameSize) -> PoolStats {
        let stack = self.stack(size);
        PoolStats {
            total: stack.free.len() as u64,
            free: stack.count as u64,
            committed: stack.committed,
        }
    }

    pub(crate) fn take(&mut self, size: FrameSize) -> Option<Frame> {
        let stack = self.stack_mut(size);
        let top = stack.count.checked_sub(1)?;
        let index = *stack.free.get(top)?;
        stack.count = top;
        Some(Frame { size, index })
    }

    pub(crate) fn give_back(&mut self, frame: Frame) {
        let stack = self.stack_mut(frame.size);
        if let Some(slot) = stack.free.get_mut(stack.count) {
            *slot = frame.index;
            stack.count += 1;
        }
    }

    pub(crate) fn commit(&mut self, size: FrameSize, frames: u64) {
        self.stack_mut(size).committed += frames;
    }

    pub(crate) fn uncommit(&mut self, size: FrameSize, frames: u64) {
        let stack = self.stack_mut(size);
        stack.committed = stack.committed.saturating_sub(frames);
    }

    /// Frames of this size that no slot has been promised.
    pub(crate) fn uncommitted(&self, size: FrameSize) -> u64 {
        let stack = self.stack(size);
        (stack.free.len() as u64).saturating_sub(stack.committed)
    }
}
