// SPDX-License-Identifier: BSD-2-Clause
//! Hash page table server.
#![no_std]
