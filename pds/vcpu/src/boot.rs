// SPDX-License-Identifier: BSD-2-Clause
//! Loading the guest, at the start and at each restart.

use crate::memory::Memory;
use crate::regions::Guest;
use crate::servers::SERVERS;
use core::fmt;
use partita_guest_protocol::memslots;
use partita_papr::GuestReal;
use partita_vcpu::load::{self, Plan, PlanError, RTAS_BLOB, Source};
use partita_vcpu::servers::Failed;
use partita_vcpu::tree::{PAGES_64K_AND_16M, PAGES_UP_TO_64K, Tree, TreeError};
use partita_vcpu::{GuestMemory, StartState};

/// Unit address of the terminal.
pub(crate) const TERMINALS: [u32; 1] = [0x7100_0000];
/// Interrupt number of the first source.
pub(crate) const FIRST_SOURCE: u32 = 0x1100;
/// PVR of a POWER9 DD2.2. Guests read the register; this is for those that ask the tree.
const PROCESSOR_VERSION: u32 = 0x004e_1202;
/// Only shown to users.
const CLOCK_HZ: u32 = 1_000_000_000;
const PAGE: usize = 4096;

/// Why the guest cannot start.
#[derive(Debug)]
pub(crate) enum BootError {
    Plan(PlanError),
    Tree(TreeError),
    CommandLine,
    Server(Failed),
    NotBacked(u64),
    Vcpu,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::Plan(error) => write!(f, "{error}"),
            BootError::Tree(error) => write!(f, "{error}"),
            BootError::CommandLine => write!(f, "the command line is not UTF-8"),
            BootError::Server(error) => write!(f, "{error}"),
            BootError::NotBacked(gpa) => write!(f, "no memory at {gpa:#x} of the guest"),
            BootError::Vcpu => write!(f, "the kernel refused registers or modes of a vCPU"),
        }
    }
}

impl core::error::Error for BootError {}

impl From<Failed> for BootError {
    fn from(error: Failed) -> Self {
        BootError::Server(error)
    }
}

/// Puts kernel, initrd, RTAS and device tree into guest memory and sets the virtual real mode area
/// up; answers where vCPU 0 starts. Slot 0 is there, the table is empty, no vCPU runs.
pub(crate) fn load(guest: &Guest, memory: &mut Memory) -> Result<StartState, BootError> {
    let plan = load::plan(guest.kernel, guest.initrd_bytes, guest.memory_bytes)
        .map_err(BootError::Plan)?;
    let tree = tree(guest, &plan)?;
    for copy in &plan.copies {
        let from = match copy.source {
            Source::Kernel => Some(memslots::Source::Kernel),
            Source::Initrd => Some(memslots::Source::Initrd),
            Source::Rtas | Source::Tree => None,
        };
        match from {
            Some(from) => SERVERS.load(from, copy.offset, copy.gpa, copy.bytes)?,
            None => SERVERS.load(memslots::Source::Zeros, 0, copy.gpa, copy.bytes)?,
        }
        SERVERS.load(
            memslots::Source::Zeros,
            0,
            copy.gpa + copy.bytes,
            copy.zeros,
        )?;
    }
    write(memory, plan.rtas.start, &RTAS_BLOB)?;
    write(memory, plan.tree.start, &tree)?;
    SERVERS.set_up_vrma(plan.kernel.end)?;
    Ok(StartState::new(plan.entry, plan.tree.start))
}

/// `gpa` is page-aligned.
fn write(memory: &mut Memory, gpa: u64, bytes: &[u8]) -> Result<(), BootError> {
    for (piece, gpa) in bytes.chunks(PAGE).zip((gpa..).step_by(PAGE)) {
        let page = GuestReal::new(gpa).ok_or(BootError::NotBacked(gpa))?.gfn();
        memory
            .write(page, 0, piece)
            .map_err(|_| BootError::NotBacked(gpa))?;
    }
    Ok(())
}

fn tree(guest: &Guest, plan: &Plan) -> Result<alloc::vec::Vec<u8>, BootError> {
    // Some tools end the text with a zero.
    let cmdline = guest.cmdline.strip_suffix(b"\0").unwrap_or(guest.cmdline);
    let tree = Tree {
        memory_bytes: guest.memory_bytes,
        vcpus: guest.vcpus,
        hpt_order: guest.hpt_order,
        // Only what every slot has in one piece (SPEC 3.5).
        page_sizes: if SERVERS.page_shift()? >= 24 {
            PAGES_64K_AND_16M
        } else {
            PAGES_UP_TO_64K
        },
        processor: "PowerPC,POWER9",
        processor_version: PROCESSOR_VERSION,
        timebase_hz: sel4::TIMEBASE_HZ as u32,
        clock_hz: CLOCK_HZ,
        bootargs: core::str::from_utf8(cmdline).map_err(|_| BootError::CommandLine)?,
        initrd: plan.initrd,
        rtas: plan.rtas,
        terminals: &TERMINALS,
        first_source: FIRST_SOURCE,
        random: true,
    };
    tree.build().map_err(BootError::Tree)
}
