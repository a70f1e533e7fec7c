// SPDX-License-Identifier: BSD-2-Clause
//! A sequence of everything, with answers that are known.

use guest_support::hypercall::hypercall;
use guest_support::memory::{fill, is_filled, read_be32, write_be32};
use guest_support::mmu::{map_identity, segment, translated};
use guest_support::papr::PageSize;
use guest_support::papr::hcall::number::*;
use guest_support::papr::hcall::status::*;
use guest_support::{Guest, Outcome, check, check_eq, rtas};

pub fn everything(guest: &'static Guest) -> Outcome {
    let call = |number, args: [u64; 3]| hypercall(number, args).status;
    // Areas: none, in this order, then one.
    for function in [6, 7, 5] {
        check_eq!(call(H_REGISTER_VPA, [function << 45, 0, 0]), H_SUCCESS);
    }
    let page = guest.free[0] + 0x1_0000;
    fill(page, 0x1_0000, 0);
    write_be32(page + 4, 640 << 16);
    check_eq!(call(H_REGISTER_VPA, [1 << 45, 0, page]), H_SUCCESS);
    check_eq!(read_be32(page + 0x100) & 1, 0);
    check_eq!(call(H_REGISTER_VPA, [5 << 45, 0, 0]), H_SUCCESS);
    // Modes and interrupts.
    check_eq!(call(H_SET_MODE, [0, 1, 0]), H_SUCCESS);
    check_eq!(call(H_SET_MODE, [0, 3, 0]), H_SUCCESS);
    check_eq!(call(H_SET_MODE, [1, 4, 0]), H_SUCCESS);
    check_eq!(call(H_IPI, [0, 0xff, 0]), H_SUCCESS);
    check_eq!(call(H_EOI, [0xff00_0000, 0, 0]), H_SUCCESS);
    check_eq!(call(H_IPI, [0, 5, 0]), H_SUCCESS);
    check_eq!(hypercall(H_XIRR, [0]).words[0], 0xff00_0002);
    check_eq!(call(H_IPI, [0, 0xff, 0]), H_SUCCESS);
    check_eq!(call(H_EOI, [0xff00_0002, 0, 0]), H_SUCCESS);
    // Translation: the table is emptied, and every page of the rest of memory is used once.
    check!(map_identity(guest, guest.free[0]));
    let map = segment(6 << 40, 0x7abc, PageSize::Size64K);
    map.load(1);
    let [start, end] = [page & !0xffff, guest.free[1]];
    for memory in (start..end).step_by(0x1_0000) {
        let ea = map.base + memory;
        let answer = map.enter(guest, ea, memory, PageSize::Size64K, 2);
        check_eq!(answer.status, H_SUCCESS);
        translated(|| fill(ea, 64, memory));
        check!(is_filled(memory, 64, memory));
    }
    for memory in (start..end).step_by(0x1_0000) {
        check!(translated(|| is_filled(map.base + memory, 64, memory)));
    }
    let token = guest.token("get-time-of-day").unwrap_or(0);
    check_eq!(rtas::service::<1>(token, &[]).0, H_SUCCESS);
    guest_support::machine::sleep(100_000);
    Ok(())
}
