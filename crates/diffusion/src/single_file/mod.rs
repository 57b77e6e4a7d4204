//! A diffusion model in one file of the original layout, as it was published and as other programs keep
//! it: its tensors by diffusers' names.

mod derived_config;
mod text_names;
mod unet_names;
mod vae_names;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use eigenmix_tensors::{Dtype, FileError, HeldTensor, TensorFile};
use serde_json::Value;

use crate::{DiffusionError, Part};
use text_names::Taken;

const UNET: &str = "model.diffusion_model.";
const VAE: &str = "first_stage_model.";
/// Text encoders: where they are, whether they are OpenCLIP's, and which part they are.
const TEXTS: [(&str, bool, Part); 4] = [
    ("cond_stage_model.transformer.", false, Part::TextEncoder),
    ("cond_stage_model.model.", true, Part::TextEncoder),
    (
        "conditioner.embedders.0.transformer.",
        false,
        Part::TextEncoder,
    ),
    ("conditioner.embedders.1.model.", true, Part::TextEncoder2),
];
/// SDXL's refiner has no other text encoder than this.
const REFINER: &str = "conditioner.embedders.0.model.";
/// Whether a model predicts the velocity, and whether its last time has no signal: some files have a tensor
/// of the name that says so.
const VELOCITY: &str = "v_pred";
const ZERO_SNR: &str = "ztsnr";

/// Which models a file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Stable Diffusion 1.x.
    One,
    /// Stable Diffusion 2.x.
    Two,
    Xl,
}

impl Layout {
    /// Height and width of the latents of such models.
    fn sample_size(self) -> usize {
        match self {
            Self::One => 64,
            Self::Two => 96,
            Self::Xl => 128,
        }
    }
}

/// An opened file. Weights are read when a part is.
pub(crate) struct SingleFile {
    layout: Layout,
    parts: BTreeMap<Part, SinglePart>,
    scheduler: Value,
    /// What is in it and of no part.
    unused: Option<String>,
    /// What had to be assumed of the schedule.
    assumed: Option<String>,
}

/// A part of it.
#[derive(Clone)]
pub(crate) struct SinglePart {
    /// By diffusers' names.
    pub tensors: Arc<TensorFile>,
    pub config: Value,
}

impl SingleFile {
    /// Whether a file holds a diffusion model of the original layout.
    pub fn is_at(path: &Path) -> bool {
        let is_named_so = path
            .extension()
            .is_some_and(|ending| ending == "safetensors");
        is_named_so && path.is_file() && TensorFile::open(path).is_ok_and(|file| has_parts(&file))
    }

    /// # Errors
    /// If the file cannot be read, has no part of a diffusion model, or is of a model that is not built
    /// here.
    pub fn open(path: &Path) -> Result<Self, DiffusionError> {
        let file = TensorFile::open(path)?;
        if !has_parts(&file) {
            return Err(DiffusionError::NotAPipeline {
                path: path.to_owned(),
            });
        }
        if file.names().any(|name| name.starts_with(REFINER)) {
            return Err(DiffusionError::Config {
                path: path.to_owned(),
                problem: "an SDXL refiner, which is not built here; the base model is".to_owned(),
            });
        }
        let mut sorted = Sorted::of(&file)?;
        let layout = sorted.layout();
        if layout == Layout::Two {
            sorted.drop_last_layer();
        }
        let mut parts = BTreeMap::new();
        for (part, tensors) in sorted.parts {
            let tensors = file.relabelled(tensors);
            let config = match part {
                Part::Unet => derived_config::unet(&tensors, layout),
                Part::Vae => derived_config::vae(&tensors, layout),
                Part::TextEncoder | Part::TextEncoder2 => {
                    derived_config::text(&tensors, sorted.open_clip.contains(&part))
                }
            };
            let config = config.map_err(|problem| DiffusionError::Config {
                path: path.to_owned(),
                problem: format!("its {part}: {problem}"),
            })?;
            let tensors = Arc::new(tensors);
            parts.insert(part, SinglePart { tensors, config });
        }
        let says_velocity = file.contains(VELOCITY);
        let unused = sorted.unknown.first().map(|first| {
            format!(
                "`{}` has {} tensors that are of no part known here and are not used, such as `{first}`",
                path.display(),
                sorted.unknown.len()
            )
        });
        let velocity = says_velocity || layout == Layout::Two;
        let assumed = (layout == Layout::Two && !says_velocity).then(|| {
            format!(
                "`{}` is a Stable Diffusion 2.x, and nothing in it says whether it predicts ε or v; it is taken for one of \
                 768 pixels that predicts v. Of one of 512 pixels (`-base`), give --base-config with a model of its kind",
                path.display()
            )
        });
        Ok(Self {
            layout,
            parts,
            scheduler: derived_config::scheduler(layout, velocity, file.contains(ZERO_SNR)),
            unused,
            assumed,
        })
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    pub fn part(&self, part: Part) -> Option<&SinglePart> {
        self.parts.get(&part)
    }

    /// What models of its kind have as `scheduler_config.json`.
    pub fn scheduler(&self) -> &Value {
        &self.scheduler
    }

    /// What is in it and of no part known here, in words.
    pub fn unused(&self) -> Option<&str> {
        self.unused.as_deref()
    }

    /// What had to be assumed of its schedule, in words.
    pub fn assumed(&self) -> Option<&str> {
        self.assumed.as_deref()
    }
}

fn has_parts(file: &TensorFile) -> bool {
    let prefixes = TEXTS.map(|(prefix, ..)| prefix);
    let prefixes = || [UNET, VAE, REFINER].into_iter().chain(prefixes);
    file.names()
        .any(|name| prefixes().any(|prefix| name.starts_with(prefix)))
}

/// The tensors of a file, by part and by diffusers' names.
struct Sorted {
    parts: BTreeMap<Part, Vec<HeldTensor>>,
    /// The text encoders that are OpenCLIP's.
    open_clip: Vec<Part>,
    /// What is of no part.
    unknown: Vec<String>,
}

impl Sorted {
    fn of(file: &TensorFile) -> Result<Self, FileError> {
        let mut sorted = Self {
            parts: BTreeMap::new(),
            open_clip: Vec::new(),
            unknown: Vec::new(),
        };
        // The first change of size is behind the residual blocks of the first block.
        let is_change =
            |index: &usize| file.contains(&format!("{UNET}input_blocks.{index}.0.op.weight"));
        let is_residual = |index: &usize| {
            file.contains(&format!("{UNET}input_blocks.{index}.0.in_layers.0.weight"))
        };
        let layers = (1..64).find(is_change).map(|index| index - 1);
        let layers = layers.unwrap_or_else(|| (1..64).take_while(is_residual).count());
        let is_level = |level: &usize| {
            file.contains(&format!("{VAE}encoder.down.{level}.block.0.norm1.weight"))
        };
        let levels = (0..64).take_while(is_level).count();
        for name in file.names() {
            let is_taken = sorted.take(file, name, layers, levels)?;
            if !is_taken && !is_of_training(name) {
                sorted.unknown.push(name.to_owned());
            }
        }
        Ok(sorted)
    }

    /// Whether a tensor is of a part, of which it becomes one.
    fn take(
        &mut self,
        file: &TensorFile,
        name: &str,
        layers: usize,
        levels: usize,
    ) -> Result<bool, FileError> {
        let (shape, dtype) = file.tensor(name)?;
        let bytes = file.bytes(name)?;
        let named = |name: String| HeldTensor {
            name,
            shape: shape.clone(),
            dtype,
            bytes: bytes.clone(),
        };
        if let Some(inner) = name.strip_prefix(UNET) {
            let found = unet_names::diffusers_name(inner, layers);
            return Ok(self.push(Part::Unet, found.map(named)));
        }
        if let Some(inner) = name.strip_prefix(VAE) {
            let found = vae_names::diffusers_name(inner, levels).map(named);
            return Ok(self.push(Part::Vae, found.map(without_pixels)));
        }
        let text = TEXTS.iter().find_map(|(prefix, is_open, part)| {
            let inner = name.strip_prefix(prefix)?;
            Some((inner, *is_open, *part))
        });
        let Some((inner, is_open, part)) = text else {
            return Ok(false);
        };
        if !is_open {
            return Ok(self.push(part, Some(named(inner.to_owned()))));
        }
        if !self.open_clip.contains(&part) {
            self.open_clip.push(part);
        }
        let is_divisible = shape.first().is_some_and(|rows| rows.is_multiple_of(3));
        match text_names::of_open_clip(inner) {
            Some(Taken::As(found)) => Ok(self.push(part, Some(named(found)))),
            Some(Taken::Transposed(found)) if shape.len() == 2 => {
                let turned = transposed(named(found));
                Ok(self.push(part, turned))
            }
            Some(Taken::Three(names)) if is_divisible => {
                let length = bytes.len() / 3;
                for (index, name) in names.into_iter().enumerate() {
                    let mut third = named(name);
                    third.shape[0] /= 3;
                    third.bytes = bytes.slice(index * length..(index + 1) * length);
                    self.push(part, Some(third));
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn push(&mut self, part: Part, tensor: Option<HeldTensor>) -> bool {
        let is_there = tensor.is_some();
        self.parts.entry(part).or_default().extend(tensor);
        is_there
    }

    fn layout(&self) -> Layout {
        let shape = |name: &str| {
            let tensors = self.parts.get(&Part::Unet).into_iter().flatten();
            let mut named = tensors.filter(|tensor| tensor.name.ends_with(name));
            named.next().map(|tensor| tensor.shape.clone())
        };
        let is_xl = self.parts.contains_key(&Part::TextEncoder2)
            || shape("add_embedding.linear_1.weight").is_some();
        if is_xl {
            return Layout::Xl;
        }
        let is_two = match self.parts.contains_key(&Part::TextEncoder) {
            true => self.open_clip.contains(&Part::TextEncoder),
            // The width of its text encoder.
            false => shape("attn2.to_k.weight").is_some_and(|shape| shape.get(1) == Some(&1024)),
        };
        match is_two {
            true => Layout::Two,
            false => Layout::One,
        }
    }

    /// Stable Diffusion 2.x takes what its text encoder has before the last layer, so that diffusers leaves
    /// this layer out, and with it the projection of what it would give.
    fn drop_last_layer(&mut self) {
        let Some(tensors) = self.parts.get_mut(&Part::TextEncoder) else {
            return;
        };
        let layers = tensors
            .iter()
            .filter_map(|tensor| text_names::layer_of(&tensor.name));
        let last = layers.max();
        tensors.retain(|tensor| {
            text_names::layer_of(&tensor.name).is_none_or(|layer| Some(layer) != last)
                && tensor.name != "text_projection.weight"
        });
    }
}

/// Whether a tensor is one that only the training of a model needed: averaged weights, schedules, counters.
fn is_of_training(name: &str) -> bool {
    const ENDINGS: [&str; 3] = ["position_ids", "logit_scale", "attn_mask"];
    !name.contains('.')
        || [
            "model_ema.",
            "denoiser.",
            "first_stage_model.loss.",
            "loss.",
        ]
        .iter()
        .any(|start| name.starts_with(start))
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// A convolution of single pixels as a linear layer, which the attention of a VAE is in diffusers' form.
fn without_pixels(mut tensor: HeldTensor) -> HeldTensor {
    if tensor.name.contains(".attentions.")
        && tensor.shape.ends_with(&[1, 1])
        && tensor.shape.len() == 4
    {
        tensor.shape.truncate(2);
    }
    tensor
}

/// A matrix with rows and columns exchanged; nothing if its values are not whole bytes.
fn transposed(tensor: HeldTensor) -> Option<HeldTensor> {
    let HeldTensor {
        name,
        shape,
        dtype,
        bytes,
    } = tensor;
    let width = match dtype {
        Dtype::F64 => 8,
        Dtype::F32 => 4,
        Dtype::F16 | Dtype::BF16 => 2,
        _ => return None,
    };
    let (rows, cols) = (shape[0], shape[1]);
    let mut turned = Vec::with_capacity(bytes.len());
    for col in 0..cols {
        for row in 0..rows {
            turned.extend_from_slice(&bytes[(row * cols + col) * width..][..width]);
        }
    }
    Some(HeldTensor {
        name,
        shape: vec![cols, rows],
        dtype,
        bytes: turned.into(),
    })
}
