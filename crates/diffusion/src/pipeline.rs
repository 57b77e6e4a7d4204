//! A diffusion model as diffusers stores it, a directory with a part in each of its subdirectories, or as
//! one file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eigenmix_models::{Checkpoint, Precision};
use eigenmix_tensors::FileError;
use serde_json::Value;

use crate::DiffusionError;
use crate::schedule::NoiseSchedule;
use crate::single_file::{Layout, SingleFile};

/// A part of a diffusion model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Unet,
    Vae,
    TextEncoder,
    /// SDXL's second text encoder.
    TextEncoder2,
}

impl Part {
    pub const ALL: [Self; 4] = [Self::Unet, Self::Vae, Self::TextEncoder, Self::TextEncoder2];

    /// What its directory is called, and how the modules of adapters for it begin.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::Vae => "vae",
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
        }
    }

    /// How the files of its weights begin.
    fn stem(self) -> &'static str {
        match self {
            Self::Unet | Self::Vae => "diffusion_pytorch_model",
            Self::TextEncoder | Self::TextEncoder2 => "model",
        }
    }

    /// What does not need it.
    pub(crate) fn without(self) -> &'static str {
        match self {
            Self::Unet => {
                "images and texts can be encoded without it (`--part vae-encode`, `--part text`)"
            }
            Self::Vae => {
                "`--part unet` and `--part text` work without it, images can neither be read nor shown"
            }
            Self::TextEncoder | Self::TextEncoder2 => {
                "`--part unet`, `--part vae-encode` and `--part vae-decode` work without it, prompts do not"
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A diffusion model: a directory in diffusers' form, or one file of the original layout. Parts are opened
/// when they are asked for.
#[derive(Clone)]
pub struct Pipeline {
    path: PathBuf,
    /// Of one file.
    file: Option<Arc<SingleFile>>,
    /// Whose configurations and tokenizers are taken for those that one file does not have.
    config: Option<PathBuf>,
    precision: Precision,
}

/// Where a tokenizer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerPlace {
    pub directory: PathBuf,
    /// The token that pads, where it is another than the tokenizer's own.
    pub padding: Option<i64>,
}

impl Pipeline {
    /// Whether a path is a diffusion model.
    pub fn is_at(path: &Path) -> bool {
        let has = |part: Part| path.join(part.name()).join("config.json").is_file();
        path.join("model_index.json").is_file()
            || Part::ALL.into_iter().any(has)
            || SingleFile::is_at(path)
    }

    /// # Errors
    /// If no part of a diffusion model is there.
    pub fn open(path: &Path, precision: Precision) -> Result<Self, DiffusionError> {
        let file = match path.is_file() {
            true => Some(Arc::new(SingleFile::open(path)?)),
            false => None,
        };
        let pipeline = Self {
            path: path.to_owned(),
            file,
            config: None,
            precision,
        };
        match Part::ALL.into_iter().any(|part| pipeline.has(part)) {
            true => Ok(pipeline),
            false => Err(DiffusionError::NotAPipeline {
                path: path.to_owned(),
            }),
        }
    }

    /// The same file, with what `directory` has of configurations, scheduler and tokenizers: those of a
    /// model of the same kind in diffusers' form, or a tokenizer alone.
    ///
    /// # Errors
    /// If the model is a directory, which has its own.
    pub fn with_config(mut self, directory: &Path) -> Result<Self, DiffusionError> {
        if self.file.is_none() {
            return Err(DiffusionError::Input(format!(
                "`{}` is a directory with configurations of its own; those of `{}` would have no effect",
                self.path.display(),
                directory.display()
            )));
        }
        self.config = Some(directory.to_owned());
        Ok(self)
    }

    /// The directory or the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a user should know of the model.
    pub fn notes(&self) -> Vec<String> {
        let Some(file) = &self.file else {
            return Vec::new();
        };
        let has_scheduler = self.scheduler_file().is_file();
        let assumed = file.assumed().filter(|_| !has_scheduler);
        file.unused()
            .into_iter()
            .chain(assumed)
            .map(str::to_owned)
            .collect()
    }

    /// Where the scheduler's file is, whether or not it is there.
    fn scheduler_file(&self) -> PathBuf {
        self.root().join("scheduler").join("scheduler_config.json")
    }

    /// Where the configuration of a part is, whether or not it is there.
    pub fn directory_of(&self, part: Part) -> PathBuf {
        let configured = self.config.as_ref().map(|config| config.join(part.name()));
        let configured = configured.filter(|directory| directory.join("config.json").is_file());
        configured.unwrap_or_else(|| self.path.join(part.name()))
    }

    pub fn has(&self, part: Part) -> bool {
        match &self.file {
            Some(file) => file.part(part).is_some(),
            None => self.directory_of(part).join("config.json").is_file(),
        }
    }

    /// # Errors
    /// If the part is missing, or its files are.
    pub fn checkpoint(&self, part: Part) -> Result<Checkpoint, DiffusionError> {
        self.require(part)?;
        let mut checkpoint = match &self.file {
            None => Checkpoint::open_part(&self.directory_of(part), part.stem())?,
            Some(file) => {
                let config = self.part_config(part)?;
                let tensors = file.part(part).map(|part| part.tensors.clone());
                let tensors = tensors.ok_or_else(|| self.missing(part))?;
                Checkpoint::of_tensors(&self.path, config, tensors)?
            }
        };
        checkpoint.set_precision(self.precision);
        Ok(checkpoint)
    }

    /// The configuration of a part: its `config.json`, or what the tensors show.
    ///
    /// # Errors
    /// If the part is missing or its configuration cannot be read.
    pub fn part_config(&self, part: Part) -> Result<Value, DiffusionError> {
        self.require(part)?;
        let path = self.directory_of(part).join("config.json");
        match (read_json(&path)?, &self.file) {
            (Some(json), _) => Ok(json),
            (None, Some(file)) => {
                let found = file.part(part).map(|part| part.config.clone());
                found.ok_or_else(|| self.missing(part))
            }
            (None, None) => Err(self.missing(part)),
        }
    }

    fn require(&self, part: Part) -> Result<(), DiffusionError> {
        match self.has(part) {
            true => Ok(()),
            false => Err(self.missing(part)),
        }
    }

    fn missing(&self, part: Part) -> DiffusionError {
        DiffusionError::MissingPart {
            path: self.path.clone(),
            part,
            place: match self.file {
                Some(_) => "none of its tensors is of it".to_owned(),
                None => format!("`{part}/config.json` is missing"),
            },
            works: part.without().to_owned(),
        }
    }

    /// Where the directories beside the parts are.
    fn root(&self) -> &Path {
        self.config.as_deref().unwrap_or(&self.path)
    }

    /// The noise schedule that it was trained with: that of its scheduler's file, or what models of a
    /// single file's kind have.
    ///
    /// # Errors
    /// If the file is missing or cannot be read, or has a schedule that is not known here.
    pub fn schedule(&self) -> Result<NoiseSchedule, DiffusionError> {
        let path = self.scheduler_file();
        let directory = self.root().join("scheduler");
        match (read_json(&path)?, &self.file) {
            (Some(json), _) => NoiseSchedule::from_json(&json, &directory),
            (None, Some(file)) => NoiseSchedule::from_json(file.scheduler(), &self.path),
            (None, None) => Err(DiffusionError::Config {
                path,
                problem: "is not there, and no other file says what noise the model was trained with, or \
                          whether it predicts ε or v; copy it from where the model came from"
                    .to_owned(),
            }),
        }
    }

    /// The tokenizer of a text encoder. One file has none: it is that of [`Pipeline::with_config`], or one
    /// that lies beside the file.
    ///
    /// # Errors
    /// If there is none.
    pub fn tokenizer(&self, part: Part) -> Result<TokenizerPlace, DiffusionError> {
        let name = match part {
            Part::TextEncoder2 => "tokenizer_2",
            _ => "tokenizer",
        };
        let own = |directory: PathBuf| TokenizerPlace {
            directory,
            padding: None,
        };
        let Some(file) = &self.file else {
            let directory = self.path.join(name);
            return match directory.is_dir() {
                true => Ok(own(directory)),
                false => Err(DiffusionError::Config {
                    path: self.path.clone(),
                    problem: format!("`{name}` is missing, without which a prompt cannot be read"),
                }),
            };
        };
        let beside = self.path.parent().map(Path::to_owned);
        let roots: Vec<PathBuf> = self.config.clone().into_iter().chain(beside).collect();
        let mut named = roots.iter().map(|root| root.join(name));
        if let Some(directory) = named.find(|directory| directory.is_dir()) {
            return Ok(own(directory));
        }
        // OpenCLIP has the tokens of CLIP and pads with the first of them.
        let is_open = part == Part::TextEncoder2 || file.layout() == Layout::Two;
        let has_words = |directory: &PathBuf| {
            ["vocab.json", "tokenizer.json"]
                .iter()
                .any(|name| directory.join(name).is_file())
        };
        let of_clip = roots
            .iter()
            .flat_map(|root| [root.join("tokenizer"), root.clone()])
            .find(has_words);
        match of_clip {
            Some(directory) => Ok(TokenizerPlace {
                directory,
                padding: is_open.then_some(0),
            }),
            None => Err(DiffusionError::Config {
                path: self.path.clone(),
                problem: "is one file, which has no tokenizer, and there is no `tokenizer` beside it; give --base-config \
                          with a model of the same kind in diffusers' form or with CLIP's tokenizer, such as \
                          openai/clip-vit-large-patch14"
                    .to_owned(),
            }),
        }
    }

    /// SDXL: whether an empty negative prompt is zeros rather than the encoded empty text.
    ///
    /// # Errors
    /// If `model_index.json` is there and cannot be read.
    pub fn zeros_for_empty_prompt(&self) -> Result<bool, DiffusionError> {
        let index = read_json(&self.root().join("model_index.json"))?;
        let said = index
            .as_ref()
            .and_then(|index| index.get("force_zeros_for_empty_prompt"));
        let is_xl = self.kind()? == Kind::Xl;
        Ok(is_xl && said.and_then(Value::as_bool).unwrap_or(true))
    }

    /// What kind of model it is, by what is there.
    ///
    /// # Errors
    /// If the UNet's configuration cannot be read.
    pub fn kind(&self) -> Result<Kind, DiffusionError> {
        if self.has(Part::Unet) {
            return Ok(Kind::of_unet(&self.part_config(Part::Unet)?));
        }
        Ok(match self.has(Part::TextEncoder2) {
            true => Kind::Xl,
            false => Kind::Sd,
        })
    }
}

impl Pipeline {
    /// Of values that are not finite: which weights are not, if some are.
    pub fn explained(&self, error: DiffusionError) -> DiffusionError {
        match error {
            DiffusionError::NotFinite { part } => match self.broken_weights(part) {
                Ok(found) => found.unwrap_or(error),
                Err(error) => error,
            },
            other => other,
        }
    }

    /// The first weights of a part that are not finite.
    fn broken_weights(&self, part: Part) -> Result<Option<DiffusionError>, DiffusionError> {
        let checkpoint = self.checkpoint(part)?;
        for name in checkpoint.names() {
            let Some(shape) = checkpoint.shape(name).map(<[usize]>::to_vec) else {
                continue;
            };
            let values = checkpoint.read(name, &shape)?;
            if !values.iter().all(|value| value.is_finite()) {
                let dtype = checkpoint.file_of(name).map(|file| file.tensor(name));
                let dtype = dtype.transpose()?.map(|(_, dtype)| format!("{dtype:?}"));
                return Ok(Some(DiffusionError::BrokenWeights {
                    part,
                    tensor: name.to_owned(),
                    dtype: dtype.unwrap_or_else(|| "another form".to_owned()),
                }));
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pipeline")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The kinds of diffusion models that differ in what their UNet is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stable Diffusion 1.x and 2.x: one text encoder.
    Sd,
    /// Two text encoders, whose pooled text and image sizes are conditions of their own.
    Xl,
}

impl Kind {
    /// That of a model with such a UNet.
    ///
    /// - json: the UNet's `config.json`
    pub(crate) fn of_unet(json: &Value) -> Self {
        match json.get("addition_embed_type").and_then(Value::as_str) {
            Some("text_time") => Self::Xl,
            _ => Self::Sd,
        }
    }

    /// The guidance that diffusers takes for such a model.
    pub fn usual_guidance(self) -> f64 {
        match self {
            Self::Sd => 7.5,
            Self::Xl => 5.0,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Sd => "Stable Diffusion 1.x or 2.x",
            Self::Xl => "SDXL",
        }
    }
}

/// A file of JSON, if it is there.
fn read_json(path: &Path) -> Result<Option<Value>, DiffusionError> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(FileError::io("read", path))?;
    let json = serde_json::from_str(&text).map_err(|error| DiffusionError::Config {
        path: path.to_owned(),
        problem: error.to_string(),
    })?;
    Ok(Some(json))
}
