// SPDX-License-Identifier: BSD-2-Clause
//! Machine code of entry points. (`asm!` stands in [`crate::arch`]; an entry point must be part of
//! the program that it starts, and so is a macro.)

/// `_start`: TOC pointer, then `$set_stack`, zero back chain and the minimum frame of ELFv2, then
/// `extern "C" fn entry`, whose argument r3 is untouched. `$keep` are symbols that the linker keeps.
#[doc(hidden)]
#[macro_export]
macro_rules! _entry {
    (set_stack = [$($set_stack:literal,)*], keep = [$($keep:literal,)*],
     operands = [$($operands:tt)*], entry = $entry:path) => {
        #[cfg(target_arch = "powerpc64")]
        ::core::arch::global_asm!(
            ".section .text._start, \"ax\", @progbits",
            ".globl _start",
            ".type _start, @function",
            "_start:",
            "bcl 20, 31, 1f",
            "1: mflr 2",
            "addis 2, 2, (.TOC. - 1b)@ha",
            "addi 2, 2, (.TOC. - 1b)@l",
            $($set_stack,)*
            "li 0, 0",
            "stdu 0, -32(1)",
            "bl {entry}",
            "nop",
            "trap",
            // A relocation without effect makes the section refer to the symbol.
            $(::core::concat!(".reloc _start, R_PPC64_NONE, ", $keep),)*
            ".size _start, . - _start",
            ".text",
            $($operands)*
            entry = sym $entry,
        );
    };
}

/// Makes `extern "C" fn entry() -> !` the entry point of a program that is started with r1 = top of
/// its stack, as the image tool starts protection domains and the monitor.
#[macro_export]
macro_rules! thread_entry {
    ($entry:path) => {
        $crate::_entry!(set_stack = [], keep = [], operands = [], entry = $entry);
    };
}
