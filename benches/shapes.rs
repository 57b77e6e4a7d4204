//! The models and batches that steps are measured with.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// A model's shape and a batch of it.
#[derive(Clone)]
pub struct Shape {
    pub name: &'static str,
    pub config: Value,
    pub kind: &'static str,
    pub batch: usize,
    pub length: usize,
    pub targets: &'static str,
}

pub fn shapes() -> [Shape; 2] {
    [
        Shape {
            name: "MiniLM's shape",
            config: json!({
                "architectures": ["BertModel"], "model_type": "bert", "vocab_size": 30522,
                "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
                "intermediate_size": 1536, "hidden_act": "gelu", "max_position_embeddings": 512,
                "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
            }),
            kind: "sequence-classification",
            batch: 32,
            length: 128,
            targets: r#"["query", "value"]"#,
        },
        Shape {
            name: "a decoder of 124 M",
            config: json!({
                "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000,
                "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                "num_key_value_heads": 4, "intermediate_size": 2048, "hidden_act": "silu",
                "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
                "tie_word_embeddings": false,
            }),
            kind: "causal-lm",
            batch: 4,
            length: 256,
            targets: r#""all-linear""#,
        },
    ]
}

impl Shape {
    /// Writes `config.json` and `tokenizer.json` of the model into a directory in `place`, and texts of
    /// one batch into another; a model of random weights is what a step from scratch at a rate of nothing leaves.
    ///
    /// - lengths: of the texts of a batch, one after the other, and again from the first
    /// - batches: how many an epoch has
    pub fn write(
        &self,
        place: &Path,
        lengths: &[usize],
        batches: usize,
    ) -> Result<Written, Box<dyn Error>> {
        let model = place.join(format!("{}-config", self.name));
        fs::create_dir_all(&model)?;
        fs::write(model.join("config.json"), self.config.to_string())?;
        let vocabulary = self.config["vocab_size"].as_u64().unwrap_or_default();
        let words: serde_json::Map<String, Value> = (0..vocabulary)
            .map(|number| (format!("w{number}"), json!(number)))
            .collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null,
            "decoder": null, "model": { "type": "WordLevel", "vocab": words, "unk_token": "w1" },
        });
        fs::write(model.join("tokenizer.json"), tokenizer.to_string())?;
        let data = place.join(format!("{}-data", self.name));
        fs::create_dir_all(&data)?;
        let rows: Vec<String> = (0..self.batch * batches)
            .map(|row| {
                let words = (0..lengths[row % self.batch % lengths.len()])
                    .map(|column| format!("w{}", word(row, column, vocabulary as usize)));
                let text = words.collect::<Vec<_>>().join(" ");
                json!({ "text": text, "label": format!("label {}", row % 15) }).to_string()
            })
            .collect();
        fs::write(data.join("train.jsonl"), rows.join("\n"))?;
        Ok(Written { model, data })
    }

    /// A training file.
    ///
    pub fn training_file(&self, run: &Run) -> String {
        let Run {
            output,
            model,
            base,
            data,
            method,
            adapter,
            epochs,
            log_every,
            training,
        } = run;
        format!(
            "output = {output:?}\n[base]\nmodel = {model:?}\n{base}\n[data]\npath = {data:?}\n\
             max_length = {}\n[task]\nkind = {:?}\n[adapter]\nmethod = {method:?}\n{adapter}\n\
             [training]\nepochs = {epochs}\nbatch_size = {}\nlearning_rate = 1e-4\n\
             log_every = {log_every}\nevaluate_every = 0\n{training}\n",
            self.length, self.kind, self.batch
        )
    }
}

/// Any token will do, as long as they are not all the same.
pub fn word(row: usize, column: usize, vocabulary: usize) -> usize {
    8 + (row * 7919 + column * 104_729) % (vocabulary - 8)
}

/// Where the files of a shape are.
pub struct Written {
    pub model: PathBuf,
    pub data: PathBuf,
}

/// What a training file says.
pub struct Run<'a> {
    pub output: &'a Path,
    pub model: &'a Path,
    /// What else this table has.
    pub base: &'a str,
    pub data: &'a Path,
    pub method: &'a str,
    /// What else this table has.
    pub adapter: &'a str,
    pub epochs: usize,
    pub log_every: usize,
    /// What else this table has.
    pub training: &'a str,
}
