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

/// Frames of 2 MiB that make a page of 16 MiB, if they are aligned and in a row.
pub(crate) const GROUP: usize = 8;
/// log2 of the bytes of a group.
pub(crate) const GROUP_SHIFT: u32 = FrameSize::Large.shift() + GROUP.trailing_zeros();

/// Free frames of 2 MiB in groups: frames 8 g to 8 g + 7 are one. Single frames are taken from broken groups as long
/// as there are any, so that others stay whole.
#[derive(Debug)]
struct Groups<'a> {
    /// Groups that are whole, as a stack.
    whole: &'a mut [u32],
    wholes: usize,
    /// Groups of which some frames are free, as a stack; some that no longer are.
    broken: &'a mut [u32],
    brokens: usize,
    /// Free frames of each group (bits 7:0); [`LISTED`].
    state: &'a mut [u32],
    /// Free frames in all.
    free: u64,
    /// Whole groups that slots of 16 MiB pages will still take.
    promised: usize,
}

const ALL_FREE: u32 = 0xff;
/// The group is in `broken`.
const LISTED: u32 = 1 << 8;

/// All free frames.
#[derive(Debug)]
pub struct Pool<'a> {
    stacks: [Stack<'a>; 3],
    groups: Option<Groups<'a>>,
    /// Frames in groups; the numbers of those in the stack go on from here.
    grouped: u32,
}

impl<'a> Groups<'a> {
    /// All frames free; `room` has an element for each.
    fn new(room: &'a mut [u32]) -> Option<Self> {
        let count = room.len() / GROUP;
        let (whole, rest) = room.split_at_mut_checked(count)?;
        let (broken, rest) = rest.split_at_mut_checked(count)?;
        let state = rest.get_mut(..count)?;
        state.fill(ALL_FREE);
        for (i, group) in whole.iter_mut().rev().enumerate() {
            *group = i as u32;
        }
        Some(Groups {
            whole,
            wholes: count,
            broken,
            brokens: 0,
            state,
            free: (count * GROUP) as u64,
            promised: 0,
        })
    }

    fn pop_whole(&mut self) -> Option<usize> {
        let top = self.wholes.checked_sub(1)?;
        let group = *self.whole.get(top)? as usize;
        self.wholes = top;
        Some(group)
    }

    /// A whole group that was promised; its first frame.
    fn take_group(&mut self) -> Option<u32> {
        let group = self.pop_whole()?;
        let state = self.state.get_mut(group)?;
        *state &= !ALL_FREE;
        self.free -= GROUP as u64;
        self.promised = self.promised.saturating_sub(1);
        Some((group * GROUP) as u32)
    }

    /// The frame with the lowest number of a group.
    fn take_from(&mut self, group: usize) -> Option<u32> {
        let state = self.state.get_mut(group)?;
        let frame = (*state & ALL_FREE).trailing_zeros();
        *state &= !(1 << frame);
        self.free -= 1;
        Some((group * GROUP) as u32 + frame)
    }

    fn take_broken(&mut self) -> Option<u32> {
        loop {
            let top = self.brokens.checked_sub(1)?;
            let group = *self.broken.get(top)? as usize;
            let state = self.state.get_mut(group)?;
            if !matches!(*state & ALL_FREE, 0 | ALL_FREE) {
                return self.take_from(group);
            }
            *state &= !LISTED;
            self.brokens = top;
        }
    }

    fn list(&mut self, group: usize) {
        if let (Some(state), Some(place)) =
            (self.state.get_mut(group), self.broken.get_mut(self.brokens))
            && *state & LISTED == 0
        {
            *state |= LISTED;
            *place = group as u32;
            self.brokens += 1;
        }
    }

    /// A single frame out of a group that is not promised.
    fn break_whole(&mut self) -> Option<u32> {
        if self.wholes <= self.promised {
            return None;
        }
        let group = self.pop_whole()?;
        self.list(group);
        self.take_from(group)
    }

    fn give_back(&mut self, index: u32) {
        let group = index as usize / GROUP;
        let Some(state) = self.state.get_mut(group) else {
            return;
        };
        *state |= 1 << (index as usize % GROUP);
        self.free += 1;
        if *state & ALL_FREE != ALL_FREE {
            self.list(group);
        } else if let Some(place) = self.whole.get_mut(self.wholes) {
            *place = group as u32;
            self.wholes += 1;
        }
    }
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

    fn take(&mut self) -> Option<u32> {
        let top = self.count.checked_sub(1)?;
        let index = *self.free.get(top)?;
        self.count = top;
        Some(index)
    }

    fn give_back(&mut self, index: u32) {
        if let Some(slot) = self.free.get_mut(self.count) {
            *slot = index;
            self.count += 1;
        }
    }
}

impl<'a> Pool<'a> {
    /// A pool of as many frames of each size as the slices have elements; their contents do not
    /// matter. `in_a_row`: frames 8 n to 8 n + 7 of 2 MiB lie in a row, aligned to 16 MiB.
    pub fn new(
        small: &'a mut [u32],
        medium: &'a mut [u32],
        large: &'a mut [u32],
        in_a_row: bool,
    ) -> Self {
        let grouped = if in_a_row {
            large.len() / GROUP * GROUP
        } else {
            0
        };
        let (room, rest) = large.split_at_mut(grouped);
        Pool {
            stacks: [Stack::new(small), Stack::new(medium), Stack::new(rest)],
            groups: if grouped == 0 {
                None
            } else {
                Groups::new(room)
            },
            grouped: grouped as u32,
        }
    }

    /// Promises a slot so many whole groups; false if there are not enough.
    pub(crate) fn promise(&mut self, groups: u64) -> bool {
        match &mut self.groups {
            Some(g) if (g.wholes - g.promised.min(g.wholes)) as u64 >= groups => {
                g.promised += groups as usize;
                true
            }
            _ => false,
        }
    }

    /// Takes back a promise of groups that were not taken.
    pub(crate) fn unpromise(&mut self, groups: u64) {
        if let Some(g) = &mut self.groups {
            g.promised = g.promised.saturating_sub(groups as usize);
        }
    }

    /// A promised group; its first frame.
    pub(crate) fn take_group(&mut self) -> Option<u32> {
        self.groups.as_mut()?.take_group()
    }

    /// Gives a group back, and keeps it promised.
    pub(crate) fn give_back_group(&mut self, first: u32) {
        if let Some(g) = &mut self.groups {
            (first..first + GROUP as u32).for_each(|index| g.give_back(index));
            g.promised += 1;
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
        let mut stats = PoolStats {
            total: stack.free.len() as u64,
            free: stack.count as u64,
            committed: stack.committed,
        };
        if let (FrameSize::Large, Some(groups)) = (size, &self.groups) {
            stats.total += u64::from(self.grouped);
            stats.free += groups.free;
        }
        stats
    }

    pub(crate) fn take(&mut self, size: FrameSize) -> Option<Frame> {
        let index = match size {
            FrameSize::Large => self.take_large()?,
            _ => self.stack_mut(size).take()?,
        };
        Some(Frame { size, index })
    }

    fn take_large(&mut self) -> Option<u32> {
        let broken = self.groups.as_mut().and_then(Groups::take_broken);
        let rest = || {
            let index = self.stack_mut(FrameSize::Large).take()?;
            Some(index + self.grouped)
        };
        broken
            .or_else(rest)
            .or_else(|| self.groups.as_mut()?.break_whole())
    }

    pub(crate) fn give_back(&mut self, frame: Frame) {
        if frame.size == FrameSize::Large && frame.index < self.grouped {
            if let Some(groups) = &mut self.groups {
                groups.give_back(frame.index);
            }
            return;
        }
        let base = match frame.size {
            FrameSize::Large => self.grouped,
            _ => 0,
        };
        self.stack_mut(frame.size).give_back(frame.index - base);
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
        let stats = self.stats(size);
        stats.total.saturating_sub(stats.committed)
    }
}
