// SPDX-License-Identifier: BSD-2-Clause
//! The monitor: it receives the faults of all protection domains without a parent, prints them and
//! leaves the protection domain stopped; and it takes the scheduling context of a passive one that
//! has finished its init.
//!
//! It never sends to a protection domain and never waits for one: it is the highest priority there
//! is, and whatever it called could stop it.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod program {
    use monitor::names::{name, pd_names, pd_names_len, pd_stack_bottom_addrs};
    use monitor::{Counts, Report};
    use partita_abi::FaultLabel;
    use partita_abi::microkit::{
        CHILD_TCB_BASE, INPUT_SLOT, IRQ_BASE, MAX_PDS, OUTPUT_NOTIFICATION_BASE,
    };
    use sel4::{Cap, Fault, MessageInfo, cap, debug_print, debug_println};

    const FAULT_EP: cap::Endpoint = Cap::from_bits(INPUT_SLOT as u64);
    const REPLY: cap::Reply = Cap::from_bits(2);

    /// For a debugger where nothing prints.
    #[unsafe(no_mangle)]
    #[allow(non_upper_case_globals, reason = "a symbol like the others")]
    static fault_counts: Counts<MAX_PDS> = Counts::new();

    fn tcb(pd: usize) -> cap::Tcb {
        Cap::from_bits((OUTPUT_NOTIFICATION_BASE + pd) as u64)
    }

    fn sched_context(pd: usize) -> cap::SchedContext {
        Cap::from_bits((IRQ_BASE + pd) as u64)
    }

    fn notification(pd: usize) -> cap::Notification {
        Cap::from_bits((CHILD_TCB_BASE + pd) as u64)
    }

    extern "C" fn start() -> ! {
        loop {
            let (info, badge) = FAULT_EP.recv(REPLY);
            // The image tool gives protection domain n the badge n + 1.
            let pd = badge.wrapping_sub(1) as usize;
            if pd >= (*pd_names_len.get() as usize).min(MAX_PDS) {
                debug_println!("MON|ERROR: message with unknown badge {badge:#x}");
            } else if info.label() == FaultLabel::NullFault as u64 {
                make_passive(pd);
            } else {
                stop(pd, &info);
                fault_counts.add(pd, info.label());
            }
        }
    }

    /// From now on `pd` runs when it is called or signalled, on the time of who does it.
    fn make_passive(pd: usize) {
        let context = sched_context(pd);
        // From the thread, or, if the domain was restarted, from the notification.
        let result = context
            .sched_context_unbind()
            .and_then(|()| context.sched_context_bind(notification(pd)));
        if let Err(error) = result {
            debug_println!(
                "MON|ERROR: protection domain '{}' cannot be made passive: {error}",
                name(&pd_names.get()[pd])
            );
        }
    }

    fn stop(pd: usize, info: &MessageInfo) {
        let fault = sel4::with_ipc_buffer(|buffer| {
            Fault::try_new(info, buffer.msg_regs()).ok_or(info.label())
        });
        let report = Report {
            name: name(&pd_names.get()[pd]),
            stack_bottom: pd_stack_bottom_addrs.get()[pd],
            fault,
            registers: tcb(pd).tcb_read_all_registers(true),
        };
        debug_print!("{report}");
    }

    sel4::thread_entry!(start);

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo) -> ! {
        debug_println!("MON|ERROR: the monitor itself: {info}");
        sel4::arch::trap()
    }
}
