//! The options of a command by name: to the words of a command line, and back in its messages.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command, CommandFactory};
use serde_json::{Map, Value};

use crate::cli::Cli;

/// The common options that a call may have; the others are for a terminal.
const COMMON: [&str; 1] = ["device"];

/// A command and its options, by their names.
pub(crate) struct Options {
    command: Command,
}

/// Options that are none, or have values that are none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OptionError {
    #[error("there is no command `{0}`")]
    NoCommand(String),

    #[error("`{command}` has no option `{option}`")]
    Unknown { command: String, option: String },

    #[error("`{option}`: {expected} is expected, not {found}")]
    Value {
        option: String,
        expected: &'static str,
        found: Value,
    },
}

impl Options {
    /// The options of a command.
    ///
    /// # Errors
    /// If there is no such command.
    pub(crate) fn of(name: &str) -> Result<Self, OptionError> {
        let mut all = Cli::command();
        // Only then do commands have the common options.
        all.build();
        let command = all.find_subcommand(name).cloned();
        let command = command.ok_or_else(|| OptionError::NoCommand(name.to_owned()))?;
        Ok(Self { command })
    }

    /// The words that stand for these options on a command line; those that are null are left out.
    ///
    /// A flag is true or false, a list is given as one, and settings (`KEY=VALUE`) may be an object.
    ///
    /// # Errors
    /// If the command has no such option, or a value is of a kind that none of its words could be.
    pub(crate) fn words(&self, options: &Map<String, Value>) -> Result<Vec<OsString>, OptionError> {
        let mut words = vec!["eigenmix".into(), self.command.get_name().into()];
        let mut operands: Vec<OsString> = Vec::new();
        for (name, value) in options.iter().filter(|(_, value)| !value.is_null()) {
            let argument = self.find(name)?;
            let Some(flag) = argument.get_long() else {
                operands.extend(values(name, value)?.into_iter().map(OsString::from));
                continue;
            };
            if let ArgAction::SetTrue = argument.get_action() {
                match value {
                    Value::Bool(true) => words.push(format!("--{flag}").into()),
                    Value::Bool(false) => {}
                    _ => return Err(unexpected(name, "true or false", value)),
                }
                continue;
            }
            let given = values(name, value)?;
            let given = match argument.get_value_delimiter() {
                Some(delimiter) => {
                    // There it would begin another value.
                    if let Some(found) = given.iter().find(|value| value.contains(delimiter)) {
                        let found = Value::from(found.as_str());
                        return Err(unexpected(name, "a text without a comma", &found));
                    }
                    vec![given.join(&delimiter.to_string())]
                }
                None if is_numbers(value) && matches!(argument.get_action(), ArgAction::Set) => {
                    vec![given.join(",")]
                }
                None => given,
            };
            words.extend(given.iter().map(|value| format!("--{flag}={value}").into()));
        }
        words.push("--".into());
        words.append(&mut operands);
        Ok(words)
    }

    /// A message of the command that names options as the caller knows them: `` `allow_partial` `` in
    /// place of `--allow-partial`.
    pub(crate) fn renamed(&self, message: &str) -> String {
        let mut renamed = String::with_capacity(message.len());
        let mut rest = message;
        while let Some(start) = rest.find("--") {
            let (before, from) = rest.split_at(start);
            let is_flag = |letter: char| letter.is_ascii_lowercase() || letter == '-';
            let end = from.find(|letter| !is_flag(letter)).unwrap_or(from.len());
            let (flag, after) = from.split_at(end);
            let found = self
                .command
                .get_arguments()
                .find(|argument| argument.get_long() == flag.strip_prefix("--"));
            renamed.push_str(before);
            rest = after;
            let Some(argument) = found else {
                renamed.push_str(flag);
                continue;
            };
            let name = argument.get_id().as_str();
            match before.ends_with(['`', '\'']) {
                true => renamed.push_str(name),
                false => renamed.push_str(&format!("`{name}`")),
            }
            // The parser of the command line names the value, too: `--rank <R>`.
            if let Some((_, after)) = after
                .strip_prefix(" <")
                .and_then(|value| value.split_once('>'))
            {
                rest = after;
            }
        }
        renamed + rest
    }

    fn find(&self, name: &str) -> Result<&Arg, OptionError> {
        let is_meant = |argument: &&Arg| {
            let is_own = !argument.is_global_set() || COMMON.contains(&name);
            argument.get_id() == name && is_own
        };
        let found = self.command.get_arguments().find(is_meant);
        found.ok_or_else(|| OptionError::Unknown {
            command: self.command.get_name().to_owned(),
            option: name.to_owned(),
        })
    }
}

/// The values of an option as words.
fn values(name: &str, value: &Value) -> Result<Vec<String>, OptionError> {
    match value {
        Value::Array(items) => items.iter().map(|item| word(name, item)).collect(),
        Value::Object(settings) => settings
            .iter()
            .map(|(key, value)| {
                let value = match name {
                    "overrides" => toml_of(name, value)?,
                    _ => word(name, value)?,
                };
                Ok(format!("{key}={value}"))
            })
            .collect(),
        _ => Ok(vec![word(name, value)?]),
    }
}

fn is_numbers(value: &Value) -> bool {
    let items = value.as_array();
    items.is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_number))
}

fn word(name: &str, value: &Value) -> Result<String, OptionError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(unexpected(name, "a text or a number", value)),
    }
}

/// A value as TOML has it, so that the text "3" stays a text.
fn toml_of(name: &str, value: &Value) -> Result<String, OptionError> {
    let value = toml::Value::try_from(value)
        .map_err(|_| unexpected(name, "a value that TOML has", value))?;
    Ok(value.to_string())
}

fn unexpected(name: &str, expected: &'static str, found: &Value) -> OptionError {
    OptionError::Value {
        option: name.to_owned(),
        expected,
        found: found.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(command: &str, options: Value) -> Result<Vec<String>, String> {
        let options = options.as_object().unwrap();
        let words = Options::of(command).and_then(|all| all.words(options));
        let words = words.map_err(|error| error.to_string())?;
        Ok(words
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect())
    }

    #[test]
    fn options_by_name_become_the_words_of_their_flags() {
        let options = json!({
            "adapters": ["a", "-b"], "out": "o", "components": 4, "weights": [1, -0.5],
            "center": true, "raw_factors": false, "variance": null, "device": "cpu",
        });
        assert_eq!(
            words("extract", options).unwrap(),
            [
                "eigenmix",
                "extract",
                "--out=o",
                "--components=4",
                "--weights=1,-0.5",
                "--center",
                "--device=cpu",
                "--",
                "a",
                "-b"
            ]
        );
        let options =
            json!({"config": "c.toml", "overrides": {"training.epochs": 3, "output": "3"}});
        assert_eq!(
            words("train", options).unwrap(),
            [
                "eigenmix",
                "train",
                "--set=training.epochs=3",
                "--set=output=\"3\"",
                "--",
                "c.toml"
            ]
        );
    }

    #[test]
    fn what_is_no_option_or_no_value_of_it_is_refused_by_name() {
        let message = words("extract", json!({"componets": 4})).unwrap_err();
        assert_eq!(message, "`extract` has no option `componets`");
        let message = words("extract", json!({"center": 1})).unwrap_err();
        assert_eq!(message, "`center`: true or false is expected, not 1");
        let message = words("predict", json!({"labels": ["cat, black", "dog"]})).unwrap_err();
        assert!(message.contains("without a comma"), "{message}");
        // How a terminal looks is not for a call.
        assert!(words("extract", json!({"json": true})).is_err());
        assert!(words("extrac", json!({})).is_err());
    }

    #[test]
    fn messages_name_options_instead_of_flags() {
        let merge = Options::of("merge").unwrap();
        for (message, expected) in [
            (
                "--allow-partial continues without them",
                "`allow_partial` continues without them",
            ),
            ("use `--data gym=g`", "use `data gym=g`"),
            ("the argument '--rank <R>' is", "the argument 'rank' is"),
            (
                "start vLLM with --max-lora-rank 64",
                "start vLLM with --max-lora-rank 64",
            ),
            ("a -- b --scale", "a -- b `scale`"),
        ] {
            assert_eq!(merge.renamed(message), expected);
        }
    }
}
