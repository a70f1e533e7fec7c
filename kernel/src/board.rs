// SPDX-License-Identifier: BSD-2-Clause
//! The board and configuration that the kernel was built for: constants of `kernel-config`.

include!(concat!(env!("OUT_DIR"), "/board.rs"));
