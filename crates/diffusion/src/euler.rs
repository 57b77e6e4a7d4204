//! Euler's method on the probability flow dx/dσ = (x − image) / σ (arXiv 2206.00364), for samples whose
//! noise has the deviation σ.

use burn::tensor::Tensor;
use serde_json::json;

use crate::DiffusionError;
use crate::config_reader::ConfigReader;
use crate::sampler::{
    Sampler, Spacing, interpolated, karras, refuse_other_settings, sigmas_of, time_of,
};
use crate::schedule::{NoiseSchedule, Prediction};

pub(crate) struct Euler {
    times: Vec<f32>,
    /// σ at each step, and after the last.
    sigmas: Vec<f64>,
    initial_scale: f32,
    prediction: Prediction,
}

impl Euler {
    pub fn new(
        schedule: &NoiseSchedule,
        reader: &ConfigReader,
        steps: usize,
    ) -> Result<Self, DiffusionError> {
        refuse_other_settings(reader)?;
        let linear = [json!("linear")];
        reader.require("interpolation_type", &linear, "linear is")?;
        reader.require("timestep_type", &[json!("discrete")], "discrete is")?;
        reader.require("final_sigmas_type", &[json!("zero")], "zero is")?;
        let spacing = Spacing::read(reader, "linspace")?;
        let offset = reader.or("steps_offset", 0)?;
        let all = sigmas_of(&schedule.alphas);
        let mut times = spacing.times(schedule.times(), steps, offset);
        let mut sigmas: Vec<f64> = times.iter().map(|&time| interpolated(&all, time)).collect();
        if reader.or("use_karras_sigmas", false)? {
            let ends = [sigmas[steps - 1], sigmas[0]];
            sigmas = karras(&ends, steps);
            times = sigmas.iter().map(|&sigma| time_of(&all, sigma)).collect();
        }
        let largest = sigmas.iter().copied().fold(0.0, f64::max);
        let initial_scale = match spacing {
            Spacing::Linspace | Spacing::Trailing => largest,
            Spacing::Leading => (largest * largest + 1.0).sqrt(),
        };
        sigmas.push(0.0);
        Ok(Self {
            times: times.into_iter().map(|time| time as f32).collect(),
            sigmas,
            initial_scale: initial_scale as f32,
            prediction: schedule.prediction,
        })
    }
}

impl Sampler for Euler {
    fn times(&self) -> &[f32] {
        &self.times
    }

    fn initial_scale(&self) -> f32 {
        self.initial_scale
    }

    fn input(&self, step: usize, sample: Tensor<4>) -> Tensor<4> {
        let sigma = self.sigmas[step];
        sample / (sigma * sigma + 1.0).sqrt()
    }

    fn advance(&mut self, step: usize, sample: Tensor<4>, output: Tensor<4>) -> Tensor<4> {
        let [sigma, next] = [self.sigmas[step], self.sigmas[step + 1]];
        let derivative = match self.prediction {
            // (x − (x − σ · ε)) / σ
            Prediction::Epsilon => output,
            Prediction::Velocity => {
                let square = sigma * sigma + 1.0;
                let image = output * (-sigma / square.sqrt()) + sample.clone() / square;
                (sample.clone() - image) / sigma
            }
        };
        sample + derivative * (next - sigma)
    }
}
