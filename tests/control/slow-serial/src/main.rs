// SPDX-License-Identifier: BSD-2-Clause
//! In the place of `serial`: the real one, but that it listens to one notification of its clients in a hundred. So their
//! rings are full now and then.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/serial/src/pd.rs"]
mod pd;

#[cfg(target_arch = "powerpc64")]
mod slow {
    use crate::pd::HandlerImpl;
    use sel4_microkit::{ChannelSet, DeferredAction, Handler, IrqAckError, protection_domain};

    /// Notifications for one that it listens to.
    const PATIENCE: u64 = 100;

    struct Slow {
        real: HandlerImpl,
        heard: u64,
    }

    #[protection_domain]
    fn init() -> Slow {
        Slow {
            real: HandlerImpl::new(),
            heard: 0,
        }
    }

    impl Handler for Slow {
        type Error = IrqAckError;

        fn notified(&mut self, channels: ChannelSet) -> Result<(), IrqAckError> {
            self.heard += 1;
            if self.real.is_interrupt(channels) || self.heard.is_multiple_of(PATIENCE) {
                return self.real.notified(channels);
            }
            Ok(())
        }

        fn take_deferred_action(&mut self) -> Option<DeferredAction> {
            self.real.take_deferred_action()
        }
    }
}
