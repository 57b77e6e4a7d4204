//! A tokenizer for tests: Llama-3's in small, the one that `language_encoder_reference.py` makes.

use std::fs;
use std::path::Path;

use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::sequence::Sequence as Processors;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

pub(crate) const MERGES: [(&str, &str); 21] = [
    ("Ġ", "t"),
    ("h", "e"),
    ("Ġt", "he"),
    ("i", "n"),
    ("r", "e"),
    ("Ġ", "a"),
    ("e", "d"),
    ("b", "l"),
    ("bl", "u"),
    ("blu", "e"),
    ("Ġ", "blue"),
    ("r", "ed"),
    ("Ġ", "red"),
    ("ð", "Ł"),
    ("Ċ", "Ċ"),
    ("s", "k"),
    ("sk", "y"),
    ("Ġ", "sky"),
    ("Ġ", "Ġ"),
    ("i", "s"),
    ("Ġ", "is"),
];

/// Their ids are 277 to 280.
const SPECIAL: [&str; 4] = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"];

const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The 256 bytes in GPT-2's characters, then the merges.
pub(crate) fn vocabulary() -> Vec<String> {
    let shown = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut hidden = 256..;
    let bytes = (0..256_u32).map(|byte| match shown(byte) {
        true => byte,
        false => hidden.next().unwrap(),
    });
    let bytes = bytes.map(|char| char::from_u32(char).unwrap().to_string());
    let merged = MERGES.iter().map(|(left, right)| format!("{left}{right}"));
    bytes.chain(merged).collect()
}

/// Writes `tokenizer.json` and `tokenizer_config.json`, the first with a frame if asked for.
pub(crate) fn write(dir: &Path, is_framed: bool) {
    let vocabulary: Vec<(String, u32)> = vocabulary().into_iter().zip(0..).collect();
    let merges = MERGES.map(|(left, right)| (left.to_owned(), right.to_owned()));
    let model = BPE::new(vocabulary.into_iter().collect(), merges.to_vec());
    let mut tokenizer = Tokenizer::new(model);
    let split = Split::new(
        SplitPattern::Regex(PATTERN.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .unwrap();
    let bytes = ByteLevel::new(false, true, false);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![split.into(), bytes.into()])));
    tokenizer.with_decoder(Some(ByteLevelDecoder::default()));
    let special = SPECIAL.map(|token| AddedToken::from(token, true));
    tokenizer.add_special_tokens(special).unwrap();
    if is_framed {
        let framing = TemplateProcessing::builder()
            .try_single("<s> $A")
            .unwrap()
            .special_tokens(vec![("<s>", 277)])
            .build()
            .unwrap();
        let trimmed = ByteLevel::new(true, true, true);
        let processors = Processors::new(vec![trimmed.into(), framing.into()]);
        tokenizer.with_post_processor(Some(processors));
    }
    tokenizer.save(dir.join("tokenizer.json"), false).unwrap();
    let config = r#"{"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}"#;
    fs::write(dir.join("tokenizer_config.json"), config).unwrap();
}
