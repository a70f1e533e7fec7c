// SPDX-License-Identifier: BSD-2-Clause
//! The server's side.

use crate::terminal::{Backlog, Name, Notice};
use crate::{Console, rings};
use core::fmt;
use partita_uart::{FIFO_SIZE, Registers, Uart};
use sel4_shared_memory::SharedMemoryRef;
use sel4_shared_ring_buffer::roles::{Read, Write};
use sel4_shared_ring_buffer::{InitializationStrategy, PeerMisbehaviorError, RingBuffer};

/// Clients at most: as many as there are digits.
pub const MAX_CLIENTS: usize = 10;

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

/// Bytes that one client may send before another one's turn comes, unless it ends a line earlier.
const QUANTUM: usize = 256;

/// FIFOs that are sent before other events are looked at: a client on another core could fill its
/// ring as fast as it is emptied.
const SEND_LIMIT: usize = 256;

/// Number of a client, 0 to 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientId(usize);

impl ClientId {
    /// The client with this number; `None` if there cannot be one.
    pub const fn new(number: usize) -> Option<Self> {
        if number < MAX_CLIENTS {
            Some(ClientId(number))
        } else {
            None
        }
    }

    /// Its number.
    pub const fn number(self) -> usize {
        self.0
    }
}

/// Clients that must be notified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct Clients(u16);

impl Clients {
    fn add(&mut self, client: usize) {
        self.0 |= 1 << client;
    }

    /// The clients, lowest number first.
    pub fn iter(self) -> impl Iterator<Item = ClientId> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let number = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            ClientId::new(number)
        })
    }
}

/// What went wrong so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Typed bytes that no client had room for.
    pub dropped: u64,
    /// Clients cut off because they misbehaved.
    pub cut_off: u32,
}

struct Rings {
    tx: RingBuffer<'static, Read, u8>,
    rx: RingBuffer<'static, Write, u8>,
    name: Name,
    /// Of a terminal: what it wrote while it was not shown.
    backlog: Option<Backlog>,
}

/// The server.
pub struct Server<R> {
    uart: Uart<R>,
    clients: [Option<Rings>; MAX_CLIENTS],
    /// One more than the number of the last client.
    end: usize,
    /// Who is typed to.
    selected: usize,
    escaped: bool,
    /// Terminals, the one that is shown, and whether it was said which.
    terminals: usize,
    shown: usize,
    announced: bool,
    notice: Notice,
    /// Whose turn it is to send, and how many bytes are left of it.
    sender: usize,
    quantum: usize,
    statistics: Statistics,
}

impl<R> fmt::Debug for Server<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("selected", &self.selected)
            .field("statistics", &self.statistics)
            .finish_non_exhaustive()
    }
}

impl<R: Registers> Server<R> {
    /// A server without clients. Takes the port over.
    pub fn new(mut uart: Uart<R>) -> Self {
        uart.initialise(true);
        Server {
            uart,
            clients: [const { None }; MAX_CLIENTS],
            end: 0,
            selected: 0,
            escaped: false,
            terminals: 0,
            shown: 0,
            announced: false,
            notice: Notice::NONE,
            sender: 0,
            quantum: QUANTUM,
            statistics: Statistics::default(),
        }
    }

    /// Adds a client with its region. Its output is always sent.
    pub fn add_client(
        &mut self,
        client: ClientId,
        console: SharedMemoryRef<'static, Console>,
        name: Name,
    ) {
        let (tx, rx) = rings(console);
        let strategy = InitializationStrategy::ReadState;
        self.end = self.end.max(client.0 + 1);
        self.clients[client.0] = Some(Rings {
            tx: RingBuffer::new(tx, strategy),
            rx: RingBuffer::new(rx, strategy),
            name,
            backlog: None,
        });
    }

    /// Adds a client that is a terminal: of these one is shown at a time, at first the one with the lowest
    /// number. What another writes meanwhile is kept in its backlog, as much as fits.
    pub fn add_terminal(
        &mut self,
        client: ClientId,
        console: SharedMemoryRef<'static, Console>,
        name: Name,
        backlog: &'static mut [u8],
    ) {
        self.add_client(client, console, name);
        if let Some(rings) = &mut self.clients[client.0] {
            rings.backlog = Some(Backlog::new(backlog));
        }
        if self.terminals == 0 || client.0 < self.shown {
            self.shown = client.0;
            self.selected = client.0;
        }
        self.terminals += 1;
    }

    /// What went wrong so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// The port interrupted, or a client notified: moves bytes both ways as far as they go. Answers who
    /// has to be notified: for whom something was typed, or whose ring was full and is not any more.
    pub fn poll(&mut self) -> Clients {
        let mut notify = Clients::default();
        self.uart.acknowledge();
        self.receive(&mut notify);
        self.send(&mut notify);
        notify
    }

    /// A client notified, the port did not interrupt: moves bytes to the port only. Answers as
    /// [`Self::poll`].
    pub fn serve(&mut self) -> Clients {
        let mut notify = Clients::default();
        if !self.send_little() {
            self.send(&mut notify);
        }
        notify
    }

    /// Sends what a single client has written, if that is not more than the port takes at once: nobody's
    /// turn is to be looked after. False if it is another case; nothing has been done then.
    #[inline]
    fn send_little(&mut self) -> bool {
        let [Some(rings), ..] = &mut self.clients else {
            return false;
        };
        if self.end != 1 || !self.uart.can_transmit() {
            return false;
        }
        let Ok(filled @ 1..=FIFO_SIZE) = rings.tx.num_filled_slots() else {
            return false;
        };
        for _ in 0..filled {
            self.uart.put(rings.tx.force_dequeue());
        }
        self.uart.set_transmit_interrupt(false);
        true
    }

    fn receive(&mut self, notify: &mut Clients) {
        // A client cannot make this longer: it ends when the port is empty.
        while let Some(byte) = self.uart.receive() {
            let selecting = core::mem::replace(&mut self.escaped, false);
            match (selecting, byte) {
                (false, ESCAPE) => self.escaped = true,
                (false, _) | (true, ESCAPE) => self.deliver(byte, notify),
                (true, b'0'..=b'9') => self.select(usize::from(byte - b'0')),
                // Nothing can be selected: a key like others.
                (true, _) if self.end <= 1 => self.deliver(byte, notify),
                (true, _) => self.list(),
            }
        }
    }

    fn select(&mut self, client: usize) {
        let Some(rings) = &mut self.clients[client] else {
            return self.list();
        };
        self.selected = client;
        if let Some(backlog) = &mut rings.backlog {
            self.shown = client;
            backlog.skip_broken_line();
        }
        let name = rings.name;
        self.notice = Notice::line(format_args!("console {client}: {name}"));
        self.announced = true;
    }

    /// Says what can be selected.
    fn list(&mut self) {
        struct List<'a, R>(&'a Server<R>);
        impl<R> fmt::Display for List<'_, R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("consoles:")?;
                for (number, client) in self.0.clients.iter().enumerate() {
                    if let Some(rings) = client {
                        let mark = if number == self.0.selected { "*" } else { "" };
                        write!(f, " {number}{mark} {}", rings.name)?;
                    }
                }
                f.write_str("; Ctrl-] and a digit selects one")
            }
        }
        if self.end > 1 {
            self.notice = Notice::line(List(self));
        }
    }

    /// Whether a client's output waits until its terminal is shown.
    fn is_hidden(&self, client: usize) -> bool {
        let rings = self.clients[client].as_ref();
        client != self.shown && rings.is_some_and(|rings| rings.backlog.is_some())
    }

    /// Takes over what terminals that are not shown have written, so that they go on.
    fn keep_hidden(&mut self, notify: &mut Clients) {
        for client in 0..self.end {
            if !self.is_hidden(client) {
                continue;
            }
            let Some(rings) = &mut self.clients[client] else {
                continue;
            };
            let filled = match rings.tx.num_filled_slots() {
                Ok(filled) => filled,
                Err(error) => {
                    self.cut_off(client, error);
                    continue;
                }
            };
            if filled == rings.tx.capacity() {
                notify.add(client);
            }
            for _ in 0..filled {
                let byte = rings.tx.force_dequeue();
                if let Some(backlog) = &mut rings.backlog {
                    backlog.push(byte);
                }
            }
        }
    }

    /// The next byte of what comes before the rings: a notice, and what the terminal that is shown
    /// wrote before.
    fn earlier(&mut self) -> Option<u8> {
        if let Some(byte) = self.notice.pop() {
            return Some(byte);
        }
        let rings = self.clients[self.shown].as_mut()?;
        rings.backlog.as_mut()?.pop()
    }

    /// Before the first output of a terminal it is said whose it is, if there are several.
    fn announce(&mut self) {
        let rings = self.clients[self.shown].as_mut();
        if self.terminals > 1
            && !self.announced
            && rings.is_some_and(|rings| rings.tx.is_empty() == Ok(false))
        {
            self.announced = true;
            self.list();
        }
    }

    fn deliver(&mut self, byte: u8, notify: &mut Clients) {
        let Some(rings) = &mut self.clients[self.selected] else {
            self.statistics.dropped += 1;
            return;
        };
        match rings.rx.enqueue_and_commit(byte) {
            Ok(Ok(())) => notify.add(self.selected),
            Ok(Err(_)) => {
                self.statistics.dropped += 1;
                notify.add(self.selected);
            }
            Err(error) => self.cut_off(self.selected, error),
        }
    }

    /// Sends as much as the port takes.
    #[inline(never)]
    fn send(&mut self, notify: &mut Clients) {
        self.keep_hidden(notify);
        self.announce();
        for _ in 0..SEND_LIMIT {
            if !self.uart.can_transmit() {
                break;
            }
            let mut bytes = [0; FIFO_SIZE];
            let count = self.gather(&mut bytes, notify);
            self.uart.fill(&bytes[..count]);
            if count < FIFO_SIZE {
                // All rings were emptied.
                self.uart.set_transmit_interrupt(false);
                return;
            }
        }
        // The port says when it takes more: at once if it was only the limit.
        self.uart.set_transmit_interrupt(true);
    }

    /// The next bytes to send; answers how many. Clients take turns by lines.
    fn gather(&mut self, bytes: &mut [u8; FIFO_SIZE], notify: &mut Clients) -> usize {
        let mut count = 0;
        while count < FIFO_SIZE
            && let Some(byte) = self.earlier()
        {
            bytes[count] = byte;
            count += 1;
        }
        // Every client is asked once after the last that had more than was taken. Who writes later
        // notifies, so an emptied ring need not be looked at again.
        let mut asked = 0;
        while count < FIFO_SIZE && asked < self.end {
            asked += 1;
            let sender = self.sender;
            if self.is_hidden(sender) {
                self.next_sender();
                continue;
            }
            let Some(rings) = &mut self.clients[sender] else {
                self.next_sender();
                continue;
            };
            let filled = match rings.tx.num_filled_slots() {
                Ok(filled) => filled,
                Err(error) => {
                    self.cut_off(sender, error);
                    self.next_sender();
                    continue;
                }
            };
            if filled == rings.tx.capacity() {
                // Who found its ring full learns that there is room again.
                notify.add(sender);
            }
            let most = filled.min(FIFO_SIZE - count).min(self.quantum);
            let mut end_of_line = false;
            let mut taken = 0;
            for slot in &mut bytes[count..count + most] {
                *slot = rings.tx.force_dequeue();
                taken += 1;
                end_of_line = *slot == b'\n';
                if end_of_line {
                    break;
                }
            }
            count += taken;
            self.quantum -= taken;
            if taken < filled {
                asked = 0;
            }
            if taken == filled || end_of_line || self.quantum == 0 {
                self.next_sender();
            }
        }
        count
    }

    fn next_sender(&mut self) {
        self.sender = if self.sender + 1 < self.end {
            self.sender + 1
        } else {
            0
        };
        self.quantum = QUANTUM;
    }

    fn cut_off(&mut self, client: usize, _error: PeerMisbehaviorError) {
        self.clients[client] = None;
        self.statistics.cut_off += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Client;
    use core::fmt::Write as _;
    use core::ptr::NonNull;
    use core::sync::atomic::Ordering;
    use partita_uart::Register;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;
    use zerocopy::FromZeros;

    /// The lines of a port that sends at once, or that takes `room` bytes and then is busy.
    #[derive(Default)]
    struct Lines {
        input: VecDeque<u8>,
        output: Vec<u8>,
        room: Option<usize>,
        interrupt_enable: u8,
    }

    #[derive(Clone, Default)]
    struct Port(Rc<RefCell<Lines>>);

    impl Registers for Port {
        fn read(&mut self, register: Register) -> u8 {
            let mut lines = self.0.borrow_mut();
            match register {
                Register::Data => lines.input.pop_front().unwrap_or(0),
                Register::LineStatus => {
                    let ready = u8::from(!lines.input.is_empty());
                    ready | if lines.room == Some(0) { 0 } else { 1 << 5 }
                }
                _ => 0,
            }
        }

        fn write(&mut self, register: Register, value: u8) {
            let mut lines = self.0.borrow_mut();
            match register {
                Register::Data => {
                    lines.output.push(value);
                    lines.room = lines.room.map(|room| room.saturating_sub(1));
                }
                Register::InterruptEnable => lines.interrupt_enable = value,
                _ => {}
            }
        }
    }

    fn region() -> (SharedMemoryRef<'static, Console>, &'static Console) {
        let console = Box::leak(Box::new(Console::new_zeroed()));
        (share(console), console)
    }

    fn share(console: &'static Console) -> SharedMemoryRef<'static, Console> {
        // SAFETY: leaked memory; the only plain reference is used for its atomics.
        unsafe { SharedMemoryRef::new(NonNull::from(console)) }
    }

    /// A client without a name comes to the server: its region.
    fn join(server: &mut Server<Port>, number: usize) -> &'static Console {
        let (shared, console) = region();
        server.add_client(id(number), shared, Name::default());
        console
    }

    fn server(port: &Port) -> Server<Port> {
        Server::new(Uart::new(port.clone()))
    }

    fn id(number: usize) -> ClientId {
        ClientId::new(number).unwrap()
    }

    fn numbers(clients: Clients) -> Vec<usize> {
        clients.iter().map(ClientId::number).collect()
    }

    #[test]
    fn a_client_is_served_without_a_look_at_the_input() {
        let port = Port::default();
        let mut server = server(&port);
        for number in [0, 3] {
            let (shared, console) = region();
            server.add_client(id(number), shared, Name::default());
            let mut client = Client::new(share(console), || ());
            write!(client, "{number}: more than a FIFO takes").unwrap();
        }
        port.0.borrow_mut().input.push_back(b'x');
        assert_eq!(numbers(server.serve()), []);
        let text = String::from_utf8(port.0.borrow().output.clone()).unwrap();
        assert_eq!(text, "0: more than a FIFO takes3: more than a FIFO takes");
        assert_eq!(port.0.borrow().interrupt_enable & 2, 0, "nothing is left");
        assert_eq!(numbers(server.poll()), [0]);
    }

    #[test]
    fn little_of_a_single_client_is_sent_at_once() {
        for (count, room) in [(0, None), (1, None), (16, None), (17, None), (16, Some(0))] {
            let port = Port::default();
            port.0.borrow_mut().room = room;
            let mut server = server(&port);
            let console = join(&mut server, 0);
            let mut client = Client::new(share(console), || ());
            let text = "x".repeat(count);
            write!(client, "{text}").unwrap();
            assert_eq!(numbers(server.serve()), []);
            let lines = port.0.borrow();
            let sent = if room.is_some() { 0 } else { count };
            assert_eq!(lines.output.len(), sent, "{count}");
            assert_eq!(lines.interrupt_enable & 2 != 0, room.is_some(), "{count}");
        }
    }

    #[test]
    fn output_and_input() {
        let port = Port::default();
        let mut server = server(&port);
        let console = join(&mut server, 0);
        let mut client = Client::new(share(console), || ());
        writeln!(client, "hello {}", 1).unwrap();
        assert_eq!(numbers(server.poll()), [], "its ring was not full");
        assert_eq!(port.0.borrow().output, b"hello 1\r\n");
        port.0.borrow_mut().input.extend(b"ok");
        assert_eq!(numbers(server.poll()), [0]);
        assert_eq!(
            (client.read(), client.read()),
            (Ok(Some(b'o')), Ok(Some(b'k')))
        );
        assert_eq!(client.read(), Ok(None));
        assert_eq!(numbers(server.poll()), []);
    }

    #[test]
    fn lines_of_two_clients_stay_whole() {
        let port = Port::default();
        let mut server = server(&port);
        let a = join(&mut server, 0);
        let b = join(&mut server, 1);
        Client::new(share(a), || ()).write(b"aa\nAA\n").unwrap();
        Client::new(share(b), || ()).write(b"bb\nBB\n").unwrap();
        let _ = server.poll();
        assert_eq!(port.0.borrow().output, b"aa\nbb\nAA\nBB\n");
    }

    #[test]
    fn a_formatted_line_stays_whole() {
        let port = Port::default();
        let server = RefCell::new(server(&port));
        let a = join(&mut server.borrow_mut(), 0);
        let b = join(&mut server.borrow_mut(), 1);
        let mut other = Client::new(share(b), || ());
        other.write(&[b'b'; 500]).unwrap();
        // The server has the better priority: it runs at each notification.
        let mut client = Client::new(share(a), || {
            let _ = server.borrow_mut().poll();
        });
        let words = ["one", "two", "three"];
        writeln!(client, "{} and {}: {}", words[0], words[1], words[2]).unwrap();
        let output = String::from_utf8_lossy(&port.0.borrow().output).into_owned();
        assert!(output.contains("one and two: three\r\n"), "{output}");
    }

    #[test]
    fn a_client_without_newlines_does_not_keep_the_port() {
        let port = Port::default();
        let mut server = server(&port);
        let a = join(&mut server, 0);
        let b = join(&mut server, 1);
        Client::new(share(a), || ()).write(&[b'a'; 511]).unwrap();
        Client::new(share(b), || ()).write(b"b\n").unwrap();
        let _ = server.poll();
        assert_eq!(
            port.0.borrow().output.iter().position(|&c| c == b'b'),
            Some(QUANTUM)
        );
        assert_eq!(port.0.borrow().output.len(), 513);
    }

    #[test]
    fn a_busy_port_interrupts_when_it_takes_more() {
        let port = Port::default();
        port.0.borrow_mut().room = Some(FIFO_SIZE);
        let mut server = server(&port);
        let console = join(&mut server, 0);
        Client::new(share(console), || ())
            .write(&[b'x'; 20])
            .unwrap();
        let _ = server.poll();
        assert_eq!(port.0.borrow().output.len(), FIFO_SIZE);
        assert_eq!(port.0.borrow().interrupt_enable, 3);
        port.0.borrow_mut().room = None;
        let _ = server.poll();
        assert_eq!(port.0.borrow().output.len(), 20);
        assert_eq!(port.0.borrow().interrupt_enable, 1);
    }

    #[test]
    fn keys_select_the_client() {
        let port = Port::default();
        let mut server = server(&port);
        let a = join(&mut server, 0);
        let b = join(&mut server, 3);
        // Client 5 does not exist: the selection stays.
        port.0
            .borrow_mut()
            .input
            .extend(b"a\x1d3b\x1d5c\x1d\x1d\x1dx\x1d0d");
        assert_eq!(numbers(server.poll()), [0, 3]);
        let read = |console| {
            let mut client = Client::new(share(console), || ());
            std::iter::from_fn(move || client.read().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(read(a), b"ad");
        assert_eq!(read(b), b"bc\x1d");
        let output = String::from_utf8(port.0.borrow().output.clone()).unwrap();
        assert_eq!(output, "\r\n[console 0: ]\r\n", "the last of the notices");
    }

    fn name(text: &str) -> Name {
        let mut name = Name::default();
        name.0[..text.len()].copy_from_slice(text.as_bytes());
        name
    }

    /// A server with terminals a and b and a client that is none, and the three clients.
    fn two_terminals(port: &Port) -> (Server<Port>, [Client<impl Fn()>; 3]) {
        let mut server = server(port);
        let clients = ["a", "b", "log"].map(|of| {
            let number = ["a", "b", "log"].iter().position(|n| *n == of).unwrap();
            let (shared, console) = region();
            match of {
                "log" => server.add_client(id(number), shared, name(of)),
                _ => server.add_terminal(id(number), shared, name(of), vec![0; 600].leak()),
            }
            Client::new(share(console), || ())
        });
        (server, clients)
    }

    fn printed(port: &Port) -> String {
        String::from_utf8(std::mem::take(&mut port.0.borrow_mut().output)).unwrap()
    }

    #[test]
    fn one_terminal_is_shown_and_the_others_go_on() {
        let port = Port::default();
        let (mut server, [mut a, mut b, mut log]) = two_terminals(&port);
        b.write(b"hidden\n").unwrap();
        let _ = server.poll();
        assert_eq!(printed(&port), "");
        a.write(b"seen\n").unwrap();
        log.write(b"always\n").unwrap();
        let _ = server.poll();
        let list = "\r\n[consoles: 0* a 1 b 2 log; Ctrl-] and a digit selects one]\r\n";
        assert_eq!(printed(&port), format!("{list}seen\nalways\n"));
        port.0.borrow_mut().input.extend(b"\x1d1");
        let _ = server.poll();
        assert_eq!(printed(&port), "\r\n[console 1: b]\r\nhidden\n");
        port.0.borrow_mut().input.extend(b"x");
        assert_eq!(numbers(server.poll()), [1]);
        a.write(b"now hidden\n").unwrap();
        b.write(b"b\n").unwrap();
        let _ = server.poll();
        assert_eq!(printed(&port), "b\n");
        // Typing to a log does not hide the terminal.
        port.0.borrow_mut().input.extend(b"\x1d2");
        b.write(b"c\n").unwrap();
        let _ = server.poll();
        assert_eq!(printed(&port), "\r\n[console 2: log]\r\nc\n");
        port.0.borrow_mut().input.extend(b"\x1d0\x1d?");
        let _ = server.poll();
        assert_eq!(printed(&port), format!("{list}now hidden\n"));
    }

    #[test]
    fn a_hidden_terminal_never_waits_for_the_port() {
        let port = Port::default();
        let (mut server, [mut a, mut b, _]) = two_terminals(&port);
        a.write(b"a").unwrap();
        port.0.borrow_mut().room = Some(0);
        for line in 0..100 {
            b.write(format!("line {line} of many\n").as_bytes())
                .unwrap();
            let _ = server.serve();
            assert_eq!(b.is_sent(), Ok(true));
        }
        b.write(&[b'x'; 511]).unwrap();
        assert_eq!(numbers(server.serve()), [1], "there is room again");
        port.0.borrow_mut().room = None;
        port.0.borrow_mut().input.extend(b"\x1d1");
        let _ = server.poll();
        let output = printed(&port);
        let (head, rest) = output.split_once("\r\n[console 1: b]\r\n").unwrap();
        assert_eq!(head, "");
        // The last lines that fit, from the start of a line on.
        assert!(rest.starts_with("line ") && rest.ends_with('x'), "{rest}");
        assert!(rest.contains("\nline 99 of many\nxxx") && rest.len() <= 600);
    }

    #[test]
    fn a_client_that_lies_is_cut_off_and_no_other() {
        let port = Port::default();
        let mut server = server(&port);
        let bad = join(&mut server, 0);
        let good = join(&mut server, 1);
        bad.tx.write_index.store(0x8000_0000, Ordering::Relaxed);
        Client::new(share(good), || ()).write(b"fine\n").unwrap();
        let _ = server.poll();
        assert_eq!(port.0.borrow().output, b"fine\n");
        assert_eq!(server.statistics().cut_off, 1);
        port.0.borrow_mut().input.push_back(b'x');
        assert_eq!(numbers(server.poll()), []);
        assert_eq!(server.statistics().dropped, 1);
    }

    #[test]
    fn a_client_that_does_not_read_loses_what_is_typed() {
        let port = Port::default();
        let mut server = server(&port);
        let console = join(&mut server, 0);
        port.0.borrow_mut().input.extend([b'k'; 600]);
        let _ = server.poll();
        assert_eq!(
            server.statistics(),
            Statistics {
                dropped: 600 - 511,
                cut_off: 0
            }
        );
        let mut client = Client::new(share(console), || ());
        assert_eq!(std::iter::from_fn(|| client.read().unwrap()).count(), 511);
    }

    #[test]
    fn a_client_gives_up_when_the_server_is_gone() {
        let (_, console) = region();
        let calls = core::cell::Cell::new(0u32);
        let mut client = Client::new(share(console), || calls.set(calls.get() + 1));
        client.write(&[0; 600]).unwrap();
        assert_eq!(client.lost(), 600 - 511);
        let before = calls.get();
        client.write(b"x").unwrap();
        assert_eq!((client.lost(), calls.get() - before), (90, 1));
    }

    #[test]
    fn what_does_not_fit_is_not_written_at_all() {
        let port = Port::default();
        let mut server = server(&port);
        let console = join(&mut server, 0);
        let calls = core::cell::Cell::new(0);
        let mut client = Client::new(share(console), || calls.set(calls.get() + 1));
        assert_eq!(client.is_sent(), Ok(true));
        assert_eq!((client.try_write(&[b'a'; 500]), calls.get()), (Ok(true), 1));
        assert_eq!(client.try_write(&[b'b'; 12]), Ok(false));
        assert_eq!(client.try_write(b"cdefghijklm"), Ok(true));
        assert_eq!(client.try_write(b"n"), Ok(false));
        assert_eq!((client.is_sent(), calls.get()), (Ok(false), 5));
        assert_eq!(numbers(server.poll()), [0], "there is room again");
        while client.is_sent() == Ok(false) {
            assert_eq!(numbers(server.poll()), []);
        }
        let mut expected = vec![b'a'; 500];
        expected.extend(b"cdefghijklm");
        assert_eq!(port.0.borrow().output, expected);
    }

    proptest! {
        /// Whatever a client writes to its region: the server ends, does not panic, and other
        /// clients' bytes arrive.
        #[test]
        fn any_indices(indices in proptest::array::uniform4(any::<u32>()), typed in any::<[u8; 8]>()) {
            let port = Port::default();
            let mut server = server(&port);
            let bad = join(&mut server, 0);
            let good = join(&mut server, 1);
            let words =
                [&bad.tx.write_index, &bad.tx.read_index, &bad.rx.write_index, &bad.rx.read_index];
            for (word, value) in words.into_iter().zip(indices) {
                word.store(value, Ordering::Relaxed);
            }
            Client::new(share(good), || ()).write(b"good\n").unwrap();
            port.0.borrow_mut().input.extend(typed);
            let _ = server.poll();
            let output = port.0.borrow().output.clone();
            prop_assert!(output.windows(5).any(|w| w == b"good\n"));
            prop_assert!(output.len() <= 5 + 511);
        }
    }
}
