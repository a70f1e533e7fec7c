// SPDX-License-Identifier: BSD-2-Clause
//! The table of cases.

use crate::{
    bind, cnode, combined, device, fastpath, fastsignal, fault, frame, interrupt, ipc, leak,
    misuse, multicore, retype, revoke, rights, sched, schedcontext, timeout, vspace,
};
use testkit::Case;
use testkit::runner::CASE_TIMEOUT_US;

sel4::root_task!(main = main, panic = testkit::panicked);

const AREAS: &[&[Case]] = &[
    cnode::CASES,
    retype::CASES,
    revoke::CASES,
    ipc::CASES,
    rights::CASES,
    bind::CASES,
    fastpath::CASES,
    fastsignal::CASES,
    sched::CASES,
    schedcontext::CASES,
    timeout::CASES,
    fault::CASES,
    frame::CASES,
    vspace::CASES,
    interrupt::CASES,
    device::CASES,
    leak::CASES,
    misuse::CASES,
    multicore::CASES,
    combined::CASES,
];

fn main(boot: &'static sel4::BootInfo) -> ! {
    let several = boot.sched_control[1] - boot.sched_control[0] > 1;
    // The last two areas are about more than one core.
    let areas = &AREAS[..AREAS.len() - if several { 0 } else { 2 }];
    // With several cores time is that of the machine outside, which may have other things to do.
    let timeout = CASE_TIMEOUT_US * if several { 6 } else { 1 };
    testkit::run("kernel", boot, timeout, areas)
}
