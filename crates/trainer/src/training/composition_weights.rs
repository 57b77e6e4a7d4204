//! The weights of a composition, for its record and for people.

use std::collections::BTreeMap;
use std::fmt;

use eigenmix_adapter::Source;
use eigenmix_moslora::{Mixer, TrainedValues, Update};
use serde::Serialize;

use crate::TrainerError;

/// What stands for all modules where they share their weights.
const ALL: &str = "*";

/// The weight of every adapter in every module, by the module's path; by `*` where modules share them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct CompositionWeights(BTreeMap<String, BTreeMap<String, f32>>);

impl CompositionWeights {
    /// - values: what was trained
    /// - members: the adapters of the weights of every module, as indices into `sources`
    ///
    /// # Errors
    /// If the weights of a module are not among the values.
    pub(super) fn new(
        updates: &BTreeMap<String, Update>,
        values: &TrainedValues,
        members: &BTreeMap<String, Vec<usize>>,
        sources: &[Source],
    ) -> Result<Self, TrainerError> {
        let mut modules = BTreeMap::new();
        for (path, update) in updates {
            let update = update.clone().with_values(path, values)?;
            let (Mixer::Weighted(mixer), Some(members)) = (&update.mixer, members.get(path)) else {
                continue;
            };
            let weights = mixer.weights.matrix.values().iter();
            let named = members.iter().zip(weights).map(|(adapter, weight)| {
                let location = &sources[*adapter].location;
                (location.clone(), weight * update.scaling)
            });
            let place = if mixer.is_shared { ALL } else { path };
            modules.insert(place.to_owned(), named.collect());
        }
        Ok(Self(modules))
    }

    /// The mean weight of every adapter over the modules that it has, the largest first.
    fn means(&self) -> Vec<(&str, f32)> {
        let mut sums: BTreeMap<&str, (f32, f32)> = BTreeMap::new();
        for (adapter, weight) in self.0.values().flatten() {
            let (sum, count) = sums.entry(adapter).or_default();
            *sum += weight;
            *count += 1.0;
        }
        let means = sums
            .into_iter()
            .map(|(name, (sum, count))| (name, sum / count));
        let mut means: Vec<(&str, f32)> = means.collect();
        means.sort_by(|first, second| second.1.total_cmp(&first.1));
        means
    }
}

impl fmt::Display for CompositionWeights {
    /// `with the weights 0.41 of a, …`, on average over the modules.
    fn fmt(&self, text: &mut fmt::Formatter) -> fmt::Result {
        let means: Vec<String> = self
            .means()
            .into_iter()
            .map(|(name, weight)| format!("{weight:.2} of `{name}`"))
            .collect();
        write!(text, "with the weights {}", means.join(", "))?;
        match self.0.len() > 1 {
            true => write!(text, " on average over {} modules", self.0.len()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eigenmix_adapter::LoraModule;
    use eigenmix_moslora::compose;
    use eigenmix_tensors::Matrix;

    #[test]
    fn weights_are_told_by_adapter_in_units_of_its_update() {
        let member = |phase: f32| {
            let factor =
                |rows, cols| Matrix::from_fn(rows, cols, |row, col| phase + (row + col) as f32);
            LoraModule::new(factor(3, 1), factor(1, 2), 1.0)
        };
        let (first, second) = (member(1.0), member(2.0));
        let updates = BTreeMap::from([
            (
                "a".to_owned(),
                compose(&[(0, &first), (1, &second)], &[0.5, -1.0], false, 4.0, 0.0),
            ),
            (
                "b".to_owned(),
                compose(&[(0, &second)], &[2.0], false, 4.0, 0.0),
            ),
        ]);
        let mut values: TrainedValues = updates
            .iter()
            .flat_map(|(path, update)| update.values(path))
            .collect();
        // What was trained counts, not what it started from.
        let trained = values.get_mut("b/weights").unwrap();
        trained.values[0] *= 1.5;
        let members = BTreeMap::from([("a".to_owned(), vec![0, 1]), ("b".to_owned(), vec![1])]);
        let sources = ["x", "y"].map(|name| Source {
            location: name.to_owned(),
            sha256: String::new(),
        });
        let weights = CompositionWeights::new(&updates, &values, &members, &sources).unwrap();
        let json = serde_json::to_value(&weights).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"a": {"x": 0.5, "y": -1.0}, "b": {"y": 3.0}})
        );
        assert_eq!(
            weights.to_string(),
            "with the weights 1.00 of `y`, 0.50 of `x` on average over 2 modules"
        );
    }
}
