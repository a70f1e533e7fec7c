// SPDX-License-Identifier: BSD-2-Clause
//! Finding elements of a system description, and changing its text at their places.

use roxmltree::{Document, Node};
use std::ops::Range;

/// The elements of a text.
pub(super) fn parse(text: &str) -> Result<Document<'_>, String> {
    Document::parse(text).map_err(|e| e.to_string())
}

/// The guests.
pub(super) fn machines<'a>(document: &'a Document<'a>) -> impl Iterator<Item = Node<'a, 'a>> {
    document
        .descendants()
        .filter(|n| n.has_tag_name("virtual_machine"))
}

/// Gives a region at least so many bytes.
pub(super) fn enlarge(
    document: &Document,
    name: &str,
    bytes: u64,
    edits: &mut Edits,
) -> Result<(), String> {
    let region = find(document.root(), "memory_region", "name", name)?;
    let page = match region.attribute("page_size") {
        Some(text) => number(text)?,
        None => 0x1000,
    };
    edits.set(&region, "size", &hex(bytes.next_multiple_of(page)));
    Ok(())
}

/// The first element below `from` with this attribute.
pub(super) fn find<'a>(
    from: Node<'a, 'a>,
    tag: &str,
    name: &str,
    value: &str,
) -> Result<Node<'a, 'a>, String> {
    from.descendants()
        .find(|n| n.has_tag_name(tag) && n.attribute(name) == Some(value))
        .ok_or_else(|| format!("no <{tag} {name}=\"{value}\">"))
}

/// A number as a description has it: `0x` or decimal, with underscores.
pub(super) fn number(text: &str) -> Result<u64, String> {
    let plain = text.replace('_', "");
    match plain.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => plain.parse(),
    }
    .ok()
    .filter(|n| *n > 0)
    .ok_or_else(|| format!("`{text}` is no size"))
}

/// As a description has it.
pub(super) fn hex(value: u64) -> String {
    format!("{value:#x}")
}

/// Replacements in a text.
#[derive(Default)]
pub(super) struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// Gives an element's attribute a value.
    pub(super) fn set(&mut self, node: &Node, name: &str, value: &str) {
        let value = value
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('"', "&quot;")
            .replace('\'', "&apos;");
        match node.attribute_node(name) {
            Some(attribute) => self.0.push((attribute.range_value(), value)),
            None => {
                // After `<tag`.
                let at = node.range().start + 1 + node.tag_name().name().len();
                self.0.push((at..at, format!(" {name}=\"{value}\"")));
            }
        }
    }

    /// Puts text at a place.
    pub(super) fn insert(&mut self, at: usize, text: String) {
        self.0.push((at..at, text));
    }

    /// Puts text in the place of other text.
    pub(super) fn replace(&mut self, range: Range<usize>, text: String) {
        self.0.push((range, text));
    }

    /// The text with all replacements; each place has at most one.
    pub(super) fn apply(mut self, text: &str) -> String {
        // Insertions at one place stay in their order.
        self.0.sort_by_key(|(range, _)| range.start);
        let mut changed = text.to_string();
        for (range, value) in self.0.into_iter().rev() {
            changed.replace_range(range, &value);
        }
        changed
    }
}
