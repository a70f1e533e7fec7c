// SPDX-License-Identifier: BSD-2-Clause
//! What can be made from untyped memory.

use crate::{CapType, cap_type};
use partita_abi::ObjectType;

/// An object to make with `untyped_retype`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectBlueprint {
    /// Memory without a purpose.
    Untyped {
        /// log2 of the size in bytes.
        size_bits: usize,
    },
    /// Endpoint.
    Endpoint,
    /// Notification.
    Notification,
    /// Capability table.
    CNode {
        /// log2 of the number of slots.
        size_bits: usize,
    },
    /// Reply object.
    Reply,
    /// Scheduling context (of one size, unlike upstream's).
    SchedContext,
    /// Thread.
    Tcb,
    /// An object of this architecture.
    Arch(ObjectBlueprintArch),
}

/// An object that only this architecture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub enum ObjectBlueprintArch {
    /// Frame of 4 KiB.
    _4k,
    /// Frame of 64 KiB.
    _64k,
    /// Frame of 2 MiB.
    _2m,
    /// Page table.
    PT,
    /// Address space.
    VSpace,
    /// Timer.
    Timer,
    /// Table of guest pages.
    GPageTable,
    /// Guest-physical address space.
    GSpace,
    /// Hash page table.
    Hpt {
        /// log2 of the size in bytes, 18 to 36.
        size_bits: usize,
    },
    /// Guest frame numbers of a hash page table.
    HptGfns {
        /// log2 of the size in bytes.
        size_bits: usize,
    },
    /// Processor of a guest.
    VCpu,
}

impl ObjectBlueprint {
    /// The kernel's type number.
    pub const fn ty(self) -> ObjectType {
        match self {
            ObjectBlueprint::Untyped { .. } => ObjectType::Untyped,
            ObjectBlueprint::Endpoint => ObjectType::Endpoint,
            ObjectBlueprint::Notification => ObjectType::Notification,
            ObjectBlueprint::CNode { .. } => ObjectType::CNode,
            ObjectBlueprint::Reply => ObjectType::Reply,
            ObjectBlueprint::SchedContext => ObjectType::SchedContext,
            ObjectBlueprint::Tcb => ObjectType::Tcb,
            ObjectBlueprint::Arch(arch) => match arch {
                ObjectBlueprintArch::_4k => ObjectType::Frame4K,
                ObjectBlueprintArch::_64k => ObjectType::Frame64K,
                ObjectBlueprintArch::_2m => ObjectType::Frame2M,
                ObjectBlueprintArch::PT => ObjectType::PageTable,
                ObjectBlueprintArch::VSpace => ObjectType::VSpace,
                ObjectBlueprintArch::Timer => ObjectType::Timer,
                ObjectBlueprintArch::GPageTable => ObjectType::GPageTable,
                ObjectBlueprintArch::GSpace => ObjectType::GSpace,
                ObjectBlueprintArch::Hpt { .. } => ObjectType::Hpt,
                ObjectBlueprintArch::HptGfns { .. } => ObjectType::HptGfns,
                ObjectBlueprintArch::VCpu => ObjectType::VCpu,
            },
        }
    }

    /// `size_bits` as the kernel takes it: 0 for objects of one size.
    pub const fn api_size_bits(self) -> usize {
        match self {
            ObjectBlueprint::Untyped { size_bits }
            | ObjectBlueprint::CNode { size_bits }
            | ObjectBlueprint::Arch(
                ObjectBlueprintArch::Hpt { size_bits } | ObjectBlueprintArch::HptGfns { size_bits },
            ) => size_bits,
            _ => 0,
        }
    }

    /// log2 of the object's size in bytes.
    pub const fn physical_size_bits(self) -> usize {
        self.ty().bits() as usize + self.api_size_bits()
    }

    /// Scheduling context; the size that upstream's variant has counts for nothing here.
    pub const fn sched_context(_size_bits: usize) -> Self {
        ObjectBlueprint::SchedContext
    }
}

impl From<ObjectBlueprintArch> for ObjectBlueprint {
    fn from(arch: ObjectBlueprintArch) -> Self {
        ObjectBlueprint::Arch(arch)
    }
}

/// Sizes of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(non_camel_case_types)]
pub enum FrameObjectType {
    /// 4 KiB.
    _4k,
    /// 64 KiB.
    _64k,
    /// 2 MiB.
    _2m,
}

impl FrameObjectType {
    /// The smallest.
    pub const GRANULE: Self = FrameObjectType::_4k;
    /// All, from the smallest.
    pub const ALL: [Self; 3] = [Self::_4k, Self::_64k, Self::_2m];

    /// log2 of the bytes.
    pub const fn bits(self) -> usize {
        self.blueprint().ty().bits() as usize
    }

    /// Bytes.
    pub const fn bytes(self) -> usize {
        1 << self.bits()
    }

    /// The frame of 2^`bits` bytes, if there is one.
    pub const fn from_bits(bits: usize) -> Option<Self> {
        let mut i = 0;
        while i < Self::ALL.len() {
            if Self::ALL[i].bits() == bits {
                return Some(Self::ALL[i]);
            }
            i += 1;
        }
        None
    }

    /// For `untyped_retype`.
    pub const fn blueprint(self) -> ObjectBlueprint {
        ObjectBlueprint::Arch(match self {
            FrameObjectType::_4k => ObjectBlueprintArch::_4k,
            FrameObjectType::_64k => ObjectBlueprintArch::_64k,
            FrameObjectType::_2m => ObjectBlueprintArch::_2m,
        })
    }
}

/// Types of frame capabilities.
pub trait CapTypeForFrameObject: CapType {}

/// Types of frame capabilities that say the size.
pub trait CapTypeForFrameObjectOfFixedSize: CapTypeForFrameObject {
    /// The size.
    const FRAME_OBJECT_TYPE: FrameObjectType;
}

impl CapTypeForFrameObject for cap_type::UnspecifiedFrame {}
impl CapTypeForFrameObject for cap_type::_4k {}
impl CapTypeForFrameObject for cap_type::_64k {}
impl CapTypeForFrameObject for cap_type::_2m {}

impl CapTypeForFrameObjectOfFixedSize for cap_type::_4k {
    const FRAME_OBJECT_TYPE: FrameObjectType = FrameObjectType::_4k;
}
impl CapTypeForFrameObjectOfFixedSize for cap_type::_64k {
    const FRAME_OBJECT_TYPE: FrameObjectType = FrameObjectType::_64k;
}
impl CapTypeForFrameObjectOfFixedSize for cap_type::_2m {
    const FRAME_OBJECT_TYPE: FrameObjectType = FrameObjectType::_2m;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(
            ObjectBlueprint::CNode { size_bits: 9 }.physical_size_bits(),
            14
        );
        assert_eq!(
            ObjectBlueprint::Untyped { size_bits: 20 }.physical_size_bits(),
            20
        );
        assert_eq!(
            ObjectBlueprint::from(ObjectBlueprintArch::VSpace).physical_size_bits(),
            16
        );
        assert_eq!(FrameObjectType::_64k.bytes(), 65536);
        assert_eq!(FrameObjectType::from_bits(21), Some(FrameObjectType::_2m));
        assert_eq!(FrameObjectType::from_bits(13), None);
    }

    #[test]
    fn variable_objects_take_a_size() {
        let hpt = ObjectBlueprint::Arch(ObjectBlueprintArch::Hpt { size_bits: 24 });
        assert!(hpt.ty().is_variable());
        assert_eq!(hpt.physical_size_bits(), 24);
        assert!(!ObjectBlueprint::Tcb.ty().is_variable());
    }
}
