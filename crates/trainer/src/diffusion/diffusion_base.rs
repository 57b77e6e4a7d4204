//! A diffusion model that is trained: its parts described, their weights not read.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::LayerKind;
use eigenmix_data::DiffusionImages;
use eigenmix_diffusion::{
    AdaptedPipeline, NoiseSchedule, Part, Pipeline, TextEncoderFiles, UnetConfig, VaeConfig,
};
use eigenmix_images::Resolution;
use eigenmix_models::{Checkpoint, Description, LinearLayer};
use eigenmix_tensors::Matrix;

use crate::adapted_model::AdaptedModel;
use crate::config::BaseConfig;
use crate::pipeline_location::locate_pipeline_config;
use crate::{BaseModel, TrainerError, locate_pipeline};

/// The modules that diffusers' scripts adapt.
const OF_UNET: [&str; 4] = ["to_q", "to_k", "to_v", "to_out.0"];
/// The same where text encoders are trained too.
const OF_BOTH: [&str; 8] = [
    "to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj",
];

/// A diffusion model to train.
pub(crate) struct DiffusionBase {
    /// As the user named it.
    pub name: String,
    /// Without adapters.
    pub model: AdaptedPipeline,
    pub unet: Checkpoint,
    pub unet_config: UnetConfig,
    pub vae_config: VaeConfig,
    pub schedule: NoiseSchedule,
    /// The text encoders, of which layers are adapted if they are trained.
    pub texts: Vec<TextEncoderFiles>,
    pub trains_texts: bool,
    /// All layers that can be adapted, by their paths with the part in front.
    pub description: Description,
    kernels: BTreeMap<String, [usize; 2]>,
}

impl DiffusionBase {
    /// Finds a model, fetching it from the Hub if it is not here, and describes it.
    ///
    /// - trains_texts: whether layers of the text encoders can be adapted
    ///
    /// # Errors
    /// If it cannot be found, or a part is missing or damaged.
    pub fn open(base: &BaseConfig, trains_texts: bool) -> Result<Self, TrainerError> {
        let mut pipeline = Pipeline::open(&locate_pipeline(&base.model)?, base.weights)?;
        if let Some(config) = &base.config {
            pipeline = pipeline.with_config(&locate_pipeline_config(config)?)?;
        }
        let part = |part| Ok(pipeline.checkpoint(part)?);
        Self::describe(&base.model, pipeline.clone(), trains_texts, part)
    }

    /// The same by its configurations alone: of a model on the Hub nothing else is fetched.
    ///
    /// # Errors
    /// As [`DiffusionBase::open`], but for missing weights.
    pub fn open_config(base: &BaseConfig, trains_texts: bool) -> Result<Self, TrainerError> {
        let path = locate_pipeline_config(&base.model)?;
        // One file says by its tensors what it is.
        if path.is_file() {
            return Self::open(base, trains_texts);
        }
        let pipeline = Pipeline::open(&path, base.weights)?;
        if let Some(config) = &base.config {
            pipeline.clone().with_config(Path::new(config))?;
        }
        let part = |part: Part| match pipeline.has(part) {
            true => Ok(Checkpoint::open_config(&pipeline.directory_of(part))?),
            // Names what is missing.
            false => Ok(pipeline.checkpoint(part)?),
        };
        Self::describe(&base.model, pipeline.clone(), trains_texts, part)
    }

    fn describe(
        name: &str,
        pipeline: Pipeline,
        trains_texts: bool,
        checkpoint: impl Fn(Part) -> Result<Checkpoint, TrainerError>,
    ) -> Result<Self, TrainerError> {
        let model = AdaptedPipeline::new(pipeline, Vec::new(), false)?;
        let pipeline = &model.pipeline;
        let unet = checkpoint(Part::Unet)?;
        checkpoint(Part::Vae)?;
        let (unet_config, vae_config) = (model.unet_config()?, model.vae_config()?);
        unet_config.check_latents(&vae_config)?;
        let parts = model.text_parts();
        let texts = parts.iter().map(|&part| {
            let directory = pipeline.directory_of(part);
            Ok(TextEncoderFiles::new(part, checkpoint(part)?, &directory)?)
        });
        let texts = texts.collect::<Result<Vec<TextEncoderFiles>, TrainerError>>()?;
        let mut described = vec![(Part::Unet, unet_config.describe())];
        if trains_texts {
            described.extend(texts.iter().map(|text| (text.part, text.describe())));
        }
        let with_part = |part: Part, path: &str| format!("{}.{path}", part.name());
        let layers = described.iter().flat_map(|(part, description)| {
            description.layers.iter().map(|layer| LinearLayer {
                path: with_part(*part, &layer.path),
                head: false,
                ..layer.clone()
            })
        });
        let kernels = unet_config.kernels().into_iter();
        let kernels = kernels.map(|(path, kernel)| (with_part(Part::Unet, &path), kernel));
        Ok(Self {
            name: name.to_owned(),
            description: Description {
                // An adapter for the UNet alone may leave its name out.
                prefix: Part::Unet.name(),
                layers: layers.collect(),
                head_tensors: Vec::new(),
                head_modules: Vec::new(),
                parameters: unet_config.parameters(),
            },
            kernels: kernels.collect(),
            schedule: pipeline.schedule()?,
            unet_config,
            vae_config,
            model,
            unet,
            texts,
            trains_texts,
        })
    }

    /// What the model was trained at.
    pub fn usual_resolution(&self) -> Resolution {
        let [height, width] = self.unet_config.usual_size(&self.vae_config);
        Resolution { width, height }
    }

    /// Of how many pixels both sides of an image must be a multiple, so that every level of the UNet halves
    /// its latents whole.
    pub fn multiple(&self) -> usize {
        self.vae_config.reduction() * self.unet_config.halvings()
    }

    /// Height times width of the latents of images.
    pub fn latent_pixels(&self, images: &DiffusionImages) -> Vec<usize> {
        let reduction = self.vae_config.reduction();
        let pixels = images
            .targets()
            .iter()
            .map(|[height, width]| (height / reduction) * (width / reduction));
        pixels.collect()
    }

    /// The kernel of the convolution of that path, if it is one.
    pub fn kernel(&self, path: &str) -> Option<&[usize; 2]> {
        self.kernels.get(path)
    }

    /// The part that a path begins with, and the rest.
    pub fn part_of(path: &str) -> Option<(Part, &str)> {
        let (first, rest) = path.split_once('.')?;
        let part = Part::ALL.into_iter().find(|part| part.name() == first)?;
        Some((part, rest))
    }

    fn checkpoint(&self, part: Part) -> Option<&Checkpoint> {
        let mut texts = self.texts.iter();
        match part {
            Part::Unet => Some(&self.unet),
            _ => texts
                .find(|text| text.part == part)
                .map(|text| &text.checkpoint),
        }
    }
}

impl AdaptedModel for DiffusionBase {
    fn adapters_name(&self) -> &str {
        match self.name.split_once('@') {
            Some((name, _)) if !Path::new(&self.name).exists() => name,
            _ => &self.name,
        }
    }

    fn default_targets(&self) -> &[&'static str] {
        match self.trains_texts {
            true => &OF_BOTH,
            false => &OF_UNET,
        }
    }

    fn is_computed(&self, _path: &str) -> bool {
        true
    }

    fn layer_kind(&self, path: &str) -> LayerKind {
        let layer = self.description.layer(path);
        match layer.and_then(|layer| self.kernel(&layer.path)) {
            Some(kernel) => LayerKind::Convolution {
                kernel: kernel.to_vec(),
            },
            None => LayerKind::Linear,
        }
    }

    fn layer_weight(&self, layer: &LinearLayer) -> Result<Matrix, TrainerError> {
        let name = format!("{}.weight", layer.path);
        let missing = || eigenmix_models::ModelError::MissingTensor { name: name.clone() };
        let (part, inner) = Self::part_of(&name).ok_or_else(missing)?;
        let checkpoint = self.checkpoint(part).ok_or_else(missing)?;
        let found = checkpoint.find(inner, "").unwrap_or(inner);
        let shape = checkpoint.shape(found).ok_or_else(missing)?.to_vec();
        let values = checkpoint.read(found, &shape)?;
        Ok(Matrix::new(layer.d_out, layer.d_in, values))
    }

    fn as_base_model(&self) -> Option<&BaseModel> {
        None
    }
}
