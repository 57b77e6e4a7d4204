//! A GGUF file of an adapter, opened as a file of tensors.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use eigenmix_gguf::{GgufError, GgufFile, GgufTensor, GgufValue};
use eigenmix_quant::{EncodedMatrix, Encoding};
use eigenmix_tensors::{Dtype, HeldTensor, TensorFile};

use crate::AdapterError;

/// Keys of the metadata.
pub(super) const ARCHITECTURE: &str = "general.architecture";
pub(super) const TYPE: &str = "general.type";
pub(super) const ADAPTER_TYPE: &str = "adapter.type";
pub(super) const ALPHA: &str = "adapter.lora.alpha";
/// The name of the base model in the words of its adapter: what others write beside it is a title, or lacks
/// the name of a file.
pub(super) const BASE_MODEL: &str = "eigenmix.base_model";
const INVOCATION: &str = "adapter.alora.invocation_tokens";

/// The factors of a table of tokens, which lie in a file the other way round: `lora_a`
/// `[tokens, rank]` and `lora_b` `[size, rank]`.
pub(super) const TABLE: &str = "token_embd.weight";

/// Opens a LoRA adapter in GGUF. Factors in f32, f16 and bf16 are slices of the mapped file, quantised
/// ones are decoded; `lora_b` of the table of tokens is turned, so that it is A of the table. The
/// metadata are given as text.
///
/// # Errors
/// If the file is no well-formed GGUF file, or no LoRA adapter, or one that acts only behind certain
/// tokens, or a factor is in a format that is not read.
pub(crate) fn open(path: &Path) -> Result<TensorFile, AdapterError> {
    let file = GgufFile::open(path)?;
    check_kind(&file)?;
    let tensors = file
        .names()
        .map(|name| held(&file, name))
        .collect::<Result<Vec<_>, AdapterError>>()?;
    let metadata = file.metadata();
    let metadata: BTreeMap<String, String> = metadata
        .map(|(key, value)| (key.to_owned(), text_of(value)))
        .collect();
    Ok(TensorFile::of_other_format(
        path,
        file.files(),
        tensors,
        metadata,
    ))
}

fn check_kind(file: &GgufFile) -> Result<(), AdapterError> {
    let refuse = |problem: String| AdapterError::GgufKind {
        path: file.path().to_owned(),
        problem,
    };
    match file.text(TYPE)? {
        Some("adapter") => {}
        Some(kind) => return Err(refuse(format!("its `{TYPE}` is `{kind}`, not `adapter`"))),
        None => return Err(refuse(format!("it has no `{TYPE}`"))),
    }
    match file.text(ADAPTER_TYPE)? {
        Some("lora") => {}
        found => {
            let found = found.unwrap_or("missing");
            return Err(refuse(format!(
                "its `{ADAPTER_TYPE}` is `{found}`, not `lora`"
            )));
        }
    }
    if file.value(INVOCATION).is_some() {
        return Err(refuse(format!(
            "it has `{INVOCATION}`: an activated LoRA, which acts only behind certain tokens and is not supported"
        )));
    }
    file.required(ARCHITECTURE, file.text(ARCHITECTURE)?)?;
    match file.number(ALPHA)? {
        Some(alpha) if !alpha.is_finite() => Err(refuse(format!("its `{ALPHA}` is {alpha}"))),
        _ => Ok(()),
    }
}

fn held(file: &GgufFile, name: &str) -> Result<HeldTensor, AdapterError> {
    let GgufTensor {
        shape,
        encoding,
        data,
    } = file.tensor(name)?;
    let tensor = |shape, dtype, bytes| HeldTensor {
        name: name.to_owned(),
        shape,
        dtype,
        bytes,
    };
    let is_turned = name.strip_suffix(".lora_b") == Some(TABLE) && shape.len() == 2;
    let dtype = match encoding {
        Encoding::F32 => Some(Dtype::F32),
        Encoding::F16 => Some(Dtype::F16),
        Encoding::Bf16 => Some(Dtype::BF16),
        _ => None,
    };
    if let Some(dtype) = dtype.filter(|_| !is_turned) {
        return Ok(tensor(shape, dtype, data));
    }
    let cols = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().rev().skip(1).product();
    let decoded = EncodedMatrix::blocks(encoding, [rows, cols], data).map_err(|source| {
        AdapterError::GgufFactor {
            path: file.path().to_owned(),
            tensor: name.to_owned(),
            source,
        }
    })?;
    let values = decoded.to_f32();
    if !is_turned {
        return Ok(tensor(shape, Dtype::F32, bytes_of(&values)));
    }
    let turned: Vec<f32> = (0..cols)
        .flat_map(|col| (0..rows).map(move |row| (row, col)))
        .map(|(row, col)| values[row * cols + col])
        .collect();
    Ok(tensor(vec![cols, rows], Dtype::F32, bytes_of(&turned)))
}

fn bytes_of(values: &[f32]) -> Bytes {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    bytes.collect::<Vec<u8>>().into()
}

/// A value as it is shown; of numbers of single precision every digit.
fn text_of(value: &GgufValue) -> String {
    match value {
        GgufValue::String(text) => text.clone(),
        GgufValue::F32(value) => value.to_string(),
        GgufValue::F64(value) => value.to_string(),
        GgufValue::Bool(value) => value.to_string(),
        value => match value.as_integer() {
            Some(integer) => integer.to_string(),
            None => value.describe(),
        },
    }
}

impl From<GgufError> for AdapterError {
    fn from(error: GgufError) -> Self {
        match error {
            GgufError::File(error) => Self::File(error),
            error => Self::Gguf(error),
        }
    }
}
