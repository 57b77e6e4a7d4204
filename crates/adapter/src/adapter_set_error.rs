//! Why adapters cannot be used together.

use crate::{AdapterError, LayerKind};

/// Why adapters cannot be extracted, compared or merged together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterSetError {
    #[error("no adapters were given; name at least one")]
    NoAdapters,

    #[error(
        "none of the {adapters} adapters given adapts any module; do they hold trained LoRA factors?"
    )]
    NoModules { adapters: usize },

    #[error(
        "adapter `{second}` is for the base model `{second_base}`, but `{first}` is for `{first_base}`; adapters that are used together share one base model: leave one out, or allow the mismatch if the names mean the same model"
    )]
    BaseModels {
        first: String,
        first_base: String,
        second: String,
        second_base: String,
    },

    #[error(
        "module `{module}`: adapter `{first}` has [d_out, d_in] {first_shape:?}, adapter `{second}` has {second_shape:?}; is one of them for another base model?"
    )]
    UnequalShapes {
        module: String,
        first: String,
        first_shape: [usize; 2],
        second: String,
        second_shape: [usize; 2],
    },

    #[error(
        "module `{module}`: adapter `{first}` has it as {first_layer}, adapter `{second}` as {second_layer}; is one of them for another base model?"
    )]
    UnequalLayers {
        module: String,
        first: String,
        first_layer: LayerKind,
        second: String,
        second_layer: LayerKind,
    },

    #[error(
        "adapter `{second}` has no module in common with `{first}` (it has `{second_module}`, the other `{first_module}`), and they do not both name the same base model; leave one out, or allow the mismatch if they are for the same model"
    )]
    NothingInCommon {
        first: String,
        first_module: String,
        second: String,
        second_module: String,
    },

    #[error(
        "adapter `{second}` names a module `{second_module}` that adapter `{first}` names `{first_module}`: one layer under two names, as before and after transformers renamed the modules of a model, so that the result would hold two halves of which a base model has one. Bring both to one naming: load one of them in the PEFT and transformers that the other was saved with, and save it again"
    )]
    TwoNames {
        first: String,
        first_module: String,
        second: String,
        second_module: String,
    },

    #[error(
        "adapter `{adapter}` lists module `{module}` twice; which of the two updates is meant?"
    )]
    ModuleTwice { module: String, adapter: String },

    #[error(
        "module `{module}` of adapter `{adapter}` has a DoRA magnitude (use_dora), which rescales the whole weight and is no part of the low-rank update s·B·A; train the adapter without use_dora, or merge it into its base model instead"
    )]
    Magnitude { module: String, adapter: String },

    #[error(
        "module `{module}` of adapter `{adapter}` holds NaN or infinite values; its training diverged or its file is damaged"
    )]
    NotFinite { module: String, adapter: String },

    #[error(transparent)]
    Adapter(#[from] AdapterError),
}
