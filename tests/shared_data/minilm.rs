//! MiniLM, a sentence encoder of 22 million parameters. Reference ids: transformers 5.23.0,
//! tokenizers 0.23.3:
//! ```python
//! t = AutoTokenizer.from_pretrained("shared/models/minilm")
//! t(text)["input_ids"]
//! t(text, pair, max_length=n, truncation="longest_first")   # input_ids, token_type_ids
//! ```

use std::fs;
use std::path::Path;

use eigenmix_data::TextTokenizer;
use eigenmix_tensors::TensorFile;
use serde_json::Value;

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

fn tokenizer(directory: &Path) -> TextTokenizer {
    TextTokenizer::from_dir(directory).expect("a tokenizer")
}

/// `[CLS]` first `[SEP]` second `[SEP]` and the texts they belong to.
fn framed(first: &[u32], second: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let ids = [&[101], first, &[102], second, &[102]].concat();
    let type_ids = [vec![0; first.len() + 2], vec![1; second.len() + 1]].concat();
    (ids, type_ids)
}

fn assert_same_ids_as_transformers(tokenizer: &TextTokenizer) {
    for (text, expected) in SINGLE {
        let encoding = tokenizer.encode(text, None, 128).expect("ids");
        assert_eq!(encoding.ids, expected, "{text}");
        assert_eq!(encoding.type_ids, vec![0; expected.len()], "{text}");
        assert!(!encoding.truncated);
    }
}

pub fn every_value_of_the_checkpoint_is_read(minilm: &Path) {
    let file = TensorFile::open(&minilm.join("model.safetensors")).expect("a checkpoint");
    let values: usize = file
        .names()
        .filter_map(|name| file.read_f32(name).ok())
        .map(|tensor| tensor.len())
        .sum();
    assert!(values > 22_000_000, "{values}");
}

pub fn texts_have_the_ids_that_transformers_gives(minilm: &Path) {
    let tokenizer = tokenizer(minilm);
    assert_same_ids_as_transformers(&tokenizer);
    assert_eq!(tokenizer.pad_id(), Some(0));
    assert_eq!(tokenizer.vocabulary_size(), 30522);
}

pub fn pairs_are_cut_as_transformers_does(minilm: &Path) {
    let tokenizer = tokenizer(minilm);
    let encode = |text, pair, max_length| tokenizer.encode(text, pair, max_length).expect("ids");
    for (max_length, first, second) in [(128, 10, 14), (16, 6, 7), (9, 3, 3)] {
        let encoding = encode(QUESTION, Some(ANSWER), max_length);
        let (ids, type_ids) = framed(&QUESTION_IDS[..first], &ANSWER_IDS[..second]);
        assert_eq!(encoding.ids, ids, "max_length {max_length}");
        assert_eq!(encoding.type_ids, type_ids, "max_length {max_length}");
        assert_eq!(encoding.truncated, max_length < 128);
    }
    let encoding = encode("short one", Some(ANSWER), 12);
    assert_eq!(encoding.ids, framed(&[2460, 2028], &ANSWER_IDS[..7]).0);
    let encoding = encode(QUESTION, None, 6);
    assert_eq!(encoding.ids, [101, 2073, 2003, 1996, 7205, 102]);
}

pub fn a_vocabulary_alone_gives_the_same_ids_as_tokenizer_json(minilm: &Path) {
    let text = fs::read(minilm.join("tokenizer.json")).expect("a file");
    let whole: Value = serde_json::from_slice(&text).expect("JSON");
    let vocabulary = whole["model"]["vocab"].as_object().expect("a table");
    let mut tokens: Vec<&str> = vocabulary.keys().map(String::as_str).collect();
    tokens.sort_by_key(|&token| vocabulary[token].as_u64());
    assert_eq!(tokens.len(), 30522);
    let alone = tempfile::tempdir().expect("a directory");
    fs::write(alone.path().join("vocab.txt"), tokens.join("\n")).expect("a file");
    let config = "tokenizer_config.json";
    fs::copy(minilm.join(config), alone.path().join(config)).expect("a copy");
    assert_same_ids_as_transformers(&tokenizer(alone.path()));
}
