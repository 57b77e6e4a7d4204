//! Images and captions through the frozen parts of a diffusion model, once: what a training needs of them is
//! kept by a digest of what it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_diffusion::{
    DiffusionError, Part, PromptIds, PromptTokenizers, TextConditions, TextEncoders, TextSizes, Vae,
};
use eigenmix_models::Adaptation;
use eigenmix_moslora::TrainedValues;
use eigenmix_tensors::HostTensor;

use super::base::DiffusionBase;
use super::denoising_batch::CaptionInput;
use super::store::Store;
use crate::TrainerError;
use crate::host_values::host_values;
use crate::training::digest_of_model;

/// The captions of a training as its UNet or its text encoders take them.
#[derive(Debug, Default)]
pub(crate) struct Captions {
    tokens: BTreeMap<String, Arc<PromptIds>>,
    /// The keys in the store, where text encoders are frozen.
    states: Option<BTreeMap<String, String>>,
}

impl DiffusionBase {
    /// What the text encoders take.
    pub fn text_sizes(&self) -> Vec<TextSizes> {
        let sizes = self.texts.iter().map(|text| TextSizes {
            vocabulary: text.config.vocab_size,
            positions: text.config.max_positions,
        });
        sizes.collect()
    }

    /// The text encoders without updates.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn text_encoders(&self, device: &Device) -> Result<TextEncoders, TrainerError> {
        let load = |index: usize| {
            let text = self.texts.get(index);
            text.map(|text| text.load(&Adaptation::default(), device))
                .transpose()
        };
        let first = load(0)?.expect("every model has a text encoder");
        Ok(TextEncoders {
            first,
            second: load(1)?,
        })
    }

    /// # Errors
    /// If it cannot be read.
    pub fn vae(&self, device: &Device) -> Result<Vae, TrainerError> {
        let part = Part::Vae;
        let checkpoint = self.pipeline.checkpoint(part)?;
        let vae = Vae::load(&checkpoint, &self.vae_config, device);
        Ok(vae.map_err(|source| DiffusionError::Part { part, source })?)
    }

    /// Of values that are no numbers: which weights of the part are none, if some are.
    pub fn explained(&self, error: TrainerError) -> TrainerError {
        match error {
            TrainerError::Diffusion(error) => self.pipeline.explained(*error).into(),
            other => other,
        }
    }

    /// A digest of a part.
    pub fn digest_of(&self, part: Part) -> Result<String, TrainerError> {
        Ok(digest_of_model(&self.pipeline.checkpoint(part)?))
    }
}

impl Captions {
    /// Reads captions as tokens; gives the first of those that are longer than the encoders take, and how many
    /// those are.
    ///
    /// # Errors
    /// If a tokenizer is missing or fails.
    pub fn tokenized<'c>(
        base: &DiffusionBase,
        captions: impl Iterator<Item = &'c str>,
    ) -> Result<(Self, Vec<String>), TrainerError> {
        let tokenizers = PromptTokenizers::open(&base.pipeline, base.kind, &base.text_sizes())?;
        let distinct: BTreeSet<&str> = captions.chain(std::iter::once("")).collect();
        let (mut tokens, mut cut) = (BTreeMap::new(), Vec::new());
        for caption in distinct {
            let prompt = tokenizers.encode(caption)?;
            if prompt.is_cut {
                cut.push(caption.to_owned());
            }
            tokens.insert(caption.to_owned(), Arc::new(prompt.ids));
        }
        Ok((
            Self {
                tokens,
                states: None,
            },
            cut,
        ))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Runs the text encoders over all that the store does not have.
    ///
    /// - device: without autodiff
    /// - progress: is called after each caption
    ///
    /// # Errors
    /// If an encoder cannot be read, gives values that are no numbers, or the store cannot be written.
    pub fn encode(
        &mut self,
        base: &DiffusionBase,
        store: &Store,
        device: &Device,
        mut progress: impl FnMut(),
    ) -> Result<(), TrainerError> {
        let digests = base
            .texts
            .iter()
            .map(|text| digest_of_model(&text.checkpoint));
        let digests: Vec<String> = digests.collect();
        let key = |ids: &PromptIds| {
            let tokens = format!("{digests:?} {:?}", ids.ids);
            Store::key("text", &tokens)
        };
        let keys = self.tokens.iter();
        let keys: BTreeMap<String, String> = keys
            .map(|(caption, ids)| (caption.clone(), key(ids)))
            .collect();
        let mut encoders = None;
        for (caption, key) in &keys {
            if !store.has(key) {
                let encoders = match &encoders {
                    Some(encoders) => encoders,
                    None => &*encoders.insert(base.text_encoders(device)?),
                };
                let found = values_of(encoders.prompt(&self.tokens[caption], device));
                store.put(key, found.map_err(|error| base.explained(error))?)?;
            }
            progress();
        }
        self.states = Some(keys);
        Ok(())
    }

    /// A caption as the model takes it.
    ///
    /// # Errors
    /// If the store has lost it.
    pub fn input(&self, caption: &str, store: &Store) -> Result<CaptionInput, TrainerError> {
        Ok(match &self.states {
            Some(keys) => CaptionInput::States(store.get(&keys[caption])?),
            None => CaptionInput::Ids(Arc::clone(&self.tokens[caption])),
        })
    }

    /// The tokens of a caption.
    pub fn tokens(&self, caption: &str) -> &PromptIds {
        &self.tokens[caption]
    }
}

/// The values of one encoded text.
fn values_of(text: TextConditions) -> Result<TrainedValues, TrainerError> {
    let [_, tokens, width] = text.states.dims();
    let mut values = BTreeMap::from([("states".to_owned(), {
        HostTensor::new(vec![tokens, width], host_values(text.states))
    })]);
    if let Some(pooled) = text.pooled {
        let [_, width] = pooled.dims();
        let pooled = HostTensor::new(vec![width], host_values(pooled));
        values.insert("pooled".to_owned(), pooled);
    }
    require_finite(Part::TextEncoder, &values)?;
    Ok(values)
}

/// Mean and logarithm of the variance of an image's latents: `[channels, height, width]` each.
///
/// - pixels: `[3, height, width]`, −1 to 1
///
/// # Errors
/// If the VAE gives values that are no numbers.
pub(crate) fn moments(
    vae: &Vae,
    pixels: Vec<f32>,
    [height, width]: [usize; 2],
    device: &Device,
) -> Result<TrainedValues, TrainerError> {
    let data = TensorData::new(pixels, [1, 3, height, width]);
    let found = vae.encode(Tensor::from_data(data, device));
    let [_, channels, height, width] = found.mean.dims();
    let tensor = |values| HostTensor::new(vec![channels, height, width], host_values::<4>(values));
    let values = BTreeMap::from([
        ("mean".to_owned(), tensor(found.mean)),
        ("logvar".to_owned(), tensor(found.logvar)),
    ]);
    require_finite(Part::Vae, &values)?;
    Ok(values)
}

fn require_finite(part: Part, values: &TrainedValues) -> Result<(), TrainerError> {
    let mut all = values.values().flat_map(|tensor| &tensor.values);
    match all.all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(DiffusionError::NotFinite { part }.into()),
    }
}
