//! From files to batches: rows of a split, their targets, their tokens or images, and the order they
//! are shown in.
//!
//! Everything here stays on the host; nothing depends on a device or on Burn.

mod batch_plan;
mod bert_vocabulary;
mod chat_template;
mod chat_template_source;
mod choice_example;
mod clip_vocabulary;
mod closest_name;
mod columns;
mod config;
mod csv;
mod data_location;
mod dataset;
mod dataset_card;
mod error;
mod few_shot;
mod file_selection;
mod gpt2_vocabulary;
mod images;
mod incremental_decoder;
mod jinja_environment;
mod jsonl;
mod labelled;
mod labels;
mod language_columns;
mod language_dataset;
mod language_encoder;
mod language_error;
mod language_example;
mod language_format;
mod language_row;
mod loss_mask;
mod message;
pub mod metrics;
mod multiple_choice;
mod parquet;
mod parquet_column;
mod parquet_file;
mod parquet_records;
mod prompt_template;
mod row;
#[cfg(test)]
mod small_tokenizer;
mod special_tokens;
mod split;
mod split_files;
mod strftime;
mod target;
mod tokenization;
mod tokenizer_config;

pub use self::images::{
    EpochAugmentation, ImageDataset, ImageRow, ImageSource, ImageSplit, Unreadable,
    read_image_split,
};
pub use batch_plan::{BatchPlan, LengthGrouping};
pub use chat_template::ChatTemplate;
pub use choice_example::ChoiceExample;
pub use closest_name::closest_name;
pub use columns::column_names;
pub use config::DataConfig;
pub use data_location::DataLocation;
pub use dataset::{read_file, read_split};
pub(crate) use dataset_card::DatasetCard;
pub use eigenmix_images::{
    Augment, Augmentation, CropScale, ImageError, ImagePreprocessor, PreprocessorError,
};
pub use error::DataError;
pub use few_shot::{draw_examples, draw_language_rows};
pub use file_selection::{FilePatterns, FileSelection};
pub use incremental_decoder::IncrementalDecoder;
pub use jsonl::read_jsonl;
pub use labelled::Labelled;
pub use labels::LabelMap;
pub use language_columns::LanguageColumns;
pub use language_dataset::{LanguageRows, read_language_file, read_language_split};
pub use language_encoder::{LanguageEncoder, LanguageExamples};
pub use language_error::LanguageError;
pub use language_example::LanguageExample;
pub use language_format::LanguageFormat;
pub use language_row::{LanguageContent, LanguageRow};
pub use loss_mask::TrainOn;
pub use message::Message;
pub use multiple_choice::Question;
pub use prompt_template::PromptTemplate;
pub use row::{LabelPolicy, Place, RawLabel, Row};
pub use split::Split;
pub(crate) use split_files::FileTree;
pub use target::{EncodedTargets, TargetKind, Targets};
pub use tokenization::{Encoding, TextTokenizer};
