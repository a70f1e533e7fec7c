// SPDX-License-Identifier: BSD-2-Clause
//! Attributes of mappings.

/// Attributes of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmAttributes(u64);

impl VmAttributes {
    /// Nothing special: executable if readable.
    pub const NONE: Self = VmAttributes(0);
    /// As [`Self::NONE`].
    pub const DEFAULT: Self = Self::NONE;
    /// No instruction is fetched from the page.
    pub const EXECUTE_NEVER: Self = VmAttributes(1);
    /// Cache-inhibited and guarded: accepted, but device memory always is, and other memory never.
    pub const CACHE_INHIBITED: Self = VmAttributes(2);

    /// The word that the kernel takes.
    pub const fn into_bits(self) -> u64 {
        self.0
    }

    /// The attributes with these bits.
    pub const fn from_bits(bits: u64) -> Self {
        VmAttributes(bits)
    }

    /// Whether all of `other` is set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl core::ops::BitOr for VmAttributes {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        VmAttributes(self.0 | other.0)
    }
}
