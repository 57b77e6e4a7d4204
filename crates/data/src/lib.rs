//! From files to batches: the rows of a split, what a model is to predict from them, their tokens or
//! images, and the order in which training sees them.
//!
//! Rows come from JSON lines, CSV, parquet or folders of images, as texts with labels ([`read_split`]),
//! as conversations, prompts and questions ([`read_language_split`]) or as images ([`read_image_split`]).
//! Templates and tokenizers do what transformers does, metrics what scikit-learn and scipy do; tests
//! compare both. Everything stays on the host: nothing here depends on a device or on Burn.
//!
//! ```
//! use std::num::NonZeroUsize;
//! use std::path::Path;
//!
//! use eigenmix_data::{BatchPlan, DataConfig, LabelMap, LabelPolicy, read_jsonl};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let lines = r#"{"text": "a fine film", "label": "good"}
//! {"text": "two hours too long", "label": "bad"}
//! {"text": "fine", "label": "good"}"#;
//! let file = Path::new("train.jsonl").into();
//! let rows = read_jsonl(lines.as_bytes(), &file, &DataConfig::new("."), LabelPolicy::Required)?;
//!
//! let labels = LabelMap::from_train(&rows)?;
//! assert_eq!(labels.names(), ["bad", "good"]);
//! assert_eq!(labels.encode(&rows[0])?, 1);
//!
//! // A tokenizer would say how long each row is; here it is its words.
//! let lengths: Vec<usize> = rows.iter().map(|row| row.text.split(' ').count()).collect();
//! let two = NonZeroUsize::new(2).expect("2 is not zero");
//! let plan = BatchPlan::evaluation(&lengths, two);
//! assert_eq!(plan.batches(), [vec![2, 0], vec![1]]);
//! # Ok(())
//! # }
//! ```

mod batch_plan;
mod bert_vocabulary;
mod byte_order_mark;
mod chat_template;
mod chat_template_source;
mod choice_example;
mod class_names;
mod class_weights;
mod clip_vocabulary;
mod closest_name;
mod columns;
mod config;
mod contained;
mod content_part;
mod cross_validation;
mod csv;
mod csv_source;
mod data_file;
mod data_location;
mod dataset;
mod dataset_card;
mod diffusion;
mod error;
mod expansion;
mod few_shot;
mod file_selection;
mod gguf_tokenizer;
mod gpt2_vocabulary;
mod image_tokens;
mod images;
mod incremental_decoder;
mod input_contract;
mod jinja_environment;
mod json_source;
mod jsonl;
mod label_list;
mod labelled;
mod labels;
mod language_cells;
mod language_columns;
mod language_conversation;
mod language_dataset;
mod language_encoder;
mod language_error;
mod language_example;
mod language_format;
mod language_row;
mod loss_mask;
mod message;
pub mod metrics;
mod model_files;
mod multiple_choice;
mod parquet;
mod parquet_column;
mod parquet_file;
mod parquet_filled;
mod parquet_pages;
mod parquet_records;
mod parquet_with_columns;
mod prediction_error;
mod prediction_table;
mod prompt_template;
mod python_json;
mod python_text;
mod row;
mod row_images;
#[cfg(test)]
mod small_tokenizer;
mod special_tokens;
mod split;
mod split_files;
mod stop_tokens;
mod strftime;
mod target;
mod threshold;
mod tokenization;
mod tokenizer_config;
mod tool_call;
mod tool_schema;
mod unread_columns;

pub use self::images::{
    EpochAugmentation, ImageDataset, ImageRow, ImageSource, ImageSplit, Unreadable,
    read_image_split, undecodable,
};
pub use batch_plan::{BatchPlan, LengthGrouping};
pub use chat_template::ChatTemplate;
pub use chat_template_source::has_chat_template;
pub use choice_example::ChoiceExample;
pub use class_weights::{ClassWeightError, ClassWeights, WeightRule};
pub use closest_name::closest_name;
pub use columns::column_names;
pub use config::DataConfig;
pub use content_part::{ContentPart, IMAGE_PLACEHOLDER};
pub use cross_validation::{Fold, Folded};
pub use data_location::DataLocation;
pub use dataset::{TextSplit, read_file, read_split, read_text_split};
pub(crate) use dataset_card::DatasetCard;
pub use diffusion::{
    CaptionedImage, CaptionedSplit, ClassImages, DiffusionDataError, DiffusionImages, DreamBooth,
    ImagePreparation, SmallImages, read_captioned_split, read_dream_booth,
};
pub use eigenmix_images::{
    Augment, Augmentation, Crop, CropScale, Draw, ImageError, ImagePreprocessor, Interpolation,
    Placement, PreprocessorError, Resolution,
};
pub use error::DataError;
pub use few_shot::{draw_examples, draw_rows};
pub use file_selection::{FilePatterns, FileSelection};
pub use gguf_tokenizer::{gguf_text_files, gguf_tokenizer_json};
pub use image_tokens::ImageText;
pub use incremental_decoder::IncrementalDecoder;
pub use input_contract::InputContract;
pub use jsonl::read_jsonl;
pub use label_list::note_on_separator;
pub use labelled::Labelled;
pub use labels::LabelMap;
pub use language_columns::LanguageColumns;
pub use language_dataset::{LanguageRows, read_language_split};
pub use language_encoder::{LanguageEncoder, LanguageExamples};
pub use language_error::LanguageError;
pub use language_example::LanguageExample;
pub use language_format::LanguageFormat;
pub use language_row::{LanguageContent, LanguageRow, prompt_of_line};
pub use loss_mask::TrainOn;
pub use message::Message;
pub use multiple_choice::Question;
pub use prediction_error::PredictionError;
pub use prediction_table::{PredictedColumn, PredictedValues, PredictionTable};
pub use prompt_template::{Instruction, PromptTemplate};
pub use row::{LabelPolicy, Place, RawLabel, Row};
pub use split::Split;
pub(crate) use split_files::FileTree;
pub use target::{EncodedTargets, TargetKind, Targets};
pub use threshold::{Threshold, probability};
pub use tokenization::{Encoding, TextTokenizer};
pub use unread_columns::unread_note;
