//! Writing the dialects that are not PEFT's: tensors with the dtype that they had, metadata with
//! them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_tensors::{FileError, write_tensor_file_with};
use eigenmix_tensors::{Matrix, TensorOutput};
use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::{Map, Value};

use crate::key::Part;
use crate::style::{AlphaTensor, DtypeChoice, ModuleStyle};
use crate::{AdapterError, Dialect, LayerKind, LoraModule};

/// An adapter on its way to disk.
pub(crate) struct Writing<'a> {
    pub(crate) metadata: BTreeMap<String, String>,
    /// `adapter_config.json`, of a dialect that has one.
    pub(crate) config: Option<Map<String, Value>>,
    factors: Vec<Factor<'a>>,
    alphas: Vec<AlphaTensor>,
}

struct Factor<'a> {
    name: String,
    shape: Vec<usize>,
    values: Cow<'a, [f32]>,
}

/// A module as B, A and a scaling: a mixer is multiplied into B.
pub(crate) struct FoldedModule<'a> {
    pub(crate) a: Cow<'a, Matrix>,
    pub(crate) b: Cow<'a, Matrix>,
    pub(crate) scaling: f32,
    pub(crate) layer: &'a LayerKind,
}

impl<'a> FoldedModule<'a> {
    /// # Errors
    /// If the module has more than a low-rank update.
    pub(crate) fn new(
        path: &str,
        module: &'a LoraModule,
        dialect: Dialect,
    ) -> Result<Self, AdapterError> {
        let more = [
            (module.magnitude.is_some(), "it has a DoRA magnitude"),
            (module.bias.is_some(), "it has a bias of B"),
        ];
        if let Some((_, problem)) = more.into_iter().find(|(has, _)| *has) {
            return Err(AdapterError::NotConvertible {
                module: path.to_owned(),
                dialect,
                problem: problem.to_owned(),
            });
        }
        let mixed = module.mixer.as_ref().map(|mixer| module.b.product(mixer));
        Ok(Self {
            a: Cow::Borrowed(&module.a),
            b: mixed.map_or(Cow::Borrowed(&module.b), Cow::Owned),
            scaling: module.scaling,
            layer: &module.layer,
        })
    }

    pub(crate) fn rank(&self) -> usize {
        self.a.rows()
    }

    /// The same with the scaling multiplied into B.
    pub(crate) fn unscaled(self) -> Self {
        if self.scaling == 1.0 {
            return self;
        }
        Self {
            b: Cow::Owned(self.b.into_owned().scaled(self.scaling)),
            scaling: 1.0,
            ..self
        }
    }
}

impl<'a> Writing<'a> {
    pub(crate) fn new(metadata: BTreeMap<String, String>) -> Self {
        Self {
            metadata,
            config: None,
            factors: Vec::new(),
            alphas: Vec::new(),
        }
    }

    /// A and B in the shapes of their layer, whatever their scaling.
    pub(crate) fn push_factors(&mut self, names: &ModuleStyle, module: FoldedModule<'a>) {
        let layer = module.layer;
        let a_shape = layer.a_shape(module.rank(), module.a.cols());
        let b_shape = layer.b_shape(module.b.rows(), module.rank());
        self.push(names.a.clone(), a_shape, values_of(module.a));
        self.push(names.b.clone(), b_shape, values_of(module.b));
    }

    /// Aᵀ `[d_in, rank]` and Bᵀ `[rank, d_out]`.
    pub(crate) fn push_transposed(&mut self, names: &ModuleStyle, module: &FoldedModule<'_>) {
        for (name, matrix) in [(&names.a, &module.a), (&names.b, &module.b)] {
            let transposed = matrix.transposed();
            let shape = transposed.shape().to_vec();
            self.push(name.clone(), shape, Cow::Owned(transposed.into_values()));
        }
    }

    pub(crate) fn push_alpha(&mut self, alpha: AlphaTensor) {
        self.alphas.push(alpha);
    }

    fn push(&mut self, name: String, shape: Vec<usize>, values: Cow<'a, [f32]>) {
        self.factors.push(Factor {
            name,
            shape,
            values,
        });
    }

    /// Writes the file of tensors.
    ///
    /// # Errors
    /// If a value is not finite or too large for the dtype that was asked for, or the file cannot
    /// be written.
    pub(crate) fn write(&self, path: &Path, dtype: DtypeChoice) -> Result<(), AdapterError> {
        for factor in &self.factors {
            let broken = factor.values.iter().position(|value| !value.is_finite());
            if let Some(position) = broken {
                return Err(FileError::NotFinite {
                    path: path.to_owned(),
                    tensor: factor.name.clone(),
                    value: factor.values[position],
                    position,
                }
                .into());
            }
        }
        let dtype = match dtype {
            DtypeChoice::Asked(dtype) => dtype,
            DtypeChoice::IfExact(dtype) if self.is_exact_in(dtype) => dtype,
            DtypeChoice::IfExact(_) => Dtype::F32,
        };
        let mut encoded = Vec::with_capacity(self.factors.len() + self.alphas.len());
        for factor in &self.factors {
            let bytes = encode(&factor.name, &factor.values, dtype)?;
            encoded.push((&factor.name, factor.shape.clone(), dtype, bytes));
        }
        for alpha in &self.alphas {
            let bytes = encode(&alpha.key, &[alpha.value], alpha.dtype)?;
            encoded.push((&alpha.key, alpha.shape.clone(), alpha.dtype, bytes));
        }
        let tensors = encoded
            .iter()
            .map(|(name, shape, dtype, bytes)| {
                TensorOutput::bytes(name.as_str(), shape.clone(), *dtype, bytes)
            })
            .collect();
        Ok(write_tensor_file_with(path, tensors, &self.metadata)?)
    }

    fn is_exact_in(&self, dtype: Dtype) -> bool {
        let mut values = self.factors.iter().flat_map(|factor| factor.values.iter());
        match dtype {
            Dtype::F16 => values.all(|&value| f16::from_f32(value).to_f32() == value),
            Dtype::BF16 => values.all(|&value| bf16::from_f32(value).to_f32() == value),
            _ => false,
        }
    }
}

fn values_of(matrix: Cow<'_, Matrix>) -> Cow<'_, [f32]> {
    match matrix {
        Cow::Borrowed(matrix) => Cow::Borrowed(matrix.values()),
        Cow::Owned(matrix) => Cow::Owned(matrix.into_values()),
    }
}

/// The bytes of `values` in `dtype`; of integers only those that are in a file already come here.
fn encode(tensor: &str, values: &[f32], dtype: Dtype) -> Result<Vec<u8>, AdapterError> {
    let is_too_large = |value: f32| match dtype {
        Dtype::F16 => f16::from_f32(value).is_infinite(),
        Dtype::BF16 => bf16::from_f32(value).is_infinite(),
        _ => false,
    };
    if let Some(&value) = values.iter().find(|&&value| is_too_large(value)) {
        return Err(FileError::TooLarge {
            tensor: tensor.to_owned(),
            value,
            dtype,
        }
        .into());
    }
    let values = values.iter();
    Ok(match dtype {
        Dtype::F16 => values
            .flat_map(|&value| f16::from_f32(value).to_le_bytes())
            .collect(),
        Dtype::BF16 => values
            .flat_map(|&value| bf16::from_f32(value).to_le_bytes())
            .collect(),
        Dtype::F64 => values
            .flat_map(|&value| f64::from(value).to_le_bytes())
            .collect(),
        Dtype::I64 => values
            .flat_map(|&value| (value as i64).to_le_bytes())
            .collect(),
        Dtype::I32 => values
            .flat_map(|&value| (value as i32).to_le_bytes())
            .collect(),
        Dtype::I16 => values
            .flat_map(|&value| (value as i16).to_le_bytes())
            .collect(),
        Dtype::U8 => values.map(|&value| value as u8).collect(),
        _ => values.flat_map(|value| value.to_le_bytes()).collect(),
    })
}

/// The dtype that all factors in `keys` have, if it is one that can be written again.
pub(crate) fn common_dtype<'a>(
    file: &eigenmix_tensors::TensorFile,
    mut keys: impl Iterator<Item = &'a BTreeMap<Part, String>>,
) -> Dtype {
    let dtype_of = |part: Part, keys: &BTreeMap<Part, String>| {
        let key = keys.get(&part)?;
        file.tensor(key).ok().map(|(_, dtype)| dtype)
    };
    let first = match keys.next().and_then(|keys| dtype_of(Part::A, keys)) {
        Some(dtype @ (Dtype::F16 | Dtype::BF16)) => dtype,
        _ => return Dtype::F32,
    };
    let is_same = keys.all(|keys| {
        [Part::A, Part::B]
            .into_iter()
            .all(|part| dtype_of(part, keys) == Some(first))
    });
    if is_same { first } else { Dtype::F32 }
}
