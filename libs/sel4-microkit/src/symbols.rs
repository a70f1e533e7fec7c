// SPDX-License-Identifier: BSD-2-Clause
//! Symbols that the image tool patches in the protection domain's ELF file.

use crate::defer::PreparedAction;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use partita_abi::microkit as abi;

/// A value that the image tool writes into the file. It lies in `.data`, so that the file has bytes
/// for it, and is read with volatile loads, so that the compiler does not use the initial value.
#[repr(transparent)]
pub struct Patched<T>(UnsafeCell<T>);

// SAFETY: nobody writes it while the program runs.
unsafe impl<T: Sync> Sync for Patched<T> {}

impl<T: Copy> Patched<T> {
    const fn new(value: T) -> Self {
        Patched(UnsafeCell::new(value))
    }

    /// The value.
    #[inline(always)]
    pub fn get(&self) -> T {
        // SAFETY: the cell is valid for reads and never written.
        unsafe { self.0.get().read_volatile() }
    }
}

macro_rules! patched {
    ($($(#[$attr:meta])* $name:ident: $ty:ty = $default:expr;)*) => {
        $(
            $(#[$attr])*
            // The entry point refers to each of them, so that the linker keeps them.
            #[unsafe(no_mangle)]
            #[cfg_attr(target_os = "none", unsafe(link_section = ".data.microkit"))]
            #[used]
            #[allow(non_upper_case_globals, reason = "the image tool's names")]
            pub static $name: Patched<$ty> = Patched::new($default);
        )*
    };
}

patched! {
    /// Name of the protection domain, padded with zeros.
    microkit_name: [u8; abi::MAX_NAME] = [0; abi::MAX_NAME];
    /// Whether it is passive: a byte.
    microkit_passive: u8 = 0;
    /// Interrupts: a bit for each channel.
    microkit_irqs: u64 = 0;
    /// Channels that it may notify.
    microkit_notifications: u64 = 0;
    /// Channels whose protected procedure it may call.
    microkit_pps: u64 = 0;
    /// I/O ports: none on this architecture, but the image tools look for the symbol.
    microkit_ioports: u64 = 0;
}

/// Whether the protection domain is passive.
pub fn pd_is_passive() -> bool {
    microkit_passive.get() != 0
}

/// Name of the protection domain.
///
/// # Errors
///
/// If the image tool's name is not UTF-8 (a long name may be cut inside a character).
pub fn pd_name() -> Result<&'static str, core::str::Utf8Error> {
    // SAFETY: the cell is never written while the program runs.
    let bytes: &'static [u8] = unsafe { &*microkit_name.0.get() };
    // The compiler must not take the initial zeros for the value.
    let bytes = core::hint::black_box(bytes);
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    core::str::from_utf8(&bytes[..end])
}

/// The message to the monitor that makes a passive protection domain passive.
pub(crate) fn passive_hand_over() -> Option<PreparedAction> {
    pd_is_passive().then_some(PreparedAction {
        cptr: abi::MONITOR_EP_SLOT as u64,
        info: 0,
    })
}

/// A variable in `.data` that the image tool may patch and the program does not write.
#[doc(hidden)]
#[derive(Debug)]
#[repr(transparent)]
pub struct ImmutableCell<T>(UnsafeCell<T>);

// SAFETY: nobody writes it while the program runs.
unsafe impl<T: Sync> Sync for ImmutableCell<T> {}

impl<T> ImmutableCell<T> {
    /// With its value before patching.
    pub const fn new(value: T) -> Self {
        ImmutableCell(UnsafeCell::new(value))
    }

    /// The variable. The compiler knows nothing of its value.
    #[inline]
    pub fn get(&'static self) -> &'static T {
        // SAFETY: never written while the program runs.
        unsafe { &*self.0.get() }
    }
}

/// `var!(symbol: T = DEFAULT)`: a `&'static T` whose symbol the image tool patches (`setvar`
/// attributes of the system description).
#[macro_export]
macro_rules! var {
    ($(#[$attr:meta])* $symbol:ident: $ty:ty = $default:expr) => {{
        $(#[$attr])*
        #[allow(non_upper_case_globals)]
        #[unsafe(no_mangle)]
        #[cfg_attr(target_os = "none", unsafe(link_section = ".data"))]
        #[used]
        static $symbol: $crate::ImmutableCell<$ty> = $crate::ImmutableCell::new($default);
        $symbol.get()
    }};
}

/// The address of a memory region from a symbol that the image tool patches (`setvar_vaddr`):
/// `symbol: *mut T` or `symbol: *mut [T], n = N`, each optionally with `bytes = SIZE`, the size of
/// the region, which is compared with the type's.
///
/// # Panics
///
/// If the symbol was not patched, or the sizes differ.
#[macro_export]
macro_rules! memory_region_symbol {
    ($(#[$attr:meta])* $symbol:ident: *mut [$ty:ty], n = $n:expr, bytes = $bytes:expr $(,)?) => {{
        let region = $crate::memory_region_symbol!($(#[$attr])* $symbol: *mut [$ty], n = $n);
        let (n, bytes): (usize, usize) = ($n, $bytes);
        assert!(n.checked_mul(size_of::<$ty>()) == Some(bytes), "size of {}", stringify!($symbol));
        region
    }};
    ($(#[$attr:meta])* $symbol:ident: *mut [$ty:ty], n = $n:expr $(,)?) => {
        $crate::_private::slice_region::<$ty>(
            stringify!($symbol),
            *$crate::var!($(#[$attr])* $symbol: usize = 0),
            $n,
        )
    };
    ($(#[$attr:meta])* $symbol:ident: *mut $ty:ty, bytes = $bytes:expr $(,)?) => {{
        let region = $crate::memory_region_symbol!($(#[$attr])* $symbol: *mut $ty);
        assert!(size_of::<$ty>() == $bytes, "size of {}", stringify!($symbol));
        region
    }};
    ($(#[$attr:meta])* $symbol:ident: *mut $ty:ty $(,)?) => {
        $crate::_private::region::<$ty>(
            stringify!($symbol),
            *$crate::var!($(#[$attr])* $symbol: usize = 0),
        )
    };
}

#[doc(hidden)]
pub fn region<T>(symbol: &str, vaddr: usize) -> NonNull<T> {
    match NonNull::new(core::ptr::with_exposed_provenance_mut::<T>(vaddr)) {
        Some(pointer) => pointer,
        None => panic!("the system description does not set {symbol}"),
    }
}

#[doc(hidden)]
pub fn slice_region<T>(symbol: &str, vaddr: usize, n: usize) -> NonNull<[T]> {
    NonNull::slice_from_raw_parts(region::<T>(symbol, vaddr), n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpatched_symbols() {
        assert!(!pd_is_passive());
        assert_eq!(pd_name(), Ok(""));
        assert_eq!(passive_hand_over(), None);
        assert_eq!(*var!(symbols_test_var: usize = 17), 17);
    }

    #[test]
    #[should_panic(expected = "does not set symbols_test_region")]
    fn unpatched_region() {
        memory_region_symbol!(symbols_test_region: *mut u64);
    }

    #[test]
    fn patched_region() {
        let region = slice_region::<u32>("r", 0x1000, 4);
        assert_eq!(
            (region.cast::<u32>().addr().get(), region.len()),
            (0x1000, 4)
        );
    }
}
