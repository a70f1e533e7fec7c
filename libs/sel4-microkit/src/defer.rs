// SPDX-License-Identifier: BSD-2-Clause
//! Actions that the main loop does together with its next receive, in one system call.

use crate::{Channel, IrqAckError};
use partita_abi::InvocationLabel;

/// What is done on the channel.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub enum DeferredActionInterface {
    /// [`Channel::notify`].
    Notify,
    /// [`Channel::irq_ack`].
    IrqAck,
}

/// A notification or acknowledgement that waits for the handler to return.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct DeferredAction {
    channel: Channel,
    interface: DeferredActionInterface,
}

/// A send without a message: capability and message info.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub(crate) struct PreparedAction {
    pub(crate) cptr: u64,
    pub(crate) info: u64,
}

impl DeferredAction {
    /// `interface` on `channel`.
    pub fn new(channel: Channel, interface: DeferredActionInterface) -> Self {
        DeferredAction { channel, interface }
    }

    /// A notification.
    pub fn new_notify(channel: Channel) -> Self {
        Self::new(channel, DeferredActionInterface::Notify)
    }

    /// An acknowledgement.
    pub fn new_irq_ack(channel: Channel) -> Self {
        Self::new(channel, DeferredActionInterface::IrqAck)
    }

    /// The channel.
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// What is done on it.
    pub fn interface(&self) -> DeferredActionInterface {
        self.interface
    }

    /// Does it with a system call of its own.
    ///
    /// # Errors
    ///
    /// If the kernel refuses an acknowledgement. A deferred one has no way to say so.
    pub fn execute_now(self) -> Result<(), IrqAckError> {
        match self.interface {
            DeferredActionInterface::Notify => {
                self.channel.notify();
                Ok(())
            }
            DeferredActionInterface::IrqAck => self.channel.irq_ack(),
        }
    }

    #[inline]
    pub(crate) fn prepare(self) -> PreparedAction {
        match self.interface {
            DeferredActionInterface::Notify => PreparedAction {
                cptr: self.channel.notification().bits(),
                info: 0,
            },
            DeferredActionInterface::IrqAck => PreparedAction {
                cptr: self.channel.irq_handler().bits(),
                info: sel4::MessageInfo::new(InvocationLabel::IRQAckIRQ as u64, 0, 0, 0)
                    .into_word(),
            },
        }
    }
}

/// Room for one deferred action: a second one makes the first happen at once.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DeferredActionSlot(Option<DeferredAction>);

impl DeferredActionSlot {
    /// Empty.
    pub const fn new() -> Self {
        DeferredActionSlot(None)
    }

    /// Takes the action out; for [`Handler::take_deferred_action`](crate::Handler).
    pub fn take(&mut self) -> Option<DeferredAction> {
        self.0.take()
    }

    /// Defers `action`, and does the one that was deferred before.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the earlier action.
    pub fn defer(&mut self, action: DeferredAction) -> Result<(), IrqAckError> {
        match self.0.replace(action) {
            Some(displaced) => displaced.execute_now(),
            None => Ok(()),
        }
    }

    /// [`Self::defer`] of a notification.
    ///
    /// # Errors
    ///
    /// As [`Self::defer`].
    pub fn defer_notify(&mut self, channel: Channel) -> Result<(), IrqAckError> {
        self.defer(DeferredAction::new_notify(channel))
    }

    /// [`Self::defer`] of an acknowledgement.
    ///
    /// # Errors
    ///
    /// As [`Self::defer`].
    pub fn defer_irq_ack(&mut self, channel: Channel) -> Result<(), IrqAckError> {
        self.defer(DeferredAction::new_irq_ack(channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_action_waits() {
        let mut slot = DeferredActionSlot::new();
        assert_eq!(slot.take(), None);
        slot.defer_irq_ack(Channel::new(7)).unwrap();
        let action = slot.take().unwrap();
        assert_eq!(action.channel(), Channel::new(7));
        assert_eq!(action.interface(), DeferredActionInterface::IrqAck);
        assert_eq!(slot.take(), None);
    }

    #[test]
    #[should_panic(expected = "channel 1 does not permit")]
    fn a_second_action_makes_the_first_happen() {
        let mut slot = DeferredActionSlot::new();
        slot.defer_notify(Channel::new(1)).unwrap();
        let _ = slot.defer_notify(Channel::new(2));
    }
}
