// SPDX-License-Identifier: BSD-2-Clause
//! There is no kernel under a host build: the logic of a PD is tested without system calls, and one
//! that is made all the same stops the test.

use super::{MessageIn, Received};

#[track_caller]
fn no_kernel(what: &str) -> ! {
    panic!("system call {what} on a host: no kernel here")
}

/// `Send`, `NBSend`.
pub fn send(_number: isize, _cptr: u64, _info: u64, _words: MessageIn) {
    no_kernel("send")
}

/// `Call`.
pub fn call(_cptr: u64, _info: u64, _words: MessageIn) -> Received {
    no_kernel("call")
}

/// `Recv`, `NBRecv`, `Wait`, `NBWait`.
pub fn recv(_number: isize, _cptr: u64, _reply: u64) -> Received {
    no_kernel("recv")
}

/// `ReplyRecv`.
pub fn reply_recv(_cptr: u64, _info: u64, _words: MessageIn, _reply: u64) -> Received {
    no_kernel("reply_recv")
}

/// `NBSendRecv`, `NBSendWait`.
pub fn nb_send_recv(
    _number: isize,
    _dest: u64,
    _info: u64,
    _words: MessageIn,
    _src: u64,
    _reply: u64,
) -> Received {
    no_kernel("nb_send_recv")
}

/// `Yield` and others without arguments.
pub fn null(_number: isize) {
    no_kernel("null")
}

/// Debug system calls with one argument.
pub fn debug(_number: isize, _argument: u64) -> u64 {
    no_kernel("debug")
}

/// The time since the program's first look at it, in ticks of [`crate::TIMEBASE_HZ`].
pub fn timebase() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let elapsed = START.get_or_init(std::time::Instant::now).elapsed();
    (elapsed.as_nanos() * u128::from(crate::TIMEBASE_HZ) / 1_000_000_000) as u64
}

/// Ends the program.
pub fn trap() -> ! {
    panic!("trap")
}
