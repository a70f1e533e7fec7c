// SPDX-License-Identifier: BSD-2-Clause
//! The client's side.

use crate::{Console, rings};
use core::fmt;
use sel4_shared_memory::SharedMemoryRef;
use sel4_shared_ring_buffer::roles::{Read, Write};
use sel4_shared_ring_buffer::{InitializationStrategy, PeerMisbehaviorError, RingBuffer};

/// How often a write to a full ring notifies the server before it gives bytes up. The server has the
/// higher priority, so that each notification lets it send what the port takes.
const PATIENCE: u32 = 100_000;

/// A client of the server.
pub struct Client<F> {
    tx: RingBuffer<'static, Write, u8>,
    rx: RingBuffer<'static, Read, u8>,
    notify: F,
    patience: u32,
    lost: u64,
}

impl<F> fmt::Debug for Client<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl<F: Fn()> Client<F> {
    /// A client with its region; `notify` notifies the server.
    pub fn new(console: SharedMemoryRef<'static, Console>, notify: F) -> Self {
        let (tx, rx) = rings(console);
        let strategy = InitializationStrategy::ReadState;
        Client {
            tx: RingBuffer::new(tx, strategy),
            rx: RingBuffer::new(rx, strategy),
            notify,
            patience: PATIENCE,
            lost: 0,
        }
    }

    /// The next byte that was typed, if there is one.
    ///
    /// # Errors
    ///
    /// If the server misbehaves.
    pub fn read(&mut self) -> Result<Option<u8>, PeerMisbehaviorError> {
        self.rx.dequeue()
    }

    /// Writes bytes as they are. When the ring is full the server is notified again and again; if
    /// that does not help (the server is gone), bytes are lost and counted.
    ///
    /// # Errors
    ///
    /// If the server misbehaves.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PeerMisbehaviorError> {
        self.put(bytes)?;
        self.send()
    }

    /// Puts bytes into the ring; the server sees them with the next [`Client::send`], or when it is full.
    fn put(&mut self, bytes: &[u8]) -> Result<(), PeerMisbehaviorError> {
        for &byte in bytes {
            while self.tx.enqueue_without_committing(byte)?.is_err() {
                if self.patience == 0 {
                    self.lost += 1;
                    break;
                }
                self.patience -= 1;
                self.tx.commit();
                (self.notify)();
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), PeerMisbehaviorError> {
        self.tx.commit();
        (self.notify)();
        if !self.tx.is_full()? {
            self.patience = PATIENCE;
        }
        Ok(())
    }

    /// Writes all of `bytes`, or nothing and false if they do not fit now. Never waits.
    ///
    /// # Errors
    ///
    /// If the server misbehaves.
    #[inline(always)]
    pub fn try_write(&mut self, bytes: &[u8]) -> Result<bool, PeerMisbehaviorError> {
        // Nothing is kept over the system call.
        if self.tx.num_empty_slots()? < bytes.len() {
            (self.notify)();
            return Ok(false);
        }
        for &byte in bytes {
            self.tx.force_enqueue(byte, false);
        }
        self.tx.commit();
        (self.notify)();
        Ok(true)
    }

    /// Whether the server has taken all that was written; notifies it if not.
    ///
    /// # Errors
    ///
    /// If the server misbehaves.
    pub fn is_sent(&mut self) -> Result<bool, PeerMisbehaviorError> {
        let sent = self.tx.is_empty()?;
        if !sent {
            (self.notify)();
        }
        Ok(sent)
    }

    /// Bytes that were lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// Text: a newline becomes carriage return and newline.
struct Text<'a, F>(&'a mut Client<F>);

impl<F: Fn()> fmt::Write for Text<'_, F> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for (i, line) in s.split('\n').enumerate() {
            if i > 0 {
                self.0.put(b"\r\n").map_err(|_| fmt::Error)?;
            }
            self.0.put(line.as_bytes()).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

/// Text: a newline becomes carriage return and newline. What is written at once the server sees at once, so that
/// nobody else's output comes between the pieces of a formatted line.
impl<F: Fn()> fmt::Write for Client<F> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        Text(self).write_str(s)?;
        self.send().map_err(|_| fmt::Error)
    }

    fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> fmt::Result {
        Text(self).write_fmt(args)?;
        self.send().map_err(|_| fmt::Error)
    }
}
