//! Methods that train coefficients on the subspace of other adapters.

use std::collections::BTreeMap;
use std::path::Path;

use eigenmix_adapter::{LoadedAdapter, LoraModule};
use eigenmix_eigenlorax::{Coefficients, LowRank, ModuleSpectra, ModuleSubspace};
use eigenmix_models::Description;
use eigenmix_moslora::{Update, compose};
use eigenmix_tensors::Matrix;

use super::basis_source::{BasisSource, MadeBasis, read};
use super::definition::{BasisLayer, Started};
use super::eigenlorax::decomposition;
use super::initial_adapter::InitialAdapter;
use super::start::MethodStart;
use super::target_layers::on_modules;
use crate::TrainerError;
use crate::adapted_model::AdaptedModel;
use crate::adapter_config::AdapterConfig;
use crate::init::Init;

/// The updates of every module of a subspace that the base model has.
///
/// # Errors
/// If the subspace or an adapter does not fit the base model.
pub(super) fn on_basis(
    source: &BasisSource,
    update: fn(BasisLayer) -> Result<Update, TrainerError>,
) -> Result<MethodStart, TrainerError> {
    let BasisSource {
        config,
        base,
        description,
        seed,
        ..
    } = *source;
    let init = config.init();
    let base_model = base.adapters_name();
    let mut notes = Vec::new();
    let MadeBasis {
        subspace,
        adapters: sources,
        files,
    } = source.make(&mut notes)?;
    notes.extend(source.whole_modules_note(&sources));
    check_base(config, base, subspace.base_model.as_deref(), &mut notes)?;
    let initial = InitialAdapter::open(&init, base)?;
    if let Some(initial) = &initial {
        initial.check_base(config, base_model, &mut notes)?;
    }
    let start = match (&init, &initial) {
        (_, Some(initial)) => vec![initial.read()?],
        (Init::Zero | Init::Random | Init::Compose | Init::Auto | Init::Adapter(_), None) => {
            Vec::new()
        }
        (Init::Project(name), None) => vec![read(name, Some(base))?],
        (Init::Merge, None) => match sources.is_empty() {
            false => sources,
            true => {
                let names: Vec<_> = subspace
                    .sources
                    .iter()
                    .map(|source| &source.location)
                    .collect();
                names
                    .into_iter()
                    .map(|name| read(name, Some(base)))
                    .collect::<Result<_, _>>()?
            }
        },
    };
    let is_recycled = config.is_recycling() && config.basis.is_recycled();
    let modules = subspace.modules.keys().map(String::as_str);
    let targets = on_modules(config, description, modules)?;
    let (mut updates, mut spectra) = (BTreeMap::new(), BTreeMap::new());
    for path in subspace.modules.keys() {
        let Some(layer) = description.layer(path) else {
            notes.push(format!(
                "module `{path}` of the subspace is not in the base model"
            ));
            continue;
        };
        if !targets.iter().any(|target| target.path == layer.path) {
            continue;
        }
        let module = subspace.module_for(path, [layer.d_out, layer.d_in])?;
        for lora in start
            .iter()
            .filter_map(|source| source.adapter.modules.get(path))
        {
            subspace.module_for(path, [lora.d_out(), lora.d_in()])?;
        }
        // The variances of a basis that comes from no adapters say nothing of any.
        if is_recycled {
            spectra.insert(path.clone(), ModuleSpectra::of(module));
        }
        let composed = source.composition;
        let started = match composed.and_then(|composed| composed.modules.get(&layer.path)) {
            Some(composed) => Some(Started::Mixer(module.mixer_of(composed))),
            None => average(module, path, &start)?,
        };
        let update = update(BasisLayer {
            config,
            path,
            module,
            started,
            seed,
        })?;
        updates.insert(layer.path.clone(), update);
    }
    if updates.is_empty() {
        let first = |paths: Vec<&String>| {
            paths
                .first()
                .map_or_else(String::new, |path| (*path).clone())
        };
        return Err(TrainerError::ForeignSubspace {
            found: first(subspace.modules.keys().collect()),
            expected: first(description.layers.iter().map(|layer| &layer.path).collect()),
        });
    }
    let projected = init.adapter().and(start.first());
    if let Some(projected) = projected {
        notes.push(kept_energy(projected, description, &updates));
    }
    Ok(MethodStart {
        basis: files,
        started_from: projected.map(|projected| projected.source.clone()),
        updates,
        sources: match is_recycled || matches!(init, Init::Merge | Init::Compose) {
            true => subspace.sources,
            // Of adapters beside a control, only modules and sizes were taken.
            false => Vec::new(),
        },
        spectra,
        notes,
        initial,
        ..MethodStart::default()
    })
}

/// Checks that the recycled adapters are for this base model, as far as names tell.
///
/// - found: the base model that they name
///
/// # Errors
/// If it is another one, unless `adapter.allow_base_mismatch` is set.
pub(super) fn check_base(
    config: &AdapterConfig,
    base: &dyn AdaptedModel,
    found: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<(), TrainerError> {
    let expected = base.adapters_name();
    let Some(found) = found.filter(|found| *found != expected) else {
        return Ok(());
    };
    if config.allow_base_mismatch || same_directory(found, expected) {
        return Ok(());
    }
    // A directory may contain the model that the adapters name by its Hub id; shapes decide.
    if !Path::new(expected).exists() {
        return Err(TrainerError::SubspaceBase {
            expected: expected.to_owned(),
            found: found.to_owned(),
        });
    }
    notes.push(format!(
        "the recycled adapters name the base model `{found}`, this training uses `{expected}`"
    ));
    Ok(())
}

/// A note of how much of an adapter its projection keeps, in squared Frobenius norms:
/// 1 − Σ ‖ΔW − ΔŴ‖² / Σ ‖ΔW‖² over all modules of the adapter, those without a basis included.
fn kept_energy(
    adapter: &LoadedAdapter,
    description: &Description,
    updates: &BTreeMap<String, Update>,
) -> String {
    let (mut kept, mut total, mut left_out) = (0.0, 0.0, Vec::new());
    for (path, module) in &adapter.adapter.modules {
        let whole = LowRank::of(module);
        let energy = whole.norm().powi(2);
        total += energy;
        let layer = description.layer(path);
        match layer.and_then(|layer| updates.get(&layer.path)) {
            Some(update) => {
                let lost = whole.minus(&LowRank::of(&update.fold())).norm();
                kept += energy - lost.powi(2);
            }
            None => left_out.push(path),
        }
    }
    let share = match total > 0.0 {
        true => 100.0 * kept / total,
        false => 100.0,
    };
    let left_out = match left_out.first() {
        Some(first) => format!(
            "; {} of its modules, such as `{first}`, are not trained and count as lost",
            left_out.len()
        ),
        None => String::new(),
    };
    format!(
        "the training starts from the projection of `{}`, which keeps {share:.1} % of its energy \
         ‖ΔW‖²{left_out}",
        adapter.source.location
    )
}

/// Whether two names of a base model are the same local directory.
pub(crate) fn same_directory(left: &str, right: &str) -> bool {
    match (
        Path::new(left).canonicalize(),
        Path::new(right).canonicalize(),
    ) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

/// The mean of the adapters' mixers M_t = Uᵀ ΔW_t V `[p, q]` over those that have the module; on a flattened
/// subspace the coefficients that bring B · A closest to the mean of their updates.
fn average(
    module: &ModuleSubspace,
    path: &str,
    adapters: &[LoadedAdapter],
) -> Result<Option<Started>, TrainerError> {
    let modules = adapters.iter();
    let modules = modules.filter_map(|source| source.adapter.modules.get(path));
    if module.flattened.is_none() {
        return Ok(mean(modules.map(|lora| module.mixer_of(lora)).collect()).map(Started::Mixer));
    }
    let members: Vec<(usize, &LoraModule)> = modules.enumerate().collect();
    if members.is_empty() {
        return Ok(None);
    }
    let shares = vec![1.0 / members.len() as f32; members.len()];
    let average = compose(&members, &shares, false, 1.0, 0.0).fold();
    let found = Coefficients::of(module, &average);
    let found = found.map_err(|source| decomposition(path, source))?;
    Ok(Some(Started::Directions(found)))
}

/// The mean of matrices of one shape, if there are any.
fn mean(matrices: Vec<Matrix>) -> Option<Matrix> {
    let first = matrices.first()?;
    let count = matrices.len() as f32;
    Some(Matrix::from_fn(first.rows(), first.cols(), |row, col| {
        matrices.iter().map(|one| one.get(row, col)).sum::<f32>() / count
    }))
}

#[cfg(test)]
mod tests {
    use eigenmix_eigenlorax::{Components, ExtractOptions, extract};
    use eigenmix_models::LinearLayer;

    use super::*;
    use crate::BaseModel;
    use crate::methods::definition::Recipe;
    use crate::methods::eigenmix::EIGENMIX;

    /// A file of the quick start.
    fn quickstart(name: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/quickstart");
        folder.join(name).display().to_string()
    }

    /// Two adapters of the quick start.
    fn names() -> [String; 2] {
        ["adapters/gym", "adapters/library"].map(quickstart)
    }

    fn config(more: &str) -> AdapterConfig {
        let file = format!(
            "method = \"eigenmix\"\nrank = 4\nallow_base_mismatch = true\ncomponents = 3\n{more}"
        );
        toml::from_str(&file).unwrap()
    }

    /// How many columns the basis of a module has on the left, and of how many principal components
    /// the variance is recorded.
    fn columns(config: &AdapterConfig) -> (usize, usize) {
        let start = start(config).unwrap();
        let (path, update) = start.updates.iter().next().unwrap();
        let components = start.spectra[path].left.variance.len();
        (update.left.matrix.cols(), components)
    }

    /// The updates on a base model of the layers that the adapters have.
    fn start(config: &AdapterConfig) -> Result<MethodStart, TrainerError> {
        let file = crate::open_adapter(&names()[0]).unwrap();
        let base = BaseModel::open(&quickstart("base")).unwrap();
        let layers = file.module_paths().map(|path| {
            let (_, d_in, d_out) = file.shape(path).unwrap();
            LinearLayer {
                path: path.to_owned(),
                d_out,
                d_in,
                bias: false,
                transposed: false,
                head: false,
            }
        });
        let description = Description {
            prefix: "",
            layers: layers.collect(),
            head_tensors: vec![],
            head_modules: vec![],
            parameters: 0,
        };
        let Recipe::Basis { update, .. } = EIGENMIX.recipe else {
            panic!("a method on a basis");
        };
        let source = BasisSource {
            config,
            base: &base,
            description: &description,
            seed: 1,
            gradient: None,
            composition: None,
        };
        on_basis(&source, update)
    }

    #[test]
    fn target_modules_choose_among_the_modules_of_the_subspace() {
        let names = names();
        let paths = |targets: &str| {
            let config = config(&format!("adapters = {names:?}\n{targets}"));
            start(&config).map(|start| start.updates.into_keys().collect::<Vec<_>>())
        };
        let all = paths("").unwrap();
        let (one, rest) = all.split_first().unwrap();
        assert!(!rest.is_empty());
        let chosen = paths(&format!("target_modules = [{one:?}]")).unwrap();
        assert_eq!(chosen, std::slice::from_ref(one));
        let error = paths("target_modules = [\"no_such_layer\"]").unwrap_err();
        assert!(error.to_string().contains("no_such_layer"), "{error}");
        let error = paths(&format!("target_modules = [{one:?}, \"no_such_layer\"]")).unwrap_err();
        let expected = "no module of the subspace matches `no_such_layer`";
        assert!(error.to_string().starts_with(expected), "{error}");
    }

    #[test]
    fn components_count_the_principal_ones_of_a_subspace_and_its_mean_stays() {
        let directory = tempfile::tempdir().unwrap();
        let saved = directory.path().join("subspace");
        let adapters = names().map(|name| read(&name, None).unwrap());
        let options = ExtractOptions {
            center: true,
            ..ExtractOptions::new(Components::Count(5))
        };
        let subspace = extract(&adapters, &options, &|_, _| {}).unwrap().subspace;
        subspace.save(&saved, false).unwrap();
        let saved = saved.display().to_string();
        assert_eq!(
            columns(&config(&format!("subspace = {saved:?}"))),
            (3 + 1, 3)
        );
    }

    #[test]
    fn components_count_the_principal_ones_of_adapters_and_random_directions_stay() {
        let names = names();
        assert_eq!(columns(&config(&format!("adapters = {names:?}"))), (3, 3));
        let augmented = config(&format!("adapters = {names:?}\naugment = 2"));
        assert_eq!(columns(&augmented), (3 + 2, 3));
    }
}
