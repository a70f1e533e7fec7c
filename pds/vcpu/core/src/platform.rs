// SPDX-License-Identifier: BSD-2-Clause
//! One instance: state, hypercalls by number, reset.

use crate::console::InputRing;
use crate::machine::{GuestMemory, Machine, NotBacked};
use crate::reply::{ReplyAction, Words};
use crate::state::{SourceState, VcpuId, VcpuState, VmState, run, wake};
use partita_instance::Instance;
use partita_instance::atomic::Ordering;
use partita_papr::GuestReal;
use partita_papr::hcall::number::*;
use partita_papr::hcall::status::{H_FUNCTION, H_HARDWARE, H_UNSUPPORTED};

/// The memory that all instances share.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    /// The guest as a whole.
    pub vm: &'a VmState,
    /// One each vCPU.
    pub vcpus: &'a [VcpuState],
    /// One each interrupt source; the first ones are the terminals'.
    pub sources: &'a [SourceState],
    /// One each terminal.
    pub input: &'a [InputRing],
}

/// What is fixed for one guest.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a> {
    /// Bytes of guest memory.
    pub memory_bytes: u64,
    /// Interrupt number of the first source; above 2 and such that all fit in 24 bits.
    pub first_source: u32,
    /// Unit addresses of the terminals.
    pub terminals: &'a [u32],
    /// r4 (character) and r5 (behaviour) of H_GET_CPU_CHARACTERISTICS: facts of the host.
    pub characteristics: [u64; 2],
    /// HFSCR bits that the guest gets when it first uses the facility (SPEC 5.5).
    pub facilities: u64,
}

/// One instance. All of its state is in [`Shared`].
pub struct Platform<'a, M, G> {
    pub(crate) shared: Shared<'a>,
    pub(crate) config: Config<'a>,
    pub(crate) instance: Instance,
    pub(crate) machine: M,
    pub(crate) memory: G,
}

impl<'a, M: Machine, G: GuestMemory> Platform<'a, M, G> {
    /// An instance over the shared state.
    pub fn new(
        shared: Shared<'a>,
        config: Config<'a>,
        instance: Instance,
        machine: M,
        memory: G,
    ) -> Self {
        Platform {
            shared,
            config,
            instance,
            machine,
            memory,
        }
    }

    /// Frees the lock bit that a predecessor with the same instance number died with. To be called
    /// once, at the start.
    pub fn recover(&mut self) {
        self.instance.release(&self.shared.vm.xics_lock);
    }

    /// Everything as after power-on: vCPU 0 is the guest's, the others wait for start-cpu, no
    /// interrupt is routed. All vCPUs must be paused or stopped; the clock stays as it was set.
    /// `level(index)` says which interrupt sources are levels.
    pub fn reset(&mut self, level: impl Fn(usize) -> bool) {
        for (number, vcpu) in self.shared.vcpus.iter().enumerate() {
            let state = if number == 0 {
                run::RUNNING
            } else {
                run::STOPPED
            };
            vcpu.run.store(state, Ordering::Relaxed);
            vcpu.wake.store(wake::AWAKE, Ordering::Relaxed);
            vcpu.deferred.store(0, Ordering::Relaxed);
            vcpu.facilities.store(0, Ordering::Relaxed);
        }
        self.shared.vm.joined.store(1 << 32, Ordering::SeqCst);
        for ring in self.shared.input {
            ring.clear();
        }
        self.reset_xics(level);
    }

    /// The vCPU with a number that came from outside.
    #[inline]
    pub fn vcpu(&self, number: u64) -> Option<VcpuId> {
        if number < self.shared.vcpus.len() as u64 {
            Some(VcpuId(number as u32))
        } else {
            None
        }
    }

    #[inline]
    pub(crate) fn state(&self, vcpu: VcpuId) -> Option<&'a VcpuState> {
        self.shared.vcpus.get(vcpu.0 as usize)
    }

    /// Answers a hypercall of vCPU `caller`: r3 is `number`, r4 to r11 are `args`. Every handler is
    /// a function of its own, so that the short ones do not pay for the registers of the long ones.
    #[inline]
    pub fn hypercall(&mut self, caller: VcpuId, number: u64, args: &[u64; 8]) -> ReplyAction {
        let a = args;
        match number {
            H_CEDE => self.h_cede(caller),
            H_PROD => self.h_prod(a[0]),
            H_CONFER => self.h_confer(caller, a[0], a[1]),
            H_XIRR => self.h_xirr(caller),
            H_CPPR => self.h_cppr(caller, a[0]),
            H_EOI => self.h_eoi(caller, a[0]),
            H_IPI => self.h_ipi(a[0], a[1]),
            H_IPOLL => self.h_ipoll(a[0]),
            H_XIRR_X => self.h_xirr_x(caller),
            H_RANDOM => self.h_random(),
            H_PUT_TERM_CHAR => ReplyAction::status(self.h_put_term_char(a)),
            H_GET_TERM_CHAR => self.h_get_term_char(a[0]),
            H_RTAS => self.h_rtas(caller, a[0]),
            H_SET_MODE => self.h_set_mode(caller, a),
            H_JOIN => self.h_join(caller),
            H_SIGNAL_SYS_RESET => self.h_signal_sys_reset(caller, a[0]),
            H_GET_CPU_CHARACTERISTICS => self.h_get_cpu_characteristics(),
            H_SET_SPRG0 => self.h_set_sprg0(caller, a[0]),
            H_SET_DABR => ReplyAction::status(H_HARDWARE),
            H_SET_XDABR => self.h_set_xdabr(a[1]),
            H_RPT_INVALIDATE | ULTRAVISOR_FIRST..=ULTRAVISOR_LAST => {
                ReplyAction::status(H_UNSUPPORTED)
            }
            _ => ReplyAction::status(H_FUNCTION),
        }
    }

    /// H_RANDOM.
    #[inline(never)]
    fn h_random(&mut self) -> ReplyAction {
        match self.machine.random() {
            Some(bits) => ReplyAction::words(Words::one(bits)),
            None => ReplyAction::status(H_HARDWARE),
        }
    }

    /// Copies guest memory into `buffer`, page by page.
    pub(crate) fn copy_in(&mut self, gpa: u64, buffer: &mut [u8]) -> Result<(), NotBacked> {
        let mut gpa = gpa;
        let mut rest = buffer;
        while !rest.is_empty() {
            let (page, offset, bytes) = piece(gpa, rest.len())?;
            let (now, later) = rest.split_at_mut_checked(bytes).ok_or(NotBacked)?;
            self.memory.read(page, offset, now)?;
            gpa += bytes as u64;
            rest = later;
        }
        Ok(())
    }

    /// Copies `bytes` into guest memory, page by page.
    pub(crate) fn copy_out(&mut self, gpa: u64, bytes: &[u8]) -> Result<(), NotBacked> {
        let mut gpa = gpa;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (page, offset, bytes) = piece(gpa, rest.len())?;
            let (now, later) = rest.split_at_checked(bytes).ok_or(NotBacked)?;
            self.memory.write(page, offset, now)?;
            gpa += bytes as u64;
            rest = later;
        }
        Ok(())
    }

    /// The kernel and services of this instance.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// The guest memory of this instance.
    pub fn memory_mut(&mut self) -> &mut G {
        &mut self.memory
    }
}

/// Ultracalls (SPEC 2.8).
const ULTRAVISOR_FIRST: u64 = 0xef00;
const ULTRAVISOR_LAST: u64 = 0xefff;

/// Page, offset and length of the part of a range that lies in its first page.
fn piece(gpa: u64, len: usize) -> Result<(partita_papr::Gfn, usize, usize), NotBacked> {
    let page = GuestReal::new(gpa).ok_or(NotBacked)?.gfn();
    let offset = (gpa % 4096) as usize;
    Ok((page, offset, len.min(4096 - offset)))
}
