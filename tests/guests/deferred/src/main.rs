// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: a slot of 64 GiB with 256 MiB behind it, on a machine of 2 GiB (SPEC S2.1, S2.4 to
//! S2.8). A page has a frame from the moment it is touched; when no frame is left the call or access
//! is refused and the guest goes on.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

guest_support::guest_cases!("guest-deferred", program::CASES);

#[cfg(target_arch = "powerpc64")]
mod program {
    use guest_support::hypercall::hypercall;
    use guest_support::machine::execute;
    use guest_support::memory::{fill, is_filled, is_zero, read, write};
    use guest_support::mmu::{Mapping, map_identity, segment, translated};
    use guest_support::papr::PageSize;
    use guest_support::papr::hcall::number::*;
    use guest_support::papr::hcall::{flags, status::*};
    use guest_support::trap::vector;
    use guest_support::{Case, Guest, Outcome, check, check_eq, fail, println};

    pub const CASES: &[Case] = &[
        Case {
            name: "S2.1 C3 the guest has memory that nothing is behind, in pages of up to 64 KiB",
            body: size,
        },
        Case {
            name: "S2.5 S2.6 real mode: a page is there, and zeros, when it is touched",
            body: real_mode,
        },
        Case {
            name: "S2.4 S2.8 H_ENTER of a page that nobody has touched succeeds at once",
            body: enter,
        },
        Case {
            name: "S2.6 without a frame H_ENTER is H_PARAMETER, and what is there stays",
            body: exhaustion,
        },
        Case {
            name: "S2.6 without a frame other calls and accesses are refused, and the guest goes on",
            body: afterwards,
        },
    ];

    const GIB: u64 = 1 << 30;
    /// Memory behind the guest, in its unit.
    const PIECES: u64 = (256 << 20) / PIECE;
    /// Memory is given in pieces of 2 MiB.
    const PIECE: u64 = 2 << 20;

    fn size(guest: &'static Guest) -> Outcome {
        check_eq!(guest.memory, 64 * GIB);
        // There are not so many pages of 16 MiB: they are not offered, and H_ENTER 6 refuses them.
        check!(guest.offers_pages(16) && !guest.offers_pages(24));
        let huge = segment(1 << 40, 0x7100, PageSize::Size16M);
        for size in [
            PageSize::Size16M,
            PageSize::Size16MIn64K,
            PageSize::Size16MIn4K,
        ] {
            let (v, r) = huge.entry(huge.base, 16 << 20, size, 2);
            let answer = hypercall(H_ENTER, [0, huge.group(guest, huge.base), v, r]);
            check_eq!(answer.status, H_PARAMETER);
        }
        Ok(())
    }

    fn real_mode(guest: &'static Guest) -> Outcome {
        for i in 1..20u64 {
            let page = i * 3 * GIB + i * PIECE;
            check!(is_zero(page, 0x1000));
            fill(page, 0x1000, i);
        }
        for i in 1..20u64 {
            check!(is_filled(i * 3 * GIB + i * PIECE, 0x1000, i));
            // All of the piece is there.
            check_eq!(read(i * 3 * GIB + i * PIECE + PIECE - 8), 0);
        }
        write(guest.memory - 8, 7);
        check_eq!(read(guest.memory - 8), 7);
        Ok(())
    }

    fn map() -> Mapping {
        segment(5 << 40, 0x7007, PageSize::Size64K)
    }

    fn enter(guest: &'static Guest) -> Outcome {
        check!(map_identity(guest, guest.free[0]));
        map().load(1);
        for i in 0..10u64 {
            let page = 33 * GIB + i * PIECE;
            let answer = map().enter(guest, map().base + page, page, PageSize::Size64K, 2);
            check_eq!(answer.status, H_SUCCESS);
            check!(translated(|| is_zero(map().base + page, 0x1_0000)));
            translated(|| fill(map().base + page, 64, i));
            check!(is_filled(page, 64, i));
        }
        Ok(())
    }

    /// The page that was refused.
    fn refused_page() -> u64 {
        40 * GIB
    }

    fn exhaustion(guest: &'static Guest) -> Outcome {
        let mut pages = 0;
        let last = loop {
            let page = refused_page() + pages * PIECE;
            let answer = map().enter(guest, map().base + page, page, PageSize::Size64K, 2);
            if answer.status != H_SUCCESS {
                break answer.status;
            }
            translated(|| fill(map().base + page, 64, pages));
            pages += 1;
            check!(pages <= PIECES);
        };
        println!("deferred: {pages} more pieces");
        check_eq!(last, H_PARAMETER);
        // The cases before took 30, the program and its tree a few.
        check!(pages + 30 + 8 >= PIECES && pages + 30 < PIECES);
        for i in 0..pages {
            let page = refused_page() + i * PIECE;
            check!(translated(|| is_filled(map().base + page, 64, i)));
        }
        for i in 1..20u64 {
            check!(is_filled(i * 3 * GIB + i * PIECE, 0x1000, i));
        }
        Ok(())
    }

    fn afterwards(guest: &'static Guest) -> Outcome {
        let far = 50 * GIB;
        for i in 0..4 {
            let page = far + i * PIECE;
            let call = |number, args: [u64; 3]| hypercall(number, args).status;
            check_eq!(call(H_PAGE_INIT, [flags::ZERO_PAGE, page, 0]), H_PARAMETER);
            let copy = [flags::COPY_PAGE, page, guest.free[0]];
            check_eq!(call(H_PAGE_INIT, copy), H_PARAMETER);
            let copy = [flags::COPY_PAGE, guest.free[0], page];
            check_eq!(call(H_PAGE_INIT, copy), H_PARAMETER);
            check_eq!(call(H_REGISTER_VPA, [1 << 45, 0, page]), H_PARAMETER);
            check_eq!(call(H_RTAS, [page, 0, 0]), H_PARAMETER);
            // ld r3, 0(r4); std r3, 0(r4)
            for code in [0xe864_0000, 0xf864_0000] {
                let done = execute(&[code], [0, page, 0, 0]);
                let Some(trap) = done.trap else {
                    fail!("{page:#x} is there")
                };
                check_eq!((trap.vector, trap.dar), (vector::DATA_STORAGE, page));
            }
        }
        // A piece that has a frame has room for more entries.
        let page = 33 * GIB + 0x1_0000;
        let answer = map().enter(guest, map().base + page, page, PageSize::Size64K, 2);
        check_eq!(answer.status, H_SUCCESS);
        check!(translated(|| is_zero(map().base + page, 0x1_0000)));
        Ok(())
    }
}
