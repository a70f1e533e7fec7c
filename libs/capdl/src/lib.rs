// SPDX-License-Identifier: BSD-2-Clause
//! The capability specification that the image tool writes and the initialiser executes.
#![no_std]
