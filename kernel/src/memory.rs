// SPDX-License-Identifier: BSD-2-Clause
//! Ranges of real memory at boot: what the device tree offers minus what is taken.

/// Real memory `[start, end)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Byte after the last.
    pub end: u64,
}

impl Range {
    /// `size` bytes from `start`; cut off where the addresses end.
    pub fn sized(start: u64, size: u64) -> Range {
        Range {
            start,
            end: start.saturating_add(size),
        }
    }
}

/// Most ranges that are kept apart; what would need more is not used.
pub const MAX_RANGES: usize = 32;

/// A set of disjoint ranges.
#[derive(Clone, Copy, Default)]
pub struct Ranges {
    list: [Range; MAX_RANGES],
    count: usize,
}

impl Ranges {
    /// The ranges.
    pub fn as_slice(&self) -> &[Range] {
        &self.list[..self.count]
    }

    /// Adds a range. Full: the range is dropped (memory that nobody uses).
    pub fn add(&mut self, range: Range) {
        if range.start < range.end
            && let Some(place) = self.list.get_mut(self.count)
        {
            *place = range;
            self.count += 1;
        }
    }

    /// Takes a range out of all that overlap it.
    pub fn remove(&mut self, taken: Range) {
        let old = *self;
        self.count = 0;
        for &range in old.as_slice() {
            if taken.end <= range.start || range.end <= taken.start || taken.start >= taken.end {
                self.add(range);
            } else {
                self.add(Range {
                    start: range.start,
                    end: taken.start,
                });
                self.add(Range {
                    start: taken.end,
                    end: range.end,
                });
            }
        }
    }

    /// Shrinks every range to whole units of 2^`bits` bytes.
    pub fn align(&mut self, bits: u32) {
        let old = *self;
        let unit = 1u64 << bits;
        self.count = 0;
        for range in old.as_slice() {
            let end = range.end & !(unit - 1);
            if let Some(start) = range.start.checked_next_multiple_of(unit) {
                self.add(Range { start, end });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(start: u64, end: u64) -> Range {
        Range { start, end }
    }

    #[test]
    fn removes_the_middle_the_ends_and_everything() {
        let mut m = Ranges::default();
        m.add(r(0, 100));
        m.remove(r(40, 50));
        assert_eq!(m.as_slice(), [r(0, 40), r(50, 100)]);
        m.remove(r(30, 60));
        assert_eq!(m.as_slice(), [r(0, 30), r(60, 100)]);
        m.remove(r(0, 10));
        m.remove(r(90, 200));
        assert_eq!(m.as_slice(), [r(10, 30), r(60, 90)]);
        m.remove(r(20, 20));
        m.remove(r(30, 60));
        assert_eq!(m.as_slice(), [r(10, 30), r(60, 90)]);
        m.remove(r(0, 1000));
        assert_eq!(m.as_slice(), []);
    }

    #[test]
    fn keeps_whole_pages_only() {
        let mut m = Ranges::default();
        m.add(r(0x1001, 0x3fff));
        m.add(r(0x5001, 0x5fff));
        m.add(Range::sized(u64::MAX - 5, 100));
        m.align(12);
        assert_eq!(m.as_slice(), [r(0x2000, 0x3000)]);
    }

    #[test]
    fn a_full_set_loses_memory_rather_than_inventing_it() {
        let mut m = Ranges::default();
        m.add(r(0, 10_000));
        for i in 0..100 {
            m.remove(r(i * 10 + 5, i * 10 + 6));
        }
        assert!(m.as_slice().len() <= MAX_RANGES);
        for range in m.as_slice() {
            assert!((range.start..range.end).all(|a| a % 10 != 5 || a >= 1000));
        }
    }
}
