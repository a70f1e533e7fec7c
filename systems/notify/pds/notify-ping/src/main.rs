// SPDX-License-Identifier: BSD-2-Clause
//! Sends a notification and waits for the one that comes back, ten times.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use sel4_microkit::{
        Channel, ChannelSet, Handler, Infallible, debug_println, protection_domain, var,
    };

    const ROUNDS: u32 = 10;

    #[protection_domain]
    fn init() -> HandlerImpl {
        let pong = Channel::new(*var!(pong: usize = 0));
        pong.notify();
        HandlerImpl { pong, rounds: 0 }
    }

    struct HandlerImpl {
        pong: Channel,
        rounds: u32,
    }

    impl Handler for HandlerImpl {
        type Error = Infallible;

        fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
            assert!(
                channels.contains(self.pong),
                "nobody else can notify: {}",
                channels.display()
            );
            self.rounds += 1;
            if self.rounds < ROUNDS {
                self.pong.notify();
            } else {
                debug_println!("notify-ping: {} rounds", self.rounds);
            }
            Ok(())
        }
    }
}
