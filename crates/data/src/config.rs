//! The `[data]` table of a training file.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use eigenmix_images::{Augment, Augmentation, CropScale};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::cross_validation::Fold;
use crate::file_selection::FileSelection;
use crate::images::Unreadable;
use crate::language_columns::LanguageColumns;
use crate::language_format::LanguageFormat;
use crate::loss_mask::TrainOn;

/// The `[data]` table of a training file: which data, which columns, how much of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A directory that holds the splits, or a dataset on the Hub: `org/name` or `org/name@revision`.
    pub path: String,
    /// Which of a dataset's configurations (subsets), where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// The files of each split, by name or pattern, where their names do not say which they are.
    #[serde(default, skip_serializing_if = "FileSelection::is_empty")]
    pub files: FileSelection,
    /// The most tokens an example may have, special tokens included; a longer one is cut, a plain text
    /// for a language model split into several.
    #[serde(default = "default_max_length")]
    #[schemars(range(min = 3))]
    pub max_length: usize,
    /// The column of the (first) text.
    #[serde(default = "default_text")]
    pub text: String,
    /// The column of the second text, for tasks on pairs of sentences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_pair: Option<String>,
    /// The column of the image: its path, or the encoded image itself.
    #[serde(default = "default_image", skip_serializing_if = "is_default_image")]
    pub image: String,
    /// What becomes of images that cannot be read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unreadable: Unreadable,
    /// How training images are varied.
    #[serde(default, skip_serializing_if = "is_default")]
    pub augment: Augment,
    /// The part of an image's area that `augment = "crop-flip"` keeps: least and most.
    #[serde(default, skip_serializing_if = "is_default")]
    pub crop_scale: CropScale,
    /// The column of the label, or with `task.target = "labels"` of the list of labels.
    #[serde(default = "default_label")]
    pub label: String,
    /// With `task.target = "labels"`: what stands between the labels of a row where the column holds
    /// texts and not lists, as in CSV.
    #[serde(
        default = "default_label_separator",
        skip_serializing_if = "is_default_label_separator"
    )]
    pub label_separator: String,
    /// Few-shot: train on this many examples of each class, drawn by the seed; or on "all".
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "all_or_some"
    )]
    #[schemars(with = "Option<AllOrSome>")]
    pub examples_per_class: Option<usize>,
    /// Train on at most this many examples, drawn by the seed (after `examples_per_class`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_examples: Option<usize>,
    /// Cross-validation: the training rows (after `examples_per_class` and `max_examples`) are put into
    /// folds by the seed, each class spread evenly, and this fold is the validation split, in the place
    /// of the dataset's own: `"1/5"` is the first of five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
    /// For language models: the form of the rows, where the columns leave it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<LanguageFormat>,
    /// For language models: names of columns that differ from the usual ones.
    #[serde(default, skip_serializing_if = "LanguageColumns::is_default")]
    pub columns: LanguageColumns,
    /// For language models: which tokens the loss is taken of.
    #[serde(default, skip_serializing_if = "TrainOn::is_default")]
    pub train_on: TrainOn,
    /// For language models: a file with the chat template, instead of the tokenizer's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<PathBuf>,
    /// For language models: the words that a prompt is put into, as a Jinja template of `prompt`, of
    /// `instruction`, `input`, `system` and `history`, or of `question` and `choices`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_template: Option<String>,
    /// Whether rows for a language model may have images: so a task says that reads them.
    #[serde(skip)]
    pub takes_images: bool,
}

/// A number of examples, or the word for no limit: what a list of values needs to say.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum AllOrSome {
    Some(usize),
    All(All),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum All {
    All,
}

fn all_or_some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    AllOrSome::deserialize(deserializer).map(|amount| match amount {
        AllOrSome::Some(count) => Some(count),
        AllOrSome::All(All::All) => None,
    })
}

fn default_max_length() -> usize {
    128
}

fn default_text() -> String {
    "text".to_owned()
}

fn default_image() -> String {
    "image".to_owned()
}

fn is_default_image(column: &str) -> bool {
    column == "image"
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn default_label() -> String {
    "label".to_owned()
}

fn default_label_separator() -> String {
    "|".to_owned()
}

fn is_default_label_separator(separator: &str) -> bool {
    separator == "|"
}

impl DataConfig {
    /// Whether a column of a table of texts is read.
    pub(crate) fn reads(&self, column: &str) -> bool {
        [&self.text, &self.label]
            .into_iter()
            .chain(&self.text_pair)
            .any(|name| name == column)
    }

    /// The same data, of which this many rows are drawn whatever their class; or all of them.
    pub fn drawing(&self, most: Option<NonZeroUsize>) -> Self {
        Self {
            max_examples: most.map(NonZeroUsize::get),
            examples_per_class: None,
            ..self.clone()
        }
    }

    /// The keys that only some tasks read and that are not as they are by default.
    pub fn settings_of_tasks(&self) -> Vec<&'static str> {
        let usual = Self::new(self.path.clone());
        let changed = [
            ("text", self.text != usual.text),
            ("text_pair", self.text_pair.is_some()),
            ("image", self.image != usual.image),
            ("unreadable", self.unreadable != usual.unreadable),
            ("augment", self.augment != usual.augment),
            ("crop_scale", self.crop_scale != usual.crop_scale),
            ("label", self.label != usual.label),
            (
                "label_separator",
                self.label_separator != usual.label_separator,
            ),
            ("format", self.format.is_some()),
            ("columns", !self.columns.is_default()),
            ("train_on", !self.train_on.is_default()),
            ("chat_template", self.chat_template.is_some()),
            ("prompt_template", self.prompt_template.is_some()),
        ];
        let changed = changed.into_iter().filter(|(_, is_changed)| *is_changed);
        changed.map(|(key, _)| key).collect()
    }

    /// The directory that a resolved configuration names.
    pub fn directory(&self) -> &Path {
        Path::new(&self.path)
    }

    /// The configuration that `path` alone stands for.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            config: None,
            files: FileSelection::default(),
            max_length: default_max_length(),
            text: default_text(),
            text_pair: None,
            image: default_image(),
            unreadable: Unreadable::default(),
            augment: Augment::default(),
            crop_scale: CropScale::default(),
            label: default_label(),
            label_separator: default_label_separator(),
            examples_per_class: None,
            max_examples: None,
            fold: None,
            format: None,
            columns: LanguageColumns::default(),
            train_on: TrainOn::default(),
            chat_template: None,
            prompt_template: None,
            takes_images: false,
        }
    }

    /// The same data of a task whose texts have images.
    pub fn with_images(&self) -> Self {
        Self {
            takes_images: true,
            ..self.clone()
        }
    }

    /// What changes training images.
    pub fn augmentation(&self) -> Augmentation {
        Augmentation {
            kind: self.augment,
            crop_scale: self.crop_scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Split;

    #[test]
    fn a_path_alone_gives_the_defaults() {
        let config: DataConfig = toml::from_str(r#"path = "datasets/travel""#).unwrap();
        assert_eq!(config, DataConfig::new("datasets/travel"));
        assert_eq!(config.max_length, 128);
        assert_eq!(
            (config.text.as_str(), config.label.as_str()),
            ("text", "label")
        );
    }

    #[test]
    fn every_key_survives_writing_and_reading() {
        let config = DataConfig {
            config: Some("plain".to_owned()),
            files: FileSelection::exactly(Split::Test, vec!["held/*.csv".to_owned()]),
            max_length: 64,
            text: "premise".to_owned(),
            text_pair: Some("hypothesis".to_owned()),
            image: "photo".to_owned(),
            unreadable: Unreadable::Skip,
            augment: Augment::CropFlip,
            crop_scale: CropScale::try_from([0.25, 0.75]).unwrap(),
            label: "gold".to_owned(),
            label_separator: ";".to_owned(),
            examples_per_class: Some(5),
            max_examples: Some(70),
            fold: Fold::all(5).nth(1),
            format: Some(LanguageFormat::Alpaca),
            columns: LanguageColumns {
                output: Some("response".to_owned()),
                ..LanguageColumns::default()
            },
            train_on: TrainOn::All,
            chat_template: Some("templates/plain.jinja".into()),
            prompt_template: Some("{{ instruction }}\n".to_owned()),
            ..DataConfig::new("datasets/nli")
        };
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<DataConfig>(&written).unwrap(), config);
    }

    #[test]
    fn all_examples_of_a_class_can_be_asked_for_by_word() {
        let amount = |value: &str| {
            let file = format!("path = \"d\"\nexamples_per_class = {value}");
            toml::from_str::<DataConfig>(&file).map(|config| config.examples_per_class)
        };
        assert_eq!(amount("\"all\"").unwrap(), None);
        assert_eq!(amount("5").unwrap(), Some(5));
        assert!(amount("\"some\"").is_err());
    }

    #[test]
    fn keys_of_language_models_are_not_written_where_they_are_not_set() {
        let written = toml::to_string(&DataConfig::new("datasets/travel")).unwrap();
        let expected = "path = \"datasets/travel\"\nmax_length = 128\ntext = \"text\"\n\
                        label = \"label\"\n";
        assert_eq!(written, expected);
    }

    #[test]
    fn forms_are_configured_by_words() {
        let file = "path = \"d\"\nformat = \"multiple-choice\"\ntrain_on = \"all\"";
        let config: DataConfig = toml::from_str(file).unwrap();
        assert_eq!(config.format, Some(LanguageFormat::MultipleChoice));
        assert_eq!(config.train_on, TrainOn::All);
        let error = toml::from_str::<DataConfig>("path = \"d\"\nformat = \"chat\"").unwrap_err();
        assert!(error.to_string().contains("prompt-completion"), "{error}");
    }

    #[test]
    fn what_nobody_set_about_images_is_not_written() {
        let written = toml::to_string(&DataConfig::new("datasets/travel")).unwrap();
        for key in ["image", "unreadable", "augment", "crop_scale"] {
            assert!(!written.contains(key), "{written}");
        }
    }

    #[test]
    fn images_are_configured_by_words() {
        let content = "path = \"d\"\nunreadable = \"skip\"\naugment = \"crop-flip\"\n\
                       crop_scale = [0.3, 0.9]";
        let config: DataConfig = toml::from_str(content).unwrap();
        assert_eq!(config.unreadable, Unreadable::Skip);
        assert_eq!(config.augmentation().kind, Augment::CropFlip);
        assert_eq!(<[f64; 2]>::from(config.crop_scale), [0.3, 0.9]);
        let error = toml::from_str::<DataConfig>("path = \"d\"\ncrop_scale = [0.9, 0.3]");
        let error = error.unwrap_err().to_string();
        assert!(error.contains("expected 0 < least"), "{error}");
    }

    #[test]
    fn a_misspelt_key_is_refused_by_name() {
        let error = toml::from_str::<DataConfig>("path = \"d\"\nmax_lenght = 64").unwrap_err();
        assert!(error.to_string().contains("max_lenght"), "{error}");
    }
}
