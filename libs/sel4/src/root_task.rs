// SPDX-License-Identifier: BSD-2-Clause
//! Entry of a root task.

use crate::{BootInfo, IpcBuffer};
use core::cell::UnsafeCell;
use core::panic::PanicInfo;

/// Bytes of the stack that [`root_task!`](crate::root_task!) makes.
pub const STACK_SIZE: usize = 0x10000;

/// Memory of a stack.
#[doc(hidden)]
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

#[doc(hidden)]
pub fn enter(boot_info: &'static BootInfo, main: fn(&'static BootInfo) -> !) -> ! {
    assert_eq!(
        boot_info.magic,
        partita_abi::bootinfo::BOOTINFO_MAGIC,
        "no boot information"
    );
    // SAFETY: the kernel maps the buffer there before it starts this thread, the program's only one.
    unsafe {
        crate::set_ipc_buffer(core::ptr::with_exposed_provenance_mut::<IpcBuffer>(
            boot_info.ipc_buffer as usize,
        ));
    }
    main(boot_info)
}

/// Reports a panic where the kernel prints, then traps.
pub fn panic(info: &PanicInfo) -> ! {
    crate::debug_println!("root task: {info}");
    crate::arch::trap()
}

/// Makes `fn main(&'static BootInfo) -> !` the entry point of a root task and installs a panic
/// handler: `panic = fn(&PanicInfo) -> !`, or [`panic()`] if there is none.
///
/// The kernel starts a root task with r3 = boot information and no stack.
#[macro_export]
macro_rules! root_task {
    (main = $main:path $(,)?) => {
        $crate::root_task!(main = $main, panic = $crate::root_task::panic);
    };
    (main = $main:path, panic = $panic:path $(,)?) => {
        static __SEL4_ROOT_TASK_STACK: $crate::root_task::Stack<{ $crate::root_task::STACK_SIZE }> =
            $crate::root_task::Stack::new();

        // The kernel maps one page of boot information for the root task, which stays and which
        // nobody writes to, and passes its address in r3.
        extern "C" fn __sel4_root_task_entry(boot_info: &'static $crate::BootInfo) -> ! {
            $crate::root_task::enter(boot_info, $main)
        }

        $crate::_entry!(
            set_stack = [
                "addis 1, 2, {stack}@toc@ha",
                "addi 1, 1, {stack}@toc@l",
                // The stack's size does not fit a 16-bit immediate.
                "addis 1, 1, {size}@ha",
                "addi 1, 1, {size}@l",
            ],
            keep = [],
            operands = [
                stack = sym __SEL4_ROOT_TASK_STACK,
                size = const $crate::root_task::STACK_SIZE,
            ],
            entry = __sel4_root_task_entry
        );

        #[panic_handler]
        fn __sel4_root_task_panic(info: &::core::panic::PanicInfo) -> ! {
            $panic(info)
        }
    };
}
