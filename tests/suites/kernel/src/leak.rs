// SPDX-License-Identifier: BSD-2-Clause
//! LEAK: what a thread can read of others. Every special register that user mode can name is read
//! after each kind of exit, while another thread in another address space leaves values of its own in
//! what user mode can write; and every general register after each system call.

use crate::code::{self, NOP, RETURN, TRAP, mfspr, mtspr};
use crate::interrupt::KERNEL;
use partita_abi::FaultLabel as F;
use partita_abi::fault::user_exception;
use sel4::init_thread::slot;
use sel4::{CNodeCapData, CapRights, MessageInfo, VmAttributes, cap};
use testkit::kit::WINDOW;
use testkit::{Case, Helper, Kit, Outcome, Space, check, check_eq, fail};

pub const CASES: &[Case] = &[
    Case {
        name: "LEAK0001 special registers after a system call",
        body: after_call,
    },
    Case {
        name: "LEAK0002 special registers after a fault",
        body: after_fault,
    },
    Case {
        name: "LEAK0003 special registers after a page fault",
        body: after_page_fault,
    },
    Case {
        name: "LEAK0004 special registers after preemption",
        body: after_preemption,
    },
    Case {
        name: "LEAK0005 special registers after an unknown system call",
        body: after_unknown,
    },
    Case {
        name: "LEAK0006 special registers of a new thread",
        body: fresh,
    },
    Case {
        name: "LEAK0007 general registers after each system call",
        body: general,
    },
];

/// What the other thread leaves wherever it can: recognisable in 32 bits too.
const SECRET: u64 = 0x5ec2_e75e_5ec2_e75e;
const SECRET_LOW: u64 = SECRET & 0xffff_ffff;
/// Special register numbers.
const SPRS: u32 = 1024;
/// Value of a register that could not be read.
const FAULTED: u64 = u64::MAX;
/// Registers that belong to the thread, or tell nothing: XER, LR, CTR, the timebase (three names),
/// CTRL (run latch), PPR (own priority, two names), PURR and SPURR (processor time; privileged on
/// hardware, not in QEMU).
const OWN: [u32; 11] = [1, 8, 9, 268, 269, 526, 136, 896, 898, 308, 309];

/// MMCR0 as user mode sees it: the counters are frozen, nothing else.
const MMCR0: u32 = 779;
const FROZEN: u64 = 0x8000_0000;

/// Where the reader's results go, the code it runs, and the writer's code.
const RESULTS: usize = WINDOW + 0x10_0000;
const READER_PAGE: usize = 0;
const WRITER_VADDR: usize = 0x10_0000;

const fn li(rt: u32, value: i16) -> u32 {
    0x3800_0000 | rt << 21 | value as u16 as u32
}

/// `std r3, offset(r4)`.
const fn store_result(offset: u32) -> u32 {
    0xf864_0000 | (offset & 0xfffc)
}

/// Code that exits in the given way, then stores every special register at r3.
fn reader(exit: &[u32]) -> ([u32; 3 * SPRS as usize + 16], usize) {
    let mut words = [RETURN; 3 * SPRS as usize + 16];
    let mut n = 0;
    let mut push = |word| {
        words[n] = word;
        n += 1;
    };
    push(0x7c64_1b78); // mr r4, r3
    for word in exit {
        push(*word);
    }
    for spr in 0..SPRS {
        push(li(3, -1));
        push(mfspr(spr));
        push(store_result(8 * spr));
    }
    push(RETURN);
    (words, n)
}

/// A thread in an address space of its own that writes the secret to everything that it can write, for
/// ever, yielding in between; each instruction that faults is skipped by `handle`.
fn start_writer(kit: &mut Kit, faults: cap::Endpoint) -> Outcome<cap::Tcb> {
    let space = Space::new(kit)?;
    let mut words = [NOP; 40];
    let writable = [256, 896, 898, 3, 13, 769, 770, 771, 779, 780, 781];
    let mut n = 0;
    for spr in writable {
        words[n] = mtspr(spr);
        n += 1;
    }
    let own = [mtspr(8), mtspr(9), mtspr(1)];
    for word in own {
        words[n] = word;
        n += 1;
    }
    words[n] = li(0, partita_abi::syscall::YIELD as i16);
    words[n + 1] = 0x4400_0002;
    // b back to the start: the faulting instructions have been replaced by then or are skipped again.
    words[n + 2] = 0x4800_0000 | ((-4 * (n as i32 + 2)) as u32 & 0x03ff_fffc);
    let mut bytes = [0; 160];
    for (to, word) in bytes.chunks_mut(4).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    space.map_copy(
        kit,
        WRITER_VADDR,
        &bytes,
        CapRights::read_only(),
        VmAttributes::NONE,
    )?;
    let tcb = kit.tcb()?;
    let sc = kit.sched_context(500, 500)?;
    let none = cap::Granule::from_bits(0);
    tcb.tcb_configure(kit.cnode(), CNodeCapData::new(0, 0), space.root, 0, none)?;
    tcb.tcb_set_sched_params(slot::TCB.cap(), 0, 50, sc, faults)?;
    let mut context = sel4::UserContext::default();
    context.inner_mut().fill(SECRET);
    *context.pc_mut() = WRITER_VADDR as u64;
    tcb.tcb_write_all_registers(true, &context)?;
    Ok(tcb)
}

/// Handles faults at this thread until `done`: skips the instruction, and for a page fault too.
fn handle(kit: &Kit, faults: cap::Endpoint, reply: cap::Reply, reader: testkit::Thread) -> Outcome {
    for _ in 0..20 * SPRS {
        if reader.finished() {
            return Ok(());
        }
        let got = faults.nb_recv_with_mrs(reply);
        match F::from_number(got.info.label()) {
            Some(F::UserException) if got.info.length() != 0 => {
                let next = got.msg[user_exception::FAULT_IP] + 4;
                reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [next]);
            }
            Some(F::VMFault) if got.info.length() != 0 => {
                // Skipped through the registers; the answer to a page fault has none.
                let mut context = reader.tcb.tcb_read_registers(false, 1)?;
                *context.pc_mut() += 4;
                reader.tcb.tcb_write_registers(true, 1, &context)?;
            }
            Some(F::UnknownSyscall) if got.info.length() != 0 => {
                let mut context = reader.tcb.tcb_read_registers(false, 1)?;
                *context.pc_mut() += 4;
                reader.tcb.tcb_write_registers(true, 1, &context)?;
            }
            _ => kit.sleep(200)?,
        }
    }
    fail!("the reader does not finish")
}

fn check_special(kit: &mut Kit, exit: &[u32]) -> Outcome {
    let faults = kit.endpoint()?;
    let reply = kit.reply()?;
    for page in 0..2 {
        kit.page_at(RESULTS + page * 0x1000)?;
    }
    let (words, n) = reader(exit);
    let code = code::place(kit, READER_PAGE, &words[..n])?;
    start_writer(kit, faults)?;
    // Let the writer fill everything first; its faults are skipped.
    for _ in 0..40 {
        kit.sleep(300)?;
        let got = faults.nb_recv_with_mrs(reply);
        if got.info.length() != 0 {
            let next = got.msg[user_exception::FAULT_IP] + 4;
            reply.send_with_mrs(MessageInfo::new(0, 0, 0, 1), [next]);
        }
    }
    let thread = Helper::new(code::run_code)
        .args([code, RESULTS as u64])
        .priority(50)
        .budget(500, 500)
        .fault(faults)
        .start(kit)?;
    handle(kit, faults, reply, thread)?;
    let mut read = 0;
    for spr in 0..SPRS {
        // SAFETY: the pages of results are mapped there.
        let value = unsafe { ((RESULTS + 8 * spr as usize) as *const u64).read_volatile() };
        if value == FAULTED {
            continue;
        }
        read += 1;
        if value == SECRET || value & 0xffff_ffff == SECRET_LOW || value >> 32 == SECRET_LOW {
            fail!("special register {spr} holds the other thread's {value:#x}");
        }
        if OWN.contains(&spr) {
            if matches!(spr, 1 | 8 | 9) && KERNEL.contains(&value) {
                fail!("special register {spr} holds the kernel's {value:#x}");
            }
        } else if spr == MMCR0 {
            check_eq!(value, FROZEN);
        } else if value != 0 {
            fail!("special register {spr} holds {value:#x}");
        }
    }
    // XER, LR, CTR and the timebase at least.
    check!(read >= 4);
    Ok(())
}

fn after_call(kit: &mut Kit) -> Outcome {
    let number = li(0, partita_abi::syscall::YIELD as i16);
    check_special(kit, &[number, 0x4400_0002])
}

fn after_fault(kit: &mut Kit) -> Outcome {
    check_special(kit, &[TRAP, 0])
}

fn after_page_fault(kit: &mut Kit) -> Outcome {
    // ld r3, 0(0): the address is 0.
    check_special(kit, &[li(5, 0), 0xe865_0000])
}

fn after_preemption(kit: &mut Kit) -> Outcome {
    // A loop of some milliseconds, several slices long: li r5, 0; addis r5, r5, 0x60; bdnz.
    check_special(
        kit,
        &[
            0x3ca0_0200, // lis r5, 0x200: 33 million rounds
            0x7ca9_03a6, // mtctr r5
            0x4200_0000, // bdnz .
        ],
    )
}

fn after_unknown(kit: &mut Kit) -> Outcome {
    check_special(kit, &[li(0, 100), 0x4400_0002])
}

fn fresh(kit: &mut Kit) -> Outcome {
    check_special(kit, &[])
}

core::arch::global_asm!(
    // r3 = array of 32 words: in r0 (number), r3, r12, r14, r15 as given there, everything else a
    // pattern; after the system call all general registers, LR, CTR and XER go back there.
    r#"
    .section .text.all_registers, "ax", @progbits
    .globl all_registers
all_registers:
    mflr 0
    std 0, 16(1)
    mfcr 0
    std 0, 8(1)
    stdu 1, -320(1)
    .irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, 32 + 8 * (\n - 13)(1)
    .endr
    std 2, 200(1)
    std 13, 208(1)
    std 3, 216(1)
    mr 31, 3
    .irp n, 4,5,6,7,8,9,10,11,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    ld \n, 8 * \n(31)
    .endr
    ld 12, 8 * 12(31)
    ld 0, 0(31)
    ld 3, 24(31)
    sc
    std 31, 224(1)
    ld 31, 216(1)
    .irp n, 0,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    std \n, 8 * \n(31)
    .endr
    mflr 0
    std 0, 8 * 32(31)
    mfctr 0
    std 0, 8 * 33(31)
    mfxer 0
    std 0, 8 * 34(31)
    .irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld \n, 32 + 8 * (\n - 13)(1)
    .endr
    ld 2, 200(1)
    ld 13, 208(1)
    addi 1, 1, 320
    ld 0, 8(1)
    mtcr 0
    ld 0, 16(1)
    mtlr 0
    blr
"#
);

unsafe extern "C" {
    fn all_registers(words: *mut u64);
}

/// One system call with a pattern in all registers; every register afterwards must hold the pattern,
/// 0, or what the call returns.
fn one_call(
    name: &str,
    number: isize,
    cptr: u64,
    reply: u64,
    dest: u64,
    expected: &[(usize, u64)],
) -> Outcome {
    let mut words = [0u64; 35];
    for (i, word) in words.iter_mut().enumerate() {
        *word = 0x7a7a_0000 + i as u64;
    }
    words[0] = number as i64 as u64;
    words[3] = cptr;
    words[12] = MessageInfo::new(0, 0, 0, 2).into_word();
    words[14] = reply;
    words[15] = dest;
    let before = words;
    // SAFETY: the function keeps to the calling convention and uses 35 words.
    unsafe { all_registers(words.as_mut_ptr()) };
    for (i, &value) in words.iter().enumerate() {
        let special = expected.iter().find(|(n, _)| *n == i);
        let good = match (i, special) {
            (_, Some((_, wanted))) => value == *wanted,
            // Not tested here: stack, TOC, thread pointer, the array itself.
            (1 | 2 | 13 | 31, None) => true,
            // LR, CTR and XER may be lost, but not to the kernel's values.
            (32.., None) => !KERNEL.contains(&value) && value >> 60 != 0xc,
            (_, None) => value == 0 || value == before[i],
        };
        if !good {
            fail!("{name}: register {i} holds {value:#x}");
        }
    }
    Ok(())
}

fn general(kit: &mut Kit) -> Outcome {
    use partita_abi::syscall as s;
    let ntfn = kit.notification()?;
    let bell = kit.mint(ntfn, CapRights::all(), 0xbe11)?;
    let endpoint = kit.endpoint()?;
    let reply = kit.reply()?;
    let server_reply = kit.reply()?;
    Helper::new(crate::support::echo)
        .args([endpoint.bits(), server_reply.bits()])
        .priority(120)
        .start_passive(kit)?;
    let info = |length| MessageInfo::new(0, 0, 0, length).into_word();
    let nothing = [(3, 0), (12, info(0))];
    one_call("Yield", s::YIELD, 0, 0, 0, &[])?;
    one_call("NBWait", s::NB_WAIT, ntfn.bits(), 0, 0, &nothing)?;
    one_call("Send to a notification", s::SEND, bell.bits(), 0, 0, &[])?;
    one_call(
        "Wait",
        s::WAIT,
        ntfn.bits(),
        0,
        0,
        &[(3, 0xbe11), (12, info(0))],
    )?;
    one_call("NBSend", s::NB_SEND, bell.bits(), 0, 0, &[])?;
    one_call(
        "NBRecv",
        s::NB_RECV,
        ntfn.bits(),
        reply.bits(),
        0,
        &[(3, 0xbe11), (12, info(0))],
    )?;
    // The echo adds its label's one.
    let answer = MessageInfo::new(1, 0, 0, 2).into_word();
    one_call(
        "Call",
        s::CALL,
        endpoint.bits(),
        0,
        0,
        &[(3, 0), (12, answer)],
    )?;
    // An invocation with an error, and one that succeeds.
    let error = MessageInfo::new(partita_abi::ErrorCode::IllegalOperation as u64, 0, 0, 0);
    let tcb = kit.tcb()?;
    one_call(
        "Call of a TCB",
        s::CALL,
        tcb.bits(),
        0,
        0,
        &[(3, 0), (12, error.into_word())],
    )?;
    bell.signal();
    one_call(
        "NBSendWait",
        s::NB_SEND_WAIT,
        ntfn.bits(),
        0,
        bell.bits(),
        &[(3, 0xbe11), (12, info(0))],
    )?;
    one_call(
        "NBSendRecv",
        s::NB_SEND_RECV,
        ntfn.bits(),
        reply.bits(),
        bell.bits(),
        &[(3, 0xbe11), (12, info(0))],
    )?;
    check_eq!(ntfn.poll().1, 0);
    Ok(())
}
