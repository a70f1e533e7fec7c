// SPDX-License-Identifier: BSD-2-Clause
//! POWER9 and POWER10: everything that is assembly, a special register or a real address.

mod fastpath;
pub mod guest;
pub mod locks;
mod low;
pub mod machine;
pub mod mmu;
pub mod opal;
mod signals;
pub mod spr;
pub mod start;
pub mod uart;
pub mod vectors;
pub mod xive;
