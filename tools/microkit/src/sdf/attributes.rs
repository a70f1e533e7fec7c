// SPDX-License-Identifier: BSD-2-Clause
//! Typed access to the attributes of an element.

use super::{Place, Problem, SdfError};
use roxmltree::{Attribute, Node};
use std::sync::Arc;

/// An element, its place and the attributes it may have.
pub(super) struct Element<'a, 'i> {
    node: Node<'a, 'i>,
    place: Place,
}

/// Parses decimal or 0x numbers with `_` between digits.
pub(super) fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(&digits.replace('_', ""), radix).ok()
}

pub(super) fn place(file: &Arc<str>, node: Node<'_, '_>) -> Place {
    let pos = node.document().text_pos_at(node.range().start);
    let element = if node.is_element() {
        node.tag_name().name()
    } else {
        ""
    };
    Place {
        file: file.clone(),
        row: pos.row,
        col: pos.col,
        element: element.into(),
    }
}

impl<'a, 'i> Element<'a, 'i> {
    /// Checks that the element has no attribute but those in `allowed`, none of them of a namespace.
    pub fn new(file: &Arc<str>, node: Node<'a, 'i>, allowed: &[&str]) -> Result<Self, SdfError> {
        let element = Element {
            place: place(file, node),
            node,
        };
        let known = |a: &Attribute<'_, '_>| a.namespace().is_none() && allowed.contains(&a.name());
        match node.attributes().find(|a| !known(a)) {
            Some(a) => Err(element.error(Problem::UnknownAttribute(a.name().into()))),
            None => Ok(element),
        }
    }

    pub fn place(&self) -> Place {
        self.place.clone()
    }

    pub fn error(&self, problem: Problem) -> SdfError {
        SdfError {
            place: self.place.clone(),
            problem,
        }
    }

    /// The child elements, after a check that there is no text between them.
    pub fn children(&self) -> Result<Vec<Node<'a, 'i>>, SdfError> {
        let mut list = Vec::new();
        for child in self.node.children() {
            if child.is_element() {
                list.push(child);
            } else if child.is_text() {
                let text = child.text().unwrap_or_default().trim();
                if !text.is_empty() {
                    let text = text.chars().take(40).collect();
                    return Err(self.error(Problem::StrayText(text)));
                }
            }
        }
        Ok(list)
    }

    /// Checks that the element is empty.
    pub fn no_children(&self) -> Result<(), SdfError> {
        match self.children()?.first() {
            Some(&child) => Err(SdfError {
                place: place(&self.place.file, child),
                problem: Problem::UnknownElement,
            }),
            None => Ok(()),
        }
    }

    pub fn has(&self, name: &'static str) -> bool {
        self.node.has_attribute(name)
    }

    pub fn text(&self, name: &'static str) -> Result<Option<&'a str>, SdfError> {
        match self.node.attribute(name) {
            Some("") => Err(self.error(Problem::EmptyAttribute(name))),
            other => Ok(other),
        }
    }

    fn required<T>(&self, name: &'static str, value: Option<T>) -> Result<T, SdfError> {
        value.ok_or_else(|| self.error(Problem::MissingAttribute(name)))
    }

    pub fn required_text(&self, name: &'static str) -> Result<&'a str, SdfError> {
        self.required(name, self.text(name)?)
    }

    pub fn number(&self, name: &'static str) -> Result<Option<u64>, SdfError> {
        self.text(name)?
            .map(|text| {
                number(text).ok_or_else(|| {
                    self.error(Problem::NotANumber {
                        attribute: name,
                        value: text.into(),
                    })
                })
            })
            .transpose()
    }

    pub fn required_number(&self, name: &'static str) -> Result<u64, SdfError> {
        self.required(name, self.number(name)?)
    }

    /// A number from `min` to `max`.
    pub fn number_in(
        &self,
        name: &'static str,
        min: u64,
        max: u64,
    ) -> Result<Option<u64>, SdfError> {
        match self.number(name)? {
            Some(value) if value < min || value > max => Err(self.error(Problem::OutOfRange {
                attribute: name,
                value,
                min,
                max,
            })),
            value => Ok(value),
        }
    }

    pub fn required_number_in(
        &self,
        name: &'static str,
        min: u64,
        max: u64,
    ) -> Result<u64, SdfError> {
        self.required(name, self.number_in(name, min, max)?)
    }

    /// Checks that an attribute's value is a multiple of `align`.
    pub fn aligned(&self, name: &'static str, value: u64, align: u64) -> Result<u64, SdfError> {
        match value % align {
            0 => Ok(value),
            _ => Err(self.error(Problem::Misaligned {
                attribute: name,
                value,
                align,
            })),
        }
    }

    pub fn bool_or(&self, name: &'static str, default: bool) -> Result<bool, SdfError> {
        match self.text(name)? {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(self.error(Problem::NotABool {
                attribute: name,
                value: other.into(),
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers() {
        assert_eq!(number("12"), Some(12));
        assert_eq!(number("0x200_000"), Some(0x20_0000));
        assert_eq!(number("1_000"), Some(1000));
        for bad in [
            "",
            "0x",
            "-1",
            "+1",
            "_1",
            "0X10",
            "1.5",
            "ten",
            "0x1_0000_0000_0000_0000",
        ] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
