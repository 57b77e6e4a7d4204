//! Tables of tokens in adapters, as PEFT saves them where a vocabulary was resized.

use eigenmix_adapter::{AdapterError, AdapterFile};
use eigenmix_tensors::{TensorFile, TensorOutput, write_tensor_file};
use serde_json::{Value, json};

use crate::fixture::{Fixture, QUERY, counted, query_and};

const TABLE: &str = "base_model.model.embed_tokens";

/// [`QUERY`] and three copies of a table, of which the second starts at `wrapped`.
fn with_copies(wrapped: f32) -> Fixture {
    let fixture = Fixture::new();
    fixture.config(json!({"modules_to_save": ["embed_tokens"]}));
    let values = [
        counted(1.0, 6),
        counted(2.0, 8),
        counted(0.5, 10),
        counted(wrapped, 10),
        counted(9.0, 10),
    ];
    let tables = ["weight", "modules_to_save.weight", "original_module.weight"];
    let names = QUERY.iter().map(|(name, _)| (*name).to_owned());
    let names = names.chain(tables.map(|tensor| format!("{TABLE}.{tensor}")));
    let shapes: [[usize; 2]; 5] = [[2, 3], [4, 2], [5, 2], [5, 2], [5, 2]];
    let outputs = names
        .zip(shapes)
        .zip(&values)
        .map(|((name, shape), values)| TensorOutput::f32(name, shape, values))
        .collect();
    write_tensor_file(&fixture.path().join("adapter_model.safetensors"), outputs).unwrap();
    fixture
}

#[test]
fn three_copies_of_a_resized_table_are_one_tensor() {
    let fixture = with_copies(0.5);
    let file = AdapterFile::open(&fixture.path()).unwrap();
    file.require_clean().unwrap();
    let heads = file.heads().unwrap();
    assert_eq!(heads.len(), 1);
    assert_eq!(heads["embed_tokens.weight"].values, counted(0.5, 10));
    let copies = ["original_module.weight", "modules_to_save.weight"];
    let copies = copies.map(|tensor| format!("{TABLE}.{tensor}"));
    assert_eq!(file.report().copies, copies);
}

#[test]
fn copies_that_differ_are_refused() {
    let error = AdapterFile::open(&with_copies(0.75).path()).unwrap_err();
    assert!(
        matches!(error, AdapterError::UnequalCopies { .. }),
        "{error}"
    );
}

#[test]
fn a_table_that_was_saved_unasked_is_kept_and_stays_unasked() {
    let fixture = Fixture::new();
    let table = format!("{TABLE}.weight");
    fixture
        .config(json!({}))
        .tensors(&query_and(&[(&table, &[5, 2])]));
    let file = AdapterFile::open(&fixture.path()).unwrap();
    file.require_clean().unwrap();
    let adapter = file.load().unwrap();
    assert_eq!(adapter.heads["embed_tokens.weight"].shape, [5, 2]);

    let copy = fixture.root().join("copy");
    adapter.save(&copy, &Default::default()).unwrap();
    let again = AdapterFile::open(&copy).unwrap();
    again.require_clean().unwrap();
    assert_eq!(again.config().raw()["modules_to_save"], Value::Null);
    assert_eq!(again.heads().unwrap(), adapter.heads);
}

/// An adapted table of 5 tokens, and the tensors that PEFT saves with it.
fn with_adapted_table(fields: Value, more: &[(&str, &[usize])]) -> Fixture {
    let fixture = Fixture::new();
    let parts = ["lora_embedding_A", "lora_embedding_B", "base_layer.weight"];
    let names = parts.map(|part| format!("{TABLE}.{part}"));
    let shapes: [&[usize]; 3] = [&[2, 5], &[3, 2], &[5, 3]];
    let mut tensors: Vec<(&str, &[usize])> = query_and(more);
    tensors.extend(names.iter().map(String::as_str).zip(shapes));
    fixture.config(fields).tensors(&tensors);
    fixture
}

#[test]
fn the_table_below_its_update_is_kept_and_written_where_peft_looks_for_it() {
    let fixture = with_adapted_table(json!({"target_modules": ["query", "embed_tokens"]}), &[]);
    let file = AdapterFile::open(&fixture.path()).unwrap();
    file.require_clean().unwrap();
    let adapter = file.load().unwrap();
    assert_eq!(
        adapter.heads["embed_tokens.weight"].values,
        counted(5.0, 15)
    );

    let copy = fixture.root().join("copy");
    adapter.save(&copy, &Default::default()).unwrap();
    let again = AdapterFile::open(&copy).unwrap().load().unwrap();
    assert_eq!(again.heads, adapter.heads);
    assert_eq!(again.config.raw()["modules_to_save"], Value::Null);
    let written = TensorFile::open(&copy.join("adapter_model.safetensors")).unwrap();
    assert!(written.contains(&format!("{TABLE}.base_layer.weight")));
}

#[test]
fn an_output_layer_that_is_tied_to_a_targeted_table_is_targeted() {
    let output: [(&str, &[usize]); 2] = [
        ("base_model.model.lm_head.lora_A.weight", &[2, 3]),
        ("base_model.model.lm_head.lora_B.weight", &[5, 2]),
    ];
    let targets = ["query", "embed_tokens"];
    for ties in [true, false] {
        let fields = json!({"target_modules": targets, "ensure_weight_tying": ties});
        let fixture = with_adapted_table(fields, &output);
        let file = AdapterFile::open(&fixture.path()).unwrap();
        assert_eq!(file.report().is_clean(), ties, "{}", file.report());
        let copy = fixture.root().join("copy");
        file.load()
            .unwrap()
            .save(&copy, &Default::default())
            .unwrap();
        let again = AdapterFile::open(&copy).unwrap();
        again.require_clean().unwrap();
        // Only where nothing else adapts the output layer is it named.
        let written = json!(again.config().raw()["target_modules"]);
        assert_eq!(written == json!(targets), ties, "{written}");
    }
    // Nothing is tied to a query.
    let fields = json!({"target_modules": ["embed_tokens"], "ensure_weight_tying": true});
    let file = AdapterFile::open(&with_adapted_table(fields, &output).path()).unwrap();
    assert_eq!(file.report().untargeted, ["layer.0.query"]);
}

const ROWS: &str = "base_model.model.embed_tokens.token_adapter.trainable_tokens_delta";

#[test]
fn trained_rows_of_a_table_come_back_as_peft_saves_them() {
    for (tokens, module) in [
        (json!([4, 0]), "embed_tokens"),
        (json!({"embed_tokens": [4, 0]}), "embed_tokens"),
    ] {
        let fixture = Fixture::new();
        let below = format!("{TABLE}.token_adapter.base_layer.weight");
        fixture
            .config(json!({"trainable_token_indices": tokens}))
            .tensors(&query_and(&[(ROWS, &[2, 3]), (&below, &[5, 3])]));
        let file = AdapterFile::open(&fixture.path()).unwrap();
        file.require_clean().unwrap();
        let adapter = file.load().unwrap();
        let rows = adapter.token_rows(module).unwrap();
        assert_eq!(rows.tokens, [4, 0]);
        assert_eq!(rows.rows.values, counted(3.0, 6));
        assert_eq!(
            adapter.heads["embed_tokens.weight"].values,
            counted(4.0, 15)
        );

        let copy = fixture.root().join("copy");
        adapter.save(&copy, &Default::default()).unwrap();
        let written = TensorFile::open(&copy.join("adapter_model.safetensors")).unwrap();
        assert!(written.contains(ROWS) && written.contains(&below));
        let again = AdapterFile::open(&copy).unwrap();
        assert_eq!(again.load().unwrap().heads, adapter.heads);
        assert_eq!(again.config().raw()["modules_to_save"], Value::Null);

        // Without its rows it says nothing of them.
        let mut bare = adapter.clone();
        bare.heads.clear();
        let bare_copy = fixture.root().join("bare");
        bare.save(&bare_copy, &Default::default()).unwrap();
        let bare = AdapterFile::open(&bare_copy).unwrap();
        assert_eq!(bare.config().raw()["trainable_token_indices"], Value::Null);
    }
}

#[test]
fn rows_and_tokens_that_do_not_match_are_refused() {
    for (tokens, rows) in [(json!([4, 0, 1]), true), (json!([4, 0]), false)] {
        let fixture = Fixture::new();
        let more: &[(&str, &[usize])] = match rows {
            true => &[(ROWS, &[2, 3])],
            false => &[],
        };
        fixture
            .config(json!({"trainable_token_indices": tokens}))
            .tensors(&query_and(more));
        let error = AdapterFile::open(&fixture.path()).unwrap_err().to_string();
        assert!(error.contains("trainable_token"), "{error}");
    }
    // Rows of which nothing says of what tokens they are.
    let fixture = Fixture::new();
    fixture
        .config(json!({}))
        .tensors(&query_and(&[(ROWS, &[2, 3])]));
    let file = AdapterFile::open(&fixture.path()).unwrap();
    assert!(!file.report().is_clean());
}

#[test]
fn empty_tensors_are_said_to_be_of_a_training_in_many_processes() {
    let fixture = Fixture::new();
    fixture
        .config(json!({}))
        .tensors(&[(QUERY[0].0, &[0]), (QUERY[1].0, &[0])]);
    let error = AdapterFile::open(&fixture.path()).unwrap_err();
    assert!(matches!(error, AdapterError::EmptyTensor { .. }), "{error}");
    assert!(error.to_string().contains("ZeRO-3"), "{error}");
}
