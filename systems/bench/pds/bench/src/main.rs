// SPDX-License-Identifier: BSD-2-Clause
//! Measures round trips in instructions. Meaningful only with QEMU's `-icount shift=0,sleep=off`, where
//! an instruction takes one nanosecond.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use core::fmt::Write;
    use core::hint::black_box;
    use core::ptr::NonNull;
    use partita_uart::{COM1_OFFSET, Mmio, Uart};
    use sel4_microkit::{
        Channel, ChannelSet, Child, DeferredAction, DeferredActionSlot, Handler, Infallible,
        MessageInfo, cspace_cap, get_mr, protection_domain, set_mr, var,
    };

    const SERVER: Channel = Channel::new(1);
    const ACTIVE: Channel = Channel::new(2);
    const PONG: Channel = Channel::new(3);
    const DEFERRED_PONG: Channel = Channel::new(4);
    const CHILD: Child = Child::new(1);
    /// `<cap_platform>` in the system description.
    const PLATFORM_SLOT: usize = 1;
    /// Rounds of a block; the lowest block counts, as timer interrupts only ever add.
    const ROUNDS: u64 = 100;
    const BLOCKS: u64 = 10;

    #[protection_domain]
    fn init() -> HandlerImpl {
        let base: usize = *var!(uart_vaddr: usize = 0);
        let registers = NonNull::new(core::ptr::with_exposed_provenance_mut(base + COM1_OFFSET));
        let registers = registers.expect("the tool sets uart_vaddr");
        // SAFETY: the system description maps the LPC page there, for this PD alone.
        let uart = unsafe { Mmio::new(registers) };
        let mut h = HandlerImpl {
            out: Uart::new(uart),
            phase: Phase::Notify,
            count: 0,
            start: 0,
            best: u64::MAX,
            deferred: DeferredActionSlot::new(),
        };
        let null = sel4::cap::Endpoint::from_bits(0);
        h.row("null-syscall", || {
            null.nb_send(sel4::MessageInfo::new(0, 0, 0, 0));
        });
        h.row("ppc-passive-0-0", || call(SERVER, 0, 0));
        h.row("ppc-passive-4-4", || call(SERVER, 4, 4));
        h.row("ppc-passive-8-0", || call(SERVER, 8, 0));
        h.row("ppc-passive-8-8", || call(SERVER, 8, 8));
        h.row("ppc-passive-4-4-mrs", || {
            black_box(SERVER.pp_call_mrs(MessageInfo::new(4, 4), black_box([1, 2, 3, 4])));
        });
        h.row("ppc-active-4-4", || call(ACTIVE, 4, 4));
        h.begin("notify-ping-pong");
        PONG.notify();
        h
    }

    /// A call as upstream's PDs make it: words set and read one by one.
    #[inline(always)]
    fn call(channel: Channel, words: usize, answer: usize) {
        for i in 0..words {
            set_mr(i, i as u64);
        }
        channel.pp_call(MessageInfo::new(answer as u64, words));
        for i in 0..answer {
            black_box(get_mr(i));
        }
    }

    /// Marks the beginning of a row for `cargo xtask bench explain`.
    #[unsafe(no_mangle)]
    #[inline(never)]
    extern "C" fn bench_begin(name: *const u8, length: usize) {
        black_box((name, length));
    }

    enum Phase {
        Notify,
        Deferred,
        Fault,
    }

    struct HandlerImpl {
        out: Uart<Mmio>,
        phase: Phase,
        count: u64,
        start: u64,
        best: u64,
        deferred: DeferredActionSlot,
    }

    impl HandlerImpl {
        fn print(&mut self, name: &str, ticks: u64) {
            // 512 ticks in 1000 instructions.
            let instructions = ticks * 1000 / 512 / ROUNDS;
            let _ = writeln!(self.out, "bench {name} {instructions} {}", ROUNDS * BLOCKS);
        }

        fn row(&mut self, name: &str, mut body: impl FnMut()) {
            bench_begin(name.as_ptr(), name.len());
            let mut best = u64::MAX;
            for _ in 0..BLOCKS {
                let start = sel4::arch::timebase();
                for _ in 0..ROUNDS {
                    body();
                }
                best = best.min(sel4::arch::timebase() - start);
            }
            self.print(name, best);
        }

        fn begin(&mut self, name: &str) {
            bench_begin(name.as_ptr(), name.len());
            self.count = 0;
            self.best = u64::MAX;
            self.start = sel4::arch::timebase();
        }

        /// Counts a round; whether it was the last of its row.
        fn round(&mut self) -> bool {
            self.count += 1;
            if self.count.is_multiple_of(ROUNDS) {
                let now = sel4::arch::timebase();
                self.best = self.best.min(now - self.start);
                self.start = now;
            }
            self.count == ROUNDS * BLOCKS
        }
    }

    impl Handler for HandlerImpl {
        type Error = Infallible;

        fn notified(&mut self, _channels: ChannelSet) -> Result<(), Self::Error> {
            match self.phase {
                Phase::Notify => {
                    if self.round() {
                        self.print("notify-ping-pong", self.best);
                        self.phase = Phase::Deferred;
                        self.begin("deferred-notify-ping-pong");
                        let _ = self.deferred.defer_notify(DEFERRED_PONG);
                    } else {
                        PONG.notify();
                    }
                }
                Phase::Deferred => {
                    if self.round() {
                        self.print("deferred-notify-ping-pong", self.best);
                        self.phase = Phase::Fault;
                        self.begin("pd-fault-resume");
                        // It faulted before its time and waits since then.
                        let _ = CHILD.pd_resume();
                    } else {
                        let _ = self.deferred.defer_notify(DEFERRED_PONG);
                    }
                }
                Phase::Fault => {}
            }
            Ok(())
        }

        fn fault(
            &mut self,
            _child: Child,
            _msg_info: MessageInfo,
        ) -> Result<Option<MessageInfo>, Self::Error> {
            if !matches!(self.phase, Phase::Fault) {
                return Ok(None);
            }
            if self.round() {
                self.print("pd-fault-resume", self.best);
                let _ = writeln!(self.out, "bench done");
                let platform = cspace_cap::<sel4::cap_type::PlatformControl>(PLATFORM_SLOT);
                let _ = platform.platform_power_off();
                return Ok(None);
            }
            Ok(Some(MessageInfo::new(0, 0)))
        }

        fn take_deferred_action(&mut self) -> Option<DeferredAction> {
            self.deferred.take()
        }
    }
}
