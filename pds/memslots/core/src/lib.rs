// SPDX-License-Identifier: BSD-2-Clause
//! Memory slots.
#![no_std]
