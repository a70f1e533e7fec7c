// SPDX-License-Identifier: BSD-2-Clause
//! Rows that no program on the machine measures: sizes, and times between two places in the code that
//! QEMU's debugger stub stops at.

use crate::bench::{Figure, Purpose, STOP, default_board, default_config, stopped};
use crate::build::{Builder, Image};
use crate::elf::Elf;
use crate::error::{Error, Result};
use crate::gdbstub::Stub;
use crate::guest;
use crate::qemu::Session;
use crate::reference::{Row, Unit};
use crate::sizes;
use crate::system::{self, System};
use crate::toolchain::Variant;
use crate::ui::Step;
use crate::workspace::Workspace;

/// Kernel entry to the entry of hello's PD.
const BOOT: &str = "boot-to-init";
/// Kernel entry to the guest's first instruction.
const GUEST_START: &str = "guest-start";
/// A guest's first instruction to the first line of its first program: row, kernel and vCPUs.
const GUEST_BOOTS: &[(&str, &str, u32)] = &[
    ("guest-boot-6.1", "debian-6.1", 1),
    ("guest-boot-6.12", "debian-6.12", 1),
    ("guest-boot-6.1-2", "debian-6.1", 2),
];
/// The guest's first program.
const INIT: &str = "bench-init";
/// Where it has written its line.
const LINE_WRITTEN: &str = "bench_line_written";
/// Most bytes of code that are compared to recognise a program.
const LANDMARK: usize = 256;
/// High address bits that real mode ignores.
const REAL: u64 = 0x0fff_ffff_ffff_ffff;

/// Measures those of the rows that are chosen.
pub fn measure(
    workspace: &Workspace,
    builder: &mut Builder,
    rows: &[Row],
    chosen: &dyn Fn(&str) -> bool,
) -> Result<Vec<Figure>> {
    let variant = Variant {
        board: default_board(),
        config: default_config(),
    };
    let figure = |name: &str, value| Figure {
        name: name.into(),
        instructions: value,
        n: 1,
        config: variant.config.clone(),
        board: variant.board.clone(),
    };
    let mut figures = Vec::new();
    let is_size = |r: &&Row| r.unit == Unit::Bytes && chosen(&r.name);
    if rows.iter().any(|r| is_size(&r)) {
        let sizes = sizes::measure(workspace, &variant, false)?;
        for row in rows.iter().filter(is_size) {
            if let Some(value) = sizes::figure(&row.name, &sizes) {
                figures.push(figure(&row.name, value));
            }
        }
    }
    if chosen(BOOT) {
        figures.push(figure(BOOT, boot(workspace, builder, &variant)?));
    }
    for (row, kernel, vcpus) in GUEST_BOOTS {
        // The start is measured with the first of them.
        let start = row == &GUEST_BOOTS[0].0 && chosen(GUEST_START);
        if chosen(row) || start {
            let guest = (*kernel, *vcpus);
            let times = guest_boot(workspace, builder, &variant, guest, chosen(row))?;
            if start {
                figures.push(figure(GUEST_START, times.start));
            }
            figures.extend(times.boot.map(|boot| figure(row, boot)));
        }
    }
    Ok(figures)
}

/// Runs to an address that several programs have: `code` at `landmark` tells whether the right one is in
/// the address space.
pub fn run_to_code(
    session: &mut Session,
    stub: &mut Stub,
    address: u64,
    landmark: u64,
    code: &[u8],
) -> Result<()> {
    loop {
        stub.run_to(address, STOP)?;
        session.drain();
        if stub.memory(landmark, code.len())?.as_deref() == Some(code) {
            return Ok(());
        }
        stub.step()?;
    }
}

/// Runs to the entry of a program, known by the code around `landmark`.
pub fn run_to_program(
    session: &mut Session,
    stub: &mut Stub,
    program: &Elf,
    landmark: u64,
) -> Result<()> {
    let code = program
        .bytes_up_to(landmark, LANDMARK)
        .ok_or_else(|| Error::Content {
            path: program.path.clone(),
            why: format!("no contents at {landmark:#x}"),
        })?;
    run_to_code(session, stub, program.entry, landmark, code)
}

/// Runs to the image's first instruction: the count there.
fn run_to_image(stub: &mut Stub, image: &Image) -> Result<u64> {
    // skiboot enters the image at its ELF entry, in real mode.
    stub.run_to(Elf::read(&image.file)?.entry & REAL, STOP)?;
    stub.instructions()
}

/// Instructions from the kernel's first one to the first one of hello's PD.
fn boot(workspace: &Workspace, builder: &mut Builder, variant: &Variant) -> Result<u64> {
    let system = System::find(workspace, "hello")?;
    let image = builder.system(&system, variant)?;
    let step = Step::new("measure boot");
    let board = workspace.board(&variant.board)?;
    let pd = image
        .elfs
        .get("hello")
        .ok_or_else(|| Error::Usage("the system hello has no program hello.elf".into()))?;
    let pd = Elf::read(pd)?;
    let (mut session, mut stub) = stopped(workspace, &board, &image, Purpose::Count)?;
    let start = run_to_image(&mut stub, &image)?;
    run_to_program(&mut session, &mut stub, &pd, pd.entry)?;
    let end = stub.instructions()?;
    step.done("");
    Ok(end - start)
}

/// Times of a guest's boot, instructions.
struct GuestBoot {
    /// From the kernel's entry to the guest's.
    start: u64,
    /// From there to the first line of its first program.
    boot: Option<u64>,
}

/// Boots a Linux guest up to its start, or to the first line of its first program (`whole`).
fn guest_boot(
    workspace: &Workspace,
    builder: &mut Builder,
    variant: &Variant,
    (kernel, vcpus): (&str, u32),
    whole: bool,
) -> Result<GuestBoot> {
    let programs = builder.programs(variant, &[INIT])?;
    let mut system = System::find(workspace, system::DEFAULT)?;
    system.name = format!("{}-{kernel}-{vcpus}", system.name);
    let (system, vmlinux) = guest::with_init(workspace, system, kernel, Some(vcpus), &programs)?;
    let image = builder.system(&system, variant)?;
    let step = Step::new(format!("measure the boot of {kernel} with {vcpus} vCPUs"));
    let board = workspace.board(&variant.board)?;
    let guest = Elf::read(&vmlinux)?;
    let init = match programs.first() {
        Some(file) => Elf::read(file)?,
        None => return Err(Error::Usage(format!("no program {INIT}"))),
    };
    let missing = |what: &str| Error::Content {
        path: vmlinux.clone(),
        why: format!("no {what}"),
    };
    // As pds/vcpu loads it.
    let base = if guest.is_relocatable { 4 << 20 } else { 0 };
    let entry = (guest.entry & REAL) + base;
    let code = guest
        .bytes_up_to(guest.entry, LANDMARK)
        .ok_or_else(|| missing("code at its entry"))?;
    let (mut session, mut stub) = stopped(workspace, &board, &image, Purpose::Count)?;
    let begin = run_to_image(&mut stub, &image)?;
    run_to_code(&mut session, &mut stub, entry, entry, code)?;
    let start = stub.instructions()?;
    let boot = if whole {
        let line = init
            .symbol(LINE_WRITTEN)
            .ok_or_else(|| missing(LINE_WRITTEN))?;
        stub.run_to(line, STOP)?;
        Some(stub.instructions()? - start)
    } else {
        None
    };
    step.done("");
    Ok(GuestBoot {
        start: start - begin,
        boot,
    })
}
