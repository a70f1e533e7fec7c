// SPDX-License-Identifier: BSD-2-Clause
#![cfg(not(loom))]
//! Requirements S0.x and S1.x against a model of guest memory and kernel.

mod hostile;
mod outside;
mod register;
mod release;
mod world;
