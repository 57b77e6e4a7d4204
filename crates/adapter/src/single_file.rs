//! Writing the dialects that are not PEFT's: tensors with the dtype that they had, metadata with
//! them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_tensors::{Dtype, TensorOutput, encode, is_exact, write_tensor_file_with};
use serde_json::{Map, Value};

use crate::key::Part;
use crate::named_tensor::{NamedTensor, values_of};
use crate::style::{AlphaTensor, DtypeChoice, ModuleStyle};
use crate::{AdapterError, Dialect, LoraModule};

/// An adapter on its way to disk.
pub(crate) struct Writing<'a> {
    pub(crate) metadata: BTreeMap<String, String>,
    /// `adapter_config.json`, of a dialect that has one.
    pub(crate) config: Option<Map<String, Value>>,
    factors: Vec<NamedTensor<'a>>,
    alphas: Vec<AlphaTensor>,
}

/// A module as B, A and a scaling, which is all that these dialects have: a mixer is multiplied
/// into B.
///
/// # Errors
/// If the module has more than a low-rank update.
pub(crate) fn factors_of<'a>(
    path: &str,
    module: &'a LoraModule,
    dialect: Dialect,
) -> Result<Cow<'a, LoraModule>, AdapterError> {
    let more = [
        (module.magnitude.is_some(), "it has a DoRA magnitude"),
        (module.bias.is_some(), "it has a bias of B"),
    ];
    match more.into_iter().find(|(has, _)| *has) {
        Some((_, problem)) => Err(AdapterError::NotConvertible {
            module: path.to_owned(),
            dialect,
            problem: problem.to_owned(),
        }),
        None => Ok(LoraModule::without_mixer(Cow::Borrowed(module))),
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
    pub(crate) fn push_factors(&mut self, names: &ModuleStyle, module: Cow<'a, LoraModule>) {
        let rank = module.rank();
        let a_shape = module.layer.a_shape(rank, module.d_in());
        let b_shape = module.layer.b_shape(module.d_out(), rank);
        let (a, b) = match module {
            Cow::Borrowed(module) => (Cow::Borrowed(&module.a), Cow::Borrowed(&module.b)),
            Cow::Owned(module) => (Cow::Owned(module.a), Cow::Owned(module.b)),
        };
        self.push(names.a.clone(), a_shape, values_of(a));
        self.push(names.b.clone(), b_shape, values_of(b));
    }

    /// Aᵀ `[d_in, rank]` and Bᵀ `[rank, d_out]`.
    pub(crate) fn push_transposed(&mut self, names: &ModuleStyle, module: &LoraModule) {
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
        self.factors.push(NamedTensor {
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
            factor.require_finite(path)?;
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
        let mut factors = self.factors.iter();
        factors.all(|factor| is_exact(&factor.values, dtype))
    }
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
