// SPDX-License-Identifier: BSD-2-Clause
//! Pointers to memory that other protection domains, guests or hardware read and write at the same
//! time, with the names of rust-sel4's `sel4-shared-memory`.
//!
//! Unlike upstream's, every access is volatile (or atomic, where it says so): the compiler neither
//! drops, repeats nor invents one, so that a value that was read and checked cannot change between
//! check and use. Volatile accesses are not ordered between processors: use the atomic operations
//! for indices and flags. Values are plain bytes (`zerocopy`), since nobody vouches for what is read.
#![cfg_attr(not(test), no_std)]

pub mod access;
mod atomic;
mod ptr;
mod raw;
mod reference;
mod slice;

pub use atomic::Atomic;
pub use ptr::SharedMemoryPtr;
pub use reference::SharedMemoryRef;

/// Pointer to a field: `map_field!(pointer.field)`, also nested (`pointer.a.b`) and indexed with
/// constants. The pointer is a [`SharedMemoryPtr`].
#[macro_export]
macro_rules! map_field {
    ($pointer:ident . $($path:tt)+) => {{
        // SAFETY: a field of a valid object is valid; `&raw` makes no reference.
        unsafe {
            $pointer.map(|pointer| {
                ::core::ptr::NonNull::new_unchecked(&raw mut (*pointer.as_ptr()).$($path)+)
            })
        }
    }};
}
