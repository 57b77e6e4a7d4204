//! What an adapter makes of a table of tokens and of the output layer over them, which may be tied.
//!
//! PEFT wraps the two modules one by one around the tensor that they share: what it loads into that
//! tensor reaches both, and what it puts beside it, a copy in `modules_to_save` or an update, reaches
//! one, unless `ensure_weight_tying` gives it to the other as well.

use eigenmix_adapter::{
    Adapter, LoraModule, RowProblem, TokenRows, dora_weight, is_output_layer, table_of_rows,
};
use eigenmix_tensors::{HostTensor, Matrix};

/// A table or an output layer, `[tokens, width]`: what it starts from, and what is on top.
#[derive(Clone, Copy, Default)]
pub struct Trained<'a> {
    /// `None` is the base model's tensor.
    pub start: Option<&'a HostTensor>,
    /// Those that take the places of rows of it.
    pub rows: Option<TokenRows<'a>>,
    pub update: Option<&'a LoraModule>,
}

impl Trained<'_> {
    /// Whether it is as in the base model.
    pub fn is_unchanged(&self) -> bool {
        self.start.is_none() && self.rows.is_none() && self.update.is_none()
    }

    /// Its values, `[tokens, width]`.
    ///
    /// - width: of the base model's tensor
    /// - stored: reads the values of that
    ///
    /// # Errors
    /// If a row has no place in it, or it cannot be read.
    ///
    /// # Panics
    /// If the update has another shape.
    pub fn values<E: From<RowProblem>>(
        &self,
        width: usize,
        stored: impl FnOnce() -> Result<Vec<f32>, E>,
    ) -> Result<Vec<f32>, E> {
        let mut values = match self.start {
            Some(start) => start.values.clone(),
            None => stored()?,
        };
        if let Some(rows) = self.rows {
            rows.place(&mut values, width)?;
        }
        Ok(match self.update {
            Some(update) => updated(values, update),
            None => values,
        })
    }
}

/// W₀ + ΔW, and what a DoRA magnitude makes of it.
///
/// - weight: W₀ `[d_out, d_in]`, row-major
///
/// # Panics
/// If it has another number of values than ΔW.
pub fn updated(mut weight: Vec<f32>, module: &LoraModule) -> Vec<f32> {
    let update = module.update();
    assert_eq!(
        weight.len(),
        update.values().len(),
        "a weight as large as ΔW"
    );
    let pairs = weight.iter_mut().zip(update.values());
    pairs.for_each(|(value, change)| *value += change);
    match &module.magnitude {
        Some(magnitude) => {
            let sum = Matrix::new(module.d_out(), module.d_in(), weight);
            dora_weight(&sum, magnitude).into_values()
        }
        None => weight,
    }
}

/// Both of them.
#[derive(Clone, Copy, Default)]
pub struct TrainedTables<'a> {
    pub table: Trained<'a>,
    pub output: Trained<'a>,
}

impl<'a> TrainedTables<'a> {
    /// - is_table: whether a tensor is the base model's table
    /// - is_tied: whether its output layer is the table too
    pub fn of(adapter: &'a Adapter, is_table: &dyn Fn(&str) -> bool, is_tied: bool) -> Self {
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
        let is_path = |path: &str| is_table(&format!("{path}.weight"));
        let (of_table, of_output) = (saved(is_table), saved(&is_output_weight));
        if !is_tied {
            return Self {
                table: Trained {
                    start: of_table.map(|(tensor, _)| tensor),
                    rows: rows(&is_path),
                    update: update(&is_path),
                },
                output: Trained {
                    start: of_output.map(|(tensor, _)| tensor),
                    rows: rows(&is_output_layer),
                    update: update(&is_output_layer),
                },
            };
        }
        let ties = adapter.config.ensures_weight_tying();
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
    pub fn are_unchanged(&self) -> bool {
        self.table.is_unchanged() && self.output.is_unchanged()
    }

    /// Whether they are still one tensor.
    pub fn are_equal(&self) -> bool {
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
pub fn is_output_weight(name: &str) -> bool {
    name.ends_with(".weight") && is_output_layer(name)
}

/// Whether `modules_to_save` names the module of a tensor, so that PEFT trained a copy of it.
fn is_asked(adapter: &Adapter, name: &str) -> bool {
    let module = name.trim_end_matches(".weight");
    let last = module.rsplit('.').next();
    let mut saved = adapter.config.modules_to_save().iter();
    saved.any(|saved| module.ends_with(saved.as_str()) || saved.rsplit('.').next() == last)
}
