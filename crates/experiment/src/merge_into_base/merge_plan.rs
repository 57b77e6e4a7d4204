//! Which tensors of a base model an adapter changes, checked before any of them is computed.

use eigenmix_tensors::HostTensor;
use std::collections::{BTreeMap, BTreeSet};

use eigenmix_adapter::{Adapter, LoraModule, is_output_layer, table_of_rows};
use eigenmix_models::{Trained, TrainedTables, is_output_weight};
use safetensors::Dtype;

use super::base_checkpoint::BaseCheckpoint;
use super::merged_weight::Orientation;
use super::module_names::Naming;
use super::output_layer::OutputLayer;
use crate::BadInput;
use crate::ExperimentError;

/// Everything that changes.
pub(super) struct MergePlan<'a> {
    /// By name in the base model.
    pub(super) edits: BTreeMap<String, Edit<'a>>,
    /// By name in the result: what the base model does not have.
    pub(super) added: BTreeMap<String, Added<'a>>,
    /// By name in the base model: what the result is without.
    pub(super) dropped: BTreeSet<String>,
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
    /// The output layer that was tied to the base model's `table`, in its dtype.
    OfTable {
        table: String,
        trained: Trained<'a>,
        dtype: Dtype,
    },
}

/// What becomes of a tensor.
pub(super) enum Edit<'a> {
    /// W₀ + ΔW, and what DoRA makes of it.
    Update(&'a LoraModule),
    /// A table of tokens of which rows are trained, or an update of one that the adapter brings along,
    /// perhaps for more tokens.
    Table(Trained<'a>),
    /// Other values, perhaps of another shape.
    Values(HostTensor),
}

impl<'a> Edit<'a> {
    /// What becomes of a table; nothing if it stays as it is.
    fn of(trained: Trained<'a>) -> Option<Self> {
        Some(match (trained.start, trained.rows, trained.update) {
            (None, None, None) => return None,
            (Some(start), None, None) => Self::Values(start.clone()),
            _ => Self::Table(trained),
        })
    }
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
        let output = OutputLayer::of(base, adapter)?;
        // A tied output layer has no weight of its own that could be looked for.
        let is_tied_output = |path: &str| {
            is_output_layer(path) && output.as_ref().is_some_and(|output| output.is_tied)
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
            dropped: BTreeSet::new(),
            is_untied: false,
            vocabulary: None,
            notes: Vec::new(),
            prefix: None,
            orientation: Orientation::of(adapter.config.fan_in_fan_out(), base.model_type()),
            dtype: Dtype::F32,
        };
        for (path, module) in &adapter.modules {
            if !is_tied_output(path) {
                let below = adapter.heads.get(&format!("{path}.weight"));
                plan.add_update(&naming.in_base(path), module, below, base)?;
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
        plan.add_heads(adapter, &naming, base, &is_tied_output)?;
        if let Some(output) = output {
            if let Some(note) = output.tables.note() {
                plan.is_untied = true;
                plan.notes.push(note);
            }
            if output.is_tied {
                plan.add_tied_output(adapter, &naming, &output, base)?;
            }
            plan.follow_vocabulary(&output, base)?;
        }
        Ok(plan)
    }

    /// The table and the output layer of a base model in which they are one tensor: as PEFT has it,
    /// what is trained of one of the two leaves the other as it was, so that they part.
    ///
    /// # Errors
    /// If the adapter resized one of the two, or an update has another shape than what is below it.
    fn add_tied_output(
        &mut self,
        adapter: &'a Adapter,
        naming: &Naming,
        output: &OutputLayer,
        base: &BaseCheckpoint,
    ) -> Result<(), ExperimentError> {
        let (table, weight) = (&output.tables.table, &output.tables.output);
        let is_table = |name: &str| naming.in_base(name) == *table;
        let tied = TrainedTables::of(adapter, &is_table, true);
        if tied.are_unchanged() {
            return Ok(());
        }
        let (before, dtype) = base.tensor(table)?;
        let shape_of = |one: Trained<'_>| match one.start {
            Some(start) => start.shape.clone(),
            None => before.to_vec(),
        };
        let of_table = shape_of(tied.table);
        for (name, one) in [(table.as_str(), tied.table), (output.module(), tied.output)] {
            let update = one.update.map(|update| vec![update.d_out(), update.d_in()]);
            for found in [Some(shape_of(one)), update].into_iter().flatten() {
                if found != of_table {
                    return Err(half_resized(table, &of_table, name, &found));
                }
            }
        }
        self.edits.remove(weight);
        self.edits.remove(table);
        self.added.retain(|name, _| !is_output_weight(name));
        // A copy of what was one tensor.
        if output.tables.has_output {
            self.dropped.insert(weight.clone());
        }
        if let Some(edit) = Edit::of(tied.table) {
            self.edits.insert(table.clone(), edit);
        }
        if tied.are_equal() {
            return Ok(());
        }
        self.is_untied = true;
        self.notes.push(format!(
            "the base model ties `{}` to `{table}`, and with the adapter the two differ, so the result has both and tie_word_embeddings = false",
            output.module()
        ));
        self.prefix = naming.prefix_of_adapter().map(str::to_owned);
        let added = Added::OfTable {
            table: table.clone(),
            trained: tied.output,
            dtype,
        };
        self.added.insert(weight.clone(), added);
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
        let (table, weight) = (&output.tables.table, &output.tables.output);
        let (before, _) = base.tensor(table)?;
        let tokens = self.shape_of(table, base).unwrap_or_else(|| before.clone());
        let added = self.added.iter().find_map(|(name, added)| match added {
            Added::Values(tensor) if is_output_weight(name) => Some(tensor.shape.clone()),
            _ => None,
        });
        let others = added.or_else(|| self.shape_of(weight, base));
        if let Some(others) = others.filter(|others| others.first() != tokens.first()) {
            if !output.is_unused {
                return Err(half_resized(table, &tokens, output.module(), &others));
            }
            self.edits.remove(weight);
            self.dropped.insert(weight.clone());
            self.notes.push(format!(
                "`{weight}` has another number of tokens than the adapter's table, and a classifier has no output layer over tokens, so the result leaves it out"
            ));
        }
        if let Some(&now) = tokens.first()
            && tokens != before
        {
            self.vocabulary = Some(now);
            self.notes.push(format!(
                "the adapter brings a table of {now} tokens, the base model has {}: vocab_size is now {now}. The tokenizer files are the base model's; replace them by those that were saved with the adapter",
                before.first().copied().unwrap_or_default()
            ));
        }
        Ok(())
    }

    /// The shape in the result of a tensor of the base model, if it stays.
    fn shape_of(&self, name: &str, base: &BaseCheckpoint) -> Option<Vec<usize>> {
        match self.edits.get(name) {
            Some(Edit::Values(tensor)) => Some(tensor.shape.clone()),
            Some(Edit::Table(Trained {
                start: Some(start), ..
            })) => Some(start.shape.clone()),
            _ if self.dropped.contains(name) => None,
            _ => Some(base.tensor(name).ok()?.0),
        }
    }

    /// Whether a tensor of the base model is in the result as it is.
    pub(super) fn keeps(&self, name: &str) -> bool {
        !self.edits.contains_key(name)
            && !self.dropped.contains(name)
            && !self.added.contains_key(&self.name_in_result(name))
    }

    /// The name in the result of a tensor of the base model.
    pub(super) fn name_in_result(&self, name: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}.{name}"),
            None => name.to_owned(),
        }
    }

    /// - below: W₀, if the adapter brings it along
    fn add_update(
        &mut self,
        path: &str,
        module: &'a LoraModule,
        below: Option<&'a HostTensor>,
        base: &BaseCheckpoint,
    ) -> Result<(), ExperimentError> {
        let name = format!("{path}.weight");
        // An output layer is never stored transposed, even in models whose other layers are.
        let is_output = is_output_layer(path);
        let shape = match is_output {
            true => vec![module.d_out(), module.d_in()],
            false => self.orientation.shape(module),
        };
        let Some(below) = below else {
            self.dtype = require_shape(&name, &shape, base)?;
            let update = Trained {
                update: Some(module),
                ..Trained::default()
            };
            let edit = match is_output {
                true => Edit::Table(update),
                false => Edit::Update(module),
            };
            self.edits.insert(name, edit);
            return Ok(());
        };
        if below.shape != shape {
            return Err(half_resized(&name, &below.shape, "its update", &shape));
        }
        (_, self.dtype) = base.tensor(&name)?;
        let trained = Trained {
            start: Some(below),
            rows: None,
            update: Some(module),
        };
        self.edits.insert(name, Edit::Table(trained));
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
            _ => base.read(&name)?,
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
    ///
    /// # Errors
    /// If the base model lacks a table of which there are rows.
    fn add_heads(
        &mut self,
        adapter: &'a Adapter,
        naming: &Naming,
        base: &BaseCheckpoint,
        is_tied_output: &dyn Fn(&str) -> bool,
    ) -> Result<(), ExperimentError> {
        if adapter.heads.is_empty() {
            return Ok(());
        }
        // A head stands beside the model that it reads, so that model needs a name of its own.
        self.prefix = naming.prefix_of_adapter().map(str::to_owned);
        for (name, tensor) in &adapter.heads {
            if let Some(module) = table_of_rows(name) {
                let weight = format!("{module}.weight");
                let trained = Trained {
                    start: adapter.heads.get(&weight),
                    rows: adapter.token_rows(module),
                    update: None,
                };
                let in_base = naming.in_base(&weight);
                // A tied output layer has no tensor, and is worked out with the table.
                if base.contains(&in_base) {
                    self.edits.insert(in_base, Edit::Table(trained));
                } else if !is_tied_output(module) {
                    base.tensor(&in_base)?;
                }
                continue;
            }
            let in_base = naming.in_base(name);
            if matches!(self.edits.get(&in_base), Some(Edit::Table(..))) {
                continue;
            }
            if base.contains(&in_base) {
                self.edits.insert(in_base, Edit::Values(tensor.clone()));
            } else if self.prefix.is_some() {
                self.added.insert(name.clone(), Added::Values(tensor));
            } else {
                self.added.insert(in_base, Added::Values(tensor));
            }
        }
        Ok(())
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
    let (found, dtype) = base.tensor(name)?;
    if found == expected {
        return Ok(dtype);
    }
    let problem = format!(
        "`{name}` has shape {found:?} in the base model `{}`, but {expected:?} for the adapter; is it an adapter of another base model?",
        base.path().display()
    );
    Err(BadInput(problem).into())
}
