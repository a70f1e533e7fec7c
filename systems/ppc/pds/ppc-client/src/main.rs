// SPDX-License-Identifier: BSD-2-Clause
//! Calls the server's protected procedure in the three ways there are.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
mod pd {
    use sel4_microkit::{
        Channel, MessageInfo, NullHandler, debug_println, get_mr, protection_domain, set_mr, var,
    };

    const ADD: u64 = 1;
    const COUNT: u64 = 2;

    #[protection_domain]
    fn init() -> NullHandler {
        let server = Channel::new(*var!(server: usize = 0));

        // Words set one by one, as upstream's PDs do.
        set_mr(0, 2);
        set_mr(1, 40);
        let answer = server.pp_call(MessageInfo::new(ADD, 2));
        debug_println!(
            "ppc-client: 2 + 40 = {} (label {})",
            get_mr(0),
            answer.label()
        );

        // The words stay in machine registers.
        let (_, words) = server.pp_call_mrs(MessageInfo::new(ADD, 3), [1, 2, 3]);
        debug_println!("ppc-client: 1 + 2 + 3 = {}", words[0]);

        // More words than fit in machine registers.
        for i in 0..64 {
            set_mr(i, i as u64);
        }
        server.pp_call(MessageInfo::new(ADD, 64));
        debug_println!("ppc-client: 0 + .. + 63 = {}", get_mr(0));

        let (answer, _) = server.pp_call_mrs(MessageInfo::new(99, 0), []);
        debug_println!(
            "ppc-client: label 99 is answered with label {}",
            answer.label()
        );
        let (_, words) = server.pp_call_mrs(MessageInfo::new(COUNT, 0), []);
        debug_println!("ppc-client: {} calls served", words[0]);
        NullHandler::new()
    }
}
