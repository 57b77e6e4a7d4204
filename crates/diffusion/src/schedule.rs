//! How much noise there is at every time: the schedule that a model was trained with.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use serde_json::{Value, json};

use crate::DiffusionError;
use crate::config_reader::ConfigReader;

/// What a UNet's output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prediction {
    /// The noise ε.
    #[default]
    Epsilon,
    /// The velocity v = √ᾱ · ε − √(1 − ᾱ) · x.
    Velocity,
}

/// ᾱ of every training time: noisy latents are √ᾱ · x + √(1 − ᾱ) · ε.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    /// ᾱ, from little noise to much.
    pub alphas: Vec<f32>,
    pub prediction: Prediction,
    pub(crate) json: Value,
}

/// Schedulers of diffusers for models that were trained with a schedule of β. Others, such as those of flow
/// matching or of EDM, have other noise.
const CLASSES: [&str; 18] = [
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
];

/// How β grows.
#[derive(Clone, Copy)]
enum Growth {
    Linear,
    /// √β grows linearly.
    ScaledLinear,
    /// ᾱ is a squared cosine.
    Cosine,
}

impl NoiseSchedule {
    /// - json: `scheduler/scheduler_config.json`, of whatever sampler
    /// - directory: where that is, for messages
    ///
    /// # Errors
    /// If it asks for a schedule that is not known here.
    pub fn from_json(json: &Value, directory: &Path) -> Result<Self, DiffusionError> {
        let mut reader = ConfigReader::new(json, directory);
        reader.path = directory.join("scheduler_config.json");
        let option =
            |option: &'static str, found: String, supported: &'static str| DiffusionError::Option {
                path: directory.join("scheduler_config.json"),
                option,
                found,
                supported,
            };
        let class = reader.optional::<String>("_class_name")?;
        if let Some(class) = class.filter(|class| !CLASSES.contains(&class.as_str())) {
            let known = "those of noise with a schedule of β are, such as DDIMScheduler, EulerDiscreteScheduler, \
                         DPMSolverMultistepScheduler and PNDMScheduler";
            return Err(option("_class_name", class, known));
        }
        let prediction: String = reader.or("prediction_type", "epsilon".to_owned())?;
        let prediction = match prediction.as_str() {
            "epsilon" => Prediction::Epsilon,
            "v_prediction" => Prediction::Velocity,
            _ => {
                let known = "epsilon and v_prediction are";
                return Err(option("prediction_type", prediction, known));
            }
        };
        let times: usize = reader.or("num_train_timesteps", 1000)?;
        if !(2..=1_000_000).contains(&times) {
            return Err(reader.problem(format!("`num_train_timesteps` is {times}")));
        }
        let growth: String = reader.or("beta_schedule", "linear".to_owned())?;
        let growth = match growth.as_str() {
            "linear" => Growth::Linear,
            "scaled_linear" => Growth::ScaledLinear,
            "squaredcos_cap_v2" => Growth::Cosine,
            _ => {
                let known = "linear, scaled_linear and squaredcos_cap_v2 are";
                return Err(option("beta_schedule", growth, known));
            }
        };
        let ends = [
            reader.or("beta_start", 0.0001f64)?,
            reader.or("beta_end", 0.02f64)?,
        ];
        let betas = match reader.optional::<Vec<f32>>("trained_betas")? {
            Some(betas) if betas.len() < 2 => {
                return Err(reader.problem("`trained_betas` has fewer than two".to_owned()));
            }
            Some(betas) if betas.len() != times => {
                let found = betas.len();
                return Err(reader.problem(format!(
                    "`trained_betas` has {found} values for {times} `num_train_timesteps`"
                )));
            }
            Some(betas) => betas,
            None => growth.betas(ends, times),
        };
        let mut alphas = cumulative(&betas);
        if reader.or("rescale_betas_zero_snr", false)? {
            alphas = with_zero_terminal_snr(&alphas);
        }
        if alphas.iter().any(|alpha| !(0.0..=1.0).contains(alpha)) {
            return Err(reader.problem("β is not between 0 and 1".to_owned()));
        }
        Ok(Self {
            alphas,
            prediction,
            json: json.clone(),
        })
    }

    /// The schedule of Stable Diffusion: scaled linear from 0.00085 to 0.012.
    pub fn stable_diffusion(prediction: Prediction) -> Self {
        let betas = Growth::ScaledLinear.betas([0.00085, 0.012], 1000);
        Self {
            alphas: cumulative(&betas),
            prediction,
            json: json!({
                "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
                "steps_offset": 1, "clip_sample": false, "set_alpha_to_one": false,
            }),
        }
    }

    /// The same with no signal left at the last time (arXiv 2305.08891), which needs a model that
    /// predicts the velocity.
    pub fn with_zero_terminal_snr(mut self) -> Self {
        self.alphas = with_zero_terminal_snr(&self.alphas);
        if let Some(json) = self.json.as_object_mut() {
            json.insert("rescale_betas_zero_snr".to_owned(), json!(true));
        }
        self
    }

    /// The scheduler's file that it is from.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// How many times it has.
    pub fn times(&self) -> usize {
        self.alphas.len()
    }

    /// ᾱ / (1 − ᾱ)
    pub fn snr(&self, time: usize) -> f32 {
        self.alphas[time] / (1.0 - self.alphas[time])
    }

    /// Latents with noise: √ᾱ · x + √(1 − ᾱ) · ε.
    ///
    /// # Shapes
    /// - latents, noise: `[images, channels, height, width]`
    /// - times: `[images]`
    pub fn noisy(&self, latents: Tensor<4>, noise: Tensor<4>, times: &[usize]) -> Tensor<4> {
        let [signal, rest] = self.roots(times, &latents);
        latents * signal + noise * rest
    }

    /// What a UNet should give for those latents: ε, or √ᾱ · ε − √(1 − ᾱ) · x.
    ///
    /// # Shapes
    /// As for [`NoiseSchedule::noisy`].
    pub fn target(&self, latents: Tensor<4>, noise: Tensor<4>, times: &[usize]) -> Tensor<4> {
        match self.prediction {
            Prediction::Epsilon => noise,
            Prediction::Velocity => {
                let [signal, rest] = self.roots(times, &latents);
                noise * signal - latents * rest
            }
        }
    }

    /// √ᾱ and √(1 − ᾱ) of each image.
    fn roots(&self, times: &[usize], like: &Tensor<4>) -> [Tensor<4>; 2] {
        let roots = |root: fn(f32) -> f32| {
            let values: Vec<f32> = times.iter().map(|&time| root(self.alphas[time])).collect();
            let data = TensorData::new(values, [times.len(), 1, 1, 1]);
            Tensor::from_data(data, &like.device())
        };
        [roots(f32::sqrt), roots(|alpha| (1.0 - alpha).sqrt())]
    }
}

impl Growth {
    fn betas(self, [start, end]: [f64; 2], times: usize) -> Vec<f32> {
        let between = |start: f64, end: f64, index: usize| {
            start + (end - start) * index as f64 / (times - 1) as f64
        };
        let cosine = |time: f64| {
            let angle = (time / times as f64 + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2;
            angle.cos().powi(2)
        };
        let beta = |index: usize| match self {
            Self::Linear => between(start, end, index),
            Self::ScaledLinear => between(start.sqrt(), end.sqrt(), index).powi(2),
            Self::Cosine => {
                let [now, next] = [index, index + 1].map(|index| cosine(index as f64));
                (1.0 - next / now).min(0.999)
            }
        };
        (0..times).map(|index| beta(index) as f32).collect()
    }
}

/// ᾱ_t = Π (1 − β_i), rounded to f32 at the end.
fn cumulative(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0f64;
    betas
        .iter()
        .map(|&beta| {
            product *= f64::from(1.0 - beta);
            product as f32
        })
        .collect()
}

/// √ᾱ shifted and scaled so that the first stays as it is and the last is 0.
fn with_zero_terminal_snr(alphas: &[f32]) -> Vec<f32> {
    let roots: Vec<f64> = alphas
        .iter()
        .map(|&alpha| f64::from(alpha).sqrt())
        .collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let scale = first / (first - last);
    let scaled = roots
        .iter()
        .map(|root| ((root - last) * scale).powi(2) as f32);
    scaled.collect()
}
