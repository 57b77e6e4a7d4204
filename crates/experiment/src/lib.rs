//! Experiments on recycled LoRA adapters.

mod byte_count;
mod config_file;
mod destination;
mod dry_run;
mod error;
mod evaluation;
mod experiment;
mod extract;
mod fault;
mod image_labels;
mod layer_path;
mod listener;
mod load_report;
mod merge;
pub mod merge_into_base;
mod merge_search;
mod model_request;
mod opened_adapter;
mod output_style;
pub mod pictures;
mod publication;
mod report;
mod run;
pub mod starter;
mod table;
mod truncation;

pub use byte_count::ByteCount;
pub use config_file::{BadConfig, ConfigFile, KeyPath, Override, OverrideError, Problem, Schema};
pub use destination::Destination;
pub use dry_run::DryRun;
pub use error::{BadInput, ExperimentError, message};
pub use evaluation::{EvaluationRequest, Measured, Splits, evaluate};
pub use experiment::{
    Arm, Cell, EvaluationConfig, Experiment, Places, Shard, Stage, StageKind, Work, schema,
};
pub use extract::{ExtractRequest, Extracted, extract};
pub use fault::is_bad_input;
pub use layer_path::{LayerPath, short_label};
pub use listener::{Listener, Progress, Silent};
pub use merge::{MergeRequest, Merged, MethodChoice, ScopeChoice, SpaceChoice, merge};
pub use merge_search::{SearchReport, SearchRequest};
pub use model_request::{ModelRequest, OpenedModel, no_labels};
pub use opened_adapter::{OpenedAdapter, distinct_names, locate};
pub use output_style::{OutputFormat, style_of_copy, style_of_result};
pub use publication::{PublicBase, publication, without_paths};
pub use report::{ArmReport, ArmSubspace, ExperimentPlan, Failure, Report, Spread};
pub use run::{Finished, Jobs, RunRequest, run, run_cell_of_another};
pub use table::Table;
pub use truncation::{Truncation, truncate};
