//! Samplers: from noise to latents in a few steps.

use burn::tensor::Tensor;
use serde_json::Value;

use crate::DiffusionError;
use crate::config_reader::ConfigReader;
use crate::ddim::Ddim;
use crate::dpm_solver::DpmSolver;
use crate::euler::Euler;
use crate::schedule::NoiseSchedule;

/// Which sampler.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SamplerKind {
    /// Deterministic DDIM (arXiv 2010.02502).
    Ddim,
    /// Euler's method on the probability flow (arXiv 2206.00364).
    #[default]
    Euler,
    /// DPM-Solver++ of second order with one output a step (arXiv 2211.01095).
    DpmSolver,
}

impl SamplerKind {
    /// The names in configurations and flags.
    pub const NAMES: [(&str, Self); 3] = [
        (Self::Ddim.name(), Self::Ddim),
        (Self::Euler.name(), Self::Euler),
        (Self::DpmSolver.name(), Self::DpmSolver),
    ];

    /// What it is called there.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ddim => "ddim",
            Self::Euler => "euler",
            Self::DpmSolver => "dpm-solver",
        }
    }

    /// The sampler of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        let named = Self::NAMES.into_iter().find(|(known, _)| *known == name);
        named.map(|(_, kind)| kind)
    }

    /// That of a model's scheduler, if it is one of these.
    ///
    /// - json: `scheduler_config.json`
    pub fn of_scheduler(json: &Value) -> Option<Self> {
        match json.get("_class_name")?.as_str()? {
            "DDIMScheduler" => Some(Self::Ddim),
            "EulerDiscreteScheduler" => Some(Self::Euler),
            "DPMSolverMultistepScheduler" => Some(Self::DpmSolver),
            _ => None,
        }
    }
}

/// The steps of one sampling.
pub trait Sampler {
    /// The time of each step, as a UNet is told it.
    fn times(&self) -> &[f32];

    /// What noise of variance one is multiplied by to begin with.
    fn initial_scale(&self) -> f32;

    /// What the UNet is given at a step.
    fn input(&self, step: usize, sample: Tensor<4>) -> Tensor<4> {
        let _ = step;
        sample
    }

    /// The sample after a step. Steps must be taken in order.
    ///
    /// - output: the UNet's
    fn advance(&mut self, step: usize, sample: Tensor<4>, output: Tensor<4>) -> Tensor<4>;
}

impl NoiseSchedule {
    /// A sampler of so many steps with the settings of the model's schedule, which has defaults of its
    /// own for each.
    ///
    /// # Errors
    /// If there are no steps or more than training times, or a setting is not known here.
    pub fn sampler(
        &self,
        kind: SamplerKind,
        steps: usize,
    ) -> Result<Box<dyn Sampler>, DiffusionError> {
        let times = self.times();
        if !(1..=times).contains(&steps) {
            return Err(DiffusionError::Input(format!(
                "{steps} sampling steps; a model of {times} times takes 1 to {times}"
            )));
        }
        let reader = ConfigReader {
            json: &self.json,
            path: "scheduler/scheduler_config.json".into(),
        };
        Ok(match kind {
            SamplerKind::Ddim => Box::new(Ddim::new(self, &reader, steps)?),
            SamplerKind::Euler => Box::new(Euler::new(self, &reader, steps)?),
            SamplerKind::DpmSolver => Box::new(DpmSolver::new(self, &reader, steps)?),
        })
    }
}

/// How the times of a few steps lie among those of training (arXiv 2305.08891, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spacing {
    /// From the last time to the first, both included.
    Linspace,
    /// Multiples of a whole number, plus an offset.
    Leading,
    /// From the last time down.
    Trailing,
}

impl Spacing {
    pub fn read(reader: &ConfigReader, default: &str) -> Result<Self, DiffusionError> {
        let option = "timestep_spacing";
        let found: String = reader.or(option, default.to_owned())?;
        match found.as_str() {
            "linspace" => Ok(Self::Linspace),
            "leading" => Ok(Self::Leading),
            "trailing" => Ok(Self::Trailing),
            _ => Err(DiffusionError::Option {
                path: reader.path.clone(),
                option,
                found,
                supported: "linspace, leading and trailing are",
            }),
        }
    }

    /// The times of `steps` steps out of `times`, the noisiest first, not rounded where they lie evenly.
    pub fn times(self, times: usize, steps: usize, offset: usize) -> Vec<f64> {
        let last = (times - 1) as f64;
        match self {
            Self::Linspace if steps == 1 => vec![0.0],
            Self::Linspace => (0..steps)
                .rev()
                .map(|step| last * step as f64 / (steps - 1) as f64)
                .collect(),
            Self::Leading => {
                let ratio = times / steps;
                let leading = (0..steps).rev().map(|step| step * ratio + offset);
                leading.map(|time| time.min(times - 1) as f64).collect()
            }
            Self::Trailing => {
                let ratio = times as f64 / steps as f64;
                let trailing = (0..steps).map(|step| times as f64 - step as f64 * ratio);
                trailing
                    .map(|time| (time.round_ties_even() - 1.0).max(0.0))
                    .collect()
            }
        }
    }
}

/// Refuses settings of a sampler that would be another one.
pub(crate) fn refuse_other_settings(reader: &ConfigReader) -> Result<(), DiffusionError> {
    let no = [serde_json::json!(false)];
    for option in [
        "thresholding",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "use_flow_sigmas",
        "use_lu_lambdas",
    ] {
        reader.require(option, &no, "false is")?;
    }
    for option in ["lambda_min_clipped", "sigma_min", "sigma_max"] {
        reader.require(option, &[], "none is")?;
    }
    Ok(())
}

/// σ = √((1 − ᾱ) / ᾱ) of every training time. Of a last time without any signal it is that of ᾱ = 2⁻²⁴, as
/// diffusers has it: σ must stay finite.
pub(crate) fn sigmas_of(alphas: &[f32]) -> Vec<f64> {
    const LEAST: f64 = 1.0 / (1 << 24) as f64;
    let sigma = |alpha: f64| ((1.0 - alpha) / alpha).sqrt();
    let signal = |&alpha: &f32| match alpha > 0.0 {
        true => f64::from(alpha),
        false => LEAST,
    };
    alphas.iter().map(signal).map(sigma).collect()
}

/// σ at a time between training times.
pub(crate) fn interpolated(sigmas: &[f64], time: f64) -> f64 {
    let time = time.clamp(0.0, (sigmas.len() - 1) as f64);
    let below = time.floor() as usize;
    let above = (below + 1).min(sigmas.len() - 1);
    let share = time - below as f64;
    sigmas[below] * (1.0 - share) + sigmas[above] * share
}

/// Karras' σ, evenly spaced in σ^(1/7) (arXiv 2206.00364, equation 5), from the largest to the smallest.
pub(crate) fn karras(sigmas: &[f64], steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let [smallest, largest] = [sigmas[0], sigmas[sigmas.len() - 1]].map(|s| s.powf(1.0 / RHO));
    let root = |step: usize| {
        let share = step as f64 / (steps.max(2) - 1) as f64;
        largest + share * (smallest - largest)
    };
    (0..steps).map(|step| root(step).powf(RHO)).collect()
}

/// The time of a σ, interpolated in log σ.
pub(crate) fn time_of(sigmas: &[f64], sigma: f64) -> f64 {
    let last = sigmas.len() - 1;
    let above = sigmas
        .partition_point(|&known| known <= sigma)
        .clamp(1, last);
    let (low, high) = (sigmas[above - 1].ln(), sigmas[above].ln());
    let share = ((sigma.ln() - low) / (high - low)).clamp(0.0, 1.0);
    (above - 1) as f64 + share
}
