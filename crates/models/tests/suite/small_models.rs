//! A tiny model of every kind, with random weights.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, bf16};
use eigenmix_models::{
    Adaptation, Architecture, Checkpoint, HeadKind, LoadOptions, Loaded, Network, Precision, Train,
};
use eigenmix_moslora::{Update, lora};
use eigenmix_tensors::{Dtype, Matrix, TensorOutput, write_tensor_file};
use serde_json::{Value, json};

/// LLaMA's sizes; what the families differ in comes on top.
fn llama(changes: Value) -> Value {
    let mut config = json!({
        "model_type": "llama", "vocab_size": 37, "hidden_size": 16, "intermediate_size": 20,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "hidden_act": "silu",
        "rope_theta": 10000.0,
    });
    for (key, value) in changes.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

/// Every decoder family.
pub fn decoders() -> Vec<(&'static str, Value)> {
    vec![
        ("llama", llama(json!({}))),
        (
            "mistral",
            llama(json!({"model_type": "mistral", "sliding_window": 4})),
        ),
        (
            "qwen2",
            llama(json!({"model_type": "qwen2", "tie_word_embeddings": true})),
        ),
        (
            "qwen3",
            llama(json!({"model_type": "qwen3", "head_dim": 6})),
        ),
        (
            "gemma2",
            llama(
                json!({"model_type": "gemma2", "head_dim": 4, "sliding_window": 5,
                "query_pre_attn_scalar": 4, "attn_logit_softcapping": 50.0,
                "final_logit_softcapping": 30.0, "hidden_activation": "gelu_pytorch_tanh"}),
            ),
        ),
        (
            "gpt2",
            json!({"model_type": "gpt2", "vocab_size": 37, "n_embd": 16, "n_layer": 3, "n_head": 4,
                "n_positions": 64, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"}),
        ),
    ]
}

pub fn encoder() -> Value {
    json!({"model_type": "bert", "vocab_size": 37, "hidden_size": 16, "intermediate_size": 20,
        "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"})
}

pub fn vision() -> Value {
    json!({"model_type": "vit", "hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 3,
        "num_attention_heads": 4, "image_size": 8, "patch_size": 4})
}

/// The model that `config` describes, with random weights that are all trained.
pub fn from_scratch(config: &Value, head: HeadKind, device: &Device) -> Loaded {
    let directory = tempfile::tempdir().expect("a directory");
    let checkpoint = write_config(config, directory.path());
    place(
        &checkpoint,
        head,
        &Adaptation::default(),
        Train::Everything,
        device,
    )
}

/// The same, its weights frozen, with trained updates on all linear layers but those of the lowest
/// block, and a trained head.
pub fn adapted(config: &Value, head: HeadKind, device: &Device) -> Loaded {
    adapted_in(config, head, Dtype::F32, Precision::Auto, device)
}

/// The same from a checkpoint whose tensors are stored as `stored`: f32 or bf16.
pub fn adapted_in(
    config: &Value,
    head: HeadKind,
    stored: Dtype,
    precision: Precision,
    device: &Device,
) -> Loaded {
    updated(config, head, stored, precision, device, &lora_update)
}

/// A LoRA update of a layer `[d_out, d_in]`, the `number`th of its model.
pub fn lora_update(path: &str, number: usize, [d_out, d_in]: [usize; 2]) -> Update {
    let mut update = lora(path, 5, [d_out, d_in], 2, 0.7, 0.0);
    let value = |row: usize, col: usize| ((row * 3 + col + number) as f32).sin() * 0.3;
    update.left.matrix = Matrix::from_fn(d_out, 2, value);
    update
}

/// The same with updates of any kind.
///
/// - update: of a layer's path, which one it is, and its shape
pub fn updated(
    config: &Value,
    head: HeadKind,
    stored: Dtype,
    precision: Precision,
    device: &Device,
    update: &dyn Fn(&str, usize, [usize; 2]) -> Update,
) -> Loaded {
    let directory = tempfile::tempdir().expect("a directory");
    let random = write_config(config, directory.path());
    let loaded = place(
        &random,
        head,
        &Adaptation::default(),
        Train::Everything,
        device,
    );
    let description = architecture(&random).describe(head).expect("its head");
    let tensors = loaded.names.values_of(&loaded.model).into_iter();
    let values: Vec<_> = tensors
        .map(|(name, value)| {
            let layer = name.strip_suffix(".weight");
            let layer = layer.and_then(|path| description.layer(path));
            let value = match layer {
                Some(layer) if layer.transposed => value.transposed(),
                _ => value,
            };
            (name, value)
        })
        .collect();
    let values: Vec<_> = values
        .into_iter()
        .map(|(name, value)| {
            let bytes: Vec<u8> = match stored {
                Dtype::BF16 => value
                    .values
                    .iter()
                    .flat_map(|&number| bf16::from_f32(number).to_le_bytes())
                    .collect(),
                _ => value
                    .values
                    .iter()
                    .flat_map(|number| number.to_le_bytes())
                    .collect(),
            };
            (name, value.shape, bytes)
        })
        .collect();
    let tensors = values
        .iter()
        .map(|(name, shape, bytes)| TensorOutput::bytes(name, shape.clone(), stored, bytes));
    let weights = directory.path().join("model.safetensors");
    write_tensor_file(&weights, tensors.collect()).expect("a file");
    let layers = description.layers.iter().filter(|layer| {
        let block = layer.path.split('.').find_map(|part| part.parse().ok());
        block.is_some_and(|block: usize| block > 0)
    });
    let mut adaptation = Adaptation::default();
    for (number, layer) in layers.enumerate() {
        let update = update(&layer.path, number, [layer.d_out, layer.d_in]);
        adaptation.updates.insert(layer.path.clone(), update);
    }
    let mut checkpoint = Checkpoint::open(directory.path()).expect("a checkpoint");
    checkpoint.set_precision(precision);
    place(&checkpoint, head, &adaptation, Train::Head, device)
}

fn write_config(config: &Value, directory: &Path) -> Checkpoint {
    fs::write(directory.join("config.json"), config.to_string()).expect("a file");
    Checkpoint::open_config(directory).expect("a checkpoint")
}

fn architecture(checkpoint: &Checkpoint) -> Architecture {
    Architecture::from_json(checkpoint.config(), checkpoint.path()).expect("supported")
}

fn place(
    checkpoint: &Checkpoint,
    head: HeadKind,
    adaptation: &Adaptation,
    train: Train,
    device: &Device,
) -> Loaded {
    let options = LoadOptions {
        head,
        adaptation,
        train,
        dropout: 0.0,
        seed: 3,
    };
    Network::load(checkpoint, &architecture(checkpoint), &options, device).expect("a model")
}
