// SPDX-License-Identifier: BSD-2-Clause
//! The end of the kernel: say what happened, where printing is on, and turn the machine off.

use crate::arch::{opal, spr};
use crate::{percore, println};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use partita_kernel_core::object::Core;

/// Set by the first core that gets here; an interrupt or panic on the way ends in a loop.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Power down takes a while after firmware has accepted it.
fn stop() -> ! {
    let _ = opal::power_down();
    loop {
        opal::poll_events();
    }
}

fn enter() {
    if STOPPING.swap(true, Ordering::Relaxed) {
        loop {
            core::hint::spin_loop();
        }
    }
}

/// An interrupt in the kernel or in a place where none can be: prints the registers and stops.
/// `vector` is where it arrived, `srr1` what SRR1 or HSRR1 held.
pub extern "C" fn kernel_crash(core: &Core, vector: u64, srr1: u64) -> ! {
    enter();
    println!(
        "\nKERNEL|CRASH: core {} interrupt {:#x} srr1 {:#018x}",
        core.id.get(),
        vector,
        srr1
    );
    if let Some(c) = percore::crash_context(core) {
        println!(
            "pc {:016x} lr {:016x} ctr {:016x} cr {:08x} xer {:016x}",
            c.pc.get(),
            c.lr.get(),
            c.ctr.get(),
            c.cr.get(),
            c.xer.get()
        );
        for (n, four) in c.gpr.chunks_exact(4).enumerate() {
            println!(
                "r{:<2} {:016x} {:016x} {:016x} {:016x}",
                4 * n,
                four[0].get(),
                four[1].get(),
                four[2].get(),
                four[3].get()
            );
        }
    }
    println!(
        "dar {:016x} dsisr {:08x} hdar {:016x} hdsisr {:08x} thread {:#x} pid {}",
        spr::read::<{ spr::DAR }>(),
        spr::read::<{ spr::DSISR }>(),
        spr::read::<{ spr::HDAR }>(),
        spr::read::<{ spr::HDSISR }>(),
        core.current.get().map_or(0, |t| t.addr()),
        core.active_pid.get()
    );
    stop()
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    enter();
    println!("\nKERNEL|PANIC: {info}");
    stop()
}
