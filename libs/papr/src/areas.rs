// SPDX-License-Identifier: BSD-2-Clause
//! The per-vCPU areas that a guest registers: VPA (lppaca), SLB shadow, dispatch trace log
//! (S3.1 to S3.3). All fields are big-endian. They lie in guest memory, which changes under us:
//! copy, then check.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Alignment of every area in bytes: a line of the L1 cache.
pub const ALIGN: u64 = 128;
/// Least length of a VPA.
pub const VPA_SIZE: usize = 640;
/// Least length of an SLB shadow buffer.
pub const SLB_SHADOW_MIN: usize = 16;
/// Bytes of a [`DtlEntry`].
pub const DTL_ENTRY_SIZE: usize = 48;
/// Eye catcher of a VPA.
pub const VPA_EYE_CATCHER: u32 = 0xd397_d781;
/// [`Vpa::old_status`]: the processor is shared.
pub const VPA_SHARED: u8 = 2;
/// [`Vpa::dtl_enable_mask`]: log dispatches after a cede.
pub const DTL_LOG_CEDE: u8 = 1;
/// [`Vpa::dtl_enable_mask`]: log dispatches after a preemption.
pub const DTL_LOG_PREEMPT: u8 = 2;
/// [`Vpa::dtl_enable_mask`]: log dispatches after a fault.
pub const DTL_LOG_FAULT: u8 = 4;

/// Virtual processor area, 640 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Vpa {
    /// 0x000 [`VPA_EYE_CATCHER`]; the guest writes it.
    pub eye_catcher: U32,
    /// 0x004 length in bytes as the guest says.
    pub size: U16,
    _reserved_006: [u8; 3],
    /// 0x009 bit 1 says that the processor is shared; the hypervisor writes it.
    pub old_status: u8,
    _reserved_00a: [u8; 14],
    /// 0x018 hardware node.
    pub hw_node_id: U32,
    /// 0x01c hardware processor.
    pub hw_proc_id: U32,
    _reserved_020: [u8; 56],
    /// 0x058 associativity change counters.
    pub vphn_counters: [u8; 8],
    _reserved_060: [u8; 80],
    /// 0x0b0 latency hint for H_CEDE.
    pub cede_latency_hint: u8,
    /// 0x0b1 event-based branch registers in use.
    pub ebb_regs_in_use: u8,
    _reserved_0b2: [u8; 6],
    /// 0x0b8 what to log: [`DTL_LOG_CEDE`], [`DTL_LOG_PREEMPT`], [`DTL_LOG_FAULT`].
    pub dtl_enable_mask: u8,
    /// 0x0b9 donate a dedicated processor.
    pub donate_dedicated_cpu: u8,
    /// 0x0ba floating point in use.
    pub fpregs_in_use: u8,
    /// 0x0bb performance monitor in use.
    pub pmcregs_in_use: u8,
    _reserved_0bc: [u8; 28],
    /// 0x0d8 wait state cycles.
    pub wait_state_cycles: U64,
    _reserved_0e0: [u8; 28],
    /// 0x0fc SLB entries to maintain.
    pub slb_count: U16,
    /// 0x0fe the guest is idle.
    pub idle: u8,
    /// 0x0ff vector registers in use.
    pub vmxregs_in_use: u8,
    /// 0x100 odd while the vCPU has no processor; the hypervisor writes it.
    pub yield_count: U32,
    /// 0x104 moves to another processor.
    pub dispersion_count: U32,
    /// 0x108 cooperative memory faults.
    pub cmo_faults: U64,
    /// 0x110 time spent in them.
    pub cmo_fault_time: U64,
    _reserved_118: [u8; 64],
    /// 0x158 timebase ticks ready but not running; the hypervisor writes it.
    pub enqueue_dispatch_tb: U64,
    /// 0x160 ticks from ready to enqueued.
    pub ready_enqueue_tb: U64,
    /// 0x168 ticks from waiting to ready.
    pub wait_ready_tb: U64,
    _reserved_170: [u8; 16],
    /// 0x180 hint for page-ins.
    pub page_ins: U32,
    _reserved_184: [u8; 148],
    /// 0x218 dispatch trace entries ever written; the hypervisor writes it after the entry.
    pub dtl_idx: U64,
    _reserved_220: [u8; 96],
}

/// An entry of the dispatch trace log, 48 bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DtlEntry {
    /// 0 why the vCPU was dispatched (7: an external or decrementer event, as KVM says always).
    pub dispatch_reason: u8,
    /// 1 why it was preempted.
    pub preempt_reason: u8,
    /// 2 processor.
    pub processor_id: U16,
    /// 4 ticks stolen since the last entry.
    pub enqueue_to_dispatch_time: U32,
    /// 8 ticks from ready to enqueued.
    pub ready_to_enqueue_time: U32,
    /// 12 ticks from waiting to ready.
    pub waiting_to_ready_time: U32,
    /// 16 guest timebase.
    pub timebase: U64,
    /// 24 fault address.
    pub fault_addr: U64,
    /// 32 guest program counter.
    pub srr0: U64,
    /// 40 guest MSR.
    pub srr1: U64,
}

/// Length that an area being registered states of itself, read from its first eight bytes (S0.8):
/// 16 bits at offset 4 for a VPA, 32 bits for the others.
pub const fn stated_length(first_bytes: [u8; 8], is_vpa: bool) -> u32 {
    let [_, _, _, _, a, b, c, d] = first_bytes;
    if is_vpa {
        u16::from_be_bytes([a, b]) as u32
    } else {
        u32::from_be_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{offset_of, size_of};

    #[test]
    fn layouts() {
        assert_eq!(size_of::<Vpa>(), VPA_SIZE);
        for (offset, expected) in [
            (offset_of!(Vpa, size), 4),
            (offset_of!(Vpa, old_status), 9),
            (offset_of!(Vpa, hw_node_id), 0x18),
            (offset_of!(Vpa, hw_proc_id), 0x1c),
            (offset_of!(Vpa, vphn_counters), 0x58),
            (offset_of!(Vpa, cede_latency_hint), 0xb0),
            (offset_of!(Vpa, dtl_enable_mask), 0xb8),
            (offset_of!(Vpa, pmcregs_in_use), 0xbb),
            (offset_of!(Vpa, wait_state_cycles), 0xd8),
            (offset_of!(Vpa, slb_count), 0xfc),
            (offset_of!(Vpa, vmxregs_in_use), 0xff),
            (offset_of!(Vpa, yield_count), 0x100),
            (offset_of!(Vpa, dispersion_count), 0x104),
            (offset_of!(Vpa, cmo_faults), 0x108),
            (offset_of!(Vpa, enqueue_dispatch_tb), 0x158),
            (offset_of!(Vpa, wait_ready_tb), 0x168),
            (offset_of!(Vpa, page_ins), 0x180),
            (offset_of!(Vpa, dtl_idx), 0x218),
        ] {
            assert_eq!(offset, expected);
        }
        assert_eq!(size_of::<DtlEntry>(), DTL_ENTRY_SIZE);
        assert_eq!(offset_of!(DtlEntry, timebase), 16);
        assert_eq!(offset_of!(DtlEntry, srr1), 40);
    }

    /// S0.8
    #[test]
    fn lengths_are_big_endian() {
        let bytes = [0xd3, 0x97, 0xd7, 0x81, 0x04, 0x00, 0x12, 0x34];
        assert_eq!(stated_length(bytes, true), 0x400);
        assert_eq!(stated_length(bytes, false), 0x0400_1234);
    }

    #[test]
    fn fields_are_big_endian() {
        let entry = DtlEntry {
            dispatch_reason: 7,
            srr0: U64::new(0x1234),
            ..Default::default()
        };
        let bytes = entry.as_bytes();
        assert_eq!((bytes[0], bytes[38], bytes[39]), (7, 0x12, 0x34));
    }
}
