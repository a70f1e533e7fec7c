// SPDX-License-Identifier: BSD-2-Clause
//! Microkit runtime, source-compatible with rust-sel4.
#![no_std]
