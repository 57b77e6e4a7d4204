//! The flags that choose the model.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use eigenmix_data::{LabelMap, Threshold};
use eigenmix_experiment::{BadInput, ExperimentError, ModelRequest, OptionNames};
use eigenmix_models::Precision;
use eigenmix_trainer::DeviceChoice;

use super::ZeroShotArguments;

/// A base model, with or without an adapter.
#[derive(Debug, Args)]
pub(crate) struct ModelArguments {
    /// The base model: a directory, a GGUF file, a Hub id, or a GGUF file on the Hub
    /// (`org/name:file.gguf`).
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: String,

    /// How to store frozen weights in memory: as suits the device, in f32, as in the checkpoint (half
    /// the memory for a half-precision model), or quantised while they are loaded.
    #[arg(long, value_name = "TYPE", default_value = "auto", value_parser = precision_parser())]
    pub(crate) weights: Precision,

    /// The adapter, with its head and labels.json if it has them; without it, the base model runs
    /// alone.
    #[arg(long, value_name = "ADAPTER")]
    pub(crate) adapter: Option<String>,

    /// Use the head and labels of this adapter, as for one task of a merged adapter.
    #[arg(long, value_name = "ADAPTER")]
    pub(crate) head: Option<String>,

    /// Continue even if the adapter has tensors that do not fit the base model.
    #[arg(long)]
    pub(crate) allow_partial: bool,
}

/// How labels are told where a row may have several.
#[derive(Debug, Args)]
pub(crate) struct LabelArguments {
    /// Models that give a row several labels: the probability from which on a label applies [default:
    /// that of the training].
    #[arg(long, value_name = "P")]
    pub(crate) threshold: Option<Threshold>,
}

pub(super) fn precision_parser() -> impl TypedValueParser<Value = Precision> {
    let names = Precision::NAMES.map(|(name, _)| name);
    PossibleValuesParser::new(names)
        .try_map(|name| Precision::from_name(&name).ok_or("one of the names has no precision"))
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
            threshold: None,
            device,
            names: OptionNames::Flags,
        }
    }
}

/// The labels of a zero-shot head for commands that read none from data.
pub(crate) fn no_labels() -> Result<LabelMap, ExperimentError> {
    let problem =
        "--prompt needs labels, and neither the adapter nor the data have any; give --labels a,b,c";
    Err(BadInput(problem.to_owned()).into())
}
