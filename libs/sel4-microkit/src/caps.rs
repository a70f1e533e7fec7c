// SPDX-License-Identifier: BSD-2-Clause
//! Capabilities of a protection domain that no channel or child names. (Addition to upstream.)

use partita_abi::{address_space::WORD_BITS, microkit as slots};
use sel4::{CPtr, Cap, CapType, cap};

/// The capability that the system description puts into `slot` with an element of `<cspace>`.
///
/// # Panics
///
/// If `slot` is not one of 1 to 63.
pub const fn cspace_cap<T: CapType>(slot: usize) -> Cap<T> {
    assert!(
        slot > 0 && slot < 1 << slots::ROOT_CNODE_BITS,
        "slots of <cspace> are 1 to 63"
    );
    // The root CNode resolves the highest bits, and slot 0 of it is the CNode of all else.
    Cap::from_cptr(CPtr::from_bits(
        (slot as u64) << (WORD_BITS - slots::ROOT_CNODE_BITS),
    ))
}

/// The protection domain's own address space.
pub const fn own_vspace() -> cap::VSpace {
    Cap::from_bits(slots::VSPACE_SLOT as u64)
}

/// A guest's processor whose parent this protection domain is.
#[derive(Debug, Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vcpu {
    index: usize,
}

impl Vcpu {
    /// The processor with this identifier.
    #[inline]
    pub const fn new(index: usize) -> Self {
        Vcpu { index }
    }

    /// Its identifier.
    #[inline]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Its thread.
    #[inline]
    pub const fn tcb(&self) -> cap::Tcb {
        Cap::from_bits((slots::VCPU_TCB_BASE + self.index) as u64)
    }

    /// The processor.
    #[inline]
    pub const fn vcpu(&self) -> cap::VCpu {
        Cap::from_bits((slots::VCPU_BASE + self.index) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers() {
        assert_eq!(cspace_cap::<sel4::cap_type::Untyped>(5).bits(), 5 << 58);
        assert_eq!(Vcpu::new(2).vcpu().bits(), 332);
        assert_eq!(Vcpu::new(2).tcb().bits(), 268);
    }

    #[test]
    #[should_panic(expected = "1 to 63")]
    fn no_such_slot() {
        let _ = cspace_cap::<sel4::cap_type::Untyped>(64);
    }
}
