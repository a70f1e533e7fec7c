// SPDX-License-Identifier: BSD-2-Clause
//! The operand of tlbie for one entry (S3.6).

use crate::hpte::{B, SECONDARY};
use crate::{PageSize, Ptex};

/// RB of the tlbie that invalidates the translations of the entry at `ptex` whose guest-format
/// dw0 and dw1 are `v` and `r` and whose page size was decoded from them. RS is the LPID; RIC, PRS
/// and R are 0.
///
/// The group number gives back the address bits that the AVPN leaves out. B must not be reserved.
#[inline]
pub const fn rb(ptex: Ptex, v: u64, r: u64, size: PageSize) -> u64 {
    let group = if v & SECONDARY != 0 {
        !ptex.group()
    } else {
        ptex.group()
    };
    let vsid_part = if v & B == 0 { v >> 12 } else { v >> 24 };
    let low = (group ^ vsid_part) & 0x7ff;
    let base = size.base_shift();
    let mut rb = (v & !0x7f) << 16;
    if base == 12 {
        rb |= low << 12;
        rb |= match size.shift() {
            12 => 0,
            16 => 5 << 5,
            _ => 4 << 5,
        };
    } else {
        let below = size.bytes() - 1;
        rb |= (low << base) & 0x7f_f000;
        rb &= !below;
        rb |= (low << (base - 12)) & 0xfe;
        rb |= r & 0xf_f000 & below;
        rb |= 1;
    }
    rb | (v >> 62) << 8
}
