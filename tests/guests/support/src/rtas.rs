// SPDX-License-Identifier: BSD-2-Clause
//! RTAS calls by H_RTAS (SPEC 4.4).

use crate::hypercall::hypercall;
use core::cell::UnsafeCell;
use partita_papr::hcall::number::H_RTAS;

/// Words of an argument block: header, arguments and results.
pub const BLOCK_WORDS: usize = 3 + 16;

#[repr(C, align(128))]
struct Block(UnsafeCell<[u32; BLOCK_WORDS]>);

// SAFETY: the vCPUs of a program make RTAS calls one after another, but for `stop_self`, which has a block of its
// own, where all write the same.
unsafe impl Sync for Block {}

static BLOCK: Block = Block(UnsafeCell::new([0; BLOCK_WORDS]));
static STOP_SELF: Block = Block(UnsafeCell::new([0; BLOCK_WORDS]));

/// The words of the argument block, in the byte order of the machine that fills them.
pub fn block() -> *mut u32 {
    BLOCK.0.get().cast()
}

/// Writes word `index` of the block.
pub fn set(index: usize, value: u32) {
    assert!(index < BLOCK_WORDS);
    // SAFETY: inside the block.
    unsafe { block().add(index).write_volatile(value.to_be()) };
}

/// Reads word `index` of the block.
pub fn get(index: usize) -> u32 {
    assert!(index < BLOCK_WORDS);
    // SAFETY: inside the block.
    u32::from_be(unsafe { block().add(index).read_volatile() })
}

/// Fills the block and makes the call; answers the hypercall's status. Results follow the arguments.
pub fn call(token: u32, args: &[u32], results: usize) -> i64 {
    let header = [token, args.len() as u32, results as u32];
    for (i, word) in header.iter().chain(args).enumerate() {
        set(i, *word);
    }
    for i in 0..results {
        set(3 + args.len() + i, 0xdead_beef);
    }
    hypercall(H_RTAS, [block() as u64]).status
}

/// stop-self, while other vCPUs may make calls. Comes back only if it fails.
pub fn stop_self(token: u32) -> i64 {
    let block: *mut u32 = STOP_SELF.0.get().cast();
    // SAFETY: its first word; the others, the numbers of arguments and results, are zero.
    unsafe { block.write_volatile(token.to_be()) };
    hypercall(H_RTAS, [block as u64]).status
}

/// A call and its results; the first is the RTAS status.
pub fn service<const N: usize>(token: u32, args: &[u32]) -> (i64, [u32; N]) {
    let status = call(token, args, N);
    (status, core::array::from_fn(|i| get(3 + args.len() + i)))
}
