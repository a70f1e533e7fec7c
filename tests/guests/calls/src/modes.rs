// SPDX-License-Identifier: BSD-2-Clause
//! Modes, debug registers and facts (SPEC 2.5).

use guest_support::hypercall::hypercall;
use guest_support::low::VECTORS_AIL;
use guest_support::machine::{execute, mfmsr, mfspr, msr, mtmsrd, spr, sync_instructions};
use guest_support::mmu::{map_identity, segment};
use guest_support::papr::PageSize;
use guest_support::papr::hcall::number::*;
use guest_support::papr::hcall::status::*;
use guest_support::{Case, Guest, Outcome, check, check_eq, fail};

pub const CASES: &[Case] = &[
    Case {
        name: "2.5 H_SET_MODE: unknown resources and flags, values that must be 0",
        body: errors,
    },
    Case {
        name: "2.5 H_SET_MODE 1: the hypervisor's CIABR is refused",
        body: instruction_breakpoint,
    },
    Case {
        name: "2.5 H_SET_MODE 4: interrupts arrive in the endianness that was chosen",
        body: endian,
    },
    Case {
        name: "2.5 H_SET_MODE 3: interrupts arrive with translation on",
        body: translated_interrupts,
    },
    Case {
        name: "2.5 H_SET_DABR, H_SET_XDABR: POWER9 has no DABR",
        body: data_breakpoint,
    },
    Case {
        name: "2.5 H_SET_SPRG0",
        body: sprg0,
    },
    Case {
        name: "2.5 H_GET_CPU_CHARACTERISTICS, H_RANDOM",
        body: facts,
    },
];

fn set(flags: u64, resource: u64, value1: u64, value2: u64) -> i64 {
    hypercall(H_SET_MODE, [flags, resource, value1, value2]).status
}

fn errors(_: &'static Guest) -> Outcome {
    for resource in [0, 2, 5, 6, 7, 1 << 32, u64::MAX] {
        for flags in [0, 1, 3, u64::MAX] {
            check_eq!(set(flags, resource, 0, 0), H_P2);
        }
    }
    for resource in [3, 4] {
        check_eq!(set(0, resource, 1, 0), H_P3);
        check_eq!(set(0, resource, 1, 1), H_P3);
        check_eq!(set(0, resource, 0, 1), H_P4);
        for flags in [2, 4, 1 << 32, u64::MAX] {
            check_eq!(set(flags, resource, 0, 0), H_UNSUPPORTED_FLAG);
        }
    }
    check_eq!(set(1, 3, 0, 0), H_UNSUPPORTED_FLAG);
    check_eq!(set(3, 4, 0, 0), H_UNSUPPORTED_FLAG);
    Ok(())
}

fn instruction_breakpoint(_: &'static Guest) -> Outcome {
    check_eq!(set(0, 1, 0, 1), H_P4);
    check_eq!(set(1, 1, 0, 0), H_UNSUPPORTED_FLAG);
    check_eq!(set(0, 1, 0x1_0003, 0), H_P3);
    check_eq!(set(0, 1, u64::MAX, 0), H_P3);
    check_eq!(set(0, 1, 0, 0), H_SUCCESS);
    // A breakpoint in supervisor state at code that does not run, and off again.
    check_eq!(set(0, 1, 0x2000_0002, 0), H_SUCCESS);
    check_eq!(set(0, 1, 0, 0), H_SUCCESS);
    Ok(())
}

/// Replaces the system call vector of both copies by big-endian or little-endian
/// `mfmsr r5; rfid` for one `sc 0`, and answers its r5.
fn msr_of_system_call(big: bool) -> Outcome<u64> {
    const CODE: [u32; 2] = [0x7ca0_00a6, 0x4c00_0024];
    let place: *mut u32 = core::ptr::with_exposed_provenance_mut(0xc00);
    // SAFETY: the vector is this program's; the words are put back.
    let old = [0, 1].map(|i| unsafe { place.add(i).read_volatile() });
    let write = |words: [u32; 2]| {
        for (i, word) in words.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { place.add(i).write_volatile(word) };
        }
        sync_instructions(0xc00, 8);
    };
    write(CODE.map(|word| if big { word.swap_bytes() } else { word }));
    let done = execute(&[0x4400_0002], [0; 4]);
    write(old);
    match done.trap {
        None => Ok(done.gpr[2]),
        Some(trap) => fail!("trap {:#x}", trap.vector),
    }
}

fn endian(_: &'static Guest) -> Outcome {
    check_eq!(set(0, 4, 0, 0), H_SUCCESS);
    let found = msr_of_system_call(true)?;
    check_eq!(set(1, 4, 0, 0), H_SUCCESS);
    check_eq!(found & msr::LE, 0);
    check!(found & msr::SF != 0);
    check_eq!(msr_of_system_call(false)? & msr::LE, msr::LE);
    Ok(())
}

fn translated_interrupts(guest: &'static Guest) -> Outcome {
    check!(map_identity(guest, guest.free[0]));
    let high = segment(0xc000_0000_0000_0000, 0x6006, PageSize::Size64K);
    high.load(2);
    let answer = high.enter(guest, high.base, 0, PageSize::Size64K, 0);
    check_eq!(answer.status, H_SUCCESS);
    let call = || {
        let before = mfmsr();
        // SAFETY: the program is mapped where it is.
        unsafe { mtmsrd(before | msr::IR | msr::DR) };
        let done = execute(&[0x4400_0002], [0; 4]);
        // SAFETY: as it was.
        unsafe { mtmsrd(before) };
        done.trap
    };
    let translation = msr::IR | msr::DR;
    let Some(off) = call() else { fail!("no trap") };
    check_eq!((off.vector, off.msr & translation), (0xc00, 0));
    check_eq!(set(3, 3, 0, 0), H_SUCCESS);
    // The copy at 0xc000_0000_0000_4000 is used: without it there is a storage interrupt.
    let Some(on) = call() else { fail!("no trap") };
    check_eq!((on.vector, on.msr & translation), (0xc00, translation));
    check_eq!(on.srr1 & translation, translation);
    // With translation off an interrupt goes to its real address.
    let real = execute(&[0x4400_0002], [0; 4]).trap;
    check_eq!(real.map(|t| t.msr & translation), Some(0));
    check_eq!(set(0, 3, 0, 0), H_SUCCESS);
    check_eq!(call().map(|t| t.msr & translation), Some(0));
    check!(VECTORS_AIL == 0x4000);
    Ok(())
}

fn data_breakpoint(_: &'static Guest) -> Outcome {
    check_eq!(hypercall(H_SET_DABR, [0x1007]).status, H_HARDWARE);
    check_eq!(hypercall(H_SET_DABR, [0]).status, H_HARDWARE);
    let call = |dabrx| hypercall(H_SET_XDABR, [0x1007, dabrx]).status;
    for good in [1, 2, 3, 9, 0xb] {
        check_eq!(call(good), H_HARDWARE);
    }
    for bad in [0, 4, 5, 8, 0x10, u64::MAX] {
        check_eq!(call(bad), H_PARAMETER);
    }
    Ok(())
}

fn sprg0(_: &'static Guest) -> Outcome {
    for value in [0x0123_4567_89ab_cdef, u64::MAX, 0] {
        check_eq!(hypercall(H_SET_SPRG0, [value]).status, H_SUCCESS);
        check_eq!(mfspr::<{ spr::SPRG0 }>(), value);
    }
    Ok(())
}

fn facts(_: &'static Guest) -> Outcome {
    let facts = hypercall(H_GET_CPU_CHARACTERISTICS, []);
    check_eq!(facts.status, H_SUCCESS);
    check_eq!(hypercall(H_GET_CPU_CHARACTERISTICS, []).words, facts.words);
    let mut all = [0, u64::MAX];
    let mut last = 0;
    for _ in 0..64 {
        let answer = hypercall(H_RANDOM, []);
        check_eq!(answer.status, H_SUCCESS);
        check!(answer.words[0] != last);
        last = answer.words[0];
        all = [all[0] | last, all[1] & last];
    }
    // Every bit is 0 and 1 some time.
    check_eq!(all, [u64::MAX, 0]);
    Ok(())
}
