//! What a file says about its rotary embedding.

use std::f64::consts::PI;

use eigenmix_gguf::{GgufFamily, GgufFile};
use eigenmix_quant::Encoding;
use serde_json::{Map, Value, json};

use super::config::refused;
use crate::ModelError;

/// LLaMA 3's scaling as a tensor: what each frequency is divided by, `[d_head / 2]`.
pub(super) const DIVISORS: &str = "rope_freqs.weight";

/// How far divisors may be from a formula: they were computed in single precision.
const TOLERANCE: f64 = 2e-6;

/// Sets `rope_theta` and `rope_scaling`.
///
/// LLaMA 3's divisors become the parameters of its formula where it gives them, else a list as
/// LongRoPE has it, so that the frequencies are those of the file in any case.
///
/// # Errors
/// If the scaling is of a kind that is not supported, or the divisors do not fit.
pub(super) fn add_to(
    config: &mut Map<String, Value>,
    file: &GgufFile,
    family: GgufFamily,
    d_head: u64,
) -> Result<(), ModelError> {
    let key = |name: &str| format!("{}.rope.{name}", family.name());
    let theta = file.number(&key("freq_base"))?.unwrap_or(10_000.0);
    // JSON has no infinity.
    if !theta.is_finite() {
        let problem = format!("its `{}` is {theta}", key("freq_base"));
        return Err(refused(file, problem));
    }
    config.insert("rope_theta".to_owned(), json!(theta));

    let kind_key = key("scaling.type");
    let factor = file.number(&key("scaling.factor"))?;
    // What files of 2023 have instead.
    let older = file.number(&key("scale_linear"))?;
    let linear = match file.text(&kind_key)? {
        Some("none") => None,
        None | Some("linear") => factor.or(older),
        Some(other) => {
            let problem = format!(
                "`{kind_key}` is `{other}`, a rotary embedding that is not supported; none and linear are, and LLaMA 3's as a tensor `{DIVISORS}`"
            );
            return Err(refused(file, problem));
        }
    };
    let linear = linear.filter(|&factor| factor != 1.0 && factor != 0.0);
    for name in ["scaling.attn_factor", "scaling.yarn_log_multiplier"] {
        if let Some(found) = file.number(&key(name))?
            && found != 1.0
            && found != 0.0
        {
            let problem = format!("`{}` is {found}, which is not supported", key(name));
            return Err(refused(file, problem));
        }
    }

    let scaling = match (divisors(file, d_head)?, linear) {
        (None, None) => return Ok(()),
        (None, Some(factor)) => json!({"rope_type": "linear", "factor": factor}),
        (Some(divisors), None) => scaling_of(&divisors, theta),
        (Some(_), Some(_)) => {
            let problem = format!(
                "it scales its rotary embedding both linearly and by `{DIVISORS}`, which is not supported"
            );
            return Err(refused(file, problem));
        }
    };
    config.insert("rope_scaling".to_owned(), scaling);
    Ok(())
}

fn divisors(file: &GgufFile, d_head: u64) -> Result<Option<Vec<f64>>, ModelError> {
    if !file.contains(DIVISORS) {
        return Ok(None);
    }
    let tensor = file.tensor(DIVISORS)?;
    if tensor.encoding != Encoding::F32 || tensor.shape != [d_head as usize / 2] {
        let problem = format!(
            "tensor `{DIVISORS}` has shape {:?} in {}, expected [{}] in F32",
            tensor.shape,
            tensor.encoding.name(),
            d_head / 2
        );
        return Err(refused(file, problem));
    }
    let (values, _) = tensor.data.as_chunks();
    let values: Vec<f64> = values
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes).into())
        .collect();
    match values
        .iter()
        .find(|&&value| !(value > 0.0 && value.is_finite()))
    {
        None => Ok(Some(values)),
        Some(found) => {
            let problem = format!("tensor `{DIVISORS}` holds {found}, expected numbers above 0");
            Err(refused(file, problem))
        }
    }
}

fn scaling_of(divisors: &[f64], theta: f64) -> Value {
    if divisors.iter().all(|&divisor| divisor == 1.0) {
        return json!({"rope_type": "default"});
    }
    let factor = divisors
        .iter()
        .fold(1.0f64, |most, &divisor| most.max(divisor));
    // Every published LLaMA 3 has 1, 4 and 8192; other contexts are as old as powers of two.
    let (low, high) = (1.0, 4.0);
    let powers = (5..21).map(|power| f64::from(1u32 << power));
    for original in [8192.0].into_iter().chain(powers) {
        let fits = divisors.iter().enumerate().all(|(pair, &found)| {
            let exponent = -(pair as f64) / divisors.len() as f64;
            let waves = original * theta.powf(exponent) / (2.0 * PI);
            let kept = ((waves - low) / (high - low)).clamp(0.0, 1.0);
            let divisor = 1.0 / ((1.0 - kept) / factor + kept);
            (found / divisor - 1.0).abs() <= TOLERANCE
        });
        if fits {
            return json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": low,
                "high_freq_factor": high, "original_max_position_embeddings": original as u64});
        }
    }
    json!({"rope_type": "longrope", "short_factor": divisors, "long_factor": divisors, "attention_factor": 1.0})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3s_parameters_come_back_from_its_divisors() {
        // As llama.cpp's converter computes them, for LLaMA 3.2: in single precision.
        let (theta, factor, low, high, original) = (500_000f32, 32f32, 1f32, 4f32, 8192f32);
        let divisors: Vec<f64> = (0..32)
            .map(|pair| {
                let frequency = 1.0 / theta.powf(2.0 * pair as f32 / 64.0);
                let wave = 2.0 * std::f32::consts::PI / frequency;
                let divisor = if wave < original / high {
                    1.0
                } else if wave > original / low {
                    factor
                } else {
                    let smooth = (original / wave - low) / (high - low);
                    1.0 / ((1.0 - smooth) / factor + smooth)
                };
                divisor.into()
            })
            .collect();
        let expected = json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
        assert_eq!(scaling_of(&divisors, 500_000.0), expected);
        // Another curve stays what it is.
        let mut other = divisors.clone();
        other[17] *= 1.0001;
        let kept = scaling_of(&other, 500_000.0);
        assert_eq!(kept["rope_type"], "longrope");
        assert_eq!(kept["long_factor"], json!(other));
        assert_eq!(
            scaling_of(&[1.0, 1.0], 10_000.0),
            json!({"rope_type": "default"})
        );
    }
}
