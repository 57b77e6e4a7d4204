//! Which columns hold prompts, answers and conversations: recognized by name, or named by the user.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::closest_name::closest_name;
use crate::config::DataConfig;
use crate::error::{DataError, quoted};
use crate::language_error::LanguageError;
use crate::language_format::LanguageFormat;
use crate::row::Place;

/// The `[data.columns]` table: names of columns that differ from the usual ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageColumns {
    /// Else `messages`, or `conversations`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion: Option<String>,
    /// Else `question`, or `prompt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choices: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// Else `input`, or `context`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Else `output`, or `response`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The system prompt beside messages or an instruction: else `system`, or `system_prompt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Of an instruction, what was said before: a list of pairs of a prompt and its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
    /// Beside messages, the tools that the assistant may call: else `tools`, or `functions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<String>,
}

impl LanguageColumns {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The columns that the configuration names, each with its setting.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let named = [
            ("data.columns.messages", &self.messages),
            ("data.columns.prompt", &self.prompt),
            ("data.columns.completion", &self.completion),
            ("data.columns.question", &self.question),
            ("data.columns.choices", &self.choices),
            ("data.columns.answer", &self.answer),
            ("data.columns.instruction", &self.instruction),
            ("data.columns.input", &self.input),
            ("data.columns.output", &self.output),
            ("data.columns.system", &self.system),
            ("data.columns.history", &self.history),
            ("data.columns.tools", &self.tools),
        ];
        named
            .into_iter()
            .filter_map(|(setting, column)| Some((setting, column.as_deref()?)))
    }
}

/// The form of a split's rows, with the names of its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Messages {
        messages: String,
        /// May be absent: the system prompt, apart from the messages.
        system: String,
        /// May be absent.
        tools: String,
    },
    PromptCompletion {
        prompt: String,
        completion: String,
        /// May be absent; of rows whose prompts are messages.
        tools: String,
    },
    MultipleChoice {
        question: String,
        choices: String,
        answer: String,
    },
    Alpaca {
        instruction: String,
        /// May be absent.
        input: String,
        output: String,
        /// May be absent: the words in front, instead of Alpaca's own.
        system: String,
        /// May be absent: what was asked and answered before.
        history: String,
    },
    Text {
        text: String,
    },
}

impl Layout {
    /// The layout that `data.format` names, else the first one whose columns are all there.
    ///
    /// # Errors
    /// When the columns make no known form, or one is missing of the form named.
    pub(crate) fn resolve(
        found: &[&str],
        config: &DataConfig,
        place: &Place,
    ) -> Result<Self, DataError> {
        let Some(format) = config.format else {
            return Self::detect(found, config, place);
        };
        let layout = Self::of_format(format, found, config);
        match layout.missing(found) {
            None => Ok(layout),
            Some((setting, column)) => Err(DataError::missing_column(
                place.clone(),
                setting,
                column,
                found.iter().copied(),
            )),
        }
    }

    fn detect(found: &[&str], config: &DataConfig, place: &Place) -> Result<Self, DataError> {
        let candidates = [
            LanguageFormat::Messages,
            LanguageFormat::PromptCompletion,
            LanguageFormat::MultipleChoice,
            LanguageFormat::Alpaca,
            LanguageFormat::Text,
        ]
        .map(|format| Self::of_format(format, found, config));
        if let Some(layout) = candidates
            .iter()
            .find(|layout| layout.missing(found).is_none())
        {
            return Ok(layout.clone());
        }
        let near = candidates
            .iter()
            .flat_map(Self::required)
            .find_map(|(_, column)| {
                let near = closest_name(column, found).filter(|near| *near != column)?;
                Some(format!("did you mean `{column}` by `{near}`? "))
            });
        let advice =
            near.unwrap_or_default() + "Set `data.format` and name the columns in `data.columns`";
        Err(LanguageError::UnknownForm {
            place: place.clone(),
            found: quoted(found),
            text: config.text.clone(),
            advice,
        }
        .into())
    }

    /// The columns with what a model is to answer, in all forms: rows to predict for lack them.
    pub(crate) fn answer_columns(config: &DataConfig) -> [&str; 3] {
        let columns = &config.columns;
        let named = [
            (&columns.completion, "completion"),
            (&columns.answer, "answer"),
            (&columns.output, "output"),
        ];
        named.map(|(configured, usual)| configured.as_deref().unwrap_or(usual))
    }

    fn of_format(format: LanguageFormat, found: &[&str], config: &DataConfig) -> Self {
        let columns = &config.columns;
        let named = |configured: &Option<String>, usual: &str| {
            configured.clone().unwrap_or_else(|| usual.to_owned())
        };
        let either = |configured: &Option<String>, usual: &str, other: &str| {
            let is_other = !found.contains(&usual) && found.contains(&other);
            named(configured, if is_other { other } else { usual })
        };
        match format {
            LanguageFormat::Messages => Self::Messages {
                messages: either(&columns.messages, "messages", "conversations"),
                system: either(&columns.system, "system", "system_prompt"),
                tools: either(&columns.tools, "tools", "functions"),
            },
            LanguageFormat::PromptCompletion => Self::PromptCompletion {
                prompt: named(&columns.prompt, "prompt"),
                completion: named(&columns.completion, "completion"),
                tools: either(&columns.tools, "tools", "functions"),
            },
            LanguageFormat::MultipleChoice => Self::MultipleChoice {
                question: either(&columns.question, "question", "prompt"),
                choices: named(&columns.choices, "choices"),
                answer: named(&columns.answer, "answer"),
            },
            LanguageFormat::Alpaca => Self::Alpaca {
                instruction: named(&columns.instruction, "instruction"),
                // Dolly's names are the others.
                input: either(&columns.input, "input", "context"),
                output: either(&columns.output, "output", "response"),
                system: either(&columns.system, "system", "system_prompt"),
                history: named(&columns.history, "history"),
            },
            LanguageFormat::Text => Self::Text {
                text: config.text.clone(),
            },
        }
    }

    pub(crate) fn format(&self) -> LanguageFormat {
        match self {
            Self::Messages { .. } => LanguageFormat::Messages,
            Self::PromptCompletion { .. } => LanguageFormat::PromptCompletion,
            Self::MultipleChoice { .. } => LanguageFormat::MultipleChoice,
            Self::Alpaca { .. } => LanguageFormat::Alpaca,
            Self::Text { .. } => LanguageFormat::Text,
        }
    }

    /// The columns that every row needs, each with the setting that names it.
    pub(crate) fn required(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Messages { messages, .. } => vec![("data.columns.messages", messages)],
            Self::PromptCompletion {
                prompt, completion, ..
            } => vec![
                ("data.columns.prompt", prompt),
                ("data.columns.completion", completion),
            ],
            Self::MultipleChoice {
                question,
                choices,
                answer,
            } => vec![
                ("data.columns.question", question),
                ("data.columns.choices", choices),
                ("data.columns.answer", answer),
            ],
            Self::Alpaca {
                instruction,
                output,
                ..
            } => vec![
                ("data.columns.instruction", instruction),
                ("data.columns.output", output),
            ],
            Self::Text { text } => vec![("data.text", text)],
        }
    }

    /// Whether a column is read, required or not.
    pub(crate) fn reads(&self, column: &str) -> bool {
        let is_optional = match self {
            Self::Alpaca {
                input,
                system,
                history,
                ..
            } => [input, system, history].iter().any(|name| *name == column),
            Self::Messages { system, tools, .. } => system == column || tools == column,
            Self::PromptCompletion { tools, .. } => tools == column,
            _ => false,
        };
        is_optional || self.required().iter().any(|(_, name)| *name == column)
    }

    /// The column whose values are lists in every row of this form.
    pub(crate) fn list_column(&self) -> Option<&str> {
        match self {
            Self::Messages { messages, .. } => Some(messages),
            Self::MultipleChoice { choices, .. } => Some(choices),
            _ => None,
        }
    }

    fn missing(&self, found: &[&str]) -> Option<(&'static str, &str)> {
        self.required()
            .into_iter()
            .find(|(_, column)| !found.contains(column))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn resolve(found: &[&str], config: &DataConfig) -> Result<Layout, String> {
        let place = Place {
            file: Path::new("train.jsonl").into(),
            line: 1,
        };
        Layout::resolve(found, config, &place).map_err(|error| error.to_string())
    }

    fn detected(found: &[&str]) -> LanguageFormat {
        resolve(found, &DataConfig::new("unused")).unwrap().format()
    }

    #[test]
    fn the_columns_of_well_known_datasets_tell_their_form() {
        use LanguageFormat::*;
        assert_eq!(detected(&["prompt", "prompt_id", "messages"]), Messages);
        assert_eq!(detected(&["id", "conversations"]), Messages);
        assert_eq!(detected(&["prompt", "completion"]), PromptCompletion);
        let of_mmlu = ["question", "subject", "choices", "answer"];
        assert_eq!(detected(&of_mmlu), MultipleChoice);
        assert_eq!(detected(&["prompt", "choices", "answer"]), MultipleChoice);
        let of_alpaca = ["instruction", "input", "output", "text"];
        assert_eq!(detected(&of_alpaca), Alpaca);
        assert_eq!(detected(&["instruction", "output"]), Alpaca);
        let of_dolly = ["instruction", "context", "response", "category"];
        assert_eq!(detected(&of_dolly), Alpaca);
        assert_eq!(detected(&["text"]), Text);
    }

    #[test]
    fn named_columns_are_looked_for_instead_of_the_usual_ones() {
        let config: DataConfig = toml::from_str(
            "path = \"d\"\n[columns]\nprompt = \"question\"\ncompletion = \"answer\"",
        )
        .unwrap();
        let layout = resolve(&["question", "answer"], &config).unwrap();
        let expected = Layout::PromptCompletion {
            prompt: "question".to_owned(),
            completion: "answer".to_owned(),
            tools: "tools".to_owned(),
        };
        assert_eq!(layout, expected);
    }

    #[test]
    fn the_configured_form_goes_before_what_the_columns_suggest() {
        let config = DataConfig {
            format: Some(LanguageFormat::Text),
            ..DataConfig::new("unused")
        };
        let layout = resolve(&["instruction", "output", "text"], &config).unwrap();
        assert_eq!(layout.format(), LanguageFormat::Text);
        let error = resolve(&["instruction", "texts"], &config).unwrap_err();
        assert!(error.contains("there is no column `text`"), "{error}");
        assert!(
            error.contains("did you mean `texts`? Set `data.text`"),
            "{error}"
        );
    }

    #[test]
    fn columns_of_no_form_are_listed_with_the_nearest_name() {
        let config = DataConfig::new("unused");
        let error = resolve(&["prompt", "completions"], &config).unwrap_err();
        let expected = "train.jsonl:1: the columns `prompt`, `completions` make none of the known";
        assert!(error.starts_with(expected), "{error}");
        assert!(
            error.contains("did you mean `completion` by `completions`?"),
            "{error}"
        );
    }
}
