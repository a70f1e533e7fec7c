// SPDX-License-Identifier: BSD-2-Clause
//! What the device tree says of the guest, and its start.

use crate::hypercall::hypercall;
use crate::low::VCPUS;
use crate::machine::{mtspr, spr};
use crate::{runner, start, trap};
use core::cell::UnsafeCell;
use fdt::Fdt;
use partita_papr::HptOrder;
use partita_papr::hcall::number::{H_CPPR, H_SET_MODE};

/// The guest that the program is.
pub struct Guest {
    /// The device tree.
    pub tree: Fdt<'static>,
    /// Where it is, real.
    pub tree_address: u64,
    /// Bytes of memory, from 0.
    pub memory: u64,
    /// Size of the hash page table.
    pub hpt: HptOrder,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// Where RTAS is entered, real.
    pub rtas_entry: u64,
    /// Memory that nobody uses: first byte and end, multiples of 64 KiB.
    pub free: [u64; 2],
}

struct Place(UnsafeCell<Option<Guest>>);

// SAFETY: written once by vCPU 0 before anybody else runs.
unsafe impl Sync for Place {}

static GUEST: Place = Place(UnsafeCell::new(None));

unsafe extern "C" {
    static _end: u8;
    fn guest_secondary();
}

/// Prepares everything and runs the program. `tree`: where the device tree is; it stays there.
pub fn start(tree: u64, main: fn(&'static Guest) -> !) -> ! {
    trap::install();
    trap::use_area(0);
    mtspr::<{ spr::DEC }>(i32::MAX as u64);
    // Interrupts in the program's byte order; translation off.
    hypercall(H_SET_MODE, [1, 4]);
    hypercall(H_CPPR, [0xff]);
    // SAFETY: P4.1: r3 is the address of the device tree, which stays there.
    let parsed = unsafe { Fdt::from_ptr(core::ptr::with_exposed_provenance(tree as usize)) };
    let guest = parsed.ok().and_then(|parsed| Guest::read(parsed, tree));
    // SAFETY: nobody else runs yet.
    let place = unsafe { &mut *GUEST.0.get() };
    *place = guest;
    match place.as_ref() {
        Some(guest) => {
            let token = guest.token("power-off").unwrap_or(0);
            runner::POWER_OFF.store(token, core::sync::atomic::Ordering::Relaxed);
            main(guest)
        }
        None => runner::abort(format_args!("no usable device tree at {tree:#x}")),
    }
}

impl Guest {
    fn read(tree: Fdt<'static>, tree_address: u64) -> Option<Guest> {
        let memory = tree.memory().regions().next()?.size? as u64;
        let cpu = tree.find_node("/cpus")?.children().next()?;
        let pft = cpu.property("ibm,pft-size")?.value;
        let order = u32::from_be_bytes(*pft.get(4..)?.first_chunk()?);
        let vcpus = tree.find_node("/cpus")?.children().count();
        let rtas = tree.find_node("/rtas")?;
        let rtas_entry = rtas.property("linux,rtas-entry")?.as_usize()? as u64;
        let start = (&raw const _end as u64).next_multiple_of(0x1_0000);
        let end = tree_address.min(rtas_entry).min(memory) & !0xffff;
        Some(Guest {
            tree,
            tree_address,
            memory,
            hpt: HptOrder::new(order)?,
            vcpus,
            rtas_entry,
            free: [start, end],
        })
    }

    /// The token of an RTAS service.
    pub fn token(&self, name: &str) -> Option<u32> {
        let rtas = self.tree.find_node("/rtas")?;
        rtas.property(name)?.as_usize().map(|token| token as u32)
    }

    /// Turns the guest off.
    pub fn power_off(&self) -> ! {
        loop {
            let _ = crate::rtas::call(self.token("power-off").unwrap_or(0), &[u32::MAX; 2], 1);
        }
    }

    /// Whether the tree offers segments of pages of 2^`shift` bytes.
    pub fn offers_pages(&self, shift: u32) -> bool {
        let cpu = self
            .tree
            .find_node("/cpus")
            .and_then(|n| n.children().next());
        let sizes = cpu
            .as_ref()
            .and_then(|n| n.property("ibm,segment-page-sizes"));
        let Some(sizes) = sizes else {
            return false;
        };
        // Base, segment encoding, count, then so many pairs.
        let mut cells = sizes
            .value
            .chunks_exact(4)
            .map(|c| c.try_into().map_or(0, u32::from_be_bytes));
        while let Some(base) = cells.next() {
            if base == shift {
                return true;
            }
            let pairs = cells.nth(1).unwrap_or(0);
            for _ in 0..2 * pairs {
                cells.next();
            }
        }
        false
    }

    /// The value of `name=value` on the command line.
    pub fn argument(&self, name: &str) -> Option<&'static str> {
        let line: &'static str = self.tree.chosen().bootargs()?;
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// A number on the command line, decimal or with 0x.
    pub fn number(&self, name: &str) -> Option<u64> {
        let text = self.argument(name)?;
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    }

    /// Starts vCPU `vcpu` by RTAS: it runs `function(argument)` on its own stack, with its own trap
    /// area not yet in use. Answers the RTAS status.
    pub fn start_vcpu(&self, vcpu: usize, function: extern "C" fn(u64) -> !, argument: u64) -> i32 {
        struct Arguments(UnsafeCell<[[u64; 3]; VCPUS]>);
        // SAFETY: each element is written before its vCPU runs.
        unsafe impl Sync for Arguments {}
        static ARGUMENTS: Arguments = Arguments(UnsafeCell::new([[0; 3]; VCPUS]));
        let function = function as *const () as u64;
        let words = [start::stack_top(vcpu % VCPUS), function, argument];
        let place = ARGUMENTS
            .0
            .get()
            .cast::<[u64; 3]>()
            .wrapping_add(vcpu % VCPUS);
        // SAFETY: in bounds; the vCPU is stopped.
        unsafe { place.write_volatile(words) };
        let token = self.token("start-cpu").unwrap_or(0);
        let entry = guest_secondary as *const () as u64;
        let args = [vcpu as u32, entry as u32, place as u64 as u32];
        let (_, [status]) = crate::rtas::service(token, &args);
        status as i32
    }
}

core::arch::global_asm!(
    r#"
    .section .text.guest_enter_rtas, "ax", @progbits
    .globl guest_enter_rtas
    .p2align 2
// r3 = argument block, r4 = entry point. RTAS returns to big-endian code with MSR = ME|RI.
guest_enter_rtas:
    mflr 0
    std 0, 16(1)
    stdu 1, -64(1)
    std 30, 40(1)
    std 31, 48(1)
    mfmsr 31
    li 30, {RI}
    ori 30, 30, {ME}
    bcl 20, 31, 0f
0:  mflr 5
    addi 5, 5, 1f - 0b
    mtlr 5
    mtsrr0 4
    mtsrr1 30
    rfid
// Big-endian: mtsrr1 r31; addi r5,r5,16; mtsrr0 r5; rfid. LR is what it was: take it from there.
1:  .long 0xa602a87c              // mflr r5
    .long 0x1400a538              // addi r5,r5,20
    .long 0xa603ba7c              // mtsrr0 r5
    .long 0xa603fb7f              // mtsrr1 r31
    .long 0x2400004c              // rfid
    ld 30, 40(1)
    ld 31, 48(1)
    addi 1, 1, 64
    ld 0, 16(1)
    mtlr 0
    blr
"#,
    ME = const crate::machine::msr::ME,
    RI = const crate::machine::msr::RI,
);

/// Enters RTAS as Linux does (P4.3, 4.4): real mode, 32 bits, big-endian.
pub fn enter_rtas(entry: u64, block: u64) {
    unsafe extern "C" {
        fn guest_enter_rtas(block: u64, entry: u64);
    }
    // SAFETY: RTAS keeps the non-volatile registers and the stack (SPEC 4.4).
    unsafe { guest_enter_rtas(block, entry) };
}
