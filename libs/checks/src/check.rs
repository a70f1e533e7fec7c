// SPDX-License-Identifier: BSD-2-Clause
//! Checks that report instead of panicking.

use core::fmt::{self, Write};
use core::panic::Location;
use heapless::String;

/// Longest reason in bytes; the rest is cut.
const LENGTH: usize = 112;

/// Why a case failed, in one line.
#[derive(Clone, Debug)]
pub struct Failure(String<LENGTH>);

/// What a case returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Formats into a fixed buffer and drops what does not fit.
struct Cut<'a>(&'a mut String<LENGTH>);

impl Write for Cut<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for c in s.chars() {
            // A reason is one line.
            let c = if c == '\n' { ' ' } else { c };
            if self.0.push(c).is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl Failure {
    /// A failure at the place that calls this.
    #[track_caller]
    pub fn new(why: fmt::Arguments<'_>) -> Self {
        let at = Location::caller();
        let file = at.file().rsplit('/').next().unwrap_or_default();
        let mut text = String::new();
        // `Cut` never fails.
        let _ = write!(Cut(&mut text), "{file}:{}: {why}", at.line());
        Failure(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: core::error::Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Failure::new(format_args!("{error}"))
    }
}

/// Fails the case with a formatted reason.
#[macro_export]
macro_rules! fail {
    ($($why:tt)*) => {
        return Err($crate::Failure::new(format_args!($($why)*)))
    };
}

/// Fails the case unless the condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr $(,)?) => {
        if !$condition {
            $crate::fail!("{}", stringify!($condition));
        }
    };
}

/// Fails the case unless both values are equal.
#[macro_export]
macro_rules! check_eq {
    ($left:expr, $right:expr $(,)?) => {
        match (&$left, &$right) {
            (left, right) => {
                if left != right {
                    $crate::fail!("{} is {:x?}, not {:x?}", stringify!($left), left, right);
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(n: u32) -> Outcome {
        check!(n != 1);
        check_eq!(n, n & 7);
        if n == 3 {
            Err(fmt::Error)?;
        }
        Ok(())
    }

    #[test]
    fn failures_name_place_and_reason() {
        assert!(checks(0).is_ok());
        let text = |n| checks(n).unwrap_err().to_string();
        assert!(text(1).starts_with("check.rs:") && text(1).ends_with("n != 1"));
        assert!(text(8).contains("n is 8, not 0"));
        assert!(text(3).starts_with("check.rs:") && text(3).contains("error occurred"));
    }

    #[test]
    fn reasons_are_cut_to_one_line() {
        let f = Failure::new(format_args!("a\nb{:300}", ""));
        assert_eq!(f.0.len(), LENGTH);
        assert!(!f.0.contains('\n'));
    }
}
