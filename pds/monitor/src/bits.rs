// SPDX-License-Identifier: BSD-2-Clause
//! Status registers in words (ISA 3.0B, book III, chapter 7).

/// Bits and their meaning.
pub type Table = &'static [(u64, &'static str)];

/// The access was a store.
pub const DSISR_STORE: u64 = 0x0200_0000;

/// DSISR of a data storage interrupt.
pub const DSISR: Table = &[
    (0x4000_0000, "no translation"),
    (0x1000_0000, "no execute or guarded"),
    (0x0800_0000, "protection"),
    (
        0x0400_0000,
        "access not permitted to cache-inhibited memory",
    ),
    (DSISR_STORE, "store"),
    (0x0040_0000, "watchpoint"),
    (0x0020_0000, "storage key"),
    (0x0008_0000, "unsupported MMU configuration"),
    (0x0004_0000, "reference or change bit not set"),
    (0x0002_0000, "process table entry"),
    (0x0000_0008, "copy or paste of such memory"),
    (0x0000_0004, "atomic operation of such memory"),
    (
        0x0000_0002,
        "wrong kind of load or store for cache-inhibited memory",
    ),
];

/// SRR1 of an instruction storage interrupt.
pub const SRR1_STORAGE: Table = &[
    (0x4000_0000, "no translation"),
    (0x1000_0000, "no execute or guarded"),
    (0x0800_0000, "protection"),
    (0x0020_0000, "storage key"),
    (0x0008_0000, "unsupported MMU configuration"),
    (0x0004_0000, "reference bit not set"),
    (0x0002_0000, "process table entry"),
];

/// SRR1 of a program interrupt.
pub const SRR1_PROGRAM: Table = &[
    (0x0020_0000, "transactional memory"),
    (0x0010_0000, "floating point"),
    (0x0008_0000, "illegal instruction"),
    (0x0004_0000, "privileged instruction"),
    (0x0002_0000, "trap (a panic ends so)"),
];

/// Vector of program interrupts.
pub const PROGRAM: u64 = 0x700;
/// Vector of facility unavailable interrupts.
pub const FACILITY_UNAVAILABLE: u64 = 0xf60;
/// Vector of hypervisor facility unavailable interrupts.
pub const HV_FACILITY_UNAVAILABLE: u64 = 0xf80;

/// Name of an interrupt by its vector.
pub fn exception_name(vector: u64) -> &'static str {
    match vector {
        0x200 => "machine check",
        0x600 => "alignment interrupt",
        PROGRAM => "program interrupt",
        0x800 => "floating point unavailable",
        0xd00 => "trace interrupt",
        0xe40 => "illegal instruction",
        0xf20 => "vector unavailable",
        0xf40 => "VSX unavailable",
        FACILITY_UNAVAILABLE | HV_FACILITY_UNAVAILABLE => "facility unavailable",
        0x1700 => "vector assist",
        _ => "exception",
    }
}

/// Name of a facility by the cause that FSCR and HFSCR give.
pub fn facility(cause: u64) -> Option<&'static str> {
    Some(match cause {
        0 => "floating point",
        1 => "vector and VSX",
        2 => "DSCR",
        3 => "performance monitor registers",
        4 => "branch history",
        5 => "transactional memory",
        7 => "event-based branches",
        8 => "TAR",
        10 => "doorbells (msgsndp)",
        12 => "scv",
        13 => "prefixed instructions",
        _ => return None,
    })
}
