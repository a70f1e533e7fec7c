// SPDX-License-Identifier: BSD-2-Clause
//! What the platform needs from the kernel and from other PDs.

use crate::VcpuId;
use crate::reply::Interrupt;
use partita_papr::Gfn;

/// The kernel does not allow it in the vCPU's present state, or the vCPU is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// No frame is behind the guest page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBacked;

/// Answer of `VCPU_Pause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Idle, stopped, or out with no call in flight.
    Done,
    /// A `Paused` exit follows.
    NotYet,
}

/// Registers that the platform reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// MSR.
    Msr,
    /// SPRG0.
    Sprg0,
    /// Completed-instruction breakpoint; the kernel drops a hypervisor privilege.
    Ciabr,
    /// Hypervisor facility status and control; the kernel keeps the facilities it does not allow.
    Hfscr,
    /// Guest's timebase minus the machine's, ticks; the kernel rounds it up to a multiple of 2^24.
    TbOffset,
}

/// Where a vCPU starts: every register that is not named is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartState {
    /// Program counter.
    pub pc: u64,
    /// r3.
    pub r3: u64,
    /// MSR.
    pub msr: u64,
}

impl StartState {
    /// Real mode, 64 bit, big-endian: MSR = SF | ME (P4.1, P4.3).
    pub const fn new(pc: u64, r3: u64) -> Self {
        StartState {
            pc,
            r3,
            msr: (1 << 63) | (1 << 12),
        }
    }
}

/// A change of LPCR for all vCPUs of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionMode {
    /// ILE and the LE bit of injected interrupts.
    LittleEndianInterrupts(bool),
    /// AIL: 3 if true, else 0.
    TranslatedInterrupts(bool),
}

/// What the guest asks for as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerEvent {
    /// RTAS power-off.
    Off,
    /// RTAS system-reboot.
    Reboot,
    /// RTAS ibm,os-term, or the guest cannot go on.
    Crashed,
}

/// UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealTime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds of the second, below 1_000_000_000.
    pub nanoseconds: u32,
}

/// Kernel operations on the guest's vCPUs, and the host's services. Nothing here waits.
pub trait Machine {
    /// Reads a register of a vCPU that is paused, stopped or in an exit to us.
    fn read_register(&mut self, vcpu: VcpuId, register: Register) -> Result<u64, Refused>;
    /// Writes a register of a vCPU that is paused or stopped.
    fn write_register(
        &mut self,
        vcpu: VcpuId,
        register: Register,
        value: u64,
    ) -> Result<(), Refused>;
    /// Gives every register of a paused or stopped vCPU its value at a start.
    fn write_start_state(&mut self, vcpu: VcpuId, state: StartState) -> Result<(), Refused>;
    /// `VCPU_Pause`.
    fn pause(&mut self, vcpu: VcpuId) -> Pause;
    /// `VCPU_Resume`: ends a pause or a stop, latched.
    fn resume(&mut self, vcpu: VcpuId);
    /// `VCPU_Kick`: ends an idle sleep, latched.
    fn kick(&mut self, vcpu: VcpuId);
    /// The level of the external interrupt line; a raised line wakes an idle vCPU.
    fn set_external_line(&mut self, vcpu: VcpuId, raised: bool);
    /// `VCPU_Inject`: the interrupt is taken at the next entry; wakes an idle vCPU.
    fn inject(&mut self, vcpu: VcpuId, interrupt: Interrupt) -> Result<(), Refused>;
    /// Changes a mode of the whole guest; complete before it returns.
    fn set_partition_mode(&mut self, mode: PartitionMode) -> Result<(), Refused>;
    /// The machine's timebase, ticks.
    fn timebase(&mut self) -> u64;
    /// The vCPU's yield count, if it has a VPA.
    fn yield_count(&mut self, vcpu: VcpuId) -> Option<u32>;
    /// 64 random bits, if there is a source.
    fn random(&mut self) -> Option<u64>;
    /// The host's clock, if it has one.
    fn real_time(&mut self) -> Option<RealTime>;
    /// Tells the operator.
    fn power(&mut self, event: PowerEvent);
    /// Writes all of `bytes` (at most 16) to a terminal, or nothing and false if they do not fit.
    fn put_chars(&mut self, terminal: usize, bytes: &[u8]) -> bool;
}

/// Guest memory. `offset + buffer.len()` is at most 4096.
pub trait GuestMemory {
    /// Copies out of a guest page.
    fn read(&mut self, page: Gfn, offset: usize, buffer: &mut [u8]) -> Result<(), NotBacked>;
    /// Copies into a guest page.
    fn write(&mut self, page: Gfn, offset: usize, bytes: &[u8]) -> Result<(), NotBacked>;
}
