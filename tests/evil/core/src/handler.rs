// SPDX-License-Identifier: BSD-2-Clause
//! The handler that serves and attacks.

use crate::attack::{Attack, Event};
use partita_abi::ReplyAction;
use partita_guest_protocol::answer;
use partita_guest_protocol::channel::{PARENT_ROUTE, ROUTE};
use sel4_microkit::ipc::PpcMrs;
use sel4_microkit::{Caller, ChannelSet, Child, FastReply, Handler, Infallible, MessageInfo};

/// Status of a hypercall whose server is gone.
const H_HARDWARE: u64 = (1 << 48) - 1;

/// The real handler with an attack around it. When the attack is over, what the real one knows is not
/// true any more: it is not asked again.
pub struct Evil<H> {
    /// The real handler.
    pub real: H,
    /// The attack.
    pub attack: Attack,
}

impl<H: Handler<Error = Infallible>> Handler for Evil<H> {
    type Error = Infallible;

    fn protected_mrs(
        &mut self,
        caller: Caller,
        info: MessageInfo,
        mrs: PpcMrs,
    ) -> Result<FastReply, Infallible> {
        let event = match caller.channel().index() {
            ROUTE | PARENT_ROUTE => Event::Hypercall,
            _ => Event::Call,
        };
        if self.attack.is_done() {
            return Ok(FastReply::new(
                match event {
                    Event::Call => answer::INVALID,
                    _ => H_HARDWARE,
                },
                [],
            ));
        }
        let honest = self.real.protected_mrs(caller, info, mrs)?;
        Ok(self.attack.event(event, honest))
    }

    fn fault_mrs(
        &mut self,
        child: Child,
        info: MessageInfo,
        mrs: PpcMrs,
    ) -> Result<Option<FastReply>, Infallible> {
        if self.attack.is_done() {
            let resume = (ReplyAction::Resume as u64) << 48;
            return Ok(Some(FastReply::new(resume, [])));
        }
        let honest = self.real.fault_mrs(child, info, mrs)?;
        Ok(honest.map(|honest| self.attack.event(Event::Exit, honest)))
    }

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        if self.attack.is_done() {
            return Ok(());
        }
        self.real.notified(channels)
    }
}
