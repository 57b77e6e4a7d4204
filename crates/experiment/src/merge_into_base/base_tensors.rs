//! The tensors of a base model, as they are stored or decoded.

use std::borrow::Cow;
use std::path::Path;

use eigenmix_models::Checkpoint;
use eigenmix_tensors::{Dtype, FileError, TensorFile, encode};
use eigenmix_trainer::TrainerError;

use crate::ExperimentError;

/// The most bytes of a file of decoded tensors; so many are in memory at once.
const FILE_BYTES: usize = 1 << 30;

/// Where the tensors of a base model come from.
pub(super) enum BaseTensors {
    /// As they lie in its files, at least one.
    Stored(Vec<TensorFile>),
    /// Those of a quantised checkpoint or of a GGUF file.
    Decoded(Box<DecodedTensors>),
}

/// Tensors that are decoded when they are read, and rounded to one dtype.
pub(super) struct DecodedTensors {
    checkpoint: Checkpoint,
    dtype: Dtype,
}

impl DecodedTensors {
    /// - dtype: in which they are written
    pub(super) fn new(checkpoint: Checkpoint, dtype: Dtype) -> Self {
        Self { checkpoint, dtype }
    }

    pub(super) fn dtype(&self) -> Dtype {
        self.dtype
    }

    pub(super) fn are_quantised(&self) -> bool {
        self.checkpoint.is_quantised()
    }

    /// The names of the tensors, in files of bounded size; at least one.
    pub(super) fn files(&self) -> Vec<Vec<String>> {
        let mut files: Vec<(usize, Vec<String>)> = vec![(0, Vec::new())];
        for name in self.checkpoint.names() {
            let values: usize = self
                .checkpoint
                .shape(name)
                .unwrap_or_default()
                .iter()
                .product();
            let bytes = values.saturating_mul(self.dtype.bitsize() / 8);
            if let Some((before, names)) = files.last_mut()
                && (names.is_empty() || *before + bytes <= FILE_BYTES)
            {
                *before += bytes;
                names.push(name.to_owned());
            } else {
                files.push((bytes, vec![name.to_owned()]));
            }
        }
        files.into_iter().map(|(_, names)| names).collect()
    }

    fn shape(&self, name: &str) -> Result<&[usize], FileError> {
        let missing = || FileError::NoSuchTensor {
            path: self.checkpoint.path().to_owned(),
            tensor: name.to_owned(),
        };
        self.checkpoint.shape(name).ok_or_else(missing)
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, ExperimentError> {
        let values = self
            .checkpoint
            .read(name, self.shape(name)?)
            .map_err(TrainerError::from)?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(position) => Err(FileError::NotFinite {
                path: self.checkpoint.path().to_owned(),
                tensor: name.to_owned(),
                value: values[position],
                position,
            }
            .into()),
        }
    }
}

impl BaseTensors {
    /// The shape and dtype of a tensor in the result.
    ///
    /// - file: which of the stored files has it
    pub(super) fn tensor(&self, name: &str, file: usize) -> Result<(Vec<usize>, Dtype), FileError> {
        match self {
            Self::Stored(files) => files[file].tensor(name),
            Self::Decoded(decoded) => Ok((decoded.shape(name)?.to_vec(), decoded.dtype)),
        }
    }

    /// All values.
    ///
    /// # Errors
    /// If one is not finite, or the tensor cannot be decoded.
    pub(super) fn read(&self, name: &str, file: usize) -> Result<Vec<f32>, ExperimentError> {
        match self {
            Self::Stored(files) => Ok(files[file].read_finite_f32(name)?),
            Self::Decoded(decoded) => decoded.read(name),
        }
    }

    /// The bytes of a tensor that stays as it is.
    ///
    /// # Errors
    /// As [`BaseTensors::read`], and if a decoded value is too large for the dtype.
    pub(super) fn bytes(&self, name: &str, file: usize) -> Result<Cow<'_, [u8]>, ExperimentError> {
        Ok(match self {
            Self::Stored(files) => Cow::Borrowed(files[file].view(name)?),
            Self::Decoded(decoded) => {
                Cow::Owned(encode(name, &decoded.read(name)?, decoded.dtype)?)
            }
        })
    }

    /// The safetensors file that has a tensor as it is.
    pub(super) fn file_of(&self, name: &str, file: usize) -> Option<&TensorFile> {
        match self {
            Self::Stored(files) => files.get(file),
            Self::Decoded(decoded) => decoded.checkpoint.file_of(name),
        }
    }
}

impl std::fmt::Debug for BaseTensors {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stored(files) => formatter.debug_list().entries(files).finish(),
            Self::Decoded(decoded) => {
                let path: &Path = decoded.checkpoint.path();
                formatter.debug_tuple("Decoded").field(&path).finish()
            }
        }
    }
}
