//! What a training knew of its input, kept with its result.
//!
//! An adapter that was trained on pairs, with a chat template of one's own or on texts in Alpaca's
//! words answers nothing useful when it is asked in another way. The contract says how it was asked,
//! in the words of `[data]`, so that whatever runs the adapter later can ask it likewise.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::DataConfig;
use crate::error::DataError;
use crate::language_columns::LanguageColumns;
use crate::language_format::LanguageFormat;
use crate::loss_mask::TrainOn;
use crate::target::TargetKind;
use crate::threshold::Threshold;

/// How rows became inputs of a model: those keys of `[data]` that say so, whatever the data; and of
/// `[task]`, what its outputs mean.
///
/// It lies under `input` in the `eigenmix.json` of an adapter. Labels have a file of their own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputContract {
    /// The kind of task, as `task.kind` names it.
    pub task: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What labels are, if a row may have several; otherwise the head says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetKind>,
    /// The probability from which on one of several labels applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_separator: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Of a language model: the form that the rows of the training had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<LanguageFormat>,
    #[serde(default, skip_serializing_if = "LanguageColumns::is_default")]
    pub columns: LanguageColumns,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_on: Option<TrainOn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_template: Option<String>,
    /// The name of the file beside the contract that has the chat template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<PathBuf>,
}

impl InputContract {
    /// The name of the chat template beside an adapter, which transformers looks for too.
    pub const CHAT_TEMPLATE: &str = "chat_template.jinja";

    /// Reads a contract.
    ///
    /// - path: of the file that it is from, for messages
    ///
    /// # Errors
    /// When it has a key or a value that is not known here, as one of a newer release may.
    pub fn from_json(value: &serde_json::Value, path: &Path) -> Result<Self, DataError> {
        Self::deserialize(value).map_err(|source| DataError::UnknownContract {
            path: path.to_owned(),
            source,
        })
    }

    /// Puts what it says into a configuration.
    ///
    /// - directory: where its chat template is
    pub fn apply(&self, config: &mut DataConfig, directory: &Path) {
        let set = |value: &mut String, contracted: &Option<String>| {
            if let Some(contracted) = contracted {
                value.clone_from(contracted);
            }
        };
        set(&mut config.text, &self.text);
        set(&mut config.image, &self.image);
        set(&mut config.label, &self.label);
        set(&mut config.label_separator, &self.label_separator);
        config.text_pair = self.text_pair.clone().or(config.text_pair.take());
        config.max_length = self.max_length.unwrap_or(config.max_length);
        config.format = self.format.or(config.format);
        if !self.columns.is_default() {
            config.columns = self.columns.clone();
        }
        config.train_on = self.train_on.unwrap_or(config.train_on);
        let template = self.prompt_template.clone();
        config.prompt_template = template.or(config.prompt_template.take());
        if let Some(name) = &self.chat_template {
            config.chat_template = Some(directory.join(name));
        }
    }

    /// The same without what a configuration has otherwise, as flags may have set it.
    ///
    /// - directory: where its chat template is
    pub fn in_effect(&self, config: &DataConfig, directory: &Path) -> Self {
        fn kept<T: Clone + PartialEq>(said: &Option<T>, now: Option<&T>) -> Option<T> {
            said.clone().filter(|said| Some(said) == now)
        }
        let template = self.chat_template.as_ref().map(|name| directory.join(name));
        Self {
            task: self.task.clone(),
            text: kept(&self.text, Some(&config.text)),
            text_pair: kept(&self.text_pair, config.text_pair.as_ref()),
            image: kept(&self.image, Some(&config.image)),
            label: kept(&self.label, Some(&config.label)),
            target: self.target,
            threshold: self.threshold,
            label_separator: kept(&self.label_separator, Some(&config.label_separator)),
            max_length: kept(&self.max_length, Some(&config.max_length)),
            format: kept(&self.format, config.format.as_ref()),
            columns: match self.columns == config.columns {
                true => self.columns.clone(),
                false => LanguageColumns::default(),
            },
            train_on: kept(&self.train_on, Some(&config.train_on)),
            prompt_template: kept(&self.prompt_template, config.prompt_template.as_ref()),
            chat_template: match template == config.chat_template {
                true => self.chat_template.clone(),
                false => None,
            },
        }
    }

    /// In which columns, form of rows and templates a later training has it otherwise, for people:
    /// `data.text = "premise" there, "text" here`. Nothing if that is of another task.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        if self.task != later.task {
            return Vec::new();
        }
        fn shown(value: Option<&str>) -> String {
            value.map_or("none".to_owned(), |value| format!("{value:?}"))
        }
        let differ = |key: &str, there: Option<&str>, here: Option<&str>| {
            let is_other = there != here;
            is_other.then(|| format!("{key} = {} there, {} here", shown(there), shown(here)))
        };
        let format = |of: &Self| of.format.map(|format| format.to_string());
        let formats = [format(self), format(later)];
        // What a text is called says nothing where the rows have another form.
        let is_same_form = formats[0] == formats[1];
        let text = is_same_form
            .then(|| differ("data.text", self.text.as_deref(), later.text.as_deref()))
            .flatten();
        let columns: BTreeSet<&str> = [&self.columns, &later.columns]
            .into_iter()
            .flat_map(|columns| columns.named().map(|(setting, _)| setting))
            .collect();
        let column = |of: &Self, setting: &str| {
            let mut named = of.columns.named();
            let found = named.find(|(other, _)| *other == setting);
            found.map(|(_, column)| column.to_owned())
        };
        let pair = [&self.text_pair, &later.text_pair].map(Option::as_deref);
        let image = [&self.image, &later.image].map(Option::as_deref);
        let template = [&self.prompt_template, &later.prompt_template].map(Option::as_deref);
        let [there, here] = &formats;
        [
            text,
            differ("data.text_pair", pair[0], pair[1]),
            differ("data.image", image[0], image[1]),
            differ("data.format", there.as_deref(), here.as_deref()),
            differ("data.prompt_template", template[0], template[1]),
        ]
        .into_iter()
        .flatten()
        .chain(columns.into_iter().filter_map(|setting| {
            let [there, here] = [column(self, setting), column(later, setting)];
            differ(setting, there.as_deref(), here.as_deref())
        }))
        .collect()
    }

    /// From which probability on a label applies, if the outputs are labels of which a row may have
    /// several.
    pub fn multi_label(&self) -> Option<Threshold> {
        let is_multi_label = self.target == Some(TargetKind::MultiLabel);
        is_multi_label.then(|| self.threshold.unwrap_or_default())
    }

    /// What it says beyond what goes without saying, for people: `data.text_pair = "hypothesis"`.
    pub fn settings(&self) -> Vec<String> {
        let usual = DataConfig::new("");
        let word = |key: &str, value: &Option<String>, usual: Option<&str>| {
            let value = value.as_deref().filter(|value| Some(*value) != usual)?;
            Some(format!("{key} = {value:?}"))
        };
        let length = self.max_length.filter(|length| *length != usual.max_length);
        let train_on = self.train_on.filter(|part| !part.is_default());
        let template = self.chat_template.as_ref();
        let template = template.map(|name| format!("chat_template = {:?}", name.display()));
        [
            word("text", &self.text, Some(&usual.text)),
            word("text_pair", &self.text_pair, None),
            word("image", &self.image, Some(&usual.image)),
            word("label", &self.label, Some(&usual.label)),
            word(
                "label_separator",
                &self.label_separator,
                Some(&usual.label_separator),
            ),
            self.format.map(|format| format!("format = \"{format}\"")),
            word("prompt_template", &self.prompt_template, None),
            template,
            train_on.map(|part| match part {
                TrainOn::Completion => "train_on = \"completion\"".to_owned(),
                TrainOn::EachTurn => "train_on = \"each-turn\"".to_owned(),
                TrainOn::All => "train_on = \"all\"".to_owned(),
            }),
            length.map(|length| format!("max_length = {length}")),
        ]
        .into_iter()
        .flatten()
        .chain(self.columns.named().map(|(setting, column)| {
            format!("{} = {column:?}", setting.trim_start_matches("data."))
        }))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn contract() -> InputContract {
        InputContract {
            task: "causal-lm".to_owned(),
            text: Some("premise".to_owned()),
            text_pair: Some("hypothesis".to_owned()),
            max_length: Some(16),
            format: Some(LanguageFormat::Messages),
            columns: LanguageColumns {
                messages: Some("turns".to_owned()),
                ..LanguageColumns::default()
            },
            train_on: Some(TrainOn::All),
            prompt_template: Some("{{ prompt }}!".to_owned()),
            chat_template: Some(InputContract::CHAT_TEMPLATE.into()),
            ..InputContract::default()
        }
    }

    #[test]
    fn a_contract_that_was_written_sets_the_keys_that_it_names_and_no_other() {
        let written = serde_json::to_value(contract()).unwrap();
        let read = InputContract::from_json(&written, Path::new("eigenmix.json")).unwrap();
        assert_eq!(read, contract());
        let mut config = DataConfig {
            label: "gold".to_owned(),
            ..DataConfig::new("data")
        };
        read.apply(&mut config, Path::new("run/adapter"));
        let expected = DataConfig {
            label: "gold".to_owned(),
            text: "premise".to_owned(),
            text_pair: Some("hypothesis".to_owned()),
            max_length: 16,
            format: Some(LanguageFormat::Messages),
            columns: contract().columns,
            train_on: TrainOn::All,
            prompt_template: Some("{{ prompt }}!".to_owned()),
            chat_template: Some("run/adapter/chat_template.jinja".into()),
            ..DataConfig::new("data")
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn what_is_set_otherwise_is_not_in_effect() {
        let directory = Path::new("run/adapter");
        let mut config = DataConfig::new("data");
        contract().apply(&mut config, directory);
        assert_eq!(contract().in_effect(&config, directory), contract());
        config.text = "sentence".to_owned();
        config.chat_template = Some("own.jinja".into());
        let expected = InputContract {
            text: None,
            chat_template: None,
            ..contract()
        };
        assert_eq!(contract().in_effect(&config, directory), expected);
    }

    #[test]
    fn what_differs_from_the_usual_is_told() {
        let expected = [
            "text = \"premise\"",
            "text_pair = \"hypothesis\"",
            "format = \"messages\"",
            "prompt_template = \"{{ prompt }}!\"",
            "chat_template = \"chat_template.jinja\"",
            "train_on = \"all\"",
            "max_length = 16",
            "columns.messages = \"turns\"",
        ];
        assert_eq!(contract().settings(), expected);
        let usual = InputContract {
            task: "sequence-classification".to_owned(),
            text: Some("text".to_owned()),
            label: Some("label".to_owned()),
            max_length: Some(128),
            ..InputContract::default()
        };
        assert!(usual.settings().is_empty());
    }

    #[test]
    fn a_later_training_differs_in_what_it_reads_and_not_in_how_long_it_is() {
        let later = InputContract {
            text_pair: None,
            max_length: Some(64),
            train_on: None,
            columns: LanguageColumns::default(),
            prompt_template: Some("{{ prompt }}?".to_owned()),
            ..contract()
        };
        let expected = [
            "data.text_pair = \"hypothesis\" there, none here",
            "data.prompt_template = \"{{ prompt }}!\" there, \"{{ prompt }}?\" here",
            "data.columns.messages = \"turns\" there, none here",
        ];
        assert_eq!(contract().differences(&later), expected);
        let other_form = InputContract {
            text: None,
            format: Some(LanguageFormat::Alpaca),
            ..contract()
        };
        let expected = ["data.format = \"messages\" there, \"alpaca\" here"];
        assert_eq!(contract().differences(&other_form), expected);
        let other_task = InputContract {
            task: "sequence-classification".to_owned(),
            ..InputContract::default()
        };
        assert!(contract().differences(&other_task).is_empty());
        assert!(contract().differences(&contract()).is_empty());
    }

    #[test]
    fn a_key_that_is_not_known_is_named() {
        let value = json!({"task": "causal-lm", "turn_order": "reversed"});
        let error = InputContract::from_json(&value, Path::new("a/eigenmix.json")).unwrap_err();
        assert!(error.to_string().contains("a/eigenmix.json"), "{error}");
        let cause = std::error::Error::source(&error).expect("a cause");
        assert!(cause.to_string().contains("turn_order"), "{cause}");
    }
}
