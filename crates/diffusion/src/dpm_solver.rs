//! DPM-Solver++ of second order that reuses the output of the step before (arXiv 2211.01095, algorithm
//! 2), with the midpoint form of diffusers.

use burn::tensor::Tensor;
use serde_json::json;

use crate::DiffusionError;
use crate::config_reader::ConfigReader;
use crate::sampler::{
    Sampler, Spacing, interpolated, karras, refuse_other_settings, sigmas_of, time_of,
};
use crate::schedule::{NoiseSchedule, Prediction};

pub(crate) struct DpmSolver {
    times: Vec<f32>,
    /// σ at each step, and after the last.
    sigmas: Vec<f64>,
    prediction: Prediction,
    /// The predicted image of the step before.
    image_before: Option<Tensor<4>>,
}

impl DpmSolver {
    pub fn new(
        schedule: &NoiseSchedule,
        reader: &ConfigReader,
        steps: usize,
    ) -> Result<Self, DiffusionError> {
        refuse_other_settings(reader)?;
        reader.require("algorithm_type", &[json!("dpmsolver++")], "dpmsolver++ is")?;
        reader.require("solver_type", &[json!("midpoint")], "midpoint is")?;
        reader.require("solver_order", &[json!(2)], "2 is")?;
        let ends = [json!("zero")];
        reader.require("final_sigmas_type", &ends, "zero is")?;
        let spacing = Spacing::read(reader, "linspace")?;
        let count = schedule.times();
        let offset = reader.or("steps_offset", 0)?;
        // Of one step more, without the last, so that the last step goes to no noise from some.
        let mut times: Vec<f64> = match spacing {
            Spacing::Trailing => spacing.times(count, steps, 0),
            Spacing::Linspace | Spacing::Leading if steps < count => {
                let mut times = spacing.times(count, steps + 1, offset);
                times.pop();
                times
            }
            Spacing::Linspace | Spacing::Leading => spacing.times(count, steps, offset),
        };
        times
            .iter_mut()
            .for_each(|time| *time = time.round_ties_even());
        let all = sigmas_of(&schedule.alphas);
        let mut sigmas: Vec<f64> = times.iter().map(|&time| interpolated(&all, time)).collect();
        if reader.or("use_karras_sigmas", false)? {
            sigmas = karras(&all, steps);
            let of = |&sigma: &f64| time_of(&all, sigma).round_ties_even();
            times = sigmas.iter().map(of).collect();
        }
        sigmas.push(0.0);
        Ok(Self {
            times: times.into_iter().map(|time| time as f32).collect(),
            sigmas,
            prediction: schedule.prediction,
            image_before: None,
        })
    }

    /// √ᾱ and √(1 − ᾱ) of a σ.
    fn shares(sigma: f64) -> [f64; 2] {
        let signal = 1.0 / (sigma * sigma + 1.0).sqrt();
        [signal, sigma * signal]
    }
}

impl Sampler for DpmSolver {
    fn times(&self) -> &[f32] {
        &self.times
    }

    fn initial_scale(&self) -> f32 {
        1.0
    }

    fn advance(&mut self, step: usize, sample: Tensor<4>, output: Tensor<4>) -> Tensor<4> {
        let [sigma, next] = [self.sigmas[step], self.sigmas[step + 1]];
        let [signal, noise] = Self::shares(sigma);
        let image = match self.prediction {
            Prediction::Epsilon => (sample.clone() - output * noise) / signal,
            Prediction::Velocity => sample.clone() * signal - output * noise,
        };
        // e^(−h) with h the step in λ = log(√ᾱ / √(1 − ᾱ)) = −log σ.
        let decay = next / sigma;
        let [next_signal, next_noise] = Self::shares(next);
        let mut moved =
            sample * (next_noise / noise) + image.clone() * (next_signal * (1.0 - decay));
        let is_last = step + 1 == self.times.len();
        if let Some(before) = self.image_before.take().filter(|_| !is_last && step > 0) {
            // h₀ / h of the step before and this one.
            let ratio = (self.sigmas[step - 1] / sigma).ln() / (sigma / next).ln();
            let slope = (image.clone() - before) / ratio;
            moved = moved + slope * (0.5 * next_signal * (1.0 - decay));
        }
        self.image_before = Some(image);
        moved
    }
}
