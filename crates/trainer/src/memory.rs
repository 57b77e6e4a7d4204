//! Memory estimates from a training file, the base model's `config.json` and, where they are at hand, the
//! headers of its weights.

use std::num::NonZeroUsize;

use eigenmix_models::{Architecture, Description, HeadKind, LinearLayer};
use serde::Serialize;

use crate::activation_memory::{Kept, TrainedLayers, activations};
use crate::adapted_model::AdaptedModel;
use crate::config::TrainConfig;
use crate::frozen_weights::frozen_weights;
use crate::methods::{
    AdapterMethod, BasisWidth, CompositionWidth, InitialAdapter, LayerSizes, is_of_tower, is_saved,
    on_modules, targeted, with_own_output,
};
use crate::{BaseModel, TrainerError};

/// Parameters and activations are f32 while they are trained or computed with.
pub(crate) const PARAMETER_BYTES: u64 = 4;
/// AdamW keeps two moments of every trained parameter.
const MOMENTS_PER_PARAMETER: u64 = 2;

/// An estimate of the memory of a training, made without reading weights or data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// Frozen parameters of the base model.
    pub frozen_parameters: u64,
    /// Trained parameters of the adapter.
    pub adapter_parameters: u64,
    /// Trained parameters of the head, and of modules that are trained whole.
    pub head_parameters: u64,
    pub adapted_modules: usize,
    /// Rows (tokens or patches) of a batch, or of a micro-batch, at most: each example as long as `data.max_length` allows,
    /// or as many as `training.tokens_per_batch` says.
    pub rows: u64,
    /// Bytes of the base model's frozen weights, as they are held on the CPU: of quantised ones their codes
    /// and scales, which products decode without a copy.
    pub weights: u64,
    /// Bytes of a frozen basis.
    pub basis: u64,
    /// Bytes of trained parameters, their gradients and the optimiser's moments.
    pub optimizer: u64,
    /// Bytes of the activations kept for the backward pass, and of its temporaries.
    pub activations: u64,
}

impl MemoryEstimate {
    /// Estimates the training that `config` describes on `base`.
    ///
    /// - labels: how many outputs the head of a classifier has
    ///
    /// # Errors
    /// If the model does not fit the task or the length of the texts, or the targets match no
    /// layer.
    pub fn new(
        config: &TrainConfig,
        base: &BaseModel,
        labels: usize,
    ) -> Result<Self, TrainerError> {
        let architecture = &base.architecture;
        let task = config.task.kind.definition();
        let head = task.head(labels, !config.task.prompts.is_empty());
        task.check_length(architecture, &config.data)?;
        let own = with_own_output(&config.adapter, base, head)?;
        let architecture = own.as_ref().unwrap_or(architecture);
        let description = architecture.describe(head)?;
        let (mut estimate, adapted) = Self::of_layers(config, base, &description, head)?;
        // Layers that are not computed are only built where an adapter has something for them.
        let is_built = |path: &str| {
            let mut paths = adapted.iter();
            architecture.is_computed(path) || paths.any(|path| !architecture.is_computed(path))
        };
        if estimate.frozen_parameters > 0 {
            let precision = config.base.weights;
            estimate.weights = frozen_weights(
                &base.checkpoint,
                architecture,
                head,
                &description,
                precision,
                &is_built,
            )?;
        }
        let longest = architecture.rows_per_example(config.data.max_length);
        let parts = config.training.micro_batches.unwrap_or(NonZeroUsize::MIN);
        let at_once = config.training.size_of_batches()?.divided(parts);
        estimate.rows = at_once.most_rows(longest) as u64;
        let kept = match config.training.gradient_checkpointing {
            true => Kept::LayerInputs,
            false => Kept::Everything,
        };
        let stacks = architecture.stacks(config.data.max_length);
        let trained = match config.adapter.method.trains_everything() {
            true => TrainedLayers::all(&stacks),
            false => {
                let saved = description.layers.iter();
                let saved = saved.filter(|layer| is_saved(&config.adapter, &layer.path));
                let adapted = adapted.iter().filter_map(|path| description.layer(path));
                let below_head = adapted.chain(saved).filter(|layer| !layer.head);
                TrainedLayers::of(&stacks, below_head.map(|layer| layer.path.as_str()))
            }
        };
        let batch = (at_once, estimate.rows);
        estimate.activations = activations(architecture, &stacks, batch, &trained, kept)
            + logits(head, architecture, estimate.rows);
        Ok(estimate)
    }

    /// What is trained in which layers, and the basis; the base model's weights and the activations are not
    /// counted.
    ///
    /// # Errors
    /// If the targets match no layer.
    pub(crate) fn of_layers(
        config: &TrainConfig,
        base: &dyn AdaptedModel,
        description: &Description,
        head: HeadKind,
    ) -> Result<(Self, Vec<String>), TrainerError> {
        let method = config.adapter.method;
        let basis = match method.has_basis() {
            true => BasisWidth::new(&config.adapter)?,
            false => BasisWidth::default(),
        };
        let composition = CompositionWidth::new(&config.adapter)?;
        let known: Vec<&str> = basis.modules().chain(composition.modules()).collect();
        let rank = config.adapter.rank.unwrap_or(1);
        let tower = config.adapter.vision.as_ref();
        let tower = tower.and_then(|vision| vision.of(&config.adapter).rank);
        let rank_of = |layer: &LinearLayer| match is_of_tower(&layer.path) {
            true => tower.unwrap_or(rank),
            false => rank,
        };
        let of_rank = |layers: Vec<_>| {
            layers
                .into_iter()
                .map(|layer| (layer, rank_of(layer)))
                .collect()
        };
        let adapted: Vec<(&LinearLayer, usize)> =
            match (method.trains_everything(), method.is_on_adapters()) {
                (true, _) => Vec::new(),
                // Of a subspace or adapters at hand, their modules; of those elsewhere, what is usual.
                (_, true) if !known.is_empty() => {
                    of_rank(on_modules(&config.adapter, description, known.into_iter())?)
                }
                (_, true) => of_rank(targeted(&config.adapter, base, description)?),
                (_, false) => match InitialAdapter::open(&config.adapter.init(), base)? {
                    Some(initial) => {
                        let layers = initial.layers(&config.adapter, base, description)?;
                        let layers = layers.into_iter();
                        layers
                            .map(|initial| (initial.layer, initial.rank))
                            .collect()
                    }
                    None => of_rank(targeted(&config.adapter, base, description)?),
                },
            };
        let estimate = Self::trained(config, head, description, &adapted, (&basis, &composition));
        let adapted = adapted.iter().map(|(layer, _)| layer.path.clone());
        Ok((estimate, adapted.collect()))
    }

    /// The total number of bytes.
    pub fn total(&self) -> u64 {
        self.weights + self.basis + self.optimizer + self.activations
    }

    fn trained(
        config: &TrainConfig,
        head: HeadKind,
        description: &Description,
        adapted: &[(&LinearLayer, usize)],
        (basis, composition): (&BasisWidth, &CompositionWidth),
    ) -> Self {
        let method = config.adapter.method;
        let sizes = |(layer, rank): &(&LinearLayer, usize)| {
            let shape = [layer.d_out, layer.d_in];
            let columns = |side: usize| match method.is_composition() {
                true => composition.columns(&layer.path, shape[side]),
                false => basis.columns(&config.adapter, &layer.path, side, shape),
            };
            LayerSizes {
                rank: *rank,
                d_out: layer.d_out,
                d_in: layer.d_in,
                p: columns(0),
                q: columns(1),
                adapters: composition.weights(&config.adapter, &layer.path),
                flattened: basis.flattened_rank(&layer.path),
            }
        };
        let tower = config
            .adapter
            .vision
            .as_ref()
            .and_then(|vision| vision.method);
        let method_of = |(layer, _): &(&LinearLayer, usize)| match is_of_tower(&layer.path) {
            true => tower.unwrap_or(method),
            false => method,
        };
        let methods = adapted.iter().map(method_of);
        let sizes: Vec<LayerSizes> = adapted.iter().map(sizes).collect();
        let of_layer = |(sizes, method): (&LayerSizes, AdapterMethod)| {
            (method.definition().trained)(sizes) as u64
        };
        let basis_of = |sizes: &LayerSizes| {
            let of_direction = sizes.flattened.unwrap_or(1);
            (of_direction * (sizes.d_out * sizes.p + sizes.d_in * sizes.q)) as u64
        };
        let all = description.parameters as u64;
        let of_head = description.layers.iter().filter(|layer| layer.head);
        let of_head: u64 = match head.is_of_task() {
            true => of_head.map(|layer| layer.parameters() as u64).sum(),
            false => 0,
        };
        let saved = description.layers.iter().filter(|layer| !layer.head);
        let saved = saved.filter(|layer| is_saved(&config.adapter, &layer.path));
        let head = of_head + saved.map(|layer| layer.parameters() as u64).sum::<u64>();
        let (adapter_parameters, head_parameters) = match method.trains_everything() {
            true => (all, 0),
            false => match config.adapter.shared_parameters() {
                Some(shared) => (shared as u64, head),
                None => (sizes.iter().zip(methods).map(of_layer).sum(), head),
            },
        };
        let frozen_basis: u64 = match method.is_on_adapters() {
            true => sizes.iter().map(basis_of).sum(),
            false => 0,
        };
        let trained = adapter_parameters + head_parameters;
        let frozen_parameters = match method.trains_everything() {
            true => 0,
            false => all - head,
        };
        Self {
            frozen_parameters,
            adapter_parameters,
            head_parameters,
            adapted_modules: adapted.len(),
            rows: 0,
            weights: 0,
            basis: PARAMETER_BYTES * frozen_basis,
            // The parameters, their gradients and their moments.
            optimizer: PARAMETER_BYTES * trained * (2 + MOMENTS_PER_PARAMETER),
            activations: 0,
        }
    }
}

/// The bytes of a language model's logits, of which a few rows exist at a time, and of their gradients.
fn logits(head: HeadKind, architecture: &Architecture, rows: u64) -> u64 {
    const AT_A_TIME: u64 = 8 * 1024 * 1024;
    let vocabulary = architecture.vocab_size().unwrap_or(0) as u64;
    match head.is_per_token() {
        true => 2 * PARAMETER_BYTES * (rows * vocabulary).min(AT_A_TIME.max(vocabulary)),
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::methods::{BasisSource, start};

    #[test]
    fn on_a_subspace_at_hand_its_modules_are_counted_and_target_modules_choose_among_them() {
        let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/quickstart");
        let base = quickstart.join("base").display().to_string();
        let base = BaseModel::open_config(&base).unwrap();
        let adapters = ["gym", "library"].map(|name| quickstart.join("adapters").join(name));
        let counted = |adapters: &[std::path::PathBuf], targets: &str| {
            let file = format!(
                "output = \"o\"\n[base]\nmodel = \"m\"\n[data]\npath = \"d\"\nmax_length = 16\n\
                 [adapter]\nmethod = \"eigenmix\"\nrank = 4\nallow_base_mismatch = true\n\
                 adapters = {adapters:?}\n{targets}\n\
                 [training]\nepochs = 1\nbatch_size = 4\nlearning_rate = 0.1"
            );
            let config = TrainConfig::from_toml(&file).unwrap();
            let estimate = MemoryEstimate::new(&config, &base, 3);
            let description = base
                .architecture
                .describe(HeadKind::Classification { labels: 3 });
            let description = description.unwrap();
            let started = start(&BasisSource {
                config: &config.adapter,
                base: &base,
                description: &description,
                seed: 1,
                gradient: None,
                composition: None,
            });
            let paths = started.map(|started| started.updates.into_keys().collect::<Vec<_>>());
            (estimate, paths)
        };
        let (estimate, all) = counted(&adapters, "");
        let all = all.unwrap();
        assert_eq!(estimate.unwrap().adapted_modules, all.len());
        let one = format!("target_modules = [{:?}]", all[0]);
        let (estimate, chosen) = counted(&adapters, &one);
        assert_eq!(chosen.unwrap(), all[..1]);
        assert_eq!(estimate.unwrap().adapted_modules, 1);
        // A layer of the base model that the subspace has nothing for.
        let (estimate, started) = counted(&adapters, "target_modules = [\"pooler.dense\"]");
        let message = estimate.unwrap_err().to_string();
        assert!(message.contains("no module of the subspace"), "{message}");
        assert_eq!(message, started.unwrap_err().to_string());
    }

    #[test]
    fn the_weights_of_a_composition_are_counted_as_they_are_trained() {
        let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/quickstart");
        let base = quickstart.join("base").display().to_string();
        let base = BaseModel::open_config(&base).unwrap();
        let adapters = ["gym", "library"].map(|name| quickstart.join("adapters").join(name));
        for scope in ["adapter", "module"] {
            let file = format!(
                "output = \"o\"\n[base]\nmodel = \"m\"\n[data]\npath = \"d\"\nmax_length = 16\n\
                 [adapter]\nmethod = \"compose\"\nallow_base_mismatch = true\n\
                 adapters = {adapters:?}\ncomposition = \"{scope}\"\n\
                 [training]\nepochs = 1\nbatch_size = 4\nlearning_rate = 0.1"
            );
            let config = TrainConfig::from_toml(&file).unwrap();
            let estimate = MemoryEstimate::new(&config, &base, 3).unwrap();
            let head = HeadKind::Classification { labels: 3 };
            let description = base.architecture.describe(head).unwrap();
            let started = start(&BasisSource {
                config: &config.adapter,
                base: &base,
                description: &description,
                seed: 1,
                gradient: None,
                composition: None,
            });
            let updates = started.unwrap().updates;
            let trained = eigenmix_moslora::trained_parameters(&updates) as u64;
            assert_eq!(estimate.adapter_parameters, trained, "{scope}");
            let frozen = |update: &eigenmix_moslora::Update| {
                let sides = [&update.left.matrix, &update.right.matrix];
                sides.map(|side| side.values().len()).iter().sum::<usize>()
            };
            let frozen: usize = updates.values().map(frozen).sum();
            assert_eq!(estimate.basis, PARAMETER_BYTES * frozen as u64, "{scope}");
        }
    }
}
