//! The base model of an adapter that is written in GGUF.

use eigenmix_adapter::{Adapter, GgufBase};
use eigenmix_models::{Checkpoint, HeadKind, gguf_base};
use eigenmix_trainer::{BaseModel, TrainerError, named_base};

use crate::BadInput;
use crate::ExperimentError;
use crate::error::message;
use crate::opened_adapter::OpenedAdapter;

/// The base model under whose names and heads an adapter is written in GGUF: the one that is given, else
/// the one that the adapter names, if that is at hand.
///
/// # Errors
/// If there is none.
pub fn base_of_gguf(
    source: &OpenedAdapter,
    given: Option<BaseModel>,
) -> Result<BaseModel, ExperimentError> {
    if let Some(given) = given {
        return Ok(given);
    }
    let problem = match named_base(&source.file, &source.path) {
        Ok(Some(base)) => return Ok(base),
        Ok(None) => "the adapter names none".to_owned(),
        Err(error) => {
            let name = source.file.config().base_model().unwrap_or_default();
            format!("the adapter names `{name}`, but {}", message(&error))
        }
    };
    let text = format!(
        "an adapter in GGUF has the names and the order of rows of its base model, and {problem}; name the model with --base"
    );
    Err(BadInput(text).into())
}

/// What of a base model adapters in GGUF depend on, if the adapter is one of this model.
///
/// # Errors
/// If the model is of a family without such files, or has a module of the adapter in another shape.
pub fn checked_gguf_base(
    source: &OpenedAdapter,
    base: &BaseModel,
) -> Result<GgufBase, ExperimentError> {
    let of_model = gguf_base(&base.checkpoint).map_err(TrainerError::from)?;
    let description = base.architecture.describe(HeadKind::LanguageModel);
    let description = description.map_err(TrainerError::from)?;
    for path in source.file.module_paths() {
        let (_, d_in, d_out) = source.file.shape(path)?;
        // What the model does not have at all is told of when it is written, with the reason.
        let layer = description.layer(path);
        let found = layer.map(|layer| [layer.d_out, layer.d_in]);
        if let Some(found) = found.filter(|found| *found != [d_out, d_in]) {
            let text = format!(
                "module `{path}` is {found:?} in the base model `{}`, but {:?} in the adapter; is it an adapter of another base model?",
                base.name,
                [d_out, d_in]
            );
            return Err(BadInput(text).into());
        }
    }
    Ok(of_model)
}

/// Takes away the tables and layers that an adapter carries whole although they are the base model's own,
/// bit for bit: PEFT saves tables below adapted layers. Returns their names.
pub fn without_copies(adapter: &mut Adapter, base: &BaseModel) -> Vec<String> {
    if adapter.heads.is_empty() {
        return Vec::new();
    }
    // Of a model on the Hub the weights are not here, and whatever the adapter carries may be another.
    let Ok(checkpoint) = Checkpoint::open(base.checkpoint.path()) else {
        return Vec::new();
    };
    let is_copy = |name: &str, shape: &[usize], values: &[f32]| {
        let found = checkpoint.find(name, base.architecture.prefix());
        let stored = found.and_then(|name| checkpoint.read(name, shape).ok());
        stored.is_some_and(|stored| stored == values)
    };
    let heads = std::mem::take(&mut adapter.heads);
    let (copies, kept) = heads
        .into_iter()
        .partition(|(name, tensor)| is_copy(name, &tensor.shape, &tensor.values));
    adapter.heads = kept;
    let copies: std::collections::BTreeMap<_, _> = copies;
    copies.into_keys().collect()
}
