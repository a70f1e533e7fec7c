// SPDX-License-Identifier: BSD-2-Clause
//! DEVICE: accesses to device registers that a device does not like cost the thread that makes them,
//! nobody else. And what PlatformControl offers.

use sel4::init_thread::slot;
use sel4::{CapRights, PlatformTime, VmAttributes, cap};
use testkit::console::UART_OFFSET;
use testkit::kit::{CACHE_INHIBITED, WINDOW};
use testkit::{Case, Env, Helper, Kit, Outcome, check, check_eq, fail};

pub const CASES: &[Case] = &[
    Case {
        name: "DEVICE0001 registers read with the wrong width",
        body: wide_reads,
    },
    Case {
        name: "DEVICE0002 registers written with the wrong width",
        body: wide_writes,
    },
    Case {
        name: "DEVICE0003 device addresses where nothing is",
        body: nothing,
    },
    Case {
        name: "DEVICE0004 a machine check waits for nobody",
        body: no_handler,
    },
    Case {
        name: "PLATFORM0001 the clock",
        body: clock,
    },
    Case {
        name: "PLATFORM0002 the clock is set",
        body: set_clock,
    },
];

const NO_REPLY: cap::Reply = cap::Reply::from_bits(0);

fn map(kit: &mut Kit) -> Outcome {
    let twin = kit.copy(kit.uart(), CapRights::all())?;
    let attributes = VmAttributes::from_bits(CACHE_INHIBITED) | VmAttributes::EXECUTE_NEVER;
    twin.frame_map(
        slot::VSPACE.cap(),
        WINDOW,
        CapRights::read_write(),
        attributes,
    )?;
    Ok(())
}

/// Reads once. Words: address, width.
fn read(env: &Env) -> u64 {
    let at = env.args[0];
    // SAFETY: the device's page; at worst the access faults.
    unsafe {
        match env.args[1] {
            1 => (at as *const u8).read_volatile().into(),
            2 => (at as *const u16).read_volatile().into(),
            4 => (at as *const u32).read_volatile().into(),
            _ => (at as *const u64).read_volatile(),
        }
    }
}

/// What a write puts into the UART's registers: a blank, no interrupts, no FIFO, eight bits.
const HARMLESS: u64 = u64::from_le_bytes([b' ', 0, 0, 3, 0, 0, 0, 0]);

/// Writes once. Words: address, width.
fn write(env: &Env) -> u64 {
    let at = env.args[0];
    // SAFETY: as in `read`; the values do not change how the UART works.
    unsafe {
        match env.args[1] {
            2 => (at as *mut u16).write_volatile(HARMLESS as u16),
            4 => (at as *mut u32).write_volatile(HARMLESS as u32),
            _ => (at as *mut u64).write_volatile(HARMLESS),
        }
    }
    1
}

/// Runs `body` on the device's page: it ends or faults, and both are fine as long as it harms nobody
/// else. A second thread must run on, and the console must work (the next line shows it).
fn survive(kit: &mut Kit, body: testkit::thread::Body, offset: usize, width: u64) -> Outcome {
    let faults = kit.endpoint()?;
    let thread = Helper::new(body)
        .args([(WINDOW + offset) as u64, width])
        .fault(faults)
        .start(kit)?;
    kit.settle()?;
    let got = faults.nb_recv_with_mrs(NO_REPLY);
    check!(thread.finished() || got.info.length() != 0);
    let other = Helper::new(crate::support::nothing).start(kit)?;
    check_eq!(other.join(kit)?, 0x600d);
    other.discard(kit)?;
    thread.discard(kit)?;
    Ok(())
}

fn wide_reads(kit: &mut Kit) -> Outcome {
    map(kit)?;
    for width in [1, 2, 4, 8] {
        survive(kit, read, UART_OFFSET, width)?;
    }
    // Not aligned.
    for (offset, width) in [(1, 2), (1, 4), (3, 8)] {
        survive(kit, read, UART_OFFSET + offset, width)?;
    }
    Ok(())
}

fn wide_writes(kit: &mut Kit) -> Outcome {
    map(kit)?;
    for width in [2, 4, 8] {
        survive(kit, write, UART_OFFSET, width)?;
    }
    Ok(())
}

fn nothing(kit: &mut Kit) -> Outcome {
    map(kit)?;
    for offset in [0x200, 0x400, 0x808, 0xff8] {
        for width in [1, 2, 4, 8] {
            survive(kit, read, offset, width)?;
        }
        for width in [2, 4, 8] {
            survive(kit, write, offset, width)?;
        }
    }
    Ok(())
}

fn no_handler(kit: &mut Kit) -> Outcome {
    map(kit)?;
    for width in [2, 8] {
        let thread = Helper::new(read)
            .args([WINDOW as u64 + 0x808, width])
            .start(kit)?;
        kit.settle()?;
        thread.discard(kit)?;
    }
    Ok(())
}

/// Two decimal digits.
fn decimal(byte: u64) -> Option<u64> {
    let (high, low) = (byte >> 4 & 15, byte & 15);
    (high < 10 && low < 10).then_some(10 * high + low)
}

/// Reads the clock. Firmware asks the service processor, which takes it some 200 ms; the answer until then is
/// an error.
fn read_clock(kit: &Kit) -> Outcome<PlatformTime> {
    let platform = slot::PLATFORM_CONTROL.cap();
    for _ in 0..100 {
        match platform.platform_get_time() {
            Err(sel4::Error::IllegalOperation) => kit.sleep(20_000)?,
            answer => return Ok(answer?),
        }
    }
    fail!("the clock is never read")
}

fn clock(kit: &mut Kit) -> Outcome {
    let time = read_clock(kit)?;
    let date = time.year_month_day;
    let day = decimal(date & 0xff);
    let month = decimal(date >> 8 & 0xff);
    let century = decimal(date >> 24 & 0xff);
    check!(matches!(day, Some(1..=31)));
    check!(matches!(month, Some(1..=12)));
    check!(matches!(century, Some(19..=21)));
    let hour = decimal(time.hour_minute_second_ms >> 56);
    check!(matches!(hour, Some(0..=23)));
    Ok(())
}

/// Seconds of the day.
fn seconds(time: PlatformTime) -> Option<u64> {
    let two = |shift: u64| decimal(time.hour_minute_second_ms >> shift & 0xff);
    Some(3600 * two(56)? + 60 * two(48)? + two(40)?)
}

fn set_clock(kit: &mut Kit) -> Outcome {
    let platform = slot::PLATFORM_CONTROL.cap();
    let before = read_clock(kit)?;
    // To what it is: QEMU's service processor goes wrong by as much as a new time differs.
    platform.platform_set_time(before)?;
    let mut last = before;
    // What firmware knew before is the first answer.
    for _ in 0..3 {
        last = read_clock(kit)?;
    }
    let (from, to) = (seconds(before), seconds(last));
    let Some((from, to)) = from.zip(to) else {
        fail!("no time: {before:x?}, {last:x?}");
    };
    let later = (to + 86_400 - from) % 86_400;
    if later > 3600 {
        fail!("{from} s became {to} s");
    }
    Ok(())
}
