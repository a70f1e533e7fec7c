// SPDX-License-Identifier: BSD-2-Clause
//! Entry, and system calls of Linux on POWER: number in r0, arguments in r3 to r8; CR0[SO] says that r3 is an error
//! number.

use core::arch::{asm, global_asm};
use core::fmt::{self, Arguments, Write};

global_asm!(
    ".text",
    ".globl _start",
    "_start:",
    // With an argument it is the program that has just been executed, and has ended with that.
    "ld 3, 0(1)",
    "cmpdi 3, 1",
    "ble 1f",
    "li 3, 0",
    "li 0, {exit}",
    "sc",
    "1: lis 2, .TOC.@ha",
    "addi 2, 2, .TOC.@l",
    "clrrdi 1, 1, 4",
    "li 0, 0",
    "stdu 0, -64(1)",
    "bl {main}",
    "trap",
    // r3 to r5: of execve. A child that shares memory and stack with its parent, which waits for it, executes a
    // program: nothing of the stack is touched. Result: the child, or an error.
    ".globl vfork_and_execute",
    "vfork_and_execute:",
    "mr 9, 3",
    "mr 10, 4",
    "mr 11, 5",
    "mflr 12",
    "std 12, 16(1)",
    "std 14, -8(1)",
    "std 15, -16(1)",
    "std 16, -24(1)",
    "mr 14, 9",
    "mr 15, 10",
    "mr 16, 11",
    "li 3, {vfork}",
    "li 4, 0",
    "li 0, {clone}",
    "sc",
    "cmpdi 3, 0",
    "bne 2f",
    "mr 3, 14",
    "mr 4, 15",
    "mr 5, 16",
    "li 0, {execve}",
    "sc",
    "li 3, 1",
    "li 0, {exit}",
    "sc",
    "2: ld 14, -8(1)",
    "ld 15, -16(1)",
    "ld 16, -24(1)",
    "ld 12, 16(1)",
    "mtlr 12",
    "blr",
    main = sym crate::rows::main,
    exit = const EXIT,
    clone = const CLONE,
    execve = const EXECVE,
    vfork = const CLONE_VM | CLONE_VFORK | SIGCHLD,
);

const EXIT: u64 = 1;
const READ: u64 = 3;
const WRITE: u64 = 4;
const EXECVE: u64 = 11;
const PIPE: u64 = 42;
const REBOOT: u64 = 88;
const MMAP: u64 = 90;
const MUNMAP: u64 = 91;
const WAIT4: u64 = 114;
const CLONE: u64 = 120;
const SIGCHLD: u64 = 17;
const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;

/// Why a call failed: its name, and the number of the error.
#[derive(Clone, Copy, Debug)]
pub struct Failure(pub &'static str, pub u64);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0, self.1)
    }
}

pub type Outcome<T = ()> = Result<T, Failure>;

fn call<const N: usize>(name: &'static str, number: u64, arguments: [u64; N]) -> Outcome<u64> {
    let mut words = [0; 6];
    words[..N].copy_from_slice(&arguments);
    let (result, condition): (u64, u64);
    // SAFETY: what the call does to memory is what the functions below ask for; the clobbers are those of the
    // system call ABI.
    unsafe {
        asm!(
            "sc",
            "mfcr {condition}",
            condition = out(reg) condition,
            inlateout("r0") number => _,
            inlateout("r3") words[0] => result,
            inlateout("r4") words[1] => _,
            inlateout("r5") words[2] => _,
            inlateout("r6") words[3] => _,
            inlateout("r7") words[4] => _,
            inlateout("r8") words[5] => _,
            out("r9") _, out("r10") _, out("r11") _, out("r12") _,
            out("ctr") _, out("xer") _, out("cr0") _,
            options(nostack),
        );
    }
    match condition & 1 << 28 {
        0 => Ok(result),
        _ => Err(Failure(name, result)),
    }
}

/// Timebase, 512 ticks in 1000 instructions.
#[inline(always)]
pub fn timebase() -> u64 {
    let now;
    // SAFETY: reads a register.
    unsafe { asm!("mfspr {}, 268", out(reg) now, options(nomem, nostack, preserves_flags)) };
    now
}

pub fn exit() -> ! {
    loop {
        let _ = call("exit", EXIT, [0]);
    }
}

/// A copy of this process; `None` in the copy.
#[inline(always)]
pub fn fork() -> Outcome<Option<u64>> {
    let child = call("clone", CLONE, [SIGCHLD, 0, 0, 0, 0])?;
    Ok(Some(child).filter(|child| *child != 0))
}

/// A new process that executes this program, which ends at once.
pub fn execute() -> Outcome<u64> {
    unsafe extern "C" {
        fn vfork_and_execute(
            path: *const u8,
            words: *const *const u8,
            more: *const *const u8,
        ) -> i64;
    }
    let arguments = [
        c"init".as_ptr().cast(),
        c"end".as_ptr().cast(),
        core::ptr::null(),
    ];
    let none = [core::ptr::null()];
    // SAFETY: the texts end with zeros, the lists with null.
    let child =
        unsafe { vfork_and_execute(c"/init".as_ptr().cast(), arguments.as_ptr(), none.as_ptr()) };
    u64::try_from(child).map_err(|_| Failure("vfork", child.unsigned_abs()))
}

/// Waits for the end of a child, which must end well.
pub fn wait_for(child: u64) -> Outcome {
    let mut status = 0u32;
    let address = (&raw mut status).expose_provenance() as u64;
    call("wait4", WAIT4, [child, address, 0, 0])?;
    match status {
        0 => Ok(()),
        status => Err(Failure("the child", status.into())),
    }
}

/// A pipe: where to read, where to write.
pub fn pipe() -> Outcome<[u64; 2]> {
    let mut ends = [0u32; 2];
    call("pipe", PIPE, [(&raw mut ends).expose_provenance() as u64])?;
    Ok(ends.map(u64::from))
}

/// Reads a byte; `None` at the end.
pub fn read_byte(file: u64) -> Outcome<Option<u8>> {
    let mut byte = 0u8;
    let address = (&raw mut byte).expose_provenance() as u64;
    let count = call("read", READ, [file, address, 1])?;
    Ok(Some(byte).filter(|_| count == 1))
}

pub fn write(file: u64, bytes: &[u8]) -> Outcome {
    let address = bytes.as_ptr().expose_provenance() as u64;
    match call("write", WRITE, [file, address, bytes.len() as u64])? {
        count if count == bytes.len() as u64 => Ok(()),
        count => Err(Failure("a short write", count)),
    }
}

/// Fresh memory.
pub fn map(bytes: u64) -> Outcome<u64> {
    // Readable and writable; private and of no file.
    call("mmap", MMAP, [0, bytes, 3, 0x22, u64::MAX, 0])
}

pub fn unmap(address: u64, bytes: u64) -> Outcome {
    call("munmap", MUNMAP, [address, bytes]).map(drop)
}

/// The word of the auxiliary vector that says how large a page is is not looked for: the smallest distance at which
/// memory can be unmapped is a page.
pub fn page_size() -> Outcome<u64> {
    let memory = map(0x2_0000)?;
    let mut size = 0x1000;
    while unmap(memory + size, size).is_err() {
        size *= 2;
    }
    unmap(memory, 0x2_0000)?;
    Ok(size)
}

pub fn power_off() -> ! {
    loop {
        let _ = call("reboot", REBOOT, [0xfee1_dead, 0x2812_1969, 0x4321_fedc, 0]);
    }
}

struct Output;

impl Write for Output {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        write(1, text.as_bytes()).map_err(|_| core::fmt::Error)
    }
}

pub fn line(text: Arguments<'_>) {
    // Nobody would hear that it fails.
    let _ = writeln!(Output, "{text}");
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    line(format_args!("bench failed: {info}"));
    power_off()
}
