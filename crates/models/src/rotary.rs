//! Rotary position embedding as checkpoints configure it.

use std::f64::consts::PI;

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_kernels::{Latest, computes_later, row_numbers};
use serde_json::{Map, Value};

use crate::read_rows::ReadRows;

/// How many tables of angles are kept: of a model, and of one that is trained beside it.
const KEPT: usize = 4;

/// The angles of all positions from the first, by what they follow from and how many they are.
static TABLES: Latest<(RotaryConfig, usize, usize, Device), RotaryAngles> = Latest::new();

/// The frequencies by which pairs of values turn from one position to the next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RotaryConfig {
    theta: f64,
    scaling: Scaling,
}

#[derive(Clone, Debug, PartialEq)]
enum Scaling {
    None,
    /// Position interpolation (arXiv 2306.15595): every frequency divided by the factor.
    Linear {
        factor: f64,
    },
    /// LLaMA 3.1: frequencies whose wave is longer than the original context are divided by the
    /// factor, short ones are kept, those between are blended.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original_positions: f64,
    },
    /// Every frequency divided by a number of its own: LongRoPE (arXiv 2402.13753) with one list for
    /// texts of every length.
    Divided(Vec<f64>),
}

impl RotaryConfig {
    /// Reads `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling`.
    ///
    /// # Errors
    /// A message about what is wrong with them.
    pub fn from_json(json: &Value) -> Result<Self, String> {
        let table = |key: &str| json.get(key).and_then(Value::as_object);
        let parameters = table("rope_parameters");
        let theta = |table: Option<&Map<String, Value>>| {
            table.and_then(|table| table.get("rope_theta")?.as_f64())
        };
        let theta = theta(parameters)
            .or_else(|| theta(json.as_object()))
            .unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 0.0) {
            return Err(format!(
                "rope_theta is {theta}; it has to be a positive number"
            ));
        }
        let Some(table) = parameters.or_else(|| table("rope_scaling")) else {
            let scaling = Scaling::None;
            return Ok(Self { theta, scaling });
        };
        let number = |key: &str| {
            let found = table.get(key).and_then(Value::as_f64);
            match found {
                Some(number) if number > 0.0 => Ok(number),
                _ => Err(format!(
                    "the rotary embedding needs `{key}`, a number above 0"
                )),
            }
        };
        let kind = table
            .get("rope_type")
            .or_else(|| table.get("type"))
            .and_then(Value::as_str)
            .unwrap_or("default");
        let scaling = match kind {
            "default" => Scaling::None,
            "linear" => Scaling::Linear {
                factor: number("factor")?,
            },
            "llama3" => Scaling::Llama3 {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                original_positions: number("original_max_position_embeddings")?,
            },
            "longrope" => Scaling::Divided(only_list_of_divisors(table)?),
            other => {
                return Err(format!(
                    "rotary embeddings of type `{other}` are not supported, only default, linear, llama3 and longrope of one list"
                ));
            }
        };
        Ok(Self { theta, scaling })
    }

    /// # Errors
    /// A message if these are frequencies for heads of another size.
    pub fn require_fit(&self, d_head: usize) -> Result<(), String> {
        match &self.scaling {
            Scaling::Divided(divisors) if divisors.len() != d_head / 2 => Err(format!(
                "the rotary embedding has {} divisors, heads of {d_head} values need {}",
                divisors.len(),
                d_head / 2
            )),
            _ => Ok(()),
        }
    }

    /// How far each pair of a head turns from one position to the next: `[d_head / 2]`.
    fn frequencies(&self, d_head: usize) -> Vec<f64> {
        (0..d_head / 2)
            .map(|pair| {
                let frequency = self.theta.powf(-2.0 * pair as f64 / d_head as f64);
                self.scaling.apply(pair, frequency)
            })
            .collect()
    }

    /// Cosines and sines of the angles at `positions`: two tensors `[rows, d_head / 2]`. A GPU has a table of
    /// all positions, of which these rows are taken.
    pub fn angles(&self, positions: &[i32], d_head: usize, device: &Device) -> RotaryAngles {
        if !computes_later(device) {
            return self.angles_at(positions, d_head, device);
        }
        let last = positions.iter().copied().max().unwrap_or(0);
        let count = (last as usize + 1).next_power_of_two();
        let device = device.clone().inner();
        let make = || {
            let all: Vec<i32> = (0..count as i32).collect();
            let table = self.angles_at(&all, d_head, &device);
            ((self.clone(), d_head, count, device.clone()), table)
        };
        let is_the_one = |(config, width, held, place): &(Self, usize, usize, Device)| {
            *held >= count && *width == d_head && *place == device && config == self
        };
        let table = TABLES.get(KEPT, is_the_one, make);
        let rows = row_numbers(positions, &device);
        RotaryAngles {
            cosines: table.cosines.select(0, rows.clone()),
            sines: table.sines.select(0, rows),
        }
    }

    fn angles_at(&self, positions: &[i32], d_head: usize, device: &Device) -> RotaryAngles {
        let frequencies = self.frequencies(d_head);
        let mut cosines = Vec::with_capacity(positions.len() * frequencies.len());
        let mut sines = Vec::with_capacity(cosines.capacity());
        for &position in positions {
            for frequency in &frequencies {
                let (sine, cosine) = (f64::from(position) * frequency).sin_cos();
                cosines.push(cosine as f32);
                sines.push(sine as f32);
            }
        }
        let tensor = |values: Vec<f32>| {
            let shape = [positions.len(), frequencies.len()];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        RotaryAngles {
            cosines: tensor(cosines),
            sines: tensor(sines),
        }
    }
}

/// The divisors of LongRoPE, if they are the same below and above the original context and cosines and
/// sines are not scaled.
fn only_list_of_divisors(table: &Map<String, Value>) -> Result<Vec<f64>, String> {
    let list = |key: &str| {
        let values = table.get(key).and_then(Value::as_array);
        let values: Option<Vec<f64>> = values
            .and_then(|values| values.iter().map(Value::as_f64).collect())
            .filter(|values: &Vec<f64>| values.iter().all(|&value| value > 0.0));
        values.ok_or_else(|| format!("the rotary embedding needs `{key}`, numbers above 0"))
    };
    let (short, long) = (list("short_factor")?, list("long_factor")?);
    let scale = table.get("attention_factor").and_then(Value::as_f64);
    match short == long && scale == Some(1.0) {
        true => Ok(short),
        false => Err(
            "rotary embeddings of type `longrope` are supported only with equal `short_factor` and `long_factor` and an `attention_factor` of 1"
                .to_owned(),
        ),
    }
}

/// The angles of a batch's rows.
#[derive(Clone, Debug)]
pub(crate) struct RotaryAngles {
    cosines: Tensor<2>,
    sines: Tensor<2>,
}

impl RotaryAngles {
    /// The first `heads` heads of every row turned, the rest as it is.
    ///
    /// - input, output: `[rows, n · d_head]`
    pub fn turn(&self, input: Tensor<2>, heads: usize) -> Tensor<2> {
        eigenmix_kernels::rotary(input, self.cosines.clone(), self.sines.clone(), heads)
    }

    /// The angles of some of the rows.
    pub fn of(&self, read: &ReadRows) -> Self {
        Self {
            cosines: read.select(self.cosines.clone()),
            sines: read.select(self.sines.clone()),
        }
    }
}

impl Scaling {
    fn apply(&self, pair: usize, frequency: f64) -> f64 {
        match *self {
            Self::Divided(ref divisors) => frequency / divisors[pair],
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low,
                high,
                original_positions,
            } => {
                let waves = original_positions * frequency / (2.0 * PI);
                if waves < low {
                    return frequency / factor;
                }
                if waves > high {
                    return frequency;
                }
                let smooth = (waves - low) / (high - low);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_spellings_of_a_configuration_are_read() {
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
        let mut parameters = scaling.clone();
        parameters["rope_theta"] = json!(500000.0);
        let older = json!({"rope_theta": 500000.0, "rope_scaling": scaling});
        let newer = json!({"rope_parameters": parameters});
        let older = RotaryConfig::from_json(&older).unwrap();
        assert_eq!(older, RotaryConfig::from_json(&newer).unwrap());
        // LLaMA 3.1, d_head 128, from transformers' `_compute_llama3_parameters`: the first pair is
        // kept, the last divided by 8.
        let frequencies = older.frequencies(128);
        assert_eq!(frequencies[0], 1.0);
        let last = 500_000f64.powf(-126.0 / 128.0);
        assert!((frequencies[63] / (last / 8.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn frequencies_are_divided_by_numbers_of_their_own() {
        let json = |long: [f64; 2], scale: f64| {
            json!({"rope_theta": 100.0, "rope_scaling": {"rope_type": "longrope",
                "short_factor": [1.0, 4.0], "long_factor": long, "attention_factor": scale}})
        };
        let read = RotaryConfig::from_json(&json([1.0, 4.0], 1.0)).unwrap();
        assert_eq!(read.frequencies(4), [1.0, 0.1 / 4.0]);
        assert!(read.require_fit(4).is_ok());
        assert!(read.require_fit(6).unwrap_err().contains("2 divisors"));
        for other in [json([1.0, 8.0], 1.0), json([1.0, 4.0], 1.1)] {
            let error = RotaryConfig::from_json(&other).unwrap_err();
            assert!(error.contains("`longrope`"), "{error}");
        }
    }

    #[test]
    fn an_unknown_kind_is_refused_by_name() {
        let json = json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}});
        assert!(RotaryConfig::from_json(&json).unwrap_err().contains("yarn"));
        let json = json!({"rope_scaling": {"type": "linear"}});
        assert!(
            RotaryConfig::from_json(&json)
                .unwrap_err()
                .contains("factor")
        );
    }
}
