// SPDX-License-Identifier: BSD-2-Clause
//! The handler.

use core::ptr::NonNull;
use partita_serial::{ClientId, Clients, Console, MAX_CLIENTS, Name, Server};
use partita_uart::{COM1_OFFSET, Mmio, Uart};
use sel4_microkit::{
    Channel, ChannelSet, DeferredAction, DeferredActionSlot, Handler, IrqAckError, debug_println,
    memory_region_symbol, var,
};
use sel4_shared_memory::SharedMemoryRef;

/// Symbols of the clients' regions and channels.
macro_rules! clients {
    ($($region:ident $channel:ident $name:ident $backlog:ident $size:ident)*) => {
        [$(Symbols {
            region: *var!($region: usize = 0),
            channel: *var!($channel: usize = usize::MAX),
            name: Name((*var!($name: u64 = 0)).to_le_bytes()),
            backlog: *var!($backlog: usize = 0),
            backlog_size: *var!($size: usize = 0),
        },)*]
    };
}

/// What is set for a client.
struct Symbols {
    region: usize,
    channel: usize,
    name: Name,
    backlog: usize,
    backlog_size: usize,
}

/// The handler.
pub(crate) struct HandlerImpl {
    server: Server<Mmio>,
    irq: Channel,
    channels: [Option<Channel>; MAX_CLIENTS],
    deferred: DeferredActionSlot,
}

impl HandlerImpl {
    /// Over what the system description maps.
    pub(crate) fn new() -> Self {
        let page = memory_region_symbol!(uart_vaddr: *mut [u8], n = 0x1000).cast::<u8>();
        // SAFETY: the system description maps the port's page there, for this program alone.
        let uart = Uart::new(unsafe { Mmio::new(page.add(COM1_OFFSET)) });
        let mut handler = HandlerImpl {
            server: Server::new(uart),
            irq: Channel::new(*var!(uart_irq: usize = 0)),
            channels: [None; MAX_CLIENTS],
            deferred: DeferredActionSlot::new(),
        };
        let clients: [Symbols; MAX_CLIENTS] = clients! {
            console_0 client_0 name_0 backlog_0 backlog_size_0
            console_1 client_1 name_1 backlog_1 backlog_size_1
            console_2 client_2 name_2 backlog_2 backlog_size_2
            console_3 client_3 name_3 backlog_3 backlog_size_3
            console_4 client_4 name_4 backlog_4 backlog_size_4
            console_5 client_5 name_5 backlog_5 backlog_size_5
            console_6 client_6 name_6 backlog_6 backlog_size_6
            console_7 client_7 name_7 backlog_7 backlog_size_7
            console_8 client_8 name_8 backlog_8 backlog_size_8
            console_9 client_9 name_9 backlog_9 backlog_size_9
        };
        for (number, symbols) in clients.into_iter().enumerate() {
            let at = core::ptr::with_exposed_provenance_mut::<Console>;
            let (Some(id), Some(region)) =
                (ClientId::new(number), NonNull::new(at(symbols.region)))
            else {
                continue;
            };
            // SAFETY: the system description maps a region of a page there (REGION_SIZE); this
            // program and the client access it with volatile and atomic accesses only.
            let console = unsafe { SharedMemoryRef::new(region) };
            let (name, size) = (symbols.name, symbols.backlog_size);
            match core::ptr::with_exposed_provenance_mut::<u8>(symbols.backlog) {
                start if start.is_null() => handler.server.add_client(id, console, name),
                start => {
                    // SAFETY: the system description maps a region of so many bytes there, for this
                    // program alone and once.
                    let backlog = unsafe { core::slice::from_raw_parts_mut(start, size) };
                    handler.server.add_terminal(id, console, name, backlog);
                }
            }
            handler.channels[number] = Some(Channel::new(symbols.channel));
        }
        // A client may have written before this init.
        let clients = handler.server.poll();
        handler.notify(clients);
        handler
    }

    /// Whether the port has interrupted.
    pub(crate) fn is_interrupt(&self, channels: ChannelSet) -> bool {
        channels.contains(self.irq)
    }

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
        let interrupted = self.is_interrupt(channels);
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
