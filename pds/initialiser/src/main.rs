// SPDX-License-Identifier: BSD-2-Clause
//! Root task: creates the system from its specification, then gives all authority up. It prints
//! only when something fails; a system that cannot be created does not start.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(target_arch = "powerpc64")]
mod arch;

#[cfg(target_arch = "powerpc64")]
mod program {
    use crate::arch::{Sel4, specification};
    use initialiser::{Kernel, execute, finish};
    use partita_abi::bootinfo::BootInfo;
    use partita_abi::init_cnode;
    use sel4::debug_println;

    fn main(boot: &'static BootInfo) -> ! {
        Sel4.name_thread(init_cnode::TCB as u64, "initialiser");
        if let Err(failure) = execute(&mut Sel4, boot, specification(boot)) {
            debug_println!("initialiser: {failure}");
        } else if let Err(error) = finish(&mut Sel4) {
            debug_println!("initialiser: authority is left: {error:?}");
        }
        sel4::init_thread::suspend_self()
    }

    sel4::root_task!(main = main);
}

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}
