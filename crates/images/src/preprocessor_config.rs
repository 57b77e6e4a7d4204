//! What `preprocessor_config.json` says, with the defaults of the processor class that it names.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::preprocessor::{ImagePreprocessor, Resize, ResizeTarget};
use crate::resample::Filter;

/// Steps that change pixels and that this crate does not take.
const OTHER_STEPS: [&str; 7] = [
    "crop_pct",
    "do_align_long_axis",
    "do_flip_channel_order",
    "do_image_splitting",
    "do_pad",
    "do_thumbnail",
    "size_divisor",
];

/// That which one family does take.
const PAD: &str = "do_pad";

const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];

/// More pixels along a side than any vision model takes.
const LONGEST_SIDE: u64 = 8192;

/// What `preprocessor_config.json` says. Other keys are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct PreprocessorConfig {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Option<Value>,
    resample: Option<u64>,
    do_center_crop: Option<bool>,
    crop_size: Option<Value>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Option<PerChannel>,
    image_std: Option<PerChannel>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum PerChannel {
    One(f64),
    Each(Vec<f64>),
}

/// Whose defaults fill the gaps.
#[derive(Clone, Copy, PartialEq)]
enum Family {
    Vit,
    Clip,
    /// CLIP's, and images may be made squares first.
    Llava,
    /// Any other: nothing is assumed about it.
    Other,
}

impl PreprocessorConfig {
    fn processor(&self) -> &str {
        let named = self.image_processor_type.as_deref();
        named
            .or(self.feature_extractor_type.as_deref())
            .unwrap_or("the processor")
    }

    fn family(&self) -> Family {
        let name = self.processor();
        let name = name.strip_suffix("Fast").unwrap_or(name);
        let name = name
            .strip_suffix("ImageProcessor")
            .or(name.strip_suffix("FeatureExtractor"));
        match name {
            Some("ViT") => Family::Vit,
            Some("CLIP") => Family::Clip,
            Some("Llava") => Family::Llava,
            _ => Family::Other,
        }
    }

    /// The steps to take, or what prevents them.
    pub(crate) fn resolve(&self) -> Result<ImagePreprocessor, String> {
        let asks = |key: &str| {
            let value = self.rest.get(key).unwrap_or(&Value::Null);
            !matches!(value, Value::Null | Value::Bool(false))
        };
        let family = self.family();
        let pads = family == Family::Llava && asks(PAD);
        if let Some(key) = OTHER_STEPS
            .iter()
            .find(|key| asks(key) && !(pads && **key == PAD))
        {
            return Err(format!("`{key}` is not supported"));
        }
        // But for that, LLaVA's processor is CLIP's.
        let family = match family {
            Family::Llava => Family::Clip,
            other => other,
        };
        let resize = match self.required(self.do_resize, "do_resize", |_| true)? {
            true => Some(self.resize(family)?),
            false => None,
        };
        // ViT's processor never crops, even if its configuration asks for it.
        let do_center_crop = match family {
            Family::Vit => false,
            Family::Clip | Family::Llava => self.do_center_crop.unwrap_or(true),
            Family::Other => self.do_center_crop.unwrap_or(false),
        };
        let crop = match (do_center_crop, &self.crop_size) {
            (false, _) => None,
            (true, Some(size)) => Some(exact_size("crop_size", size)?),
            (true, None) if family == Family::Clip => Some([224, 224]),
            (true, None) => return Err(self.missing("crop_size")),
        };
        let size = match (crop, &resize) {
            (Some(size), _) => size,
            (None, Some(resize)) => match resize.target {
                ResizeTarget::Exact(size) => size,
                ResizeTarget::ShortestEdge(_) => {
                    return Err(
                        "`size` gives the shortest edge only and there is no crop, so images would \
                         differ in size; set `do_center_crop` and `crop_size`, or height and width"
                            .to_owned(),
                    );
                }
            },
            (None, None) => {
                return Err(
                    "neither `do_resize` nor `do_center_crop` is on, so images would differ in size"
                        .to_owned(),
                );
            }
        };
        let preprocessor = ImagePreprocessor::new(resize, crop, size, self.values(family)?);
        Ok(match pads {
            // As Python's int(), which cuts off.
            true => {
                let means = self.channels("image_mean", &self.image_mean, family, CLIP_MEAN)?;
                preprocessor.padding(means.map(|mean| (f64::from(mean) * 255.0) as u8))
            }
            false => preprocessor,
        })
    }

    fn resize(&self, family: Family) -> Result<Resize, String> {
        let target = match &self.size {
            Some(size) => resize_target(size, family)?,
            None => match family {
                Family::Vit => ResizeTarget::Exact([224, 224]),
                Family::Clip | Family::Llava => ResizeTarget::ShortestEdge(224),
                Family::Other => return Err(self.missing("size")),
            },
        };
        if family == Family::Vit && matches!(target, ResizeTarget::ShortestEdge(_)) {
            return Err("`size` has `shortest_edge`, expected `height` and `width`".to_owned());
        }
        let number = self.required(self.resample, "resample", |family| match family {
            Family::Clip | Family::Llava => 3,
            _ => 2,
        })?;
        let filter = Filter::from_number(number)
            .ok_or_else(|| format!("`resample` is {number}, expected 0 to 5, Pillow's filters"))?;
        Ok(Resize { target, filter })
    }

    /// What each of the 256 values of a channel becomes: `[3][256]`.
    ///
    /// As transformers computes it: scaled in 64 bits and rounded to 32, then (x − mean)/std in 32.
    fn values(&self, family: Family) -> Result<[Vec<f32>; 3], String> {
        let factor = match self.do_rescale.unwrap_or(true) {
            true => self.rescale_factor.unwrap_or(1.0 / 255.0),
            false => 1.0,
        };
        if !factor.is_finite() || factor == 0.0 {
            return Err(format!(
                "`rescale_factor` is {factor}, expected a number other than 0"
            ));
        }
        let scaled = (0..=u8::MAX).map(|value| (f64::from(value) * factor) as f32);
        if !self.required(self.do_normalize, "do_normalize", |_| true)? {
            return Ok([(); 3].map(|()| scaled.clone().collect()));
        }
        const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];
        let means = self.channels("image_mean", &self.image_mean, family, CLIP_MEAN)?;
        let deviations = self.channels("image_std", &self.image_std, family, CLIP_STD)?;
        if deviations.contains(&0.0) {
            return Err("`image_std` contains 0".to_owned());
        }
        Ok([0, 1, 2].map(|channel| {
            let (mean, deviation) = (means[channel], deviations[channel]);
            scaled
                .clone()
                .map(|value| (value - mean) / deviation)
                .collect()
        }))
    }

    fn channels(
        &self,
        key: &str,
        found: &Option<PerChannel>,
        family: Family,
        clip: [f64; 3],
    ) -> Result<[f32; 3], String> {
        let values = match (found, family) {
            (Some(PerChannel::One(value)), _) => [*value; 3],
            (Some(PerChannel::Each(values)), _) => <[f64; 3]>::try_from(values.as_slice())
                .map_err(|_| {
                    format!(
                        "`{key}` has {} values, expected 3, one per channel",
                        values.len()
                    )
                })?,
            (None, Family::Vit) => [0.5; 3],
            (None, Family::Clip | Family::Llava) => clip,
            (None, Family::Other) => return Err(self.missing(key)),
        };
        Ok(values.map(|value| value as f32))
    }

    /// A value of the file, or the family's default where it has one.
    fn required<T>(
        &self,
        found: Option<T>,
        key: &str,
        default: impl FnOnce(Family) -> T,
    ) -> Result<T, String> {
        match (found, self.family()) {
            (Some(value), _) => Ok(value),
            (None, Family::Other) => Err(self.missing(key)),
            (None, family) => Ok(default(family)),
        }
    }

    fn missing(&self, key: &str) -> String {
        let processor = self.processor();
        format!("there is no `{key}`, and the default of {processor} is unknown; add the key")
    }
}

fn resize_target(size: &Value, family: Family) -> Result<ResizeTarget, String> {
    if let Some(edge) = size.get("shortest_edge") {
        let others = ["longest_edge", "height", "width"];
        return match others.iter().find(|key| size.get(key).is_some()) {
            Some(key) => Err(format!(
                "`size` has both `shortest_edge` and `{key}`, expected one"
            )),
            None => side("size.shortest_edge", edge).map(ResizeTarget::ShortestEdge),
        };
    }
    match (size.is_number(), family) {
        (true, Family::Clip) => side("size", size).map(ResizeTarget::ShortestEdge),
        (true, Family::Other) => Err(
            "`size` is one number, which some processors take for the shortest edge and others for \
             both sides; write `height` and `width`, or `shortest_edge`"
                .to_owned(),
        ),
        _ => exact_size("size", size).map(ResizeTarget::Exact),
    }
}

/// `{"height": …, "width": …}`, `[height, width]`, or one number for both: `[height, width]`.
fn exact_size(key: &str, size: &Value) -> Result<[usize; 2], String> {
    match size {
        Value::Number(_) => side(key, size).map(|side| [side; 2]),
        Value::Array(sides) if sides.len() == 2 => {
            Ok([side(key, &sides[0])?, side(key, &sides[1])?])
        }
        Value::Object(sides) => match (sides.get("height"), sides.get("width")) {
            (Some(height), Some(width)) => Ok([
                side(&format!("{key}.height"), height)?,
                side(&format!("{key}.width"), width)?,
            ]),
            _ => Err(format!("`{key}` is {size}, expected `height` and `width`")),
        },
        other => Err(format!("`{key}` is {other}, expected `height` and `width`")),
    }
}

fn side(key: &str, value: &Value) -> Result<usize, String> {
    value
        .as_u64()
        .filter(|side| (1..=LONGEST_SIDE).contains(side))
        .and_then(|side| usize::try_from(side).ok())
        .ok_or_else(|| format!("`{key}` is {value}, expected a number from 1 to {LONGEST_SIDE}"))
}
