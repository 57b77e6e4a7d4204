//! Tensors that are stored as they are.

use std::sync::Arc;

use eigenmix_quant::{EncodedMatrix, Encoding};
use eigenmix_tensors::{Dtype, TensorFile};

use super::{StoredSize, StoredTensor};
use crate::ModelError;

/// A tensor of a safetensors file.
pub(crate) struct Plain {
    file: Arc<TensorFile>,
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
}

impl Plain {
    /// # Errors
    /// If the file has no such tensor.
    pub fn new(file: Arc<TensorFile>, name: &str) -> Result<Self, ModelError> {
        let (shape, dtype) = file.tensor(name)?;
        let name = name.to_owned();
        Ok(Self {
            file,
            name,
            shape,
            dtype,
        })
    }
}

impl Plain {
    /// How products read it, if they do.
    fn encoding(&self) -> Option<Encoding> {
        match (self.dtype, &self.shape[..]) {
            (Dtype::F32, [_, _]) => Some(Encoding::F32),
            (Dtype::F16, [_, _]) => Some(Encoding::F16),
            (Dtype::BF16, [_, _]) => Some(Encoding::Bf16),
            _ => None,
        }
    }
}

impl StoredTensor for Plain {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn read(&self) -> Result<Vec<f32>, ModelError> {
        Ok(self.file.read_f32(&self.name)?)
    }

    fn encoded(&self) -> Result<Option<EncodedMatrix>, ModelError> {
        let (Some(encoding), &[rows, cols]) = (self.encoding(), &self.shape[..]) else {
            return Ok(None);
        };
        let bytes = self.file.bytes(&self.name)?;
        let matrix = EncodedMatrix::blocks(encoding, [rows, cols], bytes);
        matrix.map(Some).map_err(ModelError::encoded(&self.name))
    }

    fn stored(&self) -> Result<StoredSize, ModelError> {
        let form = match self.dtype {
            Dtype::F64 => "F64",
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            _ => "integers",
        };
        let bytes = self.file.view(&self.name)?.len();
        Ok(StoredSize { form, bytes })
    }

    fn encoded_size(&self) -> Option<usize> {
        self.encoding()?;
        self.file.view(&self.name).ok().map(<[u8]>::len)
    }

    fn dtype(&self) -> Option<Dtype> {
        Some(self.dtype)
    }

    fn file(&self) -> Option<&TensorFile> {
        Some(&self.file)
    }
}
