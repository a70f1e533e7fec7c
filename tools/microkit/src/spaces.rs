// SPDX-License-Identifier: BSD-2-Clause
//! Where things lie in the address space of a protection domain.

use crate::elf::PAGE;
use partita_abi::address_space;

/// From the top down: the page of the IPC buffer, a guard page, the stack, a guard page; below them
/// are program and mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spaces {
    /// The IPC buffer.
    pub ipc_buffer: u64,
    /// End of the stack; the stack pointer starts here.
    pub stack_top: u64,
    /// Lowest address of the stack.
    pub stack_bottom: u64,
    /// End of what program and mappings may use.
    pub limit: u64,
}

impl Spaces {
    /// The layout with a stack of `stack_size` bytes.
    pub const fn new(stack_size: u64) -> Self {
        let ipc_buffer = address_space::USER_VSPACE_TOP as u64 & !(PAGE - 1);
        let stack_top = ipc_buffer - PAGE;
        let stack_bottom = stack_top - stack_size;
        Spaces {
            ipc_buffer,
            stack_top,
            stack_bottom,
            limit: stack_bottom - PAGE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_down() {
        let s = Spaces::new(0x2000);
        assert_eq!(s.ipc_buffer, 0x3fff_ffff_f000);
        assert_eq!(s.stack_top, 0x3fff_ffff_e000);
        assert_eq!(s.stack_bottom, 0x3fff_ffff_c000);
        assert_eq!(s.limit, 0x3fff_ffff_b000);
    }
}
