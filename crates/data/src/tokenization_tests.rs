//! Reference ids: those of transformers, see `tests/golden/README.md` at the root.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use super::*;
use crate::Place;
use crate::bert_vocabulary;
use crate::tokenizer_config::TokenizerConfig;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<ReferenceCase>,
}

/// A text or a pair of texts, cut to a length by `truncation="longest_first"`.
#[derive(Deserialize)]
struct ReferenceCase {
    text: String,
    pair: Option<String>,
    max_length: usize,
    ids: Vec<u32>,
    type_ids: Vec<u32>,
}

/// A WordPiece tokenizer and what transformers makes of 17 texts and pairs with it.
fn golden() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/tokenizer"
    ))
}

/// Compares the cases that `is_wanted`, and returns how many those are.
fn assert_same_ids_as_transformers(
    tokenizer: &TextTokenizer,
    is_wanted: impl Fn(&ReferenceCase) -> bool,
) -> usize {
    let text = fs::read(golden().join("reference.json")).unwrap();
    let reference: Reference = serde_json::from_slice(&text).unwrap();
    let cases = reference.cases.iter().filter(|case| is_wanted(case));
    cases
        .map(|case| {
            let context = format!("{:?}, {:?} to {}", case.text, case.pair, case.max_length);
            let encoding = tokenizer
                .encode(&case.text, case.pair.as_deref(), case.max_length)
                .unwrap();
            assert_eq!(encoding.ids, case.ids, "{context}");
            assert_eq!(encoding.type_ids, case.type_ids, "{context}");
            // Every text that fits into 128 tokens is shorter than that.
            assert_eq!(encoding.truncated, case.max_length < 128, "{context}");
        })
        .count()
}

#[test]
fn texts_have_the_ids_that_transformers_gives() {
    let tokenizer = TextTokenizer::from_dir(&golden()).unwrap();
    let is_whole_text = |case: &ReferenceCase| case.pair.is_none() && case.max_length == 128;
    let count = assert_same_ids_as_transformers(&tokenizer, is_whole_text);
    assert_eq!(count, 9);
    assert_eq!(tokenizer.pad_id(), Some(0));
    assert_eq!(tokenizer.vocabulary_size(), 167);
}

#[test]
fn pairs_and_what_is_too_long_are_cut_as_transformers_does() {
    let tokenizer = TextTokenizer::from_dir(&golden()).unwrap();
    let is_pair_or_cut = |case: &ReferenceCase| case.pair.is_some() || case.max_length < 128;
    let count = assert_same_ids_as_transformers(&tokenizer, is_pair_or_cut);
    assert_eq!(count, 8);
}

#[test]
fn a_vocabulary_alone_gives_the_same_ids_as_tokenizer_json() {
    let alone = tempfile::tempdir().unwrap();
    for name in ["vocab.txt", "tokenizer_config.json"] {
        fs::copy(golden().join(name), alone.path().join(name)).unwrap();
    }
    let tokenizer = TextTokenizer::from_dir(alone.path()).unwrap();
    assert_eq!(assert_same_ids_as_transformers(&tokenizer, |_| true), 17);
    assert_eq!(tokenizer.vocabulary_size(), 167);
}

/// A directory with a vocabulary of `[PAD]` 0 … `[MASK]` 4 and five words, and files beside it.
fn toy_model(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\nBlue\nblue\nbird\n##s\n";
    fs::write(dir.path().join("vocab.txt"), vocabulary).unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn ids(dir: &tempfile::TempDir, text: &str, max_length: usize) -> Vec<u32> {
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    tokenizer.encode(text, None, max_length).unwrap().ids
}

#[test]
fn lower_casing_follows_the_configuration() {
    let lower = toy_model(&[]);
    assert_eq!(ids(&lower, "Blue birds", 9), [2, 7, 8, 9, 3]);
    let cased = toy_model(&[("tokenizer_config.json", r#"{"do_lower_case": false}"#)]);
    assert_eq!(ids(&cased, "Blue birds", 9), [2, 6, 8, 9, 3]);
}

#[test]
fn truncation_takes_the_side_that_the_configuration_says() {
    let left = toy_model(&[("tokenizer_config.json", r#"{"truncation_side": "left"}"#)]);
    assert_eq!(ids(&left, "red blue birds", 5), [2, 7, 8, 9, 3]);
    assert_eq!(ids(&toy_model(&[]), "red blue birds", 5), [2, 5, 7, 8, 3]);
}

#[test]
fn truncation_and_padding_in_tokenizer_json_do_not_apply() {
    let config = TokenizerConfig::default();
    let dir = toy_model(&[]);
    let mut tokenizer = bert_vocabulary::build(&dir.path().join("vocab.txt"), &config).unwrap();
    let truncation = TruncationParams {
        max_length: 4,
        ..TruncationParams::default()
    };
    tokenizer.with_truncation(Some(truncation)).unwrap();
    tokenizer.with_padding(Some(tokenizers::PaddingParams {
        strategy: tokenizers::PaddingStrategy::Fixed(12),
        pad_id: 4,
        ..tokenizers::PaddingParams::default()
    }));
    tokenizer
        .save(dir.path().join("tokenizer.json"), false)
        .unwrap();

    assert_eq!(ids(&dir, "red blue birds", 12), [2, 5, 7, 8, 9, 3]);
    let loaded = TextTokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(
        loaded.pad_id(),
        Some(4),
        "the file's padding names the token"
    );
}

#[test]
fn without_a_post_processor_a_pair_is_put_together_plainly() {
    let dir = toy_model(&[]);
    let config = TokenizerConfig::default();
    let mut tokenizer = bert_vocabulary::build(&dir.path().join("vocab.txt"), &config).unwrap();
    tokenizer.with_post_processor(None::<PostProcessorWrapper>);
    tokenizer
        .save(dir.path().join("tokenizer.json"), false)
        .unwrap();
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let encoding = tokenizer.encode("red", Some("blue birds"), 3).unwrap();
    assert_eq!(
        (encoding.ids, encoding.type_ids),
        (vec![5, 7, 8], vec![0, 1, 1])
    );
}

#[test]
fn rows_are_encoded_in_their_order_and_empty_ones_are_named() {
    let place = |line| Place {
        file: Path::new("train.jsonl").into(),
        line,
    };
    let mut rows: Vec<Row> = (1..=40)
        .map(|line| Row {
            text: "bird ".repeat(line),
            text_pair: None,
            label: None,
            place: place(line),
        })
        .collect();
    let dir = toy_model(&[]);
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let lengths: Vec<usize> = tokenizer
        .encode_all(&rows, 30)
        .unwrap()
        .iter()
        .map(|encoding| encoding.ids.len())
        .collect();
    let expected: Vec<usize> = (1..=40).map(|birds: usize| (birds + 2).min(30)).collect();
    assert_eq!(lengths, expected);

    let mut unframed = TextTokenizer::from_dir(dir.path()).unwrap();
    unframed.post_processor = None;
    rows[16].text = " ".to_owned();
    let error = unframed.encode_all(&rows, 30).unwrap_err().to_string();
    assert!(
        error.starts_with("train.jsonl:17: the text has no tokens"),
        "{error}"
    );
}

#[test]
fn a_max_length_without_room_for_text_is_refused() {
    let dir = toy_model(&[]);
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let error = tokenizer.encode("red", Some("blue"), 3).unwrap_err();
    assert!(
        error.to_string().contains("adds 3 special tokens"),
        "{error}"
    );
    assert!(error.to_string().contains("expected at least 4"), "{error}");
    assert!(tokenizer.encode("red", Some("blue"), 4).is_ok());
}

fn load_error(dir: &Path) -> String {
    match TextTokenizer::from_dir(dir) {
        Ok(_) => panic!("the tokenizer should not load"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_damaged_tokenizer_is_named_wherever_the_damage_is() {
    let dir = tempfile::tempdir().unwrap();
    for content in [
        "",
        "{\"version\": \"1.0\", \"decoder\": , \"model\": null}",
        "{\"version\": \"1.0\", \"model\": }",
    ] {
        fs::write(dir.path().join("tokenizer.json"), content).unwrap();
        let error = load_error(dir.path());
        assert!(error.contains("is not a valid tokenizer"), "{error}");
    }
}

#[test]
fn a_directory_without_a_tokenizer_says_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("spiece.model"), "").unwrap();
    let error = load_error(dir.path());
    assert!(error.contains("expected tokenizer.json"), "{error}");
    assert!(error.contains("found `spiece.model`"), "{error}");
    assert!(error.contains("convert it with transformers"), "{error}");
    fs::remove_file(dir.path().join("spiece.model")).unwrap();
    fs::write(dir.path().join("weights.bin"), "").unwrap();
    let error = load_error(dir.path());
    assert!(
        error.contains("expected tokenizer.json, or the vocab.txt"),
        "{error}"
    );
    assert!(error.contains("found `weights.bin`"), "{error}");
}

#[test]
fn the_vocabulary_of_another_kind_of_model_is_refused() {
    let other = toy_model(&[(
        "tokenizer_config.json",
        r#"{"tokenizer_class": "MPNetTokenizer"}"#,
    )]);
    assert!(load_error(other.path()).contains("expected tokenizer.json"));
    let fast = toy_model(&[(
        "tokenizer_config.json",
        r#"{"tokenizer_class": "BertTokenizerFast"}"#,
    )]);
    assert!(TextTokenizer::from_dir(fast.path()).is_ok());
    let unframed = toy_model(&[("tokenizer_config.json", r#"{"cls_token": "<s>"}"#)]);
    assert!(load_error(unframed.path()).contains("has no token `<s>`"));
}

#[test]
fn gaps_between_ids_count_for_the_embeddings_that_a_model_needs() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 9}, "unk_token": "a"}
    });
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    assert_eq!(tokenizer.vocabulary_size(), 10);
}

#[test]
fn a_token_beyond_the_embedding_is_refused_where_a_text_has_it() {
    let dir = tempfile::tempdir().unwrap();
    crate::small_tokenizer::write(dir.path(), true);
    let tokenizer = TextTokenizer::from_dir(dir.path()).unwrap();
    let special = tokenizer.decode(&[280], false).unwrap();
    let known = tokenizer.vocabulary_size();
    assert!(tokenizer.text_vocabulary_size() < known);
    let limited = tokenizer.with_embeddings(known - 1);
    assert!(limited.encode("the sky", None, 16).is_ok());
    let error = limited.encode_spans(&format!("the {special}")).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains(&format!("the token `{special}` (280)")),
        "{message}"
    );
    assert!(message.contains("with 280 embeddings"), "{message}");
}
