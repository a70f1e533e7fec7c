// SPDX-License-Identifier: BSD-2-Clause
//! Debug output through the kernel. It exists where the kernel prints; elsewhere the macros check
//! their arguments and do nothing.

use core::fmt;

/// Writes one byte to the kernel's console; nothing where the kernel does not print.
#[inline]
pub fn debug_put_char(byte: u8) {
    #[cfg(all(partita_printing, target_os = "none"))]
    crate::arch::debug(partita_abi::syscall::DEBUG_PUT_CHAR, byte.into());
    #[cfg(all(partita_printing, not(target_os = "none")))]
    std::eprint!("{}", byte as char);
    #[cfg(not(partita_printing))]
    let _ = byte;
}

struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        s.bytes().for_each(debug_put_char);
        Ok(())
    }
}

#[doc(hidden)]
pub fn _print(args: fmt::Arguments<'_>) {
    // Console never fails, and an error of a Display inside `args` has no better place to go.
    let _ = fmt::write(&mut Console, args);
}

/// Prints through the kernel.
#[cfg(partita_printing)]
#[macro_export]
macro_rules! debug_print {
    ($($arg:tt)*) => { $crate::_print(::core::format_args!($($arg)*)) };
}

/// Prints through the kernel, with a newline.
#[cfg(partita_printing)]
#[macro_export]
macro_rules! debug_println {
    () => { $crate::_print(::core::format_args!("\n")) };
    ($($arg:tt)*) => {
        $crate::_print(::core::format_args!("{}\n", ::core::format_args!($($arg)*)))
    };
}

/// Checks its arguments: this configuration does not print.
#[cfg(not(partita_printing))]
#[macro_export]
macro_rules! debug_print {
    ($($arg:tt)*) => { if false { $crate::_print(::core::format_args!($($arg)*)) } };
}

/// Checks its arguments: this configuration does not print.
#[cfg(not(partita_printing))]
#[macro_export]
macro_rules! debug_println {
    ($($arg:tt)*) => { if false { $crate::_print(::core::format_args!($($arg)*)) } };
}
