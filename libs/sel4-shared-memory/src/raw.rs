// SPDX-License-Identifier: BSD-2-Clause
//! Volatile copies of bytes, a doubleword at a time where the shared side is aligned. Each byte of
//! the shared side is accessed exactly once. Not for device registers, whose width matters.

const WORD: usize = size_of::<u64>();

/// How many single bytes come before the first aligned doubleword of `len` bytes from address
/// `addr`, and how many doublewords follow.
fn split(addr: usize, len: usize) -> (usize, usize) {
    let head = addr.wrapping_neg() % WORD;
    if head >= len {
        (len, 0)
    } else {
        (head, (len - head) / WORD)
    }
}

/// Copies `len` bytes of shared memory to memory of our own.
///
/// # Safety
///
/// `src` must be valid for reads and `dst` for writes of `len` bytes; they must not overlap.
pub(crate) unsafe fn copy_from_shared(dst: *mut u8, src: *const u8, len: usize) {
    let (head, words) = split(src.addr(), len);
    let tail = head + words * WORD;
    let byte = |i: usize| {
        // SAFETY: i < len, and both pointers are valid for that many bytes.
        unsafe { dst.add(i).write(src.add(i).read_volatile()) }
    };
    (0..head).for_each(byte);
    for i in (head..tail).step_by(WORD) {
        // SAFETY: the doubleword lies within both; `src + i` is aligned.
        unsafe {
            dst.add(i)
                .cast::<u64>()
                .write_unaligned(src.add(i).cast::<u64>().read_volatile())
        }
    }
    (tail..len).for_each(byte);
}

/// Copies `len` bytes of our own memory to shared memory.
///
/// # Safety
///
/// `src` must be valid for reads and `dst` for writes of `len` bytes; they must not overlap.
pub(crate) unsafe fn copy_to_shared(dst: *mut u8, src: *const u8, len: usize) {
    let (head, words) = split(dst.addr(), len);
    let tail = head + words * WORD;
    let byte = |i: usize| {
        // SAFETY: i < len, and both pointers are valid for that many bytes.
        unsafe { dst.add(i).write_volatile(src.add(i).read()) }
    };
    (0..head).for_each(byte);
    for i in (head..tail).step_by(WORD) {
        // SAFETY: the doubleword lies within both; `dst + i` is aligned.
        unsafe {
            dst.add(i)
                .cast::<u64>()
                .write_volatile(src.add(i).cast::<u64>().read_unaligned())
        }
    }
    (tail..len).for_each(byte);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alignment_and_length() {
        let source: Vec<u8> = (0..64).collect();
        for offset in 0..16 {
            for len in 0..40 {
                let mut out = [0xffu8; 64];
                // SAFETY: offset + len is below 64 on both sides.
                unsafe { copy_from_shared(out.as_mut_ptr(), source.as_ptr().add(offset), len) };
                assert_eq!(out[..len], source[offset..offset + len]);
                assert!(out[len..].iter().all(|&b| b == 0xff));

                let mut out = [0xffu8; 64];
                // SAFETY: as above.
                unsafe { copy_to_shared(out.as_mut_ptr().add(offset), source.as_ptr(), len) };
                assert_eq!(out[offset..offset + len], source[..len]);
                assert!(
                    out[..offset]
                        .iter()
                        .chain(&out[offset + len..])
                        .all(|&b| b == 0xff)
                );
            }
        }
    }
}
