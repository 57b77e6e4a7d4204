//! Where the basis of a training comes from: adapters, a subspace, the task's gradient, the weights, or
//! nothing at all.

use std::path::Path;

use eigenmix_adapter::{Adapter, AdapterFile, LoadedAdapter, Source};
use eigenmix_eigenlorax::decomposition::DecompositionError;
use eigenmix_eigenlorax::{
    Components, EigenloraxError, ExtractOptions, ModuleSubspace, Subspace, extract,
};
use eigenmix_models::{Description, LinearLayer};
use rayon::prelude::*;

use super::flattened;
use super::target_layers::targeted;
use super::whole_modules::whole_modules_note;
use crate::TrainerError;
use crate::adapted_model::AdaptedModel;
use crate::adapter_config::AdapterConfig;
use crate::adapter_place::locate_adapter;
use crate::basis_config::{BasisKind, GradientJoin};
use crate::component_count::ComponentCount;
use crate::gguf_rows::with_rows_in_order;

/// What a basis is made for and from.
pub(crate) struct BasisSource<'a> {
    pub config: &'a AdapterConfig,
    pub base: &'a dyn AdaptedModel,
    pub description: &'a Description,
    pub seed: u64,
    /// −G as an adapter. Where the configuration asks for one and there is none yet, the basis has the
    /// modules and the sizes that it will have, but not the gradient's directions.
    pub gradient: Option<&'a Adapter>,
    /// The composition to start from. Where the configuration asks for one and there is none yet, the
    /// updates start at zero.
    pub composition: Option<&'a Adapter>,
}

/// A basis, and the adapters that it was just extracted from, if it was.
pub(super) struct MadeBasis {
    pub subspace: Subspace,
    pub adapters: Vec<LoadedAdapter>,
    /// The files that it comes from, the gradient's excepted.
    pub files: Vec<Source>,
}

impl BasisSource<'_> {
    /// # Errors
    /// If an adapter, the subspace or a weight cannot be read, or the adapters do not belong together.
    pub(super) fn make(&self, notes: &mut Vec<String>) -> Result<MadeBasis, TrainerError> {
        let mut made = match self.config.is_recycling() {
            true => self.recycled(notes)?,
            false => MadeBasis {
                subspace: self.anew()?,
                adapters: Vec::new(),
                files: Vec::new(),
            },
        };
        let adapters = made.subspace.sources.len();
        let replace = |(path, module): (&String, &mut ModuleSubspace)| {
            // What the base model does not have is left out by whoever uses the basis.
            let layer = self.description.layer(path);
            let Some(layer) = layer.filter(|layer| module.shape() == [layer.d_out, layer.d_in])
            else {
                return Ok(None);
            };
            let asked = self.config.most_components(module.shape());
            let asked = module.left.columns().min(asked);
            *module = self
                .replaced(layer, module, adapters)
                .map_err(|error| match error {
                    Failed::Decomposition(source) => EigenloraxError::Decomposition {
                        module: path.clone(),
                        source,
                    }
                    .into(),
                    Failed::Weight(error) => error,
                })?;
            let found = module.left.columns();
            Ok::<_, TrainerError>((found < asked).then(|| (path.clone(), found)))
        };
        let modules = made.subspace.modules.par_iter_mut();
        let short: Vec<_> = modules.map(replace).collect::<Result<_, _>>()?;
        if let Some((path, found)) = short.into_iter().flatten().next() {
            notes.push(format!(
                "the basis has fewer directions than asked for: {found} in module `{path}`"
            ));
        }
        Ok(made)
    }

    /// What to say of what adapters bring beside their updates.
    pub(super) fn whole_modules_note(&self, adapters: &[LoadedAdapter]) -> Option<String> {
        let adapters = adapters.iter().map(|one| {
            let names = one.adapter.heads.keys().map(String::as_str);
            (one.source.location.as_str(), names)
        });
        whole_modules_note(self.base.as_base_model()?, self.description, adapters)
    }

    /// What the configuration puts in the place of a module's basis.
    fn replaced(
        &self,
        layer: &LinearLayer,
        module: &ModuleSubspace,
        adapters: usize,
    ) -> Result<ModuleSubspace, Failed> {
        let config = self.config;
        let asked = config.most_components([layer.d_out, layer.d_in]);
        let columns = [&module.left, &module.right].map(|side| {
            let beside = side.columns() - side.principal();
            side.principal().min(asked) + beside
        });
        let gradient = self
            .gradient
            .and_then(|found| found.modules.get(&layer.path));
        Ok(match (config.basis, gradient) {
            (BasisKind::Random, _) => module.random_instead(&layer.path, columns, self.seed),
            (BasisKind::Weights, _) => {
                let weight = self.base.layer_weight(layer).map_err(Failed::Weight)?;
                ModuleSubspace::of_weight(&layer.path, &weight, columns, self.seed)?
            }
            (_, None) => module.with_components(asked),
            (_, Some(gradient)) if config.is_gradient_whole() => {
                ModuleSubspace::of_update(gradient, columns[0].max(columns[1]))?
            }
            (_, Some(gradient)) => {
                let options = config.gradient_config().unwrap_or_default();
                let both = || module.left.principal().min(module.right.principal());
                match options.join() {
                    // Without its number of examples, for its size alone.
                    GradientJoin::Weight | GradientJoin::Auto => {
                        let count = Components::Count(asked);
                        module.joined(gradient, adapters, options.weight(), count)?
                    }
                    GradientJoin::Rotate => module.rotated(gradient, asked)?,
                    GradientJoin::Augment => {
                        let half = both().min(asked.div_ceil(2));
                        module.augmented(gradient, asked, asked - half)?
                    }
                }
            }
        })
    }

    /// The subspace that other adapters share: in the number of components that is asked for, or whole
    /// where the gradient chooses among them.
    fn recycled(&self, notes: &mut Vec<String>) -> Result<MadeBasis, TrainerError> {
        let config = self.config;
        if let Some(directory) = &config.subspace {
            let path = Path::new(directory);
            let file = Source {
                location: directory.clone(),
                sha256: Subspace::sha256(path)?,
            };
            let subspace = Subspace::load(path)?;
            flattened::check(config, &subspace)?;
            return Ok(MadeBasis {
                subspace,
                adapters: Vec::new(),
                files: vec![file],
            });
        }
        let names = config.adapters.iter();
        let adapters: Vec<_> = names
            .map(|name| read(name, Some(self.base)))
            .collect::<Result<_, _>>()?;
        let is_joined = self.gradient.is_some() && config.basis.is_recycled();
        let asked = config.components.and_then(ComponentCount::count);
        let mut options = ExtractOptions::new(match asked {
            Some(count) if !is_joined => Components::Count(count),
            _ => Components::All,
        });
        options.augment = config.augment;
        options.weights = config.given_weights();
        options.seed = self.seed;
        options.allow_base_mismatch = config.allow_base_mismatch;
        let extraction = extract(&adapters, &options, &|_, _| {})?;
        if let Some((path, report)) = extraction.report.short().next() {
            notes.push(format!(
                "the adapters span fewer than the requested {} components: in module `{path}` {} on the left and {} on the right",
                asked.unwrap_or(0),
                report.left.available,
                report.right.available
            ));
        }
        Ok(MadeBasis {
            files: extraction.subspace.sources.clone(),
            subspace: extraction.subspace,
            adapters,
        })
    }

    /// Random directions in the targeted layers.
    fn anew(&self) -> Result<Subspace, TrainerError> {
        let layers = targeted(self.config, self.base, self.description)?;
        let modules = layers.into_iter().map(|layer| {
            let shape = [layer.d_out, layer.d_in];
            let count = self.config.most_components(shape);
            let count = count.min(layer.d_out).min(layer.d_in);
            let module = ModuleSubspace::random(&layer.path, shape, [count; 2], self.seed);
            (layer.path.clone(), module)
        });
        Ok(Subspace {
            base_model: None,
            sources: Vec::new(),
            options: ExtractOptions::new(Components::All),
            updates: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            modules: modules.collect(),
        })
    }
}

/// Why the basis of a module could not be made.
enum Failed {
    Decomposition(DecompositionError),
    Weight(TrainerError),
}

impl From<DecompositionError> for Failed {
    fn from(source: DecompositionError) -> Self {
        Self::Decomposition(source)
    }
}

/// Reads all of an adapter of a base model.
///
/// # Errors
/// If it is not one adapter, whole and finite.
pub(crate) fn read(
    name: &str,
    base: Option<&dyn AdaptedModel>,
) -> Result<LoadedAdapter, TrainerError> {
    let path = locate_adapter(name)?;
    let file = AdapterFile::open(&path)?.with_location(name);
    let file = opened_for(file, &path, base)?;
    file.require_clean()?;
    Ok(LoadedAdapter::read(&file)?)
}

/// An adapter with what its base model says of it: of a diffusion model it may be for several parts, of
/// others for one model.
///
/// # Errors
/// If it is for several, or does not go with the base model.
pub(super) fn opened_for(
    file: AdapterFile,
    path: &Path,
    base: Option<&dyn AdaptedModel>,
) -> Result<AdapterFile, TrainerError> {
    let model = base.and_then(AdaptedModel::as_base_model);
    if base.is_some() && model.is_none() {
        return Ok(file);
    }
    let file = with_rows_in_order(file, path, || Ok(model))?;
    file.require_one_model()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use eigenmix_adapter::{LoraModule, PeftConfig, TargetModules};
    use eigenmix_eigenlorax::test_matrix;
    use eigenmix_models::HeadKind;
    use eigenmix_tensors::Matrix;

    use super::*;
    use crate::BaseModel;
    use crate::methods::{BasisWidth, MethodStart, start};

    fn quickstart(name: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/quickstart");
        folder.join(name).display().to_string()
    }

    struct Place {
        base: BaseModel,
        description: Description,
        /// A stand-in for −G, of rank 6, in every layer that the pool adapts.
        gradient: Adapter,
    }

    impl Place {
        fn new() -> Self {
            let base = BaseModel::open(&quickstart("base")).unwrap();
            let head = HeadKind::Classification { labels: 3 };
            let description = base.architecture.describe(head).unwrap();
            let pool = read(&quickstart("adapters/gym"), None).unwrap().adapter;
            let modules: BTreeMap<String, LoraModule> = pool
                .modules
                .keys()
                .map(|path| {
                    let layer = description.layer(path).unwrap();
                    let b = test_matrix(&layer.path, layer.d_out, 6, 1);
                    let a = test_matrix(&layer.path, layer.d_in, 6, 2).transposed();
                    (layer.path.clone(), LoraModule::new(b, a, 1.0))
                })
                .collect();
            let targets = TargetModules::AllLinear;
            let config = PeftConfig::lora("base", 6, targets, &[], None, &BTreeMap::new()).unwrap();
            Self {
                base,
                description,
                gradient: Adapter::new(config, modules),
            }
        }

        fn start(&self, config: &AdapterConfig, is_taken: bool) -> MethodStart {
            let source = BasisSource {
                config,
                base: &self.base,
                description: &self.description,
                seed: 1,
                gradient: is_taken.then_some(&self.gradient),
                composition: None,
            };
            start(&source).unwrap()
        }

        fn table(&self, keys: &str) -> AdapterConfig {
            let table =
                format!("method = \"eigenmix\"\nrank = 4\nallow_base_mismatch = true\n{keys}");
            let config: AdapterConfig = toml::from_str(&table).unwrap();
            assert!(
                config.problems().is_empty(),
                "{keys}: {:?}",
                config.problems()
            );
            config
        }
    }

    /// ‖Uᵀ · G · V‖² / ‖G‖² of the first module.
    fn share(place: &Place, started: &MethodStart) -> f64 {
        let (path, update) = started.updates.iter().next().unwrap();
        let module = &place.gradient.modules[path];
        let (left, right) = (&update.left.matrix, &update.right.matrix);
        let inside = left
            .transposed()
            .product(&module.b)
            .product(&module.a.product(right));
        (inside.norm() / module.b.product(&module.a).norm()).powi(2)
    }

    const ALL: &str = "components = \"all\"";

    const POOL: [&str; 2] = ["adapters/gym", "adapters/library"];

    #[test]
    fn a_basis_has_the_size_that_was_counted_in_advance_whatever_it_is_made_of() {
        let place = Place::new();
        let pool = format!("adapters = {:?}", POOL.map(quickstart));
        let with_gradient = "gradient = { rank = 6 }";
        for (keys, columns) in [
            (format!("{pool}\n{ALL}"), 8),
            (pool.clone(), 7),
            (format!("{pool}\ncomponents = 5\nbasis = \"random\""), 5),
            (
                format!("{pool}\n{ALL}\naugment = 2\nbasis = \"weights\""),
                10,
            ),
            (format!("{pool}\ncomponents = 5\naugment = 2"), 7),
            (
                format!("{pool}\ncomponents = 5\naugment = 2\nbasis = \"random\""),
                7,
            ),
            (
                format!("{pool}\ncomponents = 4\naugment = 2\nbasis = \"gradient\""),
                6,
            ),
            (
                format!("{pool}\n{with_gradient}\ncomponents = 5\naugment = 2"),
                7,
            ),
            (format!("{pool}\n{with_gradient}\n{ALL}"), 8 + 6),
            (format!("{pool}\n{with_gradient}\ncomponents = 7"), 7),
            (
                format!("{pool}\ngradient = {{ rank = 6, join = \"rotate\" }}\ncomponents = 5"),
                5,
            ),
            (
                format!("{pool}\ngradient = {{ rank = 6, join = \"augment\" }}\ncomponents = 7"),
                7,
            ),
            (
                format!("{pool}\ngradient = {{ rank = 6, join = \"augment\" }}\ncomponents = 12"),
                12,
            ),
            (
                format!("{pool}\ngradient = {{ rank = 6, join = \"augment\" }}\n{ALL}"),
                8 + 6,
            ),
            (format!("{pool}\n{with_gradient}\nbasis = \"gradient\""), 6),
            ("basis = \"random\"".to_owned(), 7),
            ("basis = \"weights\"\ncomponents = 5".to_owned(), 5),
            ("gradient = true\ncomponents = 6".to_owned(), 6),
            ("basis = \"gradient\"\ncomponents = 4".to_owned(), 4),
        ] {
            let config = place.table(&keys);
            let started = place.start(&config, config.gradient_config().is_some());
            let width = BasisWidth::new(&config).unwrap();
            for (path, update) in &started.updates {
                let sides = [&update.left.matrix, &update.right.matrix];
                let shape = sides.map(Matrix::rows);
                for (side, matrix) in sides.into_iter().enumerate() {
                    let counted = width.columns(&config, path, side, shape);
                    assert_eq!(
                        (matrix.cols(), counted),
                        (columns, columns),
                        "{path}: {keys}"
                    );
                    let gram = matrix.transposed().product(matrix);
                    let is_one = |row: usize, col: usize| f32::from(u8::from(row == col));
                    let size = gram.rows();
                    let off = Matrix::from_fn(size, size, |row, col| {
                        gram.get(row, col) - is_one(row, col)
                    });
                    assert!(off.norm() < 1e-4, "{path}: {keys}: {}", off.norm());
                }
            }
        }
    }

    #[test]
    fn the_gradient_is_in_the_basis_as_far_as_the_configuration_says() {
        let place = Place::new();
        let pool = format!("adapters = {:?}", POOL.map(quickstart));
        let found = |keys: &str, is_taken| {
            let config = place.table(keys);
            share(&place, &place.start(&config, is_taken))
        };
        let nothing = found(&format!("{pool}\n{ALL}"), false);
        let random = found(&format!("{pool}\nbasis = \"random\"\n{ALL}"), false);
        assert!(nothing < 0.2 && random < 0.2, "{nothing} {random}");
        let whole = found(&format!("{pool}\ngradient = true\n{ALL}"), true);
        assert!(whole > 0.999, "{whole}");
        assert!(found("gradient = true\ncomponents = 6", true) > 0.999);
        let of = |keys: &str| found(&format!("{pool}\ncomponents = 6\ngradient = {keys}"), true);
        let quiet = of("{ rank = 6, weight = 0.1 }");
        let loud = of("{ rank = 6, weight = 30.0 }");
        assert!(quiet < loud, "{quiet} {loud}");
        let rotated = of("{ rank = 6, join = \"rotate\" }");
        let augmented = of("{ rank = 6, join = \"augment\" }");
        assert!(
            rotated <= nothing + 1e-6 && rotated < augmented,
            "{rotated} {augmented}"
        );
    }

    #[test]
    fn the_basis_of_the_weights_has_their_largest_singular_value() {
        let place = Place::new();
        let started = place.start(&place.table("basis = \"weights\"\ncomponents = 5"), false);
        for (path, update) in started.updates {
            let layer = place.description.layer(&path).unwrap();
            let weight = place.base.layer_weight(layer).unwrap();
            let (left, right) = (&update.left.matrix, &update.right.matrix);
            let core = left.transposed().product(&weight).product(right);
            // Uᵀ · W · V = Σ, and no direction is left out that is larger than those kept.
            let diagonal: f64 = (0..5).map(|k| f64::from(core.get(k, k)).powi(2)).sum();
            assert!(
                (diagonal / core.norm().powi(2) - 1.0).abs() < 1e-4,
                "{path}"
            );
            // ‖W · x‖ of the x that repeated products turn to.
            let mut x = test_matrix("x", layer.d_in, 1, 0);
            for _ in 0..200 {
                x = weight.transposed().product(&weight.product(&x));
                let norm = x.norm() as f32;
                x = x.scaled(1.0 / norm);
            }
            let largest = weight.product(&x).norm();
            assert!(
                (f64::from(core.get(0, 0)) / largest - 1.0).abs() < 1e-2,
                "{path}"
            );
        }
    }
}
