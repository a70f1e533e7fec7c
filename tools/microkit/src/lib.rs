// SPDX-License-Identifier: BSD-2-Clause
//! The image tool: a system description, program images and an SDK go in; one ELF that firmware
//! boots comes out, with a report and the capability distribution.
//!
//! The way of a system ([`build`]):
//!
//! 1. [`sdf`]: parse the description and check it.
//! 2. [`elf`], [`regions`], [`spaces`]: load programs and prefill files, decide page sizes, refuse
//!    overlaps.
//! 3. [`plan`], [`image`]: decide what lies ready in the image, and where.
//! 4. [`symbols`]: set the programs' variables.
//! 5. [`capdl`]: build the capability distribution and turn it into the initialiser's commands.
//! 6. [`memory`]: create everything in numbers, as the initialiser will: a system that does not fit
//!    is refused here.
//! 7. The image is packed.
//!
//! The same input gives the same bytes: nothing depends on time, environment or hash order.
//!
//! SDK layout: `DIR/board/<board>/<config>/elf/{kernel,initialiser,monitor}.elf`.

pub mod board;
pub mod capdl;
pub mod elf;
pub mod error;
pub mod files;
pub mod image;
pub mod memory;
pub mod output;
pub mod plan;
pub mod regions;
pub mod report;
pub mod sdf;
pub mod spaces;
pub mod symbols;

pub use board::{Board, Config};
pub use error::Error;

use capdl::builder::{self, MONITOR_STACK};
use capdl::lower::lower;
use elf::Elf;
use files::Files;
use image::{Block, Layout, root_cnode_bits};
use memory::{Memory, SPLIT_SLOTS};
use plan::Plan;
use report::Figures;
use spaces::Spaces;
use std::path::{Path, PathBuf};

/// log2 of the slots of the CNode of a root task that is packed without a specification.
pub const DEFAULT_ROOT_CNODE_BITS: u8 = 14;

/// Empty slots that the initialiser needs for itself: one for badged copies on their way.
const SCRATCH_SLOTS: u32 = 1;

/// The programs of an SDK for one board and configuration.
#[derive(Clone, Debug)]
pub struct Sdk {
    /// `kernel.elf`.
    pub kernel: Elf,
    /// `initialiser.elf`.
    pub initialiser: Elf,
    /// `monitor.elf`.
    pub monitor: Elf,
}

/// Files of a board's and configuration's programs in an SDK: kernel, initialiser, monitor.
pub fn sdk_programs(sdk: &Path, board: &Board, config: &Config) -> [PathBuf; 3] {
    let folder = sdk.join("board").join(&board.name).join(&config.name);
    ["kernel", "initialiser", "monitor"].map(|name| folder.join(format!("elf/{name}.elf")))
}

fn read_elf(path: &Path) -> Result<Elf, Error> {
    Elf::parse(&path.display().to_string(), &files::read(path)?)
}

/// Reads the kernel of an SDK.
///
/// # Errors
/// It is not there or not for this machine.
pub fn read_kernel(sdk: &Path, board: &Board, config: &Config) -> Result<Elf, Error> {
    let [kernel, ..] = sdk_programs(sdk, board, config);
    read_elf(&kernel)
}

impl Sdk {
    /// Reads the programs of an SDK.
    ///
    /// # Errors
    /// One is not there or not for this machine.
    pub fn read(sdk: &Path, board: &Board, config: &Config) -> Result<Sdk, Error> {
        let [kernel, initialiser, monitor] = sdk_programs(sdk, board, config);
        Ok(Sdk {
            kernel: read_elf(&kernel)?,
            initialiser: read_elf(&initialiser)?,
            monitor: read_elf(&monitor)?,
        })
    }
}

/// What to build.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The system description's file name, for messages and as the last search path.
    pub file: &'a Path,
    /// Its text.
    pub text: &'a str,
    /// Where programs and prefill files are looked for, in order.
    pub search_path: &'a [PathBuf],
    /// The board.
    pub board: &'a Board,
    /// The kernel configuration.
    pub config: &'a Config,
    /// Kernel, initialiser, monitor.
    pub sdk: &'a Sdk,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Output {
    /// The boot image.
    pub image: Vec<u8>,
    /// The report.
    pub report: String,
    /// The capability distribution as JSON.
    pub capdl_json: String,
    /// The capability distribution in the capDL language.
    pub capdl: String,
    /// Things that are allowed but probably not meant.
    pub warnings: Vec<String>,
    /// Files that the description names: they were read.
    pub inputs: Vec<PathBuf>,
}

/// Builds the image of a system.
///
/// # Errors
/// The first [`Error`].
pub fn build(request: &Request<'_>) -> Result<Output, Error> {
    let Request {
        board, config, sdk, ..
    } = *request;
    let system = sdf::parse(&request.file.display().to_string(), request.text, board)?;
    sdf::check(&system)?;

    let mut search_path = request.search_path.to_vec();
    let folder = request.file.parent().filter(|p| !p.as_os_str().is_empty());
    search_path.push(folder.unwrap_or(Path::new(".")).into());
    let mut files = Files::new(search_path);
    let mut programs = Vec::new();
    for pd in &system.pds {
        programs.push(load_program(&mut files, pd)?);
    }
    let spaces: Vec<_> = system
        .pds
        .iter()
        .map(|pd| Spaces::new(pd.stack_size))
        .collect();
    let mut regions = regions::resolve(&system, &programs, &spaces, &mut files, board)?;

    Memory::new(board, board.image_base, 0)
        .check_frames(&regions::frames(&system, &programs, &regions))?;

    // The names of the variables decide what can be shared; their values are known later.
    programs.push(sdk.monitor.clone());
    let patches = |regions: &[regions::Region]| {
        let mut list: Vec<_> = (0..system.pds.len())
            .map(|pd| symbols::of_pd(&system, regions, pd))
            .collect();
        list.push(symbols::of_monitor(&system, &spaces));
        list
    };
    let variables = patches(&regions);
    for ((pd, elf), variables) in system.pds.iter().zip(&programs).zip(&variables) {
        symbols::check(pd, elf, variables)?;
    }
    let plan = Plan::new(&mut programs, &variables, &regions)?;
    let layout = |spec_size| {
        Layout::new(
            board,
            &sdk.kernel,
            &sdk.initialiser,
            &plan.blocks,
            spec_size,
        )
    };
    let places = layout(0)?;
    for (region, block) in regions.iter_mut().zip(&plan.regions) {
        region.paddr = block.map(|b| places.blocks[b].paddr).or(region.paddr);
    }
    // Addresses are chosen from the top of memory down, so that they do not depend on where the
    // image ends; the checks are made against the final figures by the simulation below.
    regions::choose_addresses(&system, &mut regions, &Memory::new(board, places.end(), 0))?;
    for (elf, patches) in programs.iter_mut().zip(patches(&regions)) {
        symbols::apply(elf, &patches)?;
    }

    let monitor = programs.len() - 1;
    let model = builder::build(builder::Input {
        system: &system,
        config,
        regions: &regions,
        programs: &programs[..monitor],
        spaces: &spaces,
        monitor: &programs[monitor],
        plan: &plan,
        layout: &places,
    });
    if let Some(name) = model.name_clash() {
        return Err(Error::NameClash(name.into()));
    }
    let lowered = lower(&model, places.frame_count())?;
    let slots = lowered.slots + SPLIT_SLOTS + SCRATCH_SLOTS;
    let cnode_bits = root_cnode_bits(board, places.frame_count(), slots)?;
    let layout = layout(lowered.spec.len() as u64)?;
    let memory = Memory::new(board, layout.end(), cnode_bits);
    let (addresses, left) = memory.simulate(&lowered.creations)?;

    let contents = plan.contents(&programs, &regions);
    let image = layout.pack(
        &sdk.kernel,
        &sdk.initialiser,
        cnode_bits,
        &lowered.spec,
        &plan.blocks,
        &contents,
    )?;
    let figures = Figures {
        image_size: layout.size,
        image_end: layout.end(),
        free_at_boot: memory.free_bytes(),
        left,
        root_cnode_bits: cnode_bits,
        addresses,
    };
    let warnings = regions
        .iter()
        .zip(&system.regions)
        .filter(|(region, _)| !region.used)
        .map(|(region, source)| format!("{}region '{}' is never used", source.place, region.name))
        .collect();
    Ok(Output {
        image,
        report: report::write(&model, &lowered, &figures),
        capdl_json: capdl::json::write(&model),
        capdl: capdl::text::write(&model),
        warnings,
        inputs: files.paths().map(Path::to_path_buf).collect(),
    })
}

fn load_program(files: &mut Files, pd: &sdf::ProtectionDomain) -> Result<Elf, Error> {
    let place = &pd.program_place;
    let mut load = |what, path| {
        let found = files.find(place, what, path)?;
        Elf::parse(&found.path.display().to_string(), &found.bytes).map_err(|e| e.at(place))
    };
    let mut elf = load("program image", &pd.program)?;
    if let Some(path) = &pd.program_for_symbols {
        elf.symbols = load("program image for symbols", path)?.symbols;
    }
    Ok(elf)
}

/// Packs a root task that is not the initialiser: a test suite, which has no specification or one of
/// its own. `blocks` and `contents` become frames of the image.
///
/// # Errors
/// Not for this machine, or too large.
pub fn pack_root_task(
    kernel: &Elf,
    root: &Elf,
    board: &Board,
    root_cnode_bits: u8,
    spec: &[u8],
    blocks: &[Block],
    contents: &[Vec<u8>],
) -> Result<Vec<u8>, Error> {
    let layout = Layout::new(board, kernel, root, blocks, spec.len() as u64)?;
    layout.pack(kernel, root, root_cnode_bits, spec, blocks, contents)
}

/// Stack of the monitor, as it is mapped.
pub const fn monitor_stack() -> Spaces {
    Spaces::new(MONITOR_STACK)
}
