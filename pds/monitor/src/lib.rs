// SPDX-License-Identifier: BSD-2-Clause
//! What the monitor prints about a fault. The monitor itself is `main.rs`.
#![cfg_attr(not(test), no_std)]

mod bits;
pub mod names;

use core::fmt::{self, Display, Write};
use core::sync::atomic::{AtomicU32, Ordering};
use partita_abi::{FaultLabel, user_context};
use sel4::{Fault, UserContext};

/// Bytes below the stack in which a fault is taken for a stack overflow: the guard page.
const GUARD_BYTES: u64 = 1 << partita_abi::address_space::PAGE_BITS;

/// Everything that is known about a fault.
#[derive(Debug)]
pub struct Report<'a> {
    /// Name of the protection domain.
    pub name: &'a str,
    /// Lowest address of its stack, 0 if it is not known.
    pub stack_bottom: u64,
    /// The fault; `Err` with the label if it is none that the kernel sends.
    pub fault: Result<Fault, u64>,
    /// Its registers; the reason if they could not be read.
    pub registers: Result<UserContext, sel4::Error>,
}

/// Prefix of each line.
const PREFIX: &str = "MON|ERROR: ";

impl Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{PREFIX}protection domain '{}' stopped:", self.name)?;
        match &self.fault {
            Ok(fault) => fmt_fault(f, fault)?,
            Err(label) => writeln!(f, "{PREFIX}message with unknown label {label:#x}")?,
        }
        if let Ok(Fault::VmFault(fault)) = &self.fault
            && self.overflowed(fault.addr())
        {
            writeln!(
                f,
                "{PREFIX}hint: the address lies just below the stack ({:#x}): stack overflow? \
                 stack_size in the system description sets its size",
                self.stack_bottom
            )?;
        }
        match &self.registers {
            Ok(registers) => fmt_registers(f, registers),
            Err(error) => writeln!(f, "{PREFIX}registers cannot be read: {error}"),
        }
    }
}

impl Report<'_> {
    fn overflowed(&self, address: u64) -> bool {
        self.stack_bottom >= GUARD_BYTES
            && (self.stack_bottom - GUARD_BYTES..self.stack_bottom).contains(&address)
    }
}

fn fmt_fault(f: &mut fmt::Formatter<'_>, fault: &Fault) -> fmt::Result {
    match fault {
        Fault::NullFault(_) => writeln!(f, "{PREFIX}no fault"),
        Fault::CapFault(fault) => writeln!(
            f,
            "{PREFIX}capability fault at {:#x}: {:#x} leads nowhere ({}, {} bits left)",
            fault.ip(),
            fault.addr(),
            if fault.in_recv_phase() != 0 {
                "receiving"
            } else {
                "sending"
            },
            fault.bits_left(),
        ),
        Fault::UnknownSyscall(fault) => writeln!(
            f,
            "{PREFIX}unknown system call {} at {:#x}",
            fault.syscall() as i64,
            fault.fault_ip()
        ),
        Fault::UserException(fault) => {
            writeln!(
                f,
                "{PREFIX}{} at {:#x} (vector {:#x}, code {:#x})",
                bits::exception_name(fault.number()),
                fault.fault_ip(),
                fault.number(),
                fault.code()
            )?;
            match fault.number() {
                bits::PROGRAM => fmt_bits(f, "SRR1", fault.msr(), bits::SRR1_PROGRAM),
                bits::FACILITY_UNAVAILABLE | bits::HV_FACILITY_UNAVAILABLE => writeln!(
                    f,
                    "{PREFIX}facility: {}",
                    bits::facility(fault.code()).unwrap_or("unknown")
                ),
                _ => Ok(()),
            }
        }
        Fault::DebugException(_) => writeln!(f, "{PREFIX}debug exception"),
        Fault::Timeout(fault) => writeln!(
            f,
            "{PREFIX}budget used up after {} us (data {:#x})",
            fault.consumed(),
            fault.data()
        ),
        Fault::VmFault(fault) => {
            let access = match (fault.is_prefetch(), fault.fsr() & bits::DSISR_STORE != 0) {
                (true, _) => "instruction fetch from",
                (false, true) => "write to",
                (false, false) => "read from",
            };
            writeln!(
                f,
                "{PREFIX}{access} {:#x} at {:#x}",
                fault.addr(),
                fault.ip()
            )?;
            let (name, table) = if fault.is_prefetch() {
                ("SRR1", bits::SRR1_STORAGE)
            } else {
                ("DSISR", bits::DSISR)
            };
            fmt_bits(f, name, fault.fsr(), table)
        }
        Fault::VGicMaintenance(_) => writeln!(f, "{PREFIX}interrupt controller maintenance"),
        Fault::VCpuFault(fault) => {
            writeln!(
                f,
                "{PREFIX}exit of a guest, kind {} ({:x?})",
                fault.kind(),
                fault.words()
            )
        }
    }
}

/// A status register with the names of its bits.
fn fmt_bits(f: &mut fmt::Formatter<'_>, name: &str, value: u64, table: bits::Table) -> fmt::Result {
    write!(f, "{PREFIX}{name} {value:#x}:")?;
    let mut separator = " ";
    for (bit, meaning) in table {
        if value & bit != 0 {
            write!(f, "{separator}{meaning}")?;
            separator = ", ";
        }
    }
    if separator == " " {
        f.write_str(" no known cause")?;
    }
    f.write_char('\n')
}

fn fmt_registers(f: &mut fmt::Formatter<'_>, registers: &UserContext) -> fmt::Result {
    const COLUMNS: usize = 4;
    for (row, values) in registers.inner().chunks(COLUMNS).enumerate() {
        f.write_str(PREFIX)?;
        for (column, value) in values.iter().enumerate() {
            let name = user_context::NAMES[row * COLUMNS + column];
            let gap = if column > 0 { "  " } else { "" };
            write!(f, "{gap}{name:>3} {value:016x}")?;
        }
        f.write_char('\n')?;
    }
    Ok(())
}

/// Faults by protection domain and kind, for who reads the monitor's memory where nothing prints.
#[derive(Debug)]
pub struct Counts<const PDS: usize>([[AtomicU32; KINDS]; PDS]);

/// Labels of faults, and one more for all other labels.
const KINDS: usize = FaultLabel::COUNT + 1;

impl<const PDS: usize> Default for Counts<PDS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const PDS: usize> Counts<PDS> {
    /// No faults.
    pub const fn new() -> Self {
        Counts([const { [const { AtomicU32::new(0) }; KINDS] }; PDS])
    }

    /// Counts a fault of protection domain `pd` with `label`.
    pub fn add(&self, pd: usize, label: u64) {
        let kind = usize::try_from(label).unwrap_or(usize::MAX).min(KINDS - 1);
        if let Some(kinds) = self.0.get(pd) {
            kinds[kind].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Faults of protection domain `pd`.
    pub fn of(&self, pd: usize) -> u64 {
        let kinds = self.0.get(pd).into_iter().flatten();
        kinds
            .map(|count| u64::from(count.load(Ordering::Relaxed)))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sel4::MessageInfo;

    fn fault(label: FaultLabel, words: &[u64]) -> Fault {
        let mut regs = [0; 16];
        regs[..words.len()].copy_from_slice(words);
        Fault::try_new(&MessageInfo::new(label as u64, 0, 0, words.len()), &regs).unwrap()
    }

    fn report(fault: Fault) -> String {
        let mut registers = UserContext::default();
        *registers.pc_mut() = 0x1001_0000;
        *registers.gpr_mut(31) = 0xabc;
        Report {
            name: "shell",
            stack_bottom: 0x8000,
            fault: Ok(fault),
            registers: Ok(registers),
        }
        .to_string()
    }

    #[test]
    fn write_below_the_stack() {
        let words = [0x1001_0000, 0x7ff8, 0, 0x4200_0000];
        let text = report(fault(FaultLabel::VMFault, &words));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "MON|ERROR: protection domain 'shell' stopped:");
        assert_eq!(lines[1], "MON|ERROR: write to 0x7ff8 at 0x10010000");
        assert_eq!(
            lines[2],
            "MON|ERROR: DSISR 0x42000000: no translation, store"
        );
        assert!(lines[3].contains("stack overflow?"), "{text}");
        assert_eq!(
            lines[4],
            "MON|ERROR:  pc 0000000010010000   r1 0000000000000000  msr 0000000000000000   cr \
             0000000000000000"
        );
        assert!(text.trim_end().ends_with("r31 0000000000000abc"), "{text}");
        assert_eq!(lines.len(), 4 + 38usize.div_ceil(4));
    }

    #[test]
    fn no_hint_elsewhere() {
        for address in [0x8000, 0x6fff] {
            let words = [0, address, 0, 0x4000_0000];
            assert!(!report(fault(FaultLabel::VMFault, &words)).contains("overflow"));
        }
    }

    #[test]
    fn fetches() {
        let text = report(fault(FaultLabel::VMFault, &[0x20, 0x20, 1, 0x1000_0000]));
        assert!(
            text.contains("instruction fetch from 0x20 at 0x20"),
            "{text}"
        );
        assert!(
            text.contains("SRR1 0x10000000: no execute or guarded"),
            "{text}"
        );
    }

    #[test]
    fn panics_are_traps() {
        let words = [0x1001_0000, 0x9000, 0x2_0000, 0x700, 0];
        let text = report(fault(FaultLabel::UserException, &words));
        assert!(
            text.contains("program interrupt at 0x10010000 (vector 0x700"),
            "{text}"
        );
        assert!(
            text.contains("SRR1 0x20000: trap (a panic ends so)"),
            "{text}"
        );
    }

    #[test]
    fn facilities_have_names() {
        let words = [0, 0, 0, 0xf60, 1];
        assert!(report(fault(FaultLabel::UserException, &words)).contains("vector"));
        let words = [0, 0, 0, 0x800, 0];
        let text = report(fault(FaultLabel::UserException, &words));
        assert!(text.contains("floating point unavailable"), "{text}");
    }

    #[test]
    fn every_kind_of_fault_is_told() {
        for label in FaultLabel::ALL {
            let text = report(fault(label, &[1, 2, 0, 4]));
            assert!(text.lines().all(|line| line.starts_with(PREFIX)), "{text}");
            assert!(text.lines().count() > 38 / 4 + 1, "{text}");
        }
        let unknown = Report {
            name: "x",
            stack_bottom: 0,
            fault: Err(77),
            registers: Err(sel4::Error::InvalidCapability),
        };
        let text = unknown.to_string();
        assert!(text.contains("unknown label 0x4d") && text.contains("invalid capability"));
    }

    #[test]
    fn counts() {
        let counts = Counts::<2>::new();
        counts.add(1, FaultLabel::VMFault as u64);
        counts.add(1, u64::MAX);
        counts.add(5, 1);
        assert_eq!((counts.of(0), counts.of(1), counts.of(5)), (0, 2, 0));
    }
}
