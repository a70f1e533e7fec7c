// SPDX-License-Identifier: BSD-2-Clause
//! Answers each notification with one, in the same system call that waits for the next.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use sel4_microkit::{
        Channel, ChannelSet, DeferredAction, DeferredActionSlot, Handler, IrqAckError,
        debug_println, protection_domain, var,
    };

    #[protection_domain]
    fn init() -> HandlerImpl {
        debug_println!("notify-pong: ready");
        HandlerImpl {
            ping: Channel::new(*var!(ping: usize = 0)),
            deferred: DeferredActionSlot::new(),
        }
    }

    struct HandlerImpl {
        ping: Channel,
        deferred: DeferredActionSlot,
    }

    impl Handler for HandlerImpl {
        type Error = IrqAckError;

        fn notified(&mut self, channels: ChannelSet) -> Result<(), IrqAckError> {
            assert!(
                channels.contains(self.ping),
                "nobody else can notify: {}",
                channels.display()
            );
            self.deferred.defer_notify(self.ping)
        }

        fn take_deferred_action(&mut self) -> Option<DeferredAction> {
            self.deferred.take()
        }
    }
}
