// SPDX-License-Identifier: BSD-2-Clause
//! Instructions chosen at run time, and access to addresses that may fault.

use sel4::init_thread::slot;
use sel4::{CapRights, VmAttributes};
use testkit::kit::WINDOW;
use testkit::{Env, Kit, Outcome};

const PAGE: usize = 0x1000;

/// `blr`.
pub const RETURN: u32 = 0x4e80_0020;
/// `nop`.
pub const NOP: u32 = 0x6000_0000;
/// `trap`.
pub const TRAP: u32 = 0x7fe0_0008;

/// `mfspr r3, n`.
pub const fn mfspr(n: u32) -> u32 {
    0x7c60_02a6 | (n & 31) << 16 | (n >> 5 & 31) << 11
}

/// `mtspr n, r3`.
pub const fn mtspr(n: u32) -> u32 {
    0x7c60_03a6 | (n & 31) << 16 | (n >> 5 & 31) << 11
}

/// Puts instructions on pages of their own from `WINDOW + page * 4096` on, executable and read-only;
/// returns the address.
pub fn place(kit: &mut Kit, page: usize, instructions: &[u32]) -> Outcome<u64> {
    let vaddr = WINDOW + page * PAGE;
    for (n, part) in instructions.chunks(PAGE / 4).enumerate() {
        let vaddr = vaddr + n * PAGE;
        let frame = kit.page_at(vaddr)?;
        let to: *mut u32 = core::ptr::with_exposed_provenance_mut(vaddr);
        for (i, instruction) in part.iter().enumerate() {
            // SAFETY: the page was mapped there just now; a part is at most a page.
            unsafe { to.add(i).write_volatile(*instruction) };
        }
        frame.frame_map(
            slot::VSPACE.cap(),
            vaddr,
            CapRights::read_only(),
            VmAttributes::NONE,
        )?;
    }
    Ok(vaddr as u64)
}

/// Calls code made by [`place`] with `argument` in r3 and returns its r3.
///
/// # Safety
/// The code must keep to the ELFv2 calling convention.
pub unsafe fn call(code: u64, argument: u64) -> u64 {
    // SAFETY: the caller's promise.
    let function =
        unsafe { core::mem::transmute::<*const (), extern "C" fn(u64) -> u64>(code as *const ()) };
    function(argument)
}

/// A helper that calls code. Words: code, argument.
pub fn run_code(env: &Env) -> u64 {
    // SAFETY: cases pass code that at most faults and changes r3.
    unsafe { call(env.args[0], env.args[1]) }
}

/// A helper that reads a word. Words: address.
pub fn load(env: &Env) -> u64 {
    // SAFETY: at worst the access faults, which is what cases want to see.
    unsafe { core::ptr::with_exposed_provenance::<u64>(env.args[0] as usize).read_volatile() }
}

/// A helper that writes a word. Words: address, value.
pub fn store(env: &Env) -> u64 {
    let to = core::ptr::with_exposed_provenance_mut::<u64>(env.args[0] as usize);
    // SAFETY: as in `load`; cases pass addresses that hold nothing of the program's.
    unsafe { to.write_volatile(env.args[1]) };
    1
}
