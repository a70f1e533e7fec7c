// SPDX-License-Identifier: BSD-2-Clause
//! A passive server: it has no time of its own and runs on its caller's.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use sel4_microkit::{
        Channel, Handler, Infallible, MessageInfo, debug_println, get_mr, pd_is_passive,
        protection_domain, set_mr, var,
    };

    /// What a call asks for: its label.
    const ADD: u64 = 1;
    const COUNT: u64 = 2;
    /// Label of the answer to anything else.
    const UNKNOWN: u64 = 1;

    #[protection_domain]
    fn init() -> HandlerImpl {
        debug_println!("ppc-server: passive: {}", pd_is_passive());
        HandlerImpl {
            client: Channel::new(*var!(client: usize = 0)),
            calls: 0,
        }
    }

    struct HandlerImpl {
        client: Channel,
        calls: u64,
    }

    impl Handler for HandlerImpl {
        type Error = Infallible;

        fn protected(
            &mut self,
            channel: Channel,
            msg_info: MessageInfo,
        ) -> Result<MessageInfo, Self::Error> {
            assert_eq!(channel, self.client, "the badge tells the caller's channel");
            self.calls += 1;
            let (label, answer) = match msg_info.label() {
                ADD => (
                    0,
                    (0..msg_info.count()).map(get_mr).fold(0, u64::wrapping_add),
                ),
                COUNT => (0, self.calls),
                _ => (UNKNOWN, 0),
            };
            set_mr(0, answer);
            Ok(MessageInfo::new(label, 1))
        }
    }
}
