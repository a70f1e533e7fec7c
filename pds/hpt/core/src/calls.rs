// SPDX-License-Identifier: BSD-2-Clause
//! The server's side of `partita_guest_protocol::hpt`.

use crate::{Checked, GfnRange, Hpt, Pages, Progress, Table, TableError, Violation, VrmaError};
use partita_guest_protocol::channel::Peer;
use partita_guest_protocol::dirty::DirtyLog;
use partita_guest_protocol::hpt as protocol;
use partita_guest_protocol::{Answer, Words, answer};

impl<T: Table, P: Pages> Hpt<'_, T, P> {
    /// Serves a call of `peer`, which is not a guest.
    #[inline(never)]
    pub fn manage(
        &self,
        log: Option<DirtyLog<'_>>,
        peer: Peer,
        label: u64,
        words: &Words,
    ) -> Answer {
        if !peer.manages() {
            return Answer::label(answer::INVALID);
        }
        let [a, b, c, d, e, ..] = *words;
        match label {
            protocol::FLUSH => {
                let mut range = GfnRange { next: a, end: b };
                let result = self.flush(&mut range);
                far(range.next, result)
            }
            protocol::RESET => {
                let mut cursor = a;
                let result = self.reset(&mut cursor);
                far(cursor, result)
            }
            protocol::SET_UP_VRMA => {
                let mut cursor = a;
                match self.set_up_vrma(&mut cursor, b) {
                    Ok(progress) => Answer::ok([cursor, word(progress)]),
                    Err(error) => vrma_failed(error),
                }
            }
            protocol::VERIFY => {
                let mut checked = Checked {
                    cursor: a,
                    valid: b,
                    intercept: c,
                    members: d,
                    chain: e,
                };
                match self.verify_some(&mut checked) {
                    Ok(progress) => Answer::ok([
                        checked.cursor,
                        checked.valid,
                        checked.intercept,
                        checked.members,
                        checked.chain,
                        word(progress),
                    ]),
                    Err(violation) => violated(violation),
                }
            }
            protocol::STATS => {
                let (count, on) = self.state.fault_mode();
                Answer::ok([
                    u64::from(self.state.order.get()),
                    count,
                    u64::from(on),
                    self.loops(),
                ])
            }
            protocol::COLLECT_DIRTY => match log {
                Some(log) => {
                    let mut range = GfnRange { next: a, end: b };
                    let result = self.collect_dirty(&mut range, c != 0, |gfn, count| {
                        log.mark(gfn.get(), count);
                    });
                    far(range.next, result)
                }
                None => Answer::label(protocol::NO_LOG),
            },
            _ => Answer::label(answer::INVALID),
        }
    }
}

fn word(progress: Progress) -> u64 {
    match progress {
        Progress::Done => protocol::DONE,
        Progress::More => protocol::MORE,
    }
}

fn far(cursor: u64, result: Result<Progress, TableError>) -> Answer {
    match result {
        Ok(progress) => Answer::ok([cursor, word(progress)]),
        Err(_) => Answer::new(protocol::TABLE, [cursor]),
    }
}

fn vrma_failed(error: VrmaError) -> Answer {
    let (kind, address) = match error {
        VrmaError::NoMemory => (protocol::VrmaError::NoMemory, 0),
        VrmaError::PageSize => (protocol::VrmaError::PageSize, 0),
        VrmaError::Page(address) => (protocol::VrmaError::Page, address),
        VrmaError::Full(address) => (protocol::VrmaError::Full, address),
        VrmaError::Table(_) => (protocol::VrmaError::Table, 0),
    };
    Answer::new(protocol::VRMA_FAILED, [kind as u64, address])
}

fn violated(violation: Violation) -> Answer {
    use protocol::Violation as Kind;
    let (kind, a, b) = match violation {
        Violation::NotOnChain { index } => (Kind::NotOnChain, index, 0),
        Violation::BrokenLinks { index } => (Kind::BrokenLinks, index, 0),
        Violation::Endless { gfn } => (Kind::Endless, gfn, 0),
        Violation::WrongChain { gfn, index } => (Kind::WrongChain, gfn, index),
        Violation::BadHead { gfn } => (Kind::BadHead, gfn, 0),
        Violation::FreeMember { gfn, index } => (Kind::FreeMember, gfn, index),
        Violation::Count { members, valid } => (Kind::Count, members, valid),
        Violation::NoSlot { index } => (Kind::NoSlot, index, 0),
        Violation::RealEntry { index } => (Kind::RealEntry, index, 0),
        Violation::BadEntry { index } => (Kind::BadEntry, index, 0),
        Violation::FaultMode { counted, found } => (Kind::FaultMode, counted, found),
    };
    Answer::new(protocol::VIOLATION, [kind as u64, a, b])
}
