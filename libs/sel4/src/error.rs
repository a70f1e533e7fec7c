// SPDX-License-Identifier: BSD-2-Clause
//! Errors of invocations.

use core::fmt;
use partita_abi::ErrorCode;

/// `Result` of an invocation.
pub type Result<T> = core::result::Result<T, Error>;

/// Why the kernel refused an invocation. Numbers are seL4's (`seL4_Error`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Error {
    /// An argument has a value that means nothing here.
    InvalidArgument = ErrorCode::InvalidArgument as u64,
    /// A capability among the arguments is not of the right kind.
    InvalidCapability = ErrorCode::InvalidCapability as u64,
    /// The object's state or the capability's rights forbid it.
    IllegalOperation = ErrorCode::IllegalOperation as u64,
    /// An argument is out of range.
    RangeError = ErrorCode::RangeError as u64,
    /// An address is not aligned.
    AlignmentError = ErrorCode::AlignmentError as u64,
    /// A capability pointer leads nowhere.
    FailedLookup = ErrorCode::FailedLookup as u64,
    /// Too few message registers or capabilities.
    TruncatedMessage = ErrorCode::TruncatedMessage as u64,
    /// The destination is not empty.
    DeleteFirst = ErrorCode::DeleteFirst as u64,
    /// The capability has descendants.
    RevokeFirst = ErrorCode::RevokeFirst as u64,
    /// The untyped is too small.
    NotEnoughMemory = ErrorCode::NotEnoughMemory as u64,
    /// The kernel answered with a number that this crate does not know.
    Unknown = u64::MAX,
}

impl Error {
    /// The error in the label of an answer, `None` for success.
    pub const fn from_label(label: u64) -> Option<Self> {
        Some(match ErrorCode::from_number(label) {
            Some(ErrorCode::NoError) => return None,
            Some(ErrorCode::InvalidArgument) => Error::InvalidArgument,
            Some(ErrorCode::InvalidCapability) => Error::InvalidCapability,
            Some(ErrorCode::IllegalOperation) => Error::IllegalOperation,
            Some(ErrorCode::RangeError) => Error::RangeError,
            Some(ErrorCode::AlignmentError) => Error::AlignmentError,
            Some(ErrorCode::FailedLookup) => Error::FailedLookup,
            Some(ErrorCode::TruncatedMessage) => Error::TruncatedMessage,
            Some(ErrorCode::DeleteFirst) => Error::DeleteFirst,
            Some(ErrorCode::RevokeFirst) => Error::RevokeFirst,
            Some(ErrorCode::NotEnoughMemory) => Error::NotEnoughMemory,
            None => Error::Unknown,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::InvalidArgument => "invalid argument",
            Error::InvalidCapability => "invalid capability",
            Error::IllegalOperation => "illegal operation",
            Error::RangeError => "range error",
            Error::AlignmentError => "alignment error",
            Error::FailedLookup => "failed lookup",
            Error::TruncatedMessage => "truncated message",
            Error::DeleteFirst => "delete first",
            Error::RevokeFirst => "revoke first",
            Error::NotEnoughMemory => "not enough memory",
            Error::Unknown => "unknown error",
        })
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_has_its_error() {
        for code in ErrorCode::ALL {
            match Error::from_label(code as u64) {
                None => assert_eq!(code, ErrorCode::NoError),
                Some(error) => {
                    assert_eq!(error as u64, code as u64);
                    assert_eq!(format!("{error:?}"), code.name());
                }
            }
        }
        assert_eq!(
            Error::from_label(ErrorCode::COUNT as u64),
            Some(Error::Unknown)
        );
    }
}
