// SPDX-License-Identifier: BSD-2-Clause
//! Capability rights.

/// Rights of a capability, with upstream's constructors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapRights(partita_abi::CapRights);

impl CapRights {
    /// The rights with these bits (bit 0 write, 1 read, 2 grant, 3 grant-reply).
    pub const fn from_bits(bits: u64) -> Self {
        CapRights(partita_abi::CapRights::from_word(bits))
    }

    /// The bits, as [`Self::from_bits`] takes them.
    pub const fn into_bits(self) -> u64 {
        self.0.0
    }

    /// From the four rights.
    pub const fn new(grant_reply: bool, grant: bool, read: bool, write: bool) -> Self {
        Self::from_bits(
            (grant_reply as u64) << 3 | (grant as u64) << 2 | (read as u64) << 1 | write as u64,
        )
    }

    /// No rights.
    pub const fn none() -> Self {
        Self::from_bits(0)
    }

    /// All rights.
    pub const fn all() -> Self {
        CapRights(partita_abi::CapRights::ALL)
    }

    /// Read and write.
    pub const fn read_write() -> Self {
        Self::new(false, false, true, true)
    }

    /// Read.
    pub const fn read_only() -> Self {
        Self::new(false, false, true, false)
    }

    /// Write.
    pub const fn write_only() -> Self {
        Self::new(false, false, false, true)
    }
}

impl From<partita_abi::CapRights> for CapRights {
    fn from(rights: partita_abi::CapRights) -> Self {
        CapRights(rights)
    }
}

impl From<CapRights> for partita_abi::CapRights {
    fn from(rights: CapRights) -> Self {
        rights.0
    }
}

/// Builds [`CapRights`] right by right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapRightsBuilder {
    grant_reply: bool,
    grant: bool,
    read: bool,
    write: bool,
}

impl CapRightsBuilder {
    /// No rights yet.
    pub const fn none() -> Self {
        CapRightsBuilder {
            grant_reply: false,
            grant: false,
            read: false,
            write: false,
        }
    }

    /// All rights.
    pub const fn all() -> Self {
        CapRightsBuilder {
            grant_reply: true,
            grant: true,
            read: true,
            write: true,
        }
    }

    /// The rights.
    pub const fn build(self) -> CapRights {
        CapRights::new(self.grant_reply, self.grant, self.read, self.write)
    }

    /// Sets the right to pass on the right to reply.
    pub const fn grant_reply(mut self, can: bool) -> Self {
        self.grant_reply = can;
        self
    }

    /// Sets the right to pass on capabilities.
    pub const fn grant(mut self, can: bool) -> Self {
        self.grant = can;
        self
    }

    /// Sets the right to receive, wait or read.
    pub const fn read(mut self, can: bool) -> Self {
        self.read = can;
        self
    }

    /// Sets the right to send, signal or write.
    pub const fn write(mut self, can: bool) -> Self {
        self.write = can;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_the_kernels() {
        assert_eq!(CapRights::read_write().into_bits(), 3);
        assert_eq!(
            CapRights::write_only().into_bits(),
            partita_abi::CapRights::WRITE.0
        );
        assert_eq!(
            CapRightsBuilder::none()
                .grant_reply(true)
                .write(true)
                .build()
                .into_bits(),
            partita_abi::CapRights::GRANT_REPLY
                .union(partita_abi::CapRights::WRITE)
                .0
        );
        assert_eq!(CapRights::from_bits(0xf0), CapRights::none());
        assert_eq!(CapRightsBuilder::all().build(), CapRights::all());
    }
}
