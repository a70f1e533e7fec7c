// SPDX-License-Identifier: BSD-2-Clause
//! Per-vCPU areas.
#![no_std]
