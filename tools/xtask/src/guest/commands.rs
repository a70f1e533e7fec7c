// SPDX-License-Identifier: BSD-2-Clause
//! Which guest runs which command.

use std::collections::BTreeMap;

/// What the guests of a system run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Commands {
    /// By the guest's name. A guest that is not here has nothing to run.
    pub by_guest: BTreeMap<String, String>,
    /// Whose output and exit status are asked for.
    pub watched: String,
}

/// Divides `--exec` arguments, `COMMAND` or `GUEST:COMMAND`, among the guests, of which there is at least one.
/// The first argument's guest is the one that is watched. A command without a name is for all guests that
/// no other argument names.
pub fn divide(arguments: &[String], guests: &[&str]) -> Result<Commands, String> {
    let mut commands = Commands::default();
    let mut for_others = None;
    for argument in arguments {
        let named = argument
            .split_once(':')
            .filter(|(name, _)| guests.contains(name));
        let again = match named {
            Some((name, command)) => {
                let old = commands.by_guest.insert(name.into(), command.into());
                old.map(|_| name)
            }
            None => for_others.replace(argument).map(|_| "all guests"),
        };
        if let Some(who) = again {
            return Err(format!("--exec: two commands for {who}"));
        }
        if commands.watched.is_empty() {
            let first = guests.first().copied().unwrap_or_default();
            commands.watched = named.map_or(first, |(name, _)| name).into();
        }
    }
    if let Some(command) = for_others {
        for guest in guests {
            let guest = commands.by_guest.entry((*guest).into());
            guest.or_insert_with(|| command.clone());
        }
    }
    Ok(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divided(arguments: &[&str]) -> Result<(Vec<(String, String)>, String), String> {
        let arguments: Vec<String> = arguments.iter().map(|text| text.to_string()).collect();
        let commands = divide(&arguments, &["a", "b"])?;
        Ok((commands.by_guest.into_iter().collect(), commands.watched))
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(a, b): &(&str, &str)| (a.to_string(), b.to_string());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn a_command_without_a_name_is_for_all() {
        let (by_guest, watched) = divided(&["c:x"]).unwrap();
        assert_eq!(by_guest, pairs(&[("a", "c:x"), ("b", "c:x")]));
        assert_eq!(watched, "a");
    }

    #[test]
    fn guests_can_be_named() {
        let (by_guest, watched) = divided(&["b:ls :"]).unwrap();
        assert_eq!((by_guest, watched.as_str()), (pairs(&[("b", "ls :")]), "b"));
        let (by_guest, watched) = divided(&["b:x", "y"]).unwrap();
        assert_eq!(by_guest, pairs(&[("a", "y"), ("b", "x")]));
        assert_eq!(watched, "b");
    }

    #[test]
    fn each_guest_has_one() {
        assert_eq!(
            divided(&["a:x", "a:y"]).unwrap_err(),
            "--exec: two commands for a"
        );
        assert!(divided(&["x", "y"]).is_err());
    }
}
