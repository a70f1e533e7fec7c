// SPDX-License-Identifier: BSD-2-Clause
//! What the image tool tells the monitor.

use core::cell::UnsafeCell;
use partita_abi::microkit::{MAX_NAME, MAX_PDS};

/// A value that the image tool writes into the file; nobody writes it while the program runs.
#[derive(Debug)]
#[repr(transparent)]
pub struct Patched<T>(UnsafeCell<T>);

// SAFETY: nobody writes it while the program runs.
unsafe impl<T: Sync> Sync for Patched<T> {}

impl<T> Patched<T> {
    const fn new(value: T) -> Self {
        Patched(UnsafeCell::new(value))
    }

    /// The value. The compiler does not know it from the initial one.
    pub fn get(&'static self) -> &'static T {
        // SAFETY: never written while the program runs.
        core::hint::black_box(unsafe { &*self.0.get() })
    }
}

macro_rules! patched {
    ($($(#[$attr:meta])* $name:ident: $ty:ty = $default:expr;)*) => {
        $(
            $(#[$attr])*
            #[unsafe(no_mangle)]
            #[cfg_attr(target_os = "none", unsafe(link_section = ".data.microkit"))]
            #[used]
            #[allow(non_upper_case_globals, reason = "the image tool's names")]
            pub static $name: Patched<$ty> = Patched::new($default);
        )*
    };
}

patched! {
    /// Number of protection domains.
    pd_names_len: u64 = 0;
    /// Their names, padded with zeros.
    pd_names: [[u8; MAX_NAME]; MAX_PDS] = [[0; MAX_NAME]; MAX_PDS];
    /// Lowest addresses of their stacks.
    pd_stack_bottom_addrs: [u64; MAX_PDS] = [0; MAX_PDS];
}

/// The name in a padded field, as far as it is UTF-8.
pub fn name(field: &[u8; MAX_NAME]) -> &str {
    let end = field.iter().position(|&b| b == 0).unwrap_or(MAX_NAME);
    match core::str::from_utf8(&field[..end]) {
        Ok(name) => name,
        Err(error) => core::str::from_utf8(&field[..error.valid_up_to()]).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_where_they_end() {
        let mut field = [0; MAX_NAME];
        assert_eq!(name(&field), "");
        field[..5].copy_from_slice(b"hello");
        assert_eq!(name(&field), "hello");
        assert_eq!(name(&[b'x'; MAX_NAME]).len(), MAX_NAME);
        field[3..6].copy_from_slice(&[b'l', 0xc3, 0]);
        assert_eq!(name(&field), "hell", "a name cut inside a character");
    }
}
