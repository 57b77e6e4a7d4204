//! A diffusion model as diffusers stores it: a directory with a part in each of its subdirectories.

use std::fmt;
use std::path::{Path, PathBuf};

use eigenmix_models::{Checkpoint, Precision};
use eigenmix_tensors::FileError;
use serde_json::Value;

use crate::DiffusionError;
use crate::schedule::NoiseSchedule;

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
    fn without(self) -> &'static str {
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

/// A diffusion model's directory. Parts are opened when they are asked for.
#[derive(Clone, Debug)]
pub struct Pipeline {
    directory: PathBuf,
    precision: Precision,
}

impl Pipeline {
    /// Whether a directory holds a diffusion model in diffusers' form.
    pub fn is_at(directory: &Path) -> bool {
        let has = |part: Part| directory.join(part.name()).join("config.json").is_file();
        directory.join("model_index.json").is_file() || Part::ALL.into_iter().any(has)
    }

    /// # Errors
    /// If no part of a diffusion model is there.
    pub fn open(directory: &Path, precision: Precision) -> Result<Self, DiffusionError> {
        let pipeline = Self {
            directory: directory.to_owned(),
            precision,
        };
        match Part::ALL.into_iter().any(|part| pipeline.has(part)) {
            true => Ok(pipeline),
            false => Err(DiffusionError::NotAPipeline {
                path: directory.to_owned(),
            }),
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory of a part, whether or not it is there.
    pub fn directory_of(&self, part: Part) -> PathBuf {
        self.directory.join(part.name())
    }

    pub fn has(&self, part: Part) -> bool {
        self.directory_of(part).join("config.json").is_file()
    }

    /// # Errors
    /// If the part is missing, or its files are.
    pub fn checkpoint(&self, part: Part) -> Result<Checkpoint, DiffusionError> {
        if !self.has(part) {
            return Err(DiffusionError::MissingPart {
                path: self.directory.clone(),
                part,
                works: part.without().to_owned(),
            });
        }
        let mut checkpoint = Checkpoint::open_part(&self.directory_of(part), part.stem())?;
        checkpoint.set_precision(self.precision);
        Ok(checkpoint)
    }

    /// The noise schedule that it was trained with: that of its scheduler's file.
    ///
    /// # Errors
    /// If the file is missing or cannot be read, or has a schedule that is not known here.
    pub fn schedule(&self) -> Result<NoiseSchedule, DiffusionError> {
        let directory = self.directory.join("scheduler");
        let path = directory.join("scheduler_config.json");
        match read_json(&path)? {
            Some(json) => NoiseSchedule::from_json(&json, &directory),
            None => Err(DiffusionError::Config {
                path,
                problem: "is not there, and no other file says what noise the model was trained with, or \
                          whether it predicts ε or v; copy it from where the model came from"
                    .to_owned(),
            }),
        }
    }

    /// SDXL: whether an empty negative prompt is zeros rather than the encoded empty text.
    ///
    /// # Errors
    /// If `model_index.json` is there and cannot be read.
    pub fn zeros_for_empty_prompt(&self) -> Result<bool, DiffusionError> {
        let index = read_json(&self.directory.join("model_index.json"))?;
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
            let checkpoint = Checkpoint::open_config(&self.directory_of(Part::Unet))?;
            let added = checkpoint.config().get("addition_embed_type");
            return Ok(match added.and_then(|added| added.as_str()) {
                Some("text_time") => Kind::Xl,
                _ => Kind::Sd,
            });
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

/// The kinds of diffusion models that differ in what their UNet is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stable Diffusion 1.x and 2.x: one text encoder.
    Sd,
    /// Two text encoders, whose pooled text and image sizes are conditions of their own.
    Xl,
}

impl Kind {
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
