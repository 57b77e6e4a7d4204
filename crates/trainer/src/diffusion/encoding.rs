//! Images and captions through the frozen parts of a diffusion model, once: what a training needs of them is
//! kept by a digest of what it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_diffusion::{
    DiffusionError, Part, PromptIds, PromptTokenizers, TextConditions, TextEncoderFiles, TextSizes,
    Vae,
};
use eigenmix_moslora::TrainedValues;
use eigenmix_tensors::HostTensor;

use super::denoising_batch::CaptionInput;
use super::diffusion_base::DiffusionBase;
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
    /// Of values that are no numbers: which weights of the part are none, if some are.
    pub fn explained(&self, error: TrainerError) -> TrainerError {
        match error {
            TrainerError::Diffusion(error) => self.model.pipeline.explained(*error).into(),
            other => other,
        }
    }

    /// The same of what the text encoders give together: of SDXL's two, whose weights are none is looked for.
    fn explained_text(&self) -> TrainerError {
        let parts = self.model.text_parts().iter();
        let explained = parts.map(|&part| {
            let error = DiffusionError::NotFinite { part };
            self.model.pipeline.explained(error)
        });
        let mut errors: Vec<DiffusionError> = explained.collect();
        let is_found = |error: &DiffusionError| !matches!(error, DiffusionError::NotFinite { .. });
        let place = errors.iter().position(is_found).unwrap_or(0);
        errors.swap_remove(place).into()
    }

    /// A digest of a part.
    pub fn digest_of(&self, part: Part) -> Result<String, TrainerError> {
        Ok(digest_of_model(&self.model.pipeline.checkpoint(part)?))
    }
}

impl Captions {
    /// Reads captions as tokens, and the empty one; gives those that are longer than the encoders take.
    ///
    /// # Errors
    /// If a tokenizer is missing or fails.
    pub fn tokenized<'c>(
        base: &DiffusionBase,
        captions: impl Iterator<Item = &'c str>,
    ) -> Result<(Self, Vec<String>), TrainerError> {
        let model = &base.model;
        let sizes: Vec<TextSizes> = base.texts.iter().map(TextEncoderFiles::sizes).collect();
        let tokenizers = PromptTokenizers::open(&model.pipeline, model.kind, &sizes)?;
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
    /// - progress: is called after each caption, and may stop the work
    ///
    /// # Errors
    /// If an encoder cannot be read, gives values that are no numbers, or the store cannot be written.
    pub fn encode(
        &mut self,
        base: &DiffusionBase,
        store: &Store,
        device: &Device,
        mut progress: impl FnMut() -> Result<(), TrainerError>,
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
                    None => &*encoders.insert(base.model.text_encoders(device, &mut |_| {})?),
                };
                let found = values_of(encoders.prompt(&self.tokens[caption], device));
                store.put(key, found.ok_or_else(|| base.explained_text())?)?;
            }
            progress()?;
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

/// The values of one encoded text; nothing if they are no numbers.
fn values_of(text: TextConditions) -> Option<TrainedValues> {
    let [_, tokens, width] = text.states.dims();
    let mut values = BTreeMap::from([("states".to_owned(), {
        HostTensor::new(vec![tokens, width], host_values(text.states))
    })]);
    if let Some(pooled) = text.pooled {
        let [_, width] = pooled.dims();
        let pooled = HostTensor::new(vec![width], host_values(pooled));
        values.insert("pooled".to_owned(), pooled);
    }
    are_finite(&values).then_some(values)
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
    match are_finite(&values) {
        true => Ok(values),
        false => Err(DiffusionError::NotFinite { part: Part::Vae }.into()),
    }
}

fn are_finite(values: &TrainedValues) -> bool {
    let mut all = values.values().flat_map(|tensor| &tensor.values);
    all.all(|value| value.is_finite())
}
