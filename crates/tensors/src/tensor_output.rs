//! Writing safetensors files, streamed, in one step.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Serialize;

use crate::FileError;
use crate::output::write_file_with;

/// A tensor to be written to a file.
#[derive(Clone, Debug)]
pub struct TensorOutput<'a> {
    name: String,
    shape: Vec<usize>,
    values: Values<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Values<'a> {
    Floats(&'a [f32]),
    Bytes(Dtype, &'a [u8]),
}

impl<'a> TensorOutput<'a> {
    /// A tensor of f32: `values` row-major, as many as `shape` says.
    pub fn f32(name: impl Into<String>, shape: impl Into<Vec<usize>>, values: &'a [f32]) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
            values: Values::Floats(values),
        }
    }

    /// A tensor of any dtype in the bytes of the file: row-major, little-endian.
    pub fn bytes(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        dtype: Dtype,
        bytes: &'a [u8],
    ) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
            values: Values::Bytes(dtype, bytes),
        }
    }

    fn dtype(&self) -> Dtype {
        match self.values {
            Values::Floats(_) => Dtype::F32,
            Values::Bytes(dtype, _) => dtype,
        }
    }

    fn byte_count(&self) -> usize {
        match self.values {
            Values::Floats(values) => std::mem::size_of_val(values),
            Values::Bytes(_, bytes) => bytes.len(),
        }
    }

    fn write_to(&self, writer: &mut dyn Write) -> io::Result<()> {
        match self.values {
            Values::Bytes(_, bytes) => writer.write_all(bytes),
            Values::Floats(values) => {
                let mut buffer = Vec::with_capacity(1 << 16);
                for chunk in values.chunks(1 << 14) {
                    buffer.clear();
                    buffer.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
                    writer.write_all(&buffer)?;
                }
                Ok(())
            }
        }
    }
}

/// Writes a safetensors file with the metadata `{"format": "pt"}` that PyTorch tools look for.
///
/// Wider types come first and names are sorted within a type, so that the data is aligned and the
/// same tensors always make the same bytes.
///
/// # Errors
/// If two tensors share a name, a shape does not fit its values, or the file cannot be written.
pub fn write_tensor_file(path: &Path, tensors: Vec<TensorOutput<'_>>) -> Result<(), FileError> {
    let format = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_tensor_file_with(path, tensors, &format)
}

/// Like [`write_tensor_file`], with other metadata.
///
/// # Errors
/// As [`write_tensor_file`].
pub fn write_tensor_file_with(
    path: &Path,
    mut tensors: Vec<TensorOutput<'_>>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), FileError> {
    tensors.sort_by(|left, right| {
        right
            .dtype()
            .cmp(&left.dtype())
            .then_with(|| left.name.cmp(&right.name))
    });
    let header = header(path, &tensors, metadata)?;
    write_file_with(path, |writer| {
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(&header)?;
        tensors
            .iter()
            .try_for_each(|tensor| tensor.write_to(writer))
    })
}

/// A header in JSON.
#[derive(Serialize)]
struct Header<'a> {
    #[serde(rename = "__metadata__", skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: serde_json::Value,
}

/// The JSON header, padded with spaces so that the data starts at a multiple of eight bytes.
fn header(
    path: &Path,
    tensors: &[TensorOutput<'_>],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, FileError> {
    let mut names = std::collections::HashSet::new();
    let mut entries = Vec::with_capacity(tensors.len());
    let mut offset = 0;
    for tensor in tensors {
        if !names.insert(tensor.name.as_str()) {
            return Err(FileError::OutputTensorTwice {
                path: path.to_owned(),
                tensor: tensor.name.clone(),
            });
        }
        let found = tensor.byte_count();
        let expected = tensor
            .shape
            .iter()
            .try_fold(1usize, |product, &size| product.checked_mul(size));
        if expected.and_then(|count| count.checked_mul(tensor.dtype().bitsize())) != Some(8 * found)
        {
            return Err(FileError::OutputTensorSize {
                path: path.to_owned(),
                tensor: tensor.name.clone(),
                shape: tensor.shape.clone(),
                found,
            });
        }
        entries.push((
            tensor.name.clone(),
            TensorInfo {
                dtype: tensor.dtype(),
                shape: tensor.shape.clone(),
                data_offsets: (offset, offset + found),
            },
        ));
        offset += found;
    }
    // The crate keeps its metadata unordered; ours has an order, so that the same file has the same
    // bytes.
    let mut header = Metadata::new(None, entries)
        .map_err(io::Error::other)
        .and_then(|tensors| serde_json::to_value(&tensors).map_err(io::Error::from))
        .and_then(|tensors| {
            serde_json::to_vec(&Header { metadata, tensors }).map_err(io::Error::from)
        })
        .map_err(FileError::io("write the header of", path))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorFile;

    #[test]
    fn tensors_are_read_back_as_they_were_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tensors.safetensors");
        // More than one chunk of the writer.
        let long: Vec<f32> = (0..40_000).map(|index| index as f32 * 0.5 - 3.0).collect();
        let tensors = vec![
            TensorOutput::f32("long", [200, 200], &long),
            TensorOutput::f32("a", [1, 3], &[1.0, -2.0, 4.5]),
            TensorOutput::bytes("halves", [2], Dtype::BF16, &[0x80, 0x3f, 0x00, 0xc0]),
        ];
        write_tensor_file(&path, tensors).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.read_f32("long").unwrap(), long);
        assert_eq!(file.tensor("a").unwrap(), (vec![1, 3], Dtype::F32));
        assert_eq!(file.read_f32("a").unwrap(), [1.0, -2.0, 4.5]);
        assert_eq!(file.read_f32("halves").unwrap(), [1.0, -2.0]);
    }

    #[test]
    fn the_reference_reader_accepts_what_we_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tensors.safetensors");
        write_tensor_file(&path, vec![TensorOutput::f32("x", [2], &[0.5, 2.0])]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(
            tensors.tensor("x").unwrap().data(),
            [0, 0, 0, 63, 0, 0, 0, 64]
        );
    }

    #[test]
    fn a_shape_that_does_not_fit_is_refused_before_anything_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tensors.safetensors");
        let error =
            write_tensor_file(&path, vec![TensorOutput::f32("x", [3], &[1.0, 2.0])]).unwrap_err();
        assert!(error.to_string().contains("`x`"), "{error}");
        assert!(!path.exists());
    }

    #[test]
    fn two_tensors_of_one_name_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tensors.safetensors");
        let twice = vec![
            TensorOutput::f32("x", [1], &[1.0]),
            TensorOutput::f32("x", [1], &[2.0]),
        ];
        assert!(matches!(
            write_tensor_file(&path, twice),
            Err(FileError::OutputTensorTwice { .. })
        ));
    }
}
