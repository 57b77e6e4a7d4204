//! The valid adapters that are changed: one of every dialect and variant.

use std::path::{Path, PathBuf};

use eigenmix_tensors::{TensorOutput, write_tensor_file};
use serde_json::json;

/// The files of an adapter.
#[derive(Clone, Debug)]
pub struct Specimen {
    pub tensors: Vec<u8>,
    pub config: Option<Vec<u8>>,
    pub rest: Option<Rest>,
}

/// What there is beside the first shard of an adapter in two.
#[derive(Clone, Debug)]
pub struct Rest {
    pub index: Vec<u8>,
    pub second: Vec<u8>,
}

pub const SHARDS: [&str; 2] = [
    "adapter_model-00001-of-00002.safetensors",
    "adapter_model-00002-of-00002.safetensors",
];

pub fn specimens() -> Vec<Specimen> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/dialects");
    let read = |name: &str| std::fs::read(golden.join(name)).expect("a golden file");
    let mut specimens: Vec<Specimen> = [
        "kohya.safetensors",
        "kohya_integers.safetensors",
        "locon.safetensors",
        "diffusers.safetensors",
        "diffusers_old.safetensors",
    ]
    .into_iter()
    .map(|name| Specimen {
        tensors: read(name),
        config: None,
        rest: None,
    })
    .collect();
    for [tensors, config] in [
        ["mlx/adapters.safetensors", "mlx/adapter_config.json"],
        [
            "peft_layers/adapter_model.safetensors",
            "peft_layers/adapter_config.json",
        ],
    ] {
        specimens.push(Specimen {
            tensors: read(tensors),
            config: Some(read(config)),
            rest: None,
        });
    }
    specimens.push(peft_variants());
    specimens.push(vera());
    specimens.push(saved_tables());
    specimens.push(wrapped_names());
    specimens.push(sharded());
    specimens
}

/// A file of these tensors, all of small numbers.
fn tensor_file(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let path: PathBuf = directory.path().join("tensors.safetensors");
    let values: Vec<Vec<f32>> = tensors
        .iter()
        .map(|(_, shape)| {
            (0..shape.iter().product())
                .map(|index: usize| index as f32)
                .collect()
        })
        .collect();
    let outputs = tensors
        .iter()
        .zip(&values)
        .map(|((name, shape), values)| TensorOutput::f32(*name, *shape, values))
        .collect();
    write_tensor_file(&path, outputs).expect("a file");
    std::fs::read(path).expect("the file")
}

/// PEFT with patterns, a mixer, magnitudes, a head and a trained bias.
fn peft_variants() -> Specimen {
    let tensors = tensor_file(&[
        ("base_model.model.layer.0.query.lora_A.weight", &[2, 3]),
        ("base_model.model.layer.0.query.lora_B.weight", &[4, 2]),
        ("base_model.model.layer.0.query.lora_AB.weight", &[2, 2]),
        ("base_model.model.layer.0.query.lora_magnitude_vector", &[4]),
        ("base_model.model.layer.1.key.lora_A.weight", &[3, 5]),
        ("base_model.model.layer.1.key.lora_B.weight", &[4, 3]),
        ("base_model.model.layer.1.key.lora_AB.weight", &[3, 3]),
        ("base_model.model.layer.1.key.lora_magnitude_vector", &[4]),
        ("base_model.model.layer.0.query.base_layer.bias", &[4]),
        ("base_model.model.classifier.weight", &[2, 3]),
    ]);
    let config = json!({
        "peft_type": "LORA",
        "base_model_name_or_path": "org/base",
        "r": 2,
        "lora_alpha": 6,
        "target_modules": "(?!.*vision).*\\.(query|key)",
        "exclude_modules": ["layer.7.query"],
        "rank_pattern": {"layer\\.1\\.key": 3},
        "alpha_pattern": {"key": 2.5},
        "modules_to_save": ["classifier"],
        "bias": "all",
        "use_dora": true,
        "use_rslora": true,
        "lora_use_mixer": true,
        "layers_to_transform": null,
        "layers_pattern": null,
    });
    Specimen {
        tensors,
        config: Some(config.to_string().into_bytes()),
        rest: None,
    }
}

fn vera() -> Specimen {
    let tensors = tensor_file(&[
        ("base_model.vera_A", &[3, 5]),
        ("base_model.vera_B", &[4, 3]),
        ("base_model.model.layer.0.query.vera_lambda_b", &[4]),
        ("base_model.model.layer.0.query.vera_lambda_d", &[3]),
        ("base_model.model.layer.1.query.vera_lambda_b", &[2]),
        ("base_model.model.layer.1.query.vera_lambda_d", &[3]),
    ]);
    let config = json!({
        "peft_type": "VERA",
        "r": 3,
        "target_modules": ["query"],
        "save_projection": true,
    });
    Specimen {
        tensors,
        config: Some(config.to_string().into_bytes()),
        rest: None,
    }
}

/// A resized table in its three copies, an adapted one with what is below it, and single rows of a third.
fn saved_tables() -> Specimen {
    let tensors = tensor_file(&[
        ("base_model.model.layer.0.query.lora_A.weight", &[2, 3]),
        ("base_model.model.layer.0.query.lora_B.weight", &[4, 2]),
        ("base_model.model.head.modules_to_save.weight", &[5, 2]),
        ("base_model.model.head.weight", &[5, 2]),
        ("base_model.model.head.original_module.weight", &[5, 2]),
        ("base_model.model.embed_tokens.lora_embedding_A", &[2, 5]),
        ("base_model.model.embed_tokens.lora_embedding_B", &[3, 2]),
        ("base_model.model.embed_tokens.base_layer.weight", &[5, 3]),
        (
            "base_model.model.words.token_adapter.trainable_tokens_delta",
            &[2, 3],
        ),
        (
            "base_model.model.words.token_adapter.base_layer.weight",
            &[5, 3],
        ),
    ]);
    let config = json!({
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 6,
        "target_modules": ["query", "embed_tokens"],
        "modules_to_save": ["head"],
        "trainable_token_indices": {"words": [4, 0]},
    });
    Specimen {
        tensors,
        config: Some(config.to_string().into_bytes()),
        rest: None,
    }
}

/// Names with what torch.compile, DDP, FSDP and PEFT around PEFT put into them.
fn wrapped_names() -> Specimen {
    let tensors = tensor_file(&[
        (
            "_orig_mod.base_model.model.layer.0.query.lora_A.weight",
            &[2, 3],
        ),
        (
            "_orig_mod.base_model.model.layer.0.query.lora_B.weight",
            &[4, 2],
        ),
        (
            "module.base_model.model.base_model.model.layer.1._fsdp_wrapped_module.query.lora_A.weight",
            &[2, 3],
        ),
        (
            "module.base_model.model.base_model.model.layer.1._fsdp_wrapped_module.query.lora_B.weight",
            &[4, 2],
        ),
    ]);
    let config = json!({
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 6,
        "target_modules": ["_orig_mod.layer.0.query", "query"],
        "alpha_pattern": {"_orig_mod.layer.0.query": 4},
    });
    Specimen {
        tensors,
        config: Some(config.to_string().into_bytes()),
        rest: None,
    }
}

/// A factor in each shard.
fn sharded() -> Specimen {
    let names = ["lora_A", "lora_B"]
        .map(|factor| format!("base_model.model.layer.0.query.{factor}.weight"));
    let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["query"]});
    let [first, second] = &names;
    let map = json!({first: SHARDS[0], second: SHARDS[1]});
    let index = json!({"metadata": {"total_size": 56}, "weight_map": map});
    Specimen {
        tensors: tensor_file(&[(first, &[2, 3])]),
        config: Some(config.to_string().into_bytes()),
        rest: Some(Rest {
            index: index.to_string().into_bytes(),
            second: tensor_file(&[(second, &[4, 2])]),
        }),
    }
}
