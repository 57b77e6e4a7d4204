//! The language model of these tests: it counts in a circle.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::Workplace;
use crate::support::stopped_training::train;

/// How many words the circle has: `n0` to `n9`; the other two tokens begin and end a text.
pub(crate) const WORDS: usize = 10;
pub(crate) const POSITIONS: usize = 32;

pub(crate) const LORA: &str =
    "method = \"lora\"\nrank = 3\nalpha = 5\ntarget_modules = \"all-linear\"";

/// `count` words of the circle from `first` on.
pub(crate) fn counting(first: usize, count: usize) -> String {
    let words: Vec<String> = (first..first + count)
        .map(|word| format!("n{}", word % WORDS))
        .collect();
    words.join(" ")
}

/// A configuration of a small LLaMA, and a tokenizer of one token a word.
pub(crate) fn write_untrained(directory: &Path) {
    fs::create_dir_all(directory).expect("a directory");
    let mut vocabulary = json!({"<s>": WORDS, "</s>": WORDS + 1});
    for word in 0..WORDS {
        vocabulary[format!("n{word}")] = json!(word);
    }
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(WORDS, "<s>"), special(WORDS + 1, "</s>")],
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "n0"},
    });
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": WORDS + 2,
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": POSITIONS, "rms_norm_eps": 1e-6,
        "bos_token_id": WORDS, "eos_token_id": WORDS + 1,
    });
    for (name, content) in [("tokenizer.json", tokenizer), ("config.json", config)] {
        fs::write(directory.join(name), content.to_string()).expect("a file");
    }
}

/// Prompts and completions that count on, each from another number.
pub(crate) fn write_counting(directory: &Path) {
    fs::create_dir_all(directory).expect("a directory");
    let rows: Vec<String> = (0..WORDS)
        .map(|first| {
            let prompt = counting(first, 2 + first % 3);
            let completion = counting(first + 2 + first % 3, 4 + first % 2);
            json!({"prompt": prompt, "completion": format!(" {completion}")}).to_string()
        })
        .collect();
    for split in ["train", "test"] {
        let path = directory.join(split).with_extension("jsonl");
        fs::write(path, rows.join("\n")).expect("a file");
    }
}

/// A training file; `rest` is the end of its `[training]` table.
pub(crate) fn training_file(
    place: &Workplace,
    output: &str,
    base: &str,
    adapter: &str,
    rest: &str,
) -> String {
    format!(
        r#"
        seed = 4
        output = "{output}"
        [base]
        model = "{model}"
        {base}
        [data]
        path = "{data}"
        max_length = 24
        [task]
        kind = "causal-lm"
        metrics = ["perplexity", "exact-match"]
        [adapter]
        {adapter}
        [training]
        log_every = 1
        {rest}
        "#,
        output = place.path(output).display(),
        model = place.path("base").display(),
        data = place.path("data").display(),
    )
}

/// A workplace with `data`, and a `base` that has not learnt anything.
pub(crate) fn untrained() -> Workplace {
    let place = Workplace::new();
    write_untrained(&place.path("base"));
    write_counting(&place.path("data"));
    place
}

/// A workplace with `data`, and a `base` of random weights.
pub(crate) fn random_base() -> Workplace {
    let place = untrained();
    let rest = "epochs = 1\nmax_steps = 1\nbatch_size = 4\nlearning_rate = 1e-3";
    let file = training_file(
        &place,
        "scratch",
        "from_scratch = true",
        "method = \"full\"",
        rest,
    );
    train(&file, false, usize::MAX);
    let weights = "model.safetensors";
    let from = place.path("scratch").join("model").join(weights);
    fs::copy(from, place.path("base").join(weights)).expect("trained weights");
    place
}
