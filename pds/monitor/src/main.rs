// SPDX-License-Identifier: BSD-2-Clause
//! Reports faults of protection domains.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]
#[cfg(not(target_arch = "powerpc64"))]
fn main() {}
