//! Deterministic DDIM (arXiv 2010.02502, equation 12 with σ = 0).

use burn::tensor::Tensor;

use crate::DiffusionError;
use crate::config_reader::ConfigReader;
use crate::sampler::{Sampler, Spacing, refuse_other_settings};
use crate::schedule::{NoiseSchedule, Prediction};

pub(crate) struct Ddim {
    times: Vec<f32>,
    /// ᾱ at the time of each step, and at that of the next.
    alphas: Vec<[f64; 2]>,
    prediction: Prediction,
    /// What predicted images are cut off at.
    limit: Option<f64>,
}

impl Ddim {
    pub fn new(
        schedule: &NoiseSchedule,
        reader: &ConfigReader,
        steps: usize,
    ) -> Result<Self, DiffusionError> {
        refuse_other_settings(reader)?;
        let ends_in_noise = schedule.alphas.last().is_some_and(|last| *last <= 0.0);
        if ends_in_noise && schedule.prediction == Prediction::Epsilon {
            let problem = "DDIM divides by a signal that `rescale_betas_zero_snr` makes 0, for a model whose \
                           `prediction_type` is epsilon; one of the two is wrong, or take another sampler";
            return Err(reader.problem(problem.to_owned()));
        }
        let spacing = Spacing::read(reader, "leading")?;
        let count = schedule.times();
        let times = spacing.times(count, steps, reader.or("steps_offset", 0)?);
        let times: Vec<usize> = times
            .into_iter()
            .map(|time| time.round_ties_even() as usize)
            .collect();
        let last = match reader.or("set_alpha_to_one", true)? {
            true => 1.0,
            false => f64::from(schedule.alphas[0]),
        };
        let alpha = |time: usize| f64::from(schedule.alphas[time]);
        let next = |time: usize| time.checked_sub(count / steps).map_or(last, alpha);
        let clips = reader.or("clip_sample", true)?;
        let limit = reader.or("clip_sample_range", 1.0)?;
        Ok(Self {
            alphas: times
                .iter()
                .map(|&time| [alpha(time), next(time)])
                .collect(),
            times: times.into_iter().map(|time| time as f32).collect(),
            prediction: schedule.prediction,
            limit: clips.then_some(limit),
        })
    }
}

impl Sampler for Ddim {
    fn times(&self) -> &[f32] {
        &self.times
    }

    fn initial_scale(&self) -> f32 {
        1.0
    }

    fn advance(&mut self, step: usize, sample: Tensor<4>, output: Tensor<4>) -> Tensor<4> {
        let [alpha, next] = self.alphas[step];
        let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let (image, epsilon) = match self.prediction {
            Prediction::Epsilon => ((sample - output.clone() * noise) / signal, output),
            Prediction::Velocity => (
                sample.clone() * signal - output.clone() * noise,
                output * signal + sample * noise,
            ),
        };
        let image = match self.limit {
            Some(limit) => image.clamp(-limit, limit),
            None => image,
        };
        image * next.sqrt() + epsilon * (1.0 - next).sqrt()
    }
}
