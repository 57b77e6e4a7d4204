//! What goes through the model in a step, against the formulas and against itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Gradients, Tensor};
use eigenmix_diffusion::Prediction;
use eigenmix_moslora::{TrainedValues, Update, lora, random_stream};
use eigenmix_tensors::{HostTensor, Matrix};
use rand_distr::{Distribution, StandardNormal};

use super::config::DiffusionConfig;
use super::denoiser::Denoiser;
use super::denoising_batch::{CaptionInput, DenoisingBatch, DenoisingSettings, LatentImage};
use super::diffusion_base::DiffusionBase;
use crate::host_values::host_values;
use crate::training::{NamedGradients, Pass, TrainedModel, accumulate, named_gradients};

fn numbers(name: &str, count: usize) -> Vec<f32> {
    let stream = random_stream(5, &[name]);
    StandardNormal.sample_iter(stream).take(count).collect()
}

struct Place {
    base: DiffusionBase,
    model: Denoiser,
    names: eigenmix_moslora::ParameterNames,
    device: Device,
}

impl Place {
    /// Updates that are not zero, in some attention and a convolution.
    fn new() -> Self {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/diffusion");
        let golden = golden.join("sd/base").display().to_string();
        let table = format!("model = {golden:?}");
        let config = toml::from_str(&table).expect("a table");
        let base = DiffusionBase::open(&config, false).expect("a model");
        let layers = base.description.layers.iter();
        let chosen = layers.filter(|layer| {
            layer.path.ends_with("attn1.to_q")
                || layer.path.ends_with("up_blocks.1.resnets.0.conv2")
        });
        let updates: BTreeMap<String, Update> = chosen
            .map(|layer| {
                let path = &layer.path;
                let mut update = lora(path, 1, [layer.d_out, layer.d_in], 3, 0.5, 0.0);
                let left = numbers(path, layer.d_out * 3);
                update.left.matrix = Matrix::new(layer.d_out, 3, left);
                (path.clone(), update)
            })
            .collect();
        assert!(updates.len() > 3, "{}", updates.len());
        let device = Device::flex().autodiff();
        let (model, names) = Denoiser::load(&base, &updates, &device).expect("a UNet");
        Self {
            base,
            model,
            names,
            device,
        }
    }

    fn settings(&self, config: &DiffusionConfig) -> Arc<DenoisingSettings> {
        let mut settings = DenoisingSettings::unconditional(&self.base, config);
        settings.empty = self.caption("empty");
        Arc::new(settings)
    }

    fn caption(&self, name: &str) -> CaptionInput {
        let width = self.base.unet_config.cross_attention_dim;
        let states = HostTensor::new(vec![7, width], numbers(name, 7 * width));
        CaptionInput::States(Arc::new(TrainedValues::from([(
            "states".to_owned(),
            states,
        )])))
    }

    fn image(&self, number: usize, [height, width]: [usize; 2], weight: f32) -> LatentImage {
        let count = 4 * height * width;
        let tensor = |name: &str, scale: f32| {
            let values = numbers(&format!("{name} {number}"), count);
            let values = values.iter().map(|value| value * scale).collect();
            HostTensor::new(vec![4, height, width], values)
        };
        let moments = [
            ("mean", tensor("mean", 1.0)),
            ("logvar", tensor("logvar", 0.1)),
        ];
        let moments = moments.map(|(name, values)| (name.to_owned(), values));
        LatentImage {
            number,
            moments: Arc::new(TrainedValues::from(moments)),
            caption: self.caption(&format!("caption {number}")),
            time_ids: [0.0; 6],
            weight,
        }
    }

    fn descend(&self, batch: &DenoisingBatch, checkpointing: bool) -> (f32, NamedGradients) {
        let pass = Pass {
            device: &self.device,
            seed: 9,
            step: 4,
            number: 0,
            weight: 0.5,
            checkpointing,
            before: &|_| {},
        };
        let mut gradients = NamedGradients::new();
        let mut collect = |mut found: Gradients| {
            let found = named_gradients(&self.model, &self.names, &mut found);
            accumulate(&mut gradients, found);
        };
        let loss: Tensor<1> = self.model.descend(batch, &pass, &mut collect);
        (loss.into_scalar(), gradients)
    }
}

fn close(found: f32, expected: f32, scale: f32) -> bool {
    // Sums of products in f32, in other orders.
    (found - expected).abs() <= 2e-4 * scale.abs()
}

#[test]
fn the_loss_of_a_batch_is_the_mean_of_its_images_whatever_their_sizes() {
    let place = Place::new();
    let settings = place.settings(&DiffusionConfig::default());
    let images = || {
        let sizes = [[8, 8], [8, 8], [4, 12]];
        let images = sizes.into_iter().enumerate();
        images.map(|(number, size)| place.image(number, size, 1.0))
    };
    let (whole, _) = place.descend(
        &DenoisingBatch::new(images().collect(), 3, &settings),
        false,
    );
    let alone = images().map(|image| {
        let (loss, _) = place.descend(&DenoisingBatch::new(vec![image], 1, &settings), false);
        loss
    });
    let mean = alone.sum::<f32>() / 3.0;
    assert!(close(whole, mean, mean), "{whole} {mean}");
    // By hand: half of (ε − ε̂)², with the noise of image 1 in step 4.
    let image = place.image(1, [8, 8], 1.0);
    let draw = settings.noise.draw(9, 4, 1, 1000, [4, 8, 8]);
    let spread = random_stream(9, &["latents", "4", "1"]);
    let latents = image.drawn(StandardNormal.sample_iter(spread), settings.scaling);
    let batch = DenoisingBatch::new(vec![image], 1, &settings);
    let group = &batch.groups[0];
    let [latents, noise] = [latents, draw.noise].map(|values| group.tensor(values, &place.device));
    assert_eq!(settings.schedule.prediction, Prediction::Epsilon);
    let sample = settings
        .schedule
        .noisy(latents, noise.clone(), &[draw.time]);
    let texts = super::denoising_batch::Texts::of(group.images.iter().map(|image| &image.caption));
    let input = place
        .model
        .input(group, sample, &[draw.time], &texts, &place.device);
    let error = (place.model.unet.forward(&input) - noise).square().mean();
    let expected: f32 = (error * 0.5).into_scalar();
    let (found, _) = place.descend(&batch, false);
    assert!(close(found, expected, expected), "{found} {expected}");
}

#[test]
fn class_images_count_as_they_are_weighed_and_captions_are_dropped() {
    let place = Place::new();
    let settings = place.settings(&DiffusionConfig::default());
    let loss = |images: Vec<LatentImage>| {
        let examples = images.iter().filter(|image| image.weight == 1.0).count();
        place
            .descend(
                &DenoisingBatch::new(images, examples.max(1), &settings),
                false,
            )
            .0
    };
    let both = loss(vec![
        place.image(0, [8, 8], 1.0),
        place.image(1, [8, 8], 0.25),
    ]);
    let sum =
        loss(vec![place.image(0, [8, 8], 1.0)]) + 0.25 * loss(vec![place.image(1, [8, 8], 1.0)]);
    assert!(close(both, sum, sum), "{both} {sum}");
    let config = DiffusionConfig {
        caption_dropout: 0.999_999,
        ..DiffusionConfig::default()
    };
    let dropped = place.settings(&config);
    let batch = DenoisingBatch::new(vec![place.image(0, [8, 8], 1.0)], 1, &dropped);
    let mut empty = place.image(0, [8, 8], 1.0);
    empty.caption = place.caption("empty");
    let (found, _) = place.descend(&batch, false);
    assert_eq!(found, loss(vec![empty]));
    assert_ne!(found, loss(vec![place.image(0, [8, 8], 1.0)]));
}

#[test]
fn blocks_that_run_again_give_the_same_gradients() {
    let place = Place::new();
    let config = DiffusionConfig {
        min_snr: Some(5.0),
        ..DiffusionConfig::default()
    };
    let settings = place.settings(&config);
    let images = [[8, 8], [4, 12]].into_iter().enumerate();
    let images = images
        .map(|(number, size)| place.image(number, size, 1.0))
        .collect();
    let batch = DenoisingBatch::new(images, 2, &settings);
    let ((loss, gradients), (again, blocks)) =
        (place.descend(&batch, false), place.descend(&batch, true));
    assert!(close(loss, again, loss), "{loss} {again}");
    assert_eq!(gradients.len(), place.names.len());
    assert!(gradients.keys().eq(blocks.keys()));
    for (name, gradient) in gradients {
        let (found, expected) = (host_values(blocks[&name].clone()), host_values(gradient));
        let scale = expected
            .iter()
            .fold(0.0f32, |all, value| all.max(value.abs()));
        assert!(scale > 0.0, "{name}");
        let mut pairs = found.iter().zip(&expected);
        assert!(
            pairs.all(|(found, expected)| close(*found, *expected, scale)),
            "{name}"
        );
    }
}
