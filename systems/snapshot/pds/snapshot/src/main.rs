// SPDX-License-Identifier: BSD-2-Clause
//! Every PD of the system `snapshot`. The one of that name lets the kernel print who holds what
//! (debug configuration); the others only hold.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use sel4_microkit::{
        ChannelSet, Handler, Infallible, debug_println, pd_name, protection_domain,
    };

    #[protection_domain]
    fn init() -> HandlerImpl {
        if pd_name() == Ok("snapshot") {
            sel4::sel4_cfg_if! {
                if #[sel4_cfg(PRINTING)] {
                    sel4::debug_snapshot();
                }
            }
            debug_println!("snapshot: taken");
        }
        HandlerImpl
    }

    struct HandlerImpl;

    impl Handler for HandlerImpl {
        type Error = Infallible;

        /// The one with the serial port's interrupt gets it.
        fn notified(&mut self, _channels: ChannelSet) -> Result<(), Infallible> {
            Ok(())
        }
    }
}
