// SPDX-License-Identifier: BSD-2-Clause
//! Virtual terminals (SPEC 2.7).

use crate::machine::{GuestMemory, Machine};
use crate::platform::Platform;
use crate::reply::{ReplyAction, Words};
use partita_instance::atomic::{AtomicU8, AtomicU64, Ordering};
use partita_papr::hcall::status::{H_BUSY, H_PARAMETER, H_SUCCESS};

/// Bytes that an [`InputRing`] holds.
const RING: usize = 256;
/// Characters of one call.
const MAX_CHARS: u64 = 16;

/// Input of one terminal that the guest has not read yet: 384 bytes. One writer, one reader at a
/// time (the guest may call from two cores: the indices then move once for each byte taken).
#[cfg_attr(not(loom), derive(zerocopy::FromBytes))]
#[cfg_attr(not(loom), repr(C, align(128)))]
pub struct InputRing {
    /// Bytes ever written.
    written: AtomicU64,
    /// Bytes ever read.
    read: AtomicU64,
    bytes: [AtomicU8; RING],
}

impl Default for InputRing {
    fn default() -> Self {
        InputRing {
            written: AtomicU64::default(),
            read: AtomicU64::default(),
            bytes: core::array::from_fn(|_| AtomicU8::default()),
        }
    }
}

impl InputRing {
    fn byte(&self, count: u64) -> &AtomicU8 {
        &self.bytes[count as usize % RING]
    }

    /// Appends a byte; false if the ring is full.
    pub fn push(&self, byte: u8) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        if written.wrapping_sub(self.read.load(Ordering::Acquire)) >= RING as u64 {
            return false;
        }
        self.byte(written).store(byte, Ordering::Relaxed);
        self.written
            .store(written.wrapping_add(1), Ordering::Release);
        true
    }

    /// Takes the oldest byte.
    #[inline(never)]
    pub fn pop(&self) -> Option<u8> {
        loop {
            let read = self.read.load(Ordering::Acquire);
            if read == self.written.load(Ordering::Acquire) {
                return None;
            }
            let byte = self.byte(read).load(Ordering::Relaxed);
            let next = read.wrapping_add(1);
            let taken = self
                .read
                .compare_exchange(read, next, Ordering::AcqRel, Ordering::Relaxed);
            if taken.is_ok() {
                return Some(byte);
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        while self.pop().is_some() {}
    }
}

impl<'a, M: Machine, G: GuestMemory> Platform<'a, M, G> {
    /// The terminal with a unit address; 0 is the first.
    fn terminal(&self, unit: u64) -> Option<usize> {
        if unit == 0 && !self.config.terminals.is_empty() {
            return Some(0);
        }
        self.config
            .terminals
            .iter()
            .position(|t| u64::from(*t) == unit)
    }

    /// H_PUT_TERM_CHAR: the status.
    #[inline(never)]
    pub(crate) fn h_put_term_char(&mut self, args: &[u64; 8]) -> i64 {
        let [unit, len, high, low, ..] = *args;
        let Some(terminal) = self.terminal(unit).filter(|_| len <= MAX_CHARS) else {
            return H_PARAMETER;
        };
        let chars = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        let sent = match chars.get(..len as usize) {
            None | Some([]) => true,
            Some(chars) => self.machine.put_chars(terminal, chars),
        };
        if sent { H_SUCCESS } else { H_BUSY }
    }

    /// H_GET_TERM_CHAR: a call ends after a carriage return, since guests drop a NUL that follows
    /// one in the same call.
    #[inline(never)]
    pub(crate) fn h_get_term_char(&mut self, unit: u64) -> ReplyAction {
        let Some(ring) = self.terminal(unit).and_then(|t| self.shared.input.get(t)) else {
            return ReplyAction::status(H_PARAMETER);
        };
        let mut chars = [0; MAX_CHARS as usize];
        let mut count = 0;
        for slot in &mut chars {
            let Some(byte) = ring.pop() else { break };
            *slot = byte;
            count += 1;
            if byte == b'\r' {
                break;
            }
        }
        let chars = u128::from_be_bytes(chars);
        ReplyAction::words(Words::three(count, (chars >> 64) as u64, chars as u64))
    }

    /// A character for the guest: raises the terminal's interrupt. False if there is no such
    /// terminal or the guest does not keep up.
    pub fn input(&mut self, terminal: usize, byte: u8) -> bool {
        let taken = self
            .shared
            .input
            .get(terminal)
            .is_some_and(|ring| ring.push(byte));
        if taken {
            self.trigger(self.config.first_source.wrapping_add(terminal as u32));
        }
        taken
    }
}
