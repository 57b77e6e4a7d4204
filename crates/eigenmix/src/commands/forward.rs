//! `eigenmix forward`: tensors in, logits out; of a vision-language model the features of images, too.

use std::fmt;
use std::path::Path;

use eigenmix_experiment::{BadInput, is_pipeline};
use eigenmix_models::{Architecture, Batch, HeadKind, ImageBatch, ImageTokens, TokenBatch};
use eigenmix_tensors::{FileError, TensorFile, TensorOutput, write_tensor_file};
use eigenmix_trainer::DeviceChoice;
use serde::Serialize;

use super::forward_part;
use crate::cli::{ForwardArguments, no_labels};
use crate::console::Console;

pub(crate) fn run(
    arguments: &ForwardArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    if arguments.out.exists() && !arguments.force {
        return Err(FileError::AlreadyExists(arguments.out.clone()).into());
    }
    if arguments.part.is_some() || is_pipeline(&arguments.model.base) {
        return forward_part::run(arguments, device, console);
    }
    if arguments.base_config.is_some() {
        let problem = "--base-config is for diffusion models; leave it out";
        return Err(BadInput(problem.to_owned()).into());
    }
    let request = arguments.model.request(&arguments.zero_shot, device);
    let opened = request.open()?;
    let model = opened.load(&no_labels, console)?;
    let input = read_input(&arguments.inputs, &model.architecture)?;
    let logits = model.logits(&input.batch);
    let (shape, logits) = input.unpack(model.head, logits);
    let features = model.image_features(&input.batch);
    let mut outputs = vec![TensorOutput::f32("logits", shape.clone(), &logits)];
    let mut result = ForwardResult {
        out: &arguments.out,
        logits: shape,
        image_features: None,
    };
    if let Some((shape, values)) = &features {
        outputs.push(TensorOutput::f32("image_features", shape.to_vec(), values));
        result.image_features = Some(*shape);
    }
    write_tensor_file(&arguments.out, outputs)?;
    console.result(&result)
}

/// A batch, and how long its padded texts were.
struct Input {
    batch: Batch,
    length: usize,
}

impl Input {
    /// The logits in the shape that other software returns: `[examples, outputs]`, or for a
    /// language model `[batch, length, vocabulary]` with zeros where there is padding.
    fn unpack(&self, head: HeadKind, logits: Vec<f32>) -> (Vec<usize>, Vec<f32>) {
        let examples = self.batch.examples();
        let Some(tokens) = self.batch.texts.as_ref().filter(|_| head.is_per_token()) else {
            return (vec![examples, logits.len() / examples], logits);
        };
        let vocabulary = logits.len() / tokens.tokens();
        let mut padded = vec![0.0; examples * self.length * vocabulary];
        for (sequence, rows) in tokens.offsets().windows(2).enumerate() {
            for row in rows[0]..rows[1] {
                let place = sequence * self.length + tokens.position_ids()[row] as usize;
                padded[place * vocabulary..][..vocabulary]
                    .copy_from_slice(&logits[row * vocabulary..][..vocabulary]);
            }
        }
        (vec![examples, self.length, vocabulary], padded)
    }
}

impl Input {
    /// Refuses image tokens without an image, and the reverse.
    fn check_images(&self, path: &Path, of_texts: ImageTokens) -> anyhow::Result<()> {
        let ImageTokens { token, per_image } = of_texts;
        let images = self.batch.images.as_ref().map_or(0, ImageBatch::images);
        let ids = self.batch.texts.iter().flat_map(|texts| texts.ids());
        let found = ids.filter(|&&id| id as u32 == token).count();
        if found == images * per_image {
            return Ok(());
        }
        let problem = format!(
            "`{}`: `input.input_ids` has {found} image tokens (id {token}), but {images} images in \
             `input.pixel_values` take {} ({per_image} each)",
            path.display(),
            images * per_image
        );
        Err(BadInput(problem).into())
    }

    /// Refuses tokens without a position or a segment in the model.
    ///
    /// - segments: how many there are; 0 if the model ignores them
    fn check(self, path: &Path, positions: usize, segments: usize) -> anyhow::Result<Self> {
        let Some(tokens) = &self.batch.texts else {
            return Ok(self);
        };
        let last = tokens.position_ids().iter().max();
        let problem = if last.is_some_and(|&last| last as usize >= positions) {
            format!(
                "the sequences are longer than the {positions} positions of the base model; shorten them"
            )
        } else {
            let known = 0..segments as i32;
            match tokens.type_ids().iter().find(|id| !known.contains(id)) {
                Some(id) if segments > 0 => format!(
                    "`input.token_type_ids` has {id}, the base model has segments 0 to {}",
                    segments - 1
                ),
                _ => return Ok(self),
            }
        };
        Err(BadInput(format!("`{}`: {problem}", path.display())).into())
    }
}

/// The inputs of the model: `input.pixel_values`, or `input.input_ids` and its companions.
fn read_input(path: &Path, architecture: &Architecture) -> anyhow::Result<Input> {
    let file = TensorFile::open(path)?;
    let mut input = Input {
        batch: Batch::default(),
        length: 1,
    };
    let of_texts = architecture.image_tokens();
    if let Some(shape) = architecture.image_shape()
        && (of_texts.is_none() || file.contains("input.pixel_values"))
    {
        input.batch.images = Some(read_images(&file, path, shape)?);
    }
    if let Some(vocab_size) = architecture.vocab_size()
        && architecture.takes_texts()
    {
        let keep_first = architecture.reads_first_token();
        let (texts, length) = read_tokens(&file, path, vocab_size, keep_first)?;
        (input.batch.texts, input.length) = (Some(texts), length);
    }
    if let Some(of_texts) = of_texts {
        input.check_images(path, of_texts)?;
    }
    let positions = architecture.max_length().unwrap_or(0);
    input.check(path, positions, architecture.segments())
}

fn read_images(
    file: &TensorFile,
    path: &Path,
    [channels, size]: [usize; 2],
) -> anyhow::Result<ImageBatch> {
    let shape = file.shape("input.pixel_values")?.to_vec();
    let images = shape.first().copied().unwrap_or(0);
    if images == 0 || shape[1..] != [channels, size, size] {
        let path = path.display();
        return Err(BadInput(format!(
            "`{path}`: `input.pixel_values` should be [images, {channels}, {size}, {size}], found {shape:?}"
        ))
        .into());
    }
    let pixels = file.read_f32("input.pixel_values")?;
    Ok(ImageBatch::new(pixels, [images, channels, size]))
}

/// The token batch from `input.input_ids`, `input.attention_mask` and `input.token_type_ids`, and
/// the length of its padded texts.
fn read_tokens(
    file: &TensorFile,
    path: &Path,
    vocab_size: usize,
    keep_first: bool,
) -> anyhow::Result<(TokenBatch, usize)> {
    let problem = |problem: String| BadInput(format!("`{}`: {problem}", path.display()));
    let shape = file.shape("input.input_ids")?.to_vec();
    let &[batch, length] = shape.as_slice() else {
        return Err(problem(format!(
            "`input.input_ids` should be [batch, length], found {shape:?}"
        ))
        .into());
    };
    if batch == 0 || length == 0 {
        return Err(problem(format!("`input.input_ids` is empty: {shape:?}")).into());
    }
    let ids = file.read_i64("input.input_ids")?;
    if let Some(id) = ids.iter().find(|id| !(0..vocab_size as i64).contains(id)) {
        let text = format!("token {id} is not among the {vocab_size} of the base model");
        return Err(problem(text).into());
    }
    let optional = |name: &str| -> anyhow::Result<Option<Vec<i64>>> {
        if !file.contains(name) {
            return Ok(None);
        }
        let found = file.shape(name)?;
        if found != shape {
            let text =
                format!("`{name}` should have the shape {shape:?} of the ids, found {found:?}");
            return Err(problem(text).into());
        }
        Ok(Some(file.read_i64(name)?))
    };
    let mask = optional("input.attention_mask")?;
    let type_ids = optional("input.token_type_ids")?;
    let (mask, type_ids) = (mask.as_deref(), type_ids.as_deref());
    let tokens = TokenBatch::from_padded(&ids, mask, type_ids, [batch, length], keep_first);
    Ok((tokens, length))
}

#[derive(Serialize)]
struct ForwardResult<'a> {
    out: &'a Path,
    /// The shape of the logits.
    logits: Vec<usize>,
    /// Of a vision-language model: [images, tokens of an image, width].
    #[serde(skip_serializing_if = "Option::is_none")]
    image_features: Option<[usize; 3]>,
}

impl fmt::Display for ForwardResult<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}`: logits {:?}",
            self.out.display(),
            self.logits
        )?;
        match self.image_features {
            Some(shape) => write!(formatter, ", image features {shape:?}"),
            None => Ok(()),
        }
    }
}
