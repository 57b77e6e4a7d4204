//! The table of tokens and the output layer of a model that runs with an adapter on top: with the
//! adapter's rows, of its number of tokens, and as two tensors where they are no longer one.

use std::collections::{BTreeMap, BTreeSet};

use eigenmix_adapter::{Adapter, table_of_rows};
use eigenmix_tensors::HostTensor;

use crate::trained_tables::{Trained, TrainedTables, is_output_weight};
use crate::{Architecture, Checkpoint, HeadKind, ModelError};

/// The name of a decoder's output layer.
const OUTPUT: &str = "lm_head";

/// What an adapter makes of the two.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdaptedTables {
    /// Those that are not the base model's, by name there.
    pub(crate) tensors: BTreeMap<String, HostTensor>,
    /// What of the adapter is in them: the names of heads, the paths of modules.
    pub(crate) names: BTreeSet<String>,
    pub(crate) paths: BTreeSet<String>,
    /// The number of tokens, if it is another than the base model's.
    pub vocabulary: Option<usize>,
    /// Whether the two are one tensor in the base model, and two with the adapter.
    pub part: bool,
}

impl AdaptedTables {
    /// Works them out, reading of the base model only what the adapter changes.
    ///
    /// # Errors
    /// If the adapter holds the two for different numbers of tokens or in another width than the base
    /// model's, or rows for tokens that they don't have.
    pub fn of(
        adapter: &Adapter,
        architecture: &Architecture,
        head: HeadKind,
        checkpoint: &Checkpoint,
    ) -> Result<Self, ModelError> {
        let mut adapted = Self::default();
        let prefix = architecture.prefix();
        let Some(table) = architecture
            .token_table()
            .map(|path| format!("{path}.weight"))
        else {
            return Ok(adapted);
        };
        let bare = table
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix('.'));
        let is_table = |name: &str| name == table || Some(name) == bare;
        let has_output = head == HeadKind::LanguageModel;
        let is_tied = has_output && architecture.ties_output();
        let trained = TrainedTables::of(adapter, &is_table, is_tied);
        if trained.table.is_unchanged() && (trained.output.is_unchanged() || !has_output) {
            return Ok(adapted);
        }

        let output = format!("{OUTPUT}.weight");
        let below_output = if is_tied { &table } else { &output };
        let source = Source { checkpoint, prefix };
        let of_table = source.shape(&table, trained.table)?;
        let mut take = |is_taken: &dyn Fn(&str) -> bool, with_update: bool| {
            let of_rows = |name: &str| {
                let path = table_of_rows(name)?;
                Some(is_taken(&format!("{path}.weight")))
            };
            let names = adapter.heads.keys();
            let names = names.filter(|name| of_rows(name).unwrap_or_else(|| is_taken(name)));
            adapted.names.extend(names.cloned());
            let paths = adapter.modules.keys().filter(|_| with_update);
            let paths = paths.filter(|path| is_taken(&format!("{path}.weight")));
            adapted.paths.extend(paths.cloned());
        };
        take(&is_table, true);
        if has_output {
            // The update of an output layer of its own stays one of low rank.
            take(&is_output_weight, is_tied);
            let of_output = source.shape(below_output, trained.output)?;
            if of_output != of_table {
                return Err(ModelError::HalfResized {
                    table,
                    rows: of_table[0],
                    output: OUTPUT,
                    others: of_output[0],
                });
            }
        }
        if !trained.table.is_unchanged() {
            let values = source.values(&table, trained.table)?;
            let tensor = HostTensor::new(of_table, values);
            adapted.tensors.insert(table.clone(), tensor);
        }
        adapted.part = is_tied && !trained.are_equal();
        if has_output && (adapted.part || !is_tied) {
            let of_output = Trained {
                update: trained.output.update.filter(|_| is_tied),
                ..trained.output
            };
            if adapted.part || !of_output.is_unchanged() {
                let values = source.values(below_output, of_output)?;
                let tensor = HostTensor::new(of_table, values);
                adapted.tensors.insert(output, tensor);
            }
        }
        let tokens = of_table[0];
        adapted.vocabulary = (architecture.vocab_size() != Some(tokens)).then_some(tokens);
        Ok(adapted)
    }
}

/// The base model.
struct Source<'a> {
    checkpoint: &'a Checkpoint,
    prefix: &'static str,
}

impl Source<'_> {
    /// The shape `[tokens, width]` of the base model's tensor.
    fn stored<'n>(&self, name: &'n str) -> Result<(&'n str, [usize; 2]), ModelError> {
        let missing = || ModelError::MissingTensor {
            name: name.to_owned(),
        };
        let found = self
            .checkpoint
            .find(name, self.prefix)
            .ok_or_else(missing)?;
        let shape = self.checkpoint.shape(found).ok_or_else(missing)?;
        let shape = <[usize; 2]>::try_from(shape).map_err(|_| missing())?;
        Ok((found, shape))
    }

    /// The shape of what the adapter makes of it.
    fn shape(&self, name: &str, trained: Trained<'_>) -> Result<[usize; 2], ModelError> {
        let (_, [tokens, width]) = self.stored(name)?;
        let mut shape = [tokens, width];
        if let Some(start) = trained.start {
            let other = |found: &[usize]| ModelError::WholeShape {
                name: name.to_owned(),
                expected: vec![tokens, width],
                found: found.to_vec(),
            };
            shape = <[usize; 2]>::try_from(&start.shape[..]).map_err(|_| other(&start.shape))?;
            if shape[1] != width || shape[0] == 0 {
                return Err(other(&start.shape));
            }
        }
        let update = trained.update;
        if let Some(found) = update.map(|update| [update.d_out(), update.d_in()])
            && found != shape
        {
            return Err(ModelError::UpdateShape {
                module: name.trim_end_matches(".weight").to_owned(),
                expected: shape,
                found,
            });
        }
        Ok(shape)
    }

    fn values(&self, name: &str, trained: Trained<'_>) -> Result<Vec<f32>, ModelError> {
        let (found, shape) = self.stored(name)?;
        trained.values(shape[1], || self.checkpoint.read(found, &shape))
    }
}
