// SPDX-License-Identifier: BSD-2-Clause
//! Which piece of untyped memory an object comes from.
//!
//! The rule of `UntypedRetype` is the kernel's: an untyped has a watermark; an object goes to the
//! first address at or above it that is aligned to the object's size, and the watermark moves behind
//! it. A [`Pool`] follows that rule in numbers only. Objects that have no given address are taken
//! from the piece with the least room left that is large enough; the tool asks for large objects
//! first, so nothing is lost to alignment within a piece.

/// One untyped capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untyped {
    /// Real address, aligned to its size.
    pub paddr: u64,
    /// log2 of its bytes.
    pub size_bits: u8,
    /// Device memory: not zeroed, only for frames at given addresses.
    pub is_device: bool,
    /// Bytes below the watermark.
    pub used: u64,
}

impl Untyped {
    /// A piece of which nothing is used.
    pub const fn new(paddr: u64, size_bits: u8, is_device: bool) -> Self {
        Untyped {
            paddr,
            size_bits,
            is_device,
            used: 0,
        }
    }

    /// Address behind its last byte.
    const fn end(&self) -> u64 {
        self.paddr + (1 << self.size_bits)
    }

    /// Address of the watermark.
    const fn next(&self) -> u64 {
        self.paddr + self.used
    }

    /// How many objects of `1 << bits` bytes still fit.
    const fn room(&self, bits: u8) -> u64 {
        let start = self.next().next_multiple_of(1 << bits);
        self.end().saturating_sub(start) >> bits
    }
}

/// Smallest untyped that can be split off: log2 of its bytes.
pub const MIN_BITS: u8 = 6;

/// The untyped capabilities of the root task: those from the kernel first, split-off pieces behind.
#[derive(Debug)]
pub struct Pool<'a> {
    entries: &'a mut [Untyped],
    len: usize,
}

/// Objects that are made by one `UntypedRetype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Index of the untyped in the pool.
    pub from: usize,
    /// Real address of the first object.
    pub paddr: u64,
    /// How many objects.
    pub count: u32,
}

/// A step on the way to a given address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Retype an untyped of `1 << size_bits` bytes; it becomes entry `to`.
    Split {
        /// Index of the untyped to retype from.
        from: usize,
        /// Index of the new piece.
        to: usize,
        /// log2 of its bytes.
        size_bits: u8,
    },
    /// The watermark has arrived: retype the objects.
    Take(Batch),
}

/// Why memory cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolError {
    /// No piece is large enough.
    Full,
    /// The address is not in any untyped, or already used.
    NotFree,
    /// More pieces than the pool has entries for.
    TooManyPieces,
}

impl<'a> Pool<'a> {
    /// A pool over `entries`, of which the first `len` are filled in.
    pub const fn new(entries: &'a mut [Untyped], len: usize) -> Self {
        Pool { entries, len }
    }

    /// The pieces.
    pub fn entries(&self) -> &[Untyped] {
        &self.entries[..self.len]
    }

    /// Bytes of ordinary memory above the watermarks.
    pub fn free_bytes(&self) -> u64 {
        self.entries()
            .iter()
            .filter(|u| !u.is_device)
            .map(|u| u.end() - u.next())
            .sum()
    }

    /// Takes up to `count` objects of `1 << bits` bytes from one piece.
    ///
    /// # Errors
    /// [`PoolError::Full`].
    pub fn take(&mut self, bits: u8, count: u32) -> Result<Batch, PoolError> {
        let best = self.entries[..self.len]
            .iter()
            .enumerate()
            .filter(|(_, u)| !u.is_device && u.room(bits) > 0)
            .min_by_key(|(i, u)| (u.end() - u.next(), *i))
            .map(|(i, _)| i)
            .ok_or(PoolError::Full)?;
        Ok(self.commit(best, bits, count))
    }

    fn commit(&mut self, from: usize, bits: u8, count: u32) -> Batch {
        let u = &mut self.entries[from];
        let count = u64::from(count).min(u.room(bits)) as u32;
        let paddr = u.next().next_multiple_of(1 << bits);
        u.used = paddr + (u64::from(count) << bits) - u.paddr;
        Batch { from, paddr, count }
    }

    /// The next step to `count` objects of `1 << bits` bytes at `paddr`; called until it answers
    /// [`Step::Take`]. A batch may be shorter than `count` (the rest lies in the next piece).
    ///
    /// # Errors
    /// [`PoolError::NotFree`], [`PoolError::TooManyPieces`].
    pub fn reach(&mut self, paddr: u64, bits: u8, count: u32) -> Result<Step, PoolError> {
        let from = self.entries[..self.len]
            .iter()
            .position(|u| u.next() <= paddr && paddr + (1 << bits) <= u.end())
            .ok_or(PoolError::NotFree)?;
        let next = self.entries[from].next();
        if next.next_multiple_of(1 << bits) == paddr {
            return Ok(Step::Take(self.commit(from, bits, count)));
        }
        let gap = (paddr - next).ilog2() as u8;
        let align = if next == 0 {
            gap
        } else {
            next.trailing_zeros() as u8
        };
        let size_bits = gap.min(align);
        if size_bits < MIN_BITS {
            return Err(PoolError::NotFree);
        }
        let to = self.len;
        let is_device = self.entries[from].is_device;
        *self.entries.get_mut(to).ok_or(PoolError::TooManyPieces)? =
            Untyped::new(next, size_bits, is_device);
        self.len += 1;
        self.entries[from].used += 1 << size_bits;
        Ok(Step::Split {
            from,
            to,
            size_bits,
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn smallest_piece_that_fits() {
        let mut e = [
            Untyped::new(0x10_0000, 20, false),
            Untyped::new(0x1000, 12, false),
            Untyped::new(0x4000, 14, true),
        ];
        let mut pool = Pool::new(&mut e, 3);
        assert_eq!(
            pool.take(12, 5),
            Ok(Batch {
                from: 1,
                paddr: 0x1000,
                count: 1
            })
        );
        assert_eq!(
            pool.take(12, 4),
            Ok(Batch {
                from: 0,
                paddr: 0x10_0000,
                count: 4
            })
        );
        assert_eq!(
            pool.take(16, 1),
            Ok(Batch {
                from: 0,
                paddr: 0x11_0000,
                count: 1
            })
        );
        assert_eq!(pool.free_bytes(), 0xe_0000);
        assert_eq!(pool.take(21, 1), Err(PoolError::Full));
    }

    #[test]
    fn splits_on_the_way_to_an_address() {
        let mut e = [Untyped::default(); 8];
        e[0] = Untyped::new(0x10_0000, 20, true);
        let mut pool = Pool::new(&mut e, 1);
        let mut steps = Vec::new();
        loop {
            let s = pool.reach(0x10_3000, 12, 1).unwrap();
            steps.push(s);
            if matches!(s, Step::Take(_)) {
                break;
            }
        }
        assert_eq!(
            steps,
            [
                Step::Split {
                    from: 0,
                    to: 1,
                    size_bits: 13
                },
                Step::Split {
                    from: 0,
                    to: 2,
                    size_bits: 12
                },
                Step::Take(Batch {
                    from: 0,
                    paddr: 0x10_3000,
                    count: 1
                }),
            ]
        );
        assert_eq!(pool.reach(0x10_3000, 12, 1), Err(PoolError::NotFree));
        assert_eq!(
            pool.reach(0x10_2000, 12, 1),
            Ok(Step::Take(Batch {
                from: 2,
                paddr: 0x10_2000,
                count: 1
            }))
        );
        assert_eq!(pool.reach(0x20_0000, 12, 1), Err(PoolError::NotFree));
        assert_eq!(
            pool.take(12, 1),
            Err(PoolError::Full),
            "device memory is not for objects"
        );
    }

    #[test]
    fn says_when_the_table_is_full() {
        let mut e = [Untyped::new(0x10_0000, 20, false); 1];
        let mut pool = Pool::new(&mut e, 1);
        assert_eq!(pool.reach(0x10_3000, 12, 1), Err(PoolError::TooManyPieces));
    }

    proptest! {
        /// Objects never overlap, are aligned and lie in memory that was given.
        #[test]
        fn objects_are_disjoint(
            sizes in proptest::collection::vec(6u8..18, 1..60),
            fixed in proptest::collection::vec(0u64..64, 0..4),
        ) {
            let mut e = [Untyped::default(); 64];
            e[0] = Untyped::new(0x20_0000, 18, false);
            e[1] = Untyped::new(0x1_0000, 16, false);
            let mut pool = Pool::new(&mut e, 2);
            let mut taken: Vec<(u64, u64)> = Vec::new();
            let mut fixed = fixed;
            fixed.sort_unstable();
            fixed.dedup();
            for page in fixed {
                let paddr = 0x20_0000 + (page << 12);
                loop {
                    if let Step::Take(b) = pool.reach(paddr, 12, 1).unwrap() {
                        prop_assert_eq!(b.paddr, paddr);
                        taken.push((paddr, paddr + 0x1000));
                        break;
                    }
                }
            }
            for bits in sizes {
                if let Ok(b) = pool.take(bits, 3) {
                    prop_assert!(b.count >= 1 && b.count <= 3);
                    prop_assert_eq!(b.paddr % (1 << bits), 0);
                    taken.push((b.paddr, b.paddr + (u64::from(b.count) << bits)));
                }
            }
            taken.sort_unstable();
            for w in taken.windows(2) {
                prop_assert!(w[0].1 <= w[1].0);
            }
            for (start, end) in taken {
                prop_assert!(
                    (start >= 0x20_0000 && end <= 0x24_0000) || (start >= 0x1_0000 && end <= 0x2_0000)
                );
            }
        }
    }
}
