use std::collections::BTreeMap;

use eigenmix_models::{Adaptation, Architecture, Checkpoint, HeadKind, LoadOptions, Train};

use eigenmix_moslora::{Factor, Mixer, Update};
use eigenmix_tensors::Matrix;
use serde_json::{Value, json};

use super::*;
use crate::sampling::largest;

/// A GPT-2 of random weights, which has no vector for a position beyond its last, and the device it is
/// on.
fn model() -> (Network, Device) {
    let config = json!({
        "model_type": "gpt2", "vocab_size": 29, "n_embd": 16, "n_layer": 2, "n_head": 4,
        "n_positions": 64, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
    });
    let device = Device::flex();
    (
        of_random_weights(&config, &Adaptation::default(), &device),
        device,
    )
}

fn of_random_weights(config: &Value, adaptation: &Adaptation, device: &Device) -> Network {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let checkpoint = Checkpoint::open_config(directory.path()).unwrap();
    let options = LoadOptions {
        head: HeadKind::LanguageModel,
        adaptation,
        train: Train::Everything,
        dropout: 0.0,
        seed: 1,
    };
    let architecture = Architecture::from_json(config, &path).unwrap();
    let loaded = Network::load(&checkpoint, &architecture, &options, device).unwrap();
    loaded.model
}

/// Every token from the whole text so far, without a cache.
fn without_cache(model: &Network, prompt: &[u32], count: usize, device: &Device) -> Vec<u32> {
    let mut text = prompt.to_vec();
    for _ in 0..count {
        let batch = TokenBatch::continuing(&[text.clone()], &[0]);
        let logits = host_values(model.forward(&batch.into(), device));
        text.push(largest(&logits[logits.len() - 29..]));
    }
    text.split_off(prompt.len())
}

fn go_on(_: GenerationEvent) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn nothing_is_generated_once_nobody_listens() {
    let (model, device) = model();
    let prompts = [vec![3, 5, 8], vec![1], vec![9, 9]].map(|tokens| Prompt {
        tokens,
        max_new_tokens: NonZeroUsize::new(20).unwrap(),
    });
    let options = GenerationOptions {
        sampling: Sampling::Greedy,
        stop: vec![],
        batch_size: NonZeroUsize::new(2).unwrap(),
    };
    let mut heard = 0;
    let (texts, speed) = generate(&model, &prompts, &options, &device, &mut |_| {
        heard += 1;
        match heard {
            5 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    assert_eq!(heard, 5);
    // Two texts at a time, so that the fifth token is the third of the first text.
    let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
    assert_eq!(lengths, [3, 2, 0]);
    assert_eq!(speed.prompt_tokens, 4);
}

#[test]
fn greedy_generation_with_the_cache_writes_the_same_tokens_as_without() {
    let (model, device) = model();
    let prompts = [vec![3, 5, 8], vec![1], vec![9, 9, 4, 6, 20]].map(|tokens| Prompt {
        images: None,
        tokens,
        max_new_tokens: NonZeroUsize::new(20).unwrap(),
    });
    let options = GenerationOptions {
        sampling: Sampling::Greedy,
        stop: vec![],
        batch_size: NonZeroUsize::new(2).unwrap(),
    };
    let (texts, speed) = generate(&model, &prompts, &options, &device, &mut go_on);
    for (prompt, text) in prompts.iter().zip(&texts) {
        assert_eq!(*text, without_cache(&model, &prompt.tokens, 20, &device));
    }
    // The first token of each comes with its prompt.
    assert_eq!((speed.prompt_tokens, speed.new_tokens), (9, 3 * 19));
    // A token that ends a text is not part of it, and the other texts continue.
    let stop = GenerationOptions {
        stop: vec![texts[0][4]],
        ..options
    };
    let mut heard = vec![Vec::new(); 3];
    let mut complete = vec![None; 3];
    let (stopped, _) = generate(&model, &prompts, &stop, &device, &mut |event| {
        match event {
            GenerationEvent::Token { text, token } => heard[text].push(token),
            GenerationEvent::Complete { text, tokens } => complete[text] = Some(tokens.to_vec()),
        }
        ControlFlow::Continue(())
    });
    let complete: Vec<Vec<u32>> = complete.into_iter().flatten().collect();
    assert_eq!(complete, stopped);
    assert_eq!(heard, stopped);
    for (stopped, text) in stopped.iter().zip(&texts) {
        let end = text.iter().position(|&token| token == texts[0][4]);
        assert_eq!(stopped[..], text[..end.unwrap_or(text.len())]);
    }
}

#[test]
fn a_text_ends_at_its_own_limit_and_never_outgrows_the_model() {
    let (model, device) = model();
    // Together as long as the 64 positions of the model, one in its prompt, one in what is added.
    let prompts = [(vec![7; 61], 3), (vec![4, 2], 62)].map(|(tokens, limit)| Prompt {
        images: None,
        tokens,
        max_new_tokens: NonZeroUsize::new(limit).unwrap(),
    });
    let options = GenerationOptions {
        sampling: Sampling::Greedy,
        stop: vec![],
        batch_size: NonZeroUsize::new(2).unwrap(),
    };
    let (texts, _) = generate(&model, &prompts, &options, &device, &mut go_on);
    for (prompt, text) in prompts.iter().zip(&texts) {
        let limit = prompt.max_new_tokens.get();
        assert_eq!(*text, without_cache(&model, &prompt.tokens, limit, &device));
    }
}

/// Decoders of every kind of attention: grouped queries, windows that are shorter than the texts in all
/// layers or in every other one, capped scores, and norms of each head.
fn families() -> [Value; 4] {
    let sizes = json!({
        "vocab_size": 29, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 3,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    });
    let others = [
        json!({ "model_type": "llama", "hidden_act": "silu" }),
        json!({ "model_type": "mistral", "hidden_act": "silu", "sliding_window": 7 }),
        json!({
            "model_type": "gemma2", "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 9,
            "query_pre_attn_scalar": 16, "attn_logit_softcapping": 5.0,
            "final_logit_softcapping": 9.0,
        }),
        json!({ "model_type": "qwen3", "hidden_act": "silu" }),
    ];
    others.map(|other| {
        let mut config = sizes.clone();
        let table = config.as_object_mut().unwrap();
        table.extend(other.as_object().unwrap().clone());
        config
    })
}

/// Updates of a query, a value and a down projection, each with another kind of mixer.
fn adaptation() -> Adaptation {
    let factor = |rows: usize, cols: usize, phase: f32| {
        let value = |index: usize| (index as f32 * 0.9 + phase).sin();
        Factor::frozen(Matrix::new(
            rows,
            cols,
            (0..rows * cols).map(value).collect(),
        ))
    };
    let update = |[d_out, d_in]: [usize; 2], [p, q]: [usize; 2], mixer| Update {
        left: factor(d_out, p, 0.1),
        right: factor(d_in, q, 0.4),
        mixer,
        scaling: 0.7,
        dropout: 0.0,
    };
    let factored = Mixer::Factored {
        left: factor(5, 2, 0.3),
        right: factor(6, 2, 0.8),
    };
    let updates = [
        (
            "0.self_attn.q_proj",
            update([48, 24], [3, 3], Mixer::Identity),
        ),
        (
            "1.self_attn.v_proj",
            update([16, 24], [3, 4], Mixer::Full(factor(3, 4, 0.2))),
        ),
        ("2.mlp.down_proj", update([24, 20], [5, 6], factored)),
    ];
    let updates = updates.map(|(path, update)| (format!("model.layers.{path}"), update));
    Adaptation {
        updates: BTreeMap::from(updates),
        ..Adaptation::default()
    }
}

/// Of unequal lengths, all of which grow beyond the first blocks of a cache.
fn unequal_prompts() -> Vec<Prompt> {
    let lengths = [(3, 40), (1, 5), (33, 40), (2, 70), (50, 1), (5, 33)];
    let prompt = |(index, (length, limit)): (usize, (usize, usize))| Prompt {
        images: None,
        tokens: (0..length)
            .map(|token| ((token * 7 + index * 3) % 29) as u32)
            .collect(),
        max_new_tokens: NonZeroUsize::new(limit).unwrap(),
    };
    lengths.into_iter().enumerate().map(prompt).collect()
}

#[test]
fn every_kind_of_attention_and_adapter_continues_as_without_a_cache() {
    let device = Device::flex();
    let prompts = unequal_prompts();
    let options = GenerationOptions {
        sampling: Sampling::Greedy,
        stop: vec![],
        batch_size: NonZeroUsize::new(4).unwrap(),
    };
    for config in families() {
        let written = [Adaptation::default(), adaptation()].map(|adaptation| {
            let model = of_random_weights(&config, &adaptation, &device);
            let (texts, _) = generate(&model, &prompts, &options, &device, &mut go_on);
            for (prompt, text) in prompts.iter().zip(&texts) {
                let limit = prompt.max_new_tokens.get();
                let expected = without_cache(&model, &prompt.tokens, limit, &device);
                assert_eq!(*text, expected, "{config}");
            }
            texts
        });
        assert_ne!(
            written[0], written[1],
            "the adapter has an effect: {config}"
        );
    }
}

#[test]
fn how_many_texts_are_written_at_a_time_and_by_how_many_threads_changes_none() {
    let device = Device::flex();
    let [config, ..] = families();
    let model = of_random_weights(&config, &adaptation(), &device);
    let prompts = unequal_prompts();
    let random = Sampling::Random {
        temperature: 1.5,
        top_k: None,
        top_p: 0.9,
        seed: 4,
    };
    for sampling in [Sampling::Greedy, random] {
        let written = |batch_size: usize, threads: usize| {
            let options = GenerationOptions {
                sampling,
                stop: vec![11],
                batch_size: NonZeroUsize::new(batch_size).unwrap(),
            };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let run = || generate(&model, &prompts, &options, &device, &mut go_on);
            let (texts, _) = pool.unwrap().install(run);
            texts
        };
        let alone = written(1, 1);
        for (batch_size, threads) in [(2, 1), (6, 3), (100, 2)] {
            assert_eq!(written(batch_size, threads), alone);
        }
    }
}
