// SPDX-License-Identifier: BSD-2-Clause
//! BIND: notifications, and notifications bound to threads.

use crate::support::{receive_once, wait_once};
use partita_abi::FaultLabel;
use sel4::{CapRights, Error, MessageInfo, cap};
use testkit::{Case, Env, Helper, Kit, Outcome, check, check_eq};

pub const CASES: &[Case] = &[
    Case {
        name: "BIND0001 a signal arrives through the endpoint",
        body: through_endpoint,
    },
    Case {
        name: "BIND0002 a signal that was there before",
        body: before,
    },
    Case {
        name: "BIND0003 messages still arrive",
        body: messages,
    },
    Case {
        name: "BIND0004 binding is one to one",
        body: one_to_one,
    },
    Case {
        name: "BIND0005 nobody else may wait",
        body: others,
    },
    Case {
        name: "BIND0006 deleting either side ends the binding",
        body: deletion,
    },
    Case {
        name: "BIND0007 a passive thread runs on the notification's time",
        body: passive,
    },
    Case {
        name: "BIND0008 bits add up",
        body: bits,
    },
    Case {
        name: "BIND0009 waiting threads by priority, one signal each",
        body: waiting,
    },
    Case {
        name: "BIND0010 a bound thread that waits for a reply is not disturbed",
        body: in_call,
    },
];

/// Receives for ever; the last badge and word. Words: endpoint, reply object, times.
fn receive_some(env: &Env) -> u64 {
    let endpoint = cap::Endpoint::from_bits(env.args[0]);
    let mut last = 0;
    for _ in 0..env.args[2] {
        let got = endpoint.recv_with_mrs(cap::Reply::from_bits(env.args[1]));
        last = last << 16 | got.badge << 8 | got.msg[0];
    }
    last
}

fn through_endpoint(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 0x40)?;
    let thread = Helper::new(receive_some)
        .args([endpoint.bits(), 0, 2])
        .start(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    bell.signal();
    check!(!thread.finished());
    bell.signal();
    check_eq!(thread.join(kit)?, 0x4000_4000);
    // Nothing is left of the signals, and nobody waits at the endpoint.
    check_eq!(endpoint.nb_recv_with_mrs(cap::Reply::from_bits(0)).badge, 0);
    Ok(())
}

fn before(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 0x21)?;
    let thread = Helper::new(receive_once)
        .args([endpoint.bits(), 0])
        .make(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    bell.signal();
    thread.tcb.tcb_resume()?;
    check_eq!(thread.join(kit)?, 0x21 << 32);
    Ok(())
}

fn messages(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let badged = kit.mint(endpoint, CapRights::all(), 2)?;
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 8)?;
    let thread = Helper::new(receive_some)
        .args([endpoint.bits(), 0, 4])
        .priority(90)
        .start(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    kit.settle()?;
    // Signal and message at once: the signal that finds it waiting, then the message, then ...
    bell.signal();
    let info = MessageInfo::new(0, 0, 0, 1);
    badged.nb_send_with_mrs(info, [1]);
    kit.settle()?;
    badged.nb_send_with_mrs(info, [3]);
    bell.signal();
    kit.settle()?;
    check!(!thread.finished());
    badged.nb_send_with_mrs(info, [4]);
    // The message of the moment when nobody waited was dropped.
    check_eq!(thread.join(kit)?, 0x0800_0203_0800_0204);
    Ok(())
}

fn one_to_one(kit: &mut Kit) -> Outcome {
    let (a, b) = (kit.tcb()?, kit.tcb()?);
    let (one, two) = (kit.notification()?, kit.notification()?);
    a.tcb_bind_notification(one)?;
    check_eq!(a.tcb_bind_notification(two), Err(Error::IllegalOperation));
    check_eq!(b.tcb_bind_notification(one), Err(Error::IllegalOperation));
    check_eq!(b.tcb_unbind_notification(), Err(Error::IllegalOperation));
    a.tcb_unbind_notification()?;
    check_eq!(a.tcb_unbind_notification(), Err(Error::IllegalOperation));
    b.tcb_bind_notification(one)?;
    a.tcb_bind_notification(two)?;
    // Not a notification; not the right to receive; somebody waits there.
    let c = kit.tcb()?;
    let endpoint = kit.endpoint()?;
    let wrong: cap::Notification = endpoint.cast();
    check_eq!(c.tcb_bind_notification(wrong), Err(Error::IllegalOperation));
    let three = kit.notification()?;
    let blind = kit.mint(three, CapRights::write_only(), 0)?;
    check_eq!(c.tcb_bind_notification(blind), Err(Error::IllegalOperation));
    Helper::new(wait_once).args([three.bits()]).start(kit)?;
    check_eq!(c.tcb_bind_notification(three), Err(Error::IllegalOperation));
    Ok(())
}

fn others(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let faults = kit.endpoint()?;
    let owner = Helper::new(wait_once).args([ntfn.bits()]).make(kit)?;
    owner.tcb.tcb_bind_notification(ntfn)?;
    Helper::new(wait_once)
        .args([ntfn.bits()])
        .fault(faults)
        .start(kit)?;
    let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.label(), FaultLabel::CapFault as u64);
    check_eq!((got.msg[1], got.msg[2]), (ntfn.bits(), 1));
    // The owner may.
    owner.tcb.tcb_resume()?;
    let bell = kit.mint(ntfn, CapRights::all(), 6)?;
    bell.signal();
    check_eq!(owner.join(kit)?, 6);
    Ok(())
}

fn deletion(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let a = kit.tcb()?;
    a.tcb_bind_notification(ntfn)?;
    kit.delete(a)?;
    let b = kit.tcb()?;
    b.tcb_bind_notification(ntfn)?;
    kit.delete(ntfn)?;
    check_eq!(b.tcb_unbind_notification(), Err(Error::IllegalOperation));
    let other = kit.notification()?;
    b.tcb_bind_notification(other)?;
    // A copy keeps it alive.
    let twin = kit.copy(other, CapRights::all())?;
    kit.delete(other)?;
    b.tcb_unbind_notification()?;
    twin.signal();
    Ok(())
}

fn passive(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 1)?;
    let thread = Helper::new(receive_some)
        .args([endpoint.bits(), 0, 3])
        .start_passive(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    // Without time it takes the signal but does not run.
    let sc = kit.sched_context(5000, 5000)?;
    sc.sched_context_bind(ntfn)?;
    check_eq!(sc.sched_context_bind(ntfn), Err(Error::IllegalOperation));
    for _ in 0..2 {
        bell.signal();
        kit.settle()?;
        check!(!thread.finished());
        // It waits again, and the time is back: it can be taken away from the notification alone.
        check_eq!(
            sc.sched_context_unbind_object(thread.tcb),
            Err(Error::IllegalOperation)
        );
    }
    bell.signal();
    check_eq!(thread.join(kit)?, 0x0100_0100_0100);
    sc.sched_context_unbind_object(ntfn)?;
    check_eq!(
        sc.sched_context_unbind_object(ntfn),
        Err(Error::IllegalOperation)
    );
    Ok(())
}

fn bits(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    for i in [0, 1, 31, 32, 63] {
        kit.mint(ntfn, CapRights::all(), 1 << i)?.signal();
    }
    check_eq!(ntfn.poll().1, 0x8000_0001_8000_0003);
    check_eq!(ntfn.poll().1, 0);
    // A signal without badge is one all the same.
    ntfn.signal();
    let thread = Helper::new(wait_once).args([ntfn.bits()]).start(kit)?;
    check_eq!(thread.join(kit)?, 0);
    let thread = Helper::new(wait_once).args([ntfn.bits()]).start(kit)?;
    kit.settle()?;
    check!(!thread.finished());
    Ok(())
}

fn waiting(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let mut threads = [None; 4];
    for (i, priority) in [101, 103, 102, 103].into_iter().enumerate() {
        threads[i] = Some(
            Helper::new(wait_once)
                .args([ntfn.bits()])
                .priority(priority)
                .start(kit)?,
        );
    }
    for n in 1..=4 {
        let bell = kit.mint(ntfn, CapRights::all(), n)?;
        bell.signal();
    }
    kit.settle()?;
    let results = threads.map(|t| t.and_then(|t| t.result()).unwrap_or(0));
    check_eq!(results, [4, 1, 3, 2]);
    Ok(())
}

/// Calls, then receives; answer and badge. Words: endpoint, own endpoint.
fn call_then_receive(env: &Env) -> u64 {
    let answer = crate::support::call_once(env);
    let endpoint = cap::Endpoint::from_bits(env.args[3]);
    let got = endpoint.recv_with_mrs(cap::Reply::from_bits(0));
    answer << 32 | got.badge
}

fn in_call(kit: &mut Kit) -> Outcome {
    let (endpoint, own) = (kit.endpoint()?, kit.endpoint()?);
    let reply = kit.reply()?;
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 0x11)?;
    let thread = Helper::new(call_then_receive)
        .args([endpoint.bits(), 0, 1, own.bits()])
        .start(kit)?;
    thread.tcb.tcb_bind_notification(ntfn)?;
    endpoint.recv_with_mrs(reply);
    bell.signal();
    kit.settle()?;
    check!(!thread.finished());
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [0x22]);
    check_eq!(thread.join(kit)?, 0x22 << 32 | 0x11);
    Ok(())
}
