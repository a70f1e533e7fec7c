// SPDX-License-Identifier: BSD-2-Clause
//! Hypercall numbers, status codes and argument fields (PAPR chapter 14; SPEC 2).

macro_rules! numbers {
    ($ty:ty; $($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: $ty = $value;)*

        /// Name of a number of this module, for traces and messages.
        pub const fn name(number: $ty) -> Option<&'static str> {
            $(if number == $value { return Some(stringify!($name)); })*
            None
        }
    };
}

/// Hypercall numbers (r3 on entry).
pub mod number {
    numbers! { u64;
        /// Remove an entry.
        H_REMOVE = 0x04;
        /// Insert an entry.
        H_ENTER = 0x08;
        /// Read one entry or four.
        H_READ = 0x0c;
        /// Clear the changed bit.
        H_CLEAR_MOD = 0x10;
        /// Clear the reference bit.
        H_CLEAR_REF = 0x14;
        /// Change the protection of an entry.
        H_PROTECT = 0x18;
        /// Read a TCE.
        H_GET_TCE = 0x1c;
        /// Write a TCE.
        H_PUT_TCE = 0x20;
        /// Write SPRG0.
        H_SET_SPRG0 = 0x24;
        /// Write the DABR.
        H_SET_DABR = 0x28;
        /// Zero or copy a page.
        H_PAGE_INIT = 0x2c;
        /// Cache-inhibited load in real mode.
        H_LOGICAL_CI_LOAD = 0x3c;
        /// Cache-inhibited store in real mode.
        H_LOGICAL_CI_STORE = 0x40;
        /// Load in real mode.
        H_LOGICAL_CACHE_LOAD = 0x44;
        /// Store in real mode.
        H_LOGICAL_CACHE_STORE = 0x48;
        /// Invalidate an instruction block.
        H_LOGICAL_ICBI = 0x4c;
        /// Flush a data block.
        H_LOGICAL_DCBF = 0x50;
        /// Read from a virtual terminal.
        H_GET_TERM_CHAR = 0x54;
        /// Write to a virtual terminal.
        H_PUT_TERM_CHAR = 0x58;
        /// End of interrupt.
        H_EOI = 0x64;
        /// Set the current processor priority.
        H_CPPR = 0x68;
        /// Raise an interprocessor interrupt.
        H_IPI = 0x6c;
        /// Poll the interrupt state of a server.
        H_IPOLL = 0x70;
        /// Accept an interrupt.
        H_XIRR = 0x74;
        /// Performance monitor control.
        H_PERFMON = 0x7c;
        /// Register a per-vCPU area.
        H_REGISTER_VPA = 0xdc;
        /// Give up the processor until an event.
        H_CEDE = 0xe0;
        /// Give the processor to another vCPU.
        H_CONFER = 0xe4;
        /// Wake another vCPU.
        H_PROD = 0xe8;
        /// Read partition performance parameters.
        H_GET_PPP = 0xec;
        /// Read the PURR.
        H_PURR = 0xf4;
        /// Register a command/response queue.
        H_REG_CRQ = 0xfc;
        /// Free a command/response queue.
        H_FREE_CRQ = 0x100;
        /// Virtual I/O interrupt control.
        H_VIO_SIGNAL = 0x104;
        /// Send on a command/response queue.
        H_SEND_CRQ = 0x108;
        /// Register a logical LAN.
        H_REGISTER_LOGICAL_LAN = 0x114;
        /// Free a logical LAN.
        H_FREE_LOGICAL_LAN = 0x118;
        /// Give a buffer to a logical LAN.
        H_ADD_LOGICAL_LAN_BUFFER = 0x11c;
        /// Send on a logical LAN.
        H_SEND_LOGICAL_LAN = 0x120;
        /// Remove up to four entries.
        H_BULK_REMOVE = 0x124;
        /// Multicast control of a logical LAN.
        H_MULTICAST_CTRL = 0x130;
        /// Write the DABR and its extension.
        H_SET_XDABR = 0x134;
        /// Write one value to many TCEs.
        H_STUFF_TCE = 0x138;
        /// Write a list of TCEs.
        H_PUT_TCE_INDIRECT = 0x13c;
        /// Change the MAC address of a logical LAN.
        H_CHANGE_LOGICAL_LAN_MAC = 0x14c;
        /// Whether an interrupt is pending.
        H_POLL_PENDING = 0x1d8;
        /// Processor characteristics for mitigations.
        H_GET_CPU_CHARACTERISTICS = 0x1c8;
        /// Attributes of a logical LAN.
        H_ILLAN_ATTRIBUTES = 0x244;
        /// Wait for the other vCPUs.
        H_JOIN = 0x298;
        /// Enable a command/response queue.
        H_ENABLE_CRQ = 0x2b0;
        /// Energy management parameters.
        H_GET_EM_PARMS = 0x2b8;
        /// Read memory performance parameters.
        H_GET_MPP = 0x2d4;
        /// Associativity of the home node.
        H_HOME_NODE_ASSOCIATIVITY = 0x2ec;
        /// Energy hints.
        H_BEST_ENERGY = 0x2f4;
        /// Accept an interrupt, with the timebase.
        H_XIRR_X = 0x2fc;
        /// A random number.
        H_RANDOM = 0x300;
        /// Extended memory performance parameters.
        H_GET_MPP_X = 0x314;
        /// Change a mode of the partition or the processor.
        H_SET_MODE = 0x31c;
        /// Remove a block of entries.
        H_BLOCK_REMOVE = 0x328;
        /// Empty the hash page table.
        H_CLEAR_HPT = 0x358;
        /// Start a change of the table's size.
        H_RESIZE_HPT_PREPARE = 0x36c;
        /// Finish a change of the table's size.
        H_RESIZE_HPT_COMMIT = 0x370;
        /// Choose the translation mode of a process table.
        H_REGISTER_PROC_TBL = 0x37c;
        /// System reset to other vCPUs.
        H_SIGNAL_SYS_RESET = 0x380;
        /// Invalidate translations of a radix guest.
        H_RPT_INVALIDATE = 0x448;
        /// Watchdog control.
        H_WATCHDOG = 0x45c;
        /// RTAS (private to KVM and QEMU guests).
        H_RTAS = 0xf000;
    }
}

/// Status codes (r3 on return, sign-extended).
pub mod status {
    numbers! { i64;
        /// Done.
        H_SUCCESS = 0;
        /// Try again.
        H_BUSY = 1;
        /// Nothing to commit.
        H_CLOSED = 2;
        /// Not offered now.
        H_NOT_AVAILABLE = 3;
        /// Done within limits.
        H_CONSTRAINED = 4;
        /// Done in part.
        H_PARTIAL = 5;
        /// Under way.
        H_IN_PROGRESS = 14;
        /// The page is registered.
        H_PAGE_REGISTERED = 15;
        /// Stored in part.
        H_PARTIAL_STORE = 16;
        /// An interrupt waits.
        H_PENDING = 17;
        /// Call again to go on.
        H_CONTINUE = 18;
        /// Retry after 1 ms.
        H_LONG_BUSY_ORDER_1_MSEC = 9900;
        /// Retry after 10 ms.
        H_LONG_BUSY_ORDER_10_MSEC = 9901;
        /// Retry after 100 ms.
        H_LONG_BUSY_ORDER_100_MSEC = 9902;
        /// Retry after 1 s.
        H_LONG_BUSY_ORDER_1_SEC = 9903;
        /// Retry after 10 s.
        H_LONG_BUSY_ORDER_10_SEC = 9904;
        /// Retry after 100 s.
        H_LONG_BUSY_ORDER_100_SEC = 9905;
        /// Hardware failure.
        H_HARDWARE = -1;
        /// No such call.
        H_FUNCTION = -2;
        /// Caller lacks the privilege.
        H_PRIVILEGE = -3;
        /// Bad argument.
        H_PARAMETER = -4;
        /// Wrong mode for the call.
        H_BAD_MODE = -5;
        /// The group has no free entry.
        H_PTEG_FULL = -6;
        /// No such entry.
        H_NOT_FOUND = -7;
        /// Reserved bits in a DABR.
        H_RESERVED_DABR = -8;
        /// No memory.
        H_NO_MEM = -9;
        /// Not allowed for this partition.
        H_AUTHORITY = -10;
        /// Not permitted.
        H_PERMISSION = -11;
        /// Lost.
        H_DROPPED = -12;
        /// Bad source.
        H_SOURCE_PARM = -13;
        /// Bad destination.
        H_DEST_PARM = -14;
        /// Bad remote argument.
        H_REMOTE_PARM = -15;
        /// No resources.
        H_RESOURCE = -16;
        /// Bad adapter argument.
        H_ADAPTER_PARM = -17;
        /// Given up.
        H_ABORTED = -54;
        /// Second argument is bad.
        H_P2 = -55;
        /// Third argument is bad.
        H_P3 = -56;
        /// Fourth argument is bad.
        H_P4 = -57;
        /// Fifth argument is bad.
        H_P5 = -58;
        /// Too big.
        H_TOO_BIG = -64;
        /// Not supported.
        H_UNSUPPORTED = -67;
        /// Ranges overlap.
        H_OVERLAP = -68;
        /// Interrupted.
        H_INTERRUPT = -69;
        /// Bad data.
        H_BAD_DATA = -70;
        /// Not active.
        H_NOT_ACTIVE = -71;
        /// Wrong state.
        H_STATE = -75;
        /// In use.
        H_IN_USE = -77;
        /// Base of the "flag not supported" codes: minus the bit number of the flag.
        H_UNSUPPORTED_FLAG = -256;
        /// Other threads are active.
        H_MULTI_THREADS_ACTIVE = -9005;
    }
}

/// Flag bits of r4 of the hash page table calls.
pub mod flags {
    /// A large page.
    pub const LARGE_PAGE: u64 = 1 << (63 - 16);
    /// H_ENTER: this entry and no other of the group.
    pub const EXACT: u64 = 1 << (63 - 24);
    /// H_READ: translate (ignored, the guest view is always returned: S4.15).
    pub const R_XLATE: u64 = 1 << (63 - 25);
    /// H_READ: four entries.
    pub const READ_4: u64 = 1 << (63 - 26);
    /// The CMO state of the page changes.
    pub const PAGE_STATE_CHANGE: u64 = 1 << (63 - 28);
    /// CMO: the page is unused (two bits).
    pub const PAGE_UNUSED: u64 = 3 << (63 - 30);
    /// CMO: the page is loaned.
    pub const PAGE_SET_LOANED: u64 = 1 << (63 - 31);
    /// CMO state bits of H_PAGE_INIT.
    pub const PAGE_STATE: u64 = PAGE_STATE_CHANGE | PAGE_UNUSED | PAGE_SET_LOANED;
    /// Compare the AVPN.
    pub const AVPN: u64 = 1 << (63 - 32);
    /// Compare by AND.
    pub const ANDCOND: u64 = 1 << (63 - 33);
    /// Only this processor uses the translation.
    pub const LOCAL: u64 = 1 << (63 - 35);
    /// Invalidate the instruction cache.
    pub const ICACHE_INVALIDATE: u64 = 1 << (63 - 40);
    /// Make the instruction cache coherent.
    pub const ICACHE_SYNCHRONIZE: u64 = 1 << (63 - 41);
    /// The page may be coalesced.
    pub const COALESCE_CAND: u64 = 1 << (63 - 42);
    /// Zero the page.
    pub const ZERO_PAGE: u64 = 1 << (63 - 48);
    /// Copy the page.
    pub const COPY_PAGE: u64 = 1 << (63 - 49);
    /// No execute (H_PROTECT).
    pub const N: u64 = 1 << (63 - 61);
    /// Page protection (H_PROTECT).
    pub const PP: u64 = 3;
}

/// Flag bits of r4 of H_REGISTER_PROC_TBL.
pub mod proc_tbl {
    /// Guest translation shootdown enable.
    pub const GTSE: u64 = 1;
    /// Hash translation with a process table.
    pub const HPT_PT: u64 = 2;
    /// Radix translation.
    pub const RADIX: u64 = 4;
    /// Mask of the operation.
    pub const OPERATION: u64 = 0x18;
    /// Operation: no change.
    pub const KEEP: u64 = 0;
    /// Operation: remove the registration.
    pub const DEREGISTER: u64 = 0x10;
    /// Operation: new registration.
    pub const NEW: u64 = 0x18;
}

/// Subfunctions of H_REGISTER_VPA (S0.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VpaSubfunction {
    /// 1: register the VPA.
    RegisterVpa,
    /// 2: register the dispatch trace log.
    RegisterDtl,
    /// 3: register the SLB shadow buffer.
    RegisterSlbShadow,
    /// 5: remove the VPA.
    DeregisterVpa,
    /// 6: remove the dispatch trace log.
    DeregisterDtl,
    /// 7: remove the SLB shadow buffer.
    DeregisterSlbShadow,
}

impl VpaSubfunction {
    /// From the flags word: bits 47:45 count, all others are ignored; 0 and 4 are no subfunction.
    pub const fn from_flags(flags: u64) -> Option<Self> {
        match (flags >> 45) & 7 {
            1 => Some(VpaSubfunction::RegisterVpa),
            2 => Some(VpaSubfunction::RegisterDtl),
            3 => Some(VpaSubfunction::RegisterSlbShadow),
            5 => Some(VpaSubfunction::DeregisterVpa),
            6 => Some(VpaSubfunction::DeregisterDtl),
            7 => Some(VpaSubfunction::DeregisterSlbShadow),
            _ => None,
        }
    }
}

/// How a pair of H_BULK_REMOVE asks for the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No comparison.
    Absolute,
    /// Remove only if `dw0 & value == 0`.
    AndCond,
    /// Remove only if the AVPN is equal.
    Avpn,
}

/// First word of a pair of H_BULK_REMOVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkPair {
    /// No more pairs.
    End,
    /// Remove entry `index`, not yet compared with the table's size.
    Remove {
        /// Entry number, less than 2^56.
        index: u64,
        /// What to compare.
        condition: Condition,
    },
    /// Type 0 or 2, or flags 3.
    Invalid,
}

impl BulkPair {
    /// Decodes the word.
    #[inline]
    pub const fn decode(word: u64) -> Self {
        match word >> 62 {
            3 => BulkPair::End,
            1 => {
                let condition = match (word >> 56) & 3 {
                    0 => Condition::Absolute,
                    1 => Condition::AndCond,
                    2 => Condition::Avpn,
                    _ => return BulkPair::Invalid,
                };
                BulkPair::Remove {
                    index: word & BULK_INDEX,
                    condition,
                }
            }
            _ => BulkPair::Invalid,
        }
    }
}

const BULK_INDEX: u64 = (1 << 56) - 1;

/// Response codes of a pair of H_BULK_REMOVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkCode {
    /// Removed.
    Success = 0,
    /// No such entry.
    NotFound = 1,
    /// Bad pair.
    Parameter = 2,
    /// Hardware failure.
    Hardware = 3,
}

/// The response to `request`: type 10, the code, R and C of `dw1` (masked) in bits 59:58; flags
/// and index as in the request.
#[inline]
pub const fn bulk_response(request: u64, code: BulkCode, dw1: u64) -> u64 {
    (2 << 62)
        | ((code as u64) << 60)
        | ((dw1 & (crate::hpte::R | crate::hpte::C)) << 51)
        | (request & (3 << 56 | BULK_INDEX))
}

/// Bits of dw1 that H_PROTECT writes.
pub const PROTECT_MASK: u64 = crate::hpte::PP0
    | crate::hpte::KEY_HIGH
    | crate::hpte::KEY_LOW
    | crate::hpte::N
    | crate::hpte::PP;

/// Bits of dw1 from the flags of H_PROTECT: PP and N as they are, key-low as it is, flag bits
/// 13:12 to key-high, flag bit 8 to PP0.
#[inline]
pub const fn protect_bits(flags: u64) -> u64 {
    (flags & (crate::hpte::PP | crate::hpte::N | crate::hpte::KEY_LOW))
        | ((flags << 48) & crate::hpte::KEY_HIGH)
        | ((flags << 55) & crate::hpte::PP0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SPEC 3.10, other vectors.
    #[test]
    fn protect_and_bulk_vectors() {
        assert_eq!(protect_bits(0x3f07), 0xb000_0000_0000_0e07);
        let avpn = 1 << 62 | 2 << 56 | 0x123;
        assert_eq!(
            bulk_response(avpn, BulkCode::Success, 0x100),
            0x8a00_0000_0000_0123
        );
        assert_eq!(
            bulk_response(1 << 62 | 0x123, BulkCode::NotFound, 0),
            0x9000_0000_0000_0123
        );
        assert_eq!(
            bulk_response(avpn, BulkCode::Parameter, 0),
            0xa200_0000_0000_0123
        );
    }

    #[test]
    fn flag_masks_of_the_specification() {
        assert_eq!(flags::EXACT, 0x80_0000_0000);
        assert_eq!(flags::R_XLATE, 0x40_0000_0000);
        assert_eq!(flags::READ_4, 0x20_0000_0000);
        assert_eq!(flags::AVPN, 0x8000_0000);
        assert_eq!(flags::ANDCOND, 0x4000_0000);
        assert_eq!(flags::LOCAL, 0x1000_0000);
        assert_eq!(flags::ICACHE_INVALIDATE, 0x80_0000);
        assert_eq!(flags::ICACHE_SYNCHRONIZE, 0x40_0000);
        assert_eq!(flags::ZERO_PAGE, 0x8000);
        assert_eq!(flags::COPY_PAGE, 0x4000);
        assert_eq!(flags::N, 4);
    }

    /// S0.6
    #[test]
    fn vpa_subfunctions() {
        assert_eq!(
            VpaSubfunction::from_flags(1 << 45),
            Some(VpaSubfunction::RegisterVpa)
        );
        assert_eq!(
            VpaSubfunction::from_flags(7 << 45 | 0xff),
            Some(VpaSubfunction::DeregisterSlbShadow)
        );
        assert_eq!(VpaSubfunction::from_flags(0), None);
        assert_eq!(VpaSubfunction::from_flags(4 << 45), None);
    }

    #[test]
    fn bulk_words() {
        assert_eq!(BulkPair::decode(3 << 62), BulkPair::End);
        assert_eq!(BulkPair::decode(0), BulkPair::Invalid);
        assert_eq!(BulkPair::decode(2 << 62), BulkPair::Invalid);
        assert_eq!(BulkPair::decode(1 << 62 | 3 << 56), BulkPair::Invalid);
        assert_eq!(
            BulkPair::decode(1 << 62 | 1 << 56 | 77),
            BulkPair::Remove {
                index: 77,
                condition: Condition::AndCond
            }
        );
    }

    #[test]
    fn names() {
        assert_eq!(number::name(0x37c), Some("H_REGISTER_PROC_TBL"));
        assert_eq!(number::name(0x37d), None);
        assert_eq!(status::name(-7), Some("H_NOT_FOUND"));
    }
}
