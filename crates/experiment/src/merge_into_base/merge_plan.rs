//! Which tensors of a base model an adapter changes, checked before any of them is computed.

use eigenmix_tensors::HostTensor;
use std::collections::BTreeMap;

use eigenmix_adapter::{Adapter, LoraModule};
use safetensors::Dtype;
use serde_json::json;

use super::base_checkpoint::BaseCheckpoint;
use super::merged_weight::Orientation;
use super::module_names::Naming;
use super::output_layer::{OutputLayer, is_trained_apart};
use crate::BadInput;
use crate::ExperimentError;

/// Everything that changes.
pub(super) struct MergePlan<'a> {
    /// By name in the base model.
    pub(super) edits: BTreeMap<String, Edit<'a>>,
    /// By name in the result: what the base model does not have.
    pub(super) added: BTreeMap<String, Added<'a>>,
    /// What becomes of the configuration, and why: whether the output layer is no longer tied, the
    /// number of tokens if it changed, and notes for the user.
    pub(super) is_untied: bool,
    pub(super) vocabulary: Option<usize>,
    pub(super) notes: Vec<String>,
    /// What goes in front of the names of the base model.
    pub(super) prefix: Option<String>,
    pub(super) orientation: Orientation,
    /// The dtype of what is added: that of the adapted weights.
    pub(super) dtype: Dtype,
}

/// What a tensor is that the base model does not have.
pub(super) enum Added<'a> {
    Values(&'a HostTensor),
    /// A tensor of the base model under a second name, with an update of its own: the output layer
    /// that was tied to it.
    Copy(String, Option<&'a LoraModule>),
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
        base.refuse_quantised()?;
        let output = OutputLayer::of(base, adapter);
        // A tied output layer has no weight of its own that could be looked for.
        let is_tied_output = |path: &str| {
            OutputLayer::is_output(path) && output.as_ref().is_some_and(|output| output.is_tied)
        };
        let modules: Vec<&str> = adapter
            .modules
            .keys()
            .map(String::as_str)
            .filter(|path| !is_tied_output(path))
            .collect();
        let naming = Naming::find(&modules, base)?;
        let mut plan = Self {
            edits: BTreeMap::new(),
            added: BTreeMap::new(),
            is_untied: false,
            vocabulary: None,
            notes: Vec::new(),
            prefix: None,
            orientation: Orientation::of(adapter.config.fan_in_fan_out(), base.model_type()),
            dtype: Dtype::F32,
        };
        for (path, module) in &adapter.modules {
            if !is_tied_output(path) {
                plan.add_update(&naming.in_base(path), module, base)?;
            }
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
        if let Some(output) = output {
            if output.is_tied {
                plan.add_tied_output(adapter, &naming, &output, base)?;
            }
            plan.follow_vocabulary(&output, base)?;
        }
        Ok(plan)
    }

    /// The output layer of a base model in which it is the table of tokens: as PEFT has it, what is
    /// trained of one of the two leaves the other as it was, so that they part.
    ///
    /// # Errors
    /// If the adapter resized the table and has no output layer of the new size.
    fn add_tied_output(
        &mut self,
        adapter: &'a Adapter,
        naming: &Naming,
        output: &OutputLayer,
        base: &BaseCheckpoint,
    ) -> Result<(), ExperimentError> {
        // The adapter's own output layer may stand among the edits if the base model has a copy of it.
        let own = adapter
            .heads
            .iter()
            .find(|(name, _)| OutputLayer::is_output(name));
        let update = adapter
            .modules
            .iter()
            .find(|(path, _)| OutputLayer::is_output(path));
        let table = self.edits.get(&output.table);
        let became = match (own, update, table) {
            (None, None, None) => return Ok(()),
            (Some((_, own)), _, Some(Edit::Values(table))) if own == table => {
                self.edits.remove(&output.weight);
                self.added.retain(|name, _| !OutputLayer::is_output(name));
                return Ok(());
            }
            (Some((_, own)), ..) => Added::Values(own),
            (None, Some((_, update)), table) => {
                let resized = match table {
                    Some(Edit::Values(table)) => Some(&table.shape),
                    _ => None,
                };
                let shape = [update.d_out(), update.d_in()];
                if let Some(resized) = resized.filter(|resized| resized.as_slice() != shape) {
                    return Err(half_resized(
                        &output.table,
                        resized,
                        output.module(),
                        &shape,
                    ));
                }
                self.dtype = require_shape(&output.table, &shape, base)?;
                Added::Copy(output.table.clone(), Some(update))
            }
            (None, None, Some(Edit::Values(_))) if !is_trained_apart(adapter, &output.table) => {
                return Ok(());
            }
            (None, None, Some(Edit::Values(table))) => {
                let before = base.file_of(&output.table)?.shape(&output.table)?;
                if before != table.shape {
                    return Err(half_resized(
                        &output.table,
                        &table.shape,
                        output.module(),
                        before,
                    ));
                }
                Added::Copy(output.table.clone(), None)
            }
            (None, None, Some(Edit::Update(_))) => {
                if adapter.config.raw().get("ensure_weight_tying") == Some(&json!(true)) {
                    return Ok(());
                }
                Added::Copy(output.table.clone(), None)
            }
        };
        self.added.retain(|name, _| !OutputLayer::is_output(name));
        self.edits.remove(&output.weight);
        self.is_untied = true;
        self.notes.push(format!(
            "the base model ties `{}` to `{}`, and the adapter changes one of the two alone, so the result has both and tie_word_embeddings = false",
            output.module(),
            output.table
        ));
        self.prefix = naming.prefix_of_adapter().map(str::to_owned);
        self.added.insert(output.weight.clone(), became);
        Ok(())
    }

    /// Takes note of a table of another number of tokens, which config.json has to say.
    ///
    /// # Errors
    /// If the output layer has another number than the table.
    fn follow_vocabulary(
        &mut self,
        output: &OutputLayer,
        base: &BaseCheckpoint,
    ) -> Result<(), ExperimentError> {
        let before = base.file_of(&output.table)?.shape(&output.table)?.to_vec();
        let after = |name: &str| match self.edits.get(name) {
            Some(Edit::Values(tensor)) => Some(tensor.shape.clone()),
            _ => None,
        };
        let added = self.added.iter().find_map(|(name, added)| match added {
            Added::Values(tensor) if OutputLayer::is_output(name) => Some(tensor.shape.clone()),
            _ => None,
        });
        let table = after(&output.table).unwrap_or_else(|| before.clone());
        let has_output = base.contains(&output.weight);
        let weight = added
            .or_else(|| after(&output.weight))
            .or_else(|| has_output.then(|| before.clone()));
        if let Some(weight) = weight.filter(|weight| weight.first() != table.first()) {
            return Err(half_resized(
                &output.table,
                &table,
                output.module(),
                &weight,
            ));
        }
        if let Some(&tokens) = table.first()
            && table != before
        {
            self.vocabulary = Some(tokens);
            self.notes.push(format!(
                "the adapter brings a table of {tokens} tokens, the base model has {}: vocab_size is now {tokens}. The tokenizer files are the base model's; replace them by those that were saved with the adapter",
                before.first().copied().unwrap_or_default()
            ));
        }
        Ok(())
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
                self.added.insert(name.clone(), Added::Values(tensor));
            } else {
                self.added.insert(in_base, Added::Values(tensor));
            }
        }
    }
}

/// A table and an output layer of different numbers of tokens, which no model can have.
fn half_resized(table: &str, rows: &[usize], output: &str, others: &[usize]) -> ExperimentError {
    let problem = format!(
        "`{table}` has shape {rows:?} with the adapter, but `{output}` has {others:?}: the vocabulary was resized, and the adapter holds only one of the two tables. Save the adapter again in PEFT with both in modules_to_save (or with save_embedding_layers=True)"
    );
    BadInput(problem).into()
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
