// SPDX-License-Identifier: BSD-2-Clause
//! Kernel invocations on the vCPUs, and the services of the host.

use core::arch::asm;
use core::fmt::Write;
use partita_abi::vcpu_register as register;
use partita_guest_protocol::symbol::{PLATFORM_SLOT, VCPU_SLOT};
use partita_guest_protocol::{answer, power};
use partita_serial::Client;
use partita_vcpu::{
    Interrupt, Machine, PartitionMode, Pause, PowerEvent, RealTime, Refused, Register, StartState,
    VcpuId, real_time_from_opal,
};
use sel4::{TIMEBASE_HZ, cap, cap_type};
use sel4_microkit::{Channel, MessageInfo, Vcpu, cspace_cap};

const PLATFORM: cap::PlatformControl = cspace_cap::<cap_type::PlatformControl>(PLATFORM_SLOT);
/// LPCR bits (ISA 3.0B).
const LPCR_ILE: u64 = 0x0200_0000;
const LPCR_AIL: u64 = 0x0180_0000;
/// A decrementer that does not expire.
const NEVER: u64 = i64::MAX as u64;
/// PPR of a thread of medium priority, as after a reset.
const PPR_MEDIUM: u64 = 4 << 50;
/// MMCR0 with all counters frozen, as after a reset.
const MMCR0_FREEZE: u64 = 0x8000_0000;
/// How often `darn` may say that it has nothing.
const RANDOM_TRIES: u32 = 10;
/// Registers that one invocation writes, at most.
const REGISTERS_AT_ONCE: usize = 64;
/// How often the serial server is asked to take the last line, before the machine goes off.
const DRAIN_TRIES: u32 = 100_000;

/// The guest's terminal 0 is the client of the serial server.
pub(crate) struct Host<F> {
    pub(crate) console: Option<Client<F>>,
    /// Where the VCPU capabilities are.
    pub(crate) vcpus: Vcpus,
    /// What the guest asked for, until the handler sees it.
    pub(crate) event: Option<PowerEvent>,
    /// Time of day as firmware once gave it, and the timebase then.
    pub(crate) clock: Option<(RealTime, u64)>,
    /// Who has the machine's power switch and clock, if it is not this program.
    pub(crate) power: Option<Channel>,
}

/// Where the VCPU capabilities are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vcpus {
    /// In the parent's slots.
    Parent,
    /// Granted, from [`VCPU_SLOT`] on.
    Granted,
}

impl Vcpus {
    #[inline]
    fn cap(self, number: u32) -> cap::VCpu {
        match self {
            Vcpus::Parent => Vcpu::new(number as usize).vcpu(),
            // The numbers of the platform's vCPUs are those of the description's.
            Vcpus::Granted => cspace_cap(VCPU_SLOT + number as usize),
        }
    }
}

const fn number(register: Register) -> usize {
    match register {
        Register::Msr => register::MSR,
        Register::Sprg0 => register::SPRG0,
        Register::Ciabr => register::CIABR,
        Register::Hfscr => register::HFSCR,
        Register::TbOffset => register::TB_OFFSET,
    }
}

impl<F: Fn()> Host<F> {
    /// Tells the holder of the power switch, if there is one, whether the guest runs; says whether there is.
    pub(crate) fn tell_power(&self, label: u64) -> bool {
        if let Some(power) = self.power {
            // Whatever is answered, there is no other way.
            let _ = power.pp_call_mrs(MessageInfo::new(label, 0), []);
        }
        self.power.is_some()
    }

    /// Date and time of day as the platform's clock gives them.
    fn platform_time(&self) -> Option<(u64, u64)> {
        let Some(power) = self.power else {
            let time = PLATFORM.platform_get_time().ok()?;
            return Some((time.year_month_day, time.hour_minute_second_ms));
        };
        let (info, words) = power.pp_call_mrs(MessageInfo::new(power::TIME, 0), []);
        (info.label() == answer::OK).then_some((words[0], words[1]))
    }

    /// A line of ours on the guest's console.
    pub(crate) fn line(&mut self, line: core::fmt::Arguments<'_>) {
        let Some(console) = &mut self.console else {
            return;
        };
        // If the serial server misbehaves there is nowhere to say so.
        let _ = write!(console, "\nvcpu: {line}\n");
        for _ in 0..DRAIN_TRIES {
            if console.is_sent() != Ok(false) {
                break;
            }
        }
    }
}

impl<F: Fn()> Machine for Host<F> {
    fn read_register(&mut self, vcpu: VcpuId, register: Register) -> Result<u64, Refused> {
        let mut value = [0];
        match self
            .vcpus
            .cap(vcpu.number())
            .vcpu_read_regs(number(register), &mut value)
        {
            Ok(()) => Ok(value[0]),
            Err(_) => Err(Refused),
        }
    }

    fn write_register(
        &mut self,
        vcpu: VcpuId,
        register: Register,
        value: u64,
    ) -> Result<(), Refused> {
        self.vcpus
            .cap(vcpu.number())
            .vcpu_write_regs(number(register), &[value])
            .map_err(|_| Refused)
    }

    /// LPCR, HFSCR and the distance of the timebase are the guest's as a whole and stay; VTB, PURR, SPURR and IC go on.
    fn write_start_state(&mut self, vcpu: VcpuId, state: StartState) -> Result<(), Refused> {
        let mut values = [0; register::COUNT];
        values[register::R3] = state.r3;
        values[register::PC] = state.pc;
        values[register::MSR] = state.msr;
        values[register::DEC_EXPIRES] = NEVER;
        values[register::PPR] = PPR_MEDIUM;
        values[register::MMCR0] = MMCR0_FREEZE;
        let vcpu = self.vcpus.cap(vcpu.number());
        let write = |first: usize, end: usize| {
            vcpu.vcpu_write_regs(first, &values[first..end])
                .map_err(|_| Refused)
        };
        write(0, register::LPCR)?;
        write(register::CFAR, register::HFSCR)?;
        write(register::TIDR, register::VS0_0)?;
        // Vectors and segments: more than one message holds.
        (register::VS0_0..register::COUNT)
            .step_by(REGISTERS_AT_ONCE)
            .try_for_each(|first| write(first, register::COUNT.min(first + REGISTERS_AT_ONCE)))
    }

    fn pause(&mut self, vcpu: VcpuId) -> Pause {
        match self.vcpus.cap(vcpu.number()).vcpu_pause() {
            Ok(false) => Pause::NotYet,
            // A vCPU that is gone does not run.
            Ok(true) | Err(_) => Pause::Done,
        }
    }

    fn resume(&mut self, vcpu: VcpuId) {
        let _ = self.vcpus.cap(vcpu.number()).vcpu_resume();
    }

    fn kick(&mut self, vcpu: VcpuId) {
        let _ = self.vcpus.cap(vcpu.number()).vcpu_kick();
    }

    fn set_external_line(&mut self, vcpu: VcpuId, raised: bool) {
        let _ = self
            .vcpus
            .cap(vcpu.number())
            .vcpu_set_interrupt_line(raised);
    }

    fn inject(&mut self, vcpu: VcpuId, interrupt: Interrupt) -> Result<(), Refused> {
        let Interrupt {
            vector,
            srr1_bits,
            dar,
            dsisr,
        } = interrupt;
        self.vcpus
            .cap(vcpu.number())
            .vcpu_inject(vector, srr1_bits, dar, dsisr)
            .map_err(|_| Refused)
    }

    fn set_partition_mode(&mut self, mode: PartitionMode) -> Result<(), Refused> {
        let (bits, on) = match mode {
            PartitionMode::LittleEndianInterrupts(on) => (LPCR_ILE, on),
            PartitionMode::TranslatedInterrupts(on) => (LPCR_AIL, on),
        };
        let (set, clear) = if on { (bits, 0) } else { (0, bits) };
        // vCPU 0's capability stands for the guest.
        self.vcpus
            .cap(0)
            .vcpu_set_mode(set, clear)
            .map_err(|_| Refused)
    }

    fn timebase(&mut self) -> u64 {
        sel4::arch::timebase()
    }

    fn yield_count(&mut self, vcpu: VcpuId) -> Option<u32> {
        self.vcpus
            .cap(vcpu.number())
            .vcpu_get_times()
            .ok()?
            .dispatch_count
    }

    #[inline]
    fn random(&mut self) -> Option<u64> {
        for _ in 0..RANDOM_TRIES {
            let bits: u64;
            // SAFETY: darn r3, 1 (ISA 3.0: 64 conditioned random bits) changes nothing else. The
            // assembler's target has no name for it.
            unsafe {
                asm!(".long 31 << 26 | 3 << 21 | 1 << 16 | 755 << 1", out("r3") bits,
                    options(nomem, nostack, preserves_flags));
            }
            // All ones: an error.
            if bits != u64::MAX {
                return Some(bits);
            }
        }
        None
    }

    /// Firmware is asked once, as that may take it milliseconds; the timebase goes on from there.
    fn real_time(&mut self) -> Option<RealTime> {
        let now = sel4::arch::timebase();
        if self.clock.is_none() {
            let (date, time) = self.platform_time()?;
            let date = u32::try_from(date).ok()?;
            self.clock = Some((real_time_from_opal(date, time)?, now));
        }
        let (start, since) = self.clock?;
        let ticks = now - since;
        let second = ticks % TIMEBASE_HZ;
        Some(RealTime {
            seconds: start.seconds + (ticks / TIMEBASE_HZ) as i64,
            nanoseconds: (second * 1_000_000_000 / TIMEBASE_HZ) as u32,
        })
    }

    fn power(&mut self, event: PowerEvent) {
        match event {
            PowerEvent::Off => {
                self.line(format_args!("the guest is off"));
                if !self.tell_power(power::ENDED) {
                    // Without the capability the machine stays on for others.
                    let _ = PLATFORM.platform_power_off();
                }
            }
            PowerEvent::Reboot => self.line(format_args!("the guest restarts")),
            PowerEvent::Crashed => {
                self.line(format_args!("the guest has crashed; it is stopped"));
                self.tell_power(power::ENDED);
            }
        }
        self.event = Some(event);
    }

    #[inline(always)]
    fn put_chars(&mut self, _terminal: usize, bytes: &[u8]) -> bool {
        // Nobody hears what is written to a server that misbehaves.
        let console = self.console.as_mut();
        console.is_none_or(|console| console.try_write(bytes).unwrap_or(true))
    }
}
