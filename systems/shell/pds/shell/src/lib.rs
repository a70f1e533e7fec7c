// SPDX-License-Identifier: BSD-2-Clause
//! Line editor and commands of the shell.
#![cfg_attr(not(test), no_std)]

use core::fmt::{self, Write};

/// Characters in a line.
pub const LINE_SIZE: usize = 128;
const PROMPT: &str = "> ";

/// Ways to end with a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Read an address that is not mapped.
    Read,
    /// Write below the stack.
    Stack,
    /// Panic.
    Panic,
}

/// What the commands need of the system.
pub trait System {
    /// Milliseconds since boot.
    fn uptime_ms(&self) -> u64;
    /// Does what `kind` says. Does not come back.
    fn fault(&mut self, kind: FaultKind);
    /// Turns the machine off; comes back with the reason if it cannot.
    fn power_off(&mut self) -> &'static str;
}

/// A command: name, arguments, what it does.
struct Command {
    name: &'static str,
    arguments: &'static str,
    help: &'static str,
}

const COMMANDS: [Command; 5] = [
    Command {
        name: "help",
        arguments: "",
        help: "this list",
    },
    Command {
        name: "echo",
        arguments: "TEXT",
        help: "prints TEXT",
    },
    Command {
        name: "uptime",
        arguments: "",
        help: "time since boot",
    },
    Command {
        name: "fault",
        arguments: "read|stack|panic",
        help: "ends with a fault",
    },
    Command {
        name: "poweroff",
        arguments: "",
        help: "turns the machine off",
    },
];

/// The shell: reads characters, writes to `W`.
#[derive(Debug)]
pub struct Shell<W, S> {
    output: W,
    system: S,
    line: [u8; LINE_SIZE],
    length: usize,
    /// The last character was a carriage return: a newline after it is part of it.
    after_return: bool,
}

impl<W: Write, S: System> Shell<W, S> {
    /// Greets and prompts.
    ///
    /// # Errors
    ///
    /// If the output fails.
    pub fn start(mut output: W, system: S) -> Result<Self, fmt::Error> {
        write!(
            output,
            "\nPartita shell; 'help' lists the commands.\n{PROMPT}"
        )?;
        Ok(Shell {
            output,
            system,
            line: [0; LINE_SIZE],
            length: 0,
            after_return: false,
        })
    }

    /// Where it writes to.
    pub fn output_mut(&mut self) -> &mut W {
        &mut self.output
    }

    /// A character was typed.
    ///
    /// # Errors
    ///
    /// If the output fails.
    pub fn input(&mut self, byte: u8) -> fmt::Result {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match byte {
            b'\n' if after_return => Ok(()),
            b'\r' | b'\n' => {
                self.output.write_char('\n')?;
                self.execute()?;
                self.length = 0;
                self.output.write_str(PROMPT)
            }
            // Backspace, delete.
            0x08 | 0x7f if self.length > 0 => {
                self.length -= 1;
                self.output.write_str("\x08 \x08")
            }
            // Ctrl-C, Ctrl-U: another line.
            0x03 | 0x15 => {
                self.length = 0;
                write!(self.output, "\n{PROMPT}")
            }
            b' '..=b'~' if self.length < LINE_SIZE => {
                self.line[self.length] = byte;
                self.length += 1;
                self.output.write_char(char::from(byte))
            }
            _ => Ok(()),
        }
    }

    fn execute(&mut self) -> fmt::Result {
        // Only printable ASCII gets into the line.
        let line = core::str::from_utf8(&self.line[..self.length])
            .unwrap_or_default()
            .trim();
        let (command, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let arguments = arguments.trim();
        let out = &mut self.output;
        match command {
            "" => Ok(()),
            "help" => COMMANDS.iter().try_for_each(|c| {
                let gap = if c.arguments.is_empty() { "" } else { " " };
                let width = 30 - c.name.len() - gap.len();
                writeln!(out, "  {}{gap}{:width$}{}", c.name, c.arguments, c.help)
            }),
            "echo" => writeln!(out, "{arguments}"),
            "uptime" => {
                let ms = self.system.uptime_ms();
                writeln!(out, "{}.{:03} s", ms / 1000, ms % 1000)
            }
            "fault" => {
                let kind = match arguments {
                    "read" => FaultKind::Read,
                    "stack" => FaultKind::Stack,
                    "panic" => FaultKind::Panic,
                    _ => return writeln!(out, "fault: one of read, stack, panic"),
                };
                self.system.fault(kind);
                writeln!(out, "fault: still here")
            }
            "poweroff" => {
                let reason = self.system.power_off();
                writeln!(out, "poweroff: {reason}")
            }
            _ => writeln!(out, "{command}: no such command"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Model {
        faults: Vec<FaultKind>,
    }

    impl System for Model {
        fn uptime_ms(&self) -> u64 {
            61_007
        }

        fn fault(&mut self, kind: FaultKind) {
            self.faults.push(kind);
        }

        fn power_off(&mut self) -> &'static str {
            "the machine is on"
        }
    }

    /// What the shell answers to `typed`, after its greeting.
    fn session(typed: &str) -> (String, Vec<FaultKind>) {
        let mut shell = Shell::start(String::new(), Model::default()).unwrap();
        shell.output_mut().clear();
        typed.bytes().for_each(|byte| shell.input(byte).unwrap());
        (shell.output, shell.system.faults)
    }

    #[test]
    fn greeting() {
        let shell = Shell::start(String::new(), Model::default()).unwrap();
        assert!(shell.output.starts_with("\nPartita shell") && shell.output.ends_with("\n> "));
    }

    #[test]
    fn commands() {
        assert_eq!(session("echo  a b \r").0, "echo  a b \na b\n> ");
        assert_eq!(session("uptime\r\n").0, "uptime\n61.007 s\n> ");
        assert_eq!(session("\n\n").0, "\n> \n> ");
        assert_eq!(session("frob\r").0, "frob\nfrob: no such command\n> ");
        assert_eq!(
            session("poweroff\r").0,
            "poweroff\npoweroff: the machine is on\n> "
        );
        for command in COMMANDS {
            assert!(
                session("help\r").0.contains(command.help),
                "{}",
                command.name
            );
            let known = session(&format!("{}\r", command.name)).0;
            assert!(!known.contains("no such command"), "{}", command.name);
        }
    }

    #[test]
    fn faults() {
        assert_eq!(session("fault read\rfault stack\rfault panic\r").1.len(), 3);
        let (output, faults) = session("fault\r");
        assert!(output.contains("one of read, stack, panic") && faults.is_empty());
    }

    #[test]
    fn editing() {
        let typed = "\x7fecho xy\x7f\x08ok\r";
        assert!(session(typed).0.ends_with("\nok\n> "));
        assert!(session("fault read\x15echo safe\r").0.ends_with("safe\n> "));
        assert_eq!(session("\x1b\x00\u{e9}").0, "");
        let long = "x".repeat(LINE_SIZE + 50);
        assert_eq!(session(&long).0.len(), LINE_SIZE);
    }
}
