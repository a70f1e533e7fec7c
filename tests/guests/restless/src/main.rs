// SPDX-License-Identifier: BSD-2-Clause
//! A guest for tests of hostile servers: it makes hypercalls with random arguments and touches random
//! memory, in real mode, for ever. Every interrupt starts it anew: it keeps nothing that could be
//! damaged but its code and its vectors. If it has a second vCPU, that does the same; now and then somebody
//! asks for its start, should it be stopped.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod program {
    use core::arch::{asm, global_asm};
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use partita_papr::hcall::number as h;

    // Entered in either byte order: big-endian at the start and as long as nobody changes LPCR[ILE].
    // `tdi 0, 0, 0x48` does nothing; read in the other byte order it is `b . + 8`. What follows is
    // big-endian code that turns MSR[LE] on; then the words behind are little-endian.
    global_asm!(
        ".macro little_endian",
        "tdi 0, 0, 0x48",
        "b 9f",
        ".long 0xa600607d", // mfmsr 11
        ".long 0x01006b69", // xori 11, 11, 1
        ".long 0x05009f42", // bcl 20, 31, . + 4
        ".long 0xa602487d", // mflr 10: the address of this instruction
        ".long 0x14004a39", // addi 10, 10, 20
        ".long 0xa6035a7d", // mtsrr0 10
        ".long 0xa6037b7d", // mtsrr1 11
        ".long 0x2400004c", // rfid
        "9:",
        ".endm",
        ".section .text.start, \"ax\", @progbits",
        ".globl _start",
        "_start:",
        "little_endian",
        // The device tree.
        "lis 4, {tree}@h",
        "ori 4, 4, {tree}@l",
        "std 3, 0(4)",
        // The vectors, every 0x80 bytes from 0x100 to 0x1800: the stub below, 14 words.
        "lis 3, vector_stub@h",
        "ori 3, 3, vector_stub@l",
        "li 4, 0x100",
        "1:",
        "li 5, 0",
        "2:",
        "lwzx 6, 3, 5",
        "stwx 6, 4, 5",
        "addi 5, 5, 4",
        "cmpldi 5, 56",
        "blt 2b",
        "dcbst 0, 4",
        "sync",
        "icbi 0, 4",
        "isync",
        "addi 4, 4, 0x80",
        "cmpldi 4, 0x1800",
        "blt 1b",
        "b again",
        "vector_stub:",
        "little_endian",
        "lis 12, again@h",
        "ori 12, 12, again@l",
        "mtctr 12",
        "bctr",
        // The next stack in turn: the other vCPU is on another one, most of the time.
        "again:",
        "lis 3, {turn}@h",
        "ori 3, 3, {turn}@l",
        "1: ldarx 4, 0, 3",
        "addi 5, 4, 1",
        "stdcx. 5, 0, 3",
        "bne- 1b",
        "clrldi 4, 4, 64 - {stacks_log2}",
        "mulli 4, 4, {stack_bytes}",
        "lis 1, {stack}@h",
        "ori 1, 1, {stack}@l",
        "add 1, 1, 4",
        "addi 1, 1, {room}",
        "lis 2, .TOC.@h",
        "ori 2, 2, .TOC.@l",
        "lis 12, {restless}@h",
        "ori 12, 12, {restless}@l",
        "mtctr 12",
        "bctr",
        // Entry of the second vCPU, whose vectors are there already.
        ".globl second",
        "second:",
        "little_endian",
        "b again",
        tree = sym TREE,
        turn = sym TURN,
        stacks_log2 = const STACKS.ilog2(),
        stack_bytes = const STACK_BYTES,
        stack = sym STACK,
        room = const STACK_BYTES - 128,
        restless = sym restless,
    );

    const STACK_BYTES: usize = 4096;

    /// Stacks, a power of two.
    const STACKS: usize = 16;

    #[repr(C, align(128))]
    struct Stack(core::cell::UnsafeCell<[[u8; STACK_BYTES]; STACKS]>);

    // SAFETY: only stack pointers refer to it. Should two vCPUs ever be on the same stack, as everything else that
    // goes wrong it ends with an interrupt.
    unsafe impl Sync for Stack {}

    static STACK: Stack = Stack(core::cell::UnsafeCell::new([[0; STACK_BYTES]; STACKS]));

    /// Which stack is next; where the device tree is.
    static TURN: AtomicU64 = AtomicU64::new(0);
    static TREE: AtomicU64 = AtomicU64::new(0);
    /// Token of start-cpu, 0: not known yet; [`NONE`]: there is no second vCPU.
    static START_CPU: AtomicU64 = AtomicU64::new(0);
    const NONE: u64 = u64::MAX;

    /// What it may ask for. Nothing ends the guest: no RTAS but start-cpu.
    const CALLS: [u64; 24] = [
        h::H_ENTER,
        h::H_ENTER,
        h::H_ENTER,
        h::H_REMOVE,
        h::H_REMOVE,
        h::H_BULK_REMOVE,
        h::H_PROTECT,
        h::H_READ,
        h::H_CLEAR_REF,
        h::H_CLEAR_MOD,
        h::H_PAGE_INIT,
        h::H_PAGE_INIT,
        h::H_PAGE_INIT,
        h::H_PAGE_INIT,
        h::H_REGISTER_VPA,
        h::H_REGISTER_VPA,
        h::H_REGISTER_VPA,
        h::H_CEDE,
        h::H_PROD,
        h::H_CONFER,
        h::H_RANDOM,
        h::H_CPPR,
        h::H_XIRR,
        // Nobody's: it goes to the parent.
        0x7fc,
    ];

    /// Guest memory that the test gives it, and where random pages begin, above program and vectors.
    const MEMORY: u64 = 64 << 20;
    const PAGES: u64 = 1 << 20;
    /// Ticks until the decrementer interrupts: a tenth of a millisecond.
    const SLICE: u64 = 51_200;

    fn timebase() -> u64 {
        let ticks;
        // SAFETY: reads a register.
        unsafe { asm!("mfspr {}, 268", out(reg) ticks, options(nomem, nostack)) };
        ticks
    }

    fn hypercall(number: u64, args: [u64; 8]) {
        let [a, b, c, d, e, f, g, i] = args;
        // SAFETY: whatever the servers do to registers that are not named or to memory, the next
        // interrupt starts the program anew; that is what it is for.
        unsafe {
            asm!(
                "sc 1",
                inlateout("r3") number => _,
                inlateout("r4") a => _, inlateout("r5") b => _, inlateout("r6") c => _,
                inlateout("r7") d => _, inlateout("r8") e => _, inlateout("r9") f => _,
                inlateout("r10") g => _, inlateout("r11") i => _,
                out("r0") _, out("r12") _, out("lr") _, out("ctr") _, out("xer") _,
                out("cr0") _, out("cr1") _, out("cr5") _, out("cr6") _, out("cr7") _,
                options(nostack),
            );
        }
    }

    /// What the device tree says of [`START_CPU`].
    fn find_start_cpu() -> u64 {
        // SAFETY: the first vCPU began with this address; if it is damaged, an interrupt comes of it.
        let tree = unsafe {
            fdt::Fdt::from_ptr(core::ptr::with_exposed_provenance(
                TREE.load(Relaxed) as usize
            ))
        };
        let token = tree.ok().and_then(|tree| {
            let second = tree.find_node("/cpus")?.children().nth(1);
            second.and(tree.find_node("/rtas")?.property("start-cpu")?.as_usize())
        });
        token.map_or(NONE, |token| token as u64)
    }

    /// Asks for the start of the second vCPU, which most of the time runs already.
    fn start_second() {
        unsafe extern "C" {
            static second: u8;
        }
        let token = match START_CPU.load(Relaxed) {
            0 => find_start_cpu(),
            token => token,
        };
        START_CPU.store(token, Relaxed);
        if token == NONE {
            return;
        }
        let entry = &raw const second as u64 as u32;
        let block = [token as u32, 3, 1, 1, entry, 0, 0].map(u32::to_be);
        let block = core::ptr::from_ref(&block).expose_provenance() as u64;
        hypercall(h::H_RTAS, [block, 0, 0, 0, 0, 0, 0, 0]);
    }

    extern "C" fn restless() -> ! {
        let mut state = timebase() | 1;
        let mut random = move || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
        };
        loop {
            // SAFETY: only sets the decrementer.
            unsafe { asm!("mtdec {}", in(reg) SLICE, options(nomem, nostack)) };
            let page = PAGES + random() % ((MEMORY - PAGES) >> 12) * 0x1000;
            let number = CALLS[(random() % CALLS.len() as u64) as usize];
            // Not the last of a group, which may be an entry of the virtual real mode area.
            let ptex = random() % 0x2000 * 8 + random() % 7;
            let args = match number {
                h::H_ENTER => [
                    0,
                    ptex & !7,
                    random() << 12 | 1,
                    page | 0x190 | (random() % 4),
                ],
                h::H_REMOVE | h::H_READ | h::H_CLEAR_REF | h::H_CLEAR_MOD => [0, ptex, 0, 0],
                h::H_PROTECT => [random() & 0xe07, ptex, 0, 0],
                h::H_BULK_REMOVE => [1 << 62 | ptex, 0, 3 << 62, 0],
                // Zero or copy.
                h::H_PAGE_INIT => [[0x8000, 0x4000][(random() % 2) as usize], page, PAGES, 0],
                h::H_REGISTER_VPA => [(random() % 8) << 45, 0, page, 0],
                h::H_CPPR => [0xff, 0, 0, 0],
                _ => [0, 0, 0, 0],
            };
            if number == h::H_REGISTER_VPA {
                // The length stands in the area: 640 bytes for a VPA, as much for the others.
                // SAFETY: memory of the guest that holds nothing of the program's.
                unsafe {
                    core::ptr::with_exposed_provenance_mut::<u32>(page as usize + 4)
                        .write_volatile([0x280u32 << 16, 0x280][(random() % 2) as usize].to_be());
                }
            }
            if random() % 64 == 0 {
                start_second();
            }
            let [a, b, c, d] = args;
            hypercall(number, [a, b, c, d, 0, 0, 0, 0]);
            if random() % 8 == 0 {
                // Now and then memory that is not there.
                let at = (random() % (2 * MEMORY)) & !7;
                // SAFETY: a read that at worst is an interrupt, which starts the program anew.
                unsafe {
                    core::ptr::with_exposed_provenance::<u64>(at as usize).read_volatile();
                }
            }
        }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        restless()
    }
}
