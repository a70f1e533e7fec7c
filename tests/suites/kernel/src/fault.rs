// SPDX-License-Identifier: BSD-2-Clause
//! FAULT: faults, their messages and their handlers.

use crate::code::{self, NOP, RETURN, TRAP, load, mfspr, mtspr, run_code, store};
use crate::support::{call_once, receive_once, send_once};
use partita_abi::FaultLabel as F;
use partita_abi::fault::{cap_fault, unknown_syscall, user_exception, vm_fault};
use sel4::init_thread::slot;
use sel4::{CapRights, Error, MessageInfo, RecvWithMRs, VmAttributes, cap};
use testkit::kit::{UNMAPPED, WINDOW};
use testkit::{Case, Env, Helper, Kit, Outcome, check, check_eq, fail};

pub const CASES: &[Case] = &[
    Case {
        name: "FAULT0001 a missing capability, sending",
        body: cap_send,
    },
    Case {
        name: "FAULT0002 a missing capability, receiving",
        body: cap_receive,
    },
    Case {
        name: "FAULT0003 why a look-up failed",
        body: cap_details,
    },
    Case {
        name: "FAULT0004 an unknown system call",
        body: unknown,
    },
    Case {
        name: "FAULT0005 instructions that a PD must not execute",
        body: instructions,
    },
    Case {
        name: "FAULT0006 reading, writing and fetching where nothing is",
        body: nothing_there,
    },
    Case {
        name: "FAULT0007 writing and fetching where it is not allowed",
        body: not_allowed,
    },
    Case {
        name: "FAULT0008 the handler maps the page",
        body: page_in,
    },
    Case {
        name: "FAULT0009 addresses of the kernel and beyond user space",
        body: kernel_addresses,
    },
    Case {
        name: "FAULT0010 without handler the thread stops",
        body: no_handler,
    },
    Case {
        name: "FAULT0011 an answer that does not resume",
        body: not_resumed,
    },
    Case {
        name: "FAULT0012 the handler changes registers",
        body: change_registers,
    },
    Case {
        name: "FAULT0013 faults wait for their handler",
        body: queue,
    },
    Case {
        name: "FAULT0014 a passive server faults on its caller's time",
        body: passive_server,
    },
    Case {
        name: "FAULT0015 a passive handler runs on the faulting thread's time",
        body: passive_handler,
    },
    Case {
        name: "FAULT0016 a faulting thread is suspended and resumed",
        body: suspended,
    },
    Case {
        name: "FAULT0017 what a fault endpoint must be",
        body: endpoint_rights,
    },
    Case {
        name: "FAULT0018 NBSend to nothing is no fault",
        body: nb_send,
    },
    Case {
        name: "FAULT0019 an unaligned access",
        body: unaligned,
    },
    Case {
        name: "FAULT0020 a fault in the handler itself",
        body: handler_faults,
    },
];

/// The words of the lookup failure of a CapFault.
fn details(got: &RecvWithMRs) -> [u64; 4] {
    [
        got.msg[cap_fault::LOOKUP_FAILURE_TYPE],
        got.msg[cap_fault::BITS_LEFT],
        got.msg[cap_fault::DEPTH_BITS_FOUND],
        got.msg[cap_fault::GUARD_BITS_FOUND],
    ]
}

const NO_REPLY: cap::Reply = cap::Reply::from_bits(0);

/// The instruction at the address of a fault, which must be `sc`.
fn at_system_call(ip: u64) -> bool {
    // SAFETY: the address of an instruction of this program.
    unsafe { (ip as *const u32).read_volatile() == 0x4400_0002 }
}

fn cap_send(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let reply = kit.reply()?;
    let beyond = 1 << kit.boot().cnode_bits;
    let thread = Helper::new(send_once)
        .args([beyond, 1, 1])
        .fault(faults)
        .start(kit)?;
    let got = faults.recv_with_mrs(reply);
    check_eq!(got.info.label(), F::CapFault as u64);
    check_eq!(got.info.length(), cap_fault::LENGTH);
    check!(at_system_call(got.msg[cap_fault::IP]));
    check_eq!(got.msg[cap_fault::ADDRESS], beyond);
    check_eq!(got.msg[cap_fault::IN_RECV_PHASE], 0);
    // Answered, it repeats the system call.
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
    let again = faults.recv_with_mrs(reply);
    check_eq!(again.msg, got.msg);
    check!(!thread.finished());
    Ok(())
}

fn cap_receive(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let ntfn = kit.notification()?;
    let tcb = kit.tcb()?;
    // Nothing, and what nobody can receive on.
    for cptr in [0, tcb.bits(), kit.slot().bits(), slot::CNODE.cptr().bits()] {
        Helper::new(receive_once)
            .args([cptr, 0])
            .fault(faults)
            .start(kit)?;
        let got = faults.recv_with_mrs(NO_REPLY);
        check_eq!(got.info.label(), F::CapFault as u64);
        check!(at_system_call(got.msg[cap_fault::IP]));
        check_eq!(got.msg[cap_fault::ADDRESS], cptr);
        check_eq!(got.msg[cap_fault::IN_RECV_PHASE], 1);
    }
    // A reply capability that is something else.
    let endpoint = kit.endpoint()?;
    Helper::new(receive_once)
        .args([endpoint.bits(), ntfn.bits()])
        .fault(faults)
        .start(kit)?;
    let got = faults.recv_with_mrs(NO_REPLY);
    check_eq!(got.info.label(), F::CapFault as u64);
    check_eq!(got.msg[cap_fault::ADDRESS], ntfn.bits());
    check_eq!(got.msg[cap_fault::IN_RECV_PHASE], 1);
    Ok(())
}

fn cap_details(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let plain: cap::CNode = kit.object(sel4::ObjectBlueprint::CNode { size_bits: 4 })?;
    let data = sel4::CNodeCapData::new(0x5, 40).into_word();
    let guarded = kit.mint(plain, CapRights::all(), data)?;
    let inner = plain.absolute_cptr_from_bits_with_depth(3, 4);
    inner.copy(&kit.absolute(plain), CapRights::all())?;
    let guard_then = |index: u64, rest: u64| 0x5 << 24 | index << 20 | rest;
    let cases = [
        // The guard differs.
        (0x6 << 24, [4, 64, 0x5, 40]),
        // In the inner CNode 20 bits are left; its capability has no guard, so that every level of
        // the loop takes four bits and the last ends on an empty slot.
        (guard_then(3, 0x33331), [2, 0, 0, 0]),
    ];
    for (cptr, expected) in cases {
        Helper::new(send_once)
            .args([cptr, 0, 0])
            .cspace(guarded)
            .fault(faults)
            .start(kit)?;
        // A send through an empty slot is dropped; only the failed look-up faults.
        if expected[0] == 4 {
            let got = faults.recv_with_mrs(NO_REPLY);
            check_eq!(got.info.label(), F::CapFault as u64);
            check_eq!(details(&got), expected);
        } else {
            // The thread ends with its trap.
            let got = faults.recv_with_mrs(NO_REPLY);
            check_eq!(got.info.label(), F::UserException as u64);
        }
    }
    // A depth that does not come out: the inner capability gets a guard too wide for what is left.
    let wide = kit.mint(
        plain,
        CapRights::all(),
        sel4::CNodeCapData::new(0, 17).into_word(),
    )?;
    let place = plain.absolute_cptr_from_bits_with_depth(4, 4);
    place.copy(&kit.absolute(wide), CapRights::all())?;
    Helper::new(send_once)
        .args([guard_then(4, 0), 0, 0])
        .cspace(guarded)
        .fault(faults)
        .start(kit)?;
    let got = faults.recv_with_mrs(NO_REPLY);
    check_eq!(details(&got), [3, 20, 21, 0]);
    // A CSpace root that is gone.
    let original: cap::CNode = kit.object(sel4::ObjectBlueprint::CNode { size_bits: 4 })?;
    let data = sel4::CNodeCapData::skip_high_bits(4).into_word();
    let cnode = kit.mint(original, CapRights::all(), data)?;
    let thread = Helper::new(send_once)
        .args([1, 0, 0])
        .cspace(cnode)
        .fault(faults)
        .make(kit)?;
    kit.revoke(original)?;
    kit.delete(original)?;
    thread.tcb.tcb_resume()?;
    let got = faults.recv_with_mrs(NO_REPLY);
    check_eq!(got.info.label(), F::CapFault as u64);
    check_eq!(details(&got), [1, 0, 0, 0]);
    Ok(())
}

/// `sc` with r0 = argument, r3..r10 as they come; returns r3.
const SYSTEM_CALL: [u32; 4] = [
    0x7c60_1b78, // mr r0, r3
    0x3860_0033, // li r3, 0x33
    0x4400_0002, // sc
    RETURN,
];

fn unknown(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let reply = kit.reply()?;
    let code = code::place(kit, 0, &SYSTEM_CALL)?;
    let number = 1000;
    let thread = Helper::new(run_code)
        .args([code, number])
        .fault(faults)
        .start(kit)?;
    let got = faults.recv_with_mrs(reply);
    check_eq!(got.info.label(), F::UnknownSyscall as u64);
    check_eq!(got.info.length(), unknown_syscall::LENGTH);
    check_eq!(got.msg[unknown_syscall::R3], 0x33);
    let word = |i: usize| sel4::with_ipc_buffer(|b| b.msg_regs()[i]);
    check_eq!(word(unknown_syscall::SYSCALL), number);
    check_eq!(word(unknown_syscall::FAULT_IP), code + 8);
    // The answer gives it registers and a place to go on.
    sel4::with_ipc_buffer_mut(|b| {
        b.msg_regs_mut()[unknown_syscall::FAULT_IP] = code + 12;
    });
    let length = unknown_syscall::FAULT_IP + 1;
    let mut words = got.msg;
    words[unknown_syscall::R3] = 0x44;
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, length), words);
    check_eq!(thread.join(kit)?, 0x44);
    // Every number that is none.
    let last = partita_abi::syscall::LAST_DEBUG as i64 as u64;
    for number in [
        0,
        1,
        12,
        u64::MAX - 1000,
        last - 1,
        1 << 40,
        i64::MIN as u64,
    ] {
        Helper::new(run_code)
            .args([code, number])
            .fault(faults)
            .start(kit)?;
        let got = faults.recv_with_mrs(NO_REPLY);
        check_eq!(got.info.label(), F::UnknownSyscall as u64);
    }
    Ok(())
}

/// Instructions with the vectors that they may arrive at.
const FORBIDDEN: [(&str, u32, &[u64]); 31] = [
    ("trap", TRAP, &[0x700]),
    ("illegal (all zeros)", 0, &[0xe40, 0x700]),
    ("illegal (opcode 1)", 0x0400_0000, &[0xe40, 0x700]),
    ("mfmsr", 0x7c60_00a6, &[0x700]),
    ("mtmsrd", 0x7c60_0164, &[0x700]),
    ("rfid", 0x4c00_0024, &[0x700]),
    ("hrfid", 0x4c00_0224, &[0x700]),
    ("mfspr SRR0", mfspr(26), &[0x700]),
    ("mtspr SRR1", mtspr(27), &[0x700]),
    ("mfspr HSPRG0", mfspr(304), &[0x700]),
    ("mfspr CFAR", mfspr(28), &[0x700]),
    ("mtspr PIDR", mtspr(48), &[0x700]),
    ("mtspr LPCR", mtspr(318), &[0x700]),
    ("mtspr HDEC", mtspr(310), &[0x700]),
    ("mtspr DEC", mtspr(22), &[0x700]),
    ("mtspr PTCR", mtspr(464), &[0x700]),
    ("mtspr UAMOR", mtspr(157), &[0x700]),
    ("mtspr FSCR", mtspr(153), &[0x700]),
    ("tlbie", 0x7c00_0264, &[0x700]),
    ("tlbiel", 0x7c00_0224, &[0x700]),
    ("slbia", 0x7c00_03e4, &[0x700]),
    ("slbmte", 0x7c60_1b24, &[0x700]),
    ("stop", 0x4c00_02e4, &[0x700, 0xe40]),
    ("msgsnd", 0x7c00_199c, &[0x700]),
    ("lbzcix", 0x7c60_1eaa, &[0x700]),
    ("stdcix", 0x7c60_1fea, &[0x700]),
    ("fadd", 0xfc00_002a, &[0x800]),
    ("lfd", 0xc801_0000, &[0x800]),
    ("vaddubm", 0x1000_0000, &[0xf20]),
    ("lvx", 0x7c00_08ce, &[0xf20]),
    ("xxlxor", 0xf000_04d0, &[0xf40]),
];

fn instructions(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let reply = kit.reply()?;
    let badged = kit.mint(faults, CapRights::new(true, false, false, true), 0x18)?;
    // One page holds them all, each followed by a return.
    let mut words = [0; 2 * FORBIDDEN.len()];
    for (pair, (_, instruction, _)) in words.chunks_mut(2).zip(FORBIDDEN) {
        pair.copy_from_slice(&[instruction, RETURN]);
    }
    let code = code::place(kit, 0, &words)?;
    let thread = Helper::new(each)
        .args([code, words.len() as u64 / 2])
        .fault(badged)
        .start(kit)?;
    for (i, (name, _, vectors)) in FORBIDDEN.iter().enumerate() {
        let got = faults.recv_with_mrs(reply);
        if got.info.label() != F::UserException as u64 {
            fail!("{name}: label {}, {:x?}", got.info.label(), got.msg);
        }
        let at = code + 8 * i as u64;
        check_eq!(got.badge, 0x18);
        check_eq!(got.info.length(), user_exception::LENGTH);
        let (ip, vector) = (
            got.msg[user_exception::FAULT_IP],
            got.msg[user_exception::NUMBER],
        );
        if ip != at || !vectors.contains(&vector) {
            fail!("{name}: vector {vector:#x} at {ip:#x}, not at {at:#x}");
        }
        reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [at + 4]);
    }
    check_eq!(thread.join(kit)?, words.len() as u64 / 2);
    Ok(())
}

/// Calls pieces of code of two instructions each. Words: address, how many.
fn each(env: &Env) -> u64 {
    for i in 0..env.args[1] {
        // SAFETY: the pieces fault or return.
        unsafe { code::call(env.args[0] + 8 * i, 0) };
    }
    env.args[1]
}

fn nothing_there(kit: &mut Kit) -> Outcome {
    for vaddr in [WINDOW as u64, UNMAPPED as u64, 0x10, 0x3fff_ffff_0000] {
        let faults = kit.endpoint()?;
        for (kind, body) in [load, store, run_code].into_iter().enumerate() {
            Helper::new(body)
                .args([vaddr, 1])
                .fault(faults)
                .start(kit)?;
            let got = faults.recv_with_mrs(NO_REPLY);
            check_eq!(got.info.label(), F::VMFault as u64);
            check_eq!(got.info.length(), vm_fault::LENGTH);
            check_eq!(got.msg[vm_fault::ADDRESS], vaddr);
            check_eq!(got.msg[vm_fault::PREFETCH_FAULT], u64::from(kind == 2));
            // DSISR: no translation; bit 0x02000000 for a store.
            let fsr = [0x4000_0000, 0x4200_0000, 0x4000_0000][kind];
            check_eq!(got.msg[vm_fault::FSR], fsr);
            if kind == 2 {
                check_eq!(got.msg[vm_fault::IP], vaddr);
            }
        }
        kit.clean_up()?;
    }
    Ok(())
}

fn not_allowed(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let vspace = slot::VSPACE.cap();
    let frame = kit.page_at(WINDOW)?;
    let never = VmAttributes::EXECUTE_NEVER;
    // Writing to a read-only page.
    frame.frame_map(vspace, WINDOW, CapRights::read_only(), never)?;
    let reader = Helper::new(load).args([WINDOW as u64]).start(kit)?;
    check_eq!(reader.join(kit)?, 0);
    Helper::new(store)
        .args([WINDOW as u64, 1])
        .fault(faults)
        .start(kit)?;
    let got = faults.recv_with_mrs(NO_REPLY);
    check_eq!(got.info.label(), F::VMFault as u64);
    check_eq!(got.msg[vm_fault::FSR], 0x0a00_0000);
    // Fetching from a page without instructions.
    Helper::new(run_code)
        .args([WINDOW as u64])
        .fault(faults)
        .start(kit)?;
    let got = faults.recv_with_mrs(NO_REPLY);
    check_eq!(got.info.label(), F::VMFault as u64);
    check_eq!(got.msg[vm_fault::PREFETCH_FAULT], 1);
    check_eq!(got.msg[vm_fault::ADDRESS], WINDOW as u64);
    // The program's own code cannot be written.
    let own = load as *const () as u64;
    Helper::new(store).args([own, 1]).fault(faults).start(kit)?;
    let got = faults.recv_with_mrs(NO_REPLY);
    check_eq!(
        (got.info.label(), got.msg[vm_fault::ADDRESS]),
        (F::VMFault as u64, own)
    );
    Ok(())
}

fn page_in(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let reply = kit.reply()?;
    let vspace = slot::VSPACE.cap();
    let thread = Helper::new(load)
        .args([WINDOW as u64 + 8])
        .fault(faults)
        .start(kit)?;
    let got = faults.recv_with_mrs(reply);
    check_eq!(got.info.label(), F::VMFault as u64);
    let frame = kit.page_at(WINDOW)?;
    // SAFETY: mapped just now.
    unsafe { ((WINDOW + 8) as *mut u64).write_volatile(0x9a6e) };
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
    check_eq!(thread.join(kit)?, 0x9a6e);
    // Unmapped again: it faults again, at once.
    frame.frame_unmap()?;
    let thread = Helper::new(load)
        .args([WINDOW as u64 + 8])
        .fault(faults)
        .start(kit)?;
    check_eq!(faults.recv_with_mrs(reply).info.label(), F::VMFault as u64);
    frame.frame_map(vspace, WINDOW, CapRights::read_only(), VmAttributes::NONE)?;
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 0), []);
    check_eq!(thread.join(kit)?, 0x9a6e);
    Ok(())
}

fn kernel_addresses(kit: &mut Kit) -> Outcome {
    let addresses = [
        0x4000_0000_0000u64,
        0x2000_0000,
        0xc000_0000_2000_0000,
        0x8000_0000_0000_0000,
        0x4000_0000_0000_0000,
        0x0fff_ffff_ffff_fff8,
        u64::MAX - 7,
        0x0006_0300_0000_0000,
    ];
    for address in addresses {
        let faults = kit.endpoint()?;
        for body in [load, store, run_code] {
            Helper::new(body)
                .args([address, 0])
                .fault(faults)
                .start(kit)?;
            let got = faults.recv_with_mrs(NO_REPLY);
            if got.info.label() != F::VMFault as u64 {
                fail!("{address:#x}: label {}, {:x?}", got.info.label(), got.msg);
            }
        }
        kit.clean_up()?;
    }
    Ok(())
}

fn no_handler(kit: &mut Kit) -> Outcome {
    let code = code::place(kit, 0, &[TRAP, RETURN])?;
    let thread = Helper::new(run_code).args([code, 3]).start(kit)?;
    kit.settle()?;
    check!(!thread.finished());
    let context = thread.tcb.tcb_read_registers(false, 38)?;
    check_eq!(*context.pc(), code);
    // It can be sent on by hand.
    let mut context = context;
    *context.pc_mut() = code + 4;
    thread.tcb.tcb_write_registers(true, 1, &context)?;
    check_eq!(thread.join(kit)?, 3);
    Ok(())
}

fn not_resumed(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let reply = kit.reply()?;
    let trap = code::place(kit, 0, &[TRAP, RETURN])?;
    let call = code::place(kit, 1, &SYSTEM_CALL)?;
    for (code, argument) in [(trap, 1), (call, 1000)] {
        let thread = Helper::new(run_code)
            .args([code, argument])
            .fault(faults)
            .start(kit)?;
        faults.recv_with_mrs(reply);
        reply.send_with_mrs(MessageInfo::new(1, 0, 0, 0), []);
        kit.settle()?;
        check!(!thread.finished());
        check_eq!(faults.nb_recv_with_mrs(reply).info.length(), 0);
        // Resumed by its capability, it repeats the instruction.
        thread.tcb.tcb_resume()?;
        check!(faults.nb_recv_with_mrs(reply).info.length() != 0);
    }
    Ok(())
}

fn change_registers(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let code = code::place(kit, 0, &[TRAP, RETURN])?;
    let thread = Helper::new(run_code)
        .args([code, 3])
        .fault(faults)
        .start(kit)?;
    let reply = kit.reply()?;
    let got = faults.recv_with_mrs(reply);
    // SP is in the message.
    let mut context = thread.tcb.tcb_read_all_registers(false)?;
    check_eq!(got.msg[user_exception::SP], *context.sp());
    *context.pc_mut() = code + 4;
    *context.gpr_mut(3) = 0x5555;
    thread.tcb.tcb_write_all_registers(true, &context)?;
    check_eq!(thread.join(kit)?, 0x5555);
    // The handler's answer comes too late and reaches nobody.
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [0]);
    check_eq!(thread.result(), Some(0x5555));
    Ok(())
}

fn queue(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let reply = kit.reply()?;
    let code = code::place(kit, 0, &[TRAP, RETURN])?;
    let mut threads = [None; 3];
    for (i, priority) in [110, 130, 120].into_iter().enumerate() {
        let rights = CapRights::new(true, false, false, true);
        let badged = kit.mint(faults, rights, i as u64 + 1)?;
        let helper = Helper::new(run_code).args([code, i as u64]);
        threads[i] = Some(helper.priority(priority).fault(badged).start(kit)?);
    }
    for expected in [2, 3, 1] {
        let got = faults.recv_with_mrs(reply);
        check_eq!(got.badge, expected);
        reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [code + 4]);
    }
    for (i, thread) in threads.iter().flatten().enumerate() {
        check_eq!(thread.join(kit)?, i as u64);
    }
    Ok(())
}

/// A server that runs code before each answer. Words: endpoint, reply object, code.
fn faulting_server(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let mut got = sel4::arch::recv(partita_abi::syscall::RECV, endpoint, reply);
    loop {
        // SAFETY: a trap and a return.
        let word = unsafe { code::call(env.args[2], got.words[0]) };
        let info = MessageInfo::new(0, 0, 0, 1).into_word();
        got = sel4::arch::reply_recv(endpoint, info, sel4::arch::message([word]), reply);
    }
}

fn passive_server(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let (endpoint, reply, fault_reply) = (kit.endpoint()?, kit.reply()?, kit.reply()?);
    // li r3, 0x99 after the trap.
    let code = code::place(kit, 0, &[TRAP, 0x3860_0099, RETURN])?;
    Helper::new(faulting_server)
        .args([endpoint.bits(), reply.bits(), code])
        .fault(faults)
        .start_passive(kit)?;
    for _ in 0..2 {
        let client = Helper::new(call_once)
            .args([endpoint.bits(), 0, 1])
            .start(kit)?;
        let got = faults.recv_with_mrs(fault_reply);
        check_eq!(got.info.label(), F::UserException as u64);
        check!(!client.finished());
        fault_reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [code + 4]);
        check_eq!(client.join(kit)?, 0x99);
    }
    Ok(())
}

/// Handles one fault after the other by skipping the instruction. Words: endpoint, reply object.
fn skip(env: &Env) -> u64 {
    let (endpoint, reply) = (env.args[0], env.args[1]);
    let mut got = sel4::arch::recv(partita_abi::syscall::RECV, endpoint, reply);
    loop {
        let words = sel4::arch::message([got.words[user_exception::FAULT_IP] + 4]);
        let info = MessageInfo::new(0, 0, 0, 1).into_word();
        got = sel4::arch::reply_recv(endpoint, info, words, reply);
    }
}

fn passive_handler(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let reply = kit.reply()?;
    Helper::new(skip)
        .args([faults.bits(), reply.bits()])
        .priority(140)
        .start_passive(kit)?;
    let code = code::place(kit, 0, &[TRAP, TRAP, 0x3863_0001, TRAP, RETURN])?;
    for n in 0..3 {
        let thread = Helper::new(run_code)
            .args([code, n])
            .fault(faults)
            .start(kit)?;
        check_eq!(thread.join(kit)?, n + 1);
    }
    Ok(())
}

fn suspended(kit: &mut Kit) -> Outcome {
    let faults = kit.endpoint()?;
    let reply = kit.reply()?;
    let code = code::place(kit, 0, &[TRAP, RETURN])?;
    let thread = Helper::new(run_code)
        .args([code, 6])
        .fault(faults)
        .start(kit)?;
    // In the queue of the handler's endpoint, then after the message was taken.
    thread.tcb.tcb_suspend()?;
    check_eq!(faults.nb_recv_with_mrs(reply).info.length(), 0);
    thread.tcb.tcb_resume()?;
    check_eq!(faults.recv_with_mrs(reply).msg[0], code);
    thread.tcb.tcb_suspend()?;
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [code + 4]);
    kit.settle()?;
    check!(!thread.finished());
    check_eq!(*thread.tcb.tcb_read_registers(false, 1)?.pc(), code);
    thread.tcb.tcb_resume()?;
    faults.recv_with_mrs(reply);
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [code + 4]);
    check_eq!(thread.join(kit)?, 6);
    Ok(())
}

fn endpoint_rights(kit: &mut Kit) -> Outcome {
    let endpoint = kit.endpoint()?;
    let tcb = kit.tcb()?;
    let (cnode, vspace) = (kit.cnode(), slot::VSPACE.cap());
    let data = sel4::CNodeCapData::new(0, 0);
    let root = slot::TCB.cap();
    let none = cap::SchedContext::from_bits(0);
    for (rights, good) in [
        (CapRights::all(), true),
        (CapRights::new(true, false, false, true), true),
        (CapRights::new(false, true, false, true), true),
        (CapRights::write_only(), false),
        (CapRights::read_write(), false),
        (CapRights::new(true, true, true, false), false),
    ] {
        let handler = kit.mint(endpoint, rights, 0)?;
        let expected = if good {
            Ok(())
        } else {
            Err(Error::InvalidCapability)
        };
        check_eq!(tcb.tcb_set_space(handler, cnode, data, vspace), expected);
        check_eq!(
            tcb.tcb_set_sched_params(root, 0, 0, none, handler),
            expected
        );
        check_eq!(tcb.tcb_set_timeout_endpoint(handler), expected);
    }
    let wrong: cap::Endpoint = kit.notification()?.cast();
    let refused = Err(Error::InvalidCapability);
    check_eq!(tcb.tcb_set_space(wrong, cnode, data, vspace), refused);
    check_eq!(tcb.tcb_set_sched_params(root, 0, 0, none, wrong), refused);
    check_eq!(tcb.tcb_set_timeout_endpoint(wrong), refused);
    Ok(())
}

fn nb_send(kit: &mut Kit) -> Outcome {
    // This thread has a handler, the guard, which would end the suite.
    let nowhere = cap::Endpoint::from_bits(1 << 50);
    nowhere.nb_send_with_mrs(MessageInfo::new(0, 0, 0, 1), [1]);
    let empty: cap::Endpoint = kit.slot().cast();
    empty.nb_send_with_mrs(MessageInfo::new(0, 0, 0, 1), [1]);
    empty.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [1]);
    Ok(())
}

fn unaligned(kit: &mut Kit) -> Outcome {
    kit.page_at(WINDOW)?;
    let faults = kit.endpoint()?;
    // lwarx r3, 0, r3 at an odd address; ld r3, 0(r3) may work, the reservation may not.
    let code = code::place(kit, 1, &[0x7c60_1828, RETURN])?;
    let thread = Helper::new(run_code)
        .args([code, WINDOW as u64 + 1])
        .fault(faults)
        .start(kit)?;
    kit.settle()?;
    let got = faults.nb_recv_with_mrs(NO_REPLY);
    check_eq!(got.info.label(), F::UserException as u64);
    check_eq!(got.msg[user_exception::NUMBER], 0x600);
    check!(!thread.finished());
    // An unaligned ordinary access is no fault.
    let thread = Helper::new(load)
        .args([WINDOW as u64 + 8])
        .fault(faults)
        .start(kit)?;
    check_eq!(thread.join(kit)?, 0);
    Ok(())
}

fn handler_faults(kit: &mut Kit) -> Outcome {
    // a's handler is b, which faults in its turn; b's handler is this thread.
    let (to_b, to_root) = (kit.endpoint()?, kit.endpoint()?);
    let (reply_b, reply) = (kit.reply()?, kit.reply()?);
    let code = code::place(kit, 0, &[TRAP, NOP, RETURN])?;
    Helper::new(handler_with_trap)
        .args([to_b.bits(), reply_b.bits(), code])
        .priority(120)
        .fault(to_root)
        .start(kit)?;
    let a = Helper::new(run_code)
        .args([code, 5])
        .fault(to_b)
        .start(kit)?;
    let got = to_root.recv_with_mrs(reply);
    check_eq!(got.msg[0], code);
    check!(!a.finished());
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [code + 4]);
    check_eq!(a.join(kit)?, 5);
    Ok(())
}

/// Handles one fault, with a trap of its own on the way. Words: endpoint, reply object, code.
fn handler_with_trap(env: &Env) -> u64 {
    let reply = cap::Reply::from_bits(env.args[1]);
    let got = cap::Endpoint::from_bits(env.args[0]).recv_with_mrs(reply);
    // SAFETY: a trap and a return.
    unsafe { code::call(env.args[2], 0) };
    reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [got.msg[0] + 4]);
    1
}
