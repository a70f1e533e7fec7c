// SPDX-License-Identifier: BSD-2-Clause
//! Calls to `power` from the guests' `vcpu`s, where several guests share the machine's power switch and
//! clock. The channel says which guest it is.

/// The guest is off, or has crashed. No words.
pub const ENDED: u64 = 1;
/// The guest runs (again). No words.
pub const STARTED: u64 = 2;
/// Answer: the date and the time of day, as the platform's clock gives them. [`NO_TIME`].
pub const TIME: u64 = 3;

/// The platform has no clock.
pub const NO_TIME: u64 = 1;
