// SPDX-License-Identifier: BSD-2-Clause
//! Sleepable RCU over shared memory.
#![no_std]
