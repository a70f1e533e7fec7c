// SPDX-License-Identifier: BSD-2-Clause
//! `microkit`: the command line of the image tool.

use clap::Parser;
use microkit_tool::elf::Elf;
use microkit_tool::output::write_all;
use microkit_tool::{
    Board, Config, DEFAULT_ROOT_CNODE_BITS, Error, Request, Sdk, build, files, pack_root_task,
    read_kernel, sdf, sdk_programs,
};
use std::path::PathBuf;
use std::process::ExitCode;

/// Builds a boot image from a system description.
#[derive(Parser, Debug)]
#[command(name = "microkit", version)]
struct Arguments {
    /// System description (XML).
    #[arg(required_unless_present = "root_task")]
    system: Option<PathBuf>,
    /// Folders in which program images and prefill files are looked for, in order; then the folder
    /// of the system description.
    #[arg(long, num_args = 1.., value_name = "DIR")]
    search_path: Vec<PathBuf>,
    /// Board.
    #[arg(long)]
    board: String,
    /// Kernel configuration.
    #[arg(long)]
    config: String,
    /// Memory of the machine, such as 2G or 4096M; the board's default if it is left out. The image
    /// needs that much, and starts with more.
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<u64>,
    /// Boot image to write.
    #[arg(short, long, default_value = "loader.img", value_name = "FILE")]
    output: PathBuf,
    /// Report to write.
    #[arg(short, long, default_value = "report.txt", value_name = "FILE")]
    report: PathBuf,
    /// Capability distribution to write, as JSON.
    #[arg(long, value_name = "FILE")]
    capdl_json: Option<PathBuf>,
    /// Capability distribution to write, in the capDL language.
    #[arg(long, value_name = "FILE")]
    capdl: Option<PathBuf>,
    /// Form of the boot image: there is one.
    #[arg(long, value_name = "TYPE", default_value = "elf", value_parser = ["elf"])]
    image_type: String,
    /// SDK folder.
    #[arg(long, env = "MICROKIT_SDK", value_name = "DIR")]
    sdk: Option<PathBuf>,
    /// Pack this program as root task instead of a system: a test suite. No report is written.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["system", "capdl_json", "capdl", "search_path"])]
    root_task: Option<PathBuf>,
    /// log2 of the slots of the root task's CNode (with --root-task).
    #[arg(long, value_name = "N", default_value_t = DEFAULT_ROOT_CNODE_BITS,
          value_parser = clap::value_parser!(u8).range(10..=20))]
    root_cnode_bits: u8,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("microkit: {}", one_line(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

/// A message may quote names from files: they break no line and write no control sequence.
fn one_line(text: &str) -> String {
    let quoted = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(quoted).collect()
}

/// Bytes in a size with M or G behind it.
fn memory(text: &str) -> Result<u64, String> {
    let shift = match text.as_bytes().last() {
        Some(b'M') => 20,
        Some(b'G') => 30,
        _ => return Err("a number with M or G behind it".into()),
    };
    let number = text[..text.len() - 1].parse::<u32>();
    let bytes = number.ok().map(|number| u64::from(number) << shift);
    bytes
        .filter(|bytes| (Board::MIN_MEMORY..=1 << 40).contains(bytes))
        .ok_or_else(|| "from 1G to 1024G".into())
}

fn run(arguments: &Arguments) -> Result<(), Error> {
    let mut board = Board::find(&arguments.board)?;
    if let Some(bytes) = arguments.memory {
        board = board.with_memory(bytes);
    }
    let config = Config::find(&arguments.config)?;
    let sdk = arguments.sdk.as_deref().ok_or(Error::NoSdk)?;
    if let Some(path) = &arguments.root_task {
        let kernel = read_kernel(sdk, &board, &config)?;
        let root = Elf::parse(&path.display().to_string(), &files::read(path)?)?;
        let bits = arguments.root_cnode_bits;
        let image = pack_root_task(&kernel, &root, &board, bits, &[], &[], &[])?;
        let [kernel, ..] = sdk_programs(sdk, &board, &config);
        return write_all(&[(&arguments.output, &image)], &[kernel, path.clone()]);
    }
    let Some(file) = &arguments.system else {
        return Ok(());
    };
    let bytes = files::read(file)?;
    let output = build(&Request {
        file,
        text: sdf::text(&file.display().to_string(), &bytes)?,
        search_path: &arguments.search_path,
        board: &board,
        config: &config,
        sdk: &Sdk::read(sdk, &board, &config)?,
    })?;
    for warning in &output.warnings {
        eprintln!("microkit: warning: {}", one_line(warning));
    }
    let mut list = vec![
        (arguments.output.as_path(), output.image.as_slice()),
        (&arguments.report, output.report.as_bytes()),
    ];
    for (path, text) in [
        (&arguments.capdl_json, &output.capdl_json),
        (&arguments.capdl, &output.capdl),
    ] {
        list.extend(path.as_deref().map(|path| (path, text.as_bytes())));
    }
    let mut inputs = output.inputs;
    inputs.push(file.clone());
    inputs.extend(sdk_programs(sdk, &board, &config));
    write_all(&list, &inputs)
}
