//! From adapters to a store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use eigenmix_adapter::{AdapterSet, Companion, LayerKind, LoadedAdapter, ModuleMembers};
use eigenmix_eigenlorax::{Components, LowRank};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::bases::{FitError, StoredBases};
use crate::error::StoreError;
use crate::report::{AdapterError, PackReport};
use crate::store::{Store, StoredAdapter, StoredModule, WholeKind, WholeTensor, lora_module};
use crate::stored_tensor::{Precision, StoredTensor};

/// The form of the coefficients of an adapter and module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CoefficientKind {
    /// Σ_t `[p, q]` on orthonormal bases, or its two thin factors where they are smaller.
    Full,
    /// A number for each pair of directions.
    Diagonal,
}

/// How adapters are packed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackOptions {
    pub coefficients: CoefficientKind,
    /// How many directions a basis has.
    pub components: Components,
    pub basis_precision: Precision,
    pub coefficient_precision: Precision,
    /// Of heads, biases and other tensors that are kept whole.
    pub head_precision: Precision,
    /// Whether the adapters may name different base models.
    #[serde(default)]
    pub allow_base_mismatch: bool,
}

/// One adapter to pack.
#[derive(Clone, Debug)]
pub struct PackInput {
    /// Its name in the store.
    pub name: String,
    pub adapter: LoadedAdapter,
    /// What its `eigenmix.json` says.
    pub made: Option<Map<String, Value>>,
    /// The files beside it.
    pub companions: Vec<Companion>,
}

/// Packs `inputs` into one store. `progress` is called with the number of modules that are done and their
/// total.
///
/// # Errors
/// If a name is no name or comes twice, an option is out of range, the adapters are not for one base
/// model ([`AdapterSet::new`]), or a value is too large for its precision.
pub fn pack(
    inputs: &[PackInput],
    options: &PackOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<(Store, PackReport), StoreError> {
    options.components.check()?;
    let mut names = BTreeSet::new();
    for input in inputs {
        check_name(&input.name)?;
        if !names.insert(input.name.as_str()) {
            return Err(StoreError::NameTwice {
                name: input.name.clone(),
            });
        }
    }
    let loaded: Vec<&LoadedAdapter> = inputs.iter().map(|input| &input.adapter).collect();
    let set = AdapterSet::new(&loaded, options.allow_base_mismatch)?;
    let mut adapters = BTreeMap::new();
    for input in inputs {
        adapters.insert(input.name.clone(), stored_adapter(input, options)?);
    }
    let done = AtomicUsize::new(0);
    let packed: Vec<PackedModule> = set
        .modules()
        .par_iter()
        .map(|(path, members)| {
            let packed = pack_module(&set, path, members, options)?;
            progress(
                done.fetch_add(1, Ordering::Relaxed) + 1,
                set.modules().len(),
            );
            Ok(packed)
        })
        .collect::<Result<_, StoreError>>()?;

    let mut bases = BTreeMap::new();
    let mut errors: BTreeMap<&str, Vec<(&str, f64, f64)>> = BTreeMap::new();
    for ((path, _), module) in set.modules().iter().zip(packed) {
        for part in module.parts {
            let name = inputs[part.adapter].name.as_str();
            errors
                .entry(name)
                .or_default()
                .push((path, part.residual, part.norm));
            if let Some(stored) = adapters.get_mut(name) {
                stored.modules.insert(path.clone(), part.module);
            }
        }
        bases.insert(path.clone(), module.bases);
    }
    for (name, modules) in errors {
        if let Some(stored) = adapters.get_mut(name) {
            stored.error.of_modules(modules);
        }
    }
    let store = Store {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        base_model: set.base_model().map(str::to_owned),
        options: *options,
        bases,
        adapters,
    };
    let report = store.report();
    Ok((store, report))
}

/// One module of all adapters.
struct PackedModule {
    bases: StoredBases,
    parts: Vec<PackedPart>,
}

/// One module of one adapter.
struct PackedPart {
    adapter: usize,
    module: StoredModule,
    /// ‖ΔW − ΔŴ‖.
    residual: f64,
    /// ‖ΔW‖.
    norm: f64,
}

fn pack_module(
    set: &AdapterSet<'_, &LoadedAdapter>,
    path: &str,
    members: &ModuleMembers,
    options: &PackOptions,
) -> Result<PackedModule, StoreError> {
    let failed = |error: FitError| match error {
        FitError::Decomposition(source) => StoreError::Decomposition {
            module: path.to_owned(),
            source,
        },
        FitError::File(error) => error.into(),
    };
    let (mut adapters, mut updates) = (Vec::new(), Vec::new());
    for update in set.updates(path, members) {
        let (adapter, module) = update?;
        adapters.push((adapter, module.layer.clone()));
        updates.push(LowRank::of(&module));
    }
    let bases = StoredBases::fit(path, &updates, members.shape, options).map_err(failed)?;
    let read = bases.read();
    let has_directions = bases.columns()[0] > 0;
    let fit = match has_directions {
        true => Some(
            read.fit(options.coefficients)
                .map_err(|error| failed(error.into()))?,
        ),
        false => None,
    };
    let part = |(adapter, layer): (usize, LayerKind), update: &LowRank| {
        let norm = update.norm();
        let coefficients = match &fit {
            Some(fit) if norm > 0.0 => {
                let rows = read.coefficients(update, fit)?;
                let stored = StoredTensor::new(
                    path,
                    &rows.shape(),
                    rows.values(),
                    options.coefficient_precision,
                )?;
                Some(stored)
            }
            _ => None,
        };
        let stored = StoredModule {
            rank: update.rank(),
            layer,
            coefficients,
        };
        let unpacked = lora_module(&read, &stored, options.coefficients, members.shape)?;
        Ok(PackedPart {
            adapter,
            module: stored,
            residual: update.minus(&LowRank::of(&unpacked)).norm(),
            norm,
        })
    };
    let parts = adapters.into_iter().zip(&updates);
    let parts = parts
        .map(|(adapter, update)| part(adapter, update).map_err(failed))
        .collect::<Result<_, StoreError>>()?;
    Ok(PackedModule { bases, parts })
}

/// What of an adapter is kept besides its updates.
fn stored_adapter(input: &PackInput, options: &PackOptions) -> Result<StoredAdapter, StoreError> {
    let adapter = &input.adapter.adapter;
    let mut error = AdapterError::default();
    let mut whole = |kind, name: &str, shape: &[usize], values: &[f32]| {
        let tensor = StoredTensor::new(name, shape, values, options.head_precision)?;
        error.of_whole(values, &tensor.values());
        Ok::<_, StoreError>(WholeTensor {
            kind,
            name: name.to_owned(),
            tensor,
        })
    };
    let mut tensors = Vec::new();
    for (name, tensor) in &adapter.heads {
        tensors.push(whole(WholeKind::Head, name, &tensor.shape, &tensor.values)?);
    }
    for (name, tensor) in &adapter.biases {
        tensors.push(whole(WholeKind::Bias, name, &tensor.shape, &tensor.values)?);
    }
    for (path, module) in &adapter.modules {
        // As it acts: s · bias.
        let bias = module.bias.iter().flatten();
        let bias: Vec<f32> = bias.map(|value| value * module.scaling).collect();
        if module.bias.is_some() {
            tensors.push(whole(WholeKind::UpdateBias, path, &[bias.len()], &bias)?);
        }
    }
    Ok(StoredAdapter {
        source: input.adapter.source.clone(),
        config: adapter.config.clone(),
        labels: adapter.labels.clone(),
        prompts: adapter.prompts.clone(),
        made: input.made.clone(),
        companions: input.companions.clone(),
        whole: tensors,
        modules: BTreeMap::new(),
        error,
    })
}

/// Names stand in tensor names, in paths and after `#`.
pub(crate) fn check_name(name: &str) -> Result<(), StoreError> {
    let is_plain = |letter: char| letter.is_alphanumeric() || "._-".contains(letter);
    match !name.is_empty() && !name.starts_with('.') && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(StoreError::Name {
            name: name.to_owned(),
        }),
    }
}
