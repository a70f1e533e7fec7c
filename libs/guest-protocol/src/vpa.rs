// SPDX-License-Identifier: BSD-2-Clause
//! Calls to `vpa` from `vcpu` and `control`. H_REGISTER_VPA and `Entry` exits come by the routes.
//!
//! [`RELEASE`] and [`UNREGISTER_ALL`] concern views of one instance: ask every instance.

/// Words: first gfn, number of pages, vCPU to begin with. Lets go of all areas in these pages.
/// Answer: [`DONE`]; [`MORE`], vCPU to go on with; or [`NOT_YET`], vCPU that is still inside.
pub const RELEASE: u64 = 1;
/// Words: vCPU, ONE_REG id. Answer: the two words of the value. Label 1 + [`Invalid`].
pub const GET: u64 = 2;
/// Words: vCPU, ONE_REG id, the two words of the value. Label 1 + [`Invalid`].
pub const SET: u64 = 3;
/// Word: vCPU. Unregisters all its areas. Answer as of [`RELEASE`].
pub const UNREGISTER_ALL: u64 = 4;
/// Words: first gfn, number of pages, vCPU to begin with. Moves what has been written into the dirty
/// log region. Answer as of [`RELEASE`].
pub const HARVEST_DIRTY: u64 = 5;

/// Complete, on this instance.
pub const DONE: u64 = 0;
/// Go on with the vCPU in word 1.
pub const MORE: u64 = 1;
/// The vCPU in word 1 has not passed its own entry: call again, beginning with it.
pub const NOT_YET: u64 = 2;

/// Why a value is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Invalid {
    /// No such vCPU.
    Vcpu = 0,
    /// No such id.
    Id = 1,
    /// The address is no multiple of 128.
    Alignment = 2,
    /// The length is too small.
    Length = 3,
    /// The area crosses a page.
    CrossesPage = 4,
    /// No slot has the page.
    NoSlot = 5,
    /// It needs a VPA.
    NeedsVpa = 6,
    /// The VPA is still needed.
    InUse = 7,
}

impl Invalid {
    /// All, in the order of their numbers.
    pub const ALL: [Invalid; 8] = [
        Invalid::Vcpu,
        Invalid::Id,
        Invalid::Alignment,
        Invalid::Length,
        Invalid::CrossesPage,
        Invalid::NoSlot,
        Invalid::NeedsVpa,
        Invalid::InUse,
    ];

    /// Label of the answer.
    pub const fn label(self) -> u64 {
        1 + self as u64
    }

    /// From the label of an answer.
    pub fn from_label(label: u64) -> Option<Self> {
        Invalid::ALL.into_iter().find(|i| i.label() == label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_come_back() {
        for invalid in Invalid::ALL {
            assert_eq!(Invalid::from_label(invalid.label()), Some(invalid));
        }
        assert_eq!(Invalid::from_label(0), None);
    }
}
