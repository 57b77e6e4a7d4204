//! `eigenmix forward`: tensors in, logits out.

use std::fmt;
use std::path::Path;

use adapter::{AdapterError, TensorFile, TensorOutput, write_tensor_file};
use models::TokenBatch;
use serde::Serialize;
use trainer::{BaseModel, Classifier, DeviceChoice};

use crate::adapter_argument::OpenedAdapter;
use crate::cli::ForwardArguments;
use crate::console::Console;
use crate::failure::BadInput;
use crate::load_report;

pub(crate) fn run(
    arguments: &ForwardArguments,
    device: DeviceChoice,
    console: &Console,
) -> anyhow::Result<()> {
    if arguments.out.exists() && !arguments.force {
        return Err(AdapterError::AlreadyExists(arguments.out.clone()).into());
    }
    let base = BaseModel::open(&arguments.base)?;
    let adapter = arguments
        .adapter
        .as_deref()
        .map(OpenedAdapter::open)
        .transpose()?;
    let classifier = Classifier::load(
        &base,
        adapter.as_ref().map(|adapter| &adapter.file),
        arguments.allow_partial,
        &device.open()?,
    )?;
    if let Some(report) = &classifier.report {
        load_report::tell(report, console);
    }
    let batch = read_batch(&arguments.inputs, base.config.vocab_size)?;
    let logits = classifier.logits(&batch);
    let shape = [batch.sequences(), classifier.outputs()];
    let output = TensorOutput::f32("logits", shape.to_vec(), &logits);
    write_tensor_file(&arguments.out, vec![output])?;
    let result = ForwardResult {
        out: &arguments.out,
        logits: shape,
    };
    console.result(&result)
}

/// The token batch that `input.input_ids`, `input.attention_mask` and `input.token_type_ids` are.
fn read_batch(path: &Path, vocab_size: usize) -> anyhow::Result<TokenBatch> {
    let file = TensorFile::open(path)?;
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
    Ok(TokenBatch::from_padded(
        &ids,
        mask.as_deref(),
        type_ids.as_deref(),
        [batch, length],
    ))
}

#[derive(Serialize)]
struct ForwardResult<'a> {
    out: &'a Path,
    /// The shape of the logits.
    logits: [usize; 2],
}

impl fmt::Display for ForwardResult<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}`: logits {:?}",
            self.out.display(),
            self.logits
        )
    }
}
