// SPDX-License-Identifier: BSD-2-Clause
//! Two slots under a guest that uses them all the time (`tests/guests/slots`): INVALID and back, moved, deleted
//! (S3). The guest is paused for moments only: to count free frames, to have it dispatched, to check the chains.

use crate::calls::{
    Outcome, abort, advance, check, complete, flush, free_frames, get, pause_now, refused, resume,
    set, set_region, settle, sleep, stats, times, verify, zero,
};
use crate::script::Out;
use partita_guest_protocol::memslots::{Refusal, Step};
use partita_papr::onereg::{VPA_DTL, VPA_SLB};
use sel4::TIMEBASE_HZ;

/// Bytes of each slot; they are made of frames of 64 KiB.
const SLOT: u64 = 1 << 20;
const FRAMES: u64 = SLOT >> 16;
const KEPT: u64 = 5;
const OTHER: u64 = 6;
/// Bytes of a trace log.
const LOG: u64 = 48 * 40;
/// Rounds at least, and at most: it goes on until the guest has seen enough.
const ROUNDS: u64 = 100;
const LIMIT: u64 = 20_000;

fn gfn(gpa: u64) -> u64 {
    gpa >> 12
}

/// The guest's mailbox: a word that becomes 0 tells it something, its SLB shadow's address what it has done.
struct Guest {
    mailbox: u64,
}

impl Guest {
    fn tell(&self, step: u64) -> Outcome {
        zero(self.mailbox + 8 * step, 8)
    }

    fn has_done(&self, step: u64) -> Outcome<bool> {
        let slb = get(0, VPA_SLB).ok("S1.2")?.words[0];
        Ok(slb == self.mailbox + 0x800 + 128 * step)
    }

    fn wait(&self, what: &'static str, step: u64) -> Outcome {
        let end = sel4::arch::timebase() + 100 * TIMEBASE_HZ;
        while !self.has_done(step)? {
            check(what, sel4::arch::timebase() < end, step, 0)?;
            sleep(2000);
        }
        Ok(())
    }
}

/// All of it; the guest has `memory` bytes in slot 0, and the two slots lie behind them.
pub fn running(memory: u64, out: &mut Out<'_>) -> Outcome {
    let [kept, other, hole] = [memory, memory + SLOT, memory + 2 * SLOT];
    let guest = Guest {
        mailbox: crate::script::wait_for_vpa()?.1 & !0xfff,
    };
    let [slots, ..] = stats()?;
    // On a core of its own the guest takes frames for its memory meanwhile.
    pause_now()?;
    let free = free_frames()?;
    complete(set_region(KEPT, kept, SLOT, 0), "S3.4: created")?;
    complete(set_region(OTHER, other, SLOT, 0), "S3.4: created")?;
    check("S2.1: without a frame", free_frames()? == free, free, 0)?;
    resume()?;
    guest.tell(1)?;
    guest.wait("S2: the guest uses both", 1)?;
    let used = free_frames()?;
    check(
        "S2.9: all pages found",
        used + 2 * FRAMES == free,
        used,
        free,
    )?;

    guest.tell(2)?;
    let mut rounds = 0;
    while rounds < ROUNDS || !guest.has_done(2)? {
        check("S3: it comes back", rounds < LIMIT, rounds, 0)?;
        match rounds % 4 {
            0 => given_up(kept, false)?,
            1 => given_up(kept, true)?,
            2 => given_up_halfway(kept)?,
            _ => moved(kept, hole)?,
        }
        rounds += 1;
    }
    let still = free_frames()?;
    check("S3: it kept its frames", still == used, still, used)?;
    invariants(out, "after that")?;
    out(format_args!(
        "S3.5, S3.6: INVALID and back, or moved, {rounds} times under the guest"
    ));

    guest.tell(3)?;
    rounds = 0;
    while rounds < ROUNDS || !guest.has_done(3)? {
        check("S3: it comes anew", rounds < LIMIT, rounds, 0)?;
        deleted(other)?;
        let now = free_frames()?;
        check("S3.11: freed once", now + FRAMES == free, now, free)?;
        sleep(1000);
        complete(set_region(OTHER, other, SLOT, 0), "S3.4: made anew")?;
        sleep(1000);
        rounds += 1;
    }
    invariants(out, "after that")?;
    out(format_args!(
        "S3.5, S3.11: deleted and made anew {rounds} times under the guest"
    ));

    complete(set_region(KEPT, 0, 0, 0), "S3.5: deleted")?;
    complete(set_region(OTHER, 0, 0, 0), "S3.5: deleted")?;
    check("S3.11: no slot", stats()?[0] == slots, stats()?[0], slots)?;
    let now = free_frames()?;
    check("S3.11: all frames are free", now == free, now, free)?;
    // No entry refers to a slot that is gone (I7): the walk checks each.
    invariants(out, "without the slots")?;
    guest.tell(4)?;
    guest.wait("S3.6: everything can be removed", 4)?;
    out(format_args!("S3.6, I7: nothing refers to them"));
    Ok(())
}

/// Deletes the slot that is made anew. Its pages are flushed once, and the guest goes on before they are taken away:
/// none is pinned again (S3.6).
fn deleted(base: u64) -> Outcome {
    invalid(OTHER, base)?;
    flush(gfn(base), gfn(base + SLOT))?;
    sleep(1000);
    let step = settle(advance(), "S3.5: deleted")?;
    let words = step.to_answer().words;
    check(
        "S3.6: nothing is made through it",
        step == Step::Done,
        words[0],
        words[1],
    )
}

/// Begins to delete a slot: INVALID is published, its readers are gone.
fn invalid(id: u64, base: u64) -> Outcome {
    let step = settle(set_region(id, 0, 0, 0), "S3.5: step one")?;
    let all = Step::Flush {
        first: gfn(base),
        end: gfn(base + SLOT),
    };
    check("S3.5: to be flushed", step == all, gfn(base), 0)?;
    let other = set_region(OTHER + 1, base + 4 * SLOT, SLOT, 0);
    refused(other, "S3.2: one at a time", Refusal::InProgress)
}

fn restored() -> Outcome {
    let step = settle(abort(), "S3: abort")?;
    check("S3: the original is back", step == Step::Restored, 0, 0)?;
    sleep(1000);
    Ok(())
}

/// A deletion that is given up before, or after, what uses the slot has gone.
fn given_up(base: u64, after: bool) -> Outcome {
    invalid(KEPT, base)?;
    sleep(500);
    if after {
        flush(gfn(base), gfn(base + SLOT))?;
        sleep(1000);
    }
    restored()
}

/// A deletion that fails: an area of the guest in the last page is not let go, when the pages before it have been
/// taken away already.
fn given_up_halfway(base: u64) -> Outcome {
    let last = base + SLOT - 0x8000;
    set(0, VPA_DTL, [last, LOG]).ok("S1.9: a trace log in it")?;
    dispatched(2)?;
    let dtl = get(0, VPA_DTL).ok("S1.2")?;
    dtl.must("S1.3: it is there", dtl.words[..2] == [last, LOG])?;
    invalid(KEPT, base)?;
    flush(gfn(base), gfn(base + SLOT))?;
    let page = gfn(base + SLOT) - 16;
    let step = settle(advance(), "S3.5")?;
    check(
        "S0.19: its last page is pinned",
        step == Step::Pinned(page),
        page,
        step.to_answer().words[0] << 32 | step.to_answer().words[1],
    )?;
    sleep(500);
    restored()?;
    set(0, VPA_DTL, [0, 0]).ok("S1.9: unregistered")?;
    sleep(1000);
    Ok(())
}

/// Waits until the vCPU has been given its processor so many times more: it has passed its entry then. On a core of
/// its own it loses it by a pause only.
fn dispatched(times_more: u64) -> Outcome {
    let before = times()?.0;
    for _ in 0..10_000 {
        pause_now()?;
        resume()?;
        sleep(500);
        if times()?.0 >= before + times_more {
            return Ok(());
        }
    }
    check("the guest is dispatched", false, before, 0)
}

/// To another place, where the guest does not look for it, and back.
fn moved(base: u64, hole: u64) -> Outcome {
    complete(set_region(KEPT, hole, SLOT, 0), "S3: moved")?;
    sleep(1000);
    complete(set_region(KEPT, base, SLOT, 0), "S3: moved back")?;
    sleep(1000);
    Ok(())
}

/// Valid entries, and those that need interception, on the live table.
fn verify_paused() -> Outcome<(u64, u64)> {
    pause_now()?;
    let found = verify()?;
    resume()?;
    Ok(found)
}

fn invariants(out: &mut Out<'_>, when: &str) -> Outcome {
    let (valid, absent) = verify_paused()?;
    out(format_args!(
        "I1 to I7 {when}: {valid} valid entries, {absent} intercepted"
    ));
    check("I1: a running guest has entries", valid > 0, valid, absent)
}
