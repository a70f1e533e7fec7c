// SPDX-License-Identifier: BSD-2-Clause
//! The parent of a child that faults: it restarts the child twice, then leaves it stopped.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use sel4_microkit::{
        Channel, ChannelSet, Child, Handler, MessageInfo, debug_println, protection_domain, var,
    };

    const RESTARTS: u32 = 2;

    #[protection_domain]
    fn init() -> HandlerImpl {
        debug_println!("hierarchy-parent: ready");
        HandlerImpl {
            child: Child::new(*var!(child: usize = 0)),
            channel: Channel::new(*var!(channel: usize = 0)),
            entry: 0,
            faults: 0,
        }
    }

    struct HandlerImpl {
        child: Child,
        channel: Channel,
        /// Where the child starts; the child says it.
        entry: usize,
        faults: u32,
    }

    impl Handler for HandlerImpl {
        type Error = &'static str;

        fn notified(&mut self, _channels: ChannelSet) -> Result<(), Self::Error> {
            Err("the child has no reason to notify")
        }

        fn protected(
            &mut self,
            channel: Channel,
            msg_info: MessageInfo,
        ) -> Result<MessageInfo, Self::Error> {
            if channel != self.channel {
                return Err("a call from nowhere");
            }
            self.entry = msg_info.label() as usize;
            Ok(MessageInfo::new(0, 0))
        }

        fn fault(
            &mut self,
            child: Child,
            msg_info: MessageInfo,
        ) -> Result<Option<MessageInfo>, Self::Error> {
            if child != self.child {
                return Err("a fault of a child that is none");
            }
            self.faults += 1;
            debug_println!(
                "hierarchy-parent: fault {}: {:x?}",
                self.faults,
                msg_info.fault()
            );
            let done = if self.faults <= RESTARTS {
                child.pd_restart(self.entry)
            } else {
                debug_println!("hierarchy-parent: the child stays stopped");
                child.pd_stop()
            };
            // No answer in either case: the child does not go on where it faulted.
            done.map(|()| None)
                .map_err(|_| "no authority over the child")
        }
    }
}
