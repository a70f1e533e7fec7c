// SPDX-License-Identifier: BSD-2-Clause
//! R and C (SPEC I8). The first vCPU loads and stores through an entry, the second makes calls on that entry at the
//! same time and keeps the R and C that they answer. What it has and what the entry shows in the end must have
//! the access.

use crate::pair::{self, ENOUGH};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use guest_support::hypercall::hypercall;
use guest_support::machine::timebase;
use guest_support::mmu::{Mapping, access, map_identity, segment};
use guest_support::papr::PageSize;
use guest_support::papr::hcall::flags;
use guest_support::papr::hcall::number::*;
use guest_support::papr::hcall::status::*;
use guest_support::papr::hpte::{C, M, R};
use guest_support::trap::vector;
use guest_support::{Guest, Outcome, Random, check, check_eq, fail, println};

/// Rounds are expensive here: so many less.
const FEWER: u64 = 40;
const EA: u64 = 6 << 40;
const SIZE: PageSize = PageSize::Size4K;
/// Ticks after which an access that misses again and again has failed: 20 s.
const PATIENCE: u64 = 20 * 512_000_000;
/// Protection: all may read and write.
const WRITABLE: u64 = 2;

/// Index of the entry, R and C that the second vCPU was answered, and calls that it has made.
static INDEX: AtomicU64 = AtomicU64::new(0);
static HARVEST: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);
/// Number of the round if calls may be made, else 0; the round that the second vCPU is in.
static ROUND: AtomicU64 = AtomicU64::new(0);
static INSIDE: AtomicU64 = AtomicU64::new(0);

fn map() -> Mapping {
    segment(EA, 0x7abd, SIZE)
}

/// DSISR of an access that no entry translates.
fn miss(store: bool) -> u64 {
    0x4000_0000 | if store { 0x0200_0000 } else { 0 }
}

/// The entry that is accessed: dw0 and dw1.
fn entry(guest: &Guest) -> (u64, u64) {
    map().entry(EA, guest.free[0], SIZE, WRITABLE)
}

pub fn cleared(guest: &'static Guest) -> Outcome {
    prepare(guest)?;
    pair::both(guest, accesses, clearing)?;
    end()
}

pub fn replaced(guest: &'static Guest) -> Outcome {
    prepare(guest)?;
    pair::both(guest, accesses, replacing)?;
    end()
}

fn prepare(guest: &'static Guest) -> Outcome {
    check!(map_identity(guest, guest.free[0]));
    map().load(1);
    let answer = map().enter(guest, EA, guest.free[0], SIZE, WRITABLE);
    check_eq!(answer.status, H_SUCCESS);
    INDEX.store(answer.words[0], SeqCst);
    CALLS.store(0, SeqCst);
    ROUND.store(0, SeqCst);
    Ok(())
}

fn end() -> Outcome {
    println!("groups: {} calls beside accesses", CALLS.load(SeqCst));
    check_eq!(
        hypercall(H_REMOVE, [0, INDEX.load(SeqCst), 0]).status,
        H_SUCCESS
    );
    Ok(())
}

/// The first vCPU.
fn accesses(guest: &'static Guest, mut random: Random) -> Outcome {
    let index = INDEX.load(SeqCst);
    let result = (1..=pair::rounds(guest) / FEWER).try_for_each(|round| {
        // Nobody else is here: the entry is made as if nobody had ever accessed it.
        for call in [H_CLEAR_REF, H_CLEAR_MOD] {
            check_eq!(hypercall(call, [0, index]).status, H_SUCCESS);
        }
        HARVEST.store(0, SeqCst);
        let store = random.below(2) == 0;
        let before = CALLS.load(SeqCst);
        ROUND.store(round, SeqCst);
        // In the midst of the other's calls, the first of which has begun.
        let (from, wanted) = (timebase(), before + 1 + random.below(4));
        while CALLS.load(SeqCst) < wanted {
            if ENOUGH.load(SeqCst) {
                // The second vCPU has failed.
                return Ok(());
            }
            core::hint::spin_loop();
        }
        while let Some(trap) = access(EA, store) {
            // The entry is being replaced.
            check_eq!(
                (trap.vector, trap.dsisr),
                (vector::DATA_STORAGE, miss(store))
            );
            check!(timebase() - from < PATIENCE);
        }
        ROUND.store(0, SeqCst);
        while INSIDE.load(SeqCst) != 0 {
            core::hint::spin_loop();
        }
        let answer = hypercall(H_READ, [0, index]);
        let (v, r) = entry(guest);
        let seen = answer.words[1] | HARVEST.load(SeqCst);
        let must = if store { R | C } else { R };
        let same = answer.words[0] == v && answer.words[1] & !0x3ff == r & !0x3ff;
        if !same || seen & must != must {
            fail!(
                "round {round}, store {store}: {:x?} and {:#x}",
                &answer.words[..2],
                HARVEST.load(SeqCst)
            );
        }
        Ok(())
    });
    // The second one must not wait for another round.
    ENOUGH.store(true, SeqCst);
    result
}

/// The second vCPU makes calls while a round lasts.
fn calls(mut one: impl FnMut() -> Outcome<u64>) -> Outcome {
    while !ENOUGH.load(SeqCst) {
        let round = ROUND.load(SeqCst);
        if round == 0 {
            core::hint::spin_loop();
            continue;
        }
        INSIDE.store(round, SeqCst);
        let mut result = Ok(0);
        while ROUND.load(SeqCst) == round && result.is_ok() {
            // A call counts when it has begun.
            CALLS.fetch_add(1, SeqCst);
            result = one();
            if let Ok(rc) = result {
                HARVEST.fetch_or(rc & (R | C), SeqCst);
            }
        }
        if result.is_err() {
            ENOUGH.store(true, SeqCst);
        }
        INSIDE.store(0, SeqCst);
        result?;
    }
    Ok(())
}

/// Clears R or C, or changes the protection, which leaves them: the R and C that were cleared.
fn clear(random: &mut Random, index: u64) -> Outcome<u64> {
    let (call, flags, bit) = match random.below(4) {
        0 => (H_CLEAR_REF, 0, R),
        1 | 2 => (H_CLEAR_MOD, 0, C),
        _ => (H_PROTECT, random.pick(&[WRITABLE, WRITABLE | 4]), 0),
    };
    let answer = hypercall(call, [flags, index, 0]);
    check_eq!(answer.status, H_SUCCESS);
    Ok(answer.words[0] & bit)
}

fn clearing(_: &'static Guest, mut random: Random) -> Outcome {
    let index = INDEX.load(SeqCst);
    calls(|| clear(&mut random, index))
}

fn replacing(guest: &'static Guest, mut random: Random) -> Outcome {
    let index = INDEX.load(SeqCst);
    let (v, r) = entry(guest);
    calls(|| {
        if random.below(2) == 0 {
            return clear(&mut random, index);
        }
        let removed = hypercall(H_REMOVE, [0, index, 0]);
        check_eq!((removed.status, removed.words[0]), (H_SUCCESS, v));
        let entered = hypercall(H_ENTER, [flags::EXACT, index, v, r | M]);
        check_eq!((entered.status, entered.words[0]), (H_SUCCESS, index));
        Ok(removed.words[1])
    })
}
