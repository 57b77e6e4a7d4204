//! A store in memory, and plain adapters out of it.

use std::collections::BTreeMap;

use eigenmix_adapter::{
    Adapter, Companion, Labels, LayerKind, LoraModule, PeftConfig, Prompts, Source,
};
use eigenmix_eigenlorax::decomposition::{DecompositionError, to_f32};
use eigenmix_tensors::{HostTensor, Matrix};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bases::{Bases, StoredBases};
use crate::error::StoreError;
use crate::pack::{CoefficientKind, PackOptions};
use crate::report::{AdapterError, PackReport};
use crate::stored_tensor::StoredTensor;

/// Adapters on shared bases.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// The release of Eigenmix that packed it.
    pub version: String,
    /// The base model that the adapters name, if one does.
    pub base_model: Option<String>,
    pub options: PackOptions,
    pub(crate) bases: BTreeMap<String, StoredBases>,
    /// By name.
    pub adapters: BTreeMap<String, StoredAdapter>,
}

/// One adapter: what it is besides its updates, and its coefficients.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredAdapter {
    pub source: Source,
    pub config: PeftConfig,
    pub labels: Option<Labels>,
    pub prompts: Option<Prompts>,
    /// What its `eigenmix.json` said.
    pub made: Option<Map<String, Value>>,
    /// The files beside it.
    pub companions: Vec<Companion>,
    pub(crate) whole: Vec<WholeTensor>,
    pub(crate) modules: BTreeMap<String, StoredModule>,
    pub error: AdapterError,
}

/// A tensor that is kept as it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WholeTensor {
    pub kind: WholeKind,
    /// In the base model; of an update's bias the path of the module.
    pub name: String,
    pub tensor: StoredTensor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WholeKind {
    Head,
    Bias,
    /// The bias of B, scaled.
    UpdateBias,
}

/// One module of one adapter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredModule {
    pub rank: usize,
    pub layer: LayerKind,
    /// None where ΔW is zero.
    pub coefficients: Option<StoredTensor>,
}

impl Store {
    /// The adapter `name` as plain LoRA of its own ranks, with scaling 1.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn adapter(&self, name: &str) -> Result<Adapter, StoreError> {
        let stored = self.stored(name)?;
        let modules = stored
            .modules
            .par_iter()
            .map(|(path, module)| {
                let bases = &self.bases[path];
                let shape = [bases.left.shape()[1], bases.right.shape()[1]];
                let unpacked = lora_module(&bases.read(), module, self.options.coefficients, shape);
                match unpacked {
                    Ok(unpacked) => Ok((path.clone(), unpacked)),
                    Err(source) => Err(StoreError::Decomposition {
                        module: path.clone(),
                        source,
                    }),
                }
            })
            .collect::<Result<_, StoreError>>()?;
        let mut adapter = Adapter::new(stored.config.clone(), modules);
        for WholeTensor { kind, name, tensor } in &stored.whole {
            let values = tensor.values();
            match kind {
                WholeKind::Head => {
                    let tensor = HostTensor::new(tensor.shape(), values);
                    adapter.heads.insert(name.clone(), tensor);
                }
                WholeKind::Bias => {
                    let tensor = HostTensor::new(tensor.shape(), values);
                    adapter.biases.insert(name.clone(), tensor);
                }
                WholeKind::UpdateBias => {
                    if let Some(module) = adapter.modules.get_mut(name) {
                        module.bias = Some(values);
                    }
                }
            }
        }
        adapter.labels = stored.labels.clone();
        adapter.prompts = stored.prompts.clone();
        Ok(adapter)
    }

    /// What is kept of the adapter `name`.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn stored(&self, name: &str) -> Result<&StoredAdapter, StoreError> {
        self.adapters
            .get(name)
            .ok_or_else(|| StoreError::no_such_adapter(name, self.adapters.keys()))
    }

    /// What packing lost, and what the parts take.
    pub fn report(&self) -> PackReport {
        let bases = self.bases.values();
        let basis_bytes = bases.map(|bases| bases.left.byte_count() + bases.right.byte_count());
        let modules = self
            .adapters
            .values()
            .flat_map(|stored| stored.modules.values());
        let coefficients = modules.filter_map(|module| module.coefficients.as_ref());
        let whole = self.adapters.values().flat_map(|stored| &stored.whole);
        PackReport {
            adapters: self
                .adapters
                .iter()
                .map(|(name, stored)| (name.clone(), stored.error.clone()))
                .collect(),
            directions: self
                .bases
                .iter()
                .map(|(path, bases)| (path.clone(), bases.columns()))
                .collect(),
            basis_bytes: basis_bytes.sum::<usize>() as u64,
            coefficient_bytes: coefficients.map(StoredTensor::byte_count).sum::<usize>() as u64,
            whole_bytes: whole.map(|whole| whole.tensor.byte_count()).sum::<usize>() as u64,
        }
    }
}

/// The update of a module as plain LoRA of its own rank; where it has fewer directions, the last
/// columns are zero.
pub(crate) fn lora_module(
    bases: &Bases,
    stored: &StoredModule,
    kind: CoefficientKind,
    [d_out, d_in]: [usize; 2],
) -> Result<LoraModule, DecompositionError> {
    let rank = stored.rank;
    let Some(coefficients) = &stored.coefficients else {
        let module = LoraModule::new(Matrix::zeros(d_out, rank), Matrix::zeros(rank, d_in), 1.0);
        return Ok(module.of_layer(stored.layer.clone()));
    };
    let [rows, columns] = [coefficients.shape()[0], coefficients.shape()[1]];
    let kept = Matrix::new(rows, columns, coefficients.values());
    let mut update = bases.update(&kept, kind, rank)?;
    update.left.resize_with(d_out, rank, |_, _| 0.0);
    update.right.resize_with(d_in, rank, |_, _| 0.0);
    let module = LoraModule::new(
        to_f32(update.left.as_ref()),
        to_f32(update.right.transpose()),
        1.0,
    );
    Ok(module.of_layer(stored.layer.clone()))
}
