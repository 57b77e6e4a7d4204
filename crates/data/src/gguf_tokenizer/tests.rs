use std::path::{Path, PathBuf};

use eigenmix_gguf::{GgufArray, GgufFile, GgufValue, write_gguf};
use serde_json::Value;

use crate::{
    ChatTemplate, IncrementalDecoder, Message, TextTokenizer, gguf_text_files, gguf_tokenizer_json,
    has_chat_template,
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/gguf")
        .join(name)
}

fn vocabulary(family: &str) -> PathBuf {
    golden(&format!("vocabulary-{family}.gguf"))
}

fn tokenizer(family: &str) -> TextTokenizer {
    TextTokenizer::from_dir(&vocabulary(family)).unwrap()
}

fn ids(tokenizer: &TextTokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, None, 1000).unwrap().ids
}

fn numbers(value: &Value) -> Vec<u32> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_u64().unwrap() as u32).collect()
}

/// tokens.json: what llama.cpp, transformers and SentencePiece make of some texts.
fn cases(family: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(golden("tokens.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    all[family].as_array().unwrap().clone()
}

/// Copies a file's metadata, some of it changed; `None` takes it out.
fn changed(family: &str, changes: &[(&str, Option<GgufValue>)]) -> (tempfile::TempDir, PathBuf) {
    let file = GgufFile::open(&vocabulary(family)).unwrap();
    let mut metadata: Vec<(String, GgufValue)> = file
        .metadata()
        .filter(|(key, _)| !changes.iter().any(|(changed, _)| changed == key))
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect();
    for (key, value) in changes {
        metadata.extend(value.clone().map(|value| ((*key).to_owned(), value)));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("changed.gguf");
    write_gguf(&path, &metadata, &[]).unwrap();
    (directory, path)
}

fn error(family: &str, changes: &[(&str, Option<GgufValue>)]) -> String {
    let (_directory, path) = changed(family, changes);
    TextTokenizer::from_dir(&path).err().unwrap().to_string()
}

#[test]
fn ids_are_those_of_llama_cpp() {
    let mut seen = 0;
    for family in ["llama", "llama3", "qwen2", "gemma2"] {
        let tokenizer = tokenizer(family);
        for case in cases(family) {
            let text = case["text"].as_str().unwrap();
            let expected = numbers(&case["llama_cpp"]);
            assert_eq!(ids(&tokenizer, text), expected, "{family}: {text:?}");
            seen += 1;
        }
    }
    assert_eq!(seen, 45);
}

#[test]
fn ids_of_plain_texts_are_those_of_sentencepiece() {
    for family in ["llama", "gemma2"] {
        let tokenizer = tokenizer(family);
        for case in cases(family) {
            let text = case["text"].as_str().unwrap();
            if text.contains('<') {
                continue;
            }
            let found = ids(&tokenizer, text);
            assert_eq!(
                found[1..],
                numbers(&case["sentencepiece"]),
                "{family}: {text:?}"
            );
        }
    }
}

#[test]
fn byte_level_ids_are_those_of_transformers() {
    for family in ["llama3", "qwen2"] {
        let tokenizer = tokenizer(family);
        for case in cases(family) {
            let text = case["text"].as_str().unwrap();
            let found = ids(&tokenizer, text);
            let expected = numbers(&case["transformers"]);
            // transformers' reader does not put the first token before a text of this kind.
            let found = &found[found.len() - expected.len()..];
            assert_eq!(found, expected, "{family}: {text:?}");
        }
    }
}

#[test]
fn ids_become_the_text_again() {
    for family in ["llama", "llama3", "qwen2", "gemma2"] {
        let tokenizer = tokenizer(family);
        for case in cases(family) {
            let text = case["text"].as_str().unwrap();
            if text.contains('<') {
                continue;
            }
            let ids = ids(&tokenizer, text);
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), text, "{family}");
        }
    }
}

#[test]
fn tokens_come_out_one_by_one_as_they_do_at_once() {
    for family in ["llama", "gemma2", "qwen2"] {
        let tokenizer = tokenizer(family);
        let text = "two  spaces, Größe 日本 🙂";
        let mut decoder = IncrementalDecoder::new(&tokenizer, true);
        let mut found = String::new();
        for id in ids(&tokenizer, text) {
            found += &decoder.push(id).unwrap();
        }
        found += &decoder.finish().unwrap();
        assert_eq!(found.trim_start(), text, "{family}");
    }
}

#[test]
fn special_tokens_are_those_that_the_file_names() {
    let llama = tokenizer("llama");
    assert_eq!(
        (llama.bos_id(), llama.eos_id(), llama.pad_id()),
        (Some(1), Some(2), None)
    );
    assert_eq!(llama.stop_ids(), [2]);
    let gemma = tokenizer("gemma2");
    assert_eq!(
        (gemma.bos_id(), gemma.eos_id(), gemma.pad_id()),
        (Some(2), Some(1), Some(0))
    );
    // The end of a turn too, which the file does not name.
    assert_eq!(gemma.stop_ids(), [1, 5]);
    let qwen = tokenizer("qwen2");
    assert_eq!(
        (qwen.bos_id(), qwen.eos_id(), qwen.pad_id()),
        (Some(346), Some(348), Some(346))
    );
    assert_eq!(qwen.stop_ids(), [346, 348]);
    // All rows of the table have a token, unused ones too.
    assert_eq!(qwen.vocabulary_size(), 354);
    assert_eq!(qwen.text_vocabulary_size(), 354);
}

#[test]
fn an_end_of_turn_by_its_own_name_ends_what_is_generated() {
    let changes = [("tokenizer.ggml.eot_token_id", Some(GgufValue::U32(4)))];
    let (_directory, path) = changed("gemma2", &changes);
    let tokenizer = TextTokenizer::from_dir(&path).unwrap();
    assert_eq!(tokenizer.stop_ids(), [1, 4, 5]);
    assert_eq!(tokenizer.eos_id(), Some(1));
    // An id that is none names no token.
    let changes = [(
        "tokenizer.ggml.padding_token_id",
        Some(GgufValue::U32(u32::MAX)),
    )];
    let (_directory, path) = changed("gemma2", &changes);
    assert_eq!(TextTokenizer::from_dir(&path).unwrap().pad_id(), None);
}

#[test]
fn texts_are_framed_as_the_file_says() {
    let add = |name: &str, value: bool| {
        let key = format!("tokenizer.ggml.add_{name}_token");
        (key, Some(GgufValue::Bool(value)))
    };
    let framed = |family: &str, flags: &[(&str, bool)]| {
        let flags: Vec<_> = flags
            .iter()
            .map(|(name, value)| add(name, *value))
            .collect();
        let flags: Vec<_> = flags
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone()))
            .collect();
        let (_directory, path) = changed(family, &flags);
        let tokenizer = TextTokenizer::from_dir(&path).unwrap();
        let pair = tokenizer.encode("a", Some("b"), 100).unwrap();
        (ids(&tokenizer, "a"), pair.ids, pair.type_ids)
    };
    let (one, pair, types) = framed("llama", &[("bos", true), ("eos", true)]);
    assert_eq!(one, [1, 263, 2]);
    assert_eq!(pair, [1, 263, 2, 1, 297, 312, 2]);
    assert_eq!(types, [0, 0, 0, 1, 1, 1, 1]);
    let (one, pair, _) = framed("llama", &[("bos", false), ("eos", false)]);
    assert_eq!((one, pair), (vec![263], vec![263, 297, 312]));

    // Where the file does not say, SentencePiece's and LLaMA 3's begin a text, Qwen's does not.
    let plain = |family: &str| {
        let changes = [
            ("tokenizer.ggml.add_bos_token", None),
            ("tokenizer.ggml.add_eos_token", None),
        ];
        let (_directory, path) = changed(family, &changes);
        ids(&TextTokenizer::from_dir(&path).unwrap(), "a").len()
    };
    assert_eq!([plain("llama"), plain("llama3"), plain("qwen2")], [2, 2, 1]);
}

#[test]
fn every_way_to_cut_texts_has_expressions_that_can_be_read() {
    // "12345 don't": how many pieces there are at least shows which digits stay together.
    for (name, digits) in [
        ("llama3", 2),
        ("smaug-bpe", 2),
        ("qwen2", 5),
        ("stablelm2", 5),
        ("gpt-2", 1),
        ("smollm", 5),
        ("tekken", 5),
        ("gpt-4o", 2),
        ("default", 2),
    ] {
        let merges = ["1 2", "12 3", "123 4", "1234 5", "4 5"].map(str::to_owned);
        let tokens: Vec<String> = (b'0'..=b'9')
            .map(|digit| char::from(digit).to_string())
            .collect();
        let tokens = [
            tokens,
            ["12", "123", "1234", "12345", "45"]
                .map(str::to_owned)
                .to_vec(),
        ]
        .concat();
        let changes = [
            ("tokenizer.ggml.pre", Some(GgufValue::from(name))),
            (
                "tokenizer.ggml.tokens",
                Some(GgufArray::String(tokens).into()),
            ),
            ("tokenizer.ggml.token_type", None),
            (
                "tokenizer.ggml.merges",
                Some(GgufArray::String(merges.to_vec()).into()),
            ),
            ("tokenizer.ggml.add_bos_token", Some(false.into())),
            ("tokenizer.ggml.bos_token_id", None),
            ("tokenizer.ggml.eos_token_id", None),
        ];
        let (_directory, path) = changed("llama3", &changes);
        let tokenizer = TextTokenizer::from_dir(&path).unwrap();
        assert_eq!(ids(&tokenizer, "12345").len(), digits, "{name}");
    }
}

#[test]
fn a_file_that_does_not_say_how_it_cuts_texts_is_known_by_its_model() {
    let unsaid = ("tokenizer.ggml.pre", None);
    for family in ["llama3", "qwen2"] {
        let (_directory, path) = changed(family, std::slice::from_ref(&unsaid));
        let found = TextTokenizer::from_dir(&path).unwrap();
        for case in cases(family) {
            let text = case["text"].as_str().unwrap();
            assert_eq!(
                ids(&found, text),
                ids(&tokenizer(family), text),
                "{family}: {text:?}"
            );
        }
    }
    let other = ("general.architecture", Some("gemma2".into()));
    let error = error("llama3", &[unsaid, other]);
    assert!(error.contains("has no `tokenizer.ggml.pre`"), "{error}");
}

#[test]
fn qwens_texts_are_composed_first() {
    let tokenizer = tokenizer("qwen2");
    assert_eq!(ids(&tokenizer, "cafe\u{301}"), ids(&tokenizer, "café"));
}

#[test]
fn the_chat_template_is_that_of_the_file() {
    let template = ChatTemplate::load(&vocabulary("llama3"), None).unwrap();
    let messages = [
        Message::new("user", "Hi"),
        Message::new("assistant", "Hello"),
    ];
    let text = template.render(&messages, &[], false).unwrap();
    assert_eq!(
        text,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    );
    assert!(has_chat_template(&vocabulary("llama3")).unwrap());
    assert_eq!(template.path(), vocabulary("llama3"));
}

#[test]
fn a_template_for_tools_and_special_tokens_are_known_to_it() {
    let names = GgufArray::String(vec!["tool_use".to_owned()]);
    let changes = [
        (
            "tokenizer.chat_template",
            Some("usual {{ bos_token }}".into()),
        ),
        ("tokenizer.chat_templates", Some(names.into())),
        (
            "tokenizer.chat_template.tool_use",
            Some("tools {{ eos_token }}".into()),
        ),
    ];
    let (_directory, path) = changed("llama", &changes);
    let template = ChatTemplate::load(&path, None).unwrap();
    assert_eq!(template.render(&[], &[], false).unwrap(), "usual <s>");
    let tools = [serde_json::json!({})];
    assert_eq!(template.render(&[], &tools, false).unwrap(), "tools </s>");
}

#[test]
fn as_files_of_a_directory_it_gives_the_same_tokens() {
    for family in ["llama", "llama3", "qwen2", "gemma2"] {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in gguf_text_files(&vocabulary(family)).unwrap() {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        let (own, files) = (
            tokenizer(family),
            TextTokenizer::from_dir(directory.path()).unwrap(),
        );
        for case in cases(family) {
            let text = case["text"].as_str().unwrap();
            let expected = own.encode(text, Some(text), 1000).unwrap();
            assert_eq!(
                files.encode(text, Some(text), 1000).unwrap(),
                expected,
                "{family}: {text:?}"
            );
            let decoded = files.decode(&expected.ids, true).unwrap();
            assert_eq!(decoded, own.decode(&expected.ids, true).unwrap());
        }
        assert_eq!(
            (files.bos_id(), files.eos_id(), files.pad_id()),
            (own.bos_id(), own.eos_id(), own.pad_id())
        );
        // What ends a turn is still what the model says.
        let brought = TextTokenizer::from_dirs(directory.path(), &vocabulary(family)).unwrap();
        assert_eq!(brought.stop_ids(), own.stop_ids());
        let template = ChatTemplate::load(directory.path(), None).unwrap();
        let of_file = ChatTemplate::load(&vocabulary(family), None).unwrap();
        assert_eq!(template.source(), of_file.source());
    }
}

#[test]
fn a_file_without_a_tokenizer_takes_one_that_is_beside_an_adapter() {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in gguf_text_files(&vocabulary("llama")).unwrap() {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    let own = tokenizer("llama");
    // Without tokens, and with a kind that is not read.
    for (key, value) in [
        ("tokenizer.ggml.tokens", None),
        ("tokenizer.ggml.model", Some("t5".into())),
    ] {
        let (_directory, path) = changed("llama", &[(key, value)]);
        assert!(gguf_tokenizer_json(&path).is_err());
        let brought = TextTokenizer::from_dirs(directory.path(), &path).unwrap();
        assert_eq!(
            (brought.bos_id(), brought.eos_id(), brought.stop_ids()),
            (own.bos_id(), own.eos_id(), own.stop_ids()),
            "{key}"
        );
    }
}

#[test]
fn a_file_without_a_template_says_what_to_do() {
    let (_directory, path) = changed("llama", &[("tokenizer.chat_template", None)]);
    assert!(!has_chat_template(&path).unwrap());
    let error = ChatTemplate::load(&path, None).err().unwrap().to_string();
    assert!(
        error.contains("has no chat template (`tokenizer.chat_template`)"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_a_tokenizer_is_refused_by_name() {
    let texts = |texts: &[&str]| -> Option<GgufValue> {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        Some(GgufArray::String(texts).into())
    };
    for (family, key, value, part) in [
        (
            "llama3",
            "tokenizer.ggml.model",
            Some("t5".into()),
            "`tokenizer.ggml.model` is `t5`",
        ),
        (
            "llama3",
            "tokenizer.ggml.model",
            None,
            "no metadata `tokenizer.ggml.model`",
        ),
        (
            "llama3",
            "tokenizer.ggml.pre",
            Some("unheard-of".into()),
            "`tokenizer.ggml.pre` is `unheard-of`",
        ),
        (
            "llama3",
            "tokenizer.ggml.merges",
            texts(&["ab"]),
            "has `ab` at 0, expected two tokens",
        ),
        (
            "llama3",
            "tokenizer.ggml.merges",
            texts(&["a zz"]),
            "is not a valid tokenizer",
        ),
        (
            "llama3",
            "tokenizer.ggml.tokens",
            texts(&["a", "b"]),
            "expected one for each of 2 tokens",
        ),
        (
            "llama",
            "tokenizer.ggml.scores",
            None,
            "no metadata `tokenizer.ggml.scores`",
        ),
        (
            "llama",
            "tokenizer.ggml.scores",
            Some(GgufArray::F32(vec![0.0]).into()),
            "has 1 elements, expected",
        ),
        (
            "llama",
            "tokenizer.ggml.remove_extra_whitespaces",
            Some(true.into()),
            "changes texts",
        ),
        (
            "llama",
            "tokenizer.ggml.bos_token_id",
            None,
            "`tokenizer.ggml.add_bos_token` asks for",
        ),
    ] {
        let error = error(family, &[(key, value)]);
        assert!(error.contains(part), "{key}: {error}");
    }
    let twice = [
        ("tokenizer.ggml.tokens", texts(&["a", "b", "a"])),
        ("tokenizer.ggml.token_type", None),
    ];
    assert!(error("llama3", &twice).contains("has `a` twice"));
}

#[test]
fn a_file_of_another_form_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokenizer.json");
    std::fs::write(&path, "{\"model\": 1}").unwrap();
    let error = TextTokenizer::from_dir(&path).err().unwrap().to_string();
    assert!(error.contains("does not begin with `GGUF`"), "{error}");
}
