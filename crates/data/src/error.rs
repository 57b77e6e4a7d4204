//! What can be wrong with data, each error with the row it is about and what to do.

use std::io;
use std::path::PathBuf;

use eigenmix_gguf::GgufError;
use eigenmix_hub::HubError;
use thiserror::Error;

use crate::class_weights::ClassWeightError;
use crate::closest_name::closest_name;
use crate::cross_validation::Fold;
use crate::diffusion::DiffusionDataError;
use crate::language_error::LanguageError;
use crate::prediction_error::PredictionError;
use crate::row::Place;
use crate::split::Split;

/// What can be wrong with data, its labels or its tokenizer.
#[derive(Debug, Error)]
pub enum DataError {
    #[error(transparent)]
    Hub(#[from] HubError),

    #[error(transparent)]
    Prediction(#[from] PredictionError),

    #[error(
        "`{path}` says of the input of the training what this release does not know; take the one \
         that wrote it, or a newer one, or take `input` out of the file"
    )]
    UnknownContract {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },

    #[error("cannot read `{path}`")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error(
        "`{path}` is not a directory; `data.path` names one that holds train, validation and test \
         as .jsonl, .csv or .parquet"
    )]
    NotADirectory { path: PathBuf },

    #[error("`{found}` is not a split; expected train, validation or test")]
    UnknownSplit { found: String },

    #[error("`{dir}` has no {split} split: expected {expected}; found {found}")]
    MissingSplit {
        split: Split,
        dir: PathBuf,
        expected: String,
        found: String,
    },

    #[error(
        "`{dir}` has more than one {split} split: {files}; keep one of them, or name it in `data.files`"
    )]
    AmbiguousSplit {
        split: Split,
        dir: PathBuf,
        files: String,
    },

    #[error("`{place}` has more than one set of splits; say which with `data.config`: {names}")]
    SeveralConfigs { place: PathBuf, names: String },

    #[error("`data.files`: `{pattern}` for the {split} split: {problem}")]
    FilePattern {
        split: Split,
        pattern: String,
        problem: String,
    },

    #[error(
        "the {split} split in `{dir}` should have {expected} shards, but shard {missing} is not \
         there; download the data again"
    )]
    MissingShard {
        split: Split,
        dir: PathBuf,
        expected: usize,
        missing: usize,
    },

    #[error("the {split} split has no rows in {files}")]
    EmptySplit { split: Split, files: String },

    #[error(
        "cannot tell the format of `{path}`: expected .jsonl, .csv, .tsv, .parquet or .json (texts also as .gz or .zst)"
    )]
    UnknownFormat { path: PathBuf },

    #[error(
        "`{path}` is UTF-16; save it as UTF-8 (in Excel \"CSV UTF-8\"), or convert it: `iconv -f UTF-16 -t UTF-8`"
    )]
    Utf16 { path: PathBuf },

    #[error("{place}: not valid JSON; every line must hold one complete JSON object")]
    MalformedJsonLine {
        place: Place,
        #[source]
        source: serde_json::Error,
    },

    #[error("{place}: expected a JSON object, found {found}; every line must hold one object")]
    NotAnObject { place: Place, found: &'static str },

    #[error("{place}: malformed CSV")]
    MalformedCsv {
        place: Place,
        #[source]
        source: csv::Error,
    },

    #[error(
        "cannot read `{path}` as parquet (uncompressed, or compressed with snappy, gzip, zstd, brotli or \
         lz4); is it whole, or does it need rewriting with one of these?"
    )]
    MalformedParquet {
        path: PathBuf,
        #[source]
        source: parquet::errors::ParquetError,
    },

    #[error(
        "`{path}`: column `{column}` holds {found}, expected {expected}; rewrite the column, or \
         name another in the configuration"
    )]
    ColumnType {
        path: PathBuf,
        column: String,
        expected: &'static str,
        found: String,
    },

    #[error("`{path}` has two columns `{column}`; rename the one that is not meant")]
    ColumnTwice { path: PathBuf, column: String },

    #[error("{place}: there is no column `{column}`; {advice}")]
    MissingColumn {
        place: Place,
        column: String,
        /// The columns found, the nearest of them, and the setting to change.
        advice: String,
    },

    #[error("{place}: column `{column}`: expected {expected}, found {found}")]
    BadValue {
        place: Place,
        column: String,
        expected: &'static str,
        found: String,
    },

    #[error(
        "{place}: the row has no label; training and evaluation need one on every row, in the column \
         that `data.label` names"
    )]
    MissingLabel { place: Place },

    #[error(
        "the labels of the {split} split are hidden: -1 in all {rows} rows; leave the split out by \
         naming the others in `data.files`, or measure on a split that has labels"
    )]
    HiddenLabels { split: Split, rows: usize },

    #[error(
        "{place}: unknown label `{label}`; the known labels are {known}; correct the row, train \
         on data that has this label, or leave the split out by naming the others in `data.files`"
    )]
    UnknownLabel {
        place: Place,
        label: String,
        known: String,
    },

    #[error(
        "{place}: label `{label}` does not name a class; set the task to regression, or use names or \
         whole numbers (those beyond 64 bits as strings)"
    )]
    NotAClass { place: Place, label: String },

    #[error(
        "{place}: column `{column}` has a list of labels, and the task is for one label a row; for rows \
         with several set task.target = \"labels\" in the training"
    )]
    ListOfLabels { place: Place, column: String },

    #[error(
        "{place}: column `{column}` has `{found}`, a list spelt in a text; write the labels with \
         data.label_separator between them (`a{separator}b`), or the rows as JSON lines"
    )]
    SpeltList {
        place: Place,
        column: String,
        separator: String,
        found: String,
    },

    #[error(
        "{place}: the row has the label `{label}` twice; if its list says of each label whether it applies \
         (zeros and ones), write the names of those that do"
    )]
    RepeatedLabel { place: Place, label: String },

    #[error(
        "{place}: the row does not say which labels it has; write an empty list (in CSV an empty cell) \
         if it has none"
    )]
    MissingList { place: Place },

    #[error("no training row has a label; check the label column `data.label`")]
    OnlyEmptyLists,

    #[error(transparent)]
    ClassWeights(#[from] ClassWeightError),

    #[error("{place}: label `{label}` is not a finite number, which a regression needs")]
    NotANumber { place: Place, label: String },

    #[error("expected at least 2 classes, found {found}; check the label column `data.label`")]
    TooFewClasses { found: String },

    #[error("the label list {place} is unusable: {problem}")]
    BadLabelList { place: String, problem: String },

    #[error(
        "class `{class}` has {found} training examples, `data.examples_per_class` asks for \
         {expected}; lower it, or add examples"
    )]
    TooFewExamples {
        class: String,
        expected: usize,
        found: usize,
    },

    #[error(
        "`data.{setting}` is {found}, expected at least 1; leave it out to train on every example"
    )]
    NoExamplesAskedFor { setting: &'static str, found: usize },

    #[error(
        "`data.fold` = `{fold}` needs a row for each fold, and there are {rows} rows to train on; ask \
         for fewer folds"
    )]
    TooFewForFolds { fold: Fold, rows: usize },

    #[error(
        "`data.examples_per_class` needs classes, and the task is a regression; use `data.max_examples`"
    )]
    FewShotRegression,

    #[error(
        "`data.examples_per_class` draws by class, and with task.target = \"labels\" a row may have \
         several labels; use `data.max_examples`"
    )]
    FewShotLabels,

    #[error(
        "`{dir}` has no tokenizer this build can load: expected tokenizer.json, or the vocab.txt \
         of a BERT, or the vocab.json and merges.txt of a GPT-2; found {found}; write tokenizer.json with transformers' \
         `AutoTokenizer.from_pretrained(…).save_pretrained(…)`"
    )]
    MissingTokenizer { dir: PathBuf, found: String },

    #[error(
        "`{dir}` has its tokenizer as a SentencePiece model only: expected tokenizer.json, found \
         `{found}`; convert it with transformers (and its extras sentencepiece and protobuf): \
         `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)`"
    )]
    SentencePieceOnly { dir: PathBuf, found: String },

    #[error(transparent)]
    Gguf(#[from] GgufError),

    #[error("the tokenizer in `{path}` cannot be used: {problem}")]
    GgufTokenizer { path: PathBuf, problem: String },

    #[error("`{path}` is not a valid tokenizer")]
    MalformedTokenizer {
        path: PathBuf,
        #[source]
        source: tokenizers::Error,
    },

    #[error("`{path}` is not the JSON expected")]
    MalformedJson {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },

    #[error(
        "`{path}` has no token `{token}`, which a BERT tokenizer needs; is it the vocabulary of \
         another kind of model?"
    )]
    MissingSpecialToken { path: PathBuf, token: String },

    #[error(
        "`data.max_length` is {max_length}, but this tokenizer adds {special_tokens} special \
         tokens to each example; expected at least {}", special_tokens + 1
    )]
    MaxLengthTooShort {
        max_length: usize,
        special_tokens: usize,
    },

    #[error("the tokenizer failed on {text:?}")]
    Tokenization {
        /// The beginning of the text.
        text: String,
        #[source]
        source: tokenizers::Error,
    },

    #[error(
        "the text {text:?} has the token `{token}` ({id}), of which the base model, with {embeddings} \
         embeddings, has none; take it out of the text, or use the tokenizer of this model"
    )]
    TokenBeyondEmbedding {
        token: String,
        id: u32,
        embeddings: usize,
        /// The beginning of the text.
        text: String,
    },

    #[error("{place}: the text has no tokens; remove the row")]
    NoTokens { place: Place },

    #[error("the tokenizer cannot turn {count} tokens back into text")]
    Decoding {
        count: usize,
        #[source]
        source: tokenizers::Error,
    },

    #[error(transparent)]
    Language(#[from] LanguageError),

    #[error(transparent)]
    Diffusion(#[from] DiffusionDataError),

    #[error(
        "{place}: cannot read the image `{path}`; paths are relative to the file that names them"
    )]
    MissingImage {
        place: Place,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error(
        "{place}: cannot decode the image; replace or remove it, or leave out what cannot be read \
         with `data.unreadable = \"skip\"`"
    )]
    BadImage {
        place: Place,
        #[source]
        source: eigenmix_images::ImageError,
    },

    #[error(
        "the {split} split in `{dir}` has more than one folder: {folders}; keep one of them, or move \
         the others out"
    )]
    AmbiguousFolder {
        split: Split,
        dir: PathBuf,
        folders: String,
    },
}

impl DataError {
    /// A column that `setting` names and `found` lacks.
    pub(crate) fn missing_column<'a>(
        place: Place,
        setting: &str,
        column: &str,
        found: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let found: Vec<&str> = found.into_iter().collect();
        let listed = if found.is_empty() {
            "there are no columns".to_owned()
        } else {
            format!("found {}", quoted(&found))
        };
        let advice = match closest_name(column, &found) {
            Some(closest) => {
                format!("{listed}; did you mean `{closest}`? Set `{setting}`")
            }
            None => format!("{listed}; set `{setting}` to the one to read"),
        };
        Self::MissingColumn {
            place,
            column: column.to_owned(),
            advice,
        }
    }
}

impl DataError {
    /// The same about `data.image`, for readers that take the column of an image's path for a text.
    pub(crate) fn about_images(mut self) -> Self {
        if let Self::MissingColumn { advice, .. } = &mut self {
            *advice = advice.replace("`data.text`", "`data.image`");
        }
        self
    }
}

/// Names in back quotes with commas, the first forty of them.
pub(crate) fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 40;
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let mut listed: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    if names.len() > SHOWN {
        listed.push(format!("and {} more", names.len() - SHOWN));
    }
    listed.join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn place() -> Place {
        Place {
            file: Path::new("train.jsonl").into(),
            line: 3,
        }
    }

    #[test]
    fn a_missing_column_names_the_nearest_one() {
        let error = DataError::missing_column(place(), "data.label", "label", ["text", "labels"]);
        assert_eq!(
            error.to_string(),
            "train.jsonl:3: there is no column `label`; found `text`, `labels`; did you mean \
             `labels`? Set `data.label`"
        );
    }

    #[test]
    fn a_missing_column_with_nothing_near_lists_what_is_there() {
        let error = DataError::missing_column(place(), "data.text", "text", ["premise", "gold"]);
        assert_eq!(
            error.to_string(),
            "train.jsonl:3: there is no column `text`; found `premise`, `gold`; set `data.text` \
             to the one to read"
        );
    }

    #[test]
    fn a_long_list_of_names_is_cut() {
        let names: Vec<String> = (0..43).map(|index| index.to_string()).collect();
        let listed = quoted(&names);
        assert!(listed.ends_with("`39`, and 3 more"), "{listed}");
    }
}
