// SPDX-License-Identifier: BSD-2-Clause
//! Measures what two cores do together. Two instances, one on each core; the one that has the UART is in charge.
//!
//! * Round trips to the other core, in instructions of both: meaningful only with QEMU's `-icount
//!   shift=0,sleep=off`, which executes the cores in turns and counts all of it as time. That is the work that a round
//!   trip makes. How long it takes is mostly how fast a sleeping core wakes up, which a simulator cannot say.
//! * How much more two cores do in the same time than one, in percent: meaningful only without it, on a host that has two
//!   processors to spare. Beside calls, two loops tell what the host and the simulator allow.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use core::fmt::Write;
    use core::hint::black_box;
    use core::ptr::NonNull;
    use core::sync::atomic::{AtomicU64, Ordering};
    use partita_uart::{COM1_OFFSET, Mmio, Uart};
    use sel4_microkit::{
        Channel, ChannelSet, Handler, Infallible, MessageInfo, cspace_cap, get_mr,
        protection_domain, set_mr, var,
    };

    /// The passive server of this core.
    const SERVER: Channel = Channel::new(1);
    /// A server on the other core.
    const REMOTE: Channel = Channel::new(2);
    /// Returns notifications, on the other core.
    const PONG: Channel = Channel::new(3);
    /// The other instance.
    const PARTNER: Channel = Channel::new(4);
    /// `<cap_platform>` in the system description.
    const PLATFORM_SLOT: usize = 1;
    /// Rounds of a block; the lowest block counts, as timer interrupts only ever add.
    const ROUNDS: u64 = 100;
    const BLOCKS: u64 = 10;
    /// Measurements of a ratio; the median counts.
    const TRIES: usize = 5;

    /// What both cores do.
    #[derive(Clone, Copy)]
    enum Work {
        /// Calls of the server.
        Calls,
        /// System calls that do nothing.
        SystemCalls,
        /// Nothing but instructions.
        Loop,
    }

    impl Work {
        const ALL: [(Work, &str, u64); 3] = [
            (Work::Calls, "two-cores-ppc", 30_000),
            (Work::SystemCalls, "two-cores-null-syscall", 60_000),
            (Work::Loop, "two-cores-loop", 3_000_000),
        ];

        fn from_number(n: u64) -> Work {
            Self::ALL[n as usize % Self::ALL.len()].0
        }

        fn run(self, times: u64) {
            let null = sel4::cap::Endpoint::from_bits(0);
            for i in 0..times {
                match self {
                    Work::Calls => call(SERVER),
                    Work::SystemCalls => null.nb_send(sel4::MessageInfo::new(0, 0, 0, 0)),
                    Work::Loop => {
                        black_box(i);
                    }
                }
            }
        }
    }

    /// What the instances share.
    #[repr(C)]
    struct Shared {
        /// Number of the work, and how often.
        work: AtomicU64,
        times: AtomicU64,
        /// Counts: the second instance is ready, both go, the second is done.
        ready: AtomicU64,
        go: AtomicU64,
        done: AtomicU64,
        /// When the second one began and ended.
        from: AtomicU64,
        to: AtomicU64,
    }

    fn shared() -> &'static Shared {
        let base: usize = *var!(shared_vaddr: usize = 0);
        let shared = NonNull::new(core::ptr::with_exposed_provenance_mut::<Shared>(base));
        // SAFETY: the system description maps a page of zeros there, which both instances use as this and never
        // otherwise.
        unsafe { shared.expect("the tool sets shared_vaddr").as_ref() }
    }

    fn wait_for(word: &AtomicU64, value: u64) {
        while word.load(Ordering::Acquire) != value {
            core::hint::spin_loop();
        }
    }

    #[inline(always)]
    fn call(channel: Channel) {
        for i in 0..4 {
            set_mr(i, i as u64);
        }
        channel.pp_call(MessageInfo::new(4, 4));
        for i in 0..4 {
            black_box(get_mr(i));
        }
    }

    #[protection_domain]
    fn init() -> HandlerImpl {
        let base: usize = *var!(uart_vaddr: usize = 0);
        let registers = NonNull::new(core::ptr::with_exposed_provenance_mut(base + COM1_OFFSET));
        let Some(registers) = registers.filter(|_| base != 0) else {
            return HandlerImpl::Second;
        };
        // SAFETY: the system description maps the LPC page there, for this PD alone.
        let uart = unsafe { Mmio::new(registers) };
        let mut first = First {
            out: Uart::new(uart),
            tries: 0,
            count: 0,
            start: 0,
            best: u64::MAX,
        };
        first.calls();
        for (n, (work, name, times)) in (0..).zip(Work::ALL) {
            first.ratio(n, work, name, times);
        }
        first.start = sel4::arch::timebase();
        PONG.notify();
        HandlerImpl::First(first)
    }

    enum HandlerImpl {
        First(First),
        Second,
    }

    struct First {
        out: Uart<Mmio>,
        /// Measurements of ratios so far.
        tries: u64,
        count: u64,
        start: u64,
        best: u64,
    }

    impl First {
        /// `best` ticks for a block of `ROUNDS`.
        fn print(&mut self, name: &str, best: u64) {
            // 512 ticks in 1000 instructions.
            let instructions = best * 1000 / 512 / ROUNDS;
            let _ = writeln!(self.out, "bench {name} {instructions} {}", ROUNDS * BLOCKS);
        }

        fn calls(&mut self) {
            let mut best = u64::MAX;
            for _ in 0..BLOCKS {
                let start = sel4::arch::timebase();
                for _ in 0..ROUNDS {
                    call(REMOTE);
                }
                best = best.min(sel4::arch::timebase() - start);
            }
            self.print("cross-core-ppc", best);
        }

        fn ratio(&mut self, n: u64, work: Work, name: &str, times: u64) {
            let mut percent = [0; TRIES];
            for percent in &mut percent {
                *percent = self.one_ratio(n, work, name, times);
            }
            percent.sort_unstable();
            let _ = writeln!(self.out, "bench {name} {} {times}", percent[TRIES / 2]);
        }

        /// Twice the time for one, over the time for two.
        fn one_ratio(&mut self, n: u64, work: Work, name: &str, times: u64) -> u64 {
            let shared = shared();
            let _ = writeln!(self.out, "measuring {name}: one");
            let start = sel4::arch::timebase();
            work.run(times);
            let alone = sel4::arch::timebase() - start;
            self.tries += 1;
            shared.work.store(n, Ordering::Relaxed);
            shared.times.store(times, Ordering::Relaxed);
            PARTNER.notify();
            wait_for(&shared.ready, self.tries);
            let _ = writeln!(self.out, "measuring {name}: two");
            shared.go.store(self.tries, Ordering::Release);
            let from = sel4::arch::timebase();
            work.run(times);
            let to = sel4::arch::timebase();
            wait_for(&shared.done, self.tries);
            let from = from.min(shared.from.load(Ordering::Relaxed));
            let to = to.max(shared.to.load(Ordering::Relaxed));
            let both = to - from;
            let _ = writeln!(
                self.out,
                "measuring {name}: done: {alone} ticks, then {both}"
            );
            200 * alone / both.max(1)
        }

        /// A notification has come back.
        fn round(&mut self) {
            self.count += 1;
            if self.count.is_multiple_of(ROUNDS) {
                let now = sel4::arch::timebase();
                self.best = self.best.min(now - self.start);
                self.start = now;
            }
            if self.count < ROUNDS * BLOCKS {
                PONG.notify();
                return;
            }
            self.print("cross-core-notify", self.best);
            let _ = writeln!(self.out, "bench done");
            let platform = cspace_cap::<sel4::cap_type::PlatformControl>(PLATFORM_SLOT);
            let _ = platform.platform_power_off();
        }
    }

    /// One turn of the second instance.
    fn second() {
        let shared = shared();
        let turn = shared.done.load(Ordering::Relaxed) + 1;
        let work = Work::from_number(shared.work.load(Ordering::Relaxed));
        let times = shared.times.load(Ordering::Relaxed);
        shared.ready.store(turn, Ordering::Release);
        wait_for(&shared.go, turn);
        shared.from.store(sel4::arch::timebase(), Ordering::Relaxed);
        work.run(times);
        shared.to.store(sel4::arch::timebase(), Ordering::Relaxed);
        shared.done.store(turn, Ordering::Release);
    }

    impl Handler for HandlerImpl {
        type Error = Infallible;

        fn notified(&mut self, _channels: ChannelSet) -> Result<(), Self::Error> {
            match self {
                HandlerImpl::First(first) => first.round(),
                HandlerImpl::Second => second(),
            }
            Ok(())
        }
    }
}
