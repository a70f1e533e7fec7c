// SPDX-License-Identifier: BSD-2-Clause
//! All cores: starting them, and their way into the kernel.
//!
//! With one core there are no locks: nothing of this is on its way. With more, boot changes the few
//! branches that lead into the kernel ([`SITES`]), so that they lead through [`enter`] and [`leave`].

use crate::arch::machine::{self, Power};
use crate::arch::{guest, locks, mmu, opal, spr, start, vectors};
use crate::percore::{self, MAX_CORES, arch_word};
use crate::{entry, println};
use core::sync::atomic::{AtomicU64, Ordering};
use partita_abi::limits;
use partita_kernel_core::Kernel;
use partita_kernel_core::object::{Core, Ref, Tcb, entry as kind, thread_kind};
use partita_kernel_core::quick::Local;
use partita_kernel_lock::{CoreLock, TicketLock, lock_all, unlock_all};

static LOCKS: [CoreLock; MAX_CORES] = [const { CoreLock::new() }; MAX_CORES];
/// Locks of hash page tables, by LPID: for cores that hold only their own lock.
static TABLE_LOCKS: [Line<TicketLock>; limits::MAX_LPIDS] =
    [const { Line(TicketLock::new()) }; limits::MAX_LPIDS];

/// Something with a cache line of its own: different tables are different cores' business.
#[repr(align(128))]
struct Line<T>(T);

/// Real address of the [`Core`] of the core that is being started; 0: one that comes now is too late.
pub static STARTING: AtomicU64 = AtomicU64::new(0);
/// How many cores have arrived.
static ARRIVED: AtomicU64 = AtomicU64::new(0);
/// How long a core may take to arrive, seconds.
const START_SECONDS: u64 = 5;

/// Timebase at which the holder of all locks took them.
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// How long a preemptible operation may keep others waiting, ticks: 20 microseconds.
const TURN: u64 = crate::board::TIMEBASE_HZ / 50_000;

/// How long a guest runs without an interrupt when there are several cores, ticks: one millisecond. A doorbell gets it
/// out at once, whatever its MSR[EE] (ISA 3.0B Book III 6.5.18); but QEMU's waits for EE = 1.
pub const GUEST_TURN: u64 = crate::board::TIMEBASE_HZ / 1000;

/// The lock of core number `id`. Numbers are those of [`Core::id`], which are in range.
fn lock_of(id: u64) -> &'static CoreLock {
    &LOCKS[id as usize % MAX_CORES]
}

/// The locks of the cores from number `from` on. The number of cores changes only while the boot core
/// holds the first lock, so that whoever has that one knows it.
fn locks_from(from: usize) -> &'static [CoreLock] {
    let cores = percore::global().num_cores.get() as usize;
    LOCKS.get(from..cores).unwrap_or(&[])
}

/// Ticks for which each core has waited for locks; `cargo xtask bench` reads them from outside. A core writes its own.
static WAITED: [Line<AtomicU64>; MAX_CORES] = [const { Line(AtomicU64::new(0)) }; MAX_CORES];

/// A core's wait for locks, of which nothing is known as long as they are free.
struct Wait<'a> {
    core: &'a Core,
    turns: u32,
    from: u64,
}

impl<'a> Wait<'a> {
    fn new(core: &'a Core) -> Self {
        Self {
            core,
            turns: 0,
            from: 0,
        }
    }

    /// For a lock whose holder waits for nothing.
    fn turn(&mut self) {
        if self.turns == 0 {
            self.from = spr::timebase();
        }
        relax(&mut self.turns);
    }

    /// Does meanwhile what another core asks, which is to save a guest's registers.
    fn serving_turn(&mut self) {
        lock_of(self.core.id.get()).serve(|vcpu| {
            if let Some(vcpu) = Ref::new(vcpu) {
                guest::evict(self.core, vcpu);
            }
        });
        self.turn();
    }

    /// The locks are taken.
    fn end(self) {
        if self.turns != 0 {
            let waited = &WAITED[self.core.id.get() as usize % MAX_CORES].0;
            let ticks = spr::timebase() - self.from;
            waited.store(waited.load(Ordering::Relaxed) + ticks, Ordering::Relaxed);
        }
    }
}

/// Turns of a waiting loop between two pauses: what is waited for is short, and a simulator stops for each.
const TURNS: u32 = 256;

/// A turn of a loop that waits for another core. Now and then the processor's other threads go first.
fn relax(turns: &mut u32) {
    *turns = turns.wrapping_add(1).max(1);
    if turns.is_multiple_of(TURNS) {
        // SAFETY: changes the priority of this hardware thread to low and back to medium.
        unsafe {
            core::arch::asm!(
                "or 1, 1, 1",
                "or 2, 2, 2",
                options(nomem, nostack, preserves_flags)
            )
        };
    }
}

/// This core, whose thread's registers are in memory, takes all locks. `what` the thread wants is in
/// [`Core::entry`] meanwhile.
fn enter(core: &Core, what: u64) {
    core.entry.set(what);
    lock_of(core.id.get()).arrive();
    let mut wait = Wait::new(core);
    lock_all(LOCKS[..1].iter(), || wait.serving_turn());
    lock_all(locks_from(1).iter(), || wait.serving_turn());
    wait.end();
    TAKEN.store(spr::timebase(), Ordering::Relaxed);
}

/// Releases all locks; the core runs what `core.current` names.
fn leave(core: &Core) {
    if let Some(thread) = core.current.get() {
        lock_of(core.id.get()).depart();
        if Power::at::<Tcb>(thread.addr()).kind.get() == thread_kind::VCPU {
            spr::limit_hdec(GUEST_TURN);
        }
    }
    unlock_all(locks_from(0).iter());
}

/// What the thread came for, unless somebody has taken it away while this core waited.
fn still(core: &Core, what: u64) -> bool {
    core.entry.replace(kind::NONE) == what
}

/// An invocation on the entries of a hash page table needs no more than this core's lock and that table's, and a send
/// that goes nowhere only the first. False if it is something else, or if another core has this one's lock: this core
/// still counts as running its thread, so that it may not wait.
extern "C" fn smp_local_syscall(core: &Core) -> bool {
    let own = &lock_of(core.id.get()).lock;
    let k = Kernel::new(&Power, percore::global(), core);
    if !own.try_lock() {
        return false;
    }
    let table = k
        .local_table()
        .and_then(|lpid| Some(&TABLE_LOCKS.get(lpid as usize)?.0));
    let done = match table {
        Some(table) => {
            let mut wait = Wait::new(core);
            table.lock(|| wait.turn());
            wait.end();
            let done = entry::kernel_local_syscall(core) == Local::Settled;
            table.unlock();
            done
        }
        None => k.sends_to_nobody(),
    };
    own.unlock();
    done
}

extern "C" fn smp_syscall(core: &Core) {
    enter(core, kind::CALL);
    if still(core, kind::CALL) {
        entry::kernel_syscall(core);
    } else {
        entry::go_on(core);
    }
    leave(core);
}

extern "C" fn smp_exception(core: &Core, vector: u64, srr1: u64) {
    let what = match entry::is_asynchronous(vector) {
        true => kind::NONE,
        false => kind::FAULT,
    };
    enter(core, what);
    if still(core, what) {
        entry::kernel_exception(core, vector, srr1);
    } else {
        entry::go_on(core);
    }
    leave(core);
}

extern "C" fn smp_guest_exception(core: &Core, vector: u64, srr1: u64) {
    let what = match vector {
        0xc00 => kind::CALL,
        _ if entry::is_asynchronous(vector) => kind::NONE,
        _ => kind::FAULT,
    };
    enter(core, what);
    if still(core, what) {
        entry::kernel_guest_exception(core, vector, srr1);
    } else {
        entry::go_on(core);
    }
    leave(core);
}

extern "C" fn smp_idle_exception(core: &Core, vector: u64, srr1: u64) {
    enter(core, kind::NONE);
    entry::kernel_idle_exception(core, vector, srr1);
    leave(core);
}

core::arch::global_asm!(
    r#"
    .section .text.smp, "ax", @progbits
    .p2align 2
// In: as at syscall_from_pd.
smp_syscall_from_pd:
    bl {smp_local_syscall}
    cmpdi 3, 0
    bne same_thread_goes_on
    mfspr 3, {HSPRG0}
    ld 11, {CURRENT}(3)
    .irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, {GPR} + 8*\n(11)
    .endr
    bl {smp_syscall}
    b return_to_current
smp_exception_from_pd:
    bl {smp_exception}
    b return_to_current
smp_exception_from_vcpu:
    bl {smp_guest_exception}
    b return_to_current
smp_exception_from_idle:
    bl {smp_idle_exception}
    b return_to_current
"#,
    GPR = const core::mem::offset_of!(partita_kernel_core::object::Context, gpr),
    HSPRG0 = const spr::HSPRG0,
    CURRENT = const core::mem::offset_of!(Core, current),
    smp_local_syscall = sym smp_local_syscall,
    smp_syscall = sym smp_syscall,
    smp_exception = sym smp_exception,
    smp_guest_exception = sym smp_guest_exception,
    smp_idle_exception = sym smp_idle_exception,
);

unsafe extern "C" {
    static syscall_from_pd: u8;
    static exception_from_pd: u8;
    static exception_from_vcpu: u8;
    static exception_from_idle: u8;
    static smp_syscall_from_pd: u8;
    static smp_exception_from_pd: u8;
    static smp_exception_from_vcpu: u8;
    static smp_exception_from_idle: u8;
}

/// Instructions of the text that become branches when there is more than one core, and where they go then.
fn sites() -> [(u64, u64); 4] {
    [
        (&raw const syscall_from_pd, &raw const smp_syscall_from_pd),
        (
            &raw const exception_from_pd,
            &raw const smp_exception_from_pd,
        ),
        (
            &raw const exception_from_vcpu,
            &raw const smp_exception_from_vcpu,
        ),
        (
            &raw const exception_from_idle,
            &raw const smp_exception_from_idle,
        ),
    ]
    .map(|(site, target)| (site as u64, target as u64))
}

/// Opcode of a relative branch; bits 25:2 are the distance.
const BRANCH: u32 = 18 << 26;
const BRANCH_DISTANCE: u32 = 0x3ff_fffc;

/// Leads the ways into the kernel, and its fast paths, through the locks.
fn change_sites() {
    for (site, target) in sites().into_iter().chain(locks::sites()) {
        // Both lie in the same block, so that the distance is that of the copy, too.
        let distance = target.wrapping_sub(site) as u32;
        let at = vectors::installed(site);
        // SAFETY: an instruction of the kernel's own, which runs untranslated from writable memory; no
        // other core executes it yet. The kernel is far smaller than a branch reaches.
        unsafe { (at as *mut u32).write_volatile(BRANCH | distance & BRANCH_DISTANCE) };
        mmu::sync_instructions(at, 4);
    }
}

/// Starts the other cores (their PIRs), one by one, and returns how many run, with this one. If there are
/// several, this core holds all locks afterwards.
pub fn start_others(core: &Core, pirs: &[u64]) -> u64 {
    lock_all(LOCKS[..1].iter(), || {});
    let mut count = 1;
    ARRIVED.store(count, Ordering::Relaxed);
    for &pir in pirs.iter().filter(|pir| **pir != core.pir.get()) {
        let Some(next) = percore::init(count as usize, pir, core.toc.get(), spr::MSR_PD) else {
            break;
        };
        STARTING.store(next as *const Core as u64, Ordering::SeqCst);
        if let Err(e) = opal::start_cpu(pir, start::secondary_entry_address()) {
            println!("processor {pir} does not start: {e:?}");
            continue;
        }
        let from = spr::timebase();
        while ARRIVED.load(Ordering::Acquire) == count {
            if spr::timebase() - from > START_SECONDS * crate::board::TIMEBASE_HZ {
                println!("processor {pir} does not arrive");
                STARTING.store(0, Ordering::SeqCst);
                break;
            }
        }
        if ARRIVED.load(Ordering::Acquire) == count {
            break;
        }
        next.online.set(1);
        count += 1;
    }
    percore::global().num_cores.set(count);
    if count > 1 {
        lock_all(locks_from(1).iter(), || {});
        for (core, lock) in percore::global().cores.iter().zip(&LOCKS) {
            percore::set(core, arch_word::LOCK, lock as *const CoreLock as u64);
        }
        change_sites();
    }
    count
}

/// The first Rust code of every other core: its registers, then the idle loop.
pub extern "C" fn secondary_main(core: &'static Core) -> ! {
    start::set_kernel_msr();
    // SAFETY: the vectors, which are installed, expect this core's `Core` here.
    unsafe { spr::write::<{ spr::HSPRG0 }>(core as *const _ as u64) };
    spr::set_hdec(spr::DECREMENTER_MAX);
    spr::park_dec();
    spr::close_facilities();
    mmu::init_core();
    guest::init_core(core);
    ARRIVED.fetch_add(1, Ordering::Release);
    // The boot core lets go when everything is there.
    enter(core, kind::NONE);
    Kernel::new(&Power, percore::global(), core).finish();
    leave(core);
    start::enter_current()
}

/// The boot core, which has made the root task, lets all cores go.
pub fn release(core: &Core) {
    leave(core);
}

/// Whether another core has waited for this one, which holds the locks, for long enough.
pub fn contended() -> bool {
    LOCKS[0].lock.contended() && spr::timebase() - TAKEN.load(Ordering::Relaxed) > TURN
}

/// [`Machine::stop_core`](partita_kernel_core::machine::Machine::stop_core).
pub fn stop(other: &Core) {
    let lock = lock_of(other.id.get());
    if lock.is_running() {
        machine::ring_doorbell(other);
        let mut turns = 0;
        while lock.is_running() {
            relax(&mut turns);
        }
    }
}

/// Has another core save what it holds of the vCPU at `vcpu`.
pub fn evict(other: &Core, vcpu: u64) {
    let lock = lock_of(other.id.get());
    lock.ask(vcpu);
    machine::ring_doorbell(other);
    let mut turns = 0;
    while !lock.is_served() {
        relax(&mut turns);
    }
}
