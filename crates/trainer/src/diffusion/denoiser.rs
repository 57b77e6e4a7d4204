//! The parts of a diffusion model that are trained: the UNet, and the text encoders if they are adapted.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Gradients, Tensor};
use eigenmix_diffusion::{
    AddedInput, DiffusionError, Part, TextConditions, TextEncoders, Unet, UnetInput,
};
use eigenmix_models::Adaptation;
use eigenmix_moslora::{ParameterNames, Update};

use super::denoising_batch::{DenoisingBatch, DenoisingGroup, Texts};
use super::diffusion_base::DiffusionBase;
use crate::TrainerError;
use crate::training::{Pass, TrainedModel};

/// A UNet with updates on top, and the text encoders where they have some too; only updates are trained.
#[derive(Module, Debug)]
pub(crate) struct Denoiser {
    pub(crate) unet: Unet,
    pub(crate) texts: Option<TextEncoders>,
}

impl Denoiser {
    /// Loads what is trained, and the names of its parameters, with the part in front.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub(crate) fn load(
        base: &DiffusionBase,
        updates: &BTreeMap<String, Update>,
        device: &Device,
    ) -> Result<(Self, ParameterNames), TrainerError> {
        let adaptation = |part: Part| {
            let own = updates.iter().filter_map(|(path, update)| {
                let (found, inner) = DiffusionBase::part_of(path)?;
                (found == part).then(|| (inner.to_owned(), update.clone()))
            });
            Adaptation {
                updates: own.collect(),
                ..Adaptation::default()
            }
        };
        let mut names = ParameterNames::default();
        let part = Part::Unet;
        let loaded = Unet::load(&base.unet, &base.unet_config, &adaptation(part), device)
            .map_err(|source| DiffusionError::Part { part, source })?;
        names.extend(part.name(), loaded.names);
        let texts = match base.trains_texts {
            true => {
                let mut encoders = Vec::new();
                for text in &base.texts {
                    let (encoder, found) = text.load_named(&adaptation(text.part), device)?;
                    names.extend(text.part.name(), found);
                    encoders.push(encoder);
                }
                let mut encoders = encoders.into_iter();
                encoders.next().map(|first| TextEncoders {
                    first,
                    second: encoders.next(),
                })
            }
            false => None,
        };
        let unet = loaded.unet;
        Ok((Self { unet, texts }, names))
    }

    /// What the UNet makes of noisy latents.
    ///
    /// - sample: `[images, channels, height, width]`
    /// - times: `[images]`
    /// - texts: of each image
    pub(crate) fn input(
        &self,
        group: &DenoisingGroup,
        sample: Tensor<4>,
        times: &[usize],
        texts: &Texts,
        device: &Device,
    ) -> UnetInput {
        let TextConditions { states, pooled } = match texts {
            Texts::States(states) => states.tensors(device),
            Texts::Ids(ids) => {
                let encoders = self.texts.as_ref().expect("text encoders that are trained");
                let both = [0, 1].map(|encoder| ids.of_encoder(encoder));
                let both = both.each_ref().map(Option::as_deref);
                encoders.conditions(both, ids.shape(), device)
            }
        };
        UnetInput {
            sample,
            timesteps: times.iter().map(|&time| time as f32).collect(),
            states,
            added: pooled.map(|text_embeds| AddedInput {
                text_embeds,
                time_ids: group.time_ids.concat(),
            }),
        }
    }
}

impl TrainedModel for Denoiser {
    type Batch = DenoisingBatch;

    fn descend(
        &self,
        batch: &DenoisingBatch,
        pass: &Pass,
        collect: &mut dyn FnMut(Gradients),
    ) -> Tensor<1> {
        (pass.before)(None);
        let mut sum: Option<Tensor<1>> = None;
        for group in &batch.groups {
            let noised = group.noised(batch, pass);
            let device = pass.device;
            let input = self.input(group, noised.sample, &noised.times, &noised.texts, device);
            let objective = |output: Tensor<4>| {
                let losses = batch.settings.schedule.losses(output, noised.target);
                (losses * noised.weights).sum()
            };
            let loss = match pass.checkpointing {
                true => self
                    .unet
                    .backward_by_blocks(&input, objective, &mut *collect),
                false => {
                    let loss = objective(self.unet.forward(&input));
                    collect(loss.backward());
                    loss.detach()
                }
            };
            sum = Some(match sum {
                Some(sum) => sum + loss,
                None => loss,
            });
        }
        sum.expect("a batch has an image")
    }
}
