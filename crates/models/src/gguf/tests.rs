use std::path::{Path, PathBuf};

use eigenmix_gguf::{GgufArray, GgufFile, GgufOutput, GgufValue, write_gguf};
use eigenmix_quant::Encoding;
use serde_json::{Value, json};

use super::{GgufConfig, GgufFamily, GgufNames, gguf_row_order};
use crate::{Architecture, HeadKind, ModelError};

fn golden(name: &str) -> GgufFile {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/gguf");
    GgufFile::open(&directory.join(name)).unwrap()
}

fn architecture(json: &Value) -> Architecture {
    Architecture::from_json(json, Path::new("config.json")).unwrap()
}

/// A file of a family whose heads have 6 values, with two layers of zeros.
struct Written {
    family: GgufFamily,
    metadata: Vec<(String, GgufValue)>,
    tensors: Vec<(String, Vec<usize>)>,
}

impl Written {
    fn new(family: GgufFamily) -> Self {
        let name = family.name();
        let mut metadata = vec![("general.architecture".to_owned(), name.into())];
        for (key, value) in [
            ("context_length", 64),
            ("embedding_length", 24),
            ("block_count", 2),
            ("feed_forward_length", 40),
            ("attention.head_count", 4),
            ("attention.head_count_kv", 2),
        ] {
            metadata.push((format!("{name}.{key}"), GgufValue::U32(value)));
        }
        let epsilon = format!("{name}.attention.layer_norm_rms_epsilon");
        metadata.push((epsilon, 1e-6f32.into()));
        let mut written = Self {
            family,
            metadata,
            tensors: Vec::new(),
        };
        written.put("token_embd.weight", &[50, 24]);
        written.put("output_norm.weight", &[24]);
        for layer in 0..2 {
            let mut put = |module: &str, shape: &[usize]| {
                written.put(&format!("blk.{layer}.{module}.weight"), shape);
            };
            put("attn_q", &[24, 24]);
            put("attn_k", &[12, 24]);
            put("attn_v", &[12, 24]);
            put("attn_output", &[24, 24]);
            put("ffn_gate", &[40, 24]);
            put("ffn_up", &[40, 24]);
            put("ffn_down", &[24, 40]);
            for norm in ["attn_norm", "ffn_norm"] {
                put(norm, &[24]);
            }
        }
        written
    }

    fn put(&mut self, name: &str, shape: &[usize]) {
        self.tensors.push((name.to_owned(), shape.to_vec()));
    }

    fn with(mut self, key: &str, value: impl Into<GgufValue>) -> Self {
        let key = format!("{}.{key}", self.family.name());
        self.metadata.retain(|(other, _)| *other != key);
        self.metadata.push((key, value.into()));
        self
    }

    fn with_tensor(mut self, name: &str, shape: &[usize]) -> Self {
        self.put(name, shape);
        self
    }

    fn opened(&self) -> (tempfile::TempDir, GgufFile) {
        let directory = tempfile::tempdir().unwrap();
        let path: PathBuf = directory.path().join("model.gguf");
        let outputs: Vec<_> = self
            .tensors
            .iter()
            .map(|(name, shape)| {
                let bytes = vec![0; 4 * shape.iter().product::<usize>()];
                GgufOutput::new(name, shape.clone(), Encoding::F32, bytes)
            })
            .collect();
        write_gguf(&path, &self.metadata, &outputs).unwrap();
        let file = GgufFile::open(&path).unwrap();
        (directory, file)
    }

    fn config(&self) -> Value {
        GgufConfig::of(&self.opened().1).unwrap().json
    }

    fn error(&self) -> String {
        GgufConfig::of(&self.opened().1).unwrap_err().to_string()
    }
}

/// Every tensor that the architecture needs has a source of its shape, and every source is needed.
fn require_complete(file: &GgufFile) {
    let names = GgufNames::of(file).unwrap();
    let architecture = architecture(&GgufConfig::of(file).unwrap().json);
    let description = architecture.describe(HeadKind::LanguageModel).unwrap();
    let linear = description
        .layers
        .iter()
        .flat_map(crate::LinearLayer::tensors);
    let mut seen = 0;
    for (name, shape) in linear {
        let source = names.source(&name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(file.shape(&source.name).unwrap(), shape, "{name}");
        seen += 1;
    }
    let others: Vec<_> = names
        .sources()
        .filter(|(name, _)| !name.contains("norm") && !name.contains("embed_tokens"))
        .collect();
    assert_eq!(others.len(), seen);
}

#[test]
fn the_configuration_of_a_llama_is_the_one_it_was_saved_with() {
    // llama-hf/config.json, as transformers 5.24 saved the same model.
    let saved = json!({"architectures": ["LlamaForCausalLM"], "attention_bias": false,
        "bos_token_id": 1, "eos_token_id": 2, "head_dim": 16, "hidden_act": "silu",
        "hidden_size": 64, "intermediate_size": 96, "max_position_embeddings": 128,
        "mlp_bias": false, "model_type": "llama", "num_attention_heads": 4,
        "num_hidden_layers": 2, "num_key_value_heads": 2, "pad_token_id": null,
        "rms_norm_eps": 1e-05, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": false, "vocab_size": 345});
    let file = golden("llama-Q4_1.gguf");
    let found = GgufConfig::of(&file).unwrap();
    assert_eq!(architecture(&found.json), architecture(&saved));
    for key in [
        "architectures",
        "bos_token_id",
        "eos_token_id",
        "vocab_size",
        "rms_norm_eps",
    ] {
        assert_eq!(found.json[key], saved[key], "{key}");
    }
    assert!(found.unused.is_empty(), "{:?}", found.unused);
    require_complete(&file);
}

#[test]
fn llama3s_divisors_are_the_scaling_they_were_made_from() {
    // make_gguf.py, of the model that it calls llama3.
    let saved = json!({"model_type": "llama", "head_dim": 16, "hidden_act": "silu",
        "hidden_size": 64, "intermediate_size": 96, "max_position_embeddings": 512,
        "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3",
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}, "tie_word_embeddings": true, "vocab_size": 349});
    let file = golden("llama3-F16.gguf");
    let found = GgufConfig::of(&file).unwrap().json;
    assert_eq!(architecture(&found), architecture(&saved));
    require_complete(&file);
}

#[test]
fn rows_of_queries_and_keys_are_put_back_in_order_in_llamas_alone() {
    let names = GgufNames::of(&golden("llama-Q4_1.gguf")).unwrap();
    let order = |name: &str| {
        let source = names.source(&format!("model.layers.1.self_attn.{name}.weight"));
        source.unwrap().row_order.clone()
    };
    assert_eq!(order("q_proj"), Some(gguf_row_order(64, 4)));
    assert_eq!(order("k_proj"), Some(gguf_row_order(32, 2)));
    assert_eq!(order("v_proj"), None);
    assert_eq!(order("o_proj"), None);

    let (_directory, qwen) = Written::new(GgufFamily::Qwen2).opened();
    let names = GgufNames::of(&qwen).unwrap();
    assert!(
        names
            .sources()
            .all(|(_, source)| source.row_order.is_none() && !source.subtract_one)
    );

    // Biases have the order of their rows.
    let mut biased = Written::new(GgufFamily::Llama);
    for (module, size) in [
        ("attn_q", 24),
        ("attn_k", 12),
        ("attn_v", 12),
        ("attn_output", 24),
    ] {
        for layer in 0..2 {
            biased = biased.with_tensor(&format!("blk.{layer}.{module}.bias"), &[size]);
        }
    }
    let (_directory, file) = biased.opened();
    let names = GgufNames::of(&file).unwrap();
    let bias = names
        .source("model.layers.0.self_attn.k_proj.bias")
        .unwrap();
    assert_eq!(bias.row_order, Some(gguf_row_order(12, 2)));
    assert_eq!(biased.config()["attention_bias"], true);
    require_complete(&file);
}

#[test]
fn qwen2_has_three_biases_and_qwen3_norms_of_heads() {
    let mut written = Written::new(GgufFamily::Qwen2).with_tensor("output.weight", &[50, 24]);
    for layer in 0..2 {
        for (module, size) in [("attn_q", 24), ("attn_k", 12), ("attn_v", 12)] {
            written = written.with_tensor(&format!("blk.{layer}.{module}.bias"), &[size]);
        }
    }
    require_complete(&written.opened().1);
    assert_eq!(written.config()["tie_word_embeddings"], false);
    assert_eq!(written.config().get("attention_bias"), None);

    let mut written = Written::new(GgufFamily::Qwen3)
        .with("attention.key_length", 6u32)
        .with("attention.value_length", 6u32)
        .with("rope.freq_base", 1e6f32);
    for layer in 0..2 {
        for norm in ["attn_q_norm", "attn_k_norm"] {
            written = written.with_tensor(&format!("blk.{layer}.{norm}.weight"), &[6]);
        }
    }
    let (_directory, file) = written.opened();
    require_complete(&file);
    let names = GgufNames::of(&file).unwrap();
    assert!(
        names
            .source("model.layers.1.self_attn.q_norm.weight")
            .is_some()
    );
    assert_eq!(written.config()["rope_theta"], 1e6);
    assert_eq!(written.config()["tie_word_embeddings"], true);
}

fn gemma2() -> Written {
    let mut written = Written::new(GgufFamily::Gemma2)
        .with("attention.key_length", 6u32)
        .with("attention.value_length", 6u32);
    for layer in 0..2 {
        for norm in ["post_attention_norm", "post_ffw_norm"] {
            written = written.with_tensor(&format!("blk.{layer}.{norm}.weight"), &[24]);
        }
    }
    written
}

#[test]
fn gemma2_has_caps_a_window_and_norms_around_one() {
    let written = gemma2()
        .with("attention.sliding_window", 8u32)
        .with("attn_logit_softcapping", 20f32)
        .with("final_logit_softcapping", 12f32);
    let config = written.config();
    for (key, expected) in [
        ("sliding_window", json!(8)),
        ("attn_logit_softcapping", json!(20.0)),
        ("final_logit_softcapping", json!(12.0)),
        ("query_pre_attn_scalar", json!(6)),
        ("hidden_activation", json!("gelu_pytorch_tanh")),
        ("head_dim", json!(6)),
    ] {
        assert_eq!(config[key], expected, "{key}");
    }
    let (_directory, file) = written.opened();
    require_complete(&file);
    let names = GgufNames::of(&file).unwrap();
    for (name, source) in names.sources() {
        assert_eq!(source.subtract_one, name.contains("norm"), "{name}");
        assert_eq!(source.row_order, None);
    }
    let norm = names.source("model.layers.0.pre_feedforward_layernorm.weight");
    assert_eq!(norm.unwrap().name, "blk.0.ffn_norm.weight");
}

#[test]
fn an_older_gemma2_has_the_published_values_and_the_largest_another_scale() {
    let config = gemma2().config();
    assert_eq!(config["sliding_window"], 4096);
    assert_eq!(config["attn_logit_softcapping"], 50.0);
    assert_eq!(config["final_logit_softcapping"], 30.0);
    // 27B: 46 layers, [4608 / 32] for keys of 128.
    let large = gemma2()
        .with("block_count", 46u32)
        .with("embedding_length", 4608u32)
        .with("attention.head_count", 32u32)
        .with("attention.key_length", 128u32)
        .with("attention.value_length", 128u32);
    assert_eq!(large.config()["query_pre_attn_scalar"], 144);
}

#[test]
fn a_llama_with_a_window_is_a_mistral() {
    let llama = Written::new(GgufFamily::Llama);
    assert_eq!(llama.config()["model_type"], "llama");
    let config = llama.with("attention.sliding_window", 32u32).config();
    assert_eq!(config["model_type"], "mistral");
    assert_eq!(config["sliding_window"], 32);
    architecture(&config);
}

#[test]
fn linear_scaling_is_read_in_both_spellings() {
    let llama = || Written::new(GgufFamily::Llama);
    let linear = json!({"rope_type": "linear", "factor": 4.0});
    let newer = llama()
        .with("rope.scaling.type", "linear")
        .with("rope.scaling.factor", 4f32);
    assert_eq!(newer.config()["rope_scaling"], linear);
    let older = llama().with("rope.scale_linear", 4f32);
    assert_eq!(older.config()["rope_scaling"], linear);
    let none = llama()
        .with("rope.scaling.type", "none")
        .with("rope.scaling.factor", 4f32);
    assert_eq!(none.config().get("rope_scaling"), None);
    let error = llama().with("rope.scaling.type", "yarn").error();
    assert!(
        error.contains("`llama.rope.scaling.type` is `yarn`"),
        "{error}"
    );
}

#[test]
fn what_would_make_another_model_is_refused_by_name() {
    let llama = || Written::new(GgufFamily::Llama);
    for (changed, part) in [
        (
            llama().with("expert_count", 8u32),
            "`llama.expert_count` is the integer 8",
        ),
        (
            llama().with("attention.scale", 0.5f32),
            "`llama.attention.scale` is the number 0.5",
        ),
        (
            llama().with("attention.causal", false),
            "`llama.attention.causal` is the Boolean false",
        ),
        (
            llama().with("rope.dimension_count", 4u32),
            "`llama.rope.dimension_count` is 4, but keys have 6",
        ),
        (
            llama().with("attention.value_length", 8u32),
            "`llama.attention.value_length` is 8",
        ),
        (
            llama().with("attention.head_count", GgufArray::I32(vec![4, 2])),
            "models whose layers differ",
        ),
        (
            llama().with("block_count", 0u32),
            "`llama.block_count` is 0",
        ),
        (
            llama().with("attention.head_count", "four"),
            "is the text `four`, expected an integer",
        ),
        (
            llama().with_tensor("blk.0.attn_q.bias", &[24]),
            "only attn_q have biases",
        ),
        (
            Written::new(GgufFamily::Qwen2).with("attention.sliding_window", 8u32),
            "which layers",
        ),
    ] {
        let error = changed.error();
        assert!(error.contains(part), "{error}");
    }
    let neutral = llama()
        .with("expert_count", 0u32)
        .with("attention.causal", true);
    neutral.config();
    let same = llama().with("attention.head_count", GgufArray::I32(vec![4, 4]));
    assert_eq!(same.config()["num_attention_heads"], 4);
    let unknown = llama().with("something.new", 1u32).opened().1;
    assert_eq!(
        GgufConfig::of(&unknown).unwrap().unused,
        ["llama.something.new"]
    );
}

#[test]
fn other_families_and_other_files_are_refused_by_name() {
    let mut phi = Written::new(GgufFamily::Llama);
    phi.metadata[0].1 = "phi3".into();
    let (_directory, file) = phi.opened();
    let error = GgufConfig::of(&file).unwrap_err();
    assert!(
        matches!(&error, ModelError::Architecture { found, .. } if found == "phi3"),
        "{error}"
    );
    let error = GgufConfig::of(&golden("../gguf_adapters/llama-lora-F32.gguf"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("`general.type` is `adapter`"), "{error}");
}

#[test]
fn a_tensor_that_the_family_does_not_have_is_refused() {
    for name in [
        "blk.0.ffn_gate_exps.weight",
        "blk.2.attn_q.weight",
        "blk.1.attn_q.scale",
    ] {
        let (_directory, file) = Written::new(GgufFamily::Llama)
            .with_tensor(name, &[24, 24])
            .opened();
        let error = GgufNames::of(&file).unwrap_err().to_string();
        assert!(
            error.contains(&format!("tensor `{name}` is not of a llama model")),
            "{error}"
        );
    }
    let old = Written::new(GgufFamily::Llama).with_tensor("blk.0.attn_rot_embd.weight", &[3]);
    let names = GgufNames::of(&old.opened().1).unwrap();
    assert_eq!(names.unused(), ["blk.0.attn_rot_embd.weight"]);
}
