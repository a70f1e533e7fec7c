// SPDX-License-Identifier: BSD-2-Clause
//! Why a kernel entry did not do what it was asked.

use partita_abi::ErrorCode;

/// Why a look-up in a CSpace failed (`seL4_LookupFailureType` and its details).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupFailure {
    /// The root is not a CNode.
    InvalidRoot,
    /// A slot on the way is empty.
    MissingCapability {
        /// Bits of the pointer left when it was met.
        bits_left: u64,
    },
    /// Bits are left over or lacking.
    DepthMismatch {
        /// Bits of the pointer left.
        bits_left: u64,
        /// Bits that the CNode resolves.
        bits_found: u64,
    },
    /// The guard of a CNode differs.
    GuardMismatch {
        /// Bits of the pointer left.
        bits_left: u64,
        /// The guard.
        guard: u64,
        /// Its width.
        guard_bits: u64,
    },
}

impl LookupFailure {
    /// The message words: type, then details.
    pub fn words(self) -> [u64; 4] {
        match self {
            LookupFailure::InvalidRoot => [1, 0, 0, 0],
            LookupFailure::MissingCapability { bits_left } => [2, bits_left, 0, 0],
            LookupFailure::DepthMismatch {
                bits_left,
                bits_found,
            } => [3, bits_left, bits_found, 0],
            LookupFailure::GuardMismatch {
                bits_left,
                guard,
                guard_bits,
            } => [4, bits_left, guard, guard_bits],
        }
    }
}

/// `seL4_Error` with its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SysError {
    /// Argument number.
    InvalidArgument(u64),
    /// Capability number: 0 is the invoked one.
    InvalidCapability(u64),
    /// Not in this state or not on this object.
    IllegalOperation,
    /// Lowest and highest value allowed.
    Range(u64, u64),
    /// An address is not aligned.
    Alignment,
    /// 1 if the source failed, and why.
    FailedLookup(bool, LookupFailure),
    /// Words or capabilities are missing.
    Truncated,
    /// The destination is in use.
    DeleteFirst,
    /// Something was derived from it.
    RevokeFirst,
    /// Bytes that are left.
    NotEnoughMemory(u64),
}

impl SysError {
    /// The number in the answer's label.
    pub fn code(self) -> ErrorCode {
        match self {
            SysError::InvalidArgument(_) => ErrorCode::InvalidArgument,
            SysError::InvalidCapability(_) => ErrorCode::InvalidCapability,
            SysError::IllegalOperation => ErrorCode::IllegalOperation,
            SysError::Range(..) => ErrorCode::RangeError,
            SysError::Alignment => ErrorCode::AlignmentError,
            SysError::FailedLookup(..) => ErrorCode::FailedLookup,
            SysError::Truncated => ErrorCode::TruncatedMessage,
            SysError::DeleteFirst => ErrorCode::DeleteFirst,
            SysError::RevokeFirst => ErrorCode::RevokeFirst,
            SysError::NotEnoughMemory(_) => ErrorCode::NotEnoughMemory,
        }
    }

    /// The detail words and how many there are.
    pub fn words(self) -> ([u64; 5], usize) {
        match self {
            SysError::InvalidArgument(n)
            | SysError::InvalidCapability(n)
            | SysError::NotEnoughMemory(n) => ([n, 0, 0, 0, 0], 1),
            SysError::Range(low, high) => ([low, high, 0, 0, 0], 2),
            SysError::FailedLookup(source, failure) => {
                let w = failure.words();
                ([u64::from(source), w[0], w[1], w[2], w[3]], 5)
            }
            _ => ([0; 5], 0),
        }
    }
}

/// Why an invocation has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An error for the caller; nothing was changed.
    Error(SysError),
    /// A capability pointer of the caller led nowhere: a fault of the caller.
    Fault {
        /// The pointer.
        cptr: u64,
        /// Why.
        failure: LookupFailure,
    },
    /// An interrupt is pending; what was done so far stays, the caller repeats the call.
    Preempted,
}

impl From<SysError> for Failure {
    fn from(e: SysError) -> Failure {
        Failure::Error(e)
    }
}

/// Result of an invocation.
pub type Outcome<T = ()> = Result<T, Failure>;
