//! How many columns a basis will have, as far as that can be known before it is made.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::AdapterFile;
use eigenmix_eigenlorax::Subspace;
use eigenmix_hub::Location;

use crate::{AdapterConfig, TrainerError};

/// What the subspace or the adapters that a configuration names can span, by module: columns on the
/// left and on the right. Nothing where they are not at hand.
#[derive(Debug, Default)]
pub(crate) struct BasisWidth(BTreeMap<String, [usize; 2]>);

impl BasisWidth {
    /// # Errors
    /// If what is at hand cannot be read.
    pub(crate) fn new(config: &AdapterConfig) -> Result<Self, TrainerError> {
        if let Some(directory) = &config.subspace {
            let path = Path::new(directory);
            return match path.is_dir() {
                true => Ok(Self::of_subspace(&Subspace::load(path)?)),
                false => Ok(Self::default()),
            };
        }
        let here = |name: &String| matches!(Location::parse(name), Ok(Location::Path(_)));
        match config.adapters.iter().all(here) {
            true => Self::of_adapters(&config.adapters),
            false => Ok(Self::default()),
        }
    }

    fn of_subspace(subspace: &Subspace) -> Self {
        let columns = subspace.modules.iter().map(|(path, module)| {
            let columns = [module.left.columns(), module.right.columns()];
            (path.clone(), columns)
        });
        Self(columns.collect())
    }

    /// Adapters span at most the sum of their ranks.
    fn of_adapters(names: &[String]) -> Result<Self, TrainerError> {
        let mut columns: BTreeMap<String, [usize; 2]> = BTreeMap::new();
        for name in names {
            let file = AdapterFile::open_argument(name)?;
            for path in file.module_paths() {
                let (rank, _, _) = file.shape(path)?;
                let sides = columns.entry(path.to_owned()).or_default();
                sides.iter_mut().for_each(|side| *side += rank);
            }
        }
        Ok(Self(columns))
    }

    /// The columns on one side (0: left, 1: right) of a module of this width.
    pub(crate) fn columns(
        &self,
        config: &AdapterConfig,
        module: &str,
        side: usize,
        width: usize,
    ) -> usize {
        let spanned = self.0.get(module).map_or(width, |sides| sides[side]);
        let asked = config.components.unwrap_or(spanned);
        // A subspace has its random directions already.
        (spanned.min(asked) + config.augment).min(width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quickstart(name: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/quickstart");
        folder.join("adapters").join(name).display().to_string()
    }

    #[test]
    fn adapters_at_hand_span_the_sum_of_their_ranks_and_unknown_ones_everything() {
        let config = |adapters: &[String], more: &str| -> AdapterConfig {
            let file = format!("method = \"eigenmix\"\nrank = 4\nadapters = {adapters:?}\n{more}");
            toml::from_str(&file).unwrap()
        };
        let columns = |config: &AdapterConfig| {
            let width = BasisWidth::new(config).unwrap();
            let module = width.0.keys().next().cloned().unwrap_or_default();
            width.columns(config, &module, 0, 64)
        };
        let two = [quickstart("gym"), quickstart("library")];
        assert_eq!(columns(&config(&two, "")), 8);
        assert_eq!(columns(&config(&two, "components = 5")), 5);
        assert_eq!(columns(&config(&two, "components = 12\naugment = 3")), 11);
        let far = ["org/far".to_owned()];
        assert_eq!(columns(&config(&far, "")), 64);
        assert_eq!(columns(&config(&far, "components = 12")), 12);
    }
}
