//! Every shipped configuration: it is understood, and a published setting trains as many numbers as its
//! paper says.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Workplace, quickstart};
use serde_json::{Value, json};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

/// Every TOML file below a directory.
fn files(folder: PathBuf) -> Vec<PathBuf> {
    let mut pending = vec![folder];
    let mut found = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|name| name == "toml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_shipped_configuration_is_understood() {
    let found = files(configs());
    assert!(found.len() >= 8, "{found:?}");
    let place = Workplace::new();
    for path in found {
        let outcome = place.run(&["run", path.to_str().expect("UTF-8"), "--dry-run", "--json"]);
        assert_eq!(outcome.status, 0, "{}: {outcome:?}", path.display());
    }
}

/// The sizes of RoBERTa-base.
fn roberta_base() -> Value {
    json!({
        "architectures": ["RobertaForMaskedLM"], "model_type": "roberta", "vocab_size": 50265,
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "max_position_embeddings": 514, "type_vocab_size": 1,
        "layer_norm_eps": 1e-5, "hidden_act": "gelu", "pad_token_id": 1
    })
}

/// The sizes of Llama-3-8B.
fn llama_3_8b() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256,
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu",
        "tie_word_embeddings": false, "torch_dtype": "bfloat16"
    })
}

/// The sizes of CLIP ViT-B/32's image tower, in a configuration of the whole.
fn clip_vit_b_32() -> Value {
    json!({
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 512,
        "vision_config": {
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "image_size": 224, "patch_size": 32,
            "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5
        }
    })
}

/// The sizes of LLaVA with LLaMA-3-8B and CLIP ViT-L/14 at 336 pixels.
fn llava_llama_3_8b() -> Value {
    json!({
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava",
        "image_token_index": 128_256, "vision_feature_layer": -2, "tie_word_embeddings": false,
        "text_config": llama_3_8b(),
        "vision_config": {
            "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
            "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "patch_size": 14
        }
    })
}

/// As published: the UNet of SDXL base 1.0.
const SDXL_UNET_PARAMETERS: u64 = 2_567_463_684;

/// The sizes of SDXL base 1.0: each part's directory and its configuration.
fn sdxl() -> [(&'static str, Value); 5] {
    let text = |width: usize, inner: usize, layers: usize, heads: usize, class: &str| {
        json!({
            "architectures": [class], "model_type": "clip_text_model", "vocab_size": 49408,
            "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers,
            "num_attention_heads": heads, "max_position_embeddings": 77, "projection_dim": width,
            "hidden_act": if width == 768 { "quick_gelu" } else { "gelu" }, "layer_norm_eps": 1e-5,
            "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1
        })
    };
    let unet = json!({
        "_class_name": "UNet2DConditionModel", "in_channels": 4, "out_channels": 4, "sample_size": 128,
        "block_out_channels": [320, 640, 1280], "layers_per_block": 2, "norm_num_groups": 32,
        "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048,
        "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": true,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816
    });
    let vae = json!({
        "_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": 4,
        "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "norm_num_groups": 32,
        "down_block_types": vec!["DownEncoderBlock2D"; 4], "up_block_types": vec!["UpDecoderBlock2D"; 4],
        "sample_size": 1024, "scaling_factor": 0.13025
    });
    [
        ("unet", unet),
        ("vae", vae),
        ("text_encoder", text(768, 3072, 12, 12, "CLIPTextModel")),
        (
            "text_encoder_2",
            text(1280, 5120, 32, 20, "CLIPTextModelWithProjection"),
        ),
        (
            "scheduler",
            json!({
                "_class_name": "EulerDiscreteScheduler", "beta_start": 0.00085, "beta_end": 0.012,
                "beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "steps_offset": 1,
                "prediction_type": "epsilon", "timestep_spacing": "leading"
            }),
        ),
    ]
}

/// A published setting of SDXL, dry-run on a directory that holds nothing but its sizes.
fn dry_run_of_sdxl(name: &str, changes: &[&str]) -> Value {
    let place = Workplace::new();
    for (part, config) in sdxl() {
        let directory = place.path(&format!("model/{part}"));
        fs::create_dir_all(&directory).expect("a directory");
        let file = match part {
            "scheduler" => "scheduler_config.json",
            _ => "config.json",
        };
        fs::write(directory.join(file), config.to_string()).expect("a file");
    }
    let index =
        json!({"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": true});
    fs::write(place.path("model/model_index.json"), index.to_string()).expect("a file");
    dry_run_in(&place, name, changes)
}

/// A published setting, dry-run on a directory that holds nothing but a model's sizes; neither the
/// data nor the adapters it names are there.
fn dry_run(name: &str, model: &Value, changes: &[&str]) -> Value {
    let place = Workplace::new();
    fs::create_dir(place.path("model")).expect("a directory");
    fs::write(place.path("model/config.json"), model.to_string()).expect("a file");
    dry_run_in(&place, name, changes)
}

/// A published setting, dry-run with the model in `model`.
fn dry_run_in(place: &Workplace, name: &str, changes: &[&str]) -> Value {
    let path = configs().join("published").join(name);
    let mut arguments = vec!["train", path.to_str().expect("UTF-8"), "--dry-run"];
    arguments.extend(["--set", "base.model=model"]);
    arguments.extend(changes.iter().flat_map(|change| ["--set", change]));
    place.run_json(&arguments)
}

#[test]
fn a_dry_run_does_not_take_a_directory_that_lost_a_shard_for_one_without_weights() {
    let place = Workplace::new();
    fs::create_dir(place.path("model")).expect("a directory");
    let config = fs::read(Path::new(&quickstart("base")).join("config.json")).expect("a file");
    fs::write(place.path("model/config.json"), config).expect("a file");
    let training = format!(
        "output = \"run\"\n[base]\nmodel = \"model\"\n[data]\npath = {:?}\nmax_length = 24\n[adapter]\n\
         method = \"lora\"\nrank = 2\n[training]\nepochs = 1\nbatch_size = 4\nlearning_rate = 1e-3\n",
        quickstart("tasks/gym")
    );
    fs::write(place.path("training.toml"), training).expect("a file");
    let dry_run = ["train", "training.toml", "--dry-run"];
    place.run_json(&dry_run);
    let lost = "model-00001-of-00002.safetensors";
    let index = json!({"metadata": {}, "weight_map": {"embeddings.weight": lost}});
    let path = place.path("model/model.safetensors.index.json");
    fs::write(path, index.to_string()).expect("a file");
    let refused = place.run_refused(&dry_run);
    assert!(refused.contains(lost), "{refused}");
}

#[test]
fn every_published_setting_is_dry_run_here() {
    let names: Vec<String> = files(configs().join("published"))
        .iter()
        .map(|path| {
            path.file_name()
                .expect("a file")
                .to_str()
                .expect("UTF-8")
                .to_owned()
        })
        .collect();
    let expected = [
        "eigenlorax-glue-mrpc.toml",
        "eigenlorax-low-resource.toml",
        "eigenlorax-sdxl.toml",
        "knots-nli.toml",
        "knots-vision.toml",
        "moslora-commonsense.toml",
        "moslora-dreambooth-sdxl.toml",
        "moslora-llava.toml",
    ];
    assert_eq!(names, expected);
}

/// 2 · K · r = 2 · 32 · 8 numbers for each of query and value in 12 layers: 12 288, which is the 12 K
/// that the paper states.
#[test]
fn eigenlorax_trains_12_k_parameters_of_roberta() {
    let found = dry_run("eigenlorax-glue-mrpc.toml", &roberta_base(), &[]);
    assert_eq!(found["adapter_parameters"], 12_288);
    assert_eq!(found["adapted_modules"], 24);
    // RoBERTa's head: a square layer and an output for each of two labels.
    assert_eq!(found["head_parameters"], 768 * 768 + 768 + 2 * 768 + 2);
    // The LoRA that it is compared with has rank 32: 1.2 M numbers.
    let changes = ["adapter={method=\"lora\", rank=32, target_modules=[\"query\", \"value\"]}"];
    let found = dry_run("eigenlorax-glue-mrpc.toml", &roberta_base(), &changes);
    assert_eq!(found["adapter_parameters"], 1_179_648);
}

/// With the random directions there are as many columns as components and augmentation together.
#[test]
fn augmentation_is_trained_on_too() {
    let found = dry_run("eigenlorax-low-resource.toml", &roberta_base(), &[]);
    assert_eq!(found["adapter_parameters"], 24 * 2 * (32 + 32) * 8);
}

#[test]
fn moslora_trains_as_many_numbers_of_llama_as_its_paper_says() {
    let name = "moslora-commonsense.toml";
    let found = dry_run(name, &llama_3_8b(), &[]);
    assert_eq!(found["adapter_parameters"], 28_352_512);
    assert_eq!(found["head_parameters"], 0);
    // 8 030 261 248 numbers are what its authors publish as 8B.
    assert_eq!(found["frozen_parameters"], 8_030_261_248_u64);
    assert_eq!(found["weights"], 4 * 8_030_261_248_u64);
    // Weights that stay in the checkpoint's half precision take half of that.
    let changes = ["base.weights=\"stored\"", "adapter.method=\"lora\""];
    let found = dry_run(name, &llama_3_8b(), &changes);
    assert_eq!(found["weights"], 2 * 8_030_261_248_u64);
    assert_eq!(found["adapter_parameters"], 28_311_552);
}

/// r · (d_in + d_out) + r² over the seven layers of each block of the decoder and the six of each block of
/// the tower below its features, of which the uppermost is not computed.
#[test]
fn moslora_trains_decoder_tower_and_projector_of_llava() {
    let name = "moslora-llava.toml";
    let found = dry_run(name, &llava_llama_3_8b(), &[]);
    let widths = 2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336);
    let decoder = 32 * (64 * widths + 7 * 64 * 64);
    let of_tower = |rank: usize, mixers: usize| {
        23 * (rank * (4 * (1024 + 1024) + 2 * (1024 + 4096)) + mixers * rank * rank)
    };
    assert_eq!(found["adapter_parameters"], decoder + of_tower(64, 6));
    assert_eq!(found["adapted_modules"], 32 * 7 + 23 * 6);
    assert_eq!(
        found["head_parameters"],
        1024 * 4096 + 4096 + 4096 * 4096 + 4096
    );
    // The other published setting has no mixer in the tower, and there another rank than in the decoder.
    let changes = ["adapter.vision={method=\"lora\", rank=16}"];
    let found = dry_run(name, &llava_llama_3_8b(), &changes);
    assert_eq!(found["adapter_parameters"], decoder + of_tower(16, 0));
}

/// The attention projections of SDXL's UNet: 10 transformer blocks of width 640 and 60 of 1280, whose second
/// attention reads texts of width 2048.
#[test]
fn moslora_trains_queries_keys_values_and_outputs_of_sdxl() {
    let name = "moslora-dreambooth-sdxl.toml";
    let of_block = |width: usize| 4 * (6 * 2 * width + 2 * (width + 2048));
    let lora = 10 * of_block(640) + 60 * of_block(1280);
    let found = dry_run_of_sdxl(name, &[]);
    assert_eq!(found["adapted_modules"], 70 * 8);
    assert_eq!(found["frozen_parameters"], SDXL_UNET_PARAMETERS);
    // A mixer of 4 × 4 in each.
    assert_eq!(found["adapter_parameters"], lora + 70 * 8 * 16);
    let found = dry_run_of_sdxl(name, &["adapter={method=\"lora\", rank=4}"]);
    assert_eq!(found["adapter_parameters"], lora);
}

/// 2 · K · r in each of 560 layers.
#[test]
fn eigenlorax_trains_coefficients_of_sdxl() {
    let found = dry_run_of_sdxl("eigenlorax-sdxl.toml", &[]);
    assert_eq!(found["adapted_modules"], 70 * 8);
    assert_eq!(found["frozen_parameters"], SDXL_UNET_PARAMETERS);
    assert_eq!(found["adapter_parameters"], 70 * 8 * 2 * 32 * 8);
}

/// r · (d_in + d_out) over queries, keys, values and outputs; keys and values are a quarter as wide.
#[test]
fn knots_adapters_of_llama_have_a_head_of_three_labels() {
    let found = dry_run("knots-nli.toml", &llama_3_8b(), &[]);
    let of_layer = 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024));
    assert_eq!(found["adapter_parameters"], 32 * of_layer);
    assert_eq!(found["adapted_modules"], 32 * 4);
    assert_eq!(found["labels"], Value::Null, "no data are available");
}

#[test]
fn knots_adapters_of_clip_are_on_the_image_tower() {
    let found = dry_run("knots-vision.toml", &clip_vit_b_32(), &[]);
    assert_eq!(found["adapter_parameters"], 12 * 4 * 16 * (768 + 768));
    assert_eq!(found["adapted_modules"], 12 * 4);
    // Prompts take the place of a trained head.
    assert_eq!(found["head_parameters"], 0);
    // 49 patches and the class token of 64 images.
    assert_eq!(found["rows"], 64 * 50);
}

#[test]
fn a_dry_run_refuses_texts_longer_than_the_model_takes() {
    let place = Workplace::new();
    fs::create_dir(place.path("model")).expect("a directory");
    let config = roberta_base().to_string();
    fs::write(place.path("model/config.json"), config).expect("a file");
    let path = configs().join("published/eigenlorax-glue-mrpc.toml");
    let path = path.to_str().expect("UTF-8");
    let outcome = place.run(&[
        "train",
        path,
        "--dry-run",
        "--set",
        "base.model=model",
        "--set",
        "data.max_length=513",
    ]);
    assert_eq!(outcome.status, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("513"), "{outcome:?}");
    assert!(outcome.stderr.contains("512"), "{outcome:?}");
}
