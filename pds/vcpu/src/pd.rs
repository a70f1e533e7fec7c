// SPDX-License-Identifier: BSD-2-Clause
//! The handler.

use crate::boot::{self, BootError, FIRST_SOURCE, TERMINALS};
use crate::machine::{Host, Vcpus};
use crate::memory::Memory;
use crate::regions::{self, Guest};
use crate::reply;
use crate::servers::{END, SERVERS, vpa_instances};
use core::convert::Infallible;
use core::num::NonZero;
use core::ptr::NonNull;
use partita_guest_protocol::channel::{CONTROL, PARENT_ROUTE, SERIAL, TIMER};
use partita_guest_protocol::vcpu as protocol;
use partita_guest_protocol::{answer, power, symbol};
use partita_papr::hcall::number::*;
use partita_papr::hcall::status::H_HARDWARE;
use partita_papr::onereg::TB_OFFSET;
use partita_serial::{Client, Console};
use partita_vcpu::{
    Config, Instance, Machine, PartitionMode, Pause, Platform, PowerEvent, ReplyAction, VcpuId,
};
use sel4::{cap, cap_type};
use sel4_microkit::ipc::PpcMrs;
use sel4_microkit::{
    Caller, Channel, ChannelSet, Child, FastReply, Handler, MessageInfo, Vcpu, cspace_cap,
    debug_println, memory_region_symbol, var,
};
use sel4_shared_memory::SharedMemoryRef;

const TIMER_CAP: cap::Timer = cspace_cap::<cap_type::Timer>(symbol::TIMER_SLOT);
/// Ticks between two looks whether all vCPUs are out: a millisecond.
const LOOK_AGAIN: u64 = sel4::TIMEBASE_HZ / 1000;
/// For the tree: PD heap in bytes.
pub(crate) const TREE_HEAP: usize = 0x4_0000;

/// H_GET_CPU_CHARACTERISTICS of POWER9 (SPEC 2.5): ori 31 is a speculation barrier, mtspr TRIG2
/// flushes the L1D, which is a thread's own.
const CHARACTER: u64 = 1 << 63 | 1 << 60 | 1 << 59;
/// Favour security; flush the L1D on the way to user mode; barriers at bounds checks.
const BEHAVIOUR: u64 = 1 << 63 | 1 << 62 | 1 << 61;
/// HFSCR: performance monitor.
const PERFORMANCE_MONITOR: u64 = 1 << 3;

/// The handler; `F` notifies the serial server.
pub(crate) struct HandlerImpl<F> {
    platform: Platform<'static, Host<F>, Memory>,
    guest: Guest,
    /// What happens when all vCPUs are out.
    ending: Option<PowerEvent>,
    /// A typed byte that the guest had no room for.
    held: Option<u8>,
    /// This is instance 0, the parent.
    first: bool,
    /// Whether the last start failed.
    dead: bool,
}

/// Hypercalls that need nothing but the shared state and the vCPUs, so that an instance on each
/// core can answer them. All others are instance 0's, as is the guest as a whole.
const LOCAL: [u64; 11] = [
    H_CEDE, H_PROD, H_CONFER, H_XIRR, H_XIRR_X, H_CPPR, H_EOI, H_IPI, H_IPOLL, H_RANDOM, H_JOIN,
];

/// The handler, over what the system description maps and grants. Instance 0 starts the guest.
pub(crate) fn start() -> HandlerImpl<impl Fn()> {
    let instance = Instance(*var!(instance: u64 = 0) as u32);
    let first = instance == Instance(0);
    let console = first.then(|| {
        let region = memory_region_symbol!(console: *mut Console);
        // SAFETY: the system description maps a zeroed page there that only the serial server
        // shares; both access it with volatile and atomic accesses only.
        let region = unsafe { SharedMemoryRef::new(region) };
        Client::new(region, || Channel::new(SERIAL).notify())
    });
    let host = Host {
        console,
        vcpus: if first { Vcpus::Parent } else { Vcpus::Granted },
        event: None,
        clock: None,
        power: NonZero::new(*var!(power: usize = 0)).map(|id| Channel::new(id.get())),
    };
    let memory = Memory {
        window: NonNull::new(core::ptr::with_exposed_provenance_mut(
            *var!(view_window: usize = 0),
        )),
    };
    let guest = regions::guest();
    let config = Config {
        memory_bytes: guest.memory_bytes,
        first_source: FIRST_SOURCE,
        terminals: &TERMINALS,
        characteristics: [
            *var!(cpu_character: u64 = CHARACTER),
            *var!(cpu_behaviour: u64 = BEHAVIOUR),
        ],
        // The kernel opens the others that it saves from the start, and saves no more.
        facilities: PERFORMANCE_MONITOR,
    };
    let shared = regions::shared(guest.vcpus);
    let mut platform = Platform::new(shared, config, instance, host, memory);
    platform.recover();
    let mut handler = HandlerImpl {
        platform,
        guest,
        ending: None,
        held: None,
        first,
        dead: false,
    };
    if !first {
        return handler;
    }
    let started = SERVERS
        .create_slot(handler.guest.memory_bytes)
        .map_err(BootError::from)
        .and_then(|()| handler.start());
    if let Err(error) = started {
        handler.cannot_start(&error);
    }
    handler
}

impl<F: Fn()> HandlerImpl<F> {
    /// Loads the guest and starts vCPU 0. All vCPUs are paused or stopped.
    fn start(&mut self) -> Result<(), BootError> {
        let state = boot::load(&self.guest, self.platform.memory_mut())?;
        self.platform.reset(|_| false);
        let Some(first) = self.platform.vcpu(0) else {
            return Ok(());
        };
        debug_println!("vcpu: starts at {:#x}, tree {:#x}", state.pc, state.r3);
        let machine = self.platform.machine_mut();
        if machine.write_start_state(first, state).is_err() {
            return Err(BootError::Vcpu);
        }
        machine.tell_power(power::STARTED);
        machine.resume(first);
        Ok(())
    }

    fn cannot_start(&mut self, error: &BootError) {
        self.dead = true;
        let machine = self.platform.machine_mut();
        machine.line(format_args!("the guest cannot start: {error}"));
        machine.tell_power(power::ENDED);
    }

    fn vcpus(&self) -> impl Iterator<Item = VcpuId> + use<F> {
        let count = u64::from(self.guest.vcpus);
        let all: [Option<VcpuId>; 64] = core::array::from_fn(|number| {
            Some(number as u64)
                .filter(|n| *n < count)
                .and_then(|n| self.platform.vcpu(n))
        });
        all.into_iter().flatten()
    }

    /// After what may have been a request to go off, restart or stop.
    #[cold]
    fn look_for_event(&mut self) {
        let Some(event) = self.platform.machine_mut().event.take() else {
            return;
        };
        self.ending = Some(event);
        self.hold_all();
    }

    /// Pauses all vCPUs, and goes on when the last is out. The one that asked is, after our answer.
    fn hold_all(&mut self) {
        let mut out = true;
        for vcpu in self.vcpus() {
            out &= self.platform.pause(vcpu) == Pause::Done;
        }
        let Some(event) = self.ending else { return };
        if !out {
            let deadline = sel4::arch::timebase() + LOOK_AGAIN;
            // Without the timer the guest stays as it is: stopped.
            let _ = TIMER_CAP.timer_set(deadline);
            return;
        }
        self.ending = None;
        if event == PowerEvent::Reboot
            && let Err(error) = self.restart()
        {
            self.cannot_start(&error);
        }
    }

    /// As after power-on, with the same memory. All vCPUs are out.
    fn restart(&mut self) -> Result<(), BootError> {
        for vcpu in self.vcpus() {
            SERVERS.unregister_all(vcpu.number().into(), vpa_instances())?;
        }
        SERVERS.reset_table(self.guest.hpt_order, END)?;
        let machine = self.platform.machine_mut();
        for mode in [
            PartitionMode::LittleEndianInterrupts(false),
            PartitionMode::TranslatedInterrupts(false),
        ] {
            machine
                .set_partition_mode(mode)
                .map_err(|_| BootError::Vcpu)?;
        }
        self.held = None;
        self.dead = false;
        self.start()
    }

    /// A call of the operator's channel.
    #[cold]
    #[inline(never)]
    fn managed(&mut self, caller: Caller, label: u64, words: &[u64; 8]) -> FastReply {
        if !self.first || caller.channel().index() != CONTROL {
            return FastReply::new(answer::INVALID, []);
        }
        if label == protocol::RESET {
            return self.reset_for_operator();
        }
        if matches!(label, protocol::GET_REGISTER | protocol::SET_REGISTER) {
            return self.register(label == protocol::SET_REGISTER, words[0], words[1]);
        }
        let Some(vcpu) = self.platform.vcpu(words[0]) else {
            return FastReply::new(protocol::NO_VCPU, []);
        };
        match label {
            protocol::PAUSE => match self.platform.pause(vcpu) {
                Pause::Done => FastReply::new(answer::OK, [protocol::PAUSED]),
                Pause::NotYet => FastReply::new(answer::OK, [protocol::NOT_YET]),
            },
            protocol::RESUME => {
                self.platform.resume(vcpu);
                FastReply::new(answer::OK, [])
            }
            protocol::KICK => {
                self.platform.machine_mut().kick(vcpu);
                FastReply::new(answer::OK, [])
            }
            protocol::TIMES => {
                let times = Vcpu::new(vcpu.number() as usize).vcpu().vcpu_get_times();
                match times {
                    Ok(t) => {
                        let count = t.dispatch_count.map_or(u64::MAX, u64::from);
                        FastReply::new(answer::OK, [t.ready_ticks, t.dispatches, count])
                    }
                    Err(_) => FastReply::new(protocol::NO_VCPU, []),
                }
            }
            _ => FastReply::new(answer::INVALID, []),
        }
    }

    /// Reads or writes a register of the whole guest.
    fn register(&mut self, set: bool, id: u64, value: u64) -> FastReply {
        if id != TB_OFFSET {
            return FastReply::new(answer::INVALID, []);
        }
        if set && self.platform.set_tb_offset(value).is_err() {
            return FastReply::new(protocol::REFUSED, []);
        }
        FastReply::new(answer::OK, [self.platform.tb_offset()])
    }

    fn reset_for_operator(&mut self) -> FastReply {
        self.ending = Some(PowerEvent::Reboot);
        self.hold_all();
        match self.ending {
            None if self.dead => FastReply::new(protocol::CANNOT_START, []),
            None => FastReply::new(answer::OK, [protocol::PAUSED]),
            Some(_) => FastReply::new(answer::OK, [protocol::NOT_YET]),
        }
    }

    /// What was typed goes to the guest, as far as it has room.
    fn input(&mut self) {
        loop {
            let typed = match self.held.take() {
                Some(byte) => Some(byte),
                None => {
                    let console = self.platform.machine_mut().console.as_mut();
                    console.and_then(|console| console.read().unwrap_or(None))
                }
            };
            let Some(byte) = typed else { return };
            if !self.platform.input(0, byte) {
                self.held = Some(byte);
                return;
            }
        }
    }
}

impl<F: Fn()> Handler for HandlerImpl<F> {
    type Error = Infallible;

    #[inline(always)]
    fn protected_mrs(
        &mut self,
        caller: Caller,
        msg_info: MessageInfo,
        mrs: PpcMrs,
    ) -> Result<FastReply, Infallible> {
        let number = msg_info.label();
        if caller.channel().index() != PARENT_ROUTE {
            return Ok(self.managed(caller, number, &mrs));
        }
        let action = match self.platform.vcpu(caller.vcpu() as u64) {
            Some(vcpu) if self.first || LOCAL.contains(&number) => {
                self.platform.hypercall(vcpu, number, &mrs)
            }
            _ => ReplyAction::status(H_HARDWARE),
        };
        if number == H_RTAS {
            self.look_for_event();
        }
        if number == H_GET_TERM_CHAR && self.held.is_some() {
            self.input();
        }
        Ok(reply::message(action, [mrs[0], mrs[1], mrs[2], mrs[3]]))
    }

    fn fault_mrs(
        &mut self,
        child: Child,
        msg_info: MessageInfo,
        mrs: PpcMrs,
    ) -> Result<Option<FastReply>, Infallible> {
        let Some(vcpu) = self.platform.vcpu(child.index() as u64) else {
            return Ok(None);
        };
        let number = msg_info.label();
        let action = match reply::exit(number, &mrs) {
            None => ReplyAction::RESUME,
            Some(exit) => {
                let action = self.platform.exit(vcpu, exit);
                if self.platform.machine_mut().event.is_some() {
                    debug_println!("vcpu: exit {number} of vCPU {}: {mrs:x?}", child.index());
                    self.look_for_event();
                }
                action
            }
        };
        // Words 1 to 4 of an unrouted hypercall are r4 to r7.
        Ok(Some(reply::message(
            action,
            [mrs[1], mrs[2], mrs[3], mrs[4]],
        )))
    }

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        if channels.contains(Channel::new(TIMER)) && self.ending.is_some() {
            self.hold_all();
        }
        if channels.contains(Channel::new(SERIAL)) {
            self.input();
        }
        Ok(())
    }
}
