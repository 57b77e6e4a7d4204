//! Everything that can go wrong between an adapter on disk or on the Hub and its factors in memory.

use std::path::PathBuf;

use eigenmix_tensors::FileError;

use crate::{Dialect, PromptError};

/// Why an adapter, a checkpoint or a location could not be read or written.
///
/// Each message names the thing, what was expected, what was found and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    #[error(transparent)]
    File(#[from] FileError),

    #[error(
        "`{0}` is neither a directory nor a .safetensors or .gguf file; name the directory that holds the adapter"
    )]
    NotAnAdapter(PathBuf),

    #[error(
        "`{0}` is an empty directory; an adapter is adapter_config.json and adapter_model.safetensors, or one .safetensors file of kohya or diffusers"
    )]
    EmptyDirectory(PathBuf),

    #[error(
        "`{directory}` has no adapter_config.json (found: {found}); without it rank, alpha and scaling are unknown. Copy it from where the weights came from"
    )]
    NoConfig { directory: PathBuf, found: String },

    #[error(
        "`{path}` is an adapter for an image or video generator in the spelling of {program} (`{tensor}`), which is not supported. Convert it to that of diffusers: load it into its pipeline with load_lora_weights, and write it with save_lora_weights"
    )]
    ForeignSpelling {
        path: PathBuf,
        program: &'static str,
        tensor: String,
    },

    #[error(
        "`{directory}` has no adapter_model.safetensors and no other .safetensors file (found: {found})"
    )]
    NoWeights { directory: PathBuf, found: String },

    #[error(
        "`{0}` is a pickled PyTorch file, which can run code when it is opened, so Eigenmix never does. Convert it once in Python:\n    import torch, safetensors.torch\n    weights = torch.load(\"adapter_model.bin\", map_location=\"cpu\", weights_only=True)\n    weights = {{name: tensor.contiguous() for name, tensor in weights.items()}}\n    safetensors.torch.save_file(weights, \"adapter_model.safetensors\", metadata={{\"format\": \"pt\"}})\nor with PEFT: PeftModel.from_pretrained(base, \"DIR\").save_pretrained(\"DIR-safetensors\")"
    )]
    PickledWeights(PathBuf),

    #[error("`{path}`: `{key}` in the metadata is not a JSON object")]
    Metadata {
        path: PathBuf,
        key: &'static str,
        #[source]
        source: serde_json::Error,
    },

    #[error("`{path}`: `{field}` should be {expected}, found {found}")]
    ConfigField {
        path: PathBuf,
        field: String,
        expected: &'static str,
        found: String,
    },

    #[error(
        "`{path}` is a {found} adapter; supported are peft_type LORA (with rsLoRA, DoRA, rank and alpha patterns, and the mixer of MoSLoRA) and VERA"
    )]
    UnsupportedMethod { path: PathBuf, found: String },

    #[error("`{path}` sets `{option}` to {found}: {consequence}")]
    UnsupportedOption {
        path: PathBuf,
        option: String,
        found: String,
        consequence: &'static str,
    },

    #[error(
        "`{pattern}` is not a regular expression that Python's `re` and Eigenmix both understand"
    )]
    Pattern {
        pattern: String,
        #[source]
        source: Box<fancy_regex::Error>,
    },

    #[error(
        "`{path}`: tensor `{tensor}` belongs to {method}, which is not supported; only LoRA is in this dialect"
    )]
    UnsupportedTensor {
        path: PathBuf,
        tensor: String,
        method: &'static str,
    },

    #[error(
        "`{directory}` has several .safetensors files ({found}) and none of the usual name; name the file that is meant"
    )]
    SeveralFiles { directory: PathBuf, found: String },

    #[error(
        "`{0}` is one shard of an adapter, of which the others hold the rest; name the directory, which must have all shards and their index adapter_model.safetensors.index.json"
    )]
    Shard(PathBuf),

    #[error(
        "`{path}`: {problem}; the index of the shards is damaged or not theirs, download the adapter again"
    )]
    ShardIndex { path: PathBuf, problem: String },

    #[error("`{path}`: `{tensor}` should hold {expected}, found {found}")]
    TensorValue {
        path: PathBuf,
        tensor: String,
        expected: &'static str,
        found: f32,
    },

    #[error(
        "`{path}`: `{first}` and `{second}` are both read as module `{module}`; which of them is meant cannot be told"
    )]
    SameModule {
        path: PathBuf,
        first: String,
        second: String,
        module: String,
    },

    #[error(
        "module `{module}` cannot be written in the dialect of {dialect}: {problem}; choose another --format"
    )]
    NotConvertible {
        module: String,
        dialect: Dialect,
        problem: String,
    },

    #[error(
        "adapter `{path}` is a file of {dialect}, whose modules are those of an image generator's parts, such as `{module}`; expected are the modules of one language or vision model, as PEFT names them"
    )]
    NotOfOneModel {
        path: String,
        dialect: Dialect,
        module: String,
    },

    #[error(
        "`{path}`: module `{module}` has no {missing}; the file is incomplete, download or export it again"
    )]
    IncompleteModule {
        path: PathBuf,
        module: String,
        missing: &'static str,
    },

    #[error(
        "`{path}`: `{first}` and `{second}` are the same tensor under two names, of two adapters or of two wrappers; export one adapter a file"
    )]
    DuplicateTensor {
        path: PathBuf,
        first: String,
        second: String,
    },

    #[error(
        "`{path}`: `{first}` and `{second}` are copies of one tensor, of which PEFT reads the first, but they differ; save the adapter again, or remove the one that is out of date"
    )]
    UnequalCopies {
        path: PathBuf,
        first: String,
        second: String,
    },

    #[error(
        "`{path}`: tensor `{tensor}` is empty (shape {found:?}): DeepSpeed's ZeRO-3 and FSDP spread the numbers over processes, and this was saved without gathering them. Gather them and save the adapter again (zero3_save_16bit_model, zero_to_fp32.py, or a full state dict of FSDP)"
    )]
    EmptyTensor {
        path: PathBuf,
        tensor: String,
        found: Vec<usize>,
    },

    #[error(
        "`{path}`: module `{module}` has rank {found}, but its configuration says {expected} (r and rank_pattern); do the two belong together?"
    )]
    RankMismatch {
        path: PathBuf,
        module: String,
        expected: usize,
        found: usize,
    },

    #[error("`{path}` holds no LoRA factors that can be used here: {found}")]
    NoModules { path: PathBuf, found: String },

    #[error("adapter `{path}` has no module `{module}`; its first one is `{first}`")]
    NoSuchModule {
        path: PathBuf,
        module: String,
        first: String,
    },

    #[error("adapter `{path}` has parts that would be left out, here or by PEFT: {found}")]
    Unclean { path: PathBuf, found: String },

    #[error("`{path}`: labels must be numbered 0 to {last} without a gap, but {problem}")]
    Labels {
        path: PathBuf,
        last: usize,
        problem: String,
    },

    #[error("`{path}`: {source}", path = .path.display())]
    Prompts {
        path: PathBuf,
        #[source]
        source: PromptError,
    },

    #[error(
        "`{path}` names a file, but an adapter of {dialect} is a directory; leave out .safetensors, or choose --format kohya or diffusers"
    )]
    NotOneFile { path: PathBuf, dialect: Dialect },

    #[error(transparent)]
    Gguf(eigenmix_gguf::GgufError),

    #[error("`{path}` is a GGUF file, but no LoRA adapter: {problem}")]
    GgufKind { path: PathBuf, problem: String },

    #[error(
        "`{path}` is an adapter of `{found}` models (`general.architecture`); adapters in GGUF are read for llama (LLaMA, Mistral and what is built like them), qwen2, qwen3 and gemma2"
    )]
    GgufArchitecture { path: PathBuf, found: String },

    #[error("`{path}`: tensor `{tensor}` cannot be decoded")]
    GgufFactor {
        path: PathBuf,
        tensor: String,
        #[source]
        source: eigenmix_quant::QuantError,
    },

    #[error(
        "adapter `{path}`: the rows of `{module}` lie in llama.cpp's order, which only the numbers of heads of its base model undo, and {reason}. Name it with --base MODEL (a directory, a .gguf file or a Hub id) where a command has that flag, or bring the adapter into PEFT's form once: `eigenmix export {path} --format peft --base MODEL --out DIR`"
    )]
    RowOrder {
        path: String,
        module: String,
        /// Why the base model is not known.
        reason: String,
    },

    #[error(
        "`{id}` has an adapter in each of several files, {files}; name one of them: `{example}`"
    )]
    SeveralInRepository {
        id: String,
        files: String,
        example: String,
    },

    #[error("adapter `{path}` does not go with its base model: {problem}")]
    OtherBase { path: String, problem: String },

    #[error(
        "an adapter in GGUF is written in the names and the order of its base model, which is not known; name it with `eigenmix export ADAPTER --format gguf --base MODEL`"
    )]
    NoGgufBase,

    #[error("an adapter cannot be saved: {problem}")]
    NotExportable { problem: String },
}
