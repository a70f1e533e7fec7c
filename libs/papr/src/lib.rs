// SPDX-License-Identifier: BSD-2-Clause
//! PAPR: hypercalls, HPTE formats, per-vCPU areas.
#![no_std]
