// SPDX-License-Identifier: BSD-2-Clause
//! `benches/reference.toml`: the figures to beat, and the bounds that are set on ours.

use crate::error::{Result, read_toml};
use crate::workspace::Workspace;
use serde::Deserialize;

/// What is known of a figure before it is measured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its name: what a bench image prints, or `sizes` measures.
    pub name: String,
    /// Name that selects it together with others.
    pub group: Option<String>,
    /// What is measured.
    pub what: String,
    /// The peer's figure, if there is one.
    pub reference: Option<u64>,
    /// The most that ours may be, if that is set.
    pub bound: Option<u64>,
    /// Unit of all three.
    pub unit: Unit,
}

impl Row {
    /// Whether one of the names on a command line means this row; no names mean every row.
    pub fn is_chosen(&self, names: &[String]) -> bool {
        let group = self.group.as_ref();
        names.is_empty() || names.iter().any(|n| *n == self.name || Some(n) == group)
    }
}

/// A unit.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Instructions of one round.
    Instructions,
    /// Bytes.
    Bytes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    row: Vec<Row>,
}

/// Reads the file.
pub fn rows(workspace: &Workspace) -> Result<Vec<Row>> {
    let file: File = read_toml(&workspace.root.join("benches/reference.toml"))?;
    Ok(file.row)
}

/// A measured figure beside what was known: a line of the printed table, and whether it holds.
pub fn line(name: &str, measured: Option<u64>, row: Option<&Row>) -> (String, bool) {
    let figure = |value: Option<u64>| value.map_or("-".to_string(), |v| v.to_string());
    let bound = row.and_then(|r| r.bound);
    let (mark, holds) = match (measured, bound) {
        (None, _) => ("NOT MEASURED", false),
        (Some(m), Some(b)) if m > b => ("OVER ITS BOUND", false),
        _ => ("", true),
    };
    let text = format!(
        "{name:<28} {:>11} {:>10} {:>11}  {:<14} {}",
        figure(measured),
        figure(bound),
        figure(row.and_then(|r| r.reference)),
        mark,
        row.map_or("", |r| r.what.as_str()),
    );
    (text.trim_end().to_string(), holds)
}

/// Head of the table that [`line()`] prints.
pub fn head() -> String {
    format!(
        "{:<28} {:>11} {:>10} {:>11}",
        "", "measured", "bound", "reference"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bound: Option<u64>) -> Row {
        Row {
            name: "x".into(),
            group: None,
            what: "a thing".into(),
            reference: Some(700),
            bound,
            unit: Unit::Instructions,
        }
    }

    #[test]
    fn bounds_are_judged() {
        let holds = |measured, bound| line("x", measured, Some(&row(bound))).1;
        assert!(holds(Some(380), Some(380)));
        assert!(!holds(Some(381), Some(380)));
        assert!(!holds(None, Some(380)));
        assert!(holds(Some(9999), None));
        assert!(line("y", Some(1), None).1);
        assert!(
            line("x", Some(381), Some(&row(Some(380))))
                .0
                .contains("OVER ITS BOUND")
        );
    }

    #[test]
    fn the_file_is_well_formed() {
        let file: File = toml::from_str(include_str!("../../../benches/reference.toml")).unwrap();
        let mut names: Vec<_> = file.row.iter().map(|r| r.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), file.row.len(), "each name once");
        assert!(file.row.iter().all(|r| !r.what.is_empty()));
    }
}
