// SPDX-License-Identifier: BSD-2-Clause
//! Capability rights.

/// `seL4_CapRights`: bit 0 write (send, signal), bit 1 read (receive, wait), bit 2 grant, bit 3
/// grant-reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct CapRights(pub u64);

impl CapRights {
    /// Send on an endpoint, signal a notification, write a page.
    pub const WRITE: CapRights = CapRights(1);
    /// Receive, wait, read a page.
    pub const READ: CapRights = CapRights(2);
    /// Send caps and the right to reply.
    pub const GRANT: CapRights = CapRights(4);
    /// Send the right to reply.
    pub const GRANT_REPLY: CapRights = CapRights(8);
    /// Nothing.
    pub const NONE: CapRights = CapRights(0);
    /// Everything.
    pub const ALL: CapRights = CapRights(15);

    /// Both sets.
    #[inline]
    pub const fn union(self, other: CapRights) -> CapRights {
        CapRights(self.0 | other.0)
    }

    /// What both have.
    #[inline]
    pub const fn intersection(self, other: CapRights) -> CapRights {
        CapRights(self.0 & other.0)
    }

    /// Whether all of `other` is here.
    #[inline]
    pub const fn contains(self, other: CapRights) -> bool {
        self.0 & other.0 == other.0
    }

    /// The rights among the bits of an argument word.
    #[inline]
    pub const fn from_word(word: u64) -> CapRights {
        CapRights(word & 15)
    }
}
