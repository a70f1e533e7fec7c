// SPDX-License-Identifier: BSD-2-Clause
//! Guest program: writes to its terminal faster than that is emptied (`slow-serial`). A call that answers H_BUSY has
//! written nothing (SPEC 2.7): the lines come out whole, each once and in order. Then it reports its own end by RTAS
//! ibm,os-term (4.4), which stops it.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(not(target_arch = "powerpc64"))]
fn main() {}

#[cfg(target_arch = "powerpc64")]
guest_support::guest_program!(program::main);

#[cfg(target_arch = "powerpc64")]
mod program {
    use core::fmt::Write;
    use guest_support::console::line;
    use guest_support::hypercall::hypercall;
    use guest_support::papr::hcall::number::H_PUT_TERM_CHAR;
    use guest_support::papr::hcall::status::{H_BUSY, H_SUCCESS};
    use guest_support::{Guest, rtas};

    /// Lines of 32 characters: more than any ring holds.
    const LINES: u32 = 400;
    const CHARS: usize = 32;

    /// Writes the characters, 16 a call; how often the terminal was full.
    fn put(text: &[u8]) -> u64 {
        let mut busy = 0;
        for piece in text.chunks_exact(16) {
            let (high, low) = piece.split_at(8);
            let word = |half: &[u8]| half.try_into().map_or(0, u64::from_be_bytes);
            loop {
                match hypercall(H_PUT_TERM_CHAR, [0, 16, word(high), word(low)]).status {
                    H_BUSY => busy += 1,
                    H_SUCCESS => break,
                    status => {
                        line(format_args!("terminal: {status}: WRONG"));
                        guest_support::runner::end()
                    }
                }
            }
        }
        busy
    }

    pub fn main(guest: &'static Guest) -> ! {
        let mut busy = 0;
        for number in 0..LINES {
            let mut text = heapless::String::<CHARS>::new();
            let _ = write!(text, "terminal: line {number:0>15}\r\n");
            busy += put(text.as_bytes());
        }
        let right = if busy > 0 { "" } else { ": WRONG" };
        line(format_args!("terminal: full {busy} times{right}"));
        let token = guest.token("ibm,os-term").unwrap_or(0);
        static WHY: [u8; 16] = *b"the end of it  \0";
        let (status, [result]) = rtas::service(token, &[WHY.as_ptr() as u32]);
        // It is stopped at its next entry, if it comes so far.
        if (status, result) != (H_SUCCESS, 0) {
            line(format_args!(
                "terminal: os-term {status}, {result:#x}: WRONG"
            ));
        }
        loop {
            guest_support::machine::sleep(1 << 24);
        }
    }
}
