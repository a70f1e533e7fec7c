// SPDX-License-Identifier: BSD-2-Clause
//! From firmware's entry to the first thread.

use crate::arch::machine::Power;
use crate::arch::{guest, mmu, opal, spr, start, vectors, xive};
use crate::fdt::{self, Fdt};
use crate::memory::{MAX_RANGES, Range, Ranges};
use crate::percore::{self, MAX_CORES};
use crate::{board, println, smp};
use partita_abi::bootinfo::{IMAGE_MAGIC, ImageFrames, ImageInfo, MAX_IMAGE_FRAMES};
use partita_kernel_core::Kernel;
use partita_kernel_core::boot::{BootError, BootParameters};

/// Real address of the [`ImageInfo`]; the image tool patches it. 0: a bare kernel.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.partita_image_info")]
#[used]
#[allow(non_upper_case_globals)]
static partita_image_info: u64 = 0;

/// What the device tree says about the machine.
struct Hardware {
    /// Memory that nobody uses, in whole pages.
    free: Ranges,
    /// Processor numbers (PIR) of the hardware threads, and how many there are.
    pirs: [u64; MAX_CORES],
    cores: usize,
    /// Hypervisor page of the XIVE's thread management area.
    tima: Option<u64>,
}

/// The header that the image tool left, if it did.
fn image_info() -> Option<&'static ImageInfo> {
    // SAFETY: volatile because the image tool changes the value after the kernel was compiled.
    let addr = unsafe { (&raw const partita_image_info).read_volatile() };
    if addr == 0 || !addr.is_multiple_of(align_of::<ImageInfo>() as u64) {
        return None;
    }
    // SAFETY: the tool put the header there (abi: ImageInfo), inside the image, which nobody writes.
    let info = unsafe { &*(addr as *const ImageInfo) };
    (info.magic == IMAGE_MAGIC).then_some(info)
}

/// The device tree at real address `addr`.
fn device_tree(addr: u64) -> Option<Fdt<'static>> {
    if addr == 0 {
        return None;
    }
    // SAFETY: firmware passes the address of its device tree, which stays until the kernel gives away
    // memory: it lies in a region that firmware keeps.
    let bytes = unsafe {
        let size = fdt::total_size(&*(addr as *const [u8; 8]))?;
        core::slice::from_raw_parts(addr as *const u8, size)
    };
    Fdt::new(bytes)
}

/// Reads the device tree. `taken` is the kernel's image.
fn discover(tree: Fdt<'_>, taken: Range) -> Hardware {
    let mut hw = Hardware {
        free: Ranges::default(),
        pirs: [0; MAX_CORES],
        cores: 0,
        tima: None,
    };
    for node in tree.nodes() {
        if node.has_string(b"device_type", b"memory") {
            for (base, size) in node.reg64() {
                hw.free.add(Range::sized(base, size));
            }
        } else if node.has_string(b"device_type", b"cpu") {
            for pir in node.words(b"ibm,ppc-interrupt-server#s") {
                if let Some(place) = hw.pirs.get_mut(hw.cores) {
                    *place = u64::from(pir);
                    hw.cores += 1;
                }
            }
        } else if node.has_string(b"compatible", b"ibm,opal-xive-pe") {
            hw.tima = node.reg64().nth(1).map(|(base, _)| base);
        }
    }
    for (base, size) in tree.reservations() {
        hw.free.remove(Range::sized(base, size));
    }
    for [start, end] in board::FIRMWARE_REGIONS {
        hw.free.remove(Range { start, end });
    }
    hw.free.remove(Range {
        start: 0,
        end: vectors::LOW_END,
    });
    hw.free.remove(taken);
    hw.free.align(12);
    hw
}

/// The kernel's first Rust code, on the boot core, little-endian, in real mode. Arguments are real
/// addresses.
pub extern "C" fn rust_main(device_tree_addr: u64, opal_base: u64, opal_entry: u64, toc: u64) -> ! {
    let boot_timebase = spr::timebase();
    start::set_kernel_msr();
    opal::init(opal_base, opal_entry);
    let Some(core) = percore::init(0, spr::read::<{ spr::PIR }>(), toc, spr::MSR_PD) else {
        unreachable!("a board has a core")
    };
    // SAFETY: the vectors, which are installed next, expect this core's `Core` here.
    unsafe { spr::write::<{ spr::HSPRG0 }>(core as *const _ as u64) };
    vectors::install();
    spr::set_hdec(spr::DECREMENTER_MAX);
    spr::park_dec();
    println!(
        "\nPartita {} {} {}",
        env!("CARGO_PKG_VERSION"),
        board::BOARD,
        board::CONFIG
    );

    if let Err(e) = opal::reinit_cpus() {
        panic!("OPAL_REINIT_CPUS: {e:?}");
    }
    spr::close_facilities();
    mmu::init_tables();
    mmu::init_core();
    guest::init_core(core);

    let info = image_info();
    let image_end = info.map_or(0, |i| i.image_end).max(start::kernel_end());
    let Some(tree) = device_tree(device_tree_addr) else {
        panic!("no device tree at {device_tree_addr:#x}")
    };
    let hw = discover(
        tree,
        Range {
            start: start::kernel_start(),
            end: image_end,
        },
    );
    for range in hw.free.as_slice() {
        println!("memory {:#x}..{:#x}", range.start, range.end);
    }
    println!(
        "processors {:?}, this is {}",
        &hw.pirs[..hw.cores],
        core.pir.get()
    );
    match hw.tima {
        Some(tima) => xive::init(tima),
        None => println!("no interrupt controller that the kernel knows"),
    }
    core.online.set(1);
    let cores = smp::start_others(core, &hw.pirs[..hw.cores]);

    let Some(info) = info else {
        panic!("no boot image")
    };
    let kernel = Kernel::new(&Power, percore::global(), core);
    if let Err(e) = create_root_task(&kernel, &hw, info, boot_timebase) {
        panic!("root task: {e:?}");
    }
    kernel.finish();
    println!("root task at {:#x}, {cores} cores", info.root_entry);
    if cores > 1 {
        smp::release(core);
    }
    start::enter_current()
}

/// Hands everything that firmware and image leave free to the root task.
fn create_root_task(
    kernel: &Kernel<'_, Power>,
    hw: &Hardware,
    image: &ImageInfo,
    boot_timebase: u64,
) -> Result<(), BootError> {
    let mut memory = [(0, 0); MAX_RANGES];
    let ranges = hw.free.as_slice();
    for (place, range) in memory.iter_mut().zip(ranges) {
        *place = (range.start, range.end);
    }
    let devices = board::DEVICE_REGIONS.map(|[addr, bits]| (addr, bits as u32));
    let count = image.frames_count as usize;
    let frames: &[ImageFrames] = if count == 0 {
        &[]
    } else if count <= MAX_IMAGE_FRAMES && image.frames_paddr.is_multiple_of(8) {
        // SAFETY: the tool put so many entries there (abi: ImageInfo), inside the image, which nobody
        // writes; any bytes are valid entries.
        unsafe { core::slice::from_raw_parts(image.frames_paddr as *const ImageFrames, count) }
    } else {
        return Err(BootError::BadImage);
    };
    kernel.create_root_task(&BootParameters {
        memory: &memory[..ranges.len()],
        devices: &devices,
        image,
        frames,
        boot_timebase,
    })
}
