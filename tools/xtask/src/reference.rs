// SPDX-License-Identifier: BSD-2-Clause
//! `benches/reference.toml`: the figures to beat, and the bounds that are set on ours.

use crate::error::{Error, Result, read_toml};
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
    /// What it would be if hypercalls cost nothing, if that is known.
    pub floor: Option<u64>,
    /// The most that ours may be, if that is set.
    pub bound: Option<u64>,
    /// The least that ours may be, if that is set instead.
    pub least: Option<u64>,
    /// Unit of all three.
    pub unit: Unit,
}

impl Row {
    /// Whether one of the names on a command line means this row; no names mean every row.
    pub fn is_chosen(&self, names: &[String]) -> bool {
        names.is_empty() || names.iter().any(|name| self.is_named(name))
    }

    /// Whether this is its name or its group's, or the beginning of its name with `*` behind.
    pub fn is_named(&self, name: &str) -> bool {
        let beginning = name.strip_suffix('*');
        name == self.name
            || Some(name) == self.group.as_deref()
            || beginning.is_some_and(|beginning| self.name.starts_with(beginning))
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
    /// Nanoseconds of one round, by the host's clock.
    Nanoseconds,
    /// A part of something in a hundred, by the host's clock.
    Percent,
}

impl Unit {
    /// Whether a figure depends on what else the host does: it is shown apart from those that do not.
    pub fn is_wall_time(self) -> bool {
        matches!(self, Unit::Nanoseconds | Unit::Percent)
    }

    /// What stands behind a figure of a table with several units.
    pub fn symbol(self) -> &'static str {
        match self {
            Unit::Instructions | Unit::Bytes => "",
            Unit::Nanoseconds => " ns",
            Unit::Percent => " %",
        }
    }
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
    let symbol = row.map_or("", |r| r.unit.symbol());
    let figure = |value: Option<u64>| value.map_or("-".to_string(), |v| format!("{v}{symbol}"));
    let (bound, least) = row.map_or((None, None), |r| (r.bound, r.least));
    let (mark, holds) = match measured {
        None => ("NOT MEASURED", false),
        Some(m) if bound.is_some_and(|b| m > b) => ("OVER ITS BOUND", false),
        Some(m) if least.is_some_and(|b| m < b) => ("UNDER ITS BOUND", false),
        _ => ("", true),
    };
    let limit = match (bound, least) {
        (None, Some(_)) => format!(">= {}", figure(least)),
        _ => figure(bound),
    };
    let text = format!(
        "{name:<28} {:>11} {:>10} {:>11} {:>8}  {:<15} {}",
        figure(measured),
        limit,
        figure(row.and_then(|r| r.reference)),
        figure(row.and_then(|r| r.floor)),
        mark,
        row.map_or("", |r| r.what.as_str()),
    );
    (text.trim_end().to_string(), holds)
}

/// Head of the table that [`line()`] prints.
pub fn head() -> String {
    format!(
        "{:<28} {:>11} {:>10} {:>11} {:>8}",
        "", "measured", "bound", "reference", "floor"
    )
}

/// That no row has this name.
pub fn unknown(rows: &[Row], name: &str) -> Error {
    Error::Unknown {
        kind: "bench row",
        name: name.into(),
        known: rows.iter().map(|row| row.name.clone()).collect(),
    }
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
            floor: None,
            bound,
            least: None,
            unit: Unit::Instructions,
        }
    }

    #[test]
    fn rows_are_chosen_by_name_group_or_beginning() {
        let row = Row {
            name: "h-enter-2".into(),
            group: Some("cores".into()),
            ..row(None)
        };
        let chosen = |name: &str| row.is_chosen(&[name.into()]);
        assert!(row.is_chosen(&[]) && chosen("h-enter-2") && chosen("cores") && chosen("h-enter*"));
        assert!(!chosen("h-enter") && !chosen("core") && !chosen("h-read*"));
    }

    #[test]
    fn lower_bounds_are_judged() {
        let row = Row {
            least: Some(160),
            unit: Unit::Percent,
            ..row(None)
        };
        let (text, holds) = line("x", Some(160), Some(&row));
        assert!(holds && text.contains("160 %") && text.contains(">= 160 %"));
        let (text, holds) = line("x", Some(159), Some(&row));
        assert!(!holds && text.contains("UNDER ITS BOUND"));
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
