// SPDX-License-Identifier: BSD-2-Clause
//! The flat device tree (GUEST.md 3, SPEC 4.2). It is built once, at the start: the only code here
//! that needs an allocator.

use crate::load::{RTAS_BYTES, Range, TREE_BYTES};
use crate::rtas::SERVICES;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use vm_fdt::{FdtReserveEntry, FdtWriter};

/// The LPAR features that are there (SPEC 4.3): nothing else is advertised.
pub const HYPERTAS_FUNCTIONS: [&str; 6] = [
    "hcall-pft",
    "hcall-term",
    "hcall-interrupt",
    "hcall-splpar",
    "hcall-bulk",
    "hcall-set-mode",
];

const XICS_PHANDLE: u32 = 1;
const VDEVICE_PHANDLE: u32 = 2;
const CACHE_LINE: u32 = 128;
const CACHE_BYTES: u32 = 0x8000;

/// One base page size and the actual page sizes of its segments (SPEC 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentPageSize<'a> {
    /// log2 of the base page size.
    pub shift: u32,
    /// L and LP of the segment's VSID word.
    pub slb_encoding: u32,
    /// log2 of the actual page size and its encoding in the HPTE.
    pub pages: &'a [(u32, u32)],
}

const SEGMENTS_4K: SegmentPageSize<'static> = SegmentPageSize {
    shift: 12,
    slb_encoding: 0,
    pages: &[(12, 0)],
};
const SEGMENTS_64K: SegmentPageSize<'static> = SegmentPageSize {
    shift: 16,
    slb_encoding: 0x110,
    pages: &[(16, 1)],
};
const SEGMENTS_16M: SegmentPageSize<'static> = SegmentPageSize {
    shift: 24,
    slb_encoding: 0x100,
    pages: &[(24, 0)],
};

/// 4 KiB and 64 KiB pages.
pub const PAGES_UP_TO_64K: &[SegmentPageSize<'static>] = &[SEGMENTS_4K, SEGMENTS_64K];

/// 4 KiB, 64 KiB and 16 MiB pages, each alone in its segments. Pages of 16 MiB among smaller ones (SPEC 3.5) can be entered,
/// too; they are not offered, since a guest that has them makes every large piece of its programs' memory of them.
pub const PAGES_64K_AND_16M: &[SegmentPageSize<'static>] =
    &[SEGMENTS_4K, SEGMENTS_64K, SEGMENTS_16M];

/// What the tree says.
#[derive(Clone, Copy, Debug)]
pub struct Tree<'a> {
    /// Bytes of guest memory, from address 0.
    pub memory_bytes: u64,
    /// vCPUs, numbered from 0; one thread each core.
    pub vcpus: u32,
    /// log2 of the bytes of the HPT: the real one.
    pub hpt_order: u32,
    /// Page sizes.
    pub page_sizes: &'a [SegmentPageSize<'a>],
    /// Node name of a processor without its unit, as "PowerPC,POWER9".
    pub processor: &'a str,
    /// PVR.
    pub processor_version: u32,
    /// Timebase ticks each second.
    pub timebase_hz: u32,
    /// Only shown to users.
    pub clock_hz: u32,
    /// Kernel command line.
    pub bootargs: &'a str,
    /// Where the initrd is.
    pub initrd: Option<Range>,
    /// Where RTAS is.
    pub rtas: Range,
    /// Unit addresses of the terminals.
    pub terminals: &'a [u32],
    /// Interrupt number of the first terminal.
    pub first_source: u32,
    /// H_RANDOM has a source.
    pub random: bool,
}

/// Why there is no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// The HPT's order is not 18 to 36.
    HptOrder(u32),
    /// No vCPU.
    NoVcpu,
    /// RTAS is not below 4 GiB.
    RtasAddress(u64),
    /// It is this long: more than [`TREE_BYTES`].
    TooLong(usize),
    /// The command line or the processor's name has a character that cannot stand there.
    Name,
    /// RTAS and initrd overlap, or another rule of the format is broken.
    Format,
}

impl core::fmt::Display for TreeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            TreeError::HptOrder(order) => write!(f, "HPT order {order} is not 18 to 36"),
            TreeError::NoVcpu => write!(f, "the guest has no vCPU"),
            TreeError::RtasAddress(at) => write!(f, "RTAS at {at:#x} is not below 4 GiB"),
            TreeError::TooLong(len) => write!(f, "the device tree has {len} bytes"),
            TreeError::Name => write!(f, "a string of the device tree has an invalid character"),
            TreeError::Format => write!(f, "the device tree cannot be written"),
        }
    }
}

impl core::error::Error for TreeError {}

impl From<vm_fdt::Error> for TreeError {
    fn from(error: vm_fdt::Error) -> Self {
        match error {
            vm_fdt::Error::InvalidString
            | vm_fdt::Error::InvalidNodeName
            | vm_fdt::Error::InvalidPropertyName => TreeError::Name,
            _ => TreeError::Format,
        }
    }
}

impl Tree<'_> {
    /// The flattened tree, at most [`TREE_BYTES`] long.
    pub fn build(&self) -> Result<Vec<u8>, TreeError> {
        if partita_papr::HptOrder::new(self.hpt_order).is_none() {
            return Err(TreeError::HptOrder(self.hpt_order));
        }
        if self.vcpus == 0 {
            return Err(TreeError::NoVcpu);
        }
        let rtas =
            u32::try_from(self.rtas.start).map_err(|_| TreeError::RtasAddress(self.rtas.start))?;
        let mut reserved = Vec::new();
        reserved.push(FdtReserveEntry::new(self.rtas.start, RTAS_BYTES)?);
        if let Some(Range { start, end }) = self.initrd {
            reserved.push(FdtReserveEntry::new(start, end.saturating_sub(start))?);
        }
        let mut fdt = FdtWriter::new_with_mem_reserv(&reserved)?;
        fdt.set_boot_cpuid_phys(0);
        let root = fdt.begin_node("")?;
        fdt.property_string("device_type", "chrp")?;
        fdt.property_string("compatible", "qemu,pseries")?;
        fdt.property_string("model", "Partita PAPR guest")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_u32("interrupt-parent", XICS_PHANDLE)?;
        self.chosen(&mut fdt)?;
        let memory = fdt.begin_node("memory@0")?;
        fdt.property_string("device_type", "memory")?;
        fdt.property_array_u64("reg", &[0, self.memory_bytes])?;
        fdt.end_node(memory)?;
        self.processors(&mut fdt)?;
        self.rtas(&mut fdt, rtas)?;
        self.interrupts(&mut fdt)?;
        self.vdevice(&mut fdt)?;
        if self.random {
            platform_facilities(&mut fdt)?;
        }
        fdt.end_node(root)?;
        let blob = fdt.finish()?;
        if blob.len() as u64 > TREE_BYTES {
            return Err(TreeError::TooLong(blob.len()));
        }
        Ok(blob)
    }

    fn chosen(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        let node = fdt.begin_node("chosen")?;
        fdt.property_string("bootargs", self.bootargs)?;
        if let Some(Range { start, end }) = self.initrd {
            fdt.property_u64("linux,initrd-start", start)?;
            fdt.property_u64("linux,initrd-end", end)?;
        }
        if let Some(unit) = self.terminals.first() {
            fdt.property_string("linux,stdout-path", &format!("/vdevice/vty@{unit:x}"))?;
        }
        Ok(fdt.end_node(node)?)
    }

    fn processors(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        let cpus = fdt.begin_node("cpus")?;
        fdt.property_u32("#address-cells", 1)?;
        fdt.property_u32("#size-cells", 0)?;
        let mut page_sizes = Vec::new();
        for size in self.page_sizes {
            page_sizes.extend([size.shift, size.slb_encoding, size.pages.len() as u32]);
            page_sizes.extend(
                size.pages
                    .iter()
                    .flat_map(|(shift, encoding)| [*shift, *encoding]),
            );
        }
        for number in 0..self.vcpus {
            let node = fdt.begin_node(&format!("{}@{number:x}", self.processor))?;
            fdt.property_string("device_type", "cpu")?;
            fdt.property_string("status", "okay")?;
            fdt.property_u32("reg", number)?;
            fdt.property_u32("ibm,ppc-interrupt-server#s", number)?;
            fdt.property_u32("cpu-version", self.processor_version)?;
            fdt.property_array_u32("ibm,pft-size", &[0, self.hpt_order])?;
            fdt.property_array_u32("ibm,segment-page-sizes", &page_sizes)?;
            let segments = [28, 40, u32::MAX, u32::MAX];
            fdt.property_array_u32("ibm,processor-segment-sizes", &segments)?;
            fdt.property_u32("ibm,slb-size", 32)?;
            fdt.property_u32("slb-size", 32)?;
            fdt.property_u32("ibm,vmx", 2)?;
            fdt.property_null("64-bit")?;
            fdt.property_u32("timebase-frequency", self.timebase_hz)?;
            fdt.property_u32("clock-frequency", self.clock_hz)?;
            for cache in ["d-cache", "i-cache"] {
                fdt.property_u32(&format!("{cache}-size"), CACHE_BYTES)?;
                fdt.property_u32(&format!("{cache}-block-size"), CACHE_LINE)?;
                fdt.property_u32(&format!("{cache}-line-size"), CACHE_LINE)?;
            }
            fdt.end_node(node)?;
        }
        Ok(fdt.end_node(cpus)?)
    }

    fn rtas(&self, fdt: &mut FdtWriter, base: u32) -> Result<(), TreeError> {
        let node = fdt.begin_node("rtas")?;
        let functions: Vec<String> = HYPERTAS_FUNCTIONS.iter().map(|f| f.to_string()).collect();
        fdt.property_string_list("ibm,hypertas-functions", functions)?;
        fdt.property_u32("linux,rtas-base", base)?;
        fdt.property_u32("linux,rtas-entry", base)?;
        fdt.property_u32("rtas-size", RTAS_BYTES as u32)?;
        fdt.property_null("ibm,extended-os-term")?;
        for service in SERVICES {
            fdt.property_u32(service.name, service.token)?;
        }
        Ok(fdt.end_node(node)?)
    }

    fn interrupts(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        let node = fdt.begin_node("interrupt-controller@0")?;
        fdt.property_string("device_type", "PowerPC-External-Interrupt-Presentation")?;
        fdt.property_string("compatible", "IBM,ppc-xicp")?;
        fdt.property_array_u32("reg", &[0, 0, 0, 0])?;
        fdt.property_null("interrupt-controller")?;
        fdt.property_u32("#interrupt-cells", 2)?;
        fdt.property_array_u32("ibm,interrupt-server-ranges", &[0, self.vcpus])?;
        fdt.property_phandle(XICS_PHANDLE)?;
        Ok(fdt.end_node(node)?)
    }

    fn vdevice(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        let node = fdt.begin_node("vdevice")?;
        fdt.property_string("device_type", "vdevice")?;
        fdt.property_string("compatible", "IBM,vdevice")?;
        fdt.property_u32("#address-cells", 1)?;
        fdt.property_u32("#size-cells", 0)?;
        fdt.property_null("interrupt-controller")?;
        fdt.property_u32("#interrupt-cells", 2)?;
        fdt.property_phandle(VDEVICE_PHANDLE)?;
        for (unit, source) in self.terminals.iter().zip(self.first_source..) {
            let vty = fdt.begin_node(&format!("vty@{unit:x}"))?;
            fdt.property_string("device_type", "serial")?;
            fdt.property_string("compatible", "hvterm1")?;
            fdt.property_u32("reg", *unit)?;
            fdt.property_u32("interrupt-parent", XICS_PHANDLE)?;
            // 0: messages (edges)
            fdt.property_array_u32("interrupts", &[source, 0])?;
            fdt.end_node(vty)?;
        }
        Ok(fdt.end_node(node)?)
    }
}

/// The node that makes Linux use H_RANDOM.
fn platform_facilities(fdt: &mut FdtWriter) -> Result<(), TreeError> {
    let node = fdt.begin_node("ibm,platform-facilities")?;
    fdt.property_string("device_type", "ibm,platform-facilities")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    let random = fdt.begin_node("ibm,random-v1")?;
    fdt.property_string("device_type", "ibm,random")?;
    fdt.property_string("compatible", "ibm,random")?;
    fdt.property_u32("reg", 0)?;
    fdt.end_node(random)?;
    Ok(fdt.end_node(node)?)
}
