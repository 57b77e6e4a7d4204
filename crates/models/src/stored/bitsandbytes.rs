//! What transformers saves of models that bitsandbytes quantised: NF4 and FP4, with double quantisation
//! or without, and int8.

use std::sync::Arc;

use eigenmix_quant::{CodebookMatrix, EncodedMatrix, Rounding, RowScaledMatrix};
use eigenmix_tensors::{FileError, TensorFile};
use serde::Deserialize;
use serde_json::Value;

use super::{Files, StoredSize, StoredTensor, StoredTensors};
use crate::ModelError;

/// Codes in `NAME.weight`, and beside it everything that they mean.
const STATE: &str = ".quant_state.bitsandbytes__";

/// Codes in `NAME.weight`, and the largest absolute values of the rows in `NAME.SCB`.
const ROW_SCALES: &str = ".SCB";

/// JSON, as the bytes of a tensor.
#[derive(Deserialize)]
struct State {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f32>,
    /// Of the nested scales: always float32.
    #[serde(rename = "nested_dtype")]
    _nested_dtype: Option<String>,
}

/// A matrix in four bits.
struct FourBits {
    matrix: CodebookMatrix,
    shape: [usize; 2],
    /// Of the codes and of all that gives them meaning.
    stored: usize,
}

/// What a matrix in four bits is made of: `NAME.weight` and six tensors beside it at most.
struct FourBitParts {
    name: String,
    state: State,
    codes: Part,
    absmax: Part,
    quant_map: Part,
    /// Scales and table of the scales, where these are quantised too.
    nested: Option<[Part; 2]>,
}

/// A tensor, which a sharded checkpoint may have in another file than the others.
struct Part(Arc<TensorFile>, String);

impl Part {
    fn floats(&self) -> Result<Vec<f32>, FileError> {
        self.0.read_f32(&self.1)
    }

    fn size(&self) -> Result<usize, FileError> {
        Ok(self.0.view(&self.1)?.len())
    }
}

/// Takes the matrices in four bits.
pub(super) fn four_bits(
    files: &mut Files,
    _config: &Value,
    tensors: &mut StoredTensors,
) -> Result<(), ModelError> {
    let states: Vec<String> = files
        .keys()
        .filter(|name| name.contains(STATE))
        .cloned()
        .collect();
    for state_name in states {
        let (name, _) = state_name.split_once(STATE).unwrap_or_default();
        let malformed = |problem: String| ModelError::QuantisedTensor {
            name: name.to_owned(),
            problem,
        };
        let mut take = |name: String| files.remove(&name).map(|file| Part(file, name));
        let Some(Part(file, _)) = take(state_name.clone()) else {
            continue;
        };
        let state: State = serde_json::from_slice(file.view(&state_name)?)
            .map_err(|error| malformed(format!("`{state_name}` is not a state: {error}")))?;
        let mut part = |suffix: &str| {
            let name = format!("{name}.{suffix}");
            take(name.clone()).ok_or(ModelError::MissingPart { name })
        };
        let parts = FourBitParts {
            absmax: part("absmax")?,
            quant_map: part("quant_map")?,
            nested: match state.nested_blocksize {
                Some(_) => Some([part("nested_absmax")?, part("nested_quant_map")?]),
                None => None,
            },
            codes: take(name.to_owned()).ok_or_else(|| ModelError::MissingPart {
                name: name.to_owned(),
            })?,
            name: name.to_owned(),
            state,
        };
        let matrix = parts.matrix()?;
        let tensor = FourBits {
            shape: matrix.shape(),
            matrix,
            stored: parts.size()?,
        };
        tensors.insert(parts.name, Box::new(tensor));
    }
    Ok(())
}

impl FourBitParts {
    fn malformed(&self, problem: impl Into<String>) -> ModelError {
        ModelError::QuantisedTensor {
            name: self.name.clone(),
            problem: problem.into(),
        }
    }

    /// Codes stay mapped; scales are computed.
    fn matrix(&self) -> Result<CodebookMatrix, ModelError> {
        let State {
            quant_type,
            blocksize,
            dtype,
            shape,
            ..
        } = &self.state;
        let &[rows, cols] = &shape[..] else {
            return Err(self.malformed(format!("its shape is {shape:?}, not that of a matrix")));
        };
        let name = match quant_type.as_str() {
            "nf4" => "NF4",
            "fp4" => "FP4",
            other => {
                return Err(self.malformed(format!(
                    "it is quantised to `{other}`, which is not read; nf4 and fp4 are"
                )));
            }
        };
        let rounding = match dtype.as_str() {
            "float32" => Rounding::None,
            "float16" => Rounding::F16,
            "bfloat16" => Rounding::Bf16,
            other => {
                return Err(self.malformed(format!(
                    "its values are of type `{other}`; expected float32, float16 or bfloat16"
                )));
            }
        };
        let table = self.quant_map.floats()?;
        let table = <[f32; 16]>::try_from(table).map_err(|table| {
            self.malformed(format!("its table has {} values, not sixteen", table.len()))
        })?;
        let scales = self.scales()?;
        // Whatever type the codes are stored in, their bytes are the same.
        let codes = self.codes.0.bytes(&self.name)?;
        CodebookMatrix::new(
            name,
            [rows, cols],
            codes,
            table,
            *blocksize,
            scales,
            rounding,
        )
        .map_err(ModelError::encoded(&self.name))
    }

    /// A scale for each block: as stored, or themselves eight-bit codes of a table, with scales for
    /// blocks of their own and an offset.
    fn scales(&self) -> Result<Vec<f32>, ModelError> {
        let Part(file, name) = &self.absmax;
        let Some([scales, table]) = &self.nested else {
            return Ok(self.absmax.floats()?);
        };
        let (scales, table) = (scales.floats()?, table.floats()?);
        let codes = file.view(name)?;
        let block = self.state.nested_blocksize.filter(|&block| block > 0);
        let (Some(block), Some(offset)) = (block, self.state.nested_offset) else {
            return Err(self.malformed("its state lacks nested_blocksize or nested_offset"));
        };
        if table.len() != 256 || scales.len() != codes.len().div_ceil(block) {
            return Err(self.malformed(format!(
                "{} scales in blocks of {block} with a table of {} and {} scales of their own",
                codes.len(),
                table.len(),
                scales.len()
            )));
        }
        let value = |(index, &code): (usize, &u8)| {
            table[usize::from(code)] * scales[index / block] + offset
        };
        Ok(codes.iter().enumerate().map(value).collect())
    }

    /// How many bytes all of them take in the files.
    fn size(&self) -> Result<usize, FileError> {
        let parts = [&self.codes, &self.absmax, &self.quant_map];
        let parts = parts.into_iter().chain(self.nested.iter().flatten());
        parts.map(Part::size).sum()
    }
}

impl StoredTensor for FourBits {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn read(&self) -> Result<Vec<f32>, ModelError> {
        Ok(EncodedMatrix::from(self.matrix.clone()).to_f32())
    }

    fn encoded(&self) -> Result<Option<EncodedMatrix>, ModelError> {
        Ok(Some(self.matrix.clone().into()))
    }

    fn stored(&self) -> Result<StoredSize, ModelError> {
        Ok(StoredSize {
            form: self.matrix.name(),
            bytes: self.stored,
        })
    }

    fn encoded_size(&self) -> Option<usize> {
        Some(self.matrix.size())
    }
}

/// A matrix in eight bits.
struct EightBits {
    matrix: RowScaledMatrix,
    shape: [usize; 2],
}

/// Takes the matrices in eight bits.
pub(super) fn eight_bits(
    files: &mut Files,
    _config: &Value,
    tensors: &mut StoredTensors,
) -> Result<(), ModelError> {
    let scales: Vec<String> = files
        .keys()
        .filter(|name| name.ends_with(ROW_SCALES))
        .cloned()
        .collect();
    for scale_name in scales {
        let module = scale_name.strip_suffix(ROW_SCALES).unwrap_or_default();
        let name = format!("{module}.weight");
        let format_name = format!("{module}.weight_format");
        let malformed = |problem: String| ModelError::QuantisedTensor {
            name: name.clone(),
            problem,
        };
        let (Some(file), Some(scales)) = (files.remove(&name), files.remove(&scale_name)) else {
            return Err(ModelError::MissingTensor { name });
        };
        // 0 is row-major, what everything but some GPU's products uses.
        if let Some(format) = files.remove(&format_name)
            && format.read_i64(&format_name)? != [0]
        {
            return Err(malformed(
                "its codes are in the order of a GPU's product; save the model again with a newer bitsandbytes".to_owned(),
            ));
        }
        let (shape, dtype) = file.tensor(&name)?;
        let (&[rows, cols], eigenmix_tensors::Dtype::I8) = (&shape[..], dtype) else {
            return Err(malformed(format!(
                "it is {dtype} of shape {shape:?}; expected a matrix of int8 beside `{scale_name}`"
            )));
        };
        let (codes, scales) = (file.bytes(&name)?, scales.read_f32(&scale_name)?);
        let shape = [rows, cols];
        let matrix =
            RowScaledMatrix::new(shape, codes, scales).map_err(ModelError::encoded(&name))?;
        tensors.insert(name, Box::new(EightBits { matrix, shape }));
    }
    Ok(())
}

impl StoredTensor for EightBits {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn read(&self) -> Result<Vec<f32>, ModelError> {
        Ok(EncodedMatrix::from(self.matrix.clone()).to_f32())
    }

    fn encoded(&self) -> Result<Option<EncodedMatrix>, ModelError> {
        Ok(Some(self.matrix.clone().into()))
    }

    fn stored(&self) -> Result<StoredSize, ModelError> {
        Ok(StoredSize {
            form: "int8",
            bytes: self.matrix.size(),
        })
    }

    fn encoded_size(&self) -> Option<usize> {
        Some(self.matrix.size())
    }
}
