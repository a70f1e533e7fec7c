// SPDX-License-Identifier: BSD-2-Clause
//! Panics: a hook reports, then the protection domain traps, which its parent or the monitor sees.

use core::cell::Cell;
use core::panic::{PanicInfo, UnwindSafe};

/// Called for each panic.
pub type PanicHook = &'static (dyn Fn(&PanicInfo) + Send + Sync);

struct Hook(Cell<PanicHook>);

// SAFETY: a protection domain has one thread.
#[cfg(target_os = "none")]
unsafe impl Sync for Hook {}

#[cfg(target_os = "none")]
static HOOK: Hook = Hook(Cell::new(&default_hook));

#[cfg(not(target_os = "none"))]
std::thread_local! {
    static HOOK: Hook = Hook(Cell::new(&default_hook));
}

/// Sets the hook. The default prints the protection domain's name and the panic where the kernel
/// prints.
pub fn set_hook(hook: PanicHook) {
    #[cfg(target_os = "none")]
    HOOK.0.set(hook);
    #[cfg(not(target_os = "none"))]
    HOOK.with(|h| h.0.set(hook));
}

/// Runs `f`. Nothing unwinds here, so a panic inside ends the protection domain and `Err` never
/// comes back.
///
/// # Errors
///
/// None.
#[allow(clippy::result_unit_err, reason = "upstream's signature")]
pub fn catch_unwind<R, F: FnOnce() -> R + UnwindSafe>(f: F) -> Result<R, ()> {
    Ok(f())
}

fn default_hook(info: &PanicInfo) {
    sel4::debug_println!("{}: {info}", crate::pd_name().unwrap_or("?"));
}

/// What a panic does before the trap.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic_handler(info: &PanicInfo) -> ! {
    (HOOK.0.get())(info);
    sel4::arch::trap()
}

/// Ends the protection domain because its handler returned an error.
pub(crate) fn abort(error: &dyn core::fmt::Display) -> ! {
    sel4::debug_println!(
        "{}: main thread terminated with error: {error}",
        crate::pd_name().unwrap_or("?")
    );
    sel4::arch::trap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catch_unwind_runs() {
        assert_eq!(catch_unwind(|| 3), Ok(3));
    }
}
