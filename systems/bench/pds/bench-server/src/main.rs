// SPDX-License-Identifier: BSD-2-Clause
//! Answers each call with as many words as its label says, the ones it got.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use sel4_microkit::{Channel, Handler, Infallible, MessageInfo, protection_domain};

    #[protection_domain]
    fn init() -> HandlerImpl {
        HandlerImpl
    }

    struct HandlerImpl;

    impl Handler for HandlerImpl {
        type Error = Infallible;

        fn protected(
            &mut self,
            _channel: Channel,
            msg_info: MessageInfo,
        ) -> Result<MessageInfo, Self::Error> {
            // The words are where they arrived.
            Ok(MessageInfo::new(0, msg_info.label() as usize))
        }
    }
}
