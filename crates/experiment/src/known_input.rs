//! What is known of the input that a model was trained on: the contract and the text files that lie
//! beside its adapter.

use std::path::{Path, PathBuf};

use eigenmix_adapter::{Companion, Provenance};
use eigenmix_data::{DataConfig, InputContract};
use eigenmix_tensors::FileError;
use eigenmix_trainer::TEXT_COMPANIONS;
use serde_json::Value;

use crate::ExperimentError;

/// The contract of an adapter or of a model, and where it was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KnownInput {
    contract: Option<InputContract>,
    directory: PathBuf,
}

impl KnownInput {
    /// What lies in `directory`, that of an adapter or of a model that was trained whole.
    ///
    /// # Errors
    /// If `eigenmix.json` cannot be read or says what is not known here.
    pub fn in_directory(directory: &Path) -> Result<Self, ExperimentError> {
        let path = directory.join(Provenance::FILE_NAME);
        let made = Provenance::read_json(directory)?;
        let input = made.as_ref().and_then(|made| made.get("input"));
        let input = input.filter(|input| !input.is_null());
        let contract = input
            .map(|input| InputContract::from_json(input, &path))
            .transpose()?;
        Ok(Self {
            contract,
            directory: directory.to_owned(),
        })
    }

    /// The contract, as it is written.
    pub fn contract(&self) -> Option<&InputContract> {
        self.contract.as_ref()
    }

    /// The same to be written beside a copy of the adapter.
    pub fn to_json(&self) -> Option<Value> {
        self.contract
            .as_ref()
            .map(|contract| serde_json::json!(contract))
    }

    /// The tokenizer and the chat template beside it.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn companions(&self) -> Result<Vec<Companion>, FileError> {
        // Beside a single file lies nothing of it; an empty path would be the working directory.
        match self.directory.as_os_str().is_empty() {
            true => Ok(Vec::new()),
            false => Companion::read_all(&self.directory, &TEXT_COMPANIONS),
        }
    }

    /// Puts what it says into a configuration.
    pub fn apply(&self, config: &mut DataConfig) {
        if let Some(contract) = &self.contract {
            contract.apply(config, &self.directory);
        }
    }

    /// The same for the `[data]` table of a file: what it says goes where the table has the default.
    pub fn fill(&self, config: &mut DataConfig) {
        let usual = DataConfig::new(config.path.clone());
        let mut known = usual.clone();
        self.apply(&mut known);
        macro_rules! fill {
            ($($key:ident),*) => {
                $(if config.$key == usual.$key { config.$key = known.$key; })*
            };
        }
        fill!(
            text,
            text_pair,
            image,
            label,
            label_separator,
            max_length,
            format,
            columns,
            train_on,
            prompt_template,
            chat_template
        );
    }

    /// What to tell a user who runs the model with `config`: what is not as usual in its input,
    /// because the training had it so.
    ///
    /// - remedy: how to ask for another
    pub fn note(&self, config: &DataConfig, remedy: &str) -> Option<String> {
        let contract = self.contract.as_ref()?;
        let settings = contract.in_effect(config, &self.directory).settings();
        if settings.is_empty() {
            return None;
        }
        let settings = settings.join(", ");
        Some(format!(
            "the input is that of the training (`{}`): {settings}; {remedy}",
            self.directory.join(Provenance::FILE_NAME).display()
        ))
    }

    /// What two adapters have in common that were asked in the same way, down to the chat template;
    /// they may differ in the maximum length, of which the larger holds for both.
    ///
    /// # Errors
    /// If a file beside one of them cannot be read.
    pub fn common(&self, other: &Self) -> Result<Option<Self>, FileError> {
        let template =
            |of: &Self| Companion::read_all(&of.directory, &[InputContract::CHAT_TEMPLATE]);
        let longest = |of: &Self| {
            of.contract
                .as_ref()
                .and_then(|contract| contract.max_length)
        };
        let max_length = longest(self).max(longest(other));
        let of_any_length = |of: &Self| {
            let contract = of.contract.clone();
            contract.map(|contract| InputContract {
                max_length,
                ..contract
            })
        };
        let contract = of_any_length(self);
        if contract != of_any_length(other) || template(self)? != template(other)? {
            return Ok(None);
        }
        let directory = self.directory.clone();
        Ok(Some(Self {
            contract,
            directory,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn known(input: Value, template: &str) -> (tempfile::TempDir, KnownInput) {
        let place = tempfile::tempdir().unwrap();
        let made = json!({"version": "1", "method": "train/lora", "input": input});
        fs::write(place.path().join("eigenmix.json"), made.to_string()).unwrap();
        fs::write(place.path().join("chat_template.jinja"), template).unwrap();
        let known = KnownInput::in_directory(place.path()).unwrap();
        (place, known)
    }

    #[test]
    fn a_contract_is_read_applied_and_told() {
        let input = json!({"task": "causal-lm", "format": "messages", "chat_template": "chat_template.jinja"});
        let (place, found) = known(input, "t");
        let mut config = DataConfig::new("d");
        found.apply(&mut config);
        let template = place.path().join("chat_template.jinja");
        assert_eq!(config.chat_template, Some(template));
        let note = found.note(&config, "--set changes it").unwrap();
        let expected = "eigenmix.json`): format = \"messages\", chat_template = \
                        \"chat_template.jinja\"; --set changes it";
        assert!(note.ends_with(expected), "{note}");
        config.chat_template = None;
        config.format = None;
        assert_eq!(found.note(&config, "--set changes it"), None);
    }

    #[test]
    fn adapters_with_other_templates_were_not_asked_in_the_same_way() {
        let input = json!({"task": "causal-lm", "format": "messages"});
        let (_one, first) = known(input.clone(), "t");
        let longer = json!({"task": "causal-lm", "format": "messages", "max_length": 512});
        let (_two, longer) = known(longer, "t");
        let (_three, other) = known(input, "u");
        let common = first.common(&longer).unwrap().unwrap();
        assert_eq!(common.contract().unwrap().max_length, Some(512));
        assert_eq!(first.common(&other).unwrap(), None);
    }

    #[test]
    fn a_description_that_is_none_is_not_taken_for_one_that_says_nothing() {
        let place = tempfile::tempdir().unwrap();
        for text in ["", "[]", "null", "{\"input\": []}"] {
            fs::write(place.path().join("eigenmix.json"), text).unwrap();
            let error = KnownInput::in_directory(place.path()).unwrap_err();
            assert!(error.to_string().contains("eigenmix.json"), "{error}");
        }
    }

    #[test]
    fn an_adapter_of_others_says_nothing() {
        let place = tempfile::tempdir().unwrap();
        let known = KnownInput::in_directory(place.path()).unwrap();
        let note = known.note(&DataConfig::new("d"), "r");
        assert_eq!((known.contract(), note), (None, None));
        assert!(known.companions().unwrap().is_empty());
        let text = r#"{"version": "1", "method": "merge/core", "sources": [], "options": {}}"#;
        fs::write(place.path().join("eigenmix.json"), text).unwrap();
        assert!(
            KnownInput::in_directory(place.path())
                .unwrap()
                .contract()
                .is_none()
        );
    }
}
