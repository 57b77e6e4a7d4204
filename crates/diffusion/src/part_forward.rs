//! What one part of a diffusion model makes of tensors: how other software's values are compared.

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_models::LoadReport;
use eigenmix_tensors::{Dtype, HostTensor, TensorFile};

use crate::{AdaptedPipeline, AddedInput, DiffusionError, Part, Unet, UnetInput};

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardPart {
    Unet,
    VaeEncode,
    VaeDecode,
    Text,
}

impl ForwardPart {
    /// The names in flags.
    pub const NAMES: [(&str, Self); 4] = [
        ("unet", Self::Unet),
        ("vae-encode", Self::VaeEncode),
        ("vae-decode", Self::VaeDecode),
        ("text", Self::Text),
    ];

    /// The parts of the model that are run.
    pub fn parts(self, model: &AdaptedPipeline) -> &'static [Part] {
        match self {
            Self::Unet => &[Part::Unet],
            Self::VaeEncode | Self::VaeDecode => &[Part::Vae],
            Self::Text => model.text_parts(),
        }
    }

    /// The part of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        let named = Self::NAMES.into_iter().find(|(known, _)| *known == name);
        named.map(|(_, part)| part)
    }
}

/// The outputs of a part, by name.
///
/// - report: is told how each adapter matched
///
/// # Errors
/// If an input is missing or has another shape than the part takes, the part is missing, an adapter does
/// not fit, or a value is not finite.
pub fn part_forward(
    model: &AdaptedPipeline,
    part: ForwardPart,
    inputs: &TensorFile,
    device: &Device,
    report: &mut dyn FnMut(&LoadReport),
) -> Result<Vec<(&'static str, HostTensor)>, DiffusionError> {
    let inputs = Inputs {
        file: inputs,
        device,
    };
    match part {
        ForwardPart::Unet => {
            let unet = model.unet(device, report)?;
            let input = inputs.unet(&unet)?;
            let output = named(model, Part::Unet, "sample", unet.forward(&input))?;
            Ok(vec![output])
        }
        ForwardPart::VaeEncode => {
            let vae = model.vae(device)?;
            let (channels, reduction) = (vae.config().in_channels, vae.config().reduction());
            let images = inputs.images("input.pixel_values", channels, reduction)?;
            let moments = vae.encode(images);
            Ok(vec![
                named(model, Part::Vae, "mean", moments.mean)?,
                named(model, Part::Vae, "logvar", moments.logvar)?,
            ])
        }
        ForwardPart::VaeDecode => {
            let vae = model.vae(device)?;
            let latents = inputs.images("input.latents", vae.config().latent_channels, 1)?;
            let output = named(model, Part::Vae, "sample", vae.decode(latents))?;
            Ok(vec![output])
        }
        ForwardPart::Text => {
            let encoders = model.text_encoders(device, report)?;
            let names = ["input.input_ids", "input.input_ids_2"];
            let sizes = encoders.sizes();
            let mut ids = [None, None];
            let mut shape = None;
            for (index, (size, name)) in sizes.iter().zip(names).enumerate() {
                let (found, values) = inputs.ids(name, size.vocabulary, size.positions)?;
                if *shape.get_or_insert(found) != found {
                    let problem = format!("`{name}` should have the shape of `{}`", names[0]);
                    return Err(inputs.problem(problem));
                }
                ids[index] = Some(values);
            }
            let shape = shape.unwrap_or_default();
            let ids = [ids[0].as_deref(), ids[1].as_deref()];
            let found = encoders.conditions(ids, shape, device);
            let part = Part::TextEncoder;
            let mut outputs = vec![named(model, part, "encoder_hidden_states", found.states)?];
            if let Some(pooled) = found.pooled {
                outputs.push(named(model, Part::TextEncoder2, "pooled", pooled)?);
            }
            Ok(outputs)
        }
    }
}

fn named<const D: usize>(
    model: &AdaptedPipeline,
    part: Part,
    name: &'static str,
    output: Tensor<D>,
) -> Result<(&'static str, HostTensor), DiffusionError> {
    let shape = output.dims();
    let values = model.require_finite(part, output)?;
    Ok((name, HostTensor::new(shape, values)))
}

/// A file of inputs.
struct Inputs<'a> {
    file: &'a TensorFile,
    device: &'a Device,
}

impl Inputs<'_> {
    fn problem(&self, problem: String) -> DiffusionError {
        DiffusionError::Input(format!("`{}`: {problem}", self.file.path().display()))
    }

    /// A tensor of numbers, in f32.
    fn read(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), DiffusionError> {
        let (shape, dtype) = self.file.tensor(name)?;
        let values = match dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64 => self.file.read_f32(name)?,
            _ => {
                let values = self.file.read_i64(name)?;
                values.into_iter().map(|value| value as f32).collect()
            }
        };
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(self.problem(format!("`{name}` has the value {value}")));
        }
        Ok((shape, values))
    }

    /// A tensor of that many dimensions, of which `fits` accepts the shape.
    fn tensor<const D: usize>(
        &self,
        name: &str,
        expected: &str,
        fits: impl Fn([usize; D]) -> bool,
    ) -> Result<Tensor<D>, DiffusionError> {
        let (shape, values) = self.read(name)?;
        match <[usize; D]>::try_from(&shape[..]) {
            Ok(shape) if fits(shape) && !values.is_empty() => Ok(Tensor::from_data(
                TensorData::new(values, shape),
                self.device,
            )),
            _ => {
                let problem = format!("`{name}` should be {expected}, found {shape:?}");
                Err(self.problem(problem))
            }
        }
    }

    /// `[images, channels, height, width]` of at least `least` pixels in each direction.
    fn images(
        &self,
        name: &str,
        channels: usize,
        least: usize,
    ) -> Result<Tensor<4>, DiffusionError> {
        let expected =
            format!("[images, {channels}, height, width] of at least {least} × {least} pixels");
        self.tensor(name, &expected, |[_, found, height, width]| {
            found == channels && height >= least && width >= least
        })
    }

    /// `[texts, length]` and the ids.
    fn ids(
        &self,
        name: &str,
        vocabulary: usize,
        positions: usize,
    ) -> Result<([usize; 2], Vec<i64>), DiffusionError> {
        let shape = self.file.shape(name)?;
        let &[texts, length] = shape else {
            let problem = format!("`{name}` should be [texts, length], found {shape:?}");
            return Err(self.problem(problem));
        };
        if texts == 0 || !(1..=positions).contains(&length) {
            return Err(self.problem(format!(
                "`{name}` should be texts of 1 to {positions} tokens, found {shape:?}"
            )));
        }
        let ids = self.file.read_i64(name)?;
        match ids.iter().find(|id| !(0..vocabulary as i64).contains(id)) {
            Some(id) => Err(self.problem(format!(
                "`{name}`: token {id} is not among the {vocabulary} of the text encoder"
            ))),
            None => Ok(([texts, length], ids)),
        }
    }

    fn unet(&self, unet: &Unet) -> Result<UnetInput, DiffusionError> {
        let config = unet.config();
        let sample = self.images("input.sample", config.in_channels, 1)?;
        let [images, ..] = sample.dims();
        let (shape, mut timesteps) = self.read("input.timestep")?;
        if timesteps.len() == 1 {
            timesteps = vec![timesteps[0]; images];
        }
        if timesteps.len() != images {
            let problem = format!("`input.timestep` should be [{images}], found {shape:?}");
            return Err(self.problem(problem));
        }
        let width = config.cross_attention_dim;
        let expected = format!("[{images}, tokens, {width}]");
        let name = "input.encoder_hidden_states";
        let states = self.tensor(name, &expected, |[texts, _, found]| {
            texts == images && found == width
        })?;
        let added = match &config.added {
            None => None,
            Some(added) => {
                let (width, numbers) = (added.text_width, added.numbers);
                let expected = format!("[{images}, {width}]");
                let name = "input.text_embeds";
                let text_embeds = self.tensor(name, &expected, |shape| shape == [images, width])?;
                let (shape, time_ids) = self.read("input.time_ids")?;
                if shape != [images, numbers] {
                    return Err(self.problem(format!(
                        "`input.time_ids` should be [{images}, {numbers}], found {shape:?}"
                    )));
                }
                Some(AddedInput {
                    text_embeds,
                    time_ids,
                })
            }
        };
        Ok(UnetInput {
            sample,
            timesteps,
            states,
            added,
        })
    }
}
