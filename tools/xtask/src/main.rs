// SPDX-License-Identifier: BSD-2-Clause
//! Developer commands.
fn main() {}
