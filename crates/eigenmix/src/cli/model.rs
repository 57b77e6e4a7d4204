//! The flags that say which model a command runs.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use eigenmix_experiment::ModelRequest;
use eigenmix_models::Precision;
use eigenmix_trainer::DeviceChoice;

use super::ZeroShotArguments;

/// A base model, and what goes on top of it.
#[derive(Debug, Args)]
pub(crate) struct ModelArguments {
    /// The base model.
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: String,

    /// In which type frozen weights are kept: as the device likes it, in f32, or as they are stored
    /// (half the memory for a model in half precision).
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = precision_parser())]
    pub(crate) weights: Precision,

    /// The adapter, with its head and labels.json where it has one; without an adapter the base
    /// model runs as it is.
    #[arg(long, value_name = "ADAPTER")]
    pub(crate) adapter: Option<String>,

    /// Use the head and labels of this adapter instead, as for a task of a merged adapter.
    #[arg(long, value_name = "ADAPTER")]
    pub(crate) head: Option<String>,

    /// Go on although the adapter has tensors that the base model has no place for.
    #[arg(long)]
    pub(crate) allow_partial: bool,
}

fn precision_parser() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(Precision::NAMES).map(|name| match name.as_str() {
        "float32" => Precision::Float32,
        "stored" => Precision::Stored,
        _ => Precision::Auto,
    })
}

impl ModelArguments {
    /// The model that was asked for.
    pub(crate) fn request(
        &self,
        zero_shot: &ZeroShotArguments,
        device: DeviceChoice,
    ) -> ModelRequest {
        ModelRequest {
            base: self.base.clone(),
            weights: self.weights,
            adapter: self.adapter.clone(),
            head: self.head.clone(),
            allow_partial: self.allow_partial,
            prompts: zero_shot.prompts.clone(),
            labels: zero_shot.labels.clone(),
            device,
        }
    }
}
