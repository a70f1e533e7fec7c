// SPDX-License-Identifier: BSD-2-Clause
//! A small interactive program on the serial server.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use core::fmt;
    use partita_serial::{Client, Console};
    use sel4_microkit::{
        Channel, ChannelSet, Handler, memory_region_symbol, protection_domain, var,
    };
    use sel4_shared_memory::SharedMemoryRef;
    use shell::{FaultKind, Shell, System};

    struct Board;

    impl System for Board {
        fn uptime_ms(&self) -> u64 {
            // The timebase starts with the machine.
            sel4::arch::timebase() / (sel4::TIMEBASE_HZ / 1000)
        }

        fn fault(&mut self, kind: FaultKind) {
            match kind {
                FaultKind::Read => {
                    let nowhere = core::ptr::with_exposed_provenance::<u64>(0x10_0000);
                    // SAFETY: the address is not mapped: the read ends in a fault and nothing is read.
                    unsafe { nowhere.read_volatile() };
                }
                FaultKind::Stack => {
                    overflow(0);
                }
                FaultKind::Panic => panic!("as asked for"),
            }
        }

        fn power_off(&mut self) -> &'static str {
            "this protection domain has no platform capability"
        }
    }

    /// Uses the stack up.
    #[inline(never)]
    fn overflow(depth: u64) -> u64 {
        if core::hint::black_box(depth) == u64::MAX {
            return 0;
        }
        let frame = core::hint::black_box([depth; 64]);
        overflow(depth + 1) + core::hint::black_box(frame)[0]
    }

    struct HandlerImpl<F> {
        shell: Shell<Client<F>, Board>,
    }

    #[protection_domain]
    fn init() -> HandlerImpl<impl Fn()> {
        let region = memory_region_symbol!(console: *mut Console);
        // SAFETY: the system description maps a zeroed page there that only the serial server shares;
        // both access it with volatile and atomic accesses only.
        let region = unsafe { SharedMemoryRef::new(region) };
        let serial = Channel::new(*var!(serial: usize = 0));
        let client = Client::new(region, move || serial.notify());
        match Shell::start(client, Board) {
            Ok(shell) => HandlerImpl { shell },
            Err(fmt::Error) => panic!("the serial server misbehaves"),
        }
    }

    impl<F: Fn()> Handler for HandlerImpl<F> {
        type Error = &'static str;

        fn notified(&mut self, _channels: ChannelSet) -> Result<(), Self::Error> {
            const MISBEHAVES: &str = "the serial server misbehaves";
            while let Some(byte) = self.shell.output_mut().read().map_err(|_| MISBEHAVES)? {
                self.shell.input(byte).map_err(|_| MISBEHAVES)?;
            }
            Ok(())
        }
    }
}
