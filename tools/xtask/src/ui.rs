// SPDX-License-Identifier: BSD-2-Clause
//! Progress: a spinner on a terminal, one line for each step elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// One step that is under way.
pub struct Step {
    bar: ProgressBar,
    name: String,
    start: Instant,
}

impl Step {
    /// Begins a step.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(name.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        if !std::io::stderr().is_terminal() {
            eprintln!("     ... {name}");
        }
        Self {
            bar,
            name,
            start: Instant::now(),
        }
    }

    /// Shows what the step does at present.
    pub fn detail(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// Prints a line above the spinner.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Ends the step well.
    pub fn done(self, note: &str) {
        self.end("ok", note);
    }

    /// Ends the step badly.
    pub fn failed(self, note: &str) {
        self.end("FAILED", note);
    }

    fn end(self, mark: &str, note: &str) {
        self.bar.finish_and_clear();
        let note = if note.is_empty() {
            String::new()
        } else {
            format!(": {note}")
        };
        let seconds = self.start.elapsed().as_secs_f32();
        eprintln!("{mark:>8} {}{note} ({seconds:.1} s)", self.name);
    }
}

impl Drop for Step {
    /// A step that is left by an error must not leave its spinner on the screen.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
