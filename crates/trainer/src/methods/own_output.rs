//! An output layer that is adapted though it is the table of tokens.
//!
//! PEFT puts the update on the output layer alone, so that the two are no longer one: the logits are
//! (W + ΔW) · h, and the embeddings stay those of W. The model gets an output layer of its own with the
//! values of the table.

use std::collections::BTreeMap;

use eigenmix_models::{Architecture, HeadKind};
use eigenmix_tensors::HostTensor;

use super::target_layers::targeted;
use crate::adapter_config::AdapterConfig;
use crate::{BaseModel, TrainerError};

/// The path of the output layer of a language model.
const OUTPUT: &str = "lm_head";

/// The base model with an output layer of its own, if the targets name that of a model that has none.
///
/// # Errors
/// If the model does not do the task.
pub(crate) fn with_own_output(
    config: &AdapterConfig,
    base: &BaseModel,
    head: HeadKind,
) -> Result<Option<Architecture>, TrainerError> {
    let architecture = &base.architecture;
    let has_targets = config.target_modules.is_some() && !config.method.is_on_adapters();
    if head != HeadKind::LanguageModel || !architecture.ties_output() || !has_targets {
        return Ok(None);
    }
    let own = architecture.with_own_output();
    let description = own.describe(head)?;
    // A name that matches nothing is told by whoever asks for the layers.
    let layers = targeted(config, base, &description).unwrap_or_default();
    let is_adapted = layers.iter().any(|layer| layer.path == OUTPUT);
    Ok(is_adapted.then_some(own))
}

/// The values of the output layer: those of the table of tokens.
///
/// # Errors
/// If the checkpoint lacks the table.
pub(crate) fn own_output(base: &BaseModel) -> Result<BTreeMap<String, HostTensor>, TrainerError> {
    let checkpoint = &base.checkpoint;
    let table = base.architecture.token_table().unwrap_or_default();
    let table = format!("{table}.weight");
    let found = checkpoint.find(&table, base.architecture.prefix());
    let found = found.and_then(|name| Some((name, checkpoint.shape(name)?.to_vec())));
    let Some((name, shape)) = found else {
        return Err(eigenmix_models::ModelError::MissingTensor {
            name: table.clone(),
        }
        .into());
    };
    let values = checkpoint.read(name, &shape)?;
    let tensor = HostTensor { shape, values };
    Ok(BTreeMap::from([(format!("{OUTPUT}.weight"), tensor)]))
}
