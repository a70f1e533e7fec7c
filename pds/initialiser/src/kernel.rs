// SPDX-License-Identifier: BSD-2-Clause
//! The kernel as the initialiser sees it.

use core::fmt::Debug;
use partita_abi::{CapRights, GuestExit, ObjectType};
use partita_capdl::Trigger;

/// A slot in some CNode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Capability of the CNode.
    pub cnode: u64,
    /// The slot.
    pub index: u64,
    /// Bits of `index` that are resolved.
    pub depth: u8,
}

/// Arguments of `TCBConfigure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadSpaces {
    /// Root of the CSpace.
    pub cspace: u64,
    /// Its guard word.
    pub cspace_data: u64,
    /// Address space.
    pub vspace: u64,
    /// Frame of the IPC buffer.
    pub ipc_buffer: u64,
    /// Address of the IPC buffer.
    pub ipc_buffer_vaddr: u64,
}

/// Invocations. Capabilities are slots of the caller's own CNode.
pub trait Kernel {
    /// What a refused invocation answers.
    type Error: Copy + Debug;

    /// `UntypedRetype` into own slots from `first`. `count` is at most `limits::RETYPE_FAN_OUT`.
    ///
    /// # Errors
    /// The kernel's answer; so for all methods.
    fn retype(
        &mut self,
        untyped: u64,
        object: ObjectType,
        size_bits: u8,
        first: u64,
        count: u32,
    ) -> Result<(), Self::Error>;
    /// `CNodeCopy`, or `CNodeMint` if there is a badge (or guard).
    fn copy(
        &mut self,
        to: Destination,
        from: u64,
        rights: CapRights,
        badge: Option<u64>,
    ) -> Result<(), Self::Error>;
    /// `CNodeDelete` of an own slot.
    fn delete(&mut self, slot: u64) -> Result<(), Self::Error>;
    /// `SchedControlConfigureFlags`.
    fn configure_sched_context(
        &mut self,
        control: u64,
        sc: u64,
        budget_us: u64,
        period_us: u64,
        badge: u64,
    ) -> Result<(), Self::Error>;
    /// `ASIDPoolAssign`.
    fn assign_asid(&mut self, pool: u64, vspace: u64) -> Result<(), Self::Error>;
    /// `PageTableMap`.
    fn map_table(&mut self, table: u64, vspace: u64, vaddr: u64) -> Result<(), Self::Error>;
    /// `PageMap`.
    fn map_page(
        &mut self,
        frame: u64,
        vspace: u64,
        vaddr: u64,
        rights: CapRights,
        executable: bool,
        cached: bool,
    ) -> Result<(), Self::Error>;
    /// `IRQIssueIRQHandlerTrigger` into an own slot.
    fn issue_irq_handler(
        &mut self,
        control: u64,
        irq: u64,
        trigger: Trigger,
        slot: u64,
    ) -> Result<(), Self::Error>;
    /// `IRQSetIRQHandler`.
    fn set_irq_notification(&mut self, handler: u64, notification: u64) -> Result<(), Self::Error>;
    /// `TimerSetNotification`.
    fn set_timer_notification(&mut self, timer: u64, notification: u64) -> Result<(), Self::Error>;
    /// `TCBConfigure`.
    fn configure_tcb(&mut self, tcb: u64, spaces: ThreadSpaces) -> Result<(), Self::Error>;
    /// `TCBSetSchedParams` with the caller's own thread as authority; `fault` 0 is none.
    fn set_sched_params(
        &mut self,
        tcb: u64,
        mcp: u8,
        priority: u8,
        sc: u64,
        fault: u64,
    ) -> Result<(), Self::Error>;
    /// `TCBBindNotification`.
    fn bind_notification(&mut self, tcb: u64, notification: u64) -> Result<(), Self::Error>;
    /// `TCBWriteRegisters` of pc and r1.
    fn set_registers(&mut self, tcb: u64, pc: u64, sp: u64) -> Result<(), Self::Error>;
    /// `DebugNameThread`, where the kernel has it.
    fn name_thread(&mut self, tcb: u64, name: &str);
    /// `TCBResume`.
    fn resume(&mut self, tcb: u64) -> Result<(), Self::Error>;
    /// `LPIDControlAssign`.
    fn assign_lpid(&mut self, control: u64, gspace: u64) -> Result<(), Self::Error>;
    /// `HPTBind`.
    fn bind_hpt(
        &mut self,
        hpt: u64,
        gspace: u64,
        gfns: u64,
        vrma_bits: u8,
    ) -> Result<(), Self::Error>;
    /// `HPTMapView`.
    fn map_hpt_view(&mut self, hpt: u64, vspace: u64, vaddr: u64) -> Result<(), Self::Error>;
    /// `GSpaceMakeView`.
    fn make_view(
        &mut self,
        gspace: u64,
        to: Destination,
        rights: CapRights,
    ) -> Result<(), Self::Error>;
    /// `VCPUBind`.
    fn bind_vcpu(&mut self, vcpu: u64, id: u64, tcb: u64, gspace: u64) -> Result<(), Self::Error>;
    /// `VCPUSetRoute`.
    fn set_vcpu_route(&mut self, vcpu: u64, route: u8, endpoint: u64) -> Result<(), Self::Error>;
    /// `VCPURouteHypercall`.
    fn route_hypercall(&mut self, vcpu: u64, number: u64, route: u8) -> Result<(), Self::Error>;
    /// `VCPURouteExit`.
    fn route_exit(&mut self, vcpu: u64, exit: GuestExit, route: u8) -> Result<(), Self::Error>;
}
