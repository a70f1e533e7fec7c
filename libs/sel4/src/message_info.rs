// SPDX-License-Identifier: BSD-2-Clause
//! Message info word.

use crate::Word;

/// `seL4_MessageInfo`: label, caps unwrapped, extra caps and length of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageInfo(partita_abi::MessageInfo);

impl MessageInfo {
    /// Bits of the label.
    pub const fn label_width() -> usize {
        partita_abi::MessageInfo::LABEL_BITS as usize
    }

    /// Builds the word; each field is cut to its width.
    #[inline]
    pub const fn new(label: Word, caps_unwrapped: usize, extra_caps: usize, length: usize) -> Self {
        MessageInfo(partita_abi::MessageInfo::new(
            label,
            caps_unwrapped as u64,
            extra_caps as u64,
            length as u64,
        ))
    }

    /// From the word.
    #[inline]
    pub const fn from_word(word: Word) -> Self {
        MessageInfo(partita_abi::MessageInfo(word))
    }

    /// The word.
    #[inline]
    pub const fn into_word(self) -> Word {
        self.0.0
    }

    /// The label.
    #[inline]
    pub const fn label(&self) -> Word {
        self.0.label()
    }

    /// Which of the transferred capabilities were unwrapped to badges, one bit each.
    #[inline]
    pub const fn caps_unwrapped(&self) -> usize {
        self.0.caps_unwrapped() as usize
    }

    /// How many capabilities travel.
    #[inline]
    pub const fn extra_caps(&self) -> usize {
        self.0.extra_caps() as usize
    }

    /// Message registers in use.
    #[inline]
    pub const fn length(&self) -> usize {
        self.0.length() as usize
    }
}

/// Builds a [`MessageInfo`] field by field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageInfoBuilder {
    label: Word,
    caps_unwrapped: usize,
    extra_caps: usize,
    length: usize,
}

impl MessageInfoBuilder {
    /// All fields zero.
    pub const fn default() -> Self {
        MessageInfoBuilder {
            label: 0,
            caps_unwrapped: 0,
            extra_caps: 0,
            length: 0,
        }
    }

    /// The message info.
    pub const fn build(self) -> MessageInfo {
        MessageInfo::new(
            self.label,
            self.caps_unwrapped,
            self.extra_caps,
            self.length,
        )
    }

    /// Sets the label.
    pub const fn label(mut self, label: Word) -> Self {
        self.label = label;
        self
    }

    /// Sets the mask of unwrapped capabilities.
    pub const fn caps_unwrapped(mut self, caps_unwrapped: usize) -> Self {
        self.caps_unwrapped = caps_unwrapped;
        self
    }

    /// Sets the number of capabilities.
    pub const fn extra_caps(mut self, extra_caps: usize) -> Self {
        self.extra_caps = extra_caps;
        self
    }

    /// Sets the number of message registers.
    pub const fn length(mut self, length: usize) -> Self {
        self.length = length;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_apart() {
        let info = MessageInfoBuilder::default()
            .label(5)
            .caps_unwrapped(7)
            .extra_caps(3)
            .length(120);
        let info = info.build();
        assert_eq!(info.into_word(), 5 << 12 | 7 << 9 | 3 << 7 | 120);
        assert_eq!(
            (
                info.label(),
                info.caps_unwrapped(),
                info.extra_caps(),
                info.length()
            ),
            (5, 7, 3, 120)
        );
    }
}
