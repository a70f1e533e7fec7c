// SPDX-License-Identifier: BSD-2-Clause
//! TIMEOUT: the end of a budget, with and without a handler, on own and on lent time.

use crate::support::{call_once, measured, serve, spin};
use core::sync::atomic::{AtomicU64, Ordering};
use partita_abi::FaultLabel;
use sel4::{CapRights, Error, MessageInfo, cap};
use testkit::kit::microseconds;
use testkit::{Case, Env, Helper, Kit, Outcome, Thread, check, check_eq, fail, timebase};

pub const CASES: &[Case] = &[
    Case {
        name: "TIMEOUT0001 the message, and an answer that lets the thread go on",
        body: |kit| measured(kit, message),
    },
    Case {
        name: "TIMEOUT0002 an answer that stops the thread",
        body: |kit| measured(kit, stopped),
    },
    Case {
        name: "TIMEOUT0003 a handler that comes later",
        body: |kit| measured(kit, late_handler),
    },
    Case {
        name: "TIMEOUT0004 round robin never ends in a fault",
        body: |kit| measured(kit, round_robin),
    },
    Case {
        name: "TIMEOUT0005 the handler of a server gives more time",
        body: |kit| measured(kit, more_time),
    },
    Case {
        name: "TIMEOUT0006 the handler of a server answers for it",
        body: |kit| measured(kit, answer_for_server),
    },
    Case {
        name: "TIMEOUT0007 without a handler a server has a grace and pays for it",
        body: |kit| measured(kit, grace_is_paid),
    },
    Case {
        name: "TIMEOUT0008 beyond the grace a server waits",
        body: |kit| measured(kit, beyond_grace),
    },
    Case {
        name: "TIMEOUT0009 what may be a handler",
        body: misuse,
    },
    Case {
        name: "TIMEOUT0010 a handler that is gone",
        body: |kit| measured(kit, handler_gone),
    },
];

const NO_REPLY: cap::Reply = cap::Reply::from_bits(0);
const TIMEOUT: u64 = FaultLabel::Timeout as u64;
static COUNT: AtomicU64 = AtomicU64::new(0);

fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// A thread that spins, with a budget and a handler.
fn spinner(kit: &mut Kit, budget: u64, period: u64, faults: cap::Endpoint) -> Outcome<Thread> {
    COUNT.store(0, Ordering::Relaxed);
    let thread = Helper::new(spin)
        .args([&raw const COUNT as u64])
        .priority(50)
        .budget(budget, period)
        .make(kit)?;
    kit.configure(thread.sc, budget, period, 0xda7a)?;
    thread.tcb.tcb_set_timeout_endpoint(faults)?;
    thread.tcb.tcb_resume()?;
    Ok(thread)
}

fn message(kit: &mut Kit) -> Outcome {
    let (faults, reply) = (kit.endpoint()?, kit.reply()?);
    let badged = kit.mint(faults, CapRights::new(true, false, false, true), 0x99)?;
    spinner(kit, 3_000, 30_000, badged)?;
    for _ in 0..3 {
        let got = faults.recv_with_mrs(reply);
        check_eq!((got.badge, got.info.label()), (0x99, TIMEOUT));
        check_eq!((got.info.length(), got.msg[0]), (2, 0xda7a));
        check!(got.msg[1] >= 2_900);
        // It goes on with its next period.
        reply.send_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
    }
    goes_on(faults, reply, 0)
}

fn stopped(kit: &mut Kit) -> Outcome {
    let (faults, reply) = (kit.endpoint()?, kit.reply()?);
    let thread = spinner(kit, 2_000, 10_000, faults)?;
    check_eq!(faults.recv_with_mrs(reply).info.label(), TIMEOUT);
    reply.send_with_mrs(MessageInfo::new(1, 0, 0, 0), []);
    let before = count();
    kit.sleep(40_000)?;
    check_eq!(count(), before);
    thread.tcb.tcb_resume()?;
    goes_on(faults, reply, before)
}

fn late_handler(kit: &mut Kit) -> Outcome {
    let (faults, reply) = (kit.endpoint()?, kit.reply()?);
    spinner(kit, 2_000, 10_000, faults)?;
    kit.sleep(60_000)?;
    // It has waited for its handler, through many periods.
    let before = count();
    kit.sleep(20_000)?;
    check_eq!(count(), before);
    check_eq!(faults.recv_with_mrs(reply).info.label(), TIMEOUT);
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
    goes_on(faults, reply, before)
}

/// The spinner gets on, budget by budget: a machine that does other things may take a whole one from it.
fn goes_on(faults: cap::Endpoint, reply: cap::Reply, before: u64) -> Outcome {
    for _ in 0..100 {
        check_eq!(faults.recv_with_mrs(reply).info.label(), TIMEOUT);
        if count() > before {
            return Ok(());
        }
        reply.send_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
    }
    fail!("it never gets on")
}

fn round_robin(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    spinner(kit, 1_000, 1_000, faults)?;
    kit.sleep(30_000)?;
    check_eq!(faults.nb_recv_with_mrs(NO_REPLY).info.length(), 0);
    check!(count() > 0);
    Ok(())
}

/// A passive server with a timeout handler (if it is not 0), its endpoint and reply object.
fn server(kit: &mut Kit, handler: cap::Endpoint) -> Outcome<(Thread, cap::Endpoint, cap::Reply)> {
    let (endpoint, reply) = (kit.endpoint()?, kit.reply()?);
    let thread = Helper::new(serve)
        .args([endpoint.bits(), reply.bits(), 0])
        .priority(90)
        .start_passive(kit)?;
    thread.tcb.tcb_set_timeout_endpoint(handler)?;
    Ok((thread, endpoint, reply))
}

/// A client with a budget that asks for so many microseconds of work.
fn client(
    kit: &mut Kit,
    endpoint: cap::Endpoint,
    (budget, period): (u64, u64),
    work: u64,
) -> Outcome<Thread> {
    Helper::new(call_once)
        .args([endpoint.bits(), 0, microseconds(work)])
        .priority(50)
        .budget(budget, period)
        .start(kit)
}

fn more_time(kit: &mut Kit) -> Outcome {
    let (faults, reply) = (kit.endpoint()?, kit.reply()?);
    let (_, endpoint, _) = server(kit, faults)?;
    // Several cores run in the host's time, and the end of the budget may be as late as the host: the work is longer.
    let work = if kit.cores() > 1 { 500_000 } else { 20_000 };
    let client = client(kit, endpoint, (2_000, 4_000_000), work)?;
    check_eq!(faults.recv_with_mrs(reply).info.label(), TIMEOUT);
    // Of the same core and for a thread that waits for it: at once.
    kit.configure(client.sc, 1_000_000, 4_000_000, 0)?;
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
    check_eq!(client.join(kit)?, microseconds(work) + 1);
    check_eq!(faults.nb_recv_with_mrs(NO_REPLY).info.length(), 0);
    Ok(())
}

fn answer_for_server(kit: &mut Kit) -> Outcome {
    let (faults, reply) = (kit.endpoint()?, kit.reply()?);
    let (thread, endpoint, servers_reply) = server(kit, faults)?;
    let client = client(kit, endpoint, (2_000, 20_000), 60_000_000)?;
    check_eq!(faults.recv_with_mrs(reply).info.label(), TIMEOUT);
    // The client gets an error, and its time.
    servers_reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [0xbad]);
    check_eq!(client.join(kit)?, 0xbad);
    // The server starts anew, on time that it is given for it.
    thread.sc.sched_context_bind(thread.tcb)?;
    thread.restart()?;
    kit.settle()?;
    thread.sc.sched_context_unbind()?;
    let next = Helper::new(call_once)
        .args([endpoint.bits(), 0, 7])
        .start(kit)?;
    check_eq!(next.join(kit)?, 8);
    Ok(())
}

/// A client that tells of its answer before it ends. Words: as [`call_once`], and a notification.
fn call_and_tell(env: &Env) -> u64 {
    let answer = call_once(env);
    cap::Notification::from_bits(env.args[3]).signal();
    answer
}

fn grace_is_paid(kit: &mut Kit) -> Outcome {
    let none = cap::Endpoint::from_bits(0);
    let (_, endpoint, _) = server(kit, none)?;
    // 1 ms in 40, and the server works for 4: within its grace. The client has no time left to take the answer: the
    // next periods have to pay, at the latest when it runs again after somebody better did. (A simulator under load
    // is late with the interrupt at the end of the budget.)
    let told = kit.notification()?;
    let start = timebase();
    let client = Helper::new(call_and_tell)
        .args([endpoint.bits(), 0, microseconds(4_000), told.bits()])
        .priority(50)
        .budget(1_000, 40_000)
        .start(kit)?;
    told.wait();
    check_eq!(client.join(kit)?, microseconds(4_000) + 1);
    let elapsed = (timebase() - start) / microseconds(1);
    check!(client.sc.sched_context_consumed()? >= 3_900);
    if elapsed >= 80_000 {
        return Ok(());
    }
    fail!("back after {elapsed} us")
}

fn beyond_grace(kit: &mut Kit) -> Outcome {
    let none = cap::Endpoint::from_bits(0);
    let (thread, endpoint, _) = server(kit, none)?;
    let grace = u64::from(u32::try_from(partita_abi::limits::DONATION_GRACE_US).unwrap_or(0));
    let work = 3 * grace;
    let client = client(kit, endpoint, (2_000, 2_000), work)?;
    // Round robin, too: the server waits as long as it overran. Somebody worse runs meanwhile.
    COUNT.store(0, Ordering::Relaxed);
    let low = Helper::new(spin)
        .args([&raw const COUNT as u64])
        .priority(20)
        .start(kit)?;
    check_eq!(client.join(kit)?, microseconds(work) + 1);
    check!(!thread.finished());
    check!(low.sc.sched_context_consumed()? * 2 > grace);
    Ok(())
}

fn misuse(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let tcb = kit.tcb()?;
    // Write, and Grant or GrantReply.
    for (rights, good) in [
        (CapRights::new(true, false, false, true), true),
        (CapRights::new(false, true, false, true), true),
        (CapRights::new(false, false, true, true), false),
        (CapRights::new(true, true, true, false), false),
    ] {
        let minted = kit.mint(faults, rights, 1)?;
        let expected = if good {
            Ok(())
        } else {
            Err(Error::InvalidCapability)
        };
        let attempt = tcb.tcb_set_timeout_endpoint(minted);
        if attempt != expected {
            fail!("{rights:?} gives {attempt:?}");
        }
    }
    let wrong: cap::Endpoint = kit.notification()?.cast();
    let attempt = tcb.tcb_set_timeout_endpoint(wrong);
    check_eq!(attempt, Err(Error::InvalidCapability));
    tcb.tcb_set_timeout_endpoint(cap::Endpoint::from_bits(0))?;
    Ok(())
}

fn handler_gone(kit: &mut Kit) -> Outcome {
    let (faults, reply) = (kit.endpoint()?, kit.reply()?);
    let thread = spinner(kit, 2_000, 20_000, faults)?;
    check_eq!(faults.recv_with_mrs(reply).info.label(), TIMEOUT);
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
    // With the endpoint its copy in the thread goes: the budget bounds it, no more.
    kit.revoke(faults)?;
    // One that came before that is still there.
    if faults.nb_recv_with_mrs(reply).info.length() != 0 {
        reply.send_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
    }
    let before = count();
    thread.sc.sched_context_consumed()?;
    let start = timebase();
    kit.sleep(100_000)?;
    check!(count() > before);
    let used = thread.sc.sched_context_consumed()?;
    check!(used * 2 < (timebase() - start) / microseconds(1));
    Ok(())
}
