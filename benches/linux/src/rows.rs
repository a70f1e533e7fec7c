// SPDX-License-Identifier: BSD-2-Clause
//! The rows. Of several blocks the lowest counts, as interrupts only ever add.

use crate::system::{
    Outcome, execute, exit, fork, line, map, page_size, pipe, power_off, read_byte, timebase,
    unmap, wait_for, write,
};

/// Blocks of a row; rounds of a block, where a round is short.
const BLOCKS: u64 = 16;
const ROUNDS: u64 = 64;

pub extern "C" fn main() -> ! {
    match all() {
        Ok(()) => line(format_args!("bench done")),
        Err(why) => line(format_args!("bench failed: {why}")),
    }
    power_off()
}

fn all() -> Outcome {
    memory()?;
    row("linux-fork-exit-wait", 1, || match fork()? {
        Some(child) => wait_for(child),
        None => exit(),
    })?;
    row("linux-exec", 1, || wait_for(execute()?))?;
    ping_pong()?;
    // Carriage returns do not show.
    row("linux-console-byte", ROUNDS, || write(1, b"\r"))
}

/// Prints a figure: ticks for one round, from those for a block.
fn print(name: &str, ticks: u64, rounds: u64) {
    // 512 ticks in 1000 instructions.
    let instructions = ticks * 1000 / 512 / rounds;
    line(format_args!(
        "bench {name} {instructions} {}",
        BLOCKS * rounds
    ));
}

/// Measures blocks of so many rounds.
fn row(name: &str, rounds: u64, mut body: impl FnMut() -> Outcome) -> Outcome {
    let mut best = u64::MAX;
    for _ in 0..BLOCKS {
        let start = timebase();
        for _ in 0..rounds {
            body()?;
        }
        best = best.min(timebase() - start);
    }
    print(name, best, rounds);
    Ok(())
}

/// The first store to each page of fresh memory, and giving it back.
fn memory() -> Outcome {
    let page = page_size()?;
    let (mut touched, mut unmapped) = (u64::MAX, u64::MAX);
    for _ in 0..BLOCKS {
        let memory = map(ROUNDS * page)?;
        let start = timebase();
        for i in 0..ROUNDS {
            let at = core::ptr::with_exposed_provenance_mut::<u8>((memory + i * page) as usize);
            // SAFETY: in memory that has just been mapped.
            unsafe { at.write_volatile(1) };
        }
        let middle = timebase();
        unmap(memory, ROUNDS * page)?;
        unmapped = unmapped.min(timebase() - middle);
        touched = touched.min(middle - start);
    }
    print("linux-page-touch", touched, ROUNDS);
    print("linux-munmap-page", unmapped, ROUNDS);
    Ok(())
}

/// A byte to another process and back.
fn ping_pong() -> Outcome {
    let (there, back) = (pipe()?, pipe()?);
    let Some(child) = fork()? else {
        while let Ok(Some(byte)) = read_byte(there[0]) {
            if byte == 0 || write(back[1], &[byte]).is_err() {
                break;
            }
        }
        exit()
    };
    row("linux-pipe-ping-pong", ROUNDS, || {
        write(there[1], b"x")?;
        read_byte(back[0]).map(drop)
    })?;
    write(there[1], &[0])?;
    wait_for(child)
}
