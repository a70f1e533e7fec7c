// SPDX-License-Identifier: BSD-2-Clause
//! In the place of `memslots`: the real one, but that on control's word it takes the first 2 MiB of the guest
//! away while the guest runs on them, by revoking the untyped memory behind the frame (the pin rule:
//! that succeeds at once, and poisons the guest's table).
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/memslots/src/adapter.rs"]
mod adapter;
#[cfg(target_arch = "powerpc64")]
#[path = "../../../../pds/memslots/src/pd.rs"]
mod pd;

#[cfg(target_arch = "powerpc64")]
mod revoker {
    use crate::pd::HandlerImpl;
    use partita_guest_protocol::layout::{self, MEDIUM_FRAMES, SMALL_FRAMES, TABLES};
    use partita_guest_protocol::{channel, symbol};
    use sel4::{FrameObjectType, cap};
    use sel4_microkit::ipc::PpcMrs;
    use sel4_microkit::{
        Caller, ChannelSet, FastReply, Handler, ImmutableCell, Infallible, MessageInfo,
        protection_domain,
    };

    /// Label of the word. Answer: label 0, and whether a frame could be made of the memory again.
    const REVOKE: u64 = 0x1000;
    /// Slot of the untyped memory of the first frame of 2 MiB (`adapter`).
    const FIRST: u64 = TABLES + 3 * SMALL_FRAMES + 3 * MEDIUM_FRAMES;
    /// Its capability pointer.
    const POINTER: u64 = (symbol::FRAMES_SLOT as u64) << 58 | FIRST;

    // Variables of the real program.
    unsafe extern "Rust" {
        safe static frames_root: ImmutableCell<u64>;
        safe static untyped_count: ImmutableCell<usize>;
        safe static untyped_size: ImmutableCell<u64>;
    }

    struct Revoker(HandlerImpl);

    #[protection_domain]
    fn init() -> Revoker {
        Revoker(HandlerImpl::new())
    }

    fn revoke() -> FastReply {
        let bytes = *untyped_count.get() as u64 * untyped_size.get();
        let radix = layout::frames_radix(bytes);
        let cnode = cap::CNode::from_bits(*frames_root.get());
        let untyped = cnode.absolute_cptr_from_bits_with_depth(FIRST, radix as usize);
        if untyped.revoke().is_err() {
            return FastReply::new(1, []);
        }
        // The last slot is nobody's.
        let made = cap::Untyped::from_bits(POINTER).untyped_retype(
            &FrameObjectType::_2m.blueprint(),
            &cnode.absolute_cptr_for_self(),
            (1 << radix) - 1,
            1,
        );
        FastReply::new(0, [u64::from(made.is_ok())])
    }

    impl Handler for Revoker {
        type Error = Infallible;

        fn protected_mrs(
            &mut self,
            caller: Caller,
            info: MessageInfo,
            mrs: PpcMrs,
        ) -> Result<FastReply, Infallible> {
            if caller.channel().index() == channel::CONTROL && info.label() == REVOKE {
                return Ok(revoke());
            }
            self.0.protected_mrs(caller, info, mrs)
        }

        fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
            self.0.notified(channels)
        }
    }
}
