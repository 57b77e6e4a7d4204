//! Which tensors of a base model an adapter changes, checked before any of them is computed.

use eigenmix_tensors::HostTensor;
use std::collections::BTreeMap;

use eigenmix_adapter::{Adapter, LoraModule};
use safetensors::Dtype;

use super::base_checkpoint::BaseCheckpoint;
use super::merged_weight::Orientation;
use super::module_names::Naming;
use crate::BadInput;
use crate::ExperimentError;

/// Everything that changes.
pub(super) struct MergePlan<'a> {
    /// By name in the base model.
    pub(super) edits: BTreeMap<String, Edit<'a>>,
    /// By name in the result: what the base model does not have.
    pub(super) added: BTreeMap<String, &'a HostTensor>,
    /// What goes in front of the names of the base model.
    pub(super) prefix: Option<String>,
    pub(super) orientation: Orientation,
    /// The dtype of what is added: that of the adapted weights.
    pub(super) dtype: Dtype,
}

/// What becomes of a tensor.
pub(super) enum Edit<'a> {
    /// W₀ + ΔW, and what DoRA makes of it.
    Update(&'a LoraModule),
    /// Other values, perhaps of another shape.
    Values(HostTensor),
}

impl<'a> MergePlan<'a> {
    /// Finds the place of everything in `adapter`.
    ///
    /// # Errors
    /// If the base model lacks a module or a bias, or has it in another shape.
    pub(super) fn new(
        adapter: &'a Adapter,
        base: &BaseCheckpoint,
    ) -> Result<Self, ExperimentError> {
        let modules: Vec<&str> = adapter.modules.keys().map(String::as_str).collect();
        let naming = Naming::find(&modules, base)?;
        let mut plan = Self {
            edits: BTreeMap::new(),
            added: BTreeMap::new(),
            prefix: None,
            orientation: Orientation::of(adapter.config.fan_in_fan_out(), base.model_type()),
            dtype: Dtype::F32,
        };
        for (path, module) in &adapter.modules {
            plan.add_update(&naming.in_base(path), module, base)?;
        }
        for (name, tensor) in &adapter.biases {
            let name = naming.in_base(name);
            require_shape(&name, &tensor.shape, base)?;
            plan.edits.insert(name, Edit::Values(tensor.clone()));
        }
        // B's bias acts on top of the layer's own, whether that was trained along or not.
        for (path, module) in &adapter.modules {
            if let Some(bias) = &module.bias {
                plan.add_bias(&naming.in_base(path), module.scaling, bias, base)?;
            }
        }
        plan.add_heads(adapter, &naming, base);
        Ok(plan)
    }

    /// The name in the result of a tensor of the base model.
    pub(super) fn name_in_result(&self, name: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}.{name}"),
            None => name.to_owned(),
        }
    }

    fn add_update(
        &mut self,
        path: &str,
        module: &'a LoraModule,
        base: &BaseCheckpoint,
    ) -> Result<(), ExperimentError> {
        let name = format!("{path}.weight");
        self.dtype = require_shape(&name, &self.orientation.shape(module), base)?;
        self.edits.insert(name, Edit::Update(module));
        Ok(())
    }

    /// bias₀ + s·bias.
    fn add_bias(
        &mut self,
        path: &str,
        scaling: f32,
        bias: &[f32],
        base: &BaseCheckpoint,
    ) -> Result<(), ExperimentError> {
        let name = format!("{path}.bias");
        require_shape(&name, &[bias.len()], base)?;
        let stored = match self.edits.remove(&name) {
            Some(Edit::Values(trained)) => trained.values,
            _ => base.file_of(&name)?.read_finite_f32(&name)?,
        };
        let tensor = HostTensor {
            shape: vec![bias.len()],
            values: stored
                .iter()
                .zip(bias)
                .map(|(stored, bias)| stored + scaling * bias)
                .collect(),
        };
        self.edits.insert(name, Edit::Values(tensor));
        Ok(())
    }

    /// Heads replace what is there, with the number of labels that they have.
    fn add_heads(&mut self, adapter: &'a Adapter, naming: &Naming, base: &BaseCheckpoint) {
        if adapter.heads.is_empty() {
            return;
        }
        // A head stands beside the model that it reads, so that model needs a name of its own.
        self.prefix = naming.prefix_of_adapter().map(str::to_owned);
        for (name, tensor) in &adapter.heads {
            let in_base = naming.in_base(name);
            if base.contains(&in_base) {
                self.edits.insert(in_base, Edit::Values(tensor.clone()));
            } else if self.prefix.is_some() {
                self.added.insert(name.clone(), tensor);
            } else {
                self.added.insert(in_base, tensor);
            }
        }
    }
}

/// The dtype of a tensor of the base model that must have the shape `expected`.
fn require_shape(
    name: &str,
    expected: &[usize],
    base: &BaseCheckpoint,
) -> Result<Dtype, ExperimentError> {
    let (found, dtype) = base.file_of(name)?.tensor(name)?;
    if found == expected {
        return Ok(dtype);
    }
    let problem = format!(
        "`{name}` has shape {found:?} in the base model `{}`, but {expected:?} for the adapter; is it an adapter of another base model?",
        base.directory().display()
    );
    Err(BadInput(problem).into())
}
