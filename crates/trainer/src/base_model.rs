//! A base model directory: its location, description and tokenizer.

use std::path::{Path, PathBuf};

use eigenmix_adapter::{AdapterFile, Companion};
use eigenmix_data::{
    InputContract, TextTokenizer, gguf_text_files, gguf_tokenizer_json, has_chat_template,
};
use eigenmix_models::{
    Architecture, Checkpoint, LinearLayer, ModelError, Precision, TensorSizes, is_gguf,
};

use eigenmix_tensors::{FileError, Matrix};

use crate::TrainerError;
use crate::base_location::{Wanted, is_on_hub, locate};
use crate::model::own_head;
use crate::problem_type::MULTI_LABEL;

/// A base model whose weights are mapped but not read.
pub struct BaseModel {
    /// The name that the user gave, which adapters' configurations repeat.
    pub name: String,
    pub checkpoint: Checkpoint,
    pub architecture: Architecture,
    /// How many tokens it knows with the adapter's table, if that brings one.
    vocabulary: Option<usize>,
    /// Where another tokenizer is that an adapter brought along.
    tokenizer_directory: Option<PathBuf>,
    /// Where another chat template is that an adapter brought along.
    template_directory: Option<PathBuf>,
}

impl BaseModel {
    /// Finds a base model, fetching it from the Hub if it is not here: a directory, a GGUF file, a Hub id, or
    /// `org/name:file.gguf`.
    ///
    /// # Errors
    /// If it cannot be found, or is not a model that Eigenmix supports.
    pub fn open(name: &str) -> Result<Self, TrainerError> {
        let directory = locate(name, Wanted::Weights)?;
        Self::describe(name, Checkpoint::open(&directory)?)
    }

    /// The same without weights, for a training from scratch.
    ///
    /// # Errors
    /// As [`BaseModel::open`].
    pub fn open_config(name: &str) -> Result<Self, TrainerError> {
        let directory = locate(name, Wanted::Description)?;
        Self::describe(name, Checkpoint::open_config(&directory)?)
    }

    /// The same with weights only where they are on this machine: of one on the Hub, no more than its
    /// description is fetched.
    ///
    /// # Errors
    /// As [`BaseModel::open`], but for missing weights; a directory that has only some of its shards is
    /// refused.
    pub fn open_here(name: &str) -> Result<Self, TrainerError> {
        let path = locate(name, Wanted::Description)?;
        let checkpoint = match Checkpoint::open(&path) {
            Err(ModelError::NotACheckpoint { .. }) => Checkpoint::open_config(&path)?,
            // What was fetched from the Hub may be a part; a directory that lacks a shard is damaged.
            Err(ModelError::MissingShard { .. }) if is_on_hub(name)? => {
                Checkpoint::open_config(&path)?
            }
            opened => opened?,
        };
        Self::describe(name, checkpoint)
    }

    /// Its checkpoint once more, of which models share what is frozen: that goes with it, and no training that
    /// comes after has to keep it.
    ///
    /// # Errors
    /// If a file has changed since it was opened, or is not there any more.
    pub(crate) fn sharing(&self, precision: Precision) -> Result<Checkpoint, TrainerError> {
        let path = self.checkpoint.path();
        // One that is trained from scratch may have no weights.
        let mut checkpoint = match self.checkpoint.names().next() {
            Some(_) => Checkpoint::open(path)?,
            None => Checkpoint::open_config(path)?,
        };
        checkpoint.set_precision(precision);
        checkpoint.share_tensors();
        Ok(checkpoint)
    }

    /// What its tensors take, under the head that it has by itself or else the usual one.
    ///
    /// # Errors
    /// If a file has changed since it was opened.
    pub fn tensor_sizes(&self) -> Result<TensorSizes, TrainerError> {
        let own = own_head(self, None);
        let head = own.unwrap_or_else(|_| self.architecture.usual_head(2));
        Ok(TensorSizes::of(&self.checkpoint, &self.architecture, head)?)
    }

    fn describe(name: &str, checkpoint: Checkpoint) -> Result<Self, TrainerError> {
        let path = match is_gguf(checkpoint.path()) {
            true => checkpoint.path().to_owned(),
            false => checkpoint.path().join("config.json"),
        };
        let architecture = Architecture::from_json(checkpoint.config(), &path)?;
        Ok(Self {
            name: name.to_owned(),
            checkpoint,
            architecture,
            vocabulary: None,
            tokenizer_directory: None,
            template_directory: None,
        })
    }

    /// Takes tokenizer and chat template from `directory` instead, as far as they are there: those
    /// that an adapter was trained with lie beside it. Says whether the tokenizer is another one, which it is
    /// where the model has none by itself or one that is not understood.
    ///
    /// # Errors
    /// If a file is there and cannot be read.
    pub fn bring_text_files(&mut self, directory: &Path) -> Result<bool, TrainerError> {
        if has_chat_template(directory)? {
            self.template_directory = Some(directory.to_owned());
        }
        let brought = directory.join(TOKENIZER);
        if !brought.is_file() {
            return Ok(false);
        }
        self.tokenizer_directory = Some(directory.to_owned());
        let brought = std::fs::read(&brought).map_err(FileError::io("read", &brought))?;
        let own = match self.tokenizer_json() {
            Err(TrainerError::Data(_)) => None,
            own => own?,
        };
        Ok(own.is_none_or(|own| own != brought))
    }

    /// Its own `tokenizer.json`, or that which the tokenizer of a GGUF file would have.
    ///
    /// # Errors
    /// If it is there and cannot be read, or the GGUF file has no tokenizer that is understood.
    fn tokenizer_json(&self) -> Result<Option<Vec<u8>>, TrainerError> {
        if is_gguf(self.directory()) {
            return Ok(Some(gguf_tokenizer_json(self.directory())?));
        }
        let path = self.directory().join(TOKENIZER);
        let is_there = path.is_file();
        let read = || std::fs::read(&path).map_err(FileError::io("read", &path));
        Ok(is_there.then(read).transpose()?)
    }

    /// Its own tokenizer and chat template as files, however it has them.
    ///
    /// # Errors
    /// If one is there and cannot be read.
    pub(crate) fn text_files(&self) -> Result<Vec<Companion>, TrainerError> {
        if !is_gguf(self.directory()) {
            return Ok(Companion::read_all(self.directory(), &TEXT_COMPANIONS)?);
        }
        let files = gguf_text_files(self.directory())?.into_iter();
        let companion = |(name, content): (&str, Vec<u8>)| Companion {
            name: name.to_owned(),
            content,
        };
        Ok(files.map(companion).collect())
    }

    /// Expects texts of as many tokens as the adapter has a table for.
    pub fn bring_vocabulary(&mut self, adapter: &AdapterFile) {
        self.vocabulary = adapter.vocabulary().or(self.vocabulary);
    }

    /// Where the chat template is looked for.
    pub fn template_directory(&self) -> &Path {
        let brought = self.template_directory.as_deref();
        brought.unwrap_or(self.directory())
    }

    /// The weight of a layer: W `[d_out, d_in]`, however the checkpoint stores it.
    ///
    /// # Errors
    /// If the checkpoint lacks it or has it in another shape.
    pub(crate) fn layer_weight(&self, layer: &LinearLayer) -> Result<Matrix, TrainerError> {
        let name = format!("{}.weight", layer.path);
        let found = self.checkpoint.find(&name, self.architecture.prefix());
        let [rows, columns] = layer.stored_shape();
        let values = self
            .checkpoint
            .read(found.unwrap_or(&name), &[rows, columns])?;
        let stored = Matrix::new(rows, columns, values);
        Ok(match layer.transposed {
            true => stored.transposed(),
            false => stored,
        })
    }

    /// Its name without a revision, and the requested revision on the Hub; PEFT stores the two
    /// separately.
    pub fn name_and_revision(&self) -> (&str, Option<&str>) {
        match self.name.split_once('@') {
            Some((name, revision)) if !Path::new(&self.name).exists() => (name, Some(revision)),
            _ => (&self.name, None),
        }
    }

    pub fn directory(&self) -> &Path {
        self.checkpoint.path()
    }

    /// The model's tokenizer.
    ///
    /// # Errors
    /// If there is none, or it knows more tokens than the model.
    pub fn tokenizer(&self) -> Result<TextTokenizer, TrainerError> {
        let brought = self.tokenizer_directory.as_deref();
        let from = brought.unwrap_or(self.directory());
        let tokenizer = TextTokenizer::from_dirs(from, self.directory())?;
        let Some(model) = self.vocabulary.or(self.architecture.vocab_size()) else {
            return Ok(tokenizer);
        };
        // An added token that no text has, such as one for padding, needs no embedding.
        match tokenizer.text_vocabulary_size() {
            known if known > model => Err(TrainerError::Vocabulary {
                tokenizer: known,
                model,
            }),
            _ => Ok(tokenizer.with_embeddings(model)),
        }
    }

    /// The maximum length of its sequences, special tokens included.
    ///
    /// # Errors
    /// If it takes no text.
    pub fn max_length(&self) -> Result<usize, TrainerError> {
        self.architecture
            .max_length()
            .ok_or_else(|| TrainerError::NoText {
                model: self.name.clone(),
            })
    }

    /// Whether its own head is one of labels of which an example may have several (`problem_type`).
    pub fn is_multi_label(&self) -> bool {
        let problem = self.checkpoint.config().get("problem_type");
        problem.and_then(|problem| problem.as_str()) == Some(MULTI_LABEL)
    }

    /// The names of the checkpoint's own labels (`id2label`), if it is a classifier.
    pub fn labels(&self) -> Option<Vec<String>> {
        let names = self.checkpoint.config().get("id2label")?.as_object()?;
        (0..names.len())
            .map(|index| names.get(&index.to_string())?.as_str().map(str::to_owned))
            .collect()
    }
}

/// Files that belong to a model besides its weights and `config.json`.
pub(crate) const COMPANIONS: [&str; 13] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
];

/// Those of them that an adapter takes along: what turns a text into tokens and back.
pub const TEXT_COMPANIONS: [&str; 9] = [
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    InputContract::CHAT_TEMPLATE,
];

const TOKENIZER: &str = "tokenizer.json";
