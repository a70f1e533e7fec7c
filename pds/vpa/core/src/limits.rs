// SPDX-License-Identifier: BSD-2-Clause
//! Sizes and offsets that only this crate needs.

use core::mem::offset_of;
use partita_papr::areas::{DTL_ENTRY_SIZE, SLB_SHADOW_MIN, VPA_SIZE, Vpa};

/// What one view maps.
pub(crate) const PAGE: u64 = 4096;
/// Nothing shorter is an area (S0.8).
pub(crate) const MIN_AREA: u64 = 8;
/// S0.9.
pub(crate) const VPA_BYTES: u64 = VPA_SIZE as u64;
/// S0.10.
pub(crate) const DTL_ENTRY: u64 = DTL_ENTRY_SIZE as u64;
/// S0.11.
pub(crate) const SLB_MIN: u64 = SLB_SHADOW_MIN as u64;
/// vCPUs looked at in one call (DESIGN: long operations stop after 64 entries).
pub(crate) const BATCH: usize = 64;
/// How often a wanted address may change under an update before the rest is left to the next entry.
pub(crate) const RETRIES: usize = 4;

/// Byte offsets of the VPA's fields that we touch.
pub(crate) const STATUS: u64 = offset_of!(Vpa, old_status) as u64;
pub(crate) const DTL_ENABLE_MASK: u64 = offset_of!(Vpa, dtl_enable_mask) as u64;
pub(crate) const YIELD_COUNT: u64 = offset_of!(Vpa, yield_count) as u64;
pub(crate) const ENQUEUE_DISPATCH_TB: u64 = offset_of!(Vpa, enqueue_dispatch_tb) as u64;
pub(crate) const DTL_IDX: u64 = offset_of!(Vpa, dtl_idx) as u64;

/// Offset of a guest real address in its page.
#[inline]
pub(crate) const fn offset_of_gpa(gpa: u64) -> u64 {
    gpa & (PAGE - 1)
}
