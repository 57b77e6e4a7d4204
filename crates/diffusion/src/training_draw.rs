//! What a training draws for every image of every step: by seed and step alone, so that a resumed
//! training is the uninterrupted one.

use eigenmix_moslora::random_stream;
use rand_distr::{Distribution, StandardNormal, StandardUniform};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the noise of a training is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NoiseConfig {
    /// Noise of the same value in all pixels of a channel is added, so strong, that a model learns
    /// images that are dark or bright as a whole.
    pub offset: f64,
    /// The probability with which a caption is replaced by the empty one, for guidance without a prompt.
    pub caption_dropout: f64,
}

impl Default for NoiseConfig {
    fn default() -> Self {
        Self {
            offset: 0.0,
            caption_dropout: 0.0,
        }
    }
}

/// What is drawn for one image of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepDraw {
    /// The training time.
    pub time: usize,
    /// ε: `[channels · height · width]`.
    pub noise: Vec<f32>,
    /// Whether the caption is left out.
    pub drops_caption: bool,
}

impl NoiseConfig {
    /// What is drawn for image `image` of step `step`.
    ///
    /// - times: how many training times there are
    /// - shape: channels, height and width of the latents
    pub fn draw(
        &self,
        seed: u64,
        step: u64,
        image: usize,
        times: usize,
        [channels, height, width]: [usize; 3],
    ) -> StepDraw {
        let (step, image) = (step.to_string(), image.to_string());
        let stream = |what: &str| random_stream(seed, &[what, &step, &image]);
        // From 0 to 1.
        let uniform = |what: &str| -> f64 { StandardUniform.sample(&mut stream(what)) };
        let time = uniform("time") * times as f64;
        let mut noise: Vec<f32> = StandardNormal
            .sample_iter(stream("noise"))
            .take(channels * height * width)
            .collect();
        if self.offset != 0.0 {
            let offsets = StandardNormal.sample_iter(stream("offset"));
            for (channel, offset) in noise.chunks_mut(height * width).zip(offsets) {
                let offset: f64 = offset;
                let offset = (self.offset * offset) as f32;
                channel.iter_mut().for_each(|value| *value += offset);
            }
        }
        StepDraw {
            time: (time as usize).min(times - 1),
            noise,
            drops_caption: uniform("caption") < self.caption_dropout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [4, 6, 5];

    #[test]
    fn draws_depend_on_seed_step_and_image_alone() {
        let config = NoiseConfig::default();
        let draw = |seed, step, image| config.draw(seed, step, image, 1000, SHAPE);
        assert_eq!(draw(1, 7, 0), draw(1, 7, 0));
        let first = draw(1, 7, 0);
        for other in [draw(2, 7, 0), draw(1, 8, 0), draw(1, 7, 1)] {
            assert_ne!(first.noise, other.noise);
        }
    }

    #[test]
    fn times_are_uniform_and_captions_drop_as_often_as_asked() {
        let config = NoiseConfig {
            caption_dropout: 0.2,
            ..NoiseConfig::default()
        };
        let draws: Vec<StepDraw> = (0..4000)
            .map(|step| config.draw(3, step, 0, 1000, [1, 1, 1]))
            .collect();
        let early = draws.iter().filter(|draw| draw.time < 250).count();
        let dropped = draws.iter().filter(|draw| draw.drops_caption).count();
        // Four standard deviations of 4000 draws.
        assert!((890..1110).contains(&early), "{early}");
        assert!((699..901).contains(&dropped), "{dropped}");
        let mean = draws
            .iter()
            .map(|draw| f64::from(draw.noise[0]))
            .sum::<f64>()
            / 4000.0;
        assert!(mean.abs() < 0.07, "{mean}");
    }

    #[test]
    fn offset_noise_is_one_value_for_all_pixels_of_a_channel() {
        let config = NoiseConfig {
            offset: 0.1,
            ..NoiseConfig::default()
        };
        let plain = NoiseConfig::default().draw(1, 2, 0, 1000, SHAPE);
        let with = config.draw(1, 2, 0, 1000, SHAPE);
        let differences: Vec<f32> = with
            .noise
            .iter()
            .zip(&plain.noise)
            .map(|(with, plain)| with - plain)
            .collect();
        for channel in differences.chunks(30) {
            assert!(
                channel
                    .iter()
                    .all(|value| (value - channel[0]).abs() < 1e-6)
            );
            assert!(channel[0].abs() > 1e-4 && channel[0].abs() < 0.6);
        }
    }
}
