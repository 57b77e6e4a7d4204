//! The `[data]` table of a training file.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use eigenmix_images::{Augment, Augmentation, Crop, CropScale, Interpolation, Resolution};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::cross_validation::Fold;
use crate::diffusion::SmallImages;
use crate::file_selection::{FilePatterns, FileSelection};
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
    /// The column of the image: its path, or the encoded image itself. In an image folder's metadata
    /// `file_name` if there is no `image`.
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
    /// For diffusion models: the column of the caption or of a list of captions, of which one is drawn in
    /// each epoch; else `text`, `caption` or `captions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// For diffusion models: the size of training images, as a number of pixels for both sides or as
    /// `[width, height]`; else what the model was trained at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// For diffusion models: which part is kept of an image that was resized until it covers its size.
    #[serde(default, skip_serializing_if = "is_default")]
    pub crop: Crop,
    /// For diffusion models: whether images are mirrored at random, half of them in each epoch.
    #[serde(default, skip_serializing_if = "is_default")]
    pub flip: bool,
    /// For diffusion models: how resized images get their values.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interpolation: Interpolation,
    /// For diffusion models: whether images keep about their proportions: each is brought to the nearest
    /// of several sizes with at most the pixels of `resolution`, and batches are of one size.
    #[serde(default, skip_serializing_if = "is_default")]
    pub buckets: bool,
    /// With `buckets`: the sides are multiples of this many pixels; 64 if nothing is said.
    #[serde(
        default = "default_bucket_step",
        skip_serializing_if = "is_default_bucket_step"
    )]
    pub bucket_step: usize,
    /// With `buckets`: the longer side is at most this many times the shorter; 4 if nothing is said.
    #[serde(
        default = "default_bucket_aspect",
        skip_serializing_if = "is_default_bucket_aspect"
    )]
    pub bucket_aspect: f64,
    /// For diffusion models: what becomes of images that are smaller than the size at which they are
    /// trained.
    #[serde(default, skip_serializing_if = "is_default")]
    pub small_images: SmallImages,
    /// DreamBooth: the subject's images, as files, folders or patterns relative to `path`; else those in
    /// `path` itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_images: Option<FilePatterns>,
    /// DreamBooth: the prompt of all images of the subject, such as "a photo of sks dog".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_prompt: Option<String>,
    /// DreamBooth: a folder of images of the subject's class, for prior preservation; those that are
    /// missing are generated by the base model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_images: Option<PathBuf>,
    /// DreamBooth: the prompt of all images of the class, such as "a photo of a dog"; it asks for prior
    /// preservation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_prompt: Option<String>,
    /// DreamBooth: how many images of the class are trained on; 100 if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_count: Option<NonZeroUsize>,
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

fn default_bucket_step() -> usize {
    64
}

fn is_default_bucket_step(step: &usize) -> bool {
    *step == default_bucket_step()
}

/// The widest images of SDXL are four times as wide as high.
fn default_bucket_aspect() -> f64 {
    4.0
}

fn is_default_bucket_aspect(aspect: &f64) -> bool {
    *aspect == default_bucket_aspect()
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
            ("caption", self.caption.is_some()),
            ("resolution", self.resolution.is_some()),
            ("crop", self.crop != usual.crop),
            ("flip", self.flip),
            ("interpolation", self.interpolation != usual.interpolation),
            ("buckets", self.buckets),
            ("bucket_step", self.bucket_step != usual.bucket_step),
            ("bucket_aspect", self.bucket_aspect != usual.bucket_aspect),
            ("small_images", self.small_images != usual.small_images),
            ("instance_images", self.instance_images.is_some()),
            ("instance_prompt", self.instance_prompt.is_some()),
            ("class_images", self.class_images.is_some()),
            ("class_prompt", self.class_prompt.is_some()),
            ("class_count", self.class_count.is_some()),
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
            caption: None,
            resolution: None,
            crop: Crop::default(),
            flip: false,
            interpolation: Interpolation::default(),
            buckets: false,
            bucket_step: default_bucket_step(),
            bucket_aspect: default_bucket_aspect(),
            small_images: SmallImages::default(),
            instance_images: None,
            instance_prompt: None,
            class_images: None,
            class_prompt: None,
            class_count: None,
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
#[path = "config_tests.rs"]
mod tests;
