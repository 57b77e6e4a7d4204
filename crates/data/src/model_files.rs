//! The files of a model: a directory in Hugging Face's form, or one GGUF file that has everything.

use std::path::{Path, PathBuf};

use eigenmix_gguf::GgufFile;
use serde_json::{Map, Value};
use tokenizers::Tokenizer;

use crate::bert_vocabulary;
use crate::clip_vocabulary;
use crate::contained::contained;
use crate::error::{DataError, quoted};
use crate::gguf_tokenizer;
use crate::gpt2_vocabulary;
use crate::split::list_dir;
use crate::tokenizer_config::{TokenizerConfig, read_if_present};

/// Where a model's tokenizer, its special tokens and its chat template are.
pub(crate) enum ModelFiles {
    Directory(PathBuf),
    Gguf(GgufFile),
}

/// What tokenizer.json is made from in models that use SentencePiece.
const SENTENCEPIECE_FILES: [&str; 3] =
    ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"];

impl ModelFiles {
    /// A path to a file is one to a GGUF file, any other a directory.
    ///
    /// # Errors
    /// When there is a file that is not a well-formed GGUF file.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        match path.is_file() {
            true => Ok(Self::Gguf(GgufFile::open(path)?)),
            false => Ok(Self::Directory(path.to_owned())),
        }
    }

    /// What they say about the tokenizer beside the tokenizer itself.
    pub(crate) fn tokenizer_config(&self) -> Result<TokenizerConfig, DataError> {
        match self {
            Self::Directory(path) => TokenizerConfig::read(path),
            Self::Gguf(file) => gguf_tokenizer::tokenizer_config(file),
        }
    }

    /// Ids of special tokens, in the order in which they are asked: those of generation, those of the
    /// model.
    pub(crate) fn special_ids(&self) -> Result<[Map<String, Value>; 2], DataError> {
        match self {
            Self::Directory(path) => {
                let read = |name: &str| read_if_present(&path.join(name));
                let generation = read("generation_config.json")?.unwrap_or_default();
                Ok([generation, read("config.json")?.unwrap_or_default()])
            }
            Self::Gguf(file) => Ok([gguf_tokenizer::special_ids(file)?, Map::new()]),
        }
    }

    /// The tokenizer: that of a GGUF file; `tokenizer.json`, the `vocab.txt` of a BERT, or the
    /// `vocab.json` and `merges.txt` of a GPT-2 or a CLIP.
    ///
    /// # Errors
    /// When none of them is there, or a file cannot be read or understood.
    pub(crate) fn tokenizer(&self, config: &TokenizerConfig) -> Result<Tokenizer, DataError> {
        match self {
            Self::Directory(path) => of_directory(path, config),
            Self::Gguf(file) => gguf_tokenizer::build(file),
        }
    }
}

fn of_directory(directory: &Path, config: &TokenizerConfig) -> Result<Tokenizer, DataError> {
    let json = directory.join("tokenizer.json");
    let vocabulary = directory.join("vocab.txt");
    let is_there = |name: &str| directory.join(name).is_file();
    if json.is_file() {
        return contained(|| Tokenizer::from_file(&json))
            .map_err(|source| DataError::MalformedTokenizer { path: json, source });
    }
    if vocabulary.is_file() && bert_vocabulary::is_bert(config) {
        return bert_vocabulary::build(&vocabulary, config);
    }
    if is_there("vocab.json") && is_there("merges.txt") {
        if gpt2_vocabulary::is_gpt2(directory, config)? {
            return gpt2_vocabulary::build(directory, config);
        }
        if clip_vocabulary::is_clip(directory, config)? {
            return clip_vocabulary::build(directory, config);
        }
    }
    match SENTENCEPIECE_FILES.iter().find(|name| is_there(name)) {
        Some(found) => Err(DataError::SentencePieceOnly {
            dir: directory.to_owned(),
            found: (*found).to_owned(),
        }),
        None => Err(DataError::MissingTokenizer {
            dir: directory.to_owned(),
            found: quoted(&list_dir(directory)?),
        }),
    }
}
