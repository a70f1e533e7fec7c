// SPDX-License-Identifier: BSD-2-Clause
//! Message info word, IPC buffer and badges.

/// `seL4_MessageInfo`: label 63:12, caps unwrapped 11:9, extra caps 8:7, length 6:0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct MessageInfo(pub u64);

impl MessageInfo {
    /// Bits of the label.
    pub const LABEL_BITS: u32 = 52;

    /// Builds the word; each field is cut to its width.
    #[inline]
    pub const fn new(label: u64, caps_unwrapped: u64, extra_caps: u64, length: u64) -> Self {
        MessageInfo(
            (label << 12) | ((caps_unwrapped & 7) << 9) | ((extra_caps & 3) << 7) | (length & 0x7f),
        )
    }

    /// The label, 52 bits.
    #[inline]
    pub const fn label(self) -> u64 {
        self.0 >> 12
    }

    /// Which of the transferred caps were unwrapped to badges, one bit each.
    #[inline]
    pub const fn caps_unwrapped(self) -> u64 {
        (self.0 >> 9) & 7
    }

    /// How many caps travel, 0 to 3.
    #[inline]
    pub const fn extra_caps(self) -> u64 {
        (self.0 >> 7) & 3
    }

    /// Message registers in use, 0 to 127 as encoded (the kernel cuts at 120).
    #[inline]
    pub const fn length(self) -> u64 {
        self.0 & 0x7f
    }
}

/// Word offsets in the IPC buffer (128 words of 8 bytes, native endianness).
pub struct IpcBufferLayout;

impl IpcBufferLayout {
    /// Message info of long messages (informative).
    pub const TAG: usize = 0;
    /// First message register; registers 0 to 7 travel in r4..r11 and only have their space here.
    pub const MSG: usize = 1;
    /// A word for the user.
    pub const USER_DATA: usize = 121;
    /// Caps to send, or badges of unwrapped caps.
    pub const CAPS_OR_BADGES: usize = 122;
    /// CNode that received caps go to.
    pub const RECEIVE_CNODE: usize = 125;
    /// Index of the receive slot.
    pub const RECEIVE_INDEX: usize = 126;
    /// Depth of the receive slot.
    pub const RECEIVE_DEPTH: usize = 127;
}

/// Badge bits of a Microkit PD's input.
pub mod badge {
    /// A protected procedure call: bits 15:0 are the channel of the receiver's end; a hypercall
    /// also has the vCPU id in bits 47:32.
    pub const PPC: u64 = 1 << 63;
    /// Where the vCPU id is in the badge of a hypercall.
    pub const VCPU_ID_SHIFT: u32 = 32;
    /// A fault or exit of a child or vCPU: bits 15:0 are its id.
    pub const FAULT: u64 = 1 << 62;
}
