// SPDX-License-Identifier: BSD-2-Clause
//! Many runs of each test: how long to go on, and what has come of it.

use crate::error::{Result, write};
use crate::process;
use crate::protocol::Verdict;
use crate::workspace::Workspace;
use serde::Serialize;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// A length of time: a number with s, m or h after it (seconds without).
pub fn length(text: &str) -> std::result::Result<Duration, String> {
    let (digits, unit) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3600),
        _ => (text, 1),
    };
    digits
        .parse::<u32>()
        .ok()
        .filter(|number| *number > 0)
        .map(|number| Duration::from_secs(u64::from(number) * unit))
        .ok_or_else(|| "a number with s, m or h after it, such as 90m".into())
}

/// What has come of each test. It is kept in a file too, which is complete after every run.
pub struct Record {
    file: PathBuf,
    clock: Option<Instant>,
    report: Report,
}

#[derive(Serialize)]
struct Report {
    /// Of the sources; with `+` if they were changed after it.
    commit: String,
    /// In UTC, as ISO 8601 has it.
    started: String,
    seconds: u64,
    runs: usize,
    failed: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tests: Vec<Test>,
}

#[derive(Serialize)]
struct Test {
    name: String,
    runs: usize,
    failed: usize,
    /// Cases passed in all runs.
    cases: usize,
    /// With the number of the run.
    failures: Vec<String>,
}

impl Record {
    /// Nothing has run.
    pub fn new(workspace: &Workspace) -> Self {
        let program = |name: &str, words: &[&str]| {
            let mut command = Command::new(name);
            command.args(words).current_dir(&workspace.root);
            process::said(&mut command)
        };
        let commit = program("git", &["describe", "--always", "--dirty=+", "--exclude=*"]);
        let started = program("date", &["-u", "+%Y-%m-%dT%H:%MZ"]);
        Self {
            file: workspace.target.join("test-logs/soak.json"),
            clock: None,
            report: Report {
                commit: commit.unwrap_or_else(|| "unknown".into()),
                started: started.unwrap_or_default(),
                seconds: 0,
                runs: 0,
                failed: 0,
                tests: Vec::new(),
            },
        }
    }

    /// The first boot comes now: the time to build its image does not count.
    pub fn start(&mut self) {
        self.clock.get_or_insert_with(Instant::now);
    }

    /// Time since the start.
    pub fn age(&self) -> Duration {
        self.clock.map_or(Duration::ZERO, |clock| clock.elapsed())
    }

    /// How often a test has run.
    pub fn runs(&self, name: &str) -> usize {
        let test = self.report.tests.iter().find(|test| test.name == name);
        test.map_or(0, |test| test.runs)
    }

    /// Adds a run; says which it was of this test.
    pub fn add(&mut self, name: &str, verdict: &Verdict) -> usize {
        let tests = &mut self.report.tests;
        let at = tests.iter().position(|test| test.name == name);
        let at = at.unwrap_or_else(|| {
            tests.push(Test {
                name: name.into(),
                runs: 0,
                failed: 0,
                cases: 0,
                failures: Vec::new(),
            });
            tests.len() - 1
        });
        let test = &mut tests[at];
        test.runs += 1;
        test.cases += verdict.passed;
        let failed = usize::from(!verdict.failures.is_empty());
        test.failed += failed;
        let run = test.runs;
        test.failures.extend(
            verdict
                .failures
                .iter()
                .map(|(case, why)| format!("run {run}: {case}: {why}")),
        );
        self.report.runs += 1;
        self.report.failed += failed;
        run
    }

    /// Whether anything ran more than once.
    pub fn has_repeated(&self) -> bool {
        self.report.tests.iter().any(|test| test.runs > 1)
    }

    /// Writes the file.
    pub fn save(&mut self) -> Result<()> {
        self.report.seconds = self.age().as_secs();
        write(&self.file, json(&self.report) + "\n")
    }

    /// A line for each test, and one for a program to read.
    pub fn summary(mut self) -> String {
        let mut lines = String::new();
        for test in &self.report.tests {
            lines += &format!(
                "{:>4} runs, {} failed, {} cases passed: {}\n",
                test.runs, test.failed, test.cases, test.name
            );
        }
        self.report.tests.clear();
        lines += &format!("soak {}\n", json(&self.report));
        lines
    }
}

fn json(report: &Report) -> String {
    serde_json::to_string(report).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn lengths() {
        assert_eq!(length("90"), Ok(Duration::from_secs(90)));
        assert_eq!(length("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(length("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(length("2h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "0", "h", "1d", "-1h", "1.5h"] {
            assert!(length(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn runs_are_counted() {
        let target = std::env::temp_dir().join(format!("xtask-soak-{}", std::process::id()));
        let workspace = Workspace {
            root: Path::new(env!("CARGO_MANIFEST_DIR")).into(),
            target: target.clone(),
            packages: Vec::new(),
        };
        let good = Verdict {
            passed: 3,
            failures: Vec::new(),
        };
        let bad = Verdict {
            passed: 2,
            failures: vec![("c".into(), "x != y".into())],
        };
        let mut record = Record::new(&workspace);
        assert_eq!(record.add("a", &good), 1);
        assert!(!record.has_repeated());
        assert_eq!(record.add("b", &good), 1);
        assert_eq!(record.add("a", &bad), 2);
        assert!(record.has_repeated());
        assert_eq!((record.runs("a"), record.runs("none")), (2, 0));
        record.save().unwrap();
        let file = std::fs::read_to_string(target.join("test-logs/soak.json")).unwrap();
        std::fs::remove_dir_all(target).unwrap();
        let file: serde_json::Value = serde_json::from_str(&file).unwrap();
        assert_eq!(file["tests"][0]["failures"][0], "run 2: c: x != y");
        assert_eq!((&file["runs"], &file["failed"]), (&3.into(), &1.into()));
        let summary = record.summary();
        assert!(summary.contains("   2 runs, 1 failed, 5 cases passed: a\n"));
        let line = summary.lines().last().unwrap();
        let line: serde_json::Value =
            serde_json::from_str(line.strip_prefix("soak ").unwrap()).unwrap();
        assert_eq!(
            (&line["runs"], &line["tests"]),
            (&3.into(), &serde_json::Value::Null)
        );
    }
}
