// SPDX-License-Identifier: BSD-2-Clause
//! Ceding, prodding, conferring, joining, system reset (SPEC 2.4), and which vCPUs run.

use crate::machine::{GuestMemory, Machine, Pause, StartState};
use crate::platform::Platform;
use crate::reply::{Interrupt, ReplyAction};
use crate::state::{VcpuId, VcpuState, deferred, run, wake};
use partita_instance::atomic::Ordering;
use partita_papr::hcall::status::{H_BAD_MODE, H_CONTINUE, H_HARDWARE, H_PARAMETER, H_SUCCESS};

const MSR_EE: u64 = 1 << 15;

/// Why start-cpu fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartError {
    NoSuchVcpu,
    Running,
    Busy,
    Refused,
}

/// Answer of query-cpu-stopped-state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Yes = 0,
    InProgress = 1,
    No = 2,
}

impl<'a, M: Machine, G: GuestMemory> Platform<'a, M, G> {
    /// H_CEDE. One word decides between a prod and a cede, so neither order loses the wake-up:
    /// either we see PRODDED, or the prodder sees CEDED and its kick is latched until we sleep.
    #[inline(never)]
    pub(crate) fn h_cede(&mut self, caller: VcpuId) -> ReplyAction {
        if let Some(state) = self.state(caller)
            && state.wake.swap(wake::CEDED, Ordering::AcqRel) == wake::PRODDED
        {
            // Back at once, but with EE set: only `Idle` does that.
            state.wake.store(wake::AWAKE, Ordering::Release);
            self.machine.kick(caller);
        }
        ReplyAction::Idle
    }

    /// H_PROD.
    #[inline(never)]
    pub(crate) fn h_prod(&mut self, target: u64) -> ReplyAction {
        let Some(target) = self.vcpu(target) else {
            return ReplyAction::status(H_PARAMETER);
        };
        let Some(state) = self.state(target) else {
            return ReplyAction::status(H_PARAMETER);
        };
        match state.wake.swap(wake::PRODDED, Ordering::AcqRel) {
            wake::CEDED => {
                // The kick is this prod. If the target ceded again meanwhile it has seen PRODDED.
                self.consume_prod(state);
                self.machine.kick(target);
            }
            wake::JOINED => {
                self.consume_prod(state);
                self.shared.vm.joined.fetch_sub(1, Ordering::AcqRel);
                self.resume_unless_held(target, state);
            }
            _ => {}
        }
        ReplyAction::status(H_SUCCESS)
    }

    #[inline]
    fn consume_prod(&self, state: &VcpuState) {
        let (prodded, awake) = (wake::PRODDED, wake::AWAKE);
        let _ = state
            .wake
            .compare_exchange(prodded, awake, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// H_CONFER: a directed confer yields only while the target still waits for a processor. To
    /// itself a vCPU confers while it waits for a prod: it yields once and may ask again, since
    /// `Idle` would set EE.
    #[inline(never)]
    pub(crate) fn h_confer(&mut self, caller: VcpuId, target: u64, count: u64) -> ReplyAction {
        if target == u64::MAX {
            return ReplyAction::Yield;
        }
        let Some(target) = self.vcpu(target) else {
            return ReplyAction::status(H_PARAMETER);
        };
        if target == caller {
            if let Some(state) = self.state(caller) {
                let (prodded, awake) = (wake::PRODDED, wake::AWAKE);
                let taken = state.wake.compare_exchange(
                    prodded,
                    awake,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                if taken.is_ok() {
                    return ReplyAction::RESUME;
                }
            }
            return ReplyAction::Yield;
        }
        let waiting = count & 1 != 0
            && self
                .machine
                .yield_count(target)
                .is_none_or(|now| u64::from(now) == count);
        if waiting {
            ReplyAction::Yield
        } else {
            ReplyAction::RESUME
        }
    }

    /// H_JOIN.
    #[inline(never)]
    pub(crate) fn h_join(&mut self, caller: VcpuId) -> ReplyAction {
        match self.machine.read_register(caller, crate::Register::Msr) {
            Ok(msr) if msr & MSR_EE == 0 => {}
            Ok(_) => return ReplyAction::status(H_BAD_MODE),
            Err(_) => return ReplyAction::status(H_HARDWARE),
        }
        let Some(state) = self.state(caller) else {
            return ReplyAction::status(H_PARAMETER);
        };
        let last =
            self.shared
                .vm
                .joined
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                    let (running, joined) = (word >> 32, word & 0xffff_ffff);
                    (joined + 1 < running).then_some(word + 1)
                });
        if last.is_err() {
            return ReplyAction::status(H_CONTINUE);
        }
        if state.wake.swap(wake::JOINED, Ordering::AcqRel) == wake::PRODDED {
            state.wake.store(wake::AWAKE, Ordering::Release);
            self.shared.vm.joined.fetch_sub(1, Ordering::AcqRel);
            return ReplyAction::RESUME;
        }
        self.stop_for_good(caller)
    }

    /// Stops the caller whatever is latched for it: a kick left over would end a plain stop, but
    /// not a pause (the `Paused` exit stops it again).
    pub(crate) fn stop_for_good(&mut self, caller: VcpuId) -> ReplyAction {
        let _ = self.machine.pause(caller);
        ReplyAction::Stop
    }

    /// H_SIGNAL_SYS_RESET.
    #[inline(never)]
    pub(crate) fn h_signal_sys_reset(&mut self, caller: VcpuId, target: u64) -> ReplyAction {
        const ALL: u64 = -1i64 as u64;
        const ALL_OTHERS: u64 = -2i64 as u64;
        if target == ALL || target == ALL_OTHERS {
            for number in 0..self.shared.vcpus.len() as u32 {
                if number != caller.0 {
                    self.reset_other(VcpuId(number));
                }
            }
            return match target {
                ALL => ReplyAction::Inject(Interrupt::SYSTEM_RESET),
                _ => ReplyAction::RESUME,
            };
        }
        match self.vcpu(target) {
            None => ReplyAction::status(H_PARAMETER),
            Some(target) if target == caller => ReplyAction::Inject(Interrupt::SYSTEM_RESET),
            Some(target) => {
                self.reset_other(target);
                ReplyAction::RESUME
            }
        }
    }

    /// A vCPU that the guest has not started does not hear it.
    fn reset_other(&mut self, vcpu: VcpuId) {
        let running = |s: &VcpuState| s.run.load(Ordering::Acquire) == run::RUNNING;
        if self.state(vcpu).is_some_and(running) {
            let _ = self.machine.inject(vcpu, Interrupt::SYSTEM_RESET);
        }
    }

    /// RTAS start-cpu: a stopped vCPU starts at `pc` with `r3`.
    pub(crate) fn start_cpu(&mut self, vcpu: u64, pc: u64, r3: u64) -> Result<(), StartError> {
        let vcpu = self.vcpu(vcpu).ok_or(StartError::NoSuchVcpu)?;
        let state = self.state(vcpu).ok_or(StartError::NoSuchVcpu)?;
        self.query_stopped(vcpu.0.into());
        let claimed = state.run.compare_exchange(
            run::STOPPED,
            run::STARTING,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        match claimed {
            Ok(_) => {}
            Err(run::STOPPING) => return Err(StartError::Busy),
            Err(_) => return Err(StartError::Running),
        }
        if self
            .machine
            .write_start_state(vcpu, StartState::new(pc, r3))
            .is_err()
        {
            state.run.store(run::STOPPED, Ordering::Release);
            return Err(StartError::Refused);
        }
        state.wake.store(wake::AWAKE, Ordering::Relaxed);
        self.shared.vm.joined.fetch_add(1 << 32, Ordering::AcqRel);
        state.run.store(run::RUNNING, Ordering::Release);
        self.resume_unless_held(vcpu, state);
        Ok(())
    }

    /// What the guest starts goes on at once, or when the operator ends his pause.
    fn resume_unless_held(&mut self, vcpu: VcpuId, state: &VcpuState) {
        if state.deferred.load(Ordering::Acquire) & deferred::HOLD == 0 {
            self.machine.resume(vcpu);
        }
    }

    /// RTAS stop-self.
    pub(crate) fn stop_self(&mut self, caller: VcpuId) -> ReplyAction {
        if let Some(state) = self.state(caller) {
            state.run.store(run::STOPPING, Ordering::Release);
            self.shared.vm.joined.fetch_sub(1 << 32, Ordering::AcqRel);
        }
        self.stop_for_good(caller)
    }

    /// RTAS query-cpu-stopped-state; `None` for an unknown vCPU.
    pub(crate) fn query_stopped(&mut self, vcpu: u64) -> Option<Stopped> {
        let vcpu = self.vcpu(vcpu)?;
        let state = self.state(vcpu)?;
        Some(match state.run.load(Ordering::Acquire) {
            run::STOPPED => Stopped::Yes,
            run::STOPPING if self.machine.pause(vcpu) == Pause::Done => {
                // Somebody else may have found out and started it again.
                let (from, to) = (run::STOPPING, run::STOPPED);
                let _ = state
                    .run
                    .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
                Stopped::Yes
            }
            run::STOPPING => Stopped::InProgress,
            _ => Stopped::No,
        })
    }
}
