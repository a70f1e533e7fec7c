// SPDX-License-Identifier: BSD-2-Clause
//! RTAS (SPEC 4.4, GUEST.md 1): H_RTAS with the argument block of the guest.
//!
//! The block is read once: first its three-word header, which is checked (nargs + nret at most 16,
//! CVE-2021-37576), then the arguments; nothing is looked at again in guest memory.

use crate::calendar::DateTime;
use crate::icp::SourceWord;
use crate::machine::{GuestMemory, Machine, PowerEvent, RealTime, Register};
use crate::platform::Platform;
use crate::reply::ReplyAction;
use crate::sched::StartError;
use crate::state::VcpuId;
use partita_instance::atomic::Ordering;
use partita_papr::hcall::status::{H_PARAMETER, H_SUCCESS};

/// A service that the device tree advertises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// What the guest passes.
    pub token: u32,
    /// Property name in /rtas.
    pub name: &'static str,
    /// Arguments.
    pub nargs: u32,
    /// Results, the status among them; a guest may offer room for more.
    pub nret: u32,
}

macro_rules! services {
    ($($constant:ident = $token:literal, $name:literal, $nargs:literal, $nret:literal;)*) => {
        mod token {
            $(pub(super) const $constant: u32 = $token;)*
        }
        /// All services. What is not here is not advertised and answers "not supported".
        pub const SERVICES: &[Service] = &[
            $(Service { token: $token, name: $name, nargs: $nargs, nret: $nret },)*
        ];
        fn shape(token: u32) -> Option<(u32, u32)> {
            match token {
                $($token => Some(($nargs, $nret)),)*
                _ => None,
            }
        }
    };
}

services! {
    GET_TIME_OF_DAY = 0x2001, "get-time-of-day", 0, 8;
    SET_TIME_OF_DAY = 0x2002, "set-time-of-day", 7, 1;
    POWER_OFF = 0x2003, "power-off", 2, 1;
    SYSTEM_REBOOT = 0x2004, "system-reboot", 0, 1;
    QUERY_CPU_STOPPED_STATE = 0x2005, "query-cpu-stopped-state", 1, 2;
    START_CPU = 0x2006, "start-cpu", 3, 1;
    STOP_SELF = 0x2007, "stop-self", 0, 0;
    DISPLAY_CHARACTER = 0x2008, "display-character", 1, 1;
    SET_XIVE = 0x200a, "ibm,set-xive", 3, 1;
    GET_XIVE = 0x200b, "ibm,get-xive", 1, 3;
    INT_OFF = 0x200c, "ibm,int-off", 1, 1;
    INT_ON = 0x200d, "ibm,int-on", 1, 1;
    GET_SYSTEM_PARAMETER = 0x200e, "ibm,get-system-parameter", 3, 1;
    OS_TERM = 0x200f, "ibm,os-term", 1, 1;
}

const OK: i32 = 0;
const HARDWARE_ERROR: i32 = -1;
const BUSY: i32 = -2;
const PARAMETER_ERROR: i32 = -3;
/// ibm,get-system-parameter: the buffer is too small.
const SYSPARM_BUFFER: i32 = -9999;

/// Words of a block after the header.
const WORDS: usize = 16;
/// SPLPAR characteristics of ibm,get-system-parameter.
const SPLPAR_CHARACTERISTICS: u32 = 20;
const MSR_SF: u64 = 1 << 63;
/// Real mode ignores the top four bits of an address.
const REAL_ADDRESS: u64 = (1 << 60) - 1;

/// Results of a service: the status is the first word.
struct Results {
    words: [u32; 8],
    count: usize,
}

impl Results {
    const fn status(status: i32) -> Self {
        Results {
            words: [status as u32, 0, 0, 0, 0, 0, 0, 0],
            count: 1,
        }
    }
}

/// What a service does.
enum Outcome {
    Answer(Results),
    /// Not back to the guest.
    Reply(ReplyAction),
}

impl From<i32> for Outcome {
    fn from(status: i32) -> Self {
        Outcome::Answer(Results::status(status))
    }
}

fn done(ok: bool) -> Outcome {
    Outcome::from(if ok { OK } else { PARAMETER_ERROR })
}

impl<'a, M: Machine, G: GuestMemory> Platform<'a, M, G> {
    /// H_RTAS: r4 is the real address of the argument block, all of whose words are big-endian.
    #[inline(never)]
    pub(crate) fn h_rtas(&mut self, caller: VcpuId, address: u64) -> ReplyAction {
        let block = self.block_address(caller, address);
        let mut header = [0; 12];
        if self.copy_in(block, &mut header).is_err() {
            return ReplyAction::status(H_PARAMETER);
        }
        let [token, nargs, nret] = words(&header);
        let fits = nargs
            .checked_add(nret)
            .is_some_and(|words| words as usize <= WORDS);
        if !fits || nargs as usize >= WORDS {
            return ReplyAction::status(H_PARAMETER);
        }
        let mut bytes = [0; 4 * WORDS];
        let args_len = 4 * nargs as usize;
        let read = bytes
            .get_mut(..args_len)
            .map(|args| self.copy_in(block + 12, args));
        if !matches!(read, Some(Ok(()))) {
            return ReplyAction::status(H_PARAMETER);
        }
        let args: [u32; WORDS] = words(&bytes);
        let known = shape(token);
        let outcome = match known {
            Some((args_of, results_of)) if nargs == args_of && nret >= results_of => {
                self.service(caller, token, &args)
            }
            _ => Outcome::from(PARAMETER_ERROR),
        };
        let results = match outcome {
            Outcome::Reply(reply) => return reply,
            Outcome::Answer(results) => results,
        };
        for (word, out) in results.words.iter().zip(bytes.as_chunks_mut::<4>().0) {
            *out = word.to_be_bytes();
        }
        let count = results.count.min(nret as usize);
        let results_at = block + 12 + args_len as u64;
        let written = bytes
            .get(..4 * count)
            .map(|rets| self.copy_out(results_at, rets));
        let ok = known.is_some() && matches!(written, Some(Ok(())));
        ReplyAction::status(if ok { H_SUCCESS } else { H_PARAMETER })
    }

    /// RTAS runs in 32-bit mode (GUEST.md 6): then the upper half of a register means nothing.
    fn block_address(&mut self, caller: VcpuId, address: u64) -> u64 {
        let is_wide = address >> 32 != 0;
        if is_wide
            && self
                .machine
                .read_register(caller, Register::Msr)
                .is_ok_and(narrow)
        {
            return address & 0xffff_ffff;
        }
        address & REAL_ADDRESS
    }

    fn service(&mut self, caller: VcpuId, token: u32, args: &[u32; WORDS]) -> Outcome {
        let [a, b, c, ..] = *args;
        match token {
            token::GET_TIME_OF_DAY => self.get_time_of_day(),
            token::SET_TIME_OF_DAY => self.set_time_of_day(args),
            token::POWER_OFF => self.power(caller, PowerEvent::Off),
            token::SYSTEM_REBOOT => self.power(caller, PowerEvent::Reboot),
            token::QUERY_CPU_STOPPED_STATE => match self.query_stopped(a.into()) {
                None => Outcome::from(PARAMETER_ERROR),
                Some(stopped) => Outcome::Answer(Results {
                    words: [OK as u32, stopped as u32, 0, 0, 0, 0, 0, 0],
                    count: 2,
                }),
            },
            token::START_CPU => Outcome::from(match self.start_cpu(a.into(), b.into(), c.into()) {
                Ok(()) => OK,
                Err(StartError::NoSuchVcpu) => PARAMETER_ERROR,
                Err(StartError::Busy) => BUSY,
                Err(StartError::Running | StartError::Refused) => HARDWARE_ERROR,
            }),
            token::STOP_SELF => Outcome::Reply(self.stop_self(caller)),
            token::DISPLAY_CHARACTER => Outcome::from(if self.machine.put_chars(0, &[a as u8]) {
                OK
            } else {
                BUSY
            }),
            token::SET_XIVE => {
                let valid = self.vcpu(b.into()).is_some() && c <= 0xff;
                done(valid && self.change_source(a, |source| source.route(b, c as u8)))
            }
            token::GET_XIVE => match self.xive(a) {
                None => Outcome::from(PARAMETER_ERROR),
                Some((server, priority)) => Outcome::Answer(Results {
                    words: [OK as u32, server, priority.into(), 0, 0, 0, 0, 0],
                    count: 3,
                }),
            },
            token::INT_OFF => done(self.change_source(a, |s| s.set(SourceWord::MASKED, true))),
            token::INT_ON => done(self.change_source(a, |s| s.set(SourceWord::MASKED, false))),
            token::GET_SYSTEM_PARAMETER => self.get_system_parameter(a, b, c),
            token::OS_TERM => {
                self.machine.power(PowerEvent::Crashed);
                Outcome::from(OK)
            }
            _ => Outcome::from(PARAMETER_ERROR),
        }
    }

    fn power(&mut self, caller: VcpuId, event: PowerEvent) -> Outcome {
        self.machine.power(event);
        Outcome::Reply(self.stop_for_good(caller))
    }

    fn get_time_of_day(&mut self) -> Outcome {
        let Some(RealTime {
            seconds,
            nanoseconds,
        }) = self.machine.real_time()
        else {
            return Outcome::from(HARDWARE_ERROR);
        };
        let offset = self.shared.vm.clock_offset.load(Ordering::Relaxed) as i64;
        let Some(now) = seconds.checked_add(offset).and_then(DateTime::from_seconds) else {
            return Outcome::from(HARDWARE_ERROR);
        };
        let DateTime {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = now;
        let words = [
            OK as u32,
            year,
            month,
            day,
            hour,
            minute,
            second,
            nanoseconds,
        ];
        Outcome::Answer(Results { words, count: 8 })
    }

    /// The host's clock is not the guest's to set: the difference is kept.
    fn set_time_of_day(&mut self, args: &[u32; WORDS]) -> Outcome {
        let [year, month, day, hour, minute, second, ..] = *args;
        let wanted = DateTime {
            year,
            month,
            day,
            hour,
            minute,
            second,
        };
        let Some(wanted) = wanted.to_seconds() else {
            return Outcome::from(PARAMETER_ERROR);
        };
        let Some(now) = self.machine.real_time() else {
            return Outcome::from(HARDWARE_ERROR);
        };
        let offset = wanted.wrapping_sub(now.seconds);
        self.shared
            .vm
            .clock_offset
            .store(offset as u64, Ordering::Relaxed);
        Outcome::from(OK)
    }

    /// Parameter 20 names the partition's size; others are not supported.
    fn get_system_parameter(&mut self, parameter: u32, buffer: u32, len: u32) -> Outcome {
        if parameter != SPLPAR_CHARACTERISTICS {
            return Outcome::from(PARAMETER_ERROR);
        }
        let vcpus = self.shared.vcpus.len() as u64;
        let mut text = Text::default();
        for (name, value) in [
            ("MaxEntCap=", vcpus * 100),
            (",DesMem=", self.config.memory_bytes >> 20),
            (",DesProcs=", vcpus),
            (",MaxPlatProcs=", vcpus),
        ] {
            text.string(name);
            text.number(value);
        }
        text.byte(0);
        // A big-endian length, then as much of the value as fits.
        let value = text.bytes.get(2..2 + text.len).unwrap_or(&[]);
        let size = (value.len() as u16).to_be_bytes();
        let Some(room) = len.checked_sub(2) else {
            return Outcome::from(SYSPARM_BUFFER);
        };
        let total = 2 + value.len().min(room as usize);
        if let Some(prefix) = text.bytes.first_chunk_mut::<2>() {
            *prefix = size;
        }
        let bytes = text.bytes.get(..total).unwrap_or(&[]);
        done(self.copy_out(buffer.into(), bytes).is_ok())
    }
}

fn narrow(msr: u64) -> bool {
    msr & MSR_SF == 0
}

fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    words
}

/// Text behind a two-byte prefix; what does not fit is left out.
struct Text {
    bytes: [u8; 128],
    len: usize,
}

impl Default for Text {
    fn default() -> Self {
        Text {
            bytes: [0; 128],
            len: 0,
        }
    }
}

impl Text {
    fn byte(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(2 + self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    fn string(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.byte(byte));
    }

    fn number(&mut self, value: u64) {
        let mut digits = [0; 20];
        let mut rest = value;
        let mut count = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            count += 1;
            if rest == 0 {
                break;
            }
        }
        digits
            .iter()
            .skip(20 - count)
            .for_each(|digit| self.byte(*digit));
    }
}
