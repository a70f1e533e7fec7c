// SPDX-License-Identifier: BSD-2-Clause
//! The guard: a thread above all others that ends the suite when a case hangs or the root thread
//! faults.

use crate::kit::{Kit, ROOT_PRIORITY, microseconds};
use crate::runner;
use crate::thread::{Env, Helper};
use crate::timebase;
use checks::Outcome;
use sel4::init_thread::slot;
use sel4::{CapRights, ObjectBlueprintArch, cap};

/// Priority of the guard.
const PRIORITY: u64 = 255;

/// The guard of a suite.
pub(crate) struct Guard {
    timer: cap::Timer,
}

impl Guard {
    /// Starts the guard; from now on it handles faults of the root thread.
    pub(crate) fn start(kit: &mut Kit) -> Outcome<Guard> {
        let memory = kit.lasting();
        let faults = kit.endpoint()?;
        let bell = kit.notification()?;
        let timer: cap::Timer = kit.object(ObjectBlueprintArch::Timer.into())?;
        timer.timer_set_notification(bell)?;
        let reply = kit.reply()?;
        let thread = Helper::new(watch)
            .args([faults.bits(), reply.bits()])
            .priority(PRIORITY)
            .make(kit)?;
        thread.tcb.tcb_bind_notification(bell)?;
        let rights = CapRights::new(true, false, false, true);
        let handler = kit.mint(faults, rights, 1)?;
        let root = slot::TCB.cap();
        root.tcb_set_sched_params(root, 255, ROOT_PRIORITY, slot::SC.cap(), handler)?;
        thread.tcb.tcb_resume()?;
        kit.end_of_lasting(memory);
        Ok(Guard { timer })
    }

    /// Ends the suite if this is not called again for `us` microseconds.
    pub(crate) fn feed(&self, us: u64) -> Outcome {
        self.timer.timer_set(timebase() + microseconds(us))?;
        Ok(())
    }
}

/// Waits for the fault or the bell.
fn watch(env: &Env) -> u64 {
    let endpoint = cap::Endpoint::from_bits(env.args[0]);
    let got = endpoint.recv_with_mrs(cap::Reply::from_bits(env.args[1]));
    if got.badge == 0 {
        runner::abort(format_args!("it hangs"));
    }
    let fault = sel4::sys::fault_label::from_number(got.info.label());
    let name = fault.map_or("unknown fault", |f| f.name());
    runner::abort(format_args!(
        "the root thread faults: {name} {:x?}",
        got.msg
    ))
}
