// SPDX-License-Identifier: BSD-2-Clause
//! Header and commands.

use serde::{Deserialize, Serialize};

/// First value of a specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`crate::MAGIC`].
    pub magic: u32,
    /// [`crate::VERSION`].
    pub version: u16,
    /// Empty slots that the commands use, numbered from 0: slot `n` is the `n`-th empty slot of the
    /// root task's CNode.
    pub slots: u32,
    /// Empty slots after those, for pieces of untyped memory that are split off on the way to a
    /// given real address.
    pub split_slots: u32,
    /// Frames of the boot image that the commands use, numbered in the order of the image's table.
    pub image_frames: u32,
    /// Number of commands.
    pub commands: u32,
}

/// A capability in the root task's CSpace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CapRef {
    /// The `n`-th empty slot.
    Slot(u32),
    /// The `n`-th frame of the boot image.
    ImageFrame(u32),
    /// A slot that the kernel fills at boot (`partita_abi::init_cnode`).
    Boot(u32),
}

impl CapRef {
    /// The reference `n` places further.
    #[must_use]
    pub const fn offset(self, n: u32) -> CapRef {
        match self {
            CapRef::Slot(i) => CapRef::Slot(i + n),
            CapRef::ImageFrame(i) => CapRef::ImageFrame(i + n),
            CapRef::Boot(i) => CapRef::Boot(i + n),
        }
    }
}

/// How an interrupt source signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trigger {
    /// Asserted until the device is served.
    Level,
    /// One event.
    Edge,
}

/// Where a thread's faults go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// An endpoint.
    pub endpoint: CapRef,
    /// Badge of the thread's capability to it.
    pub badge: u64,
}

/// One step. Rights are `partita_abi::CapRights` bits; object types are numbers of
/// `partita_abi::ObjectType`; addresses of `vaddr` are virtual, of `paddr` real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command<'a> {
    /// Makes `count` objects from untyped memory, the caps in slots `first`...
    Create {
        /// First slot.
        first: u32,
        /// How many.
        count: u32,
        /// Number of the object type.
        object: u8,
        /// log2 of the bytes of one object, or of its slots for a CNode.
        size_bits: u8,
        /// log2 of the bytes of one object.
        bytes_bits: u8,
        /// Name of the first object, for messages.
        name: &'a str,
    },
    /// As `Create`, at a given real address (device memory or ordinary memory). In ascending order
    /// of `paddr`, before every `Create`.
    CreateAt {
        /// First slot.
        first: u32,
        /// How many, one behind the other.
        count: u32,
        /// Number of the object type.
        object: u8,
        /// log2 of the bytes of one object; not a CNode.
        size_bits: u8,
        /// Real address of the first.
        paddr: u64,
        /// Name of the first object, for messages.
        name: &'a str,
    },
    /// Budget and period of a scheduling context.
    ConfigureSchedContext {
        /// The scheduling context.
        sc: CapRef,
        /// Index of the core.
        core: u32,
        /// Microseconds.
        budget_us: u64,
        /// Microseconds; equal to the budget for a thread without a limit.
        period_us: u64,
        /// Word of a timeout fault.
        badge: u64,
    },
    /// Gives an address space its PID.
    AssignAsid {
        /// The VSpace.
        vspace: CapRef,
    },
    /// Puts a page table into the next missing level of an address space.
    MapTable {
        /// The page table.
        table: CapRef,
        /// The VSpace.
        vspace: CapRef,
        /// First address that it serves.
        vaddr: u64,
    },
    /// Copies capabilities within the root task's CSpace: a frame cap holds one mapping, so each
    /// further mapping needs a cap of its own.
    CopyCaps {
        /// First slot of the copies.
        first: u32,
        /// First source.
        source: CapRef,
        /// How many.
        count: u32,
    },
    /// Maps `count` frames one behind the other.
    MapPages {
        /// First frame; the others follow it.
        frame: CapRef,
        /// How many.
        count: u32,
        /// log2 of the frame size.
        page_bits: u8,
        /// The VSpace.
        vspace: CapRef,
        /// Address of the first.
        vaddr: u64,
        /// Read and write.
        rights: u8,
        /// Instructions may be fetched.
        executable: bool,
        /// Ordinary memory; false: cache-inhibited and guarded.
        cached: bool,
    },
    /// Makes the handler of an interrupt source.
    IssueIrqHandler {
        /// Slot of the handler.
        slot: u32,
        /// Interrupt source number.
        irq: u64,
        /// How it signals.
        trigger: Trigger,
    },
    /// Connects a handler to a notification.
    SetIrqNotification {
        /// The handler.
        handler: CapRef,
        /// The notification.
        notification: CapRef,
        /// Badge of the signal.
        badge: u64,
    },
    /// Connects a timer to a notification.
    SetTimerNotification {
        /// The timer.
        timer: CapRef,
        /// The notification.
        notification: CapRef,
        /// Badge of the signal.
        badge: u64,
    },
    /// Puts a capability into a CNode.
    Place {
        /// The CNode.
        cnode: CapRef,
        /// Slot in it.
        index: u32,
        /// log2 of its slots.
        depth: u8,
        /// What to copy.
        source: CapRef,
        /// Rights of the copy, within those of the source.
        rights: u8,
        /// Badge of an endpoint or notification, guard of a CNode.
        badge: Option<u64>,
    },
    /// Sets the spaces of a thread.
    ConfigureTcb {
        /// The thread.
        tcb: CapRef,
        /// Root of its CSpace.
        cspace: CapRef,
        /// Guard of that root (`guard << 6 | bits`).
        cspace_data: u64,
        /// Its address space.
        vspace: CapRef,
        /// Frame of its IPC buffer.
        ipc_buffer: CapRef,
        /// Address of its IPC buffer.
        ipc_buffer_vaddr: u64,
    },
    /// Sets priority, scheduling context and fault handler.
    SetSchedParams {
        /// The thread.
        tcb: CapRef,
        /// Highest priority that it may give.
        mcp: u8,
        /// Its priority.
        priority: u8,
        /// Its scheduling context.
        sc: CapRef,
        /// Its fault handler.
        fault: Option<Fault>,
    },
    /// Binds a notification to a thread.
    BindNotification {
        /// The thread.
        tcb: CapRef,
        /// The notification.
        notification: CapRef,
    },
    /// First instruction and stack of a thread.
    SetRegisters {
        /// The thread.
        tcb: CapRef,
        /// First instruction.
        pc: u64,
        /// Top of the stack, 16-byte aligned.
        sp: u64,
    },
    /// Name of a thread (debug configuration).
    NameThread {
        /// The thread.
        tcb: CapRef,
        /// Its name.
        name: &'a str,
    },
    /// Deletes capabilities.
    Delete {
        /// First one.
        first: CapRef,
        /// How many.
        count: u32,
    },
    /// Deletes what the kernel gave at boot and only a creator needs: untyped memory and its pieces,
    /// SchedControl, IRQControl, ASIDControl, LPID and platform capabilities. The ASID pool stays:
    /// the address spaces' PIDs are in it.
    DropBootCaps,
    /// Starts a thread.
    Resume {
        /// The thread.
        tcb: CapRef,
    },
    /// Gives a guest-physical address space its LPID.
    AssignLpid {
        /// The GSpace.
        gspace: CapRef,
    },
    /// Makes a hash page table that of a guest.
    BindHpt {
        /// The table.
        hpt: CapRef,
        /// The GSpace, which has an LPID.
        gspace: CapRef,
        /// Its array of guest frame numbers.
        gfns: CapRef,
        /// log2 of the page size of the virtual real mode area: 12, 16 or 24.
        vrma_bits: u8,
    },
    /// Shows a bound hash page table, read-only, in an address space that has the tables for it.
    MapHptView {
        /// The table.
        hpt: CapRef,
        /// The VSpace.
        vspace: CapRef,
        /// First address.
        vaddr: u64,
    },
    /// Puts a view of a GSpace into a CNode. Before any copy of the GSpace's capability is made: a copy
    /// then stands beside the original, which shows that the original is not the last one.
    MakeView {
        /// The GSpace.
        gspace: CapRef,
        /// The CNode.
        cnode: CapRef,
        /// Slot in it.
        index: u32,
        /// log2 of its slots.
        depth: u8,
        /// Read, or read and write.
        rights: u8,
    },
    /// Makes a thread, which has its scheduling context, the processor of a guest.
    BindVcpu {
        /// The VCPU.
        vcpu: CapRef,
        /// Number of the processor.
        id: u64,
        /// The thread.
        tcb: CapRef,
        /// The GSpace.
        gspace: CapRef,
    },
    /// Sets an endpoint of a VCPU's table of routes.
    SetVcpuRoute {
        /// The VCPU.
        vcpu: CapRef,
        /// Number of the route.
        route: u8,
        /// The endpoint.
        endpoint: CapRef,
        /// Badge of the VCPU's capability to it.
        badge: u64,
    },
    /// Sends a hypercall to a route.
    RouteHypercall {
        /// The VCPU.
        vcpu: CapRef,
        /// Number of the hypercall.
        number: u64,
        /// Number of the route.
        route: u8,
    },
    /// Sends another exit to a route.
    RouteExit {
        /// The VCPU.
        vcpu: CapRef,
        /// `partita_abi::GuestExit`.
        exit: u8,
        /// Number of the route.
        route: u8,
    },
}
