//! Tensors that are stored as they are.

use std::sync::Arc;

use eigenmix_quant::{EncodedMatrix, Encoding};
use eigenmix_tensors::{Dtype, TensorFile};

use super::StoredTensor;
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

impl StoredTensor for Plain {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn read(&self) -> Result<Vec<f32>, ModelError> {
        Ok(self.file.read_f32(&self.name)?)
    }

    fn encoded(&self) -> Result<Option<EncodedMatrix>, ModelError> {
        let encoding = match self.dtype {
            Dtype::F32 => Encoding::F32,
            Dtype::F16 => Encoding::F16,
            Dtype::BF16 => Encoding::Bf16,
            _ => return Ok(None),
        };
        let &[rows, cols] = &self.shape[..] else {
            return Ok(None);
        };
        let bytes = self.file.bytes(&self.name)?;
        let matrix = EncodedMatrix::blocks(encoding, [rows, cols], bytes);
        matrix.map(Some).map_err(ModelError::encoded(&self.name))
    }

    fn is_quantised(&self) -> bool {
        false
    }

    fn plain(&self) -> Option<(Dtype, &TensorFile)> {
        Some((self.dtype, &self.file))
    }
}
