// SPDX-License-Identifier: BSD-2-Clause
//! Divides a console's text into a command's output and what is around it.
//!
//! The guest's `/init` prints a line [`BEGIN`], runs the command, and prints a line of [`END`] and the
//! exit status. Before that line it prints one line end more, so that the mark starts a line
//! whatever the command has written; that line end is no part of the output.

/// The line before a command's output.
pub const BEGIN: &str = "PARTITA-GUEST-BEGIN";
/// Start of the line after it.
pub const END: &str = "PARTITA-GUEST-END";

/// Divides a console's text.
#[derive(Debug, Default)]
pub struct Parser {
    state: State,
    /// The line after which the text is the guest's, if there are several terminals.
    selected: Option<String>,
    /// The part of the text that is not judged yet.
    held: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the command.
    #[default]
    Boot,
    /// Before the guest's terminal is shown.
    Other,
    /// In its output.
    Output,
    /// After it.
    Ended(u8),
}

/// What a piece of text was.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Output of the command.
    Output(String),
    /// A line of the console outside it.
    Line(String),
    /// A line from before the guest's terminal was shown: it may be another guest's.
    OtherLine(String),
}

impl Parser {
    /// For a guest with one of several terminals. The text is another guest's until the serial driver
    /// says that it shows this one.
    pub fn of(terminal: Option<usize>) -> Self {
        match terminal {
            None => Self::default(),
            Some(number) => Self {
                state: State::Other,
                selected: Some(format!("[console {number}: ")),
                held: String::new(),
            },
        }
    }

    /// Takes in text; returns what is known of it now, in order.
    pub fn feed(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        loop {
            let before = (self.held.len(), pieces.len());
            match self.state {
                State::Boot | State::Other | State::Ended(_) => self.line(&mut pieces),
                State::Output => self.output(&mut pieces),
            }
            if before == (self.held.len(), pieces.len()) {
                return pieces;
            }
        }
    }

    /// Whether the command has started.
    pub fn started(&self) -> bool {
        !matches!(self.state, State::Boot | State::Other)
    }

    /// The command's exit status, once it has ended.
    pub fn status(&self) -> Option<u8> {
        match self.state {
            State::Ended(status) => Some(status),
            _ => None,
        }
    }

    fn line(&mut self, pieces: &mut Vec<Piece>) {
        let Some(end) = self.held.find('\n') else {
            return;
        };
        let line: String = self.held.drain(..=end).collect();
        let line = line.trim_end_matches('\n');
        match (&self.state, &self.selected) {
            (State::Boot, _) if line == BEGIN => self.state = State::Output,
            (State::Other, Some(selected)) if line.starts_with(selected) => {
                self.state = State::Boot;
            }
            (State::Other, _) => pieces.push(Piece::OtherLine(line.into())),
            _ => pieces.push(Piece::Line(line.into())),
        }
    }

    fn output(&mut self, pieces: &mut Vec<Piece>) {
        let mark = format!("\n{END} ");
        let mut from = 0;
        while let Some(at) = self.held[from..].find(&mark).map(|at| from + at) {
            let rest = &self.held[at + mark.len()..];
            let Some(end) = rest.find('\n') else {
                // The line with the status is not complete.
                self.give(at, pieces);
                return;
            };
            if let Ok(status) = rest[..end].parse() {
                let after = at + mark.len() + end + 1;
                self.give(at, pieces);
                self.held.drain(..after - at);
                self.state = State::Ended(status);
                return;
            }
            from = at + mark.len();
        }
        // The start of a mark may be at the end of the text.
        let kept = (1..mark.len())
            .rev()
            .find(|&n| self.held.ends_with(&mark[..n]))
            .unwrap_or(0);
        self.give(self.held.len() - kept, pieces);
    }

    fn give(&mut self, bytes: usize, pieces: &mut Vec<Piece>) {
        if bytes > 0 {
            pieces.push(Piece::Output(self.held.drain(..bytes).collect()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "booting\nPARTITA-GUEST-BEGIN\none\ntwo\n\nPARTITA-GUEST-END 3\nbye\n";

    /// Output and lines outside it.
    fn parse(pieces: &[&str]) -> (String, Vec<String>, Option<u8>) {
        let mut parser = Parser::default();
        let (mut output, mut lines) = (String::new(), Vec::new());
        for piece in pieces.iter().flat_map(|text| parser.feed(text)) {
            match piece {
                Piece::Output(text) => output.push_str(&text),
                Piece::Line(line) | Piece::OtherLine(line) => lines.push(line),
            }
        }
        (output, lines, parser.status())
    }

    #[test]
    fn output_is_between_the_marks() {
        let (output, lines, status) = parse(&[CONSOLE]);
        assert_eq!(output, "one\ntwo\n");
        assert_eq!(lines, ["booting", "bye"]);
        assert_eq!(status, Some(3));
    }

    #[test]
    fn pieces_of_any_size_give_the_same() {
        for size in 1..CONSOLE.len() {
            let pieces: Vec<&str> = (0..CONSOLE.len())
                .step_by(size)
                .map(|at| &CONSOLE[at..CONSOLE.len().min(at + size)])
                .collect();
            assert_eq!(parse(&pieces), parse(&[CONSOLE]), "{size}");
        }
    }

    #[test]
    fn output_without_a_line_end_stays_so() {
        let (output, _, status) = parse(&["PARTITA-GUEST-BEGIN\nx\nPARTITA-GUEST-END 0\n"]);
        assert_eq!((output.as_str(), status), ("x", Some(0)));
        let (output, _, status) = parse(&["PARTITA-GUEST-BEGIN\n\nPARTITA-GUEST-END 255\n"]);
        assert_eq!((output.as_str(), status), ("", Some(255)));
    }

    #[test]
    fn output_comes_before_the_end_is_known() {
        let mut parser = Parser::default();
        let pieces = parser.feed("PARTITA-GUEST-BEGIN\nprompt> ");
        assert_eq!(pieces, [Piece::Output("prompt> ".into())]);
        assert_eq!(parser.feed("\n"), []);
        assert_eq!(parser.feed("x"), [Piece::Output("\nx".into())]);
    }

    #[test]
    fn a_mark_without_a_status_is_output() {
        let (output, _, status) =
            parse(&["PARTITA-GUEST-BEGIN\n\nPARTITA-GUEST-END x\n\nPARTITA-GUEST-END 1\n"]);
        assert_eq!(output, "\nPARTITA-GUEST-END x\n");
        assert_eq!(status, Some(1));
    }
}
