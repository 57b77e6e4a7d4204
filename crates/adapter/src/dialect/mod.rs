//! The ways in which programs write LoRA adapters.
//!
//! A dialect is one module below with three functions: `recognises` looks at the names of the
//! tensors, `read` finds the modules with their scaling, `write` gives the tensors and what is said
//! about them. Nobody outside knows how a dialect names or turns its tensors.

mod diffusers;
mod diffusers_names;
pub(crate) mod gguf;
pub(crate) mod gguf_file;
pub(crate) mod gguf_writing;
mod kohya;
mod kohya_names;
mod mlx;
mod peft;
use std::fmt;
use std::path::Path;

use eigenmix_tensors::TensorFile;

use crate::index::FileIndex;
use crate::single_file::Writing;
use crate::vera::VeraProjections;
use crate::{Adapter, AdapterError, PeftConfig, Style};

/// A way of writing LoRA adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A directory with `adapter_config.json` and `adapter_model.safetensors`.
    Peft,
    /// One file for a Stable Diffusion model, as kohya's sd-scripts and LyCORIS write it:
    /// `lora_unet_….lora_down.weight`, `.lora_up.weight`, `.alpha`.
    Kohya,
    /// One file for a diffusion pipeline, as diffusers writes it: `unet.….lora_A.weight` and the
    /// older spellings.
    Diffusers,
    /// A directory of mlx-lm: `adapter_config.json` and `adapters.safetensors` with `lora_a`
    /// `[d_in, rank]` and `lora_b` `[rank, d_out]`.
    Mlx,
    /// One .gguf file for llama.cpp and what is built on it.
    Gguf,
}

/// What reading the header and the configuration of an adapter gave.
pub(crate) struct Reading {
    pub(crate) config: PeftConfig,
    pub(crate) index: FileIndex,
    /// Of a VeRA adapter, where its factors come from.
    pub(crate) vera: Option<VeraProjections>,
    pub(crate) style: Style,
}

impl Dialect {
    pub const ALL: [Self; 5] = [
        Self::Peft,
        Self::Kohya,
        Self::Diffusers,
        Self::Mlx,
        Self::Gguf,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Peft => "peft",
            Self::Kohya => "kohya",
            Self::Diffusers => "diffusers",
            Self::Mlx => "mlx",
            Self::Gguf => "gguf",
        }
    }

    /// Whether an adapter is one file that needs none beside it.
    pub fn is_one_file(self) -> bool {
        self.extension().is_some()
    }

    /// How the name ends of an adapter that is one file.
    pub fn extension(self) -> Option<&'static str> {
        match self {
            Self::Kohya | Self::Diffusers => Some("safetensors"),
            Self::Gguf => Some("gguf"),
            Self::Peft | Self::Mlx => None,
        }
    }

    /// Whether the paths of modules begin with the part of a pipeline that they belong to, such as
    /// `unet` or `text_encoder`.
    pub(crate) fn is_of_pipeline(self) -> bool {
        matches!(self, Self::Kohya | Self::Diffusers)
    }

    /// The dialect of a file, by its name and the names of its tensors; PEFT's, if it is none of the
    /// others.
    pub fn of(file: &TensorFile) -> Self {
        if gguf::recognises(file) {
            Self::Gguf
        } else if kohya::recognises(file) {
            Self::Kohya
        } else if diffusers::recognises(file) {
            Self::Diffusers
        } else if mlx::recognises(file) {
            Self::Mlx
        } else {
            Self::Peft
        }
    }

    pub(crate) fn read(self, file: &TensorFile, directory: &Path) -> Result<Reading, AdapterError> {
        match self {
            Self::Peft => peft::read(file, directory),
            Self::Kohya => kohya::read(file),
            Self::Diffusers => diffusers::read(file),
            Self::Mlx => mlx::read(file, directory),
            Self::Gguf => gguf::read(file),
        }
    }

    /// What [`Adapter::save_as`] writes as safetensors, of every dialect but PEFT's.
    pub(crate) fn write<'a>(
        adapter: &'a Adapter,
        style: &Style,
    ) -> Result<Writing<'a>, AdapterError> {
        match style.dialect {
            Self::Kohya => kohya::write(adapter, style),
            Self::Diffusers => diffusers::write(adapter, style),
            Self::Peft | Self::Mlx | Self::Gguf => mlx::write(adapter, style),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Peft => "PEFT",
            Self::Kohya => "kohya",
            Self::Diffusers => "diffusers",
            Self::Mlx => "mlx-lm",
            Self::Gguf => "GGUF",
        })
    }
}
