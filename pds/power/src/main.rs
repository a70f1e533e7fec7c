// SPDX-License-Identifier: BSD-2-Clause
//! The machine's power switch and clock for several guests: it alone has the platform capability, so that
//! no guest's `vcpu` can turn the machine off under another guest. When the last guest is off or has
//! crashed, it turns the machine off.
//!
//! Calls: `partita_guest_protocol::power`. What the system description sets: `guest_0` to `guest_7`
//! (identifiers of the channels to the guests' `vcpu`).
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(any(test, target_arch = "powerpc64"))]
mod guests;

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use crate::guests::Guests;
    use partita_guest_protocol::symbol::PLATFORM_SLOT;
    use partita_guest_protocol::{answer, power};
    use sel4::{cap, cap_type};
    use sel4_microkit::ipc::PpcMrs;
    use sel4_microkit::{
        Caller, ChannelSet, FastReply, Handler, Infallible, MessageInfo, cspace_cap,
        protection_domain, var,
    };

    const PLATFORM: cap::PlatformControl = cspace_cap::<cap_type::PlatformControl>(PLATFORM_SLOT);

    struct HandlerImpl {
        guests: Guests,
    }

    /// Symbols of the guests' channels.
    macro_rules! channels {
        ($($name:ident)*) => {
            [$(*var!($name: usize = usize::MAX),)*]
        };
    }

    #[protection_domain]
    fn init() -> HandlerImpl {
        HandlerImpl {
            guests: Guests::new(channels! {
                guest_0 guest_1 guest_2 guest_3 guest_4 guest_5 guest_6 guest_7
            }),
        }
    }

    impl Handler for HandlerImpl {
        type Error = Infallible;

        /// A guest's `vcpu` that may notify does not end the switch of all guests by that.
        fn notified(&mut self, _channels: ChannelSet) -> Result<(), Infallible> {
            Ok(())
        }

        fn protected_mrs(
            &mut self,
            caller: Caller,
            msg_info: MessageInfo,
            _: PpcMrs,
        ) -> Result<FastReply, Infallible> {
            let channel = caller.channel().index();
            Ok(match msg_info.label() {
                power::ENDED => {
                    if self.guests.ended(channel) {
                        // If firmware refuses, the machine stays on: nobody is left to be told.
                        let _ = PLATFORM.platform_power_off();
                    }
                    FastReply::new(answer::OK, [])
                }
                power::STARTED => {
                    self.guests.started(channel);
                    FastReply::new(answer::OK, [])
                }
                power::TIME => match PLATFORM.platform_get_time() {
                    Ok(time) => {
                        let words = [time.year_month_day, time.hour_minute_second_ms];
                        FastReply::new(answer::OK, words)
                    }
                    Err(_) => FastReply::new(power::NO_TIME, []),
                },
                _ => FastReply::new(answer::INVALID, []),
            })
        }
    }
}
