//! The forms that rows for a language model come in.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The forms that rows for a language model come in: `data.format` in a training file.
///
/// Without the key, the columns tell; where they fit several forms, the first in this order is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LanguageFormat {
    /// `messages`: a list of `{role, content}`; or `conversations`: a list of `{from, value}`; perhaps with
    /// `system` and `tools`.
    Messages,
    /// `prompt` and `completion`, both strings or both lists of messages.
    PromptCompletion,
    /// `question` (or `prompt`), `choices` and `answer`.
    MultipleChoice,
    /// `instruction`, `output` and perhaps `input`, `system` and `history`, put into Alpaca's prompt; or Dolly's
    /// `instruction`, `context` and `response`.
    Alpaca,
    /// `text`: every token is trained on.
    Text,
}

impl LanguageFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::PromptCompletion => "prompt-completion",
            Self::MultipleChoice => "multiple-choice",
            Self::Alpaca => "alpaca",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for LanguageFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_written_as_it_is_configured() {
        for format in [
            LanguageFormat::Messages,
            LanguageFormat::PromptCompletion,
            LanguageFormat::MultipleChoice,
            LanguageFormat::Alpaca,
            LanguageFormat::Text,
        ] {
            let configured = serde_json::to_value(format).unwrap();
            assert_eq!(configured, format.to_string());
        }
    }
}
