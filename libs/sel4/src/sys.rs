// SPDX-License-Identifier: BSD-2-Clause
//! Upstream's raw names, as far as PD sources use them.
#![allow(
    non_upper_case_globals,
    missing_docs,
    reason = "names and meanings are libsel4's"
)]

use partita_abi::address_space;

/// Bits of a page.
pub const seL4_PageBits: u32 = address_space::PAGE_BITS as u32;
/// Highest user virtual address, inclusive.
pub const seL4_UserVSpaceTop: u64 = address_space::USER_VSPACE_TOP as u64;
/// Lowest priority.
pub const seL4_MinPrio: u32 = address_space::MIN_PRIORITY as u32;
/// Highest priority.
pub const seL4_MaxPrio: u32 = address_space::MAX_PRIORITY as u32;
/// Longest message in words.
pub const seL4_MsgMaxLength: u32 = address_space::MAX_MESSAGE_REGISTERS as u32;
/// Most capabilities in a message.
pub const seL4_MsgMaxExtraCaps: u32 = address_space::MAX_EXTRA_CAPS as u32;

/// Numbers of errors.
pub use partita_abi::ErrorCode as seL4_Error;
/// Labels of faults.
pub use partita_abi::FaultLabel as fault_label;
/// Labels of invocations.
pub use partita_abi::InvocationLabel as invocation_label;
