// SPDX-License-Identifier: BSD-2-Clause
//! Lines that programs on the machine print for this tool:
//!
//! ```text
//! test NAME ... ok
//! test NAME ... FAILED: why
//! suite NAME: P passed, F failed
//! bench NAME INSTRUCTIONS N
//! ```

/// One such line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A test has ended; `failure` says why it failed.
    Test {
        /// Its name.
        name: String,
        /// Why it failed.
        failure: Option<String>,
    },
    /// A suite has ended.
    Suite {
        /// Its name.
        name: String,
        /// Tests passed.
        passed: usize,
        /// Tests failed.
        failed: usize,
    },
    /// A figure.
    Bench {
        /// Name of the row.
        name: String,
        /// Instructions of one round.
        instructions: u64,
        /// Rounds measured.
        rounds: u64,
    },
}

/// Reads a line; None if it is ordinary output.
pub fn parse(line: &str) -> Option<Line> {
    let line = line.trim();
    let (kind, rest) = line.split_once(' ')?;
    match kind {
        "test" => {
            let (name, result) = rest.split_once(" ... ")?;
            let failure = match result {
                "ok" => None,
                "FAILED" => Some(String::from("no reason given")),
                _ => Some(result.strip_prefix("FAILED:")?.trim().to_string()),
            };
            Some(Line::Test {
                name: name.trim().into(),
                failure,
            })
        }
        "suite" => {
            let (name, result) = rest.rsplit_once(": ")?;
            let (passed, failed) = result.split_once(", ")?;
            Some(Line::Suite {
                name: name.into(),
                passed: passed.strip_suffix(" passed")?.parse().ok()?,
                failed: failed.strip_suffix(" failed")?.parse().ok()?,
            })
        }
        "bench" => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let [name, instructions, rounds] = words[..] else {
                return None;
            };
            Some(Line::Bench {
                name: name.into(),
                instructions: instructions.parse().ok()?,
                rounds: rounds.parse().ok()?,
            })
        }
        _ => None,
    }
}

/// What a suite's output amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Tests passed.
    pub passed: usize,
    /// Name and reason of each test that failed; a failure of the suite itself has its own entry.
    pub failures: Vec<(String, String)>,
}

/// Judges a suite by all its output. `end`: why its end was not a good one, if it was not.
pub fn judge(text: &str, end: Option<&str>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut summary = None;
    for line in text.lines().filter_map(parse) {
        match line {
            Line::Test { failure: None, .. } => verdict.passed += 1,
            Line::Test {
                name,
                failure: Some(why),
            } => verdict.failures.push((name, why)),
            Line::Suite { passed, failed, .. } => summary = Some((passed, failed)),
            Line::Bench { .. } => {}
        }
    }
    let counted = (verdict.passed, verdict.failures.len());
    let mut wrong = |why: String| verdict.failures.push(("the suite itself".into(), why));
    match summary {
        Some(summary) if summary != counted => wrong(format!(
            "it counted {} passed, {} failed, but its lines say {} and {}",
            summary.0, summary.1, counted.0, counted.1
        )),
        Some((0, 0)) => wrong("it ran no test".into()),
        Some(_) => {}
        None if end.is_none() => wrong("no summary line".into()),
        None => {}
    }
    if let Some(why) = end {
        verdict
            .failures
            .push(("the suite itself".into(), why.into()));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        assert_eq!(
            parse("test CNODEOP0001 ... ok\r"),
            Some(Line::Test {
                name: "CNODEOP0001".into(),
                failure: None
            })
        );
        assert_eq!(
            parse("test a b ... FAILED: x ... y != 3"),
            Some(Line::Test {
                name: "a b".into(),
                failure: Some("x ... y != 3".into())
            })
        );
        assert_eq!(
            parse("test a ... FAILED: x != 3"),
            Some(Line::Test {
                name: "a".into(),
                failure: Some("x != 3".into())
            })
        );
        assert_eq!(
            parse("suite kernel: 12 passed, 1 failed"),
            Some(Line::Suite {
                name: "kernel".into(),
                passed: 12,
                failed: 1
            })
        );
        assert_eq!(
            parse("bench ppc-passive-4-4 371 1000"),
            Some(Line::Bench {
                name: "ppc-passive-4-4".into(),
                instructions: 371,
                rounds: 1000
            })
        );
        for other in [
            "",
            "test",
            "test x",
            "suite x: many",
            "bench x",
            "bench x 1 y",
            "hello world",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_good_suite_passes() {
        let verdict = judge(
            "boot\ntest a ... ok\ntest b ... ok\nsuite s: 2 passed, 0 failed\n",
            None,
        );
        assert_eq!(
            verdict,
            Verdict {
                passed: 2,
                failures: vec![]
            }
        );
    }

    #[test]
    fn bad_suites_fail() {
        let failures = |text: &str, end| judge(text, end).failures.len();
        assert_eq!(failures("test a ... ok\n", None), 1, "no summary");
        assert_eq!(failures("", Some("silent for 60 s")), 1);
        assert_eq!(
            failures("suite s: 0 passed, 0 failed\n", None),
            1,
            "no test"
        );
        assert_eq!(
            failures("test a ... ok\nsuite s: 2 passed, 0 failed\n", None),
            1,
            "a lost line"
        );
        assert_eq!(
            failures("test a ... FAILED: x\nsuite s: 0 passed, 1 failed\n", None),
            1
        );
        assert_eq!(
            failures(
                "test a ... ok\nsuite s: 1 passed, 0 failed\n",
                Some("status 1")
            ),
            1
        );
    }
}
