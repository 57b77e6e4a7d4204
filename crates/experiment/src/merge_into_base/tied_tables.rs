//! What an adapter makes of a table of tokens and of the output layer that is tied to it.
//!
//! PEFT wraps the two modules one by one around the tensor that they share: what it loads into that
//! tensor reaches both, and what it puts beside it, a copy in `modules_to_save` or an update, reaches
//! one, unless `ensure_weight_tying` gives it to the other as well.

use eigenmix_adapter::{Adapter, LoraModule, TokenRows, is_output_layer, table_of_rows};
use eigenmix_tensors::{FileError, HostTensor};

use super::merged_weight::{Orientation, merged_weight};
use super::module_names::Naming;
use crate::{BadInput, ExperimentError};

/// A tensor of the result: what it starts from, and what is on top.
#[derive(Clone, Copy, Default)]
pub(super) struct Trained<'a> {
    /// `None` is the base model's table.
    pub(super) start: Option<&'a HostTensor>,
    /// Those that take the places of rows of it.
    pub(super) rows: Option<TokenRows<'a>>,
    pub(super) update: Option<&'a LoraModule>,
}

impl Trained<'_> {
    /// The values of the result.
    ///
    /// - width: of the table
    /// - table: the values of the base model's table
    ///
    /// # Errors
    /// If a row has no place in the table, or the table cannot be read.
    pub(super) fn values(
        &self,
        width: usize,
        table: impl FnOnce() -> Result<Vec<f32>, FileError>,
        orientation: Orientation,
    ) -> Result<Vec<f32>, ExperimentError> {
        let mut values = match self.start {
            Some(start) => start.values.clone(),
            None => table()?,
        };
        if let Some(rows) = self.rows {
            let placed = rows.place(&mut values, width);
            placed.map_err(|problem| BadInput(problem.to_string()))?;
        }
        Ok(match self.update {
            Some(update) => merged_weight(values, update, orientation),
            None => values,
        })
    }
}

/// Both of them.
pub(super) struct TiedTables<'a> {
    pub(super) table: Trained<'a>,
    pub(super) output: Trained<'a>,
}

impl<'a> TiedTables<'a> {
    /// - table: its tensor in the base model
    pub(super) fn of(adapter: &'a Adapter, naming: &Naming, table: &str) -> Self {
        let ties = adapter.config.ensures_weight_tying();
        let saved = |wanted: &dyn Fn(&str) -> bool| {
            let found = adapter.heads.iter().find(|(name, _)| wanted(name));
            found.map(|(name, tensor)| (tensor, is_asked(adapter, name)))
        };
        let update = |wanted: &dyn Fn(&str) -> bool| {
            let found = adapter.modules.iter().find(|(path, _)| wanted(path));
            found.map(|(_, module)| module)
        };
        let rows = |wanted: &dyn Fn(&str) -> bool| {
            let mut modules = adapter.heads.keys().filter_map(|name| table_of_rows(name));
            modules
                .find(|path| wanted(path))
                .and_then(|path| adapter.token_rows(path))
        };
        let is_table = |name: &str| naming.in_base(name) == table;
        let is_path = |path: &str| is_table(&format!("{path}.weight"));
        let (of_table, of_output) = (saved(&is_table), saved(&is_output_weight));
        // What was saved unasked is the shared tensor itself.
        let shared = [of_table, of_output]
            .into_iter()
            .flatten()
            .find_map(|(tensor, asked)| (!asked).then_some(tensor));
        let table = Trained {
            start: of_table.map(|(tensor, _)| tensor).or(shared),
            rows: rows(&is_path),
            update: update(&is_path),
        };
        let mut output = Trained {
            // PEFT ties the rows of the output layer to those of the table, unless it has its own.
            rows: rows(&is_output_layer).or(match of_output {
                Some((_, true)) => None,
                _ => table.rows,
            }),
            start: of_output.map(|(tensor, _)| tensor).or(shared),
            update: update(&is_output_layer),
        };
        if ties && of_output.is_none() {
            output.start = table.start;
        }
        if ties && output.update.is_none() {
            output.update = table.update;
        }
        Self { table, output }
    }

    /// Whether neither is other than in the base model.
    pub(super) fn are_unchanged(&self) -> bool {
        let is_unchanged =
            |one: Trained<'_>| one.start.is_none() && one.rows.is_none() && one.update.is_none();
        is_unchanged(self.table) && is_unchanged(self.output)
    }

    /// Whether they are still one tensor.
    pub(super) fn are_equal(&self) -> bool {
        let updates_are_equal = match (self.table.update, self.output.update) {
            (None, None) => true,
            // The kind of layer is another, an embedding and a linear one.
            (Some(table), Some(output)) => {
                let table = LoraModule {
                    layer: output.layer.clone(),
                    ..table.clone()
                };
                table == *output
            }
            _ => false,
        };
        updates_are_equal
            && self.table.rows == self.output.rows
            && self.table.start == self.output.start
    }
}

/// Whether a tensor is the weight of an output layer over tokens.
pub(super) fn is_output_weight(name: &str) -> bool {
    name.ends_with(".weight") && is_output_layer(name)
}

/// Whether `modules_to_save` names the module of a tensor, so that PEFT trained a copy of it.
fn is_asked(adapter: &Adapter, name: &str) -> bool {
    let module = name.trim_end_matches(".weight");
    let last = module.rsplit('.').next();
    let mut saved = adapter.config.modules_to_save().iter();
    saved.any(|saved| saved.rsplit('.').next() == last)
}
