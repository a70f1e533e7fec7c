// SPDX-License-Identifier: BSD-2-Clause
//! The memory that will be free at boot, and the proof that a system fits into it.

use crate::board::Board;
use crate::capdl::lower::Creation;
use crate::error::Error;
use crate::image::MAX_ROOT_CNODE_BITS;
use partita_abi::{ObjectType, address_space, limits};
use partita_capdl::untyped::{Pool, PoolError, Step, Untyped};

/// Slots for pieces of untyped memory on the way to fixed addresses.
pub const SPLIT_SLOTS: u32 = 256;
/// Low memory that the kernel keeps: exception vectors.
const LOW_RESERVED: u64 = 0x1_0000;
/// What the kernel makes for the root task besides its CNode: address space, page tables, thread,
/// boot information. More than it needs.
const KERNEL_BOOT_BYTES: u64 = 0x10_0000;
/// log2 of the largest untyped.
const MAX_UNTYPED_BITS: u8 = 47;

/// Free memory at boot.
#[derive(Clone, Debug)]
pub struct Memory {
    image: (u64, u64),
    end: u64,
    /// `[start, end)`, ascending.
    free: Vec<(u64, u64)>,
    devices: Vec<(u64, u8)>,
}

fn subtract(free: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    *free = free
        .iter()
        .flat_map(|&(s, e)| [(s, e.min(start)), (s.max(end), e)])
        .filter(|(s, e)| s < e)
        .collect();
}

impl Memory {
    /// Free memory of a board when the image ends at `image_end` and the root task's CNode has
    /// `1 << root_cnode_bits` slots. The kernel takes its boot objects from the lowest free memory,
    /// the CNode first.
    pub fn new(board: &Board, image_end: u64, root_cnode_bits: u8) -> Self {
        let slot_bits = ObjectType::CNode.bits() as u8;
        let cnode = 1u64 << (root_cnode_bits + slot_bits);
        let boot_end = LOW_RESERVED.next_multiple_of(cnode) + cnode + KERNEL_BOOT_BYTES;
        let mut free = vec![(boot_end, board.memory_end())];
        subtract(&mut free, board.image_base, image_end);
        for &[start, end] in &board.firmware_regions {
            subtract(&mut free, start, end);
        }
        let devices = board
            .device_regions
            .iter()
            .map(|&[base, bits]| (base, bits as u8))
            .collect();
        Memory {
            image: (board.image_base, image_end),
            end: board.memory_end(),
            free,
            devices,
        }
    }

    /// Whether all of `[start, end)` is free.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.free.iter().any(|&(s, e)| s <= start && end <= e)
    }

    /// What is in the way of `[start, end)`.
    pub fn describe(&self, start: u64, end: u64) -> &'static str {
        if end > self.end {
            "neither memory nor a device of the board"
        } else if start < self.image.1 && self.image.0 < end {
            "used by the boot image"
        } else {
            "reserved for firmware or the kernel"
        }
    }

    /// Bytes that are free.
    pub fn free_bytes(&self) -> u64 {
        self.free.iter().map(|(s, e)| e - s).sum()
    }

    /// The highest aligned place for `size` bytes that is clear of `taken`.
    pub fn highest(&self, size: u64, align: u64, taken: &[(u64, u64)]) -> Option<u64> {
        for &(start, end) in self.free.iter().rev() {
            let mut top = end;
            while let Some(base) = top.checked_sub(size).map(|b| b / align * align) {
                if base < start {
                    break;
                }
                match taken.iter().find(|(s, e)| base < *e && *s < base + size) {
                    Some(&(s, _)) => top = s,
                    None => return Some(base),
                }
            }
        }
        None
    }

    /// Refuses frames that are more than memory or the root task's slots can hold, before they are
    /// listed one by one. Of each kind of frame: name, number, log2 of the bytes of one.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`], [`Error::TooManySlots`].
    pub fn check_frames(&self, frames: &[(String, u64, u8)]) -> Result<(), Error> {
        let needed: u64 = frames.iter().map(|(_, count, bits)| count << bits).sum();
        let mut left = self.free_bytes();
        for (name, count, bits) in frames {
            left = left
                .checked_sub(count << bits)
                .ok_or_else(|| Error::DoesNotFit {
                    name: name.clone(),
                    count: *count,
                    bytes: 1 << bits,
                    needed,
                    free: self.free_bytes(),
                })?;
        }
        let slots = frames.iter().map(|(_, count, _)| count).sum();
        let limit = 1 << MAX_ROOT_CNODE_BITS;
        match slots > limit {
            true => Err(Error::TooManySlots { slots, limit }),
            false => Ok(()),
        }
    }

    /// The untyped capabilities that the kernel will hand out: aligned powers of two.
    pub fn untypeds(&self) -> Vec<Untyped> {
        let mut list = Vec::new();
        for &(start, end) in &self.free {
            let mut at = start;
            while at < end {
                let bits = ((end - at).ilog2() as u8)
                    .min(if at == 0 {
                        MAX_UNTYPED_BITS
                    } else {
                        at.trailing_zeros() as u8
                    })
                    .min(MAX_UNTYPED_BITS);
                if u32::from(bits) < address_space::PAGE_BITS as u32 {
                    break;
                }
                list.push(Untyped::new(at, bits, false));
                at += 1 << bits;
            }
        }
        list.extend(
            self.devices
                .iter()
                .map(|&(base, bits)| Untyped::new(base, bits, true)),
        );
        list.truncate(limits::MAX_UNTYPEDS);
        list
    }

    /// Creates all objects as the initialiser will, in numbers only. Answers the real address of
    /// the first object of each creation and the bytes that are left.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`] and its relatives, with figures.
    pub fn simulate(&self, creations: &[Creation]) -> Result<(Vec<u64>, u64), Error> {
        let mut entries = self.untypeds();
        let len = entries.len();
        entries.resize(len + SPLIT_SLOTS as usize, Untyped::default());
        let mut pool = Pool::new(&mut entries, len);
        let mut addresses = Vec::new();
        for creation in creations {
            let mut first = None;
            let mut left = creation.count;
            while left > 0 {
                let bits = creation.bytes_bits;
                let batch = match creation.paddr {
                    None => pool.take(bits, left),
                    Some(paddr) => {
                        let done = u64::from(creation.count - left) << bits;
                        loop {
                            match pool.reach(paddr + done, bits, left) {
                                Ok(Step::Split { .. }) => (),
                                Ok(Step::Take(batch)) => break Ok(batch),
                                Err(e) => break Err(e),
                            }
                        }
                    }
                };
                let batch = batch.map_err(|e| match e {
                    PoolError::Full => Error::DoesNotFit {
                        name: creation.name.clone(),
                        count: left.into(),
                        bytes: 1 << bits,
                        needed: creations
                            .iter()
                            .filter(|c| c.paddr.is_none())
                            .map(|c| u64::from(c.count) << c.bytes_bits)
                            .sum(),
                        free: self.free_bytes(),
                    },
                    PoolError::NotFree => Error::AddressNotFree {
                        name: creation.name.clone(),
                        paddr: creation.paddr.unwrap_or(0),
                    },
                    PoolError::TooManyPieces => Error::TooManyPieces(SPLIT_SLOTS as usize),
                })?;
                first.get_or_insert(batch.paddr);
                left -= batch.count;
            }
            addresses.extend(first);
        }
        Ok((addresses, pool.free_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory::new(&Board::find("qemu_powernv9").unwrap(), 0x2040_0000, 12)
    }

    #[test]
    fn free_ranges() {
        let m = memory();
        assert!(m.is_free(0x14_0000, 0x2000_0000));
        assert!(!m.is_free(0x13_f000, 0x2000_0000));
        assert!(!m.is_free(0, 0x1000));
        assert!(!m.is_free(0x2000_0000, 0x2000_1000));
        assert!(!m.is_free(0x2fff_f000, 0x3000_1000));
        assert!(m.is_free(0x3400_0000, 0x7c00_0000));
        assert_eq!(
            m.describe(0x8000_0000, 0x8000_1000),
            "neither memory nor a device of the board"
        );
        assert_eq!(
            m.describe(0x2000_0000, 0x2000_1000),
            "used by the boot image"
        );
        assert_eq!(m.describe(0, 0x1000), "reserved for firmware or the kernel");
    }

    #[test]
    fn untypeds_cover_what_is_free() {
        let m = memory();
        let sum: u64 = m
            .untypeds()
            .iter()
            .filter(|u| !u.is_device)
            .map(|u| 1u64 << u.size_bits)
            .sum();
        assert_eq!(sum, m.free_bytes());
        assert!(
            m.untypeds()
                .iter()
                .all(|u| u.paddr % (1 << u.size_bits) == 0)
        );
    }

    #[test]
    fn highest_avoids_what_is_taken() {
        let m = memory();
        assert_eq!(m.highest(0x1000, 0x1000, &[]), Some(0x7bff_f000));
        assert_eq!(
            m.highest(0x20_0000, 0x20_0000, &[(0x7bff_f000, 0x7c00_0000)]),
            Some(0x7bc0_0000)
        );
        assert_eq!(m.highest(1 << 40, 0x1000, &[]), None);
    }

    fn frames(count: u32, paddr: Option<u64>) -> Creation {
        Creation {
            name: "mr_x_000000000".into(),
            first: 0,
            count,
            object: ObjectType::Frame4K as u8,
            size_bits: 12,
            bytes_bits: 12,
            paddr,
        }
    }

    #[test]
    fn simulation_has_figures() {
        let m = memory();
        let (at, left) = m
            .simulate(&[frames(2, Some(0x4000_0000)), frames(3, None)])
            .unwrap();
        assert_eq!(at[0], 0x4000_0000);
        assert_eq!(left, m.free_bytes() - 5 * 0x1000);
        let pages = (m.free_bytes() >> 12) as u32 + 1;
        let error = m.simulate(&[frames(pages, None)]).unwrap_err().to_string();
        assert!(
            error.contains("no room for mr_x_000000000 (1 of 0x1000 bytes each)"),
            "{error}"
        );
        let error = m
            .simulate(&[frames(1, Some(0x3000_0000))])
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "memory at 0x30000000 for mr_x_000000000 is not free at boot"
        );
    }
}
