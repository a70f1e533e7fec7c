// SPDX-License-Identifier: BSD-2-Clause
//! The table of cases.

use crate::{
    bind, cnode, device, fastpath, fastsignal, fault, frame, interrupt, ipc, leak, misuse, retype,
    revoke, rights, sched, vspace,
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
    fault::CASES,
    frame::CASES,
    vspace::CASES,
    interrupt::CASES,
    device::CASES,
    leak::CASES,
    misuse::CASES,
];

fn main(boot: &'static sel4::BootInfo) -> ! {
    testkit::run("kernel", boot, CASE_TIMEOUT_US, AREAS)
}
