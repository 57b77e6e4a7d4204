//! GGUF files written, whole or not at all.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use eigenmix_quant::Encoding;
use eigenmix_tensors::write_file_with;

use crate::error::GgufError;
use crate::header::DEFAULT_ALIGNMENT;
use crate::value::{GgufArray, GgufValue};

const VERSION: u32 = 3;

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct GgufOutput<'a> {
    name: String,
    shape: Vec<usize>,
    encoding: Encoding,
    data: Cow<'a, [u8]>,
}

impl<'a> GgufOutput<'a> {
    /// A tensor of a row-major shape, its rows already encoded.
    pub fn new(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        encoding: Encoding,
        data: impl Into<Cow<'a, [u8]>>,
    ) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
            encoding,
            data: data.into(),
        }
    }

    fn fits(&self) -> bool {
        let (row, rows) = match self.shape.split_last() {
            Some((&row, rows)) => (row, rows),
            None => (1, [].as_slice()),
        };
        let bytes = rows
            .iter()
            .try_fold(self.encoding.row_bytes(row), |bytes, &size| {
                Some(bytes?.checked_mul(size))
            });
        self.shape.len() <= 4 && bytes.flatten() == Some(self.data.len())
    }
}

/// Writes a GGUF file of version 3 with metadata and tensors in the order given, tensors aligned to 32
/// bytes. It appears under its name only when it is complete.
///
/// # Errors
/// If a name occurs twice, a tensor does not have the bytes of its shape or has more than four
/// dimensions, or the file cannot be written.
pub fn write_gguf(
    path: &Path,
    metadata: &[(String, GgufValue)],
    tensors: &[GgufOutput<'_>],
) -> Result<(), GgufError> {
    let twice = |what: &'static str, name: &str| GgufError::OutputTwice {
        path: path.to_owned(),
        what,
        name: name.to_owned(),
    };
    let mut seen = BTreeSet::new();
    if let Some((key, _)) = metadata.iter().find(|(key, _)| !seen.insert(key)) {
        return Err(twice("metadata values", key));
    }
    let mut seen = BTreeSet::new();
    if let Some(tensor) = tensors.iter().find(|tensor| !seen.insert(&tensor.name)) {
        return Err(twice("tensors", &tensor.name));
    }
    if let Some(tensor) = tensors.iter().find(|tensor| !tensor.fits()) {
        return Err(GgufError::OutputSize {
            path: path.to_owned(),
            tensor: tensor.name.clone(),
            shape: tensor.shape.clone(),
            encoding: tensor.encoding.name(),
            found: tensor.data.len(),
        });
    }

    let header = header_of(metadata, tensors);
    write_file_with(path, |writer| {
        writer.write_all(&header)?;
        pad(writer, header.len())?;
        for tensor in tensors {
            writer.write_all(&tensor.data)?;
            pad(writer, tensor.data.len())?;
        }
        Ok(())
    })?;
    Ok(())
}

fn header_of(metadata: &[(String, GgufValue)], tensors: &[GgufOutput<'_>]) -> Vec<u8> {
    let mut header = b"GGUF".to_vec();
    header.extend(VERSION.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut header, key);
        header.extend(value.type_number().to_le_bytes());
        put_value(&mut header, value);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        put_text(&mut header, &tensor.name);
        header.extend((tensor.shape.len() as u32).to_le_bytes());
        for &size in tensor.shape.iter().rev() {
            header.extend((size as u64).to_le_bytes());
        }
        header.extend(tensor.encoding.ggml().to_le_bytes());
        header.extend(offset.to_le_bytes());
        offset += (tensor.data.len() as u64).next_multiple_of(DEFAULT_ALIGNMENT);
    }
    header
}

fn pad(writer: &mut dyn Write, length: usize) -> io::Result<()> {
    let length = length as u64;
    let missing = length.next_multiple_of(DEFAULT_ALIGNMENT) - length;
    // Fits: it is less than the alignment.
    writer.write_all(&[0; DEFAULT_ALIGNMENT as usize][..missing as usize])
}

fn put_text(header: &mut Vec<u8>, text: &str) {
    header.extend((text.len() as u64).to_le_bytes());
    header.extend(text.as_bytes());
}

fn put_value(header: &mut Vec<u8>, value: &GgufValue) {
    match value {
        GgufValue::U8(value) => header.extend(value.to_le_bytes()),
        GgufValue::I8(value) => header.extend(value.to_le_bytes()),
        GgufValue::U16(value) => header.extend(value.to_le_bytes()),
        GgufValue::I16(value) => header.extend(value.to_le_bytes()),
        GgufValue::U32(value) => header.extend(value.to_le_bytes()),
        GgufValue::I32(value) => header.extend(value.to_le_bytes()),
        GgufValue::F32(value) => header.extend(value.to_le_bytes()),
        GgufValue::Bool(value) => header.push(u8::from(*value)),
        GgufValue::String(text) => put_text(header, text),
        GgufValue::Array(array) => put_array(header, array),
        GgufValue::U64(value) => header.extend(value.to_le_bytes()),
        GgufValue::I64(value) => header.extend(value.to_le_bytes()),
        GgufValue::F64(value) => header.extend(value.to_le_bytes()),
    }
}

fn put_array(header: &mut Vec<u8>, array: &GgufArray) {
    header.extend(array.type_number().to_le_bytes());
    header.extend((array.len() as u64).to_le_bytes());
    match array {
        GgufArray::U8(values) => header.extend(values),
        GgufArray::I8(values) => header.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        GgufArray::U16(values) => header.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        GgufArray::I16(values) => header.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        GgufArray::U32(values) => header.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        GgufArray::I32(values) => header.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        GgufArray::F32(values) => header.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        GgufArray::Bool(values) => header.extend(values.iter().map(|&v| u8::from(v))),
        GgufArray::String(values) => values.iter().for_each(|text| put_text(header, text)),
        GgufArray::Array(values) => values.iter().for_each(|array| put_array(header, array)),
        GgufArray::U64(values) => header.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        GgufArray::I64(values) => header.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        GgufArray::F64(values) => header.extend(values.iter().flat_map(|v| v.to_le_bytes())),
    }
}
