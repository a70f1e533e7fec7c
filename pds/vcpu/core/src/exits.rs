// SPDX-License-Identifier: BSD-2-Clause
//! Exits that are no hypercall (SPEC 5.5).

use crate::machine::{GuestMemory, Machine, Pause, PowerEvent};
use crate::platform::Platform;
use crate::reply::{Interrupt, ReplyAction};
use crate::state::{VcpuId, deferred, run, wake};
use partita_instance::atomic::Ordering;
use partita_papr::hcall::number::H_RPT_INVALIDATE;
use partita_papr::hcall::status::{H_FUNCTION, H_UNSUPPORTED};

/// SRR1 bits of a machine check that mean something to the guest.
const MACHINE_CHECK_SRR1: u64 = 0x083c_0000;

/// An exit to the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0xE40: the guest's instruction is not one.
    EmulationAssistance,
    /// 0xF80: `cause` is HFSCR 63:56, the number of the facility's bit.
    FacilityUnavailable {
        /// Bit number in HFSCR.
        cause: u8,
    },
    /// 0x200, taken in the guest.
    MachineCheck {
        /// SRR1 of the interrupt.
        srr1: u64,
        /// DAR.
        dar: u64,
        /// DSISR.
        dsisr: u64,
    },
    /// A hypercall that has no route.
    UnroutedHypercall {
        /// r3.
        number: u64,
    },
    /// A pause is complete.
    Paused,
    /// The hash table is poisoned: the guest's memory is gone.
    HptDead,
    /// A server answered with something the kernel does not understand.
    MalformedReply,
    /// 0x980, 0xE60, 0xEA0 and other interrupts of the host.
    Host,
    /// Anything else that happened in the guest.
    Other,
}

impl<'a, M: Machine, G: GuestMemory> Platform<'a, M, G> {
    /// Answers an exit of `vcpu`. What the guest did is always reflected to it, never swallowed.
    pub fn exit(&mut self, vcpu: VcpuId, exit: Exit) -> ReplyAction {
        match exit {
            Exit::EmulationAssistance | Exit::Other => {
                ReplyAction::Inject(Interrupt::ILLEGAL_INSTRUCTION)
            }
            Exit::FacilityUnavailable { cause } => self.facility(vcpu, cause),
            Exit::MachineCheck { srr1, dar, dsisr } => ReplyAction::Inject(Interrupt {
                vector: 0x200,
                srr1_bits: srr1 & MACHINE_CHECK_SRR1,
                dar,
                dsisr,
            }),
            Exit::UnroutedHypercall {
                number: H_RPT_INVALIDATE | 0xef00..=0xefff,
            } => ReplyAction::status(H_UNSUPPORTED),
            Exit::UnroutedHypercall { .. } => ReplyAction::status(H_FUNCTION),
            Exit::Paused => self.paused(vcpu),
            Exit::HptDead | Exit::MalformedReply => {
                self.machine.power(PowerEvent::Crashed);
                self.stop_for_good(vcpu)
            }
            Exit::Host => ReplyAction::RESUME,
        }
    }

    /// A permitted facility is granted at its first use; one that still faults is illegal.
    fn facility(&mut self, vcpu: VcpuId, cause: u8) -> ReplyAction {
        let bit = 1u64.checked_shl(u32::from(cause)).unwrap_or(0) & self.config.facilities;
        let granted = self
            .state(vcpu)
            .map_or(0, |s| s.facilities.fetch_or(bit, Ordering::AcqRel));
        if bit == 0 || granted & bit != 0 {
            return ReplyAction::Inject(Interrupt::ILLEGAL_INSTRUCTION);
        }
        self.defer(vcpu, deferred::HFSCR, bit)
    }

    fn paused(&mut self, vcpu: VcpuId) -> ReplyAction {
        self.write_deferred(vcpu);
        let Some(state) = self.state(vcpu) else {
            return ReplyAction::Stop;
        };
        let held = state.deferred.load(Ordering::Acquire) & deferred::HOLD != 0;
        let running = state.run.load(Ordering::Acquire) == run::RUNNING;
        let joined = state.wake.load(Ordering::Acquire) == wake::JOINED;
        if held || !running || joined {
            return ReplyAction::Stop;
        }
        self.machine.resume(vcpu);
        ReplyAction::RESUME
    }

    /// The operator's pause: `NotYet` is to be asked again. Also for a reset, once for each vCPU.
    pub fn pause(&mut self, vcpu: VcpuId) -> Pause {
        let Some(state) = self.state(vcpu) else {
            return Pause::Done;
        };
        state.deferred.fetch_or(deferred::HOLD, Ordering::AcqRel);
        self.machine.pause(vcpu)
    }

    /// Ends the operator's pause. A vCPU that the guest has stopped stays stopped.
    pub fn resume(&mut self, vcpu: VcpuId) {
        let Some(state) = self.state(vcpu) else {
            return;
        };
        let before = state.deferred.fetch_and(!deferred::HOLD, Ordering::AcqRel);
        if before & !deferred::HOLD != 0 {
            return; // its Paused exit is still to come, and will not hold it any more
        }
        let running = state.run.load(Ordering::Acquire) == run::RUNNING;
        if running && state.wake.load(Ordering::Acquire) != wake::JOINED {
            self.machine.resume(vcpu);
        }
    }
}
