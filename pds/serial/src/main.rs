// SPDX-License-Identifier: BSD-2-Clause
//! Driver of the LPC serial port with several clients (`partita-serial`).
//!
//! What the system description sets: `uart_vaddr` (where the port's page is mapped), `uart_irq`
//! (identifier of its interrupt), and for client n `console_n` (where its region is mapped) and
//! `client_n` (identifier of the channel to it).
//!
//! This protection domain calls nobody and waits for nobody.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use core::ptr::NonNull;
    use partita_serial::{ClientId, Clients, Console, MAX_CLIENTS, Server};
    use partita_uart::{COM1_OFFSET, Mmio, Uart};
    use sel4_microkit::{
        Channel, ChannelSet, DeferredAction, DeferredActionSlot, Handler, IrqAckError,
        debug_println, memory_region_symbol, protection_domain, var,
    };
    use sel4_shared_memory::SharedMemoryRef;

    /// Symbols of the clients' regions and channels.
    macro_rules! clients {
        ($($region:ident $channel:ident)*) => {
            [$((*var!($region: usize = 0), *var!($channel: usize = usize::MAX)),)*]
        };
    }

    struct HandlerImpl {
        server: Server<Mmio>,
        irq: Channel,
        channels: [Option<Channel>; MAX_CLIENTS],
        deferred: DeferredActionSlot,
    }

    #[protection_domain]
    fn init() -> HandlerImpl {
        let page = memory_region_symbol!(uart_vaddr: *mut [u8], n = 0x1000).cast::<u8>();
        // SAFETY: the system description maps the port's page there, for this program alone.
        let uart = Uart::new(unsafe { Mmio::new(page.add(COM1_OFFSET)) });
        let mut handler = HandlerImpl {
            server: Server::new(uart),
            irq: Channel::new(*var!(uart_irq: usize = 0)),
            channels: [None; MAX_CLIENTS],
            deferred: DeferredActionSlot::new(),
        };
        let clients: [(usize, usize); MAX_CLIENTS] = clients! {
            console_0 client_0 console_1 client_1 console_2 client_2 console_3 client_3
            console_4 client_4 console_5 client_5 console_6 client_6 console_7 client_7
            console_8 client_8 console_9 client_9
        };
        for (number, (region, channel)) in clients.into_iter().enumerate() {
            let region = NonNull::new(core::ptr::with_exposed_provenance_mut::<Console>(region));
            if let (Some(id), Some(region)) = (ClientId::new(number), region) {
                // SAFETY: the system description maps a region of a page there (REGION_SIZE); this
                // program and the client access it with volatile and atomic accesses only.
                handler
                    .server
                    .add_client(id, unsafe { SharedMemoryRef::new(region) });
                handler.channels[number] = Some(Channel::new(channel));
            }
        }
        // A client may have written before this init.
        let clients = handler.server.poll();
        handler.notify(clients);
        handler
    }

    impl HandlerImpl {
        fn notify(&self, clients: Clients) {
            for client in clients.iter() {
                if let Some(channel) = self.channels[client.number()] {
                    channel.notify();
                }
            }
        }
    }

    impl Handler for HandlerImpl {
        type Error = IrqAckError;

        fn notified(&mut self, channels: ChannelSet) -> Result<(), IrqAckError> {
            let before = self.server.statistics().cut_off;
            let interrupted = channels.contains(self.irq);
            let clients = match interrupted {
                true => self.server.poll(),
                false => self.server.serve(),
            };
            self.notify(clients);
            let after = self.server.statistics().cut_off;
            if after != before {
                debug_println!("serial: {after} clients cut off: ring indices out of range");
            }
            if interrupted {
                self.deferred.defer_irq_ack(self.irq)?;
            }
            Ok(())
        }

        fn take_deferred_action(&mut self) -> Option<DeferredAction> {
            self.deferred.take()
        }
    }
}
