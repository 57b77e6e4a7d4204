//! How texts are cut into words before byte-level BPE, by the names of llama.cpp.

use eigenmix_gguf::GgufFile;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::normalizer::SplitDelimiterBehavior;

use super::{malformed, refused};
use crate::error::DataError;

const KEY: &str = "tokenizer.ggml.pre";

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";

/// How a kind of tokenizer cuts texts.
pub(super) struct PreTokenization {
    names: &'static [&'static str],
    /// Each cuts what the one before it left: what matches is a piece, and what lies between.
    expressions: &'static [&'static str],
    /// Whether a word that is a token needs no merges.
    pub(super) whole_words: bool,
    /// Whether a text begins with a special token where the file does not say.
    begins: bool,
    /// Whether characters are composed first (NFC), as the original tokenizers do. llama.cpp leaves
    /// that out.
    composed: bool,
}

const PLAIN: PreTokenization = PreTokenization {
    names: &[],
    expressions: &[],
    whole_words: false,
    begins: false,
    composed: false,
};

const KNOWN: [PreTokenization; 9] = [
    PreTokenization {
        names: &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        expressions: &[LLAMA3],
        whole_words: true,
        begins: true,
        ..PLAIN
    },
    PreTokenization {
        names: &["dbrx", "smaug-bpe"],
        expressions: &[LLAMA3],
        ..PLAIN
    },
    PreTokenization {
        names: &["qwen2", "deepseek-r1-qwen", "megrez"],
        expressions: &[QWEN2],
        composed: true,
        ..PLAIN
    },
    PreTokenization {
        names: &["stablelm2"],
        expressions: &[QWEN2],
        ..PLAIN
    },
    PreTokenization {
        names: &[
            "gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "a.x-4.0", "mellum", "trillion",
        ],
        expressions: &[GPT2],
        ..PLAIN
    },
    PreTokenization {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
        expressions: &[DIGIT, GPT2],
        ..PLAIN
    },
    PreTokenization {
        names: &["tekken"],
        expressions: &[TEKKEN],
        whole_words: true,
        begins: true,
        ..PLAIN
    },
    PreTokenization {
        names: &["gpt-4o", "llama4"],
        expressions: &[GPT4O],
        ..PLAIN
    },
    // A name that says nothing, and what llama.cpp does for it.
    PreTokenization {
        names: &["default"],
        expressions: &[
            r"[\p{P}\$\+<=>\^~\|]+",
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
            r"\p{N}+",
            "[0-9][0-9][0-9]",
        ],
        ..PLAIN
    },
];

impl PreTokenization {
    /// That of a file.
    pub(super) fn of(file: &GgufFile) -> Result<&'static Self, DataError> {
        let name = match file.text(KEY)? {
            Some(name) => name,
            None => name_by_model(file)?,
        };
        let found = KNOWN.iter().find(|known| known.names.contains(&name));
        found.ok_or_else(|| {
            let names: Vec<&str> = KNOWN
                .iter()
                .flat_map(|known| known.names)
                .copied()
                .collect();
            let problem = format!(
                "`{KEY}` is `{name}`, a way to cut texts that is not known here ({} are)",
                names.join(", ")
            );
            refused(file, problem)
        })
    }

    pub(super) fn normalizer(&self) -> Option<NormalizerWrapper> {
        self.composed.then(|| NFC.into())
    }

    pub(super) fn pre_tokenizer(&self, file: &GgufFile) -> Result<Sequence, DataError> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        for expression in self.expressions {
            let pattern = SplitPattern::Regex((*expression).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            steps.push(split.map_err(malformed(file))?.into());
        }
        steps.push(ByteLevel::new(false, true, false).into());
        Ok(Sequence::new(steps))
    }
}

/// What files of early 2024, which do not say, must have meant. llama.cpp takes `default` for all of them,
/// with a warning that the model will be the worse for it.
fn name_by_model(file: &GgufFile) -> Result<&'static str, DataError> {
    let family = file.text("general.architecture")?.unwrap_or_default();
    let tokens = file.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
    match family {
        "qwen2" | "qwen3" => Ok("qwen2"),
        "llama" if tokens.iter().any(|token| token == "<|begin_of_text|>") => Ok("llama-bpe"),
        _ => {
            let problem = format!(
                "it has no `{KEY}`, without which nobody knows how it cuts texts; convert the model again with a newer llama.cpp"
            );
            Err(refused(file, problem))
        }
    }
}

/// Whether a text begins with a special token where the file does not say.
pub(super) fn begins_texts(file: &GgufFile) -> Result<bool, DataError> {
    Ok(PreTokenization::of(file)?.begins)
}
