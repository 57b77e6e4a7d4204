//! From files to batches: rows of a split, their targets, their tokens, and the order they are shown in.
//!
//! Everything here stays on the host; nothing depends on a device or on Burn.

mod batch_plan;
mod bert_vocabulary;
mod closest_name;
mod config;
mod csv;
mod dataset;
mod error;
mod few_shot;
mod jsonl;
mod labels;
mod parquet;
mod row;
mod split;
mod target;
mod tokenization;
mod tokenizer_config;

pub use batch_plan::{BatchPlan, LengthGrouping};
pub use config::DataConfig;
pub use dataset::{read_file, read_split};
pub use error::DataError;
pub use few_shot::draw_examples;
pub use jsonl::read_jsonl;
pub use labels::LabelMap;
pub use row::{LabelPolicy, Place, RawLabel, Row};
pub use split::Split;
pub use target::{EncodedTargets, TargetKind, Targets};
pub use tokenization::{Encoding, TextTokenizer};
