// SPDX-License-Identifier: BSD-2-Clause
//! Calls to `vcpu` from `control`. Hypercalls and exits come by the routes.

/// Word: vCPU. Asks it to pause, and to stay so until [`RESUME`]. Answer: [`PAUSED`], or [`NOT_YET`]:
/// it has a call in flight, which is finished first; ask again.
pub const PAUSE: u64 = 1;
/// Word: vCPU. Ends a pause, also one that has not come to pass.
pub const RESUME: u64 = 2;
/// Word: vCPU. Wakes it if it is idle; else its next sleep ends at once.
pub const KICK: u64 = 3;
/// Begins to restart the guest as after power-on, with the same memory. Answer: [`PAUSED`] if it has
/// been done, [`NOT_YET`] if a vCPU has a call in flight: then it is done as soon as that is out.
pub const RESET: u64 = 4;
/// Word: vCPU. Answer: ticks that it was ready without a processor, times that it was given one, the
/// yield count in its VPA (all ones if none is bound).
pub const TIMES: u64 = 5;

/// Word: the ONE_REG id of a register that the guest as a whole has: `partita_papr::onereg::TB_OFFSET`. Answer: its value.
pub const GET_REGISTER: u64 = 6;
/// Words: such an id, and its new value. All vCPUs are paused or stopped, else [`REFUSED`]. The timebase's distance
/// from the machine's is rounded up to a multiple of 2^24 ticks.
pub const SET_REGISTER: u64 = 7;

/// All that was asked for has come to pass.
pub const PAUSED: u64 = 1;
/// Not yet.
pub const NOT_YET: u64 = 0;

/// Label: no such vCPU.
pub const NO_VCPU: u64 = 1;
/// Label: the guest cannot be started; the console says why.
pub const CANNOT_START: u64 = 2;
/// Label: a vCPU runs.
pub const REFUSED: u64 = 3;
