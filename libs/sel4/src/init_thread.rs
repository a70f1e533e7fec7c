// SPDX-License-Identifier: BSD-2-Clause
//! The root task's capabilities at boot.

use crate::{CPtr, CPtrBits, Cap, CapType, cap_type};
use core::marker::PhantomData;

/// A slot of the root task's CNode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<T: CapType = cap_type::Unspecified> {
    index: usize,
    phantom: PhantomData<T>,
}

impl<T: CapType> Slot<T> {
    /// The slot with this number.
    pub const fn from_index(index: usize) -> Self {
        Slot {
            index,
            phantom: PhantomData,
        }
    }

    /// Its number.
    pub const fn index(self) -> usize {
        self.index
    }

    /// The pointer to it: the boot CSpace's guard makes it the number.
    pub const fn cptr(self) -> CPtr {
        CPtr::from_bits(self.index as CPtrBits)
    }

    /// The capability in it.
    pub const fn cap(self) -> Cap<T> {
        Cap::from_cptr(self.cptr())
    }

    /// The same as another type.
    pub const fn cast<T1: CapType>(self) -> Slot<T1> {
        Slot::from_index(self.index)
    }
}

/// Slots that are the same at every boot.
pub mod slot {
    use super::Slot;
    use crate::cap_type;
    use partita_abi::init_cnode as n;

    /// Always empty.
    pub const NULL: Slot<cap_type::Null> = Slot::from_index(n::NULL);
    /// The root task's thread.
    pub const TCB: Slot<cap_type::Tcb> = Slot::from_index(n::TCB);
    /// Its CNode.
    pub const CNODE: Slot<cap_type::CNode> = Slot::from_index(n::CNODE);
    /// Its address space.
    pub const VSPACE: Slot<cap_type::VSpace> = Slot::from_index(n::VSPACE);
    /// Authority over interrupts.
    pub const IRQ_CONTROL: Slot<cap_type::IrqControl> = Slot::from_index(n::IRQ_CONTROL);
    /// Authority over address space identifiers.
    pub const ASID_CONTROL: Slot<cap_type::AsidControl> = Slot::from_index(n::ASID_CONTROL);
    /// The root task's pool of them.
    pub const ASID_POOL: Slot<cap_type::AsidPool> = Slot::from_index(n::ASID_POOL);
    /// Power and clock.
    pub const PLATFORM_CONTROL: Slot<cap_type::PlatformControl> =
        Slot::from_index(n::PLATFORM_CONTROL);
    /// Authority over LPIDs.
    pub const LPID_CONTROL: Slot<cap_type::LpidControl> = Slot::from_index(n::LPID_CONTROL);
    /// Frame of the boot information.
    pub const BOOT_INFO_FRAME: Slot<cap_type::Granule> = Slot::from_index(n::BOOT_INFO);
    /// Frame of the IPC buffer.
    pub const IPC_BUFFER: Slot<cap_type::Granule> = Slot::from_index(n::IPC_BUFFER);
    /// A reply object.
    pub const REPLY: Slot<cap_type::Reply> = Slot::from_index(n::REPLY);
    /// The root task's scheduling context.
    pub const SC: Slot<cap_type::SchedContext> = Slot::from_index(n::SCHED_CONTEXT);
}

/// Stops the root task for good.
pub fn suspend_self() -> ! {
    loop {
        // An error leaves the thread running; there is nothing better than to try again.
        let _ = slot::TCB.cap().tcb_suspend();
    }
}
