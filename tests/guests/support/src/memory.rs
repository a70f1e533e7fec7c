// SPDX-License-Identifier: BSD-2-Clause
//! Guest memory by address. Effective addresses: with translation off they are real ones.

/// Reads a doubleword, little-endian; `address` is a multiple of 8.
#[inline]
pub fn read(address: u64) -> u64 {
    let at: *const u64 = core::ptr::with_exposed_provenance(address as usize);
    // SAFETY: all memory of the guest is the program's; a wrong address is a trap, which ends it.
    unsafe { at.read_volatile() }
}

/// Writes a doubleword, little-endian; `address` is a multiple of 8.
#[inline]
pub fn write(address: u64, value: u64) {
    let at: *mut u64 = core::ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: as in `read`; callers name memory that they have from `Guest::free`.
    unsafe { at.write_volatile(value) }
}

/// Reads a word, big-endian.
pub fn read_be32(address: u64) -> u32 {
    let at: *const u32 = core::ptr::with_exposed_provenance(address as usize);
    // SAFETY: as in `read`.
    u32::from_be(unsafe { at.read_volatile() })
}

/// Reads a doubleword, big-endian.
pub fn read_be64(address: u64) -> u64 {
    u64::from_be(read(address))
}

/// Writes a byte.
pub fn write_byte(address: u64, value: u8) {
    let at: *mut u8 = core::ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: as in `write`.
    unsafe { at.write_volatile(value) }
}

/// Reads a byte.
pub fn read_byte(address: u64) -> u8 {
    let at: *const u8 = core::ptr::with_exposed_provenance(address as usize);
    // SAFETY: as in `read`.
    unsafe { at.read_volatile() }
}

/// Writes big-endian bytes of a word.
pub fn write_be32(address: u64, value: u32) {
    for (byte, at) in value.to_be_bytes().into_iter().zip(address..) {
        write_byte(at, byte);
    }
}

/// Fills `bytes` (a multiple of 8) with doublewords that depend on `seed` and the place.
pub fn fill(address: u64, bytes: u64, seed: u64) {
    for offset in (0..bytes).step_by(8) {
        write(address + offset, pattern(seed, offset));
    }
}

/// Whether the memory is as [`fill`] leaves it.
pub fn is_filled(address: u64, bytes: u64, seed: u64) -> bool {
    (0..bytes)
        .step_by(8)
        .all(|offset| read(address + offset) == pattern(seed, offset))
}

/// Whether `bytes` (a multiple of 8) are all 0.
pub fn is_zero(address: u64, bytes: u64) -> bool {
    (0..bytes)
        .step_by(8)
        .all(|offset| read(address + offset) == 0)
}

const fn pattern(seed: u64, offset: u64) -> u64 {
    (seed ^ offset).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}
