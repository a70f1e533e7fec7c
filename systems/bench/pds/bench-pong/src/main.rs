// SPDX-License-Identifier: BSD-2-Clause
//! Returns notifications.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use sel4_microkit::{
        Channel, ChannelSet, DeferredAction, DeferredActionSlot, Handler, Infallible,
        protection_domain,
    };

    const AT_ONCE: Channel = Channel::new(1);
    const DEFERRED: Channel = Channel::new(2);

    #[protection_domain]
    fn init() -> HandlerImpl {
        HandlerImpl {
            deferred: DeferredActionSlot::new(),
        }
    }

    struct HandlerImpl {
        deferred: DeferredActionSlot,
    }

    impl Handler for HandlerImpl {
        type Error = Infallible;

        fn notified(&mut self, channels: ChannelSet) -> Result<(), Self::Error> {
            if channels.contains(AT_ONCE) {
                AT_ONCE.notify();
            }
            if channels.contains(DEFERRED) {
                // Nothing is displaced: the slot was taken after the last notification.
                let _ = self.deferred.defer_notify(DEFERRED);
            }
            Ok(())
        }

        fn take_deferred_action(&mut self) -> Option<DeferredAction> {
            self.deferred.take()
        }
    }
}
