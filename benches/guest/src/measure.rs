// SPDX-License-Identifier: BSD-2-Clause
//! Blocks of rounds: the lowest block counts, as interrupts of the host only ever add.

use core::hint::black_box;
use guest_support::machine::timebase;
use guest_support::println;

/// Rounds of a block.
pub const ROUNDS: u64 = 64;
/// Blocks of a row.
const BLOCKS: u64 = 12;

/// Marks the beginning of a row for `cargo xtask bench explain`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bench_begin(name: *const u8, length: usize) {
    black_box((name, length));
}

/// Says that what follows is measured as `name`.
pub fn begin(name: &str) {
    bench_begin(name.as_ptr(), name.len());
}

/// Prints a figure: `ticks` for one round, or for `rounds` of them.
pub fn print(name: &str, ticks: u64, rounds: u64, measured: u64) {
    // 512 ticks in 1000 instructions.
    let instructions = ticks * 1000 / 512 / rounds;
    println!("bench {name} {instructions} {measured}");
}

/// Measures [`ROUNDS`] calls of `body`; `before` and `after` each block are not measured. `body`
/// takes the number of the round in its block.
pub fn row_between(
    name: &str,
    mut before: impl FnMut(),
    mut body: impl FnMut(u64),
    mut after: impl FnMut(),
) {
    let mut best = u64::MAX;
    for block in 0..BLOCKS {
        before();
        if block == 0 {
            begin(name);
        }
        let start = timebase();
        for round in 0..ROUNDS {
            body(round);
        }
        best = best.min(timebase() - start);
        after();
    }
    print(name, best, ROUNDS, ROUNDS * BLOCKS);
}

/// The same with nothing in between.
pub fn row(name: &str, body: impl FnMut(u64)) {
    row_between(name, || {}, body, || {});
}

/// Measures something that measures itself: `body` answers ticks. The lowest counts.
pub fn row_of(name: &str, mut body: impl FnMut() -> u64) {
    begin(name);
    let mut best = u64::MAX;
    for _ in 0..ROUNDS {
        best = best.min(body());
    }
    print(name, best, 1, ROUNDS);
}
