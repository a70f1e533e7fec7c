// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: storage faults (SPEC 5.4): what reaches the guest, with which bits, and what does
//! not.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

guest_support::guest_cases!("guest-faults", program::CASES);

#[cfg(target_arch = "powerpc64")]
mod program {
    use guest_support::hypercall::hypercall;
    use guest_support::machine::{Trap, execute, execute_user, mtspr, spr, timebase};
    use guest_support::memory::{is_zero, read, write};
    use guest_support::mmu::{access, jump, map_identity, segment, slbmte, translated};
    use guest_support::papr::PageSize;
    use guest_support::papr::hash::{SLB_KP, is_vrma};
    use guest_support::papr::hcall::number::*;
    use guest_support::papr::hcall::{flags, status::H_SUCCESS};
    use guest_support::papr::hpte::{G, KEY_HIGH, KEY_LOW, N};
    use guest_support::trap::vector;
    use guest_support::{Case, Guest, Outcome, check, check_eq, fail};

    pub const CASES: &[Case] = &[
        Case {
            name: "5.4 F2 a miss is the guest's: DSI and ISI with NOHPTE",
            body: miss,
        },
        Case {
            name: "DESIGN 4 a miss costs no exit while nothing is intercepted",
            body: no_exit,
        },
        Case {
            name: "5.4 SLB misses are the guest's: 0x380 and 0x480",
            body: segment_miss,
        },
        Case {
            name: "5.4 F4 protection: DSI with PROT, and STORE for a store",
            body: protection,
        },
        Case {
            name: "5.4 F1 F4 no-execute and guarded pages: ISI with N/G",
            body: no_execute,
        },
        Case {
            name: "5.4 F5 storage keys: DSI with KEY",
            body: keys,
        },
        Case {
            name: "5.4 user mode faults as supervisor state does",
            body: user,
        },
        Case {
            name: "S2.5 F7 a page that nobody has touched is zeros when it is",
            body: fresh_pages,
        },
        Case {
            name: "S2.20 entries of the virtual real mode area that are removed come again",
            body: real_mode_entries,
        },
        Case {
            name: "5.4 a thousand identical faults in a row: the guest goes on",
            body: identical_faults,
        },
    ];

    const NOHPTE: u64 = 0x4000_0000;
    const PROT: u64 = 0x0800_0000;
    const STORE: u64 = 0x0200_0000;
    const KEY: u64 = 0x0020_0000;
    const NO_EXECUTE: u64 = 0x1000_0000;
    /// Cause bits of an ISI's SRR1.
    const CAUSES: u64 = NOHPTE | NO_EXECUTE | PROT | KEY;

    const BASE: u64 = 5 << 40;

    fn map() -> guest_support::mmu::Mapping {
        segment(BASE, 0x7007, PageSize::Size4K)
    }

    fn dsi(trap: Option<Trap>, ea: u64, dsisr: u64) -> Outcome {
        let Some(trap) = trap else {
            fail!("no trap at {ea:#x}")
        };
        check_eq!(
            (trap.vector, trap.dar, trap.dsisr),
            (vector::DATA_STORAGE, ea, dsisr)
        );
        Ok(())
    }

    fn isi(trap: Option<Trap>, ea: u64, cause: u64) -> Outcome {
        let Some(trap) = trap else {
            fail!("no trap at {ea:#x}")
        };
        check_eq!((trap.vector, trap.srr0), (vector::INSTRUCTION_STORAGE, ea));
        check_eq!(trap.srr1 & CAUSES, cause);
        Ok(())
    }

    fn miss(guest: &'static Guest) -> Outcome {
        check!(map_identity(guest, guest.free[0]));
        map().load(1);
        for ea in [BASE, BASE + 0x1234_5678_0008, BASE + (1 << 40) - 8] {
            let ea = BASE + (ea & ((1 << 40) - 8));
            dsi(access(ea, false), ea, NOHPTE)?;
            dsi(access(ea, true), ea, NOHPTE | STORE)?;
            isi(jump(ea & !3), ea & !3, NOHPTE)?;
        }
        Ok(())
    }

    fn no_exit(guest: &'static Guest) -> Outcome {
        check!(map_identity(guest, guest.free[0]));
        map().load(1);
        access(BASE, false);
        let mut least = u64::MAX;
        for _ in 0..20 {
            let from = timebase();
            check!(access(BASE, false).is_some());
            let miss = timebase() - from;
            let from = timebase();
            check!(access(0x100, false).is_none());
            least = least.min(miss.saturating_sub(timebase() - from));
        }
        // Time counts instructions here, half a tick each: the handler of this program takes some
        // 120, the shortest exit and way back well over 600.
        if least > 200 {
            fail!("{least} ticks");
        }
        Ok(())
    }

    fn segment_miss(guest: &'static Guest) -> Outcome {
        check!(map_identity(guest, guest.free[0]));
        let ea = 77 << 40;
        let trap = access(ea, false);
        check_eq!(
            trap.map(|t| (t.vector, t.dar)),
            Some((vector::DATA_SEGMENT, ea))
        );
        let trap = jump(ea);
        check_eq!(
            trap.map(|t| (t.vector, t.srr0)),
            Some((vector::INSTRUCTION_SEGMENT, ea))
        );
        Ok(())
    }

    fn protection(guest: &'static Guest) -> Outcome {
        check!(map_identity(guest, guest.free[0]));
        map().load(1);
        let ea = BASE + 0x2000;
        let answer = map().enter(guest, ea, guest.free[0], PageSize::Size4K, 3);
        check_eq!(answer.status, H_SUCCESS);
        check_eq!(access(ea, false), None);
        dsi(access(ea, true), ea, PROT | STORE)?;
        // It keeps what it was.
        check_eq!(hypercall(H_PROTECT, [2, answer.words[0]]).status, H_SUCCESS);
        check_eq!(access(ea, true), None);
        Ok(())
    }

    fn no_execute(guest: &'static Guest) -> Outcome {
        check!(map_identity(guest, guest.free[0]));
        map().load(1);
        for bits in [N, G, N | G] {
            let ea = BASE + 0x3000;
            let answer = map().enter(guest, ea, guest.free[0], PageSize::Size4K, 2 | bits);
            check_eq!(answer.status, H_SUCCESS);
            if bits & N != 0 {
                isi(jump(ea), ea, NO_EXECUTE)?;
            }
            check_eq!(access(ea, false), None);
            hypercall(H_REMOVE, [0, answer.words[0]]);
        }
        // A segment without execution.
        slbmte(1, BASE, map().segment.word() | 0x200);
        let ea = BASE + 0x4000;
        let answer = map().enter(guest, ea, guest.free[0], PageSize::Size4K, 2);
        check_eq!(answer.status, H_SUCCESS);
        isi(jump(ea), ea, NO_EXECUTE)?;
        Ok(())
    }

    fn keys(guest: &'static Guest) -> Outcome {
        check!(map_identity(guest, guest.free[0]));
        map().load(1);
        mtspr::<157>(u64::MAX);
        for key in [1u64, 5, 18, 30] {
            let ea = BASE + 0x1_0000 + (key << 12);
            let bits = (key >> 3) << 60 | (key & 7) << 9;
            check_eq!(bits & !(KEY_HIGH | KEY_LOW), 0);
            let answer = map().enter(guest, ea, guest.free[0], PageSize::Size4K, 2 | bits);
            check_eq!(answer.status, H_SUCCESS);
            for (field, load, store) in [
                (0u64, true, true),
                (1, false, true),
                (2, true, false),
                (3, false, false),
            ] {
                mtspr::<{ spr::AMR }>(field << (62 - 2 * key));
                // QEMU looks at keys when it fills its TLB: slbie empties it.
                map().load(1);
                let got = [access(ea, false), access(ea, true)];
                mtspr::<{ spr::AMR }>(0);
                for (trap, may, is_store) in [(got[0], load, 0), (got[1], store, STORE)] {
                    match trap {
                        None if may => {}
                        Some(trap) if !may => {
                            check_eq!(trap.vector, vector::DATA_STORAGE);
                            check_eq!(trap.dsisr, KEY | is_store);
                        }
                        _ => fail!("key {key}, AMR field {field}: {trap:x?}"),
                    }
                }
            }
        }
        Ok(())
    }

    fn user(guest: &'static Guest) -> Outcome {
        check!(map_identity(guest, guest.free[0]));
        map().load(1);
        let ea = BASE + 0x5000;
        // ld r3, 0(r4), then a system call.
        let load = |ea| execute_user(&[0xe864_0000, 0x4400_0002], [1, ea, 0, 0]);
        let miss = load(ea);
        dsi(miss.trap, ea, NOHPTE)?;
        let answer = map().enter(guest, ea, guest.free[0], PageSize::Size4K, 2);
        check_eq!(answer.status, H_SUCCESS);
        write(guest.free[0], 99);
        let done = load(ea);
        check_eq!(
            (done.trap.map(|t| t.vector), done.gpr[0]),
            (Some(0xc00), 99)
        );
        // Key 1 for user state, and a page for the supervisor only.
        hypercall(H_PROTECT, [0, answer.words[0]]);
        slbmte(1, BASE, map().segment.word() | SLB_KP);
        dsi(load(ea).trap, ea, PROT)?;
        check_eq!(access(ea, false), None);
        Ok(())
    }

    fn fresh_pages(guest: &'static Guest) -> Outcome {
        check!(map_identity(guest, guest.free[0]));
        let map = segment(BASE, 0x7007, PageSize::Size64K);
        map.load(1);
        let first = (guest.memory / 2) & !0x1f_ffff;
        for i in 0..6 {
            let (ea, page) = (map.base + (i << 21), first + (i << 21));
            let answer = map.enter(guest, ea, page, PageSize::Size64K, 2);
            check_eq!(answer.status, H_SUCCESS);
            check!(translated(|| is_zero(ea, 0x1_0000)));
            translated(|| write(ea, i));
            check_eq!(read(page), i);
        }
        Ok(())
    }

    fn real_mode_entries(guest: &'static Guest) -> Outcome {
        write(guest.free[0], 1234);
        for round in 0..3 {
            let mut removed = 0;
            for index in (0..guest.hpt.entries()).step_by(4) {
                let words = hypercall(H_READ, [flags::READ_4, index]).words;
                for (i, pair) in words.as_chunks::<2>().0.iter().enumerate() {
                    if is_vrma(pair[0]) {
                        let gone = hypercall(H_REMOVE, [0, index + i as u64]);
                        check_eq!(gone.status, H_SUCCESS);
                        removed += 1;
                    }
                }
            }
            check!(removed > 2);
            check_eq!(read(guest.free[0]), 1234);
            let done = execute(&[0x6000_0000], [round, 0, 0, 0]);
            check_eq!((done.trap, done.gpr[0]), (None, round));
        }
        Ok(())
    }

    /// The server reports them (in debug its line stands in the log).
    fn identical_faults(guest: &'static Guest) -> Outcome {
        let ea = guest.free[0];
        let mut found = None;
        write(ea, 1234);
        for index in (0..guest.hpt.entries()).step_by(4) {
            let words = hypercall(H_READ, [flags::READ_4, index]).words;
            for (i, pair) in words.as_chunks::<2>().0.iter().enumerate() {
                if is_vrma(pair[0]) && pair[1] & 0x0fff_ffff_ffff_0000 == ea & !0xffff {
                    found = Some(index + i as u64);
                }
            }
        }
        let Some(index) = found else {
            fail!("no entry for {ea:#x}")
        };
        for _ in 0..1100 {
            check_eq!(hypercall(H_REMOVE, [0, index]).status, H_SUCCESS);
            check_eq!(read(ea), 1234);
        }
        Ok(())
    }
}
