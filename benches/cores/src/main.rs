// SPDX-License-Identifier: BSD-2-Clause
//! A guest with two vCPUs that measures what they do to each other, and then powers off.
//!
//! With each on a core of its own and time that is the host's ([`together`]): how much more two vCPUs get done than
//! one. With both on one core and QEMU's `-icount shift=0,sleep=off`, where an instruction takes one nanosecond, and
//! in the other case too: what an interrupt of one for the other costs ([`interrupts`]).
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod interrupts;
#[cfg(target_arch = "powerpc64")]
mod second;
#[cfg(target_arch = "powerpc64")]
mod together;

#[cfg(target_arch = "powerpc64")]
mod program {
    use crate::{interrupts, second, together};
    use core::hint::black_box;
    use guest_support::{Guest, Outcome, println, runner};

    guest_support::guest_program!(main);

    fn main(guest: &'static Guest) -> ! {
        runner::begin("bench-cores");
        match all(guest) {
            Ok(()) => println!("bench done"),
            Err(why) => println!("bench failed: {why}"),
        }
        guest.power_off()
    }

    fn all(guest: &'static Guest) -> Outcome {
        second::start(guest)?;
        // What the rows are called, and which there are, depends on the machine.
        match guest.argument("cores") {
            Some("2") => {
                interrupts::round_trip("h-ipi-to-handler-2")?;
                together::all(guest)
            }
            _ => interrupts::round_trip("h-ipi-to-handler"),
        }
    }

    /// Marks the beginning of a row for `cargo xtask bench explain`.
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn bench_begin(name: *const u8, length: usize) {
        black_box((name, length));
    }

    /// Says that what follows is measured as `name`.
    pub fn begin(name: &str) {
        bench_begin(name.as_ptr(), name.len());
    }
}
