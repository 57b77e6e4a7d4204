//! Experiments on recycled LoRA adapters: what the command line does, as a library.
//!
//! An [`Experiment`] is read from a TOML file ([`ConfigFile`]): stages that are made first
//! ([`ExtractRequest`], [`MergeRequest`], trainings), then arms × seeds × values, each a [`Cell`].
//! [`run()`] finishes the cells, in this process or in one process each, and writes a [`Report`].
//! [`extract()`], [`merge()`] and [`evaluate`] do one thing at a time; [`merge_into_base`] and
//! [`truncate`] make other files of an adapter.
//!
//! Nothing is printed: a [`Listener`] receives notes, warnings and progress, and an error is a
//! typed [`ExperimentError`], of which [`is_bad_input`] says whether the input has to change.
//!
//! ```
//! use eigenmix_experiment::{ConfigFile, Experiment, InputCheck};
//!
//! let directory = tempfile::tempdir()?;
//! let path = directory.path().join("ranks.toml");
//! std::fs::write(
//!     &path,
//!     r#"
//!     output = "runs/ranks"
//!     seeds = [0, 1]
//!     vary.adapter.rank = [2, 8]
//!     base.model = "org/base"
//!     data.path = "org/texts"
//!     adapter.method = "lora"
//!     training = { epochs = 3, batch_size = 32, learning_rate = 2e-3 }
//!     "#,
//! )?;
//! // With `InputCheck::Required`, models and data have to be there.
//! let file = ConfigFile::read(&path, &["training.epochs=1".parse()?])?;
//! let experiment = Experiment::from_file(&file, None, InputCheck::Skipped)?;
//! let cells: Vec<&str> = experiment.cells().map(|cell| cell.name.as_str()).collect();
//! assert_eq!(
//!     cells,
//!     [
//!         "lora/rank=2/seed-0",
//!         "lora/rank=2/seed-1",
//!         "lora/rank=8/seed-0",
//!         "lora/rank=8/seed-1",
//!     ]
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod byte_count;
pub mod charts;
mod config_file;
mod destination;
mod diffusion;
mod dry_run;
mod error;
mod evaluation;
mod experiment;
mod extract;
mod fault;
mod gguf_export;
mod image_labels;
mod known_input;
mod layer_path;
mod listener;
mod load_report;
mod merge;
pub mod merge_into_base;
mod model_request;
mod opened_adapter;
mod option_names;
mod output_style;
mod publication;
mod report;
mod run;
mod select;
mod spread;
pub mod starter;
mod store;
mod table;
mod truncation;

pub use byte_count::ByteCount;
pub use config_file::{
    BadConfig, ConfigError, ConfigFile, KeyPath, Override, OverrideError, Problem, Schema,
    train_config,
};
pub use destination::Destination;
pub use diffusion::{
    GenerateRequest, Generated, MeasuredImage, PipelineRequest, Similarity, SimilarityRequest,
    WeightedAdapter, generate, generate_arms, is_pipeline, part_forward,
};
pub use dry_run::DryRun;
pub use error::{BadInput, ExperimentError, message};
pub use evaluation::{Evaluation, EvaluationRequest, SplitEvaluation, Splits, evaluate};
pub use experiment::{
    Arm, Cell, EvaluationConfig, Experiment, InputCheck, Shard, Sharing, Stage, StageKind, Work,
    schema,
};
pub use extract::{
    ClustersSummary, ExtractRequest, ExtractionSummary, UpdateRequest, UpdateSummary, extract,
    extract_clusters, update_subspace,
};
pub use fault::is_bad_input;
pub use gguf_export::{base_of_gguf, checked_gguf_base, without_copies};
pub use known_input::KnownInput;
pub use layer_path::{LayerPath, short_label};
pub use listener::{Listener, Progress, Silent};
pub use merge::{MergeRequest, MergeSummary, SearchReport, SearchRequest, merge};
pub use model_request::{ModelRequest, OpenedModel};
pub use opened_adapter::{OpenedAdapter, distinct_names};
pub use option_names::OptionNames;
pub use output_style::{OutputFormat, style_of_copy, style_of_result};
pub use publication::{PublicBase, publication, without_paths};
pub use report::{ArmReport, ArmSubspace, ExperimentPlan, Failure, Report};
pub use run::{Finished, Jobs, RunRequest, run, run_cell_from_parent};
pub use select::{
    AdapterSelection, LossSummary, SelectRequest, SelectSummary, UnusedAdapter, select,
};
pub use spread::Spread;
pub use store::{
    PackRequest, PackSummary, StoreSummary, UnpackRequest, UnpackSummary, UnpackedAdapter,
    pack_adapters, unpack_adapters,
};
pub use table::Table;
pub use truncation::{Truncation, truncate};
