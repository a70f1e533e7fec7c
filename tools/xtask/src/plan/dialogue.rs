// SPDX-License-Identifier: BSD-2-Clause
//! What a system under test must print, what is typed into it, and how far that has come.

use serde::Deserialize;

/// What a system must say, and what it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialogue {
    /// In order.
    pub steps: Vec<Step>,
    /// Output that fails the test.
    pub never: Vec<String>,
    /// Whether QEMU must end by itself.
    pub powers_off: bool,
    /// What must become of the alterations' command; the steps are then about its output.
    pub end: CommandEnd,
    /// Whether the kernel's snapshot in the output must be the image's capability distribution.
    pub snapshot: bool,
}

/// How the guest's command must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandEnd {
    /// With this exit status.
    Status(u8),
    /// Not at all: what is said of the guest has this text in it.
    Fails(String),
}

impl Default for CommandEnd {
    fn default() -> Self {
        Self::Status(0)
    }
}

/// A step of a dialogue.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Wait for this text after that of the step before.
    Expect(String),
    /// Type this.
    Send(String),
}

/// A search in output that grows: what has been looked at is not looked at again.
#[derive(Debug, Default)]
pub struct Watch {
    seen: usize,
}

impl Watch {
    /// One of `wanted` that has come since the last look, and where it is.
    pub fn find<'a>(&mut self, wanted: &[&'a str], text: &str) -> Option<(usize, &'a str)> {
        let longest = wanted.iter().map(|w| w.len()).max()?;
        // Its beginning may have been there.
        let from = text.floor_char_boundary(self.seen.saturating_sub(longest));
        self.seen = text.len();
        let fresh = &text[from..];
        wanted
            .iter()
            .find_map(|w| Some((from + fresh.find(w)?, *w)))
    }
}

/// How far a dialogue has come.
#[derive(Debug, Default)]
pub struct Progress {
    never: Watch,
    step: usize,
    position: usize,
}

/// What is to be done next in a dialogue.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// Wait for more output.
    Wait,
    /// Type this.
    Send(&'a str),
    /// All steps are done.
    Done,
    /// This must not have been printed.
    Forbidden(&'a str),
}

impl Progress {
    /// Goes on as far as the console's `text` allows.
    pub fn next<'a>(&mut self, dialogue: &'a Dialogue, text: &str) -> Next<'a> {
        let never: Vec<_> = dialogue.never.iter().map(String::as_str).collect();
        if let Some((_, found)) = self.never.find(&never, text) {
            return Next::Forbidden(found);
        }
        while let Some(step) = dialogue.steps.get(self.step) {
            match step {
                Step::Expect(wanted) => match text[self.position..].find(wanted.as_str()) {
                    Some(at) => {
                        self.position += at + wanted.len();
                        self.step += 1;
                    }
                    None => return Next::Wait,
                },
                Step::Send(typed) => {
                    self.step += 1;
                    return Next::Send(typed);
                }
            }
        }
        Next::Done
    }

    /// What is being waited for.
    pub fn waiting_for(&self, dialogue: &Dialogue) -> String {
        match dialogue.steps.get(self.step) {
            Some(Step::Expect(text)) => format!("`{text}` (step {})", self.step + 1),
            _ => "the end".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_sees_what_comes_in_pieces() {
        let mut watch = Watch::default();
        assert_eq!(watch.find(&[], "a"), None);
        let text = "häuser KERNEL|PANIC and BUG:";
        let at = text.find("KERNEL").unwrap();
        for end in (0..at + 12).filter(|&end| text.is_char_boundary(end)) {
            assert_eq!(watch.find(&["BUG:", "KERNEL|PANIC"], &text[..end]), None);
        }
        let found = watch.find(&["BUG:", "KERNEL|PANIC"], &text[..at + 12]);
        assert_eq!(found, Some((at, "KERNEL|PANIC")));
        let found = watch.find(&["BUG:"], text);
        assert_eq!(found, Some((text.len() - 4, "BUG:")));
    }

    #[test]
    fn dialogue_goes_in_order() {
        let dialogue = Dialogue {
            steps: vec![
                Step::Expect("one".into()),
                Step::Send("x".into()),
                Step::Expect("one".into()),
            ],
            never: vec!["PANIC".into()],
            ..Dialogue::default()
        };
        let mut progress = Progress::default();
        assert_eq!(progress.next(&dialogue, "o"), Next::Wait);
        assert_eq!(progress.next(&dialogue, "one"), Next::Send("x"));
        assert_eq!(
            progress.next(&dialogue, "one"),
            Next::Wait,
            "the same text counts once"
        );
        assert_eq!(progress.waiting_for(&dialogue), "`one` (step 3)");
        assert_eq!(progress.next(&dialogue, "one one"), Next::Done);
        assert_eq!(
            progress.next(&dialogue, "one one PANIC"),
            Next::Forbidden("PANIC")
        );
    }
}
