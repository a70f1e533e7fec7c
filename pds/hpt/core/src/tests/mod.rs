// SPDX-License-Identifier: BSD-2-Clause
//! Tests on a model of the kernel and the hardware.

extern crate std;

mod calls;
mod faults;
mod machine;
mod management;
mod random;

mod slots;
