//! Merging into a base model whose output layer is its table of tokens, or whose vocabulary grew.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use eigenmix_adapter::{Adapter, LayerKind, LoraModule, PeftConfig, Provenance, TargetModules};
use eigenmix_experiment::Destination;
use eigenmix_experiment::merge_into_base::{BaseCheckpoint, BaseMergeReport, merge_into_base};
use eigenmix_tensors::{HostTensor, Matrix, TensorFile, TensorOutput, write_tensor_file};
use serde_json::{Value, json};
use tempfile::TempDir;

const TABLE: &str = "model.embed_tokens.weight";
const OUTPUT: &str = "lm_head.weight";
const QUERY: &str = "model.layers.0.self_attn.q_proj";
/// Tokens and width.
const SIZE: [usize; 2] = [5, 3];

fn numbers(first: f32, count: usize) -> Vec<f32> {
    (0..count).map(|index| first + index as f32).collect()
}

/// ΔW = B·A `[d_out, d_in]` of rank 1, with no two numbers alike.
fn module([d_out, d_in]: [usize; 2], layer: LayerKind) -> LoraModule {
    let b = Matrix::new(d_out, 1, numbers(1.0, d_out));
    let a = Matrix::new(1, d_in, numbers(10.0, d_in));
    LoraModule {
        layer,
        ..LoraModule::new(b, a, 0.5)
    }
}

fn table(rows: usize, first: f32) -> HostTensor {
    HostTensor {
        shape: vec![rows, SIZE[1]],
        values: numbers(first, rows * SIZE[1]),
    }
}

/// An adapter of the query that saves `saved` whole.
fn adapter(saved: &[&str]) -> Adapter {
    let targets = TargetModules::Names(vec!["q_proj".to_owned()]);
    let saved: Vec<String> = saved.iter().map(|name| (*name).to_owned()).collect();
    let task = Some("CAUSAL_LM");
    let config = PeftConfig::lora("base", 1, targets, &saved, task, &BTreeMap::new()).unwrap();
    let modules = BTreeMap::from([(QUERY.to_owned(), module([4, 3], LayerKind::Linear))]);
    Adapter::new(config, modules)
}

struct Place {
    root: TempDir,
}

impl Place {
    /// A base model that is a table, a query, and an output layer unless it is tied.
    fn new(is_tied: bool) -> Self {
        Self::with_output(is_tied, (!is_tied).then_some(200.0))
    }

    /// One that is tied and holds a copy of the table as its output layer.
    fn with_copy() -> Self {
        Self::with_output(true, Some(100.0))
    }

    /// - output: the first number of an output layer, if there is one
    fn with_output(is_tied: bool, output: Option<f32>) -> Self {
        let place = Self {
            root: tempfile::tempdir().unwrap(),
        };
        place.write_base(json!({
            "architectures": ["LlamaForCausalLM"],
            "tie_word_embeddings": is_tied,
            "vocab_size": SIZE[0],
        }));
        let (tokens, query) = (numbers(100.0, 15), numbers(-6.0, 12));
        let mut tensors = vec![
            TensorOutput::f32(TABLE, SIZE, &tokens),
            TensorOutput::f32(format!("{QUERY}.weight"), [4, 3], &query),
        ];
        let output = output.map(|first| numbers(first, 15));
        if let Some(output) = &output {
            tensors.push(TensorOutput::f32(OUTPUT, SIZE, output));
        }
        write_tensor_file(&place.path("base/model.safetensors"), tensors).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write_base(&self, config: Value) {
        fs::create_dir_all(self.path("base")).unwrap();
        fs::write(self.path("base/config.json"), config.to_string()).unwrap();
    }

    fn merge(&self, adapter: &Adapter) -> Result<BaseMergeReport, String> {
        let base = BaseCheckpoint::open(&self.path("base"), None).unwrap();
        let provenance = Provenance {
            version: String::new(),
            method: "export".to_owned(),
            sources: Vec::new(),
            options: Value::Null,
            input: None,
        };
        let destination = Destination::new(&self.path("merged"), false).unwrap();
        let merged = merge_into_base(adapter, &base, &provenance, &[], &destination);
        merged.map_err(|error| error.to_string())
    }

    fn config(&self) -> Value {
        let text = fs::read(self.path("merged/config.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn tensor(&self, name: &str) -> Vec<f32> {
        let file = TensorFile::open(&self.path("merged/model.safetensors")).unwrap();
        file.read_f32(name).unwrap()
    }

    fn has_output(&self) -> bool {
        let file = TensorFile::open(&self.path("merged/model.safetensors")).unwrap();
        file.contains(OUTPUT)
    }
}

/// W₀ + ΔW
fn updated(before: &[f32], update: &LoraModule) -> Vec<f32> {
    let update = update.update();
    let sum = before.iter().zip(update.values());
    sum.map(|(old, change)| old + change).collect()
}

#[test]
fn a_table_that_was_trained_whole_leaves_the_tied_output_layer_as_it_was() {
    let place = Place::new(true);
    let mut adapter = adapter(&["embed_tokens"]);
    adapter.heads.insert(TABLE.to_owned(), table(5, 7.0));
    let report = place.merge(&adapter).unwrap();
    assert_eq!(place.tensor(TABLE), numbers(7.0, 15));
    assert_eq!(place.tensor(OUTPUT), numbers(100.0, 15));
    assert_eq!(place.config()["tie_word_embeddings"], false);
    assert_eq!(report.added, [OUTPUT]);
    assert!(report.notes[0].contains("ties `lm_head`"), "{report:?}");
}

#[test]
fn an_update_of_the_table_leaves_the_tied_output_layer_as_it_was() {
    let place = Place::new(true);
    let mut adapter = adapter(&[]);
    let update = module(SIZE, LayerKind::Embedding);
    adapter.modules.insert(table_path(), update.clone());
    place.merge(&adapter).unwrap();
    let before = numbers(100.0, 15);
    assert_eq!(place.tensor(TABLE), updated(&before, &update));
    assert_eq!(place.tensor(OUTPUT), before);
    assert_eq!(place.config()["tie_word_embeddings"], false);
}

#[test]
fn an_update_of_the_tied_output_layer_leaves_the_table_as_it_was() {
    let place = Place::new(true);
    let mut adapter = adapter(&[]);
    let update = module(SIZE, LayerKind::Linear);
    adapter.modules.insert("lm_head".to_owned(), update.clone());
    place.merge(&adapter).unwrap();
    let before = numbers(100.0, 15);
    assert_eq!(place.tensor(OUTPUT), updated(&before, &update));
    assert_eq!(place.tensor(TABLE), before);
    assert_eq!(place.config()["tie_word_embeddings"], false);
}

#[test]
fn equal_tables_and_one_that_was_saved_unasked_stay_tied() {
    let mut both = adapter(&["embed_tokens", "lm_head"]);
    both.heads.insert(TABLE.to_owned(), table(6, 7.0));
    both.heads.insert(OUTPUT.to_owned(), table(6, 7.0));
    let mut unasked = adapter(&[]);
    unasked.heads.insert(TABLE.to_owned(), table(6, 7.0));
    for adapter in [both, unasked] {
        let place = Place::new(true);
        place.merge(&adapter).unwrap();
        assert_eq!(place.tensor(TABLE), numbers(7.0, 18));
        assert!(!place.has_output());
        assert_eq!(place.config()["tie_word_embeddings"], true);
        assert_eq!(place.config()["vocab_size"], 6);
    }
}

#[test]
fn a_copy_of_a_tied_table_follows_it_or_becomes_the_output_layer() {
    // Resized and tied as before: the copy would have been stale, or refused.
    for rows in [5, 7] {
        let place = Place::with_copy();
        let mut adapter = adapter(&[]);
        adapter.heads.insert(TABLE.to_owned(), table(rows, 7.0));
        let report = place.merge(&adapter).unwrap();
        assert_eq!(place.tensor(TABLE), numbers(7.0, rows * 3));
        assert!(!place.has_output());
        assert_eq!(place.config()["tie_word_embeddings"], true);
        assert_eq!(report.copied, 0, "{report:?}");
    }
    let place = Place::with_copy();
    let mut parted = adapter(&["embed_tokens"]);
    parted.heads.insert(TABLE.to_owned(), table(5, 7.0));
    let report = place.merge(&parted).unwrap();
    assert_eq!(place.tensor(TABLE), numbers(7.0, 15));
    assert_eq!(place.tensor(OUTPUT), numbers(100.0, 15));
    assert_eq!(place.config()["tie_word_embeddings"], false);
    assert_eq!((report.copied, report.added), (0, vec![OUTPUT.to_owned()]));

    let place = Place::with_copy();
    place.merge(&adapter(&[])).unwrap();
    assert_eq!(place.tensor(OUTPUT), numbers(100.0, 15));
    assert_eq!(place.config()["tie_word_embeddings"], true);
}

#[test]
fn tables_that_differ_are_two_although_the_configuration_ties_them() {
    let place = Place::with_output(true, Some(200.0));
    let mut adapter = adapter(&["embed_tokens"]);
    adapter.heads.insert(TABLE.to_owned(), table(5, 7.0));
    let report = place.merge(&adapter).unwrap();
    assert_eq!(place.tensor(TABLE), numbers(7.0, 15));
    assert_eq!(place.tensor(OUTPUT), numbers(200.0, 15));
    assert_eq!(place.config()["tie_word_embeddings"], false);
    assert!(report.notes[0].contains("differ"), "{report:?}");
}

fn table_path() -> String {
    TABLE.trim_end_matches(".weight").to_owned()
}

#[test]
fn updates_that_weight_tying_keeps_equal_leave_the_layers_tied() {
    let before = numbers(100.0, 15);
    let update = module(SIZE, LayerKind::Embedding);
    // PEFT saves the factors of both, or those of the table.
    for has_both in [true, false] {
        let place = Place::with_copy();
        let mut adapter = adapter(&[]);
        let mut raw = adapter.config.raw().clone();
        raw.insert("ensure_weight_tying".to_owned(), json!(true));
        adapter.config = PeftConfig::from_map(raw, "a test".as_ref()).unwrap();
        adapter.modules.insert(table_path(), update.clone());
        if has_both {
            let output = module(SIZE, LayerKind::Linear);
            adapter.modules.insert("lm_head".to_owned(), output);
        }
        let report = place.merge(&adapter).unwrap();
        assert_eq!(place.tensor(TABLE), updated(&before, &update));
        assert!(!place.has_output());
        assert!(report.notes.is_empty(), "{report:?}");
    }
}

#[test]
fn an_update_acts_on_the_table_that_the_adapter_brings_along() {
    // Of seven tokens, while the base model has five.
    let update = module([7, SIZE[1]], LayerKind::Embedding);
    let below = table(7, 30.0);
    let mut adapter = adapter(&[]);
    adapter.modules.insert(table_path(), update.clone());
    adapter.heads.insert(TABLE.to_owned(), below.clone());
    let place = Place::new(true);
    place.merge(&adapter).unwrap();
    assert_eq!(place.tensor(TABLE), updated(&below.values, &update));
    assert_eq!(place.tensor(OUTPUT), below.values);
    assert_eq!(place.config()["vocab_size"], 7);

    let place = Place::new(false);
    adapter.heads.insert(OUTPUT.to_owned(), table(7, 90.0));
    place.merge(&adapter).unwrap();
    assert_eq!(place.tensor(TABLE), updated(&below.values, &update));
    assert_eq!(place.tensor(OUTPUT), numbers(90.0, 21));
}

#[test]
fn a_classifier_of_a_larger_vocabulary_leaves_out_the_output_layer() {
    for is_tied in [true, false] {
        let place = Place::new(is_tied);
        let mut adapter = adapter(&["score"]);
        let mut raw = adapter.config.raw().clone();
        raw.insert("task_type".to_owned(), json!("SEQ_CLS"));
        adapter.config = PeftConfig::from_map(raw, "a test".as_ref()).unwrap();
        adapter
            .heads
            .insert("score.weight".to_owned(), table(2, 1.0));
        adapter.heads.insert(TABLE.to_owned(), table(7, 30.0));
        let report = place.merge(&adapter).unwrap();
        assert_eq!(place.tensor(TABLE), numbers(30.0, 21));
        assert!(!place.has_output());
        assert_eq!(place.config()["vocab_size"], 7);
        let class = &place.config()["architectures"][0];
        assert_eq!(class, "LlamaForSequenceClassification");
        let notes = report.notes.join(" ");
        assert_eq!(notes.contains("leaves it out"), !is_tied, "{notes}");
    }
}

/// An adapter with two rows for `tokens` of the module `path`.
fn with_rows(tokens: Value, path: &str) -> Adapter {
    let mut adapter = adapter(&[]);
    let mut raw = adapter.config.raw().clone();
    raw.insert("trainable_token_indices".to_owned(), tokens);
    adapter.config = PeftConfig::from_map(raw, "a test".as_ref()).unwrap();
    let name = format!("{path}.token_adapter.trainable_tokens_delta");
    adapter.heads.insert(name, table(2, 7.0));
    adapter
}

#[test]
fn trained_rows_take_their_places_in_the_table_and_in_what_is_tied_to_it() {
    let before = numbers(100.0, 15);
    let mut placed = before.clone();
    placed[12..].copy_from_slice(&numbers(7.0, 3));
    placed[3..6].copy_from_slice(&numbers(10.0, 3));
    let of_table = with_rows(json!([4, 1]), &table_path());

    let tied = Place::with_copy();
    let report = tied.merge(&of_table).unwrap();
    assert_eq!(tied.tensor(TABLE), placed);
    assert!(!tied.has_output());
    assert_eq!(report.replaced, [TABLE]);

    let apart = Place::new(false);
    apart.merge(&of_table).unwrap();
    assert_eq!(apart.tensor(TABLE), placed);
    assert_eq!(apart.tensor(OUTPUT), numbers(200.0, 15));

    // Those of the output layer alone untie it.
    let parted = Place::new(true);
    parted
        .merge(&with_rows(json!({"lm_head": [4, 1]}), "lm_head"))
        .unwrap();
    assert_eq!(parted.tensor(TABLE), before);
    assert_eq!(parted.tensor(OUTPUT), placed);
    assert_eq!(parted.config()["tie_word_embeddings"], false);

    let error = Place::new(true).merge(&with_rows(json!([4, 5]), &table_path()));
    let error = error.unwrap_err();
    assert!(
        error.contains("token 5") && error.contains("5 tokens"),
        "{error}"
    );
}

#[test]
fn a_larger_vocabulary_is_in_the_configuration_and_is_told() {
    let place = Place::new(false);
    let mut adapter = adapter(&["embed_tokens", "lm_head"]);
    adapter.heads.insert(TABLE.to_owned(), table(7, 1.0));
    adapter.heads.insert(OUTPUT.to_owned(), table(7, 50.0));
    let report = place.merge(&adapter).unwrap();
    assert_eq!(place.config()["vocab_size"], 7);
    assert_eq!(place.tensor(OUTPUT), numbers(50.0, 21));
    assert!(
        report.notes[0].contains("vocab_size is now 7"),
        "{report:?}"
    );
    assert!(report.notes[0].contains("tokenizer"), "{report:?}");
}

#[test]
fn one_resized_table_of_two_is_refused() {
    for is_tied in [true, false] {
        let place = Place::new(is_tied);
        let mut adapter = adapter(&["embed_tokens"]);
        adapter.heads.insert(TABLE.to_owned(), table(7, 1.0));
        let error = place.merge(&adapter).unwrap_err();
        assert!(error.contains("vocabulary was resized"), "{error}");
        assert!(!place.path("merged").exists());
    }
}

#[test]
fn a_base_model_without_tied_layers_is_merged_as_before() {
    let place = Place::new(false);
    let mut adapter = adapter(&["embed_tokens"]);
    adapter.heads.insert(TABLE.to_owned(), table(5, 7.0));
    let report = place.merge(&adapter).unwrap();
    assert_eq!(place.tensor(OUTPUT), numbers(200.0, 15));
    assert!(
        report.notes.is_empty() && report.added.is_empty(),
        "{report:?}"
    );
}

#[test]
fn a_quantised_base_model_is_named_as_what_it_is() {
    let place = Place::new(false);
    let quantisation = json!({"quant_method": "eetq"});
    place.write_base(json!({"quantization_config": quantisation}));
    let error = BaseCheckpoint::open(&place.path("base"), None).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("eetq"), "{error}");
    assert!(!error.contains("another base model"), "{error}");
}
