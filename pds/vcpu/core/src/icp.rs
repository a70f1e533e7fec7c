// SPDX-License-Identifier: BSD-2-Clause
//! The words of an interrupt presenter and of an interrupt source (SPEC 3.9).

/// A presenter's state. Priorities: 0 is the most favoured, 0xff is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icp {
    /// Current processor priority: only what is more favoured is presented.
    pub cppr: u8,
    /// Source that is presented, 24 bits, 0 for none, 2 for an IPI.
    pub xisr: u32,
    /// Most favoured request of another processor.
    pub mfrr: u8,
    /// Priority of what is presented.
    pub pending: u8,
    /// Some source of this server waits to be sent again.
    pub(crate) resend: bool,
}

impl Icp {
    /// State after a reset (SPEC 2.6).
    pub const RESET: Icp = Icp {
        cppr: 0,
        xisr: 0,
        mfrr: 0xff,
        pending: 0xff,
        resend: false,
    };

    const RESEND: u64 = 1;

    /// From the register's word.
    #[inline]
    pub const fn from_word(word: u64) -> Self {
        Icp {
            cppr: (word >> 56) as u8,
            xisr: (word >> 32) as u32 & 0xff_ffff,
            mfrr: (word >> 24) as u8,
            pending: (word >> 16) as u8,
            resend: word & Icp::RESEND != 0,
        }
    }

    /// The register's word; private bits are in 15:0.
    #[inline]
    pub const fn to_word(self) -> u64 {
        (self.cppr as u64) << 56
            | ((self.xisr & 0xff_ffff) as u64) << 32
            | (self.mfrr as u64) << 24
            | (self.pending as u64) << 16
            | if self.resend { Icp::RESEND } else { 0 }
    }

    /// XIRR as the guest sees it.
    #[inline]
    pub const fn xirr(self) -> u64 {
        (self.cppr as u64) << 24 | self.xisr as u64
    }
}

/// A source's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceWord(pub(crate) u64);

impl SourceWord {
    const PRIORITY: u32 = 32;
    /// The source is a level (LSI), else messages (MSI).
    pub(crate) const LEVEL: u64 = 1 << 40;
    /// ibm,int-off.
    pub(crate) const MASKED: u64 = 1 << 41;
    /// LSI: the line is up. MSI: a message came while it could not be sent.
    pub(crate) const PENDING: u64 = 1 << 42;
    /// Sent, and no EOI yet.
    pub(crate) const PRESENTED: u64 = 1 << 43;
    /// MSI: another message came since.
    pub(crate) const QUEUED: u64 = 1 << 44;
    /// Ours: presented, but its server has sent it back.
    pub(crate) const REJECTED: u64 = 1 << 45;
    /// What the register shows.
    pub(crate) const PUBLIC: u64 = (1 << 45) - 1;

    /// Nobody's: masked by priority, server 0.
    pub(crate) const fn reset(level: bool) -> Self {
        SourceWord(0xff << Self::PRIORITY | if level { Self::LEVEL } else { 0 })
    }

    /// The server it goes to.
    #[inline]
    pub const fn server(self) -> u32 {
        self.0 as u32
    }

    /// Priority as set; [`SourceWord::live_priority`] counts.
    #[inline]
    pub const fn priority(self) -> u8 {
        (self.0 >> Self::PRIORITY) as u8
    }

    /// Priority at which it is sent: 0xff while it is off.
    #[inline]
    pub const fn live_priority(self) -> u8 {
        if self.is(Self::MASKED) {
            0xff
        } else {
            self.priority()
        }
    }

    #[inline]
    pub(crate) const fn is(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    #[inline]
    pub(crate) const fn set(&mut self, bits: u64, on: bool) {
        if on {
            self.0 |= bits;
        } else {
            self.0 &= !bits;
        }
    }

    #[inline]
    pub(crate) const fn route(&mut self, server: u32, priority: u8) {
        self.0 = self.0 & !0xff_ffff_ffff | (priority as u64) << Self::PRIORITY | server as u64;
    }
}
