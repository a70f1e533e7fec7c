// SPDX-License-Identifier: BSD-2-Clause
//! Typed access to the kernel, source-compatible with rust-sel4.
#![no_std]
