// SPDX-License-Identifier: BSD-2-Clause
//! Root task: creates the system from its specification.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]
#[cfg(not(target_arch = "powerpc64"))]
fn main() {}
