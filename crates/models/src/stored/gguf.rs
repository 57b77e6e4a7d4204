//! The tensors of a GGUF file.

use eigenmix_gguf::GgufFile;
use eigenmix_quant::{EncodedMatrix, Encoding};
use eigenmix_tensors::Dtype;

use super::{StoredSize, StoredTensor, StoredTensors};
use crate::ModelError;
use crate::gguf::{GgufNames, GgufSource};

/// A tensor of a GGUF file, as the checkpoint that the file was made of had it.
struct GgufTensor {
    /// In the file.
    name: String,
    shape: Vec<usize>,
    /// The rows of the file; of a vector, one, or as many as it has values if their order is another.
    rows: EncodedMatrix,
    /// Which row of the file each row is, where the checkpoint has them in another order.
    row_order: Option<Vec<u32>>,
    /// Whether one is taken from every value.
    subtract_one: bool,
}

/// Finds the tensors of a file by the names that they have in a checkpoint.
///
/// # Errors
/// If one of them is in a format that is not read.
pub(crate) fn gguf_tensors(
    file: &GgufFile,
    names: &GgufNames,
) -> Result<StoredTensors, ModelError> {
    let mut tensors = StoredTensors::new();
    for (name, source) in names.sources() {
        tensors.insert(name.to_owned(), Box::new(GgufTensor::new(file, source)?));
    }
    Ok(tensors)
}

impl GgufTensor {
    fn new(file: &GgufFile, source: &GgufSource) -> Result<Self, ModelError> {
        let GgufSource {
            name,
            row_order,
            subtract_one,
        } = source;
        let tensor = file.tensor(name)?;
        let shape = match row_order {
            // A bias: its values are what is in another order.
            Some(_) if tensor.shape.len() == 1 => [tensor.shape[0], 1],
            _ => {
                let cols = tensor.shape.last().copied().unwrap_or(1);
                [tensor.shape.iter().rev().skip(1).product(), cols]
            }
        };
        let rows = EncodedMatrix::blocks(tensor.encoding, shape, tensor.data);
        Ok(Self {
            name: name.clone(),
            shape: tensor.shape,
            rows: rows.map_err(ModelError::encoded(name))?,
            row_order: row_order.clone(),
            subtract_one: *subtract_one,
        })
    }

    /// The rows in the order of the checkpoint.
    fn in_order(&self) -> Result<EncodedMatrix, ModelError> {
        match &self.row_order {
            Some(order) => {
                let ordered = self.rows.with_rows(order);
                ordered.map_err(ModelError::encoded(&self.name))
            }
            None => Ok(self.rows.clone()),
        }
    }
}

impl StoredTensor for GgufTensor {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn read(&self) -> Result<Vec<f32>, ModelError> {
        let mut values = self.in_order()?.to_f32();
        if self.subtract_one {
            values.iter_mut().for_each(|value| *value -= 1.0);
        }
        Ok(values)
    }

    fn encoded(&self) -> Result<Option<EncodedMatrix>, ModelError> {
        // A norm with its offset is no matrix that products read.
        match self.subtract_one {
            true => Ok(None),
            false => self.in_order().map(Some),
        }
    }

    fn dtype(&self) -> Option<Dtype> {
        match self.rows.encoding()? {
            Encoding::F32 => Some(Dtype::F32),
            Encoding::F16 => Some(Dtype::F16),
            Encoding::Bf16 => Some(Dtype::BF16),
            _ => None,
        }
    }

    fn stored(&self) -> Result<StoredSize, ModelError> {
        Ok(StoredSize {
            form: self.rows.name(),
            bytes: self.rows.size(),
        })
    }

    fn encoded_size(&self) -> Option<usize> {
        (!self.subtract_one).then(|| self.rows.size())
    }
}
