// SPDX-License-Identifier: BSD-2-Clause
//! Modes and debug registers (SPEC 2.5), and register writes that wait for the `Paused` exit.

use crate::machine::{GuestMemory, Machine, PartitionMode, Refused, Register};
use crate::platform::Platform;
use crate::reply::{ReplyAction, Words};
use crate::state::{VcpuId, deferred};
use partita_instance::atomic::Ordering;
use partita_papr::hcall::status::{
    H_HARDWARE, H_P2, H_P3, H_P4, H_PARAMETER, H_SUCCESS, H_UNSUPPORTED_FLAG,
};

/// Privilege field of CIABR; 3 is the hypervisor.
const CIABR_PRIVILEGE: u64 = 3;
/// User, kernel and breakpoint-translation-ignore bits of DABRX; the hypervisor bit (4) is not a
/// guest's.
const DABRX_ALLOWED: u64 = 0xb;
const DABRX_PRIVILEGES: u64 = 3;

impl<'a, M: Machine, G: GuestMemory> Platform<'a, M, G> {
    /// H_SET_MODE.
    #[inline(never)]
    pub(crate) fn h_set_mode(&mut self, caller: VcpuId, args: &[u64; 8]) -> ReplyAction {
        let [flags, resource, value1, value2, ..] = *args;
        let status = match resource {
            1 if value2 != 0 => H_P4,
            1 if flags != 0 => H_UNSUPPORTED_FLAG,
            1 if value1 & CIABR_PRIVILEGE == CIABR_PRIVILEGE => H_P3,
            1 => return self.defer(caller, deferred::CIABR, value1),
            // DAWR0 and DAWR1: POWER9 has no usable watchpoints.
            3 | 4 if value1 != 0 => H_P3,
            3 | 4 if value2 != 0 => H_P4,
            3 => match flags {
                0 => self.mode(PartitionMode::TranslatedInterrupts(false)),
                3 => self.mode(PartitionMode::TranslatedInterrupts(true)),
                _ => H_UNSUPPORTED_FLAG,
            },
            4 => match flags {
                0 => self.mode(PartitionMode::LittleEndianInterrupts(false)),
                1 => self.mode(PartitionMode::LittleEndianInterrupts(true)),
                _ => H_UNSUPPORTED_FLAG,
            },
            _ => H_P2,
        };
        ReplyAction::status(status)
    }

    fn mode(&mut self, mode: PartitionMode) -> i64 {
        match self.machine.set_partition_mode(mode) {
            Ok(()) => H_SUCCESS,
            Err(_) => H_HARDWARE,
        }
    }

    /// H_SET_SPRG0.
    #[inline(never)]
    pub(crate) fn h_set_sprg0(&mut self, caller: VcpuId, value: u64) -> ReplyAction {
        self.defer(caller, deferred::SPRG0, value)
    }

    /// H_SET_XDABR: checked as if there were a DABR.
    #[inline(never)]
    pub(crate) fn h_set_xdabr(&self, dabrx: u64) -> ReplyAction {
        let bad = dabrx & !DABRX_ALLOWED != 0 || dabrx & DABRX_PRIVILEGES == 0;
        ReplyAction::status(if bad { H_PARAMETER } else { H_HARDWARE })
    }

    /// H_GET_CPU_CHARACTERISTICS.
    #[inline(never)]
    pub(crate) fn h_get_cpu_characteristics(&self) -> ReplyAction {
        let [character, behaviour] = self.config.characteristics;
        ReplyAction::words(Words::two(character, behaviour))
    }

    /// Has a register written before the caller's next instruction, and answers H_SUCCESS.
    #[inline(never)]
    pub(crate) fn defer(&mut self, caller: VcpuId, what: u64, value: u64) -> ReplyAction {
        let Some(state) = self.state(caller) else {
            return ReplyAction::status(H_PARAMETER);
        };
        match what {
            deferred::CIABR => state.ciabr.store(value, Ordering::Relaxed),
            deferred::SPRG0 => state.sprg0.store(value, Ordering::Relaxed),
            _ => {}
        }
        state.deferred.fetch_or(what, Ordering::AcqRel);
        let _ = self.machine.pause(caller);
        ReplyAction::RESUME
    }

    /// Guest's timebase minus the machine's, ticks (two's complement): KVM_REG_PPC_TB_OFFSET.
    pub fn tb_offset(&self) -> u64 {
        self.shared.vm.tb_offset.load(Ordering::Acquire)
    }

    /// The guest's timebase.
    pub(crate) fn timebase(&mut self) -> u64 {
        let offset = self.tb_offset();
        self.machine.timebase().wrapping_add(offset)
    }

    /// Gives the timebase of all vCPUs another distance from the machine's, which is rounded up to a multiple
    /// of 2^24 (SPEC 3.9). All are paused or stopped; if one is not, none is changed.
    pub fn set_tb_offset(&mut self, offset: u64) -> Result<(), Refused> {
        let before = self.tb_offset();
        let count = self.shared.vcpus.len() as u32;
        for number in 0..count {
            let changed = self.write_tb_offset(VcpuId(number), offset);
            if changed.is_err() {
                for done in 0..number {
                    let _ = self.write_tb_offset(VcpuId(done), before);
                }
                return changed;
            }
        }
        let now = self.machine.read_register(VcpuId(0), Register::TbOffset)?;
        self.shared.vm.tb_offset.store(now, Ordering::Release);
        Ok(())
    }

    fn write_tb_offset(&mut self, vcpu: VcpuId, offset: u64) -> Result<(), Refused> {
        self.machine
            .write_register(vcpu, Register::TbOffset, offset)
    }

    /// Writes what was deferred for a paused vCPU. What the kernel refuses is dropped: the vCPU is
    /// being torn down.
    pub(crate) fn write_deferred(&mut self, vcpu: VcpuId) {
        let Some(state) = self.state(vcpu) else {
            return;
        };
        let what = state.deferred.fetch_and(deferred::HOLD, Ordering::AcqRel);
        if what & deferred::CIABR != 0 {
            let value = state.ciabr.load(Ordering::Relaxed);
            let _ = self.machine.write_register(vcpu, Register::Ciabr, value);
        }
        if what & deferred::SPRG0 != 0 {
            let value = state.sprg0.load(Ordering::Relaxed);
            let _ = self.machine.write_register(vcpu, Register::Sprg0, value);
        }
        if what & deferred::HFSCR != 0
            && let Ok(hfscr) = self.machine.read_register(vcpu, Register::Hfscr)
        {
            let value = hfscr | state.facilities.load(Ordering::Relaxed);
            let _ = self.machine.write_register(vcpu, Register::Hfscr, value);
        }
    }
}
