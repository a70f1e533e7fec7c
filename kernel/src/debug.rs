// SPDX-License-Identifier: BSD-2-Clause
//! Debug system calls and what the kernel says about faults. They give every thread authority over the
//! console and knowledge of others, so that they exist in the debug configuration only.

use crate::arch::machine::Power;
use crate::arch::{opal, uart};
use crate::percore::{self, MAX_CORES, Shared};
use crate::println;
use core::cell::Cell;
use core::fmt;
use partita_abi::{IpcBufferLayout, address_space as space, limits, syscall};
use partita_kernel_core::Kernel;
use partita_kernel_core::cap::{Cap, TYPE_SHIFT};
use partita_kernel_core::machine::Machine;
use partita_kernel_core::object::{Core, Link, PRIORITIES, Ref, Slot, Tcb, ThreadState, tcb_slot};

/// Register of the system call number.
const NUMBER: usize = 0;
/// Register of the argument and the result.
const ARGUMENT: usize = 3;
/// Threads that can have a name; the oldest name goes first.
const NAMES: usize = 64;
/// Bytes of a name that are kept.
const NAME_BYTES: usize = 24;

struct Name {
    tcb: Cell<u64>,
    bytes: [Cell<u8>; NAME_BYTES],
}

struct Names {
    names: [Name; NAMES],
    next: Cell<usize>,
}

static THREAD_NAMES: Shared<Names> = Shared(Names {
    names: [const {
        Name {
            tcb: Cell::new(0),
            bytes: [const { Cell::new(0) }; NAME_BYTES],
        }
    }; NAMES],
    next: Cell::new(0),
});

/// A thread for printing: its name, or the address of its TCB.
pub struct Thread(pub Ref<Tcb>);

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match THREAD_NAMES
            .0
            .names
            .iter()
            .find(|n| n.tcb.get() == self.0.addr())
        {
            Some(name) => {
                for byte in name.bytes.iter().map(Cell::get).take_while(|&b| b != 0) {
                    fmt::Write::write_char(f, char::from(byte))?;
                }
                Ok(())
            }
            None => write!(f, "{:?}", self.0),
        }
    }
}

fn tcb(t: Ref<Tcb>) -> &'static Tcb {
    Power::at(t.addr())
}

/// Keeps a name for the thread at `addr`. Bytes that would not print are shown as dots.
pub fn set_name(addr: u64, name: impl Iterator<Item = u8>) {
    let all = &THREAD_NAMES.0;
    let place = match all.names.iter().position(|n| n.tcb.get() == addr) {
        Some(place) => place,
        None => {
            let place = all.next.get();
            all.next.set((place + 1) % NAMES);
            place
        }
    };
    let entry = &all.names[place];
    entry.tcb.set(addr);
    let mut name = name.map(|b| if b.is_ascii_graphic() { b } else { b'.' });
    for cell in &entry.bytes {
        cell.set(name.next().unwrap_or(0));
    }
}

/// The threads that have a name.
pub fn named() -> impl Iterator<Item = Ref<Tcb>> {
    let names = THREAD_NAMES.0.names.iter();
    names.filter_map(|n| Ref::new(n.tcb.get()))
}

/// What the capability pointer `cptr` of a thread names, all 64 bits resolved.
fn look_up(thread: Ref<Tcb>, cptr: u64) -> Option<&'static Slot> {
    let mut slot: &Slot = &tcb(thread).slots[tcb_slot::CSPACE];
    let mut bits = 64;
    while bits > 0 {
        let Cap::CNode {
            addr,
            radix,
            guard,
            guard_bits,
        } = slot.cap()
        else {
            return None;
        };
        let level = radix + guard_bits;
        if level == 0 || level > bits {
            return None;
        }
        let field = |shift: u32, width: u32| {
            cptr.checked_shr(shift).unwrap_or(0)
                & 1u64.checked_shl(width).unwrap_or(0).wrapping_sub(1)
        };
        if field(bits - guard_bits, guard_bits) != guard {
            return None;
        }
        bits -= level;
        slot = Power::at(addr + 32 * field(bits, radix));
    }
    Some(slot)
}

/// Handles a debug system call of the current thread; false if it is another one.
pub fn system_call(core: &Core) -> bool {
    let Some(thread) = core.current.get() else {
        return false;
    };
    let gpr = &tcb(thread).context.gpr;
    let argument = gpr[ARGUMENT].get();
    match gpr[NUMBER].get() as isize {
        syscall::DEBUG_PUT_CHAR => {
            if argument as u8 == b'\n' {
                uart::put(b'\r');
            }
            uart::put(argument as u8);
        }
        syscall::DEBUG_DUMP_SCHEDULER => dump_scheduler(),
        syscall::DEBUG_HALT => {
            println!("KERNEL|INFO: halted by {}", Thread(thread));
            // Firmware that refuses leaves the machine running.
            let _ = opal::power_down();
        }
        syscall::DEBUG_CAP_IDENTIFY => {
            let kind = look_up(thread, argument).map_or(0, |s| s.w0.get() >> TYPE_SHIFT);
            gpr[ARGUMENT].set(kind);
        }
        syscall::DEBUG_SNAPSHOT => crate::snapshot::print(),
        syscall::DEBUG_NAME_THREAD => {
            if let Some(Cap::Thread(named)) = look_up(thread, argument).map(Slot::cap) {
                name_from_buffer(thread, named);
            }
        }
        syscall::DEBUG_AUDIT_GUESTS => gpr[ARGUMENT].set(audit_guests(core)),
        _ => return false,
    }
    gpr[NUMBER].set(0);
    true
}

/// Names `named` with the bytes in the IPC buffer of `thread`, from message register 0 to a zero byte.
fn name_from_buffer(thread: Ref<Tcb>, named: Ref<Tcb>) {
    let buffer = tcb(thread).ipc_buffer.get();
    if buffer == 0 {
        return;
    }
    let words = (0..NAME_BYTES / 8)
        .map(|i| Power.read_word(buffer + 8 * (IpcBufferLayout::MSG + i) as u64));
    let bytes = words.flat_map(u64::to_le_bytes).take_while(|&b| b != 0);
    set_name(named.addr(), bytes);
}

/// Prints a queue of threads; bounded, since a damaged queue could be a ring.
fn print_queue(title: &str, number: usize, head: &Link<Tcb>) {
    let mut next = head.get();
    for _ in 0..NAMES {
        let Some(t) = next else { return };
        println!("  {title} {number}: {}", Thread(t));
        next = tcb(t).queue_next.get();
    }
}

/// Prints what each core runs and could run.
fn dump_scheduler() {
    for core in (0..MAX_CORES)
        .filter_map(percore::core)
        .filter(|c| c.online.get() != 0)
    {
        match core.current.get() {
            Some(t) => println!("core {}: {}", core.id.get(), Thread(t)),
            None => println!("core {}: idle", core.id.get()),
        }
        for priority in (0..PRIORITIES).rev() {
            print_queue("ready, priority", priority, &core.ready_head[priority]);
        }
    }
}

/// Checks the hash page tables of all guests; prints what is wrong. Returns the number of valid entries,
/// all ones if something is wrong.
fn audit_guests(core: &Core) -> u64 {
    let k = Kernel::new(&Power, percore::global(), core);
    let mut entries = 0;
    for lpid in 1..limits::MAX_LPIDS as u64 {
        match k.audit_guest(lpid) {
            Some(audit) if audit.wrong.is_some() => {
                println!("KERNEL|AUDIT: guest {lpid}: {audit}");
                return u64::MAX;
            }
            Some(audit) => entries += audit.entries,
            None => {}
        }
    }
    entries
}

/// Reports a fault that nobody handles: the thread has stopped.
pub fn unhandled_fault(thread: Ref<Tcb>, label: partita_abi::FaultLabel, words: &[u64]) {
    if tcb(thread).state.get() == ThreadState::Inactive as u64 {
        println!(
            "KERNEL|INFO: {} stopped: {} {words:x?}",
            Thread(thread),
            label.name()
        );
    }
}

const _: () = assert!(space::WORD_BITS == 64);
