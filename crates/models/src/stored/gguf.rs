//! The tensors of a GGUF file.

use eigenmix_gguf::GgufFile;
use eigenmix_quant::{EncodedMatrix, Encoding};

use super::{StoredSize, StoredTensor, StoredTensors};
use crate::ModelError;
use crate::gguf::{GgufNames, GgufSource};

/// A tensor of a GGUF file, as the checkpoint that the file was made of had it.
struct GgufTensor {
    /// In the file.
    name: String,
    shape: Vec<usize>,
    /// The rows; of a vector, one. In the order of the checkpoint.
    rows: EncodedMatrix,
    /// Whether one is taken from every value.
    subtract_one: bool,
}

/// Finds the tensors of a file by the names that they have in a checkpoint.
///
/// # Errors
/// If the file has tensors that its family does not have, or one in a format that is not read.
pub(crate) fn gguf_tensors(file: &GgufFile) -> Result<StoredTensors, ModelError> {
    let names = GgufNames::of(file)?;
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
        let rows = rows.and_then(|rows| match row_order {
            Some(order) => rows.with_rows(order),
            None => Ok(rows),
        });
        Ok(Self {
            name: name.clone(),
            shape: tensor.shape,
            rows: rows.map_err(ModelError::encoded(name))?,
            subtract_one: *subtract_one,
        })
    }
}

impl StoredTensor for GgufTensor {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn read(&self) -> Result<Vec<f32>, ModelError> {
        let mut values = self.rows.to_f32();
        if self.subtract_one {
            values.iter_mut().for_each(|value| *value -= 1.0);
        }
        Ok(values)
    }

    fn encoded(&self) -> Result<Option<EncodedMatrix>, ModelError> {
        match self.subtract_one {
            true => Err(ModelError::QuantisedTensor {
                name: self.name.clone(),
                problem: "a norm is not a matrix".to_owned(),
            }),
            false => Ok(Some(self.rows.clone())),
        }
    }

    fn is_quantised(&self) -> bool {
        let whole = [Encoding::F32, Encoding::F16, Encoding::Bf16];
        self.rows
            .encoding()
            .is_none_or(|encoding| !whole.contains(&encoding))
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
