// SPDX-License-Identifier: BSD-2-Clause
//! Host tests of the kernel's object model over a mock machine. Test names follow sel4test's ids
//! where it has the test.

mod audit;
mod boot;
mod cap;
mod cnode;
mod gspace;
mod guest;
mod guest_tables;
mod invariants;
mod ipc;
mod irq;
mod mcs;
mod mock;
mod model;
mod multicore;
mod queue;
mod retype;
mod rig;
mod sched;
mod tcb;
mod vcpu;
mod vspace;
