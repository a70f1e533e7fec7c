// SPDX-License-Identifier: BSD-2-Clause
//! Channels and children.

use crate::ipc::PpcMrs;
use crate::message::{self, MessageInfo};
use crate::symbols;
use core::fmt;
use partita_abi::microkit as slots;
use sel4::arch;

/// Channel and interrupt identifiers are below this: bits 62 and 63 of a badge mean something else.
pub const MAX_CHANNELS: usize = slots::MAX_CHANNELS;

/// One end of a channel, or an interrupt.
#[derive(Debug, Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel {
    index: usize,
}

/// What a channel is used as. The image tool says in a mask which channels may be.
struct Interface {
    method: &'static str,
    base_slot: usize,
    mask: &'static symbols::Patched<u64>,
}

const NOTIFY: Interface = Interface {
    method: "notify",
    base_slot: slots::OUTPUT_NOTIFICATION_BASE,
    mask: &symbols::microkit_notifications,
};
const IRQ_ACK: Interface = Interface {
    method: "irq_ack",
    base_slot: slots::IRQ_BASE,
    mask: &symbols::microkit_irqs,
};
const PP_CALL: Interface = Interface {
    method: "pp_call",
    base_slot: slots::OUTPUT_ENDPOINT_BASE,
    mask: &symbols::microkit_pps,
};

impl Channel {
    /// The channel with this identifier.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`MAX_CHANNELS`].
    #[inline]
    pub const fn new(index: usize) -> Self {
        assert!(index < MAX_CHANNELS, "channel identifiers are 0 to 61");
        Channel { index }
    }

    /// The channel of a badge that the kernel delivered: the image tool made it.
    #[inline]
    pub(crate) const fn from_badge(badge: u64) -> Self {
        Channel {
            index: (badge & 0xffff) as usize,
        }
    }

    /// Its identifier.
    #[inline]
    pub const fn index(&self) -> usize {
        self.index
    }

    #[inline]
    fn cap<T: sel4::CapType>(&self, interface: &Interface) -> sel4::Cap<T> {
        if interface.mask.get() & (1 << self.index) == 0 {
            no_interface(interface.method, self.index);
        }
        sel4::Cap::from_bits((interface.base_slot + self.index) as u64)
    }

    /// The notification of the other end.
    #[doc(hidden)]
    #[inline]
    pub fn notification(&self) -> sel4::cap::Notification {
        self.cap(&NOTIFY)
    }

    /// The interrupt handler.
    #[doc(hidden)]
    #[inline]
    pub fn irq_handler(&self) -> sel4::cap::IrqHandler {
        self.cap(&IRQ_ACK)
    }

    /// The endpoint of the other end.
    #[doc(hidden)]
    #[inline]
    pub fn endpoint(&self) -> sel4::cap::Endpoint {
        self.cap(&PP_CALL)
    }

    /// Notifies the other end.
    ///
    /// # Panics
    ///
    /// If the system description does not permit it.
    #[inline]
    pub fn notify(&self) {
        self.notification().signal();
    }

    /// Lets the next interrupt in.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    ///
    /// # Panics
    ///
    /// If the channel is not an interrupt.
    #[inline]
    pub fn irq_ack(&self) -> Result<(), IrqAckError> {
        self.irq_handler().irq_handler_ack().map_err(IrqAckError)
    }

    /// Calls the other end's protected procedure. Message registers: [`set_mr`](crate::set_mr)
    /// before, [`get_mr`](crate::get_mr) after.
    ///
    /// # Panics
    ///
    /// If the system description does not permit it.
    #[inline]
    pub fn pp_call(&self, msg_info: MessageInfo) -> MessageInfo {
        let words = message::load();
        let received = arch::call(self.endpoint().bits(), msg_info.inner().into_word(), words);
        message::store(received.words);
        MessageInfo::from_inner(sel4::MessageInfo::from_word(received.info))
    }

    /// Calls the other end's protected procedure with up to eight words that stay in machine
    /// registers, as the answer does. `msg_info`'s count is `N`, or more if further registers are in
    /// the IPC buffer. (Addition to upstream.)
    ///
    /// # Panics
    ///
    /// If the system description does not permit it.
    #[inline]
    pub fn pp_call_mrs<const N: usize>(
        &self,
        msg_info: MessageInfo,
        mrs: [u64; N],
    ) -> (MessageInfo, PpcMrs) {
        let words = arch::message(mrs);
        let received = arch::call(self.endpoint().bits(), msg_info.inner().into_word(), words);
        (
            MessageInfo::from_inner(sel4::MessageInfo::from_word(received.info)),
            received.words,
        )
    }
}

#[cold]
#[inline(never)]
fn no_interface(method: &str, index: usize) -> ! {
    panic!("channel {index} does not permit `{method}` in the system description")
}

/// The kernel refused to acknowledge an interrupt.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub struct IrqAckError(pub(crate) sel4::Error);

impl fmt::Display for IrqAckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupt not acknowledged: {}", self.0)
    }
}

impl core::error::Error for IrqAckError {}

/// A protection domain that this one is the parent of.
#[derive(Debug, Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Child {
    index: usize,
}

/// Top of the stack that the image tool maps: a guard page lies between it and the IPC buffer.
const STACK_TOP: usize = sel4::PD_IPC_BUFFER - (1 << sel4::PAGE_BITS);

impl Child {
    /// The child with this identifier.
    #[inline]
    pub const fn new(index: usize) -> Self {
        Child { index }
    }

    /// Its identifier.
    #[inline]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Its thread.
    #[doc(hidden)]
    #[inline]
    pub fn tcb(&self) -> sel4::cap::Tcb {
        sel4::Cap::from_bits((slots::CHILD_TCB_BASE + self.index) as u64)
    }

    /// Stops the child.
    ///
    /// # Errors
    ///
    /// If there is no such child.
    pub fn pd_stop(&self) -> sel4::Result<()> {
        self.tcb().tcb_suspend()
    }

    /// Lets the child go on. A system call or fault that [`Self::pd_stop`] interrupted starts again.
    ///
    /// # Errors
    ///
    /// If there is no such child.
    pub fn pd_resume(&self) -> sel4::Result<()> {
        self.tcb().tcb_resume()
    }

    /// Starts the child at `entry` (address of `_start` in its image) with an empty stack. Its data
    /// stay as they are. A passive child runs on the time of its notification until it receives.
    ///
    /// # Errors
    ///
    /// If there is no such child.
    pub fn pd_restart(&self, entry: usize) -> sel4::Result<()> {
        let mut context = sel4::UserContext::default();
        *context.pc_mut() = entry as u64;
        *context.sp_mut() = STACK_TOP as u64;
        self.tcb().tcb_write_registers(true, 2, &context)
    }
}

/// Channels that were signalled.
#[derive(Debug, Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelSet(u64);

impl ChannelSet {
    #[inline]
    pub(crate) const fn from_badge(badge: u64) -> Self {
        ChannelSet(badge)
    }

    /// Whether `channel` was signalled.
    #[inline]
    pub fn contains(&self, channel: Channel) -> bool {
        self.0 & (1 << channel.index) != 0
    }

    /// The channels, lowest identifier first.
    #[inline]
    pub fn iter(&self) -> ChannelSetIter {
        ChannelSetIter(self.0)
    }

    /// For output: `{0, 3}`.
    pub fn display(&self) -> DisplayChannelSet<'_> {
        DisplayChannelSet(self)
    }
}

impl IntoIterator for ChannelSet {
    type Item = Channel;
    type IntoIter = ChannelSetIter;
    fn into_iter(self) -> ChannelSetIter {
        self.iter()
    }
}

impl IntoIterator for &ChannelSet {
    type Item = Channel;
    type IntoIter = ChannelSetIter;
    fn into_iter(self) -> ChannelSetIter {
        self.iter()
    }
}

/// Iterator over a [`ChannelSet`].
#[derive(Debug, Clone)]
pub struct ChannelSetIter(u64);

impl Iterator for ChannelSetIter {
    type Item = Channel;
    #[inline]
    fn next(&mut self) -> Option<Channel> {
        if self.0 == 0 {
            return None;
        }
        let index = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(Channel { index })
    }
}

/// Output of a [`ChannelSet`].
#[derive(Debug)]
pub struct DisplayChannelSet<'a>(&'a ChannelSet);

impl fmt::Display for DisplayChannelSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, channel) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{}", channel.index)?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let set = ChannelSet::from_badge(0b1001);
        assert!(set.contains(Channel::new(3)) && !set.contains(Channel::new(1)));
        assert_eq!(set.iter().map(|c| c.index()).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(set.display().to_string(), "{0, 3}");
        assert_eq!(ChannelSet::from_badge(0).display().to_string(), "{}");
        assert_eq!(
            ChannelSet::from_badge(1 << 61).iter().next(),
            Some(Channel::new(61))
        );
    }

    #[test]
    #[should_panic(expected = "0 to 61")]
    fn identifier_out_of_range() {
        let _ = Channel::new(62);
    }

    #[test]
    #[should_panic(expected = "channel 5 does not permit `notify`")]
    fn channel_that_the_tool_did_not_grant() {
        Channel::new(5).notify();
    }

    #[test]
    fn stack_lies_below_a_guard_page() {
        assert_eq!(STACK_TOP, 0x3fff_ffff_e000);
    }
}
