// SPDX-License-Identifier: BSD-2-Clause
//! The trait that a protection domain implements, and the main loop.

use crate::ipc::{self, Caller, Event, FastReply, PpcMrs};
use crate::message::{self, MessageInfo};
use crate::{Channel, ChannelSet, Child, DeferredAction, symbols};
use core::convert::Infallible;
use core::fmt::Display;

/// A protection domain's handlers.
pub trait Handler {
    /// What ends the protection domain.
    type Error: Display;

    /// Channels or interrupts were signalled.
    fn notified(&mut self, channels: ChannelSet) -> Result<(), Self::Error> {
        panic!(
            "unexpected notification from channels {}",
            channels.display()
        )
    }

    /// The other end of `channel` calls the protected procedure. Message registers are in
    /// [`get_mr`](crate::get_mr); those of the answer go to [`set_mr`](crate::set_mr).
    fn protected(
        &mut self,
        channel: Channel,
        msg_info: MessageInfo,
    ) -> Result<MessageInfo, Self::Error> {
        panic!("unexpected protected procedure call from channel {channel:?}: {msg_info:?}")
    }

    /// `child` had a fault. `Some` answers it: without words the child goes on where the kernel
    /// says, words replace registers as seL4's fault replies do. `None` leaves the child blocked.
    fn fault(
        &mut self,
        child: Child,
        msg_info: MessageInfo,
    ) -> Result<Option<MessageInfo>, Self::Error> {
        panic!("unexpected fault of {child:?}: {msg_info:?}")
    }

    /// An action that the main loop does with its next receive.
    fn take_deferred_action(&mut self) -> Option<DeferredAction> {
        None
    }

    /// As [`Self::protected`], with message registers 0 to 7 in machine registers. A handler that
    /// has this has no use for `protected`, which is what this calls if the handler does not have
    /// it. (Addition to upstream.)
    #[inline(always)]
    fn protected_mrs(
        &mut self,
        caller: Caller,
        msg_info: MessageInfo,
        mrs: PpcMrs,
    ) -> Result<FastReply, Self::Error> {
        message::store(mrs);
        ipc::set_caller(caller);
        let info = self.protected(caller.channel(), msg_info)?;
        Ok(FastReply::from_msg_regs(info))
    }

    /// As [`Self::fault`], with message registers 0 to 7 in machine registers; calls it if the
    /// handler does not have this. For exits of guests. (Addition to upstream.)
    #[inline(always)]
    fn fault_mrs(
        &mut self,
        child: Child,
        msg_info: MessageInfo,
        mrs: PpcMrs,
    ) -> Result<Option<FastReply>, Self::Error> {
        message::store(mrs);
        Ok(self.fault(child, msg_info)?.map(FastReply::from_msg_regs))
    }

    /// The main loop.
    #[doc(hidden)]
    fn run(&mut self) -> Result<Never, Self::Error> {
        let mut received = first_recv();
        loop {
            let reply = match Event::new(received.badge, received.info) {
                Event::Protected(caller, info) => {
                    let reply = self.protected_mrs(caller, info, received.words)?;
                    if let Some(action) = self.take_deferred_action() {
                        ipc::act(action.prepare());
                    }
                    // The path that must be short: no other case joins it.
                    received = ipc::reply_recv(reply);
                    continue;
                }
                Event::Notified(channels) => {
                    self.notified(channels)?;
                    None
                }
                Event::Fault(child, info) => self.fault_mrs(child, info, received.words)?,
            };
            let action = self.take_deferred_action().map(DeferredAction::prepare);
            received = match (reply, action) {
                (Some(reply), action) => {
                    if let Some(action) = action {
                        ipc::act(action);
                    }
                    ipc::reply_recv(reply)
                }
                (None, Some(action)) => ipc::act_recv(action),
                (None, None) => ipc::recv(),
            };
        }
    }
}

/// What a protection domain does between `init` and its first event: interrupts are let in, and a
/// passive one asks the monitor to take its scheduling context away.
fn first_recv() -> sel4::arch::Received {
    for channel in ChannelSet::from_badge(symbols::microkit_irqs.get()) {
        if let Err(error) = channel.irq_ack() {
            panic!("channel {}: {error}", channel.index());
        }
    }
    if let Some(action) = symbols::passive_hand_over() {
        // A send that waits: the monitor may be busy on another core. From here on this domain runs on the time
        // of its notification, until it receives.
        ipc::act(action);
    }
    ipc::recv()
}

#[cfg(feature = "alloc")]
impl<T: Handler + ?Sized> Handler for alloc::boxed::Box<T> {
    type Error = T::Error;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Self::Error> {
        (**self).notified(channels)
    }

    fn protected(
        &mut self,
        channel: Channel,
        msg_info: MessageInfo,
    ) -> Result<MessageInfo, Self::Error> {
        (**self).protected(channel, msg_info)
    }

    fn protected_mrs(
        &mut self,
        caller: Caller,
        msg_info: MessageInfo,
        mrs: PpcMrs,
    ) -> Result<FastReply, Self::Error> {
        (**self).protected_mrs(caller, msg_info, mrs)
    }

    fn fault(
        &mut self,
        child: Child,
        msg_info: MessageInfo,
    ) -> Result<Option<MessageInfo>, Self::Error> {
        (**self).fault(child, msg_info)
    }

    fn fault_mrs(
        &mut self,
        child: Child,
        msg_info: MessageInfo,
        mrs: PpcMrs,
    ) -> Result<Option<FastReply>, Self::Error> {
        (**self).fault_mrs(child, msg_info, mrs)
    }

    fn take_deferred_action(&mut self) -> Option<DeferredAction> {
        (**self).take_deferred_action()
    }
}

/// Has no value.
#[derive(Debug, Clone, Copy)]
pub enum Never {}

impl Handler for Never {
    type Error = Infallible;
}

/// A handler that expects nothing.
#[derive(Debug)]
pub struct NullHandler(());

impl NullHandler {
    /// The handler.
    #[allow(clippy::new_without_default, reason = "upstream's shape")]
    pub fn new() -> Self {
        NullHandler(())
    }
}

impl Handler for NullHandler {
    type Error = Infallible;
}
