//! How messages name the options of a request.

use std::fmt::Display;

/// The options of a request are keys of a table or flags of a command, and a message names what its
/// reader can change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OptionNames {
    /// The request is a table of a file: `search.data`.
    #[default]
    Keys,
    /// The request came from a command line: `--data`.
    Flags,
}

impl OptionNames {
    /// The name of an option in a sentence.
    ///
    /// - key: its key in files, below the table of the request
    pub(crate) fn of(self, key: &str) -> String {
        match self {
            Self::Keys => format!("`{key}`"),
            Self::Flags => {
                let last = key.rsplit('.').next().unwrap_or(key);
                // This flag is repeated and takes one at a time.
                let last = if last == "prompts" { "prompt" } else { last };
                format!("--{}", last.replace('_', "-"))
            }
        }
    }

    /// An option set to a value.
    pub(crate) fn setting(self, key: &str, value: impl Display) -> String {
        match self {
            Self::Keys => format!("`{key} = {value}`"),
            Self::Flags => format!("{} {value}", self.of(key)),
        }
    }

    /// A value in the list of an option, as it is or could be given.
    pub(crate) fn with(self, key: &str, value: &str) -> String {
        match self {
            Self::Keys => format!("{value} in `{key}`"),
            Self::Flags => format!("{} {value}", self.of(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_a_key_in_a_file_and_a_flag_on_a_command_line() {
        for (key, flag) in [
            ("search.data", "--data"),
            ("allow_partial", "--allow-partial"),
            ("search.prompts", "--prompt"),
        ] {
            assert_eq!(OptionNames::Keys.of(key), format!("`{key}`"));
            assert_eq!(OptionNames::Flags.of(key), flag);
        }
        let given = |names: OptionNames| names.with("search.data", "gym=g");
        assert_eq!(given(OptionNames::Keys), "gym=g in `search.data`");
        assert_eq!(given(OptionNames::Flags), "--data gym=g");
        let augment = |names: OptionNames| names.setting("augment", 2);
        assert_eq!(augment(OptionNames::Keys), "`augment = 2`");
        assert_eq!(augment(OptionNames::Flags), "--augment 2");
    }
}
