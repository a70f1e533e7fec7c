// SPDX-License-Identifier: BSD-2-Clause
//! The platform of one guest.
#![no_std]
