//! Reference ids: transformers 5.23.0, tokenizers 0.23.3, on models/minilm:
//! ```python
//! t = AutoTokenizer.from_pretrained("shared/models/minilm")
//! t(text)["input_ids"]
//! t(text, pair, max_length=n, truncation="longest_first")   # input_ids, token_type_ids
//! ```

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::Place;

const QUESTION: &str = "where is the nearest charging station for my electric car";
const ANSWER: &str = "there is one on the corner of fifth and main, open until ten";
const QUESTION_IDS: [u32; 10] = [2073, 2003, 1996, 7205, 13003, 2276, 2005, 2026, 3751, 2482];
const ANSWER_IDS: [u32; 14] = [
    2045, 2003, 2028, 2006, 1996, 3420, 1997, 3587, 1998, 2364, 1010, 2330, 2127, 2702,
];

/// Texts with accents, digits, punctuation, Chinese, an unknown character and special tokens.
const SINGLE: [(&str, &[u32]); 5] = [
    (
        "Transfer $42.50 to my café account, please!",
        &[
            101, 4651, 1002, 4413, 1012, 2753, 2000, 2026, 7668, 4070, 1010, 3531, 999, 102,
        ],
    ),
    (
        "El Niño brought 3,000 mm of rain; 東京 stayed dry 🙂.",
        &[
            101, 3449, 20801, 2716, 1017, 1010, 2199, 3461, 1997, 4542, 1025, 1879, 1755, 4370,
            4318, 100, 1012, 102,
        ],
    ),
    (
        "unbelievably antidisestablishmentarianism",
        &[
            101, 4895, 8671, 2666, 3567, 6321, 3424, 10521, 4355, 7875, 13602, 3672, 12199, 2964,
            102,
        ],
    ),
    ("", &[101, 102]),
    ("the [MASK] token", &[101, 1996, 103, 19204, 102]),
];

/// MiniLM's directory, or `None` with a word about it where the shared material is absent.
fn minilm() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models/minilm");
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: {} is absent", dir.display());
    None
}

/// `[CLS]` first `[SEP]` second `[SEP]` and the texts they belong to.
fn framed(first: &[u32], second: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let ids = [&[101], first, &[102], second, &[102]].concat();
    let type_ids = [vec![0; first.len() + 2], vec![1; second.len() + 1]].concat();
    (ids, type_ids)
}

fn assert_same_ids_as_transformers(tokenizer: &TextTokenizer) {
    for (text, expected) in SINGLE {
        let encoding = tokenizer.encode(text, None, 128).unwrap();
        assert_eq!(encoding.ids, expected, "{text}");
        assert_eq!(encoding.type_ids, vec![0; expected.len()], "{text}");
        assert!(!encoding.truncated);
    }
}

#[test]
fn minilm_gives_the_ids_that_transformers_gives() {
    let Some(dir) = minilm() else { return };
    let tokenizer = TextTokenizer::from_dir(&dir).unwrap();
    assert_same_ids_as_transformers(&tokenizer);
    assert_eq!(tokenizer.pad_id(), Some(0));
    assert_eq!(tokenizer.vocabulary_size(), 30522);
}

#[test]
fn minilm_cuts_pairs_as_transformers_does() {
    let Some(dir) = minilm() else { return };
    let tokenizer = TextTokenizer::from_dir(&dir).unwrap();
    for (max_length, first, second) in [(128, 10, 14), (16, 6, 7), (9, 3, 3)] {
        let encoding = tokenizer
            .encode(QUESTION, Some(ANSWER), max_length)
            .unwrap();
        let (ids, type_ids) = framed(&QUESTION_IDS[..first], &ANSWER_IDS[..second]);
        assert_eq!(encoding.ids, ids, "max_length {max_length}");
        assert_eq!(encoding.type_ids, type_ids, "max_length {max_length}");
        assert_eq!(encoding.truncated, max_length < 128);
    }
    let encoding = tokenizer.encode("short one", Some(ANSWER), 12).unwrap();
    assert_eq!(encoding.ids, framed(&[2460, 2028], &ANSWER_IDS[..7]).0);
    let encoding = tokenizer.encode(QUESTION, None, 6).unwrap();
    assert_eq!(encoding.ids, [101, 2073, 2003, 1996, 7205, 102]);
}

#[test]
fn a_vocabulary_alone_gives_the_same_ids_as_tokenizer_json() {
    let Some(dir) = minilm() else { return };
    let whole = Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
    let tokens: Vec<String> = (0..30522)
        .map(|id| whole.id_to_token(id).unwrap())
        .collect();
    let alone = tempfile::tempdir().unwrap();
    fs::write(alone.path().join("vocab.txt"), tokens.join("\n")).unwrap();
    let config = dir.join("tokenizer_config.json");
    fs::copy(config, alone.path().join("tokenizer_config.json")).unwrap();
    assert_same_ids_as_transformers(&TextTokenizer::from_dir(alone.path()).unwrap());
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
