//! An upper bound on the columns of a basis, before it is extracted.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_eigenlorax::{Basis, Subspace};

use super::flattened;
use crate::adapter_place::{AdapterPlace, open_adapter};
use crate::basis_config::GradientJoin;
use crate::{AdapterConfig, TrainerError};

/// How many directions the subspace or the adapters of a configuration can span, by module: on the
/// left and on the right. Empty if they are not available.
#[derive(Debug, Default)]
pub(crate) struct BasisWidth {
    modules: BTreeMap<String, [SideWidth; 2]>,
    /// Of modules whose directions are whole factors, the rank of these.
    ranks: BTreeMap<String, usize>,
}

/// How many directions one side of a module can span.
#[derive(Clone, Copy, Debug, Default)]
struct SideWidth {
    /// How many principal components, of which `components` takes the first.
    principal: usize,
    /// The mean and random directions of a subspace, which are always used.
    beside: usize,
}

impl SideWidth {
    fn of(basis: &Basis) -> Self {
        let principal = basis.principal();
        Self {
            principal,
            beside: basis.columns() - principal,
        }
    }
}

impl BasisWidth {
    /// # Errors
    /// If an available file cannot be read.
    pub(crate) fn new(config: &AdapterConfig) -> Result<Self, TrainerError> {
        if let Some(directory) = &config.subspace {
            let path = Path::new(directory);
            return match path.is_dir() {
                true => Self::of_subspace(config, &Subspace::load(path)?),
                false => Ok(Self::default()),
            };
        }
        let here = |name: &String| AdapterPlace::parse(name).is_ok_and(|place| place.is_here());
        match config.adapters.iter().all(here) {
            true => Self::of_adapters(&config.adapters),
            false => Ok(Self::default()),
        }
    }

    fn of_subspace(config: &AdapterConfig, subspace: &Subspace) -> Result<Self, TrainerError> {
        flattened::check(config, subspace)?;
        let flattened = subspace.modules.iter();
        let ranks = flattened
            .filter_map(|(path, module)| Some((path.clone(), module.flattened?.rank)))
            .collect();
        let columns = subspace.modules.iter().map(|(path, module)| {
            let columns = [&module.left, &module.right].map(SideWidth::of);
            (path.clone(), columns)
        });
        Ok(Self {
            modules: columns.collect(),
            ranks,
        })
    }

    /// Adapters span at most the sum of their ranks.
    fn of_adapters(names: &[String]) -> Result<Self, TrainerError> {
        let mut columns: BTreeMap<String, [SideWidth; 2]> = BTreeMap::new();
        for name in names {
            let file = open_adapter(name)?;
            for path in file.module_paths() {
                let (rank, _, _) = file.shape(path)?;
                let sides = columns.entry(path.to_owned()).or_default();
                sides.iter_mut().for_each(|side| side.principal += rank);
            }
        }
        Ok(Self {
            modules: columns,
            ranks: BTreeMap::new(),
        })
    }

    /// The paths of the modules, as far as they are known.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &str> {
        self.modules.keys().map(String::as_str)
    }

    /// The rank of the factors that the directions of a module are, if its subspace is flattened.
    pub(crate) fn flattened_rank(&self, module: &str) -> Option<usize> {
        self.ranks.get(module).copied()
    }

    /// The columns on one side (0: left, 1: right) of a module of this shape, `[d_out, d_in]`.
    pub(crate) fn columns(
        &self,
        config: &AdapterConfig,
        module: &str,
        side: usize,
        shape: [usize; 2],
    ) -> usize {
        let width = shape[side] * self.flattened_rank(module).unwrap_or(1);
        let most = config.most_components(shape);
        let unknown = SideWidth {
            principal: match config.is_recycling() {
                true => width,
                false => most,
            },
            beside: 0,
        };
        let mut spanned = self
            .modules
            .get(module)
            .map_or(unknown, |sides| sides[side]);
        let gradient = config.gradient_config().filter(|_| config.is_recycling());
        if let Some(gradient) = &gradient
            && !config.is_gradient_whole()
            && gradient.join() != GradientJoin::Rotate
        {
            spanned.principal += gradient.options().rank.get();
        }
        // Of a subspace, random directions are among those beside.
        let columns = (spanned.principal.min(most) + spanned.beside + config.augment).min(width);
        match gradient.filter(|_| config.is_gradient_whole()) {
            Some(gradient) => columns.min(gradient.options().rank.get()),
            None => columns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eigenmix_adapter::LoadedAdapter;
    use eigenmix_eigenlorax::{Components, ExtractOptions, extract};

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
            let module = width.modules.keys().next().cloned().unwrap_or_default();
            width.columns(config, &module, 0, [64; 2])
        };
        let two = [quickstart("gym"), quickstart("library")];
        assert_eq!(columns(&config(&two, "components = \"all\"")), 8);
        assert_eq!(columns(&config(&two, "components = 5")), 5);
        assert_eq!(columns(&config(&two, "components = 12\naugment = 3")), 11);
        let far = ["org/far".to_owned()];
        assert_eq!(columns(&config(&far, "components = \"all\"")), 64);
        assert_eq!(columns(&config(&far, "components = 12")), 12);
    }

    #[test]
    fn the_mean_and_random_directions_of_a_subspace_are_beside_its_components() {
        let directory = tempfile::tempdir().unwrap();
        let saved = directory.path().join("subspace");
        let adapters = ["gym", "library"].map(|name| {
            let file = open_adapter(&quickstart(name)).unwrap();
            LoadedAdapter::read(&file).unwrap()
        });
        let options = ExtractOptions {
            center: true,
            augment: 2,
            ..ExtractOptions::new(Components::Count(5))
        };
        let extraction = extract(&adapters, &options, &|_, _| {}).unwrap();
        extraction.subspace.save(&saved, false).unwrap();
        let module = extraction.subspace.modules.keys().next().unwrap();
        let columns = |more: &str| {
            let saved = saved.display().to_string();
            let file = format!("method = \"eigenmix\"\nrank = 4\nsubspace = {saved:?}\n{more}");
            let config: AdapterConfig = toml::from_str(&file).unwrap();
            let width = BasisWidth::new(&config).unwrap();
            width.columns(&config, module, 0, [64; 2])
        };
        assert_eq!(columns(""), 5 + 1 + 2);
        assert_eq!(columns("components = 3"), 3 + 1 + 2);
        assert_eq!(columns("components = 9"), 5 + 1 + 2);
    }
}
