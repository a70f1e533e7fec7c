// SPDX-License-Identifier: BSD-2-Clause
//! What is done to the guest.

use crate::calls::{
    Outcome, abort, advance, check, collect_dirty, complete, flush, flush_once, free_frames, get,
    kick, pause, pause_now, reclaim_by_force, refused, release, reset, resume, set, set_region,
    settle, sleep, stats, times, vcpu_call, verify,
};
use core::fmt;
use partita_guest_protocol::dirty::DirtyLog;
use partita_guest_protocol::memslots::{FLAG_LOG_DIRTY, FLAG_READ_ONLY, Refusal, Step};
use partita_guest_protocol::vpa::Invalid;
use partita_guest_protocol::{answer, hpt, vcpu};
use partita_papr::onereg::{VPA_ADDR, VPA_DTL, VPA_SLB};
use sel4::TIMEBASE_HZ;

/// Prints a line.
pub type Out<'a> = &'a mut dyn FnMut(fmt::Arguments<'_>);

/// Where the slots of the test are: far above the guest's memory.
const BASE: u64 = 16 << 30;
const ELSEWHERE: u64 = 17 << 30;
/// It takes frames of 64 KiB, of which a guest of whole MiBs has none.
const SIZE: u64 = 4 << 16;
const ID: u64 = 5;
/// Bytes of a trace log.
const LOG: u64 = 48 * 40;
/// Pauses of the long test (with the guest on another core, fewer: each waits for the other core), and microseconds
/// between two of them.
const PAUSES: u64 = 10_000;
const PAUSES_ACROSS: u64 = 2000;
const EVERY: u64 = 100;

fn gfn(gpa: u64) -> u64 {
    gpa >> 12
}

/// Pauses and resumes the guest every 100 us while it makes hypercalls, and kicks it now and then: the
/// guest checks that each call takes effect once (DESIGN section 4, promise 8).
pub fn pauses(core: u64, out: &mut Out<'_>) -> Outcome {
    let pauses = if core == 0 { PAUSES } else { PAUSES_ACROSS };
    // The guest is on its way when it has been dispatched a few times.
    sleep(1_000_000);
    let mut waited = 0;
    for n in 0..pauses {
        if !pause(0)? {
            waited += 1;
            // It comes out with its call finished; in between it may be resumed after all.
            if n % 2 == 0 {
                sleep(EVERY);
                while !pause(0)? {
                    sleep(20);
                }
            }
        }
        if n % 3 == 0 {
            sleep(EVERY / 4);
        }
        resume()?;
        if n % 8 == 0 {
            kick()?;
        }
        sleep(EVERY);
        if n % 2000 == 1999 {
            out(format_args!("{} pauses, {waited} had to wait", n + 1));
        }
    }
    // Whoever sleeps without an end is woken by the kick alone.
    for _ in 0..200 {
        kick()?;
        sleep(10_000);
    }
    pause_now()?;
    let (valid, _) = verify()?;
    resume()?;
    out(format_args!(
        "{pauses} pauses, {waited} had to wait, {valid} valid entries"
    ));
    Ok(())
}

/// Lets the guest run, and ends its sleeps.
fn kicks(count: u64) -> Outcome {
    for _ in 0..count {
        kick()?;
        sleep(2000);
    }
    Ok(())
}

/// The vCPU's dispatches after it has been woken some times. On a core of its own it is dispatched for nothing else, and
/// it works for a while before it sleeps.
fn dispatches_of_kicks() -> Outcome<u64> {
    let (before, _) = times()?;
    for _ in 0..50 {
        kick()?;
        sleep(300_000);
        if times()?.0 > before + 2 {
            break;
        }
    }
    Ok(times()?.0)
}

/// The guest's first 2 MiB, with its areas, are taken away while it runs: the table is poisoned, the guest stops,
/// nobody else does, and a reset brings it back (DESIGN section 4, the pin rule).
pub fn poison(out: &mut Out<'_>) -> Outcome {
    let (vpa, slb) = wait_for_vpa()?;
    set(0, VPA_DTL, [slb + 0x100, LOG]).ok("S1.9: a trace log")?;
    kicks(2000)?;
    let [_, held, ..] = stats()?;
    let (before, _) = times()?;
    let runs = dispatches_of_kicks()?;
    check("the guest runs", runs > before, runs, before)?;
    check("S0: its area is below 2 MiB", vpa < 2 << 20, vpa, 0)?;
    let step = settle(reclaim_by_force(0), "the frame goes at once")?;
    check("the frame goes at once", step == Step::Done, 0, 0)?;
    // One of 2 MiB, or eight.
    check("S2.9: it is free", stats()?[1] < held, held, stats()?[1])?;
    kicks(200)?;
    let (stopped, _) = times()?;
    kicks(200)?;
    let (later, _) = times()?;
    check(
        "the guest does not run any more",
        stopped == later,
        stopped,
        later,
    )?;
    let dead = vcpu_call(vcpu::TIMES, 0);
    dead.must("its server goes on", dead.label == answer::OK)?;
    // No entry can be made or taken away while the table is poisoned; emptying it ends that.
    let refused = flush_once(0, 1 << 14);
    refused.must(
        "a poisoned table is not flushed",
        refused.label == hpt::TABLE,
    )?;
    // What vpa has mapped is gone: it looks at its areas all the same, and goes on.
    check("its counter is gone", times()?.1.is_none(), 0, 0)?;
    for at in [slb + 0x200, slb + 0x300] {
        set(0, VPA_DTL, [at, LOG]).ok("S1.3: recorded")?;
        sleep(1000);
        let got = get(0, VPA_ADDR).ok("vpa goes on")?;
        got.must("S1.2", got.words[0] == vpa || got.words[0] == 0)?;
    }
    out(format_args!("poisoned: {runs} dispatches, then none"));
    check("its reset", reset()?, 0, 0)?;
    let (vpa_again, _) = wait_for_vpa()?;
    check("its VPA is back", vpa_again == vpa, vpa_again, vpa)?;
    set(0, VPA_DTL, [slb + 0x100, LOG]).ok("S1.9: a trace log")?;
    kicks(2000)?;
    let (_, counted) = times()?;
    let later = dispatches_of_kicks()?;
    let (_, count) = times()?;
    check("it runs again", later > stopped, later, stopped)?;
    let grows = counted.is_some_and(|before| count.is_some_and(|now| now > before));
    check("it is counted", grows, later, 0)?;
    pause_now()?;
    let (valid, _) = verify()?;
    resume()?;
    out(format_args!(
        "reset: {later} dispatches, {valid} valid entries"
    ));
    Ok(())
}

/// All of it, on a Linux guest.
pub fn everything(memory: u64, log: DirtyLog<'_>, log_words: usize, out: &mut Out<'_>) -> Outcome {
    let (vpa, _) = wait_for_vpa()?;
    out(format_args!("S1.2: the guest has its VPA at {vpa:#x}"));
    invariants(out, "while it boots")?;
    areas(vpa)?;
    out(format_args!("S1.1 to S1.9: areas are read and set"));
    slots()?;
    out(format_args!("S3.4 to S3.7: a slot comes, moves and goes"));
    areas_in_slots(vpa)?;
    out(format_args!("S0.19, S3.11: an area in a slot that goes"));
    dirty(memory, log, log_words)?;
    out(format_args!("S3.8: changed pages are logged"));
    let pages = restored(memory)?;
    out(format_args!(
        "S3.5, S3.6: all {pages} pages invalid, flushed and back"
    ));
    invariants(out, "after that")?;
    // While it goes on with its work.
    for _ in 0..2000 {
        pause(0)?;
        sleep(EVERY / 2);
        resume()?;
        sleep(EVERY);
    }
    invariants(out, "after 2000 pauses")?;
    restart()?;
    out(format_args!("S1.10, S1.11: restarted without areas"));
    Ok(())
}

/// Waits until the guest has a VPA and an SLB shadow; their addresses.
pub fn wait_for_vpa() -> Outcome<(u64, u64)> {
    let end = sel4::arch::timebase() + 200 * TIMEBASE_HZ;
    while sel4::arch::timebase() < end {
        let [vpa, slb] = [VPA_ADDR, VPA_SLB].map(|id| get(0, id));
        let [vpa, slb] = [vpa.ok("S1.2 GET")?.words[0], slb.ok("S1.2 GET")?.words[0]];
        if vpa != 0 && slb != 0 {
            return Ok((vpa, slb));
        }
        sleep(20_000);
    }
    check("the guest never registers a VPA", false, 0, 0).map(|()| (0, 0))
}

/// I1 to I7 on the live table, with the guest paused.
fn invariants(out: &mut Out<'_>, when: &str) -> Outcome {
    let turns = pause_now()?;
    let (valid, intercepted) = verify()?;
    resume()?;
    out(format_args!(
        "I1 to I7 {when}: {valid} valid entries, {intercepted} intercepted, {turns} times not yet"
    ));
    let enough = valid > 0 && valid + intercepted > 100;
    check(
        "I1: a running guest has entries",
        enough,
        valid,
        intercepted,
    )
}

fn invalid(got: crate::calls::Got, what: &'static str, why: Invalid) -> Outcome {
    got.must(what, got.label == why.label()).map(drop)
}

/// S1 on a running guest that has a VPA and an SLB shadow. Afterwards all is as before.
fn areas(vpa: u64) -> Outcome {
    check("S1.4: a VPA is aligned", vpa.is_multiple_of(128), vpa, 0)?;
    let slb = get(0, VPA_SLB).ok("S1.1")?;
    let [slb_at, slb_len, ..] = slb.words;
    check(
        "S1.2: length of the SLB shadow",
        slb_len >= 16,
        slb_at,
        slb_len,
    )?;
    invalid(get(7, VPA_ADDR), "S0.1: no such vCPU", Invalid::Vcpu)?;
    invalid(get(0, 1), "S1.1: no such register", Invalid::Id)?;
    invalid(set(0, VPA_ADDR, [vpa + 8, 0]), "S1.4", Invalid::Alignment)?;
    invalid(set(0, VPA_ADDR, [0, 0]), "S1.7: in use", Invalid::InUse)?;
    invalid(
        set(0, VPA_DTL, [vpa, 47]),
        "S1.9: 47 bytes",
        Invalid::Length,
    )?;
    invalid(
        set(0, VPA_SLB, [slb_at, 15]),
        "S0.11: 15 bytes",
        Invalid::Length,
    )?;
    let over = (slb_at & !0xfff) + 0xf80;
    invalid(set(0, VPA_SLB, [over, 0x100]), "S0.8", Invalid::CrossesPage)?;
    invalid(
        set(0, VPA_DTL, [BASE, LOG]),
        "S0.7: no slot",
        Invalid::NoSlot,
    )?;
    // S1.5: what is wanted already changes nothing, so the VPA is not initialised again.
    let before = times()?.1;
    set(0, VPA_ADDR, [vpa, 0]).ok("S1.5")?;
    set(0, VPA_SLB, [slb_at, slb_len]).ok("S1.5")?;
    sleep(20_000);
    let after = times()?.1;
    let goes_on = matches!((before, after), (Some(a), Some(b)) if b >= a && a > 1);
    let figures = (before.unwrap_or(0), after.unwrap_or(0));
    check(
        "S1.5: the yield count goes on",
        goes_on,
        figures.0,
        figures.1,
    )?;
    // S1.9: unregistering what is not registered.
    set(0, VPA_DTL, [0, 0]).ok("S1.9: (0, 0)")?;
    set(0, VPA_DTL, [0, 47]).ok("S1.6: length without address")?;
    let dtl = get(0, VPA_DTL).ok("S1.2")?;
    dtl.must("S1.6: the length is 0", dtl.words[..2] == [0, 0])?;
    // S1.10, S1.3: SLB shadow first, then the VPA; nothing happens before the next entry.
    pause_now()?;
    set(0, VPA_SLB, [0, 0]).ok("S1.8: 0 is always allowed")?;
    set(0, VPA_ADDR, [0, 0]).ok("S1.7")?;
    invalid(
        set(0, VPA_SLB, [slb_at, slb_len]),
        "S1.8",
        Invalid::NeedsVpa,
    )?;
    check(
        "S1.3: not before the next entry",
        times()?.1.is_some(),
        0,
        0,
    )?;
    resume()?;
    sleep(50_000);
    check("S1.3, S0.17: gone at the entry", times()?.1.is_none(), 0, 0)?;
    let got = get(0, VPA_ADDR).ok("S1.2")?;
    got.must("S1.2: 0 is not registered", got.words[0] == 0)?;
    // Back again, the VPA first (S1.10). The count is kept, not begun anew.
    set(0, VPA_ADDR, [vpa, 0]).ok("S1.7")?;
    set(0, VPA_SLB, [slb_at, slb_len]).ok("S1.8")?;
    sleep(50_000);
    let count = times()?.1.unwrap_or(0);
    check("S1: the yield count is kept", count > 1, count, figures.1)
}

/// A slot without pages under the running guest: created, flagged, moved, deleted.
fn slots() -> Outcome {
    let [before, ..] = stats()?;
    complete(set_region(ID, BASE, SIZE, 0), "S3.4: created")?;
    check(
        "S3.7: one more slot",
        stats()?[0] == before + 1,
        stats()?[0],
        before,
    )?;
    complete(set_region(ID, BASE, SIZE, 0), "S3: the same again")?;
    let change = |base, size, flags| set_region(ID, base, size, flags);
    refused(
        change(BASE, 2 * SIZE, 0),
        "S3: another size",
        Refusal::Changed,
    )?;
    refused(
        change(BASE, SIZE, FLAG_READ_ONLY),
        "S3: read-only",
        Refusal::Changed,
    )?;
    refused(
        change(BASE + 1, SIZE, 0),
        "S3: alignment",
        Refusal::Alignment,
    )?;
    refused(change(0, SIZE, 0), "S3: overlap", Refusal::Overlap)?;
    refused(change(BASE, SIZE, 1 << 7), "S3: flags", Refusal::Flags)?;
    refused(
        set_region(6, BASE, SIZE, 0),
        "S3: overlap",
        Refusal::Overlap,
    )?;
    refused(set_region(6, 0, 0, 0), "S3: never created", Refusal::NoSlot)?;
    refused(advance(), "S3.2: nothing to do", Refusal::NoChange)?;
    complete(change(BASE, SIZE, FLAG_LOG_DIRTY), "S3.8: flagged")?;
    complete(change(BASE, SIZE, 0), "S3.8: flag taken back")?;
    complete(change(ELSEWHERE, SIZE, 0), "S3: moved")?;
    complete(set_region(6, BASE, SIZE, 0), "S3: its old place is free")?;
    complete(set_region(6, 0, 0, 0), "S3.5: deleted")?;
    complete(change(0, 0, 0), "S3.5: deleted")?;
    check(
        "S3.11: all are gone",
        stats()?[0] == before,
        stats()?[0],
        before,
    )
}

/// Areas of the guest in a slot that goes.
fn areas_in_slots(vpa: u64) -> Outcome {
    let free = free_frames()?;
    complete(set_region(ID, BASE, SIZE, 0), "S3.4: created")?;
    check(
        "S2.1: a slot holds no frame",
        free_frames()? == free,
        free,
        free_frames()?,
    )?;
    set(0, VPA_DTL, [BASE + 0x1000, LOG]).ok("S1.9: a trace log in it")?;
    sleep(50_000);
    check(
        "S2: its page is found when needed",
        free_frames()? == free - 1,
        free,
        0,
    )?;
    // Step one: INVALID. A change at a time; nothing begins to use the slot.
    let step = settle(set_region(ID, 0, 0, 0), "S3.5: step one")?;
    check(
        "S3.5: to be flushed",
        matches!(step, Step::Flush { .. }),
        0,
        0,
    )?;
    refused(
        set_region(6, ELSEWHERE, SIZE, 0),
        "S3.2: one at a time",
        Refusal::InProgress,
    )?;
    invalid(
        set(0, VPA_DTL, [BASE + 0x2000, LOG]),
        "S3.6: nothing through an INVALID slot",
        Invalid::NoSlot,
    )?;
    // Not let go: the removal waits.
    let step = settle(advance(), "S3.5")?;
    check(
        "S0.19: its page is pinned",
        step == Step::Pinned(gfn(BASE)),
        0,
        0,
    )?;
    // Given up: the original is back.
    let step = settle(abort(), "S3: abort")?;
    check("S3: restored", step == Step::Restored, 0, 0)?;
    let dtl = get(0, VPA_DTL).ok("S1.2")?;
    dtl.must(
        "S3: the area is still there",
        dtl.words[..2] == [BASE + 0x1000, LOG],
    )?;
    set(0, VPA_DTL, [BASE + 0x3000, LOG]).ok("S3: the slot can be used again")?;
    sleep(50_000);
    // And now to the end.
    complete(set_region(ID, 0, 0, 0), "S3.5: deleted with an area in it")?;
    let dtl = get(0, VPA_DTL).ok("S1.2")?;
    dtl.must("S0.19: the area was taken away", dtl.words[..2] == [0, 0])?;
    let got = get(0, VPA_ADDR).ok("S1.2")?;
    got.must("S0.19: the others stay", got.words[0] == vpa)?;
    check(
        "S2.9: its frame is free again",
        free_frames()? == free,
        free,
        free_frames()?,
    )?;
    sleep(50_000);
    Ok(())
}

/// The dirty log of the guest's own memory.
fn dirty(memory: u64, log: DirtyLog<'_>, words: usize) -> Outcome {
    complete(set_region(0, 0, memory, FLAG_LOG_DIRTY), "S3.8: logging")?;
    let end = gfn(memory);
    // What has changed so far does not count.
    pause_now()?;
    collect_dirty(0, end)?;
    for word in 0..words {
        log.take(word);
    }
    collect_dirty(0, end)?;
    let left: u32 = (0..words).map(|word| log.take(word).count_ones()).sum();
    check(
        "I8: nothing changes while it is paused",
        left == 0,
        left.into(),
        0,
    )?;
    resume()?;
    sleep(300_000);
    pause_now()?;
    collect_dirty(0, end)?;
    let pages: u32 = (0..words).map(|word| log.take(word).count_ones()).sum();
    resume()?;
    let all = pages > 0 && u64::from(pages) < end;
    check(
        "S3.8: a running guest changes some pages",
        all,
        pages.into(),
        end,
    )?;
    complete(set_region(0, 0, memory, 0), "S3.8: no more logging")
}

/// The guest's memory itself, all of it, becomes INVALID while the guest is paused; every entry that maps
/// it goes; then it is restored, and the guest goes on as if nothing had been.
fn restored(memory: u64) -> Outcome<u64> {
    let [vpa, slb] = [VPA_ADDR, VPA_SLB].map(|id| get(0, id));
    pause_now()?;
    let (before, _) = verify()?;
    let step = settle(set_region(0, 0, 0, 0), "S3.5: step one")?;
    check(
        "S3.5: to be flushed",
        matches!(step, Step::Flush { .. }),
        0,
        0,
    )?;
    let pinned = settle(advance(), "S3.5")?;
    check(
        "S3.5: pages are pinned",
        matches!(pinned, Step::Pinned(_)),
        0,
        0,
    )?;
    let Step::Flush { first, end } = step else {
        return Ok(0);
    };
    check(
        "S3.5: all of it",
        (first, end) == (0, gfn(memory)),
        first,
        end,
    )?;
    flush(first, end)?;
    release(first, end)?;
    let (valid, absent) = verify()?;
    check(
        "S3.11: no entry is left",
        valid == 0 && absent >= before,
        valid,
        absent,
    )?;
    let got = get(0, VPA_ADDR).ok("S1.2")?;
    got.must("S0.19: no area is left", got.words[0] == 0)?;
    let step = settle(abort(), "S3: abort")?;
    check("S3: restored", step == Step::Restored, 0, 0)?;
    // What the guest had registered is registered for it again (S1.10).
    set(0, VPA_ADDR, [vpa.words[0], 0]).ok("S1.7")?;
    set(0, VPA_SLB, [slb.words[0], slb.words[1]]).ok("S1.8")?;
    resume()?;
    sleep(300_000);
    let (dispatches, count) = times()?;
    check("S3.6: it goes on", count.is_some(), dispatches, 0)?;
    Ok(gfn(memory))
}

/// A reset from outside.
fn restart() -> Outcome {
    let wrong = vcpu_call(vcpu::PAUSE, 9);
    wrong.must("no such vCPU", wrong.label == vcpu::NO_VCPU)?;
    let wrong = vcpu_call(77, 0);
    wrong.must("no such call", wrong.label == answer::INVALID)?;
    pause_now()?;
    check("reset of a paused guest", reset()?, 0, 0)?;
    for id in [VPA_ADDR, VPA_SLB, VPA_DTL] {
        let got = get(0, id).ok("S1.2")?;
        got.must("S1.11: not registered", got.words[0] == 0)?;
    }
    check("S1.11: nothing is written", times()?.1.is_none(), 0, 0)
}
