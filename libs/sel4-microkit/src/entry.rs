// SPDX-License-Identifier: BSD-2-Clause
//! Entry of a protection domain.

use crate::{Handler, panicking};
use core::cell::UnsafeCell;

/// Memory of a stack.
#[repr(C, align(16))]
pub struct Stack<const N: usize>(UnsafeCell<[u8; N]>);

// SAFETY: only the thread whose stack it is uses it, through its stack pointer.
unsafe impl<const N: usize> Sync for Stack<N> {}

impl<const N: usize> Default for Stack<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Stack<N> {
    /// A stack of zeros.
    pub const fn new() -> Self {
        Stack(UnsafeCell::new([0; N]))
    }
}

/// Runs a protection domain.
pub fn start<H: Handler>(init: impl FnOnce() -> H) -> ! {
    match init().run() {
        Ok(never) => match never {},
        Err(error) => panicking::abort(&error),
    }
}

/// What `#[protection_domain]` expands to: the entry point, a stack if `stack_size` is given (else
/// the image tool's), a global allocator if `heap_size` is given. On a host only types are checked.
#[macro_export]
macro_rules! declare_protection_domain {
    (init = $init:expr $(, stack_size = $stack:expr)? $(, heap_size = $heap:expr)? $(,)?) => {
        #[cfg_attr(not(target_os = "none"), allow(dead_code))]
        extern "C" fn __sel4_microkit_entry() -> ! {
            $crate::_private::start($init)
        }
        $crate::_declare_entry!(__sel4_microkit_entry $(, $stack)?);
        $(
            #[cfg(target_os = "none")]
            const _: () = {
                static ARENA: $crate::_private::Arena<{ $heap }> = $crate::_private::Arena::new();
                #[global_allocator]
                static HEAP: $crate::_private::StaticHeap<{ $heap }> =
                    $crate::_private::StaticHeap::new(&ARENA);
            };
        )?
    };
}

/// The machine code of the entry, which keeps the symbols that the image tool looks for.
#[doc(hidden)]
#[macro_export]
macro_rules! _declare_entry {
    ($entry:ident) => {
        $crate::_declare_entry!(@ [] [] $entry);
    };
    ($entry:ident, $stack:expr) => {
        #[cfg(target_arch = "powerpc64")]
        static __SEL4_MICROKIT_STACK: $crate::_private::Stack<{ $stack }> =
            $crate::_private::Stack::new();
        $crate::_declare_entry!(
            @
            [
                "addis 1, 2, {stack}@toc@ha",
                "addi 1, 1, {stack}@toc@l",
                "addis 1, 1, {size}@ha",
                "addi 1, 1, {size}@l",
            ]
            [stack = sym __SEL4_MICROKIT_STACK, size = const ($stack) & !15usize,]
            $entry
        );
    };
    (@ [$($set_stack:literal,)*] [$($operands:tt)*] $entry:ident) => {
        $crate::_private::sel4::_entry!(
            set_stack = [$($set_stack,)*],
            keep = [
                "microkit_name",
                "microkit_passive",
                "microkit_irqs",
                "microkit_notifications",
                "microkit_pps",
                "microkit_ioports",
            ],
            operands = [$($operands)*],
            entry = $entry
        );
    };
}
