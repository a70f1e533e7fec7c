// SPDX-License-Identifier: BSD-2-Clause
//! Exits that are no hypercall.

use crate::calls::SPRG3;
use crate::patterns::{Allowed, CR0, compare, patterns};
use guest_support::hypercall::hypercall;
use guest_support::low::trap_area;
use guest_support::machine::{mfmsr, mfspr};
use guest_support::memory::{read_be32, write, write_be32};
use guest_support::papr::hash::{is_vrma, vrma_ptex};
use guest_support::papr::hcall::number::*;
use guest_support::papr::hcall::status::H_SUCCESS;
use guest_support::papr::{HptOrder, PageSize};
use guest_support::registers::{Registers, code_address, run};
use guest_support::{Case, Guest, Outcome, Random, check, check_eq, fail};

pub const CASES: &[Case] = &[
    Case {
        name: "5.4 a page that is brought in changes no register but the loaded one",
        body: data_page,
    },
    Case {
        name: "5.4 code that is brought in changes no register",
        body: code_page,
    },
    Case {
        name: "5.5 an illegal instruction changes no register but its interrupt's",
        body: illegal,
    },
    Case {
        name: "5.5 a facility that is granted or refused changes no register",
        body: facility,
    },
    Case {
        name: "5.5 C6 another vCPU's turn changes no register",
        body: preempted,
    },
];

fn data_page(guest: &'static Guest) -> Outcome {
    let mut random = Random::new(6);
    // Pages of 2 MiB that nothing has touched, from the middle of memory on.
    let first = (guest.memory / 2) & !0x1f_ffff;
    for i in 0..4 {
        let page = first + (i << 21);
        for offset in [0, 0x1_0000] {
            let mut before = patterns(&mut random);
            before.gpr[31] = page + offset;
            // ld r30, 8(r31)
            let after = run(&before, &[0xebdf_0008]);
            let allowed = Allowed {
                gprs: 1 << 30,
                ..Allowed::default()
            };
            compare(&before, &after, &allowed)?;
            check_eq!(after.gpr[30], 0);
        }
    }
    Ok(())
}

fn code_page(guest: &'static Guest) -> Outcome {
    let mut random = Random::new(7);
    let page = guest.free[0] + 0x4_0000;
    write(page, 0x4e80_0020_4e80_0020);
    guest_support::machine::sync_instructions(page, 8);
    for _ in 0..4 {
        // Without its entry in the virtual real mode area the fetch is an exit.
        let Some(index) = vrma_index(guest.hpt, page) else {
            fail!("no entry of the virtual real mode area for {page:#x}")
        };
        check_eq!(hypercall(H_REMOVE, [0, index]).status, H_SUCCESS);
        let mut before = patterns(&mut random);
        before.ctr = page;
        let after = run(&before, &[0x4e80_0421]); // bctrl
        let allowed = Allowed {
            lr: true,
            ..Allowed::default()
        };
        compare(&before, &after, &allowed)?;
        check_eq!(after.lr, code_address() + 4);
    }
    Ok(())
}

/// Where the entry for real mode access to `address` is.
fn vrma_index(order: HptOrder, address: u64) -> Option<u64> {
    let group = vrma_ptex(address, PageSize::Size64K, order).get() & !7;
    let other = !group & (order.entries() - 1) & !7;
    let all = (group..group + 8).chain(other..other + 8);
    all.into_iter().find(|index| {
        let words = hypercall(H_READ, [0, *index]).words;
        is_vrma(words[0]) && words[1] & 0x0fff_ffff_ffff_0000 == address & !0xffff
    })
}

/// Runs one instruction that traps; it goes on behind it.
fn trapping(before: &Registers, word: u32) -> (Registers, u64, u64) {
    let area = trap_area(0);
    // SAFETY: the area is this vCPU's; no trap happens between here and the instruction.
    unsafe {
        (*area).vector = 0;
        (*area).fixup = code_address() + 4;
        // The facilities that saving the registers needs stay on.
        (*area).fixup_msr = mfmsr() | 0x0280_2000;
    }
    let after = run(before, &[word]);
    // SAFETY: as above.
    unsafe {
        (*area).fixup = 0;
        (after, (*area).vector, (*area).srr1)
    }
}

fn illegal(_: &'static Guest) -> Outcome {
    let mut random = Random::new(8);
    let sprg3 = mfspr::<275>();
    for word in [0, 0x7c00_03e6, 0x1800_0000, 0xdc00_0001] {
        let mut before = patterns(&mut random);
        before.spr[SPRG3] = sprg3;
        let (after, vector, srr1) = trapping(&before, word);
        let allowed = Allowed {
            // The trap handler's own.
            sprs: &[274],
            ..Allowed::default()
        };
        compare(&before, &after, &allowed)?;
        check_eq!(vector, guest_support::trap::vector::PROGRAM);
        check!(srr1 & guest_support::trap::ILLEGAL != 0);
    }
    Ok(())
}

fn facility(_: &'static Guest) -> Outcome {
    let mut random = Random::new(9);
    let sprg3 = mfspr::<275>();
    // mfspr r30, n
    let read = |n: u32| 0x7fc0_02a6 | (n & 31) << 16 | (n >> 5) << 11;
    // tbegin., msgsndp r31, mfspr of EBBHR, PMC1, MMCR0 and TFHAR.
    for word in [
        0x7c00_051d,
        0x7c00_f91c,
        read(804),
        read(771),
        read(779),
        read(128),
    ] {
        let mut before = patterns(&mut random);
        before.spr[SPRG3] = sprg3;
        let (after, vector, _) = trapping(&before, word);
        let allowed = Allowed {
            gprs: 1 << 30,
            cr: CR0,
            sprs: &[274],
            ..Allowed::default()
        };
        compare(&before, &after, &allowed)?;
        match vector {
            // Nothing of the host: zero, or frozen counters (MMCR0[FC]).
            0 => check!([0, before.gpr[30], 0x8000_0000].contains(&after.gpr[30])),
            0x700 | 0xf60 => check_eq!(after.gpr[30], before.gpr[30]),
            other => fail!("{word:#x}: trap {other:#x}"),
        }
    }
    Ok(())
}

/// Counts the rounds of the other vCPU.
static ROUNDS: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
static STOP: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// The other vCPU: other values in all its registers, over and over.
extern "C" fn spin(stop_self: u64) -> ! {
    use core::sync::atomic::Ordering::SeqCst;
    // SAFETY: the registers of this vCPU hold nothing that it needs; its MSR gets FP, VEC and VSX.
    unsafe {
        core::arch::asm!(
            "mfmsr 4", "lis 5, 0x280", "ori 5, 5, 0x2000", "or 4, 4, 5", "mtmsrd 4", "isync",
            "lis 5, 0x7bad", "mtspr 815, 5", "mtspr 256, 5", "mtspr 272, 5", "mtspr 273, 5",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63",
            // mtvsrd n, r5
            ".long 0x7c000166 | (5 << 16) | ((\\n & 31) << 21) | (\\n >> 5)",
            ".endr",
            out("r4") _, out("r5") _, options(nostack, nomem),
        );
    }
    while STOP.load(SeqCst) == 0 {
        ROUNDS.fetch_add(1, SeqCst);
    }
    loop {
        let _ = guest_support::rtas::stop_self(stop_self as u32);
    }
}

fn preempted(guest: &'static Guest) -> Outcome {
    use core::sync::atomic::Ordering::SeqCst;
    let mut random = Random::new(10);
    // The VPA's yield count says when the vCPU lost its processor.
    let vpa = guest.free[0] + 0x2_0000;
    for offset in (0..0x400).step_by(4) {
        write_be32(vpa + offset, 0);
    }
    write_be32(vpa + 4, 640 << 16);
    check_eq!(
        hypercall(H_REGISTER_VPA, [1 << 45, 0, vpa]).status,
        H_SUCCESS
    );
    let stop_self = guest.token("stop-self").unwrap_or(0);
    check_eq!(guest.start_vcpu(1, spin, stop_self.into()), 0);
    let mut switches = 0;
    for _ in 0..8 {
        let rounds = ROUNDS.load(SeqCst);
        let yields = read_be32(vpa + 0x100);
        let mut before = patterns(&mut random);
        // r28 = end of 50 ms; 1: mftb r29; cmpld r29, r28; blt 1b
        before.gpr[28] = 25_600_000;
        let code = [
            0x7fac_42a6,
            0x7f9c_ea14,
            0x7fac_42a6,
            0x7c3d_e040,
            0x4180_fff8,
        ];
        let after = run(&before, &code);
        let allowed = Allowed {
            gprs: 3 << 28,
            cr: CR0,
            ..Allowed::default()
        };
        compare(&before, &after, &allowed)?;
        if read_be32(vpa + 0x100) != yields && ROUNDS.load(SeqCst) != rounds {
            switches += 1;
        }
    }
    check!(switches > 0);
    STOP.store(1, SeqCst);
    let query = guest.token("query-cpu-stopped-state").unwrap_or(0);
    let from = guest_support::machine::timebase();
    // It needs a turn to stop itself.
    while guest_support::machine::timebase() - from < 51_200_000 {
        hypercall(H_CONFER, [u64::MAX, 0]);
    }
    let state = guest_support::rtas::service::<2>(query, &[1]);
    check_eq!(state, (0, [0, 0]));
    check_eq!(hypercall(H_REGISTER_VPA, [5 << 45, 0]).status, H_SUCCESS);
    Ok(())
}
