// SPDX-License-Identifier: BSD-2-Clause
//! The figures of `cargo xtask bench` as a drawing (SVG): each row's figure as a part of the reference's, or of its
//! bound where there is no reference.

use crate::reference::Row;
use std::fmt::Write;

/// Pixels: where bars begin, how long the whole is, and how far one row is from the next.
const LEFT: u32 = 230;
const WHOLE: u32 = 420;
const ROW: u32 = 24;
/// Room for what stands behind a bar, and for the heading.
const RIGHT: u32 = 330;
const TOP: u32 = 64;
/// Longest bar, in parts of the whole: what is more is cut off, and its figure says how much it is.
const LONGEST: f64 = 1.5;

/// Draws the rows that have a figure and something to compare it with.
pub fn svg(rows: &[Row], measured: impl Fn(&str) -> Option<u64>) -> String {
    let bars: Vec<(&Row, u64, u64)> = rows
        .iter()
        .filter_map(|row| {
            let whole = row.reference.or(row.bound).or(row.least);
            let whole = whole.filter(|whole| *whole > 0)?;
            Some((row, measured(&row.name)?, whole))
        })
        .collect();
    let (width, height) = (
        LEFT + WHOLE * 3 / 2 + RIGHT,
        TOP + ROW * (bars.len() as u32 + 1),
    );
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">
<rect width="{width}" height="{height}" fill="#ffffff"/>
<text x="12" y="24" font-size="15">One round, in instructions or as it is said, against the reference</text>
<text x="12" y="44" fill="#555555">grey: the reference (its figure is the whole), or the bound where there is none; black line: the bound</text>
"##
    );
    for (number, (row, measured, whole)) in bars.into_iter().enumerate() {
        bar(&mut svg, TOP + ROW * number as u32, row, measured, whole);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Pixels of a figure, where `whole` is [`WHOLE`].
fn length(figure: u64, whole: u64) -> f64 {
    (figure as f64 / whole as f64).min(LONGEST) * f64::from(WHOLE)
}

fn bar(svg: &mut String, y: u32, row: &Row, measured: u64, whole: u64) {
    let holds = row.bound.is_none_or(|bound| measured <= bound)
        && row.least.is_none_or(|least| measured >= least);
    let colour = if holds { "#2e7d32" } else { "#c62828" };
    let (text_y, thin_y, end_y) = (y + 13, y + 4, y + 18);
    let unit = row.unit.symbol();
    let mut says = format!("{measured}{unit}");
    for (name, figure) in [
        ("bound", row.bound),
        ("at least", row.least),
        ("reference", row.reference),
        ("floor", row.floor),
    ] {
        if let Some(figure) = figure {
            let _ = write!(says, ", {name} {figure}{unit}");
        }
    }
    let name = escaped(&row.name);
    let long = length(measured, whole);
    let behind = f64::from(LEFT + 12) + long.max(f64::from(WHOLE));
    let _ = write!(
        svg,
        r##"<g><title>{what}</title>
<text x="{x}" y="{text_y}" text-anchor="end">{name}</text>
<rect x="{LEFT}" y="{y}" width="{WHOLE}" height="18" fill="#dddddd"/>
<rect x="{LEFT}" y="{thin_y}" width="{long:.1}" height="10" fill="{colour}"/>
"##,
        what = escaped(&row.what),
        x = LEFT - 8,
    );
    if let Some(bound) = row.bound.or(row.least) {
        let at = f64::from(LEFT) + length(bound, whole);
        let _ = writeln!(
            svg,
            r##"<line x1="{at:.1}" y1="{y}" x2="{at:.1}" y2="{end_y}" stroke="#000000" stroke-width="2"/>"##
        );
    }
    let says = escaped(&says);
    let _ = writeln!(
        svg,
        r##"<text x="{behind:.1}" y="{text_y}">{says}</text></g>"##
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<Row> {
        let rows: toml::Table = toml::from_str(text).unwrap();
        rows["row"].clone().try_into().unwrap()
    }

    #[test]
    fn figures_are_parts_of_the_reference() {
        let rows = rows(
            r#"
            [[row]]
            name = "good"
            what = "a < b"
            unit = "instructions"
            reference = 1000
            bound = 500
            [[row]]
            name = "bad"
            what = "x"
            unit = "instructions"
            bound = 100
            [[row]]
            name = "alone"
            what = "x"
            unit = "instructions"
            [[row]]
            name = "missing"
            what = "x"
            unit = "instructions"
            bound = 1
            [[row]]
            name = "too little"
            what = "x"
            unit = "percent"
            least = 160
            "#,
        );
        let drawn = svg(&rows, |name| match name {
            "good" => Some(250),
            "bad" => Some(1000),
            "alone" => Some(1),
            "too little" => Some(80),
            _ => None,
        });
        let document = roxmltree::Document::parse(&drawn).unwrap();
        let texts: Vec<&str> = document.descendants().filter_map(|n| n.text()).collect();
        assert!(texts.contains(&"a < b") && texts.contains(&"250, bound 500, reference 1000"));
        assert!(!texts.contains(&"alone") && !texts.contains(&"missing"));
        let bars: Vec<(&str, &str)> = document
            .descendants()
            .filter(|n| n.attribute("height") == Some("10"))
            .map(|n| (n.attribute("width").unwrap(), n.attribute("fill").unwrap()))
            .collect();
        // A quarter of the reference; over its bound, and cut off.
        let red = "#c62828";
        assert_eq!(bars, [("105.0", "#2e7d32"), ("630.0", red), ("210.0", red)]);
        assert!(texts.contains(&"80 %, at least 160 %"));
    }
}
