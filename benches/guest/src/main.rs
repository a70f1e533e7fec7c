// SPDX-License-Identifier: BSD-2-Clause
//! A guest that measures what its hypercalls and exits cost, in instructions, and then powers off.
//! Meaningful only with QEMU's `-icount shift=0,sleep=off`, where an instruction takes one nanosecond.
//!
//! It runs in real mode on vCPU 0, little-endian, with external interrupts off.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(target_arch = "powerpc64")]
mod arch;
#[cfg(target_arch = "powerpc64")]
mod console;
#[cfg(target_arch = "powerpc64")]
mod measure;
#[cfg(target_arch = "powerpc64")]
mod platform;
#[cfg(target_arch = "powerpc64")]
mod rows;

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

/// The first function: `tree` is the device tree's real address.
#[cfg(target_arch = "powerpc64")]
extern "C" fn start(tree: *const u8) -> ! {
    // SAFETY: r3 of a guest's first vCPU, which nobody has changed.
    let platform = unsafe { platform::Platform::read(tree) };
    match platform {
        Ok(platform) => {
            if platform.is_pair {
                rows::pair();
            } else {
                rows::all(&platform);
            }
            console::line(format_args!("bench done"));
            platform.power_off()
        }
        Err(what) => console::fail(format_args!("{what} is missing in the device tree")),
    }
}

#[cfg(target_arch = "powerpc64")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    console::fail(format_args!("{info}"))
}
