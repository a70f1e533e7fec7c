// SPDX-License-Identifier: BSD-2-Clause
//! Which guests still run.

/// The guests, a bit for the channel of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guests {
    all: u64,
    ended: u64,
}

impl Guests {
    /// All of them run.
    pub fn new(channels: impl IntoIterator<Item = usize>) -> Self {
        let mut guests = Guests::default();
        for channel in channels {
            guests.all |= bit(channel);
        }
        guests
    }

    /// The guest of a channel is off or has crashed. Answers whether it was the last that ran.
    pub fn ended(&mut self, channel: usize) -> bool {
        self.ended |= bit(channel) & self.all;
        self.all != 0 && self.ended == self.all
    }

    /// The guest of a channel runs again.
    pub fn started(&mut self, channel: usize) {
        self.ended &= !bit(channel);
    }
}

/// No bit for what is no channel.
fn bit(channel: usize) -> u64 {
    u32::try_from(channel)
        .ok()
        .and_then(|n| 1u64.checked_shl(n))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_turns_the_machine_off() {
        let mut guests = Guests::new([0, 3, usize::MAX]);
        assert!(!guests.ended(3));
        assert!(!guests.ended(3), "the same again");
        assert!(!guests.ended(5), "no guest");
        assert!(guests.ended(0));
    }

    #[test]
    fn who_starts_again_runs() {
        let mut guests = Guests::new([0, 1]);
        assert!(!guests.ended(0));
        guests.started(0);
        assert!(!guests.ended(1));
        assert!(guests.ended(0));
    }

    #[test]
    fn without_guests_it_stays_on() {
        assert!(!Guests::new([]).ended(0));
    }
}
