// SPDX-License-Identifier: BSD-2-Clause
//! REVOKE: the end of capabilities and objects.

use crate::support::{
    call_once, echo, measured, nothing, receive_once, send_once, spin, wait_once,
};
use core::sync::atomic::{AtomicU64, Ordering};
use sel4::{CapRights, Error, MessageInfo, ObjectBlueprint, ObjectBlueprintArch, cap};
use testkit::{Case, Helper, Kit, Outcome, check, check_eq};

pub const CASES: &[Case] = &[
    Case {
        name: "REVOKE0001 memory with everything in it",
        body: everything,
    },
    Case {
        name: "REVOKE0002 siblings stay",
        body: siblings,
    },
    Case {
        name: "REVOKE0003 CNodes inside CNodes",
        body: cnodes,
    },
    Case {
        name: "REVOKE0004 the last TCB capability stops the thread",
        body: last_tcb,
    },
    Case {
        name: "REVOKE0005 an endpoint with waiting threads",
        body: endpoint,
    },
    Case {
        name: "REVOKE0006 a notification with waiting threads",
        body: notification,
    },
    Case {
        name: "REVOKE0007 a scheduling context of a running thread",
        body: sched_context,
    },
    Case {
        name: "REVOKE0008 a reply object with a waiting caller",
        body: reply,
    },
    Case {
        name: "REVOKE0009 a server in a call",
        body: server_in_call,
    },
    Case {
        name: "REVOKE0010 a thread in a call",
        body: client_in_call,
    },
    Case {
        name: "REVOKE0011 a long revocation is interrupted",
        body: |kit| measured(kit, interrupted),
    },
    Case {
        name: "REVOKE0012 an armed timer",
        body: timer,
    },
    Case {
        name: "REVOKE0013 a thread that revokes itself",
        body: itself,
    },
];

fn everything(kit: &mut Kit) -> Outcome {
    let memory = kit.untyped(18)?;
    let (first, _) = kit.case_slots();
    let cnode: cap::CNode = kit.retype(memory, ObjectBlueprint::CNode { size_bits: 5 })?;
    let tcb: cap::Tcb = kit.retype(memory, ObjectBlueprint::Tcb)?;
    let sc: cap::SchedContext = kit.retype(memory, ObjectBlueprint::SchedContext)?;
    let ntfn: cap::Notification = kit.retype(memory, ObjectBlueprint::Notification)?;
    let endpoint: cap::Endpoint = kit.retype(memory, ObjectBlueprint::Endpoint)?;
    let vspace: cap::VSpace = kit.retype(memory, ObjectBlueprintArch::VSpace.into())?;
    sel4::init_thread::slot::ASID_POOL
        .cap()
        .asid_pool_assign(vspace)?;
    kit.configure(sc, 1000, 1000, 0)?;
    tcb.tcb_bind_notification(ntfn)?;
    tcb.tcb_set_space(
        cap::Endpoint::from_bits(0),
        cnode,
        sel4::CNodeCapData::new(0, 59),
        vspace,
    )?;
    sc.sched_context_bind(tcb)?;
    // The CNode holds the thread, the thread the CNode, and both the endpoint.
    for (index, cap) in [tcb.cptr(), endpoint.cptr(), cnode.cptr(), sc.cptr()]
        .iter()
        .enumerate()
    {
        cnode
            .absolute_cptr_from_bits_with_depth(index as u64, 5)
            .copy(&kit.absolute(*cap), CapRights::all())?;
    }
    let badged = kit.mint(endpoint, CapRights::all(), 9)?;
    kit.revoke(memory)?;
    let (_, end) = kit.case_slots();
    for index in first..end {
        if index as u64 != memory.bits() {
            check!(kit.is_empty(index as u64));
        }
    }
    check!(kit.is_empty(badged.bits()));
    // All of it can be used again.
    let whole: Result<cap::CNode, _> = kit.retype(memory, ObjectBlueprint::CNode { size_bits: 13 });
    check!(whole.is_ok());
    Ok(())
}

fn siblings(kit: &mut Kit) -> Outcome {
    let one = kit.untyped(12)?;
    let two = kit.untyped(12)?;
    let a: cap::Notification = kit.retype(one, ObjectBlueprint::Notification)?;
    let b: cap::Notification = kit.retype(two, ObjectBlueprint::Notification)?;
    kit.revoke(one)?;
    check!(kit.is_empty(a.bits()));
    check!(!kit.is_empty(b.bits()) && !kit.is_empty(two.bits()));
    b.signal();
    Ok(())
}

fn cnodes(kit: &mut Kit) -> Outcome {
    // A chain of CNodes, each holding the only capability to the next, and the last the first's.
    let memory = kit.untyped(16)?;
    let mut chain = [cap::CNode::from_bits(0); 6];
    for node in &mut chain {
        *node = kit.retype(memory, ObjectBlueprint::CNode { size_bits: 3 })?;
    }
    chain[5]
        .absolute_cptr_from_bits_with_depth(7, 3)
        .copy(&kit.absolute(chain[0]), CapRights::all())?;
    for i in (1..6).rev() {
        chain[i - 1]
            .absolute_cptr_from_bits_with_depth(i as u64, 3)
            .move_(&kit.absolute(chain[i]))?;
    }
    let endpoint = kit.endpoint()?;
    chain[0]
        .absolute_cptr_from_bits_with_depth(0, 3)
        .copy(&kit.absolute(endpoint), CapRights::all())?;
    kit.delete(chain[0])?;
    kit.revoke(memory)?;
    let whole: Result<cap::CNode, _> = kit.retype(memory, ObjectBlueprint::CNode { size_bits: 11 });
    check!(whole.is_ok());
    check!(!kit.is_empty(endpoint.bits()));
    Ok(())
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Whether the counter moves while others run.
fn counting(kit: &Kit) -> Outcome<bool> {
    let before = COUNTER.load(Ordering::Relaxed);
    kit.sleep(30_000)?;
    Ok(COUNTER.load(Ordering::Relaxed) != before)
}

fn last_tcb(kit: &mut Kit) -> Outcome {
    let thread = Helper::new(spin)
        .priority(50)
        .args([&raw const COUNTER as u64])
        .start(kit)?;
    check!(counting(kit)?);
    let twin = kit.copy(thread.tcb, CapRights::all())?;
    kit.delete(thread.tcb)?;
    check!(counting(kit)?);
    kit.delete(twin)?;
    check!(!counting(kit)?);
    // Its scheduling context is free for another.
    let other = kit.tcb()?;
    thread.sc.sched_context_bind(other)?;
    Ok(())
}

fn endpoint(kit: &mut Kit) -> Outcome {
    // Whoever waits repeats the system call, which finds an empty slot: a send is dropped, a receive
    // is a fault, a call is answered with an error.
    let faults = kit.endpoint()?;
    let endpoint = kit.endpoint()?;
    let sender = Helper::new(send_once)
        .args([endpoint.bits(), 1, 2])
        .start(kit)?;
    let caller = Helper::new(call_once)
        .args([endpoint.bits(), 1, 2])
        .start(kit)?;
    kit.settle()?;
    check!(!sender.finished() && !caller.finished());
    kit.delete(endpoint)?;
    check_eq!(sender.join(kit)?, 1);
    // The error's first word: the invoked capability is wrong.
    check_eq!(caller.join(kit)?, 0);
    let endpoint = kit.endpoint()?;
    let receiver = Helper::new(receive_once)
        .args([endpoint.bits(), 0])
        .fault(faults)
        .start(kit)?;
    kit.settle()?;
    kit.delete(endpoint)?;
    let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.label(), partita_abi::FaultLabel::CapFault as u64);
    check_eq!((got.msg[1], got.msg[2]), (endpoint.bits(), 1));
    check!(!receiver.finished());
    Ok(())
}

fn notification(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let ntfn = kit.notification()?;
    for _ in 0..2 {
        Helper::new(wait_once)
            .args([ntfn.bits()])
            .fault(faults)
            .start(kit)?;
    }
    kit.settle()?;
    kit.delete(ntfn)?;
    for _ in 0..2 {
        let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
        check_eq!(got.info.label(), partita_abi::FaultLabel::CapFault as u64);
        check_eq!(got.msg[2], 1);
    }
    Ok(())
}

fn sched_context(kit: &mut Kit) -> Outcome {
    let thread = Helper::new(spin)
        .priority(50)
        .args([&raw const COUNTER as u64])
        .start(kit)?;
    check!(counting(kit)?);
    kit.delete(thread.sc)?;
    check!(!counting(kit)?);
    // Another one makes it run again, from where it was.
    let sc = kit.sched_context(5000, 5000)?;
    sc.sched_context_bind(thread.tcb)?;
    check!(counting(kit)?);
    sc.sched_context_unbind()?;
    check!(!counting(kit)?);
    Ok(())
}

/// A server that takes one call and never answers. Words: endpoint, reply object, notification.
fn take_call(env: &testkit::Env) -> u64 {
    let endpoint = cap::Endpoint::from_bits(env.args[0]);
    let got = endpoint.recv_with_mrs(cap::Reply::from_bits(env.args[1]));
    cap::Notification::from_bits(env.args[2]).wait();
    got.msg[0]
}

fn reply(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let never = kit.notification()?;
    let server = Helper::new(take_call)
        .args([endpoint.bits(), reply.bits(), never.bits()])
        .start_passive(kit)?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 1, 2])
        .start(kit)?;
    kit.settle()?;
    check!(!server.finished() && !client.finished());
    // Nobody can answer any more; the caller's time comes back to it.
    kit.delete(reply)?;
    let bound = client.sc.sched_context_bind(client.tcb);
    check_eq!(bound, Err(Error::IllegalOperation));
    client.sc.sched_context_unbind_object(client.tcb)?;
    client.sc.sched_context_bind(client.tcb)?;
    check!(!client.finished());
    Ok(())
}

fn server_in_call(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let never = kit.notification()?;
    let server = Helper::new(take_call)
        .args([endpoint.bits(), reply.bits(), never.bits()])
        .start_passive(kit)?;
    let client = Helper::new(call_once)
        .args([endpoint.bits(), 1, 2])
        .start(kit)?;
    kit.settle()?;
    // The server dies while it runs on the client's time. The call can still be answered by whoever
    // holds the reply object, and the time comes back with it.
    kit.delete(server.tcb)?;
    sel4::Cap::<sel4::cap_type::Reply>::send_with_mrs(reply, MessageInfo::new(0, 0, 0, 1), [77]);
    check_eq!(client.join(kit)?, 77);
    Ok(())
}

fn client_in_call(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let server = Helper::new(echo)
        .args([endpoint.bits(), reply.bits()])
        .start_passive(kit)?;
    for round in 0..4 {
        let client = Helper::new(call_once)
            .args([endpoint.bits(), 1, round])
            .start(kit)?;
        check_eq!(client.join(kit)?, round);
        kit.delete(client.tcb)?;
    }
    // One that dies inside the call: the server goes on with its time and answers nobody.
    let never = kit.notification()?;
    let slow_endpoint = kit.endpoint()?;
    let slow_reply = kit.reply()?;
    let slow = Helper::new(take_call)
        .args([slow_endpoint.bits(), slow_reply.bits(), never.bits()])
        .start_passive(kit)?;
    let client = Helper::new(call_once)
        .args([slow_endpoint.bits(), 1, 5])
        .start(kit)?;
    kit.settle()?;
    kit.delete(client.tcb)?;
    never.signal();
    check_eq!(slow.join(kit)?, 5);
    check!(!server.finished());
    Ok(())
}

fn interrupted(kit: &mut Kit) -> Outcome {
    // A revocation of thousands of capabilities; a thread with higher priority wakes up meanwhile.
    let memory = kit.untyped(20)?;
    let big: cap::CNode = kit.retype(memory, ObjectBlueprint::CNode { size_bits: 13 })?;
    let ntfn = kit.notification()?;
    let all = CapRights::all();
    for index in 0..8192 {
        big.absolute_cptr_from_bits_with_depth(index, 13).mint(
            &kit.absolute(ntfn),
            all,
            index | 1 << 20,
        )?;
    }
    let bell = kit.notification()?;
    let timer: cap::Timer = kit.object(ObjectBlueprintArch::Timer.into())?;
    timer.timer_set_notification(bell)?;
    let waiter = Helper::new(wait_once).args([bell.bits()]).start(kit)?;
    kit.settle()?;
    timer.timer_set(testkit::timebase() + testkit::kit::microseconds(100))?;
    kit.revoke(ntfn)?;
    check!(waiter.finished());
    for index in [0, 1, 4000, 8191] {
        let place = big.absolute_cptr_from_bits_with_depth(index, 13);
        place.copy(&kit.absolute(ntfn), all)?;
    }
    // A CNode that is full dies in steps too.
    timer.timer_set(testkit::timebase() + testkit::kit::microseconds(50))?;
    kit.revoke(memory)?;
    check!(kit.is_empty(big.bits()));
    Ok(())
}

fn timer(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let soon = testkit::timebase() + testkit::kit::microseconds(50_000);
    let mut timers = [cap::Timer::from_bits(0); 4];
    for (i, timer) in timers.iter_mut().enumerate() {
        *timer = kit.object(ObjectBlueprintArch::Timer.into())?;
        let bell = kit.mint(ntfn, CapRights::all(), 1 << i)?;
        timer.timer_set_notification(bell)?;
        timer.timer_set(soon)?;
    }
    kit.delete(timers[0])?;
    kit.delete(timers[2])?;
    kit.sleep(80_000)?;
    check_eq!(ntfn.poll().1, 0b1010);
    Ok(())
}

/// Revokes the memory that the thread itself was made of. Words: root CNode, untyped.
fn revoke_memory(env: &testkit::Env) -> u64 {
    let cnode = cap::CNode::from_bits(env.args[0]);
    let memory = cap::Untyped::from_bits(env.args[1]);
    // SAFETY: this thread's own buffer, which nobody else uses.
    let buffer = unsafe { &mut *env.buffer() };
    match cnode.with(buffer).absolute_cptr(memory).revoke() {
        Ok(()) => 1,
        Err(_) => 2,
    }
}

fn itself(kit: &mut Kit) -> Outcome {
    let memory = kit.untyped(14)?;
    let tcb: cap::Tcb = kit.retype(memory, ObjectBlueprint::Tcb)?;
    let outside: cap::Notification = kit.notification()?;
    // A helper's TCB comes from the case's memory: give it one of ours instead, by its registers.
    let thread = Helper::new(revoke_memory)
        .args([kit.cnode().bits(), memory.bits()])
        .make(kit)?;
    tcb.tcb_configure(
        kit.cnode(),
        sel4::CNodeCapData::new(0, 0),
        sel4::init_thread::slot::VSPACE.cap(),
        thread.buffer() as u64,
        thread.frame,
    )?;
    tcb.tcb_set_priority(sel4::init_thread::slot::TCB.cap(), 120)?;
    tcb.tcb_copy_registers(thread.tcb, 4 | 8)?;
    thread.sc.sched_context_unbind()?;
    thread.sc.sched_context_bind(tcb)?;
    tcb.tcb_resume()?;
    kit.settle()?;
    // It is gone in the middle of its own system call.
    check!(kit.is_empty(tcb.bits()));
    check!(!thread.finished());
    outside.signal();
    let again = Helper::new(nothing).start(kit)?;
    check_eq!(again.join(kit)?, 0x600d);
    Ok(())
}
