//! `[NAME=]DIR`: which adapter's task a directory holds.

use std::path::Path;

use crate::BadInput;
use crate::option_names::OptionNames;

/// The key of the list of directories.
const KEY: &str = "search.data";

/// The directory of every adapter, in their order.
///
/// - names: the names of the adapters; several may have the same name
/// - arguments: `NAME=DIR` or `POSITION=DIR` for each adapter, or a plain `DIR` for each in their
///   order
/// - options: how messages name the list
///
/// # Errors
/// If an adapter has no data or has it twice, a name is unknown or belongs to several, or plain
/// directories are mixed with named ones.
pub fn assign(
    names: &[String],
    arguments: &[String],
    options: OptionNames,
) -> Result<Vec<String>, BadInput> {
    let data = options.of(KEY);
    let targets = arguments
        .iter()
        .map(|argument| Target::parse(argument, names, options))
        .collect::<Result<Vec<_>, _>>()?;
    let plain = targets.iter().filter(|target| target.adapter.is_none());
    let plain = plain.count();
    if 0 < plain && plain < targets.len() {
        return Err(BadInput(format!(
            "give NAME= for every directory of {data} or for none (then in the order of the adapters)"
        )));
    }
    if plain > names.len() {
        return Err(BadInput(format!(
            "{data} has {plain} directories for {} adapters; give one for each",
            names.len()
        )));
    }
    let mut directories: Vec<Option<&str>> = vec![None; names.len()];
    for (place, target) in targets.iter().enumerate() {
        let adapter = target.adapter.unwrap_or(place);
        if let Some(first) = directories[adapter].replace(target.directory) {
            return Err(BadInput(format!(
                "adapter `{}` has two directories in {data}, `{first}` and `{}`; give one",
                names[adapter], target.directory
            )));
        }
    }
    let complete = names.iter().zip(directories).enumerate();
    complete
        .map(|(place, (name, directory))| {
            directory.map(str::to_owned).ok_or_else(|| {
                let given = options.with(KEY, &format!("{name}=DIR"));
                BadInput(format!(
                    "{data} has no directory for adapter `{name}`; give {given} (or {}=DIR)",
                    place + 1
                ))
            })
        })
        .collect()
}

/// A parsed argument.
struct Target<'a> {
    /// `None` for a plain directory.
    adapter: Option<usize>,
    directory: &'a str,
}

impl<'a> Target<'a> {
    fn parse(argument: &'a str, names: &[String], options: OptionNames) -> Result<Self, BadInput> {
        let plain = Self {
            adapter: None,
            directory: argument,
        };
        let Some((name, directory)) = argument.split_once('=') else {
            return Ok(plain);
        };
        let mut called = (0..names.len()).filter(|&adapter| names[adapter] == name);
        let adapter = match (called.next(), called.next()) {
            (Some(only), None) => Some(only),
            (Some(_), Some(_)) => {
                return Err(BadInput(format!(
                    "{}: several adapters are called `{name}`; use their position, 1 to {}, as in 1=DIR",
                    options.with(KEY, argument),
                    names.len()
                )));
            }
            (None, _) => place(name, names.len()),
        };
        if adapter.is_some() {
            return Ok(Self { adapter, directory });
        }
        // The name of a directory may contain `=`.
        if Path::new(argument).is_dir() {
            return Ok(plain);
        }
        Err(BadInput(format!(
            "{}: no adapter is called `{name}`; there are {}",
            options.with(KEY, argument),
            names
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ")
        )))
    }
}

/// The index of a position, which counts from 1.
fn place(name: &str, adapters: usize) -> Option<usize> {
    let index = name.parse::<usize>().ok()?.checked_sub(1)?;
    (index < adapters).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(names: &[&str], arguments: &[&str]) -> Result<Vec<String>, String> {
        let own =
            |words: &[&str]| -> Vec<String> { words.iter().map(|&word| word.to_owned()).collect() };
        assign(&own(names), &own(arguments), OptionNames::Flags).map_err(|error| error.to_string())
    }

    #[test]
    fn names_places_and_order_say_the_same() {
        let names = ["gym", "library", "theatre"];
        let expected = Ok(["g", "l", "t"].map(str::to_owned).to_vec());
        assert_eq!(
            assigned(&names, &["library=l", "theatre=t", "gym=g"]),
            expected
        );
        assert_eq!(assigned(&names, &["3=t", "library=l", "1=g"]), expected);
        assert_eq!(assigned(&names, &["g", "l", "t"]), expected);
    }

    #[test]
    fn a_name_goes_before_a_place() {
        let expected = Ok(["x", "y"].map(str::to_owned).to_vec());
        assert_eq!(assigned(&["2", "1"], &["2=x", "1=y"]), expected);
    }

    #[test]
    fn adapters_of_one_name_are_distinguished_by_their_positions() {
        let names = ["emotion", "emotion"];
        let problem = assigned(&names, &["emotion=d", "emotion=e"]).expect_err("an error");
        assert!(problem.contains("1 to 2"), "{problem}");
        let expected = Ok(["d", "e"].map(str::to_owned).to_vec());
        assert_eq!(assigned(&names, &["2=e", "1=d"]), expected);
    }

    #[test]
    fn what_is_missing_doubled_unknown_or_mixed_is_named() {
        let names = ["gym", "library"];
        for (arguments, expected) in [
            (
                &["gym=g"][..],
                "--data has no directory for adapter `library`",
            ),
            (&["g"], "give --data library=DIR (or 2=DIR)"),
            (&["gym=g", "1=h", "library=l"], "`g` and `h`"),
            (
                &["gym=g", "bakery=b"],
                "`bakery`; there are `gym`, `library`",
            ),
            (&["gym=g", "3=b"], "`3`"),
            (&["gym=g", "0=b"], "`0`"),
            (&["gym=g", "l"], "NAME="),
            (&["g", "l", "t"], "--data has 3 directories for 2 adapters"),
        ] {
            let problem = assigned(&names, arguments).expect_err("an error");
            assert!(problem.contains(expected), "{arguments:?}: {problem}");
        }
    }
}
