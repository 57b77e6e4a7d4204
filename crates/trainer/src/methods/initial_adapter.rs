//! The adapter that a training goes on from: `adapter.init = "ADAPTER"`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eigenmix_adapter::{
    AdapterFile, LayerKind, LoadedAdapter, LoraModule, Provenance, is_saved_by,
};
use eigenmix_data::InputContract;
use eigenmix_models::{Description, LinearLayer};
use eigenmix_moslora::{MixerInit, Update};
use eigenmix_tensors::{HostTensor, Matrix};
use serde_json::{Map, Value};

use super::basis_source::opened_for;
use super::definition::FactorLayer;
use super::on_basis::same_directory;
use super::start::MethodStart;
use super::target_layers::targeted;
use crate::adapted_model::AdaptedModel;
use crate::adapter_config::AdapterConfig;
use crate::adapter_place::locate_adapter;
use crate::init::Init;
use crate::{AdapterMethod, TrainerError};

/// An adapter that a training starts from, opened but not read.
pub(crate) struct InitialAdapter {
    pub file: AdapterFile,
    /// Its directory, or its .safetensors file.
    path: PathBuf,
    /// How it was made, if Eigenmix made it.
    made: Option<Map<String, Value>>,
}

/// A layer that starts from the adapter.
pub(crate) struct InitialLayer<'d> {
    /// The module's path in the adapter, which may lack the base model's prefix.
    module: String,
    pub layer: &'d LinearLayer,
    /// The rank to train with.
    pub rank: usize,
}

impl InitialAdapter {
    /// Opens the adapter that `init` names to go on from, if it does.
    ///
    /// # Errors
    /// If there is none, or it cannot be used whole.
    pub fn open(init: &Init, base: &dyn AdaptedModel) -> Result<Option<Self>, TrainerError> {
        let Init::Adapter(name) = init else {
            return Ok(None);
        };
        let path = locate_adapter(name)?;
        let file = AdapterFile::open(&path)?.with_location(name.as_str());
        let file = opened_for(file, &path, Some(base))?;
        file.require_clean()?;
        let made = match path.is_dir() {
            true => Provenance::read_json(&path)?,
            false => None,
        };
        Ok(Some(Self { file, path, made }))
    }

    /// What is known of the input that it was trained on, and the directory of its chat template.
    ///
    /// # Errors
    /// If `eigenmix.json` says what is not known here.
    pub fn input(&self) -> Result<Option<(InputContract, &Path)>, TrainerError> {
        let made = self.made.as_ref();
        let input = made
            .and_then(|made| made.get("input"))
            .filter(|input| !input.is_null());
        let path = self.path.join(Provenance::FILE_NAME);
        let contract = input.map(|input| InputContract::from_json(input, &path));
        Ok(contract
            .transpose()?
            .map(|contract| (contract, self.path.as_path())))
    }

    /// Whether a tensor is that of a linear layer of the base model, which the adapter's training trained
    /// whole, and this one goes on to.
    pub fn saves_layer(&self, name: &str, description: &Description) -> bool {
        let path = name.rsplit_once('.').map_or(name, |(path, _)| path);
        let layer = description.layer(path);
        let mut saved = self.file.config().modules_to_save().iter();
        layer.is_some_and(|layer| !layer.head) && saved.any(|module| is_saved_by(path, module))
    }

    /// The tensors of the modules that are trained whole, as the adapter has them.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn saved_whole(
        &self,
        modules: &[String],
    ) -> Result<BTreeMap<String, HostTensor>, TrainerError> {
        let mut tensors = self.file.heads()?;
        tensors.retain(|name, _| modules.iter().any(|module| is_saved_by(name, module)));
        Ok(tensors)
    }

    /// Refuses an adapter inside the directory that the training writes: `--force` would remove it, and
    /// a training could not be resumed.
    ///
    /// # Errors
    /// If it is there.
    pub fn require_outside(&self, output: &Path) -> Result<(), TrainerError> {
        match (self.path.canonicalize(), output.canonicalize()) {
            (Ok(path), Ok(output)) if path.starts_with(&output) => Err(self.refused(format!(
                "it lies in the output `{}`, which the training would replace; give another output",
                output.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that it is for this base model, as far as names tell; shapes decide where a directory may
    /// hold the model that the adapter names by its Hub id.
    ///
    /// # Errors
    /// If it names another one, unless `adapter.allow_base_mismatch` is set.
    pub fn check_base(
        &self,
        config: &AdapterConfig,
        base_model: &str,
        notes: &mut Vec<String>,
    ) -> Result<(), TrainerError> {
        let Some(found) = self.file.config().base_model() else {
            return Ok(());
        };
        if found == base_model || config.allow_base_mismatch || same_directory(found, base_model) {
            return Ok(());
        }
        if !Path::new(base_model).exists() {
            return Err(self.refused(format!(
                "it is for base model `{found}`, the training file names `{base_model}`; set \
                 adapter.allow_base_mismatch = true if they are the same model"
            )));
        }
        notes.push(format!(
            "the adapter `{}` names the base model `{found}`, this training uses `{base_model}`",
            self.file.location()
        ));
        Ok(())
    }

    /// Reads all of it, for a projection.
    ///
    /// # Errors
    /// If it changes more than a projection keeps.
    pub fn read(&self) -> Result<LoadedAdapter, TrainerError> {
        self.require_no_biases()?;
        let adapter = LoadedAdapter::read(&self.file)?;
        for (path, module) in &adapter.adapter.modules {
            self.require_plain(path, module)?;
        }
        Ok(adapter)
    }

    /// The layers of the base model that it has updates of, which are those to train.
    ///
    /// # Errors
    /// If it is for another base model, adapts what is not trained, or the configuration asks for other
    /// layers or for a smaller rank.
    pub fn layers<'d>(
        &self,
        config: &AdapterConfig,
        base: &dyn AdaptedModel,
        description: &'d Description,
    ) -> Result<Vec<InitialLayer<'d>>, TrainerError> {
        self.require_no_biases()?;
        let mut layers = Vec::new();
        for path in self.file.module_paths() {
            let kind = self.file.layer(path)?;
            if *kind != LayerKind::Linear && *kind != base.layer_kind(path) {
                return Err(self.refused(format!(
                    "it adapts `{path}`, which is {kind}; only linear layers are trained, and convolutions of \
                     diffusion models. {}",
                    self.merge_advice()
                )));
            }
            let (found, d_in, d_out) = self.file.shape(path)?;
            let Some(layer) = description.layer(path) else {
                let first = description.layers.first();
                return Err(self.refused(format!(
                    "it has an update of `{path}`, which is no layer of the base model (one is `{}`); \
                     is it for another base model?",
                    first.map_or("", |layer| &layer.path)
                )));
            };
            if [layer.d_out, layer.d_in] != [d_out, d_in] {
                return Err(self.refused(format!(
                    "its update of `{path}` is {d_out} × {d_in}, the base model's layer {} × {}; it is \
                     for another base model",
                    layer.d_out, layer.d_in
                )));
            }
            let rank = config.rank.unwrap_or(found);
            if rank < found {
                return Err(self.refused(format!(
                    "adapter.rank is {rank}, but it has rank {found} in `{path}`; leave adapter.rank \
                     out to go on with its rank, or give at least {found} (what is added starts without \
                     effect)"
                )));
            }
            layers.push(InitialLayer {
                module: path.to_owned(),
                layer,
                rank,
            });
        }
        if config.target_modules.is_some() {
            let wanted = targeted(config, base, description)?;
            self.require_same_layers(&wanted, &layers)?;
        }
        Ok(layers)
    }

    /// Refuses targets other than the layers that the adapter has.
    fn require_same_layers(
        &self,
        wanted: &[&LinearLayer],
        found: &[InitialLayer],
    ) -> Result<(), TrainerError> {
        let remedy = "leave adapter.target_modules out to go on with all that it has";
        let left_out: Vec<&str> = found
            .iter()
            .map(|found| found.layer.path.as_str())
            .filter(|path| wanted.iter().all(|wanted| wanted.path != *path))
            .collect();
        if let Some(path) = left_out.first() {
            return Err(self.refused(format!(
                "it has an update of `{path}`, which adapter.target_modules does not match ({} of its {} \
                 modules); {remedy}",
                left_out.len(),
                found.len()
            )));
        }
        let beyond: Vec<&str> = wanted
            .iter()
            .map(|wanted| wanted.path.as_str())
            .filter(|path| found.iter().all(|found| found.layer.path != *path))
            .collect();
        match beyond.first() {
            Some(path) => Err(self.refused(format!(
                "it has no update of `{path}`, which adapter.target_modules matches ({} layers more than \
                 its {} modules); {remedy}",
                beyond.len(),
                found.len()
            ))),
            None => Ok(()),
        }
    }

    /// The updates that compute what it does, and the options of the training with those that come from
    /// it.
    ///
    /// - fresh: the method's update of a layer, with B = 0
    ///
    /// # Errors
    /// As [`InitialAdapter::layers`], if it is for another base model, or changes more than the method
    /// trains.
    pub fn start(
        self,
        config: &AdapterConfig,
        (base, description): (&dyn AdaptedModel, &Description),
        seed: u64,
        fresh: fn(&FactorLayer) -> Update,
    ) -> Result<MethodStart, TrainerError> {
        let mut notes = Vec::new();
        self.check_base(config, base.adapters_name(), &mut notes)?;
        let layers = self.layers(config, base, description)?;
        let has_mixer = config.method.definition().has_mixer;
        let (mut updates, mut options) = (BTreeMap::new(), Vec::new());
        for InitialLayer {
            module: path,
            layer,
            rank,
        } in &layers
        {
            let module = self.file.module(path)?;
            self.require_plain(path, &module)?;
            let own = AdapterConfig {
                rank: Some(*rank),
                alpha: Some(self.alpha(config, path, &module)?),
                mixer: has_mixer.then_some(MixerInit::Identity),
                ..config.clone()
            };
            let fresh = fresh(&FactorLayer {
                config: &own,
                path: &layer.path,
                shape: [layer.d_out, layer.d_in],
                seed,
            });
            updates.insert(layer.path.clone(), started_from(&module, fresh));
            options.push((own.rank, own.alpha));
        }
        let (mut settled, first) = (config.clone(), options.first().copied());
        if settled.modules_to_save.is_empty() {
            let saved = self.file.config().modules_to_save().iter();
            let is_layer = |module: &&String| {
                let mut layers = description.layers.iter();
                layers.any(|layer| !layer.head && is_saved_by(&layer.path, module))
            };
            settled.modules_to_save = saved.filter(is_layer).cloned().collect();
        }
        let are_alike = options.iter().all(|other| Some(*other) == first);
        if let (true, Some((rank, alpha))) = (are_alike, first) {
            (settled.rank, settled.alpha) = (rank, alpha);
        }
        Ok(MethodStart {
            updates,
            started_from: Some(self.file.source()),
            notes,
            settled: Some(settled),
            initial: Some(self),
            ..MethodStart::default()
        })
    }

    /// alpha, with which alpha / rank is the scaling that the adapter's own training had.
    fn alpha(
        &self,
        config: &AdapterConfig,
        path: &str,
        module: &LoraModule,
    ) -> Result<f32, TrainerError> {
        let scaling = match self.scaling_of_its_training() {
            // Eigenmix multiplies the scaling into B when it saves an adapter.
            Some(scaling) if module.scaling == 1.0 => scaling,
            _ => module.scaling,
        };
        if scaling == 0.0 {
            return Err(self.refused(format!(
                "its alpha is 0 in `{path}`, so that no step would change anything; train a new adapter"
            )));
        }
        let found = scaling * module.rank() as f32;
        match config.alpha {
            // The numbers of a file are read in f64, and alpha / √rank is rounded.
            Some(given) if (given - found).abs() > 1e-5 * found.abs() => Err(self.refused(format!(
                "adapter.alpha is {given}, but it was trained with the scaling {scaling} at rank {} in \
                 `{path}`, which is alpha = {found} here; leave adapter.alpha out to go on with it",
                module.rank()
            ))),
            Some(given) => Ok(given),
            None => Ok(found),
        }
    }

    /// The scaling of the training that made it, if that was one of Eigenmix with factors of its own.
    fn scaling_of_its_training(&self) -> Option<f32> {
        let made = self.made.as_ref()?;
        let method = made.get("method")?.as_str()?.strip_prefix("train/")?;
        let with_factors = [AdapterMethod::Lora, AdapterMethod::Moslora];
        if !with_factors.iter().any(|other| other.name() == method) {
            return None;
        }
        let options = made.get("options")?;
        let rank = options.get("rank")?.as_f64()?;
        let alpha = options.get("alpha").and_then(Value::as_f64);
        let scaling = alpha.map_or(2.0, |alpha| alpha / rank) as f32;
        scaling.is_finite().then_some(scaling)
    }

    fn require_no_biases(&self) -> Result<(), TrainerError> {
        match self.file.bias_names().next() {
            Some(name) => Err(self.refused(format!(
                "it has trained biases of the base model (`{name}`), which no method trains. {}",
                self.merge_advice()
            ))),
            None => Ok(()),
        }
    }

    /// Refuses a module that is more than `s · B · W · A`.
    fn require_plain(&self, path: &str, module: &LoraModule) -> Result<(), TrainerError> {
        let found = match (&module.magnitude, &module.bias) {
            (Some(_), _) => "a DoRA magnitude",
            (None, Some(_)) => "a bias of B (lora_bias)",
            (None, None) => return Ok(()),
        };
        Err(self.refused(format!(
            "it has {found} in `{path}`, which no method trains. {}",
            self.merge_advice()
        )))
    }

    /// What to do with an adapter that changes more than a training does.
    pub fn merge_advice(&self) -> String {
        format!(
            "Make a base model of it first (`eigenmix export {} --merge-into-base MODEL --out DIR`) and \
             train on that",
            self.file.location()
        )
    }

    /// That it cannot be gone on from.
    pub fn refused(&self, reason: String) -> TrainerError {
        TrainerError::InitialAdapter {
            adapter: self.file.location().to_owned(),
            reason,
        }
    }
}

/// `fresh`, whose B is zero, with the factors of `module` in its first columns, so that its ΔW is that of
/// `module`:
///
/// ```text
/// s' · [B·W·s/s', 0] · [A; A'] = s · B · W · A
/// ```
///
/// A mixer of `fresh` has to be the identity.
fn started_from(module: &LoraModule, mut fresh: Update) -> Update {
    let factor = module.scaling / fresh.scaling;
    let plain = LoraModule::without_mixer(Cow::Borrowed(module));
    let b = match factor == 1.0 {
        true => plain.b.clone(),
        false => plain.b.clone().scaled(factor),
    };
    let (found, a) = (module.rank(), &module.a);
    let (left, right) = (&fresh.left.matrix, &fresh.right.matrix);
    let left = Matrix::from_fn(left.rows(), left.cols(), |row, col| match col < found {
        true => b.get(row, col),
        false => left.get(row, col),
    });
    let right = Matrix::from_fn(right.rows(), right.cols(), |row, col| match col < found {
        true => a.get(col, row),
        false => right.get(row, col),
    });
    (fresh.left.matrix, fresh.right.matrix) = (left, right);
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_update_with_another_scaling_is_that_of_the_adapter() {
        let number =
            |seed: usize| move |row: usize, col: usize| ((seed + 7 * row + 3 * col) as f32).sin();
        let module = LoraModule {
            mixer: Some(Matrix::from_fn(2, 2, number(3))),
            ..LoraModule::new(
                Matrix::from_fn(6, 2, number(1)),
                Matrix::from_fn(2, 5, number(2)),
                0.75,
            )
        };
        let expected = module.update();
        for (rank, scaling) in [(2, 0.75), (2, 3.0), (5, 0.4)] {
            let fresh = eigenmix_moslora::moslora(
                "layer",
                1,
                [6, 5],
                rank,
                scaling,
                0.0,
                MixerInit::Identity,
            );
            let started = started_from(&module, fresh);
            assert_eq!(started.left.matrix.cols(), rank);
            let found = started.fold().update();
            for (found, expected) in found.values().iter().zip(expected.values()) {
                // Sums of products of numbers below 1, in f32.
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
            // What was added can learn: its A is not zero.
            let added = (2..rank).all(|col| started.right.matrix.get(0, col) != 0.0);
            assert!(added);
        }
    }
}
