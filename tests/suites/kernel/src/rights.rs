// SPDX-License-Identifier: BSD-2-Clause
//! IPCRIGHTS: what the rights of an endpoint capability permit, and the transfer of capabilities.

use crate::support::{call_once, receive_once, send_once};
use partita_abi::{ErrorCode, FaultLabel, InvocationLabel, syscall};
use sel4::{CPtr, CapRights, MessageInfo, ObjectBlueprintArch, arch, cap};
use testkit::{Case, Env, Helper, Kit, Outcome, check, check_eq, invoke};

pub const CASES: &[Case] = &[
    Case {
        name: "IPCRIGHTS0001 receiving needs Read",
        body: read,
    },
    Case {
        name: "IPCRIGHTS0002 sending needs Write",
        body: write,
    },
    Case {
        name: "IPCRIGHTS0003 capabilities need Grant",
        body: grant,
    },
    Case {
        name: "IPCRIGHTS0004 a call needs Grant or GrantReply",
        body: grant_reply,
    },
    Case {
        name: "IPCRIGHTS0005 capabilities in a reply",
        body: reply_grant,
    },
    Case {
        name: "IPCRIGHTS0006 one capability is stored, those to the endpoint are unwrapped",
        body: unwrap,
    },
    Case {
        name: "IPCRIGHTS0007 no place for the capability",
        body: no_place,
    },
    Case {
        name: "IPCRIGHTS0008 a transferred capability is derived",
        body: derived,
    },
    Case {
        name: "IPCRIGHTS0009 notifications",
        body: notifications,
    },
    Case {
        name: "VCPURIGHTS0001 each invocation of a vCPU needs its right",
        body: vcpu,
    },
];

fn read(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let faults = kit.endpoint()?;
    let blind = kit.mint(endpoint, CapRights::new(true, true, false, true), 0)?;
    let thread = Helper::new(receive_once)
        .args([blind.bits(), 0])
        .fault(faults)
        .start(kit)?;
    let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.label(), FaultLabel::CapFault as u64);
    check_eq!((got.msg[1], got.msg[2]), (blind.bits(), 1));
    check!(!thread.finished());
    Ok(())
}

fn write(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let mute = kit.mint(endpoint, CapRights::new(true, true, true, false), 0)?;
    // Send and NBSend are dropped without a word; a call is answered with an error.
    let sender = Helper::new(send_once)
        .args([mute.bits(), 1, 1])
        .start(kit)?;
    check_eq!(sender.join(kit)?, 1);
    mute.nb_send_with_mrs(MessageInfo::new(0, 0, 0, 1), [1]);
    check_eq!(
        endpoint
            .nb_recv_with_mrs(cap::Reply::from_bits(0))
            .info
            .length(),
        0
    );
    let answer = invoke(mute.bits(), InvocationLabel::InvalidInvocation, &[1], &[]);
    crate::support::refused(answer, ErrorCode::InvalidCapability)?;
    check_eq!((answer.length, answer.words[0]), (1, 0));
    Ok(())
}

/// Sends one word and one capability. Words: endpoint, capability, whether by Call.
fn send_cap(env: &Env) -> u64 {
    env.with_buffer(|b| b.caps_or_badges_mut()[0] = env.args[1]);
    let info = MessageInfo::new(2, 0, 1, 1).into_word();
    let words = arch::message([77]);
    if env.args[2] != 0 {
        arch::call(env.args[0], info, words).words[0]
    } else {
        arch::send(syscall::SEND, env.args[0], info, words);
        1
    }
}

/// Says where received capabilities go: the slot `place` of the root CNode.
fn set_receive_slot(kit: &Kit, place: CPtr) {
    let slot = kit.absolute(place);
    sel4::with_ipc_buffer_mut(|b| b.set_recv_slot(&slot));
}

fn grant(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let ntfn = kit.notification()?;
    let badged = kit.mint(ntfn, CapRights::all(), 0x99)?;
    for (rights, arrives) in [
        (CapRights::all(), true),
        (CapRights::new(false, true, false, true), true),
        (CapRights::new(true, false, true, true), false),
        (CapRights::write_only(), false),
    ] {
        for priority in [50, 150] {
            let sender_cap = kit.mint(endpoint, rights, 1)?;
            let place = kit.slot();
            set_receive_slot(kit, place);
            let sender = Helper::new(send_cap)
                .args([sender_cap.bits(), badged.bits(), 0])
                .priority(priority)
                .start(kit)?;
            let got = endpoint.recv_with_mrs(cap::Reply::from_bits(0));
            check_eq!((got.info.label(), got.msg[0]), (2, 77));
            check_eq!(got.info.extra_caps(), usize::from(arrives));
            check_eq!(kit.is_empty(place.bits()), !arrives);
            if arrives {
                place.cast::<sel4::cap_type::Notification>().signal();
                check_eq!(ntfn.poll().1, 0x99);
            }
            sender.join(kit)?;
        }
    }
    Ok(())
}

fn grant_reply(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    for (rights, answered) in [
        (CapRights::new(true, false, false, true), true),
        (CapRights::new(false, true, false, true), true),
        (CapRights::write_only(), false),
    ] {
        for priority in [50, 150] {
            let caller_cap = kit.mint(endpoint, rights, 1)?;
            let caller = Helper::new(call_once)
                .args([caller_cap.bits(), 1, 1])
                .priority(priority)
                .start(kit)?;
            let got = endpoint.recv_with_mrs(reply);
            check_eq!(got.msg[0], 1);
            reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [9]);
            kit.settle()?;
            // Without the right the message arrives, but the caller never hears.
            check_eq!(caller.result(), answered.then_some(9));
        }
    }
    Ok(())
}

/// Calls with a place for a capability and returns how many came. Words: endpoint, CNode, slot.
fn call_for_cap(env: &Env) -> u64 {
    let cnode = cap::CNode::from_bits(env.args[1]);
    let place = cnode.absolute_cptr(CPtr::from_bits(env.args[2]));
    env.with_buffer(|b| b.set_recv_slot(&place));
    let info = MessageInfo::new(0, 0, 0, 0).into_word();
    let got = arch::call(env.args[0], info, arch::NO_WORDS);
    MessageInfo::from_word(got.info).extra_caps() as u64
}

fn reply_grant(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    for (reply_grants, call_grants, arrives) in [
        (true, true, true),
        (false, true, false),
        (true, false, false),
    ] {
        let endpoint = kit.endpoint()?;
        let reply = kit.reply()?;
        let rights = CapRights::new(true, call_grants, false, true);
        let caller_cap = kit.mint(endpoint, rights, 0)?;
        let reply = kit.mint(reply, CapRights::new(true, reply_grants, true, true), 0)?;
        let place = kit.slot();
        let caller = Helper::new(call_for_cap)
            .args([caller_cap.bits(), kit.cnode().bits(), place.bits()])
            .start(kit)?;
        endpoint.recv_with_mrs(reply);
        sel4::with_ipc_buffer_mut(|b| b.caps_or_badges_mut()[0] = ntfn.bits());
        reply.send_with_mrs(MessageInfo::new(0, 0, 1, 0), []);
        check_eq!(caller.join(kit)?, u64::from(arrives));
        check_eq!(kit.is_empty(place.bits()), !arrives);
    }
    Ok(())
}

/// Sends three capabilities. Words: endpoint, capabilities.
fn send_three(env: &Env) -> u64 {
    env.with_buffer(|b| b.caps_or_badges_mut().copy_from_slice(&env.args[1..4]));
    let info = MessageInfo::new(0, 0, 3, 0).into_word();
    arch::send(syscall::SEND, env.args[0], info, arch::NO_WORDS);
    1
}

/// What a receiver sees of three capabilities sent: extra capabilities, unwrapped bits, badges.
fn receive_three(endpoint: cap::Endpoint) -> (usize, u64, [u64; 3]) {
    let got = endpoint.recv_with_mrs(cap::Reply::from_bits(0));
    let info = partita_abi::MessageInfo(got.info.into_word());
    let badges = sel4::with_ipc_buffer(|b| core::array::from_fn(|i| b.caps_or_badges()[i]));
    (info.extra_caps() as usize, info.caps_unwrapped(), badges)
}

fn unwrap(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let other = kit.notification()?;
    let seven = kit.mint(endpoint, CapRights::all(), 7)?;
    let nine = kit.mint(endpoint, CapRights::write_only(), 9)?;
    let (e, s, n, o) = (endpoint.bits(), seven.bits(), nine.bits(), other.bits());
    for (sent, expected, unwrapped) in [
        ([s, n, e], 3, 0b111),
        ([o, s, n], 3, 0b110),
        ([s, o, n], 3, 0b101),
        // The second capability to store ends the transfer.
        ([o, o, s], 1, 0b000),
        ([s, o, o], 2, 0b001),
        // So does a pointer to nothing.
        ([s, 0, n], 1, 0b001),
    ] {
        let place = kit.slot();
        set_receive_slot(kit, place);
        let args = [e, sent[0], sent[1], sent[2]];
        let sender = Helper::new(send_three).args(args).start(kit)?;
        let (extra, bits, badges) = receive_three(endpoint);
        check_eq!((extra, bits), (expected, unwrapped));
        for i in 0..3 {
            if bits & 1 << i != 0 {
                let badge = if sent[i] == s {
                    7
                } else if sent[i] == n {
                    9
                } else {
                    0
                };
                check_eq!(badges[i], badge);
            }
        }
        check_eq!(kit.is_empty(place.bits()), !sent[..expected].contains(&o));
        sender.join(kit)?;
    }
    Ok(())
}

fn no_place(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let ntfn = kit.notification()?;
    let used = kit.endpoint()?.cptr();
    let attempt = |kit: &mut Kit, root: u64, index: u64, depth: u64| -> Outcome<usize> {
        let place =
            cap::CNode::from_bits(root).absolute_cptr_from_bits_with_depth(index, depth as usize);
        sel4::with_ipc_buffer_mut(|b| b.set_recv_slot(&place));
        let args = [endpoint.bits(), ntfn.bits(), 0];
        let sender = Helper::new(send_cap).args(args).start(kit)?;
        let got = endpoint.recv_with_mrs(cap::Reply::from_bits(0));
        check_eq!(got.msg[0], 77);
        sender.join(kit)?;
        Ok(got.info.extra_caps())
    };
    let root = kit.cnode().bits();
    let free = kit.slot().bits();
    check_eq!(attempt(kit, root, used.bits(), 64)?, 0);
    check_eq!(attempt(kit, root, free, 65)?, 0);
    check_eq!(attempt(kit, root, free, 0)?, 0);
    check_eq!(attempt(kit, root, free, 20)?, 0);
    check_eq!(attempt(kit, ntfn.bits(), free, 64)?, 0);
    check_eq!(attempt(kit, 0, free, 64)?, 0);
    check_eq!(attempt(kit, 1 << 50, free, 64)?, 0);
    check!(kit.is_empty(free));
    check_eq!(attempt(kit, root, free, 64)?, 1);
    check!(!kit.is_empty(free));
    Ok(())
}

fn derived(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let ntfn = kit.notification()?;
    let badged = kit.mint(ntfn, CapRights::read_write(), 5)?;
    let place = kit.slot();
    set_receive_slot(kit, place);
    let sender = Helper::new(send_cap)
        .args([endpoint.bits(), badged.bits(), 0])
        .start(kit)?;
    endpoint.recv_with_mrs(cap::Reply::from_bits(0));
    sender.join(kit)?;
    check!(!kit.is_empty(place.bits()));
    kit.revoke(badged)?;
    check!(kit.is_empty(place.bits()));
    // A capability that does not copy does not travel.
    set_receive_slot(kit, place);
    let table: cap::PT = kit.object(sel4::ObjectBlueprintArch::PT.into())?;
    let sender = Helper::new(send_cap)
        .args([endpoint.bits(), table.bits(), 0])
        .start(kit)?;
    let got = endpoint.recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.extra_caps(), 0);
    sender.join(kit)?;
    check!(kit.is_empty(place.bits()));
    Ok(())
}

fn notifications(kit: &mut Kit) -> Outcome {
    let ntfn = kit.notification()?;
    let faults = kit.endpoint()?;
    let mute = kit.mint(ntfn, CapRights::read_only(), 0)?;
    mute.signal();
    check_eq!(ntfn.poll().1, 0);
    let answer = invoke(mute.bits(), InvocationLabel::InvalidInvocation, &[], &[]);
    crate::support::refused(answer, ErrorCode::InvalidCapability)?;
    let blind = kit.mint(ntfn, CapRights::write_only(), 3)?;
    let thread = Helper::new(crate::support::wait_once)
        .args([blind.bits()])
        .fault(faults)
        .start(kit)?;
    let got = faults.recv_with_mrs(cap::Reply::from_bits(0));
    check_eq!(got.info.label(), FaultLabel::CapFault as u64);
    check_eq!((got.msg[1], got.msg[2]), (blind.bits(), 1));
    check!(!thread.finished());
    blind.signal();
    check_eq!(ntfn.poll().1, 3);
    Ok(())
}

fn vcpu(kit: &mut Kit) -> Outcome {
    use InvocationLabel as L;
    const READ: u64 = 2;
    const WRITE: u64 = 1;
    const ENTRY: u64 = 8;
    let labels = [
        (L::VCPUReadRegisters, READ),
        (L::VCPUGetTimes, READ),
        (L::VCPURequestEntry, ENTRY),
        (L::VCPUBindDispatchCounter, ENTRY),
        (L::VCPUUnbindDispatchCounter, ENTRY),
        (L::VCPUSetRoute, WRITE),
        (L::VCPUWriteRegisters, WRITE),
        (L::VCPUPause, WRITE),
        (L::VCPUKick, WRITE),
        (L::VCPUInject, WRITE),
    ];
    // It has no thread: what the rights permit is refused for that.
    let whole: cap::VCpu = kit.object(ObjectBlueprintArch::VCpu.into())?;
    for bits in 0..16 {
        let has = |right| bits & right != 0;
        let rights = CapRights::new(has(ENTRY), false, has(READ), has(WRITE));
        let some = kit.mint(whole, rights, 0)?;
        for (label, right) in labels {
            let answer = invoke(some.bits(), label, &[0, 1, 0, 0], &[]);
            let error = match has(right) {
                true => ErrorCode::IllegalOperation,
                false => ErrorCode::InvalidCapability,
            };
            crate::support::refused(answer, error)?;
        }
    }
    Ok(())
}
