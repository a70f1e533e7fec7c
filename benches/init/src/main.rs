// SPDX-License-Identifier: BSD-2-Clause
//! `/init` of a Linux guest whose boot is measured from outside: it writes a line and powers off.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod init {
    use core::arch::global_asm;

    // System calls of Linux on POWER: number in r0, arguments in r3 to r6.
    global_asm!(
        ".text",
        ".globl _start",
        "_start:",
        "li 0, 4", // write
        "li 3, 1",
        "lis 4, line@h",
        "ori 4, 4, line@l",
        "li 5, line_end - line",
        "sc",
        // The line is out when the measuring debugger stops here.
        ".globl bench_line_written",
        "bench_line_written:",
        "li 0, 88", // reboot
        "lis 3, 0xfee1",
        "ori 3, 3, 0xdead",
        "lis 4, 0x2812",
        "ori 4, 4, 0x1969",
        "lis 5, 0x4321", // power off
        "ori 5, 5, 0xfedc",
        "sc",
        "1: b 1b",
        ".section .rodata",
        "line: .ascii \"the first line of init\\n\"",
        "line_end:",
        ".text",
    );

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
}
