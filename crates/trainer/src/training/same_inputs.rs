//! Whether all processes train the same: the same program, file, data, base model and start. Each of them
//! reads its own files, and a step of one that reads others would be lost among those of the others.

use eigenmix_data::EncodedTargets;
use eigenmix_models::Checkpoint;
use eigenmix_moslora::{TrainedValues, Update};
use std::collections::BTreeMap;

use super::NetworkTraining;
use super::same_start::Origin;
use super::training_data::TrainingData;
use crate::TrainerError;
use crate::processes::Processes;
use crate::tasks::Examples;

/// How many images of a split are compared; of texts, all are.
const IMAGES: usize = 16;
/// How many texts are compared at a time.
const TEXTS: usize = 256;
/// How many bytes of base models are compared whole; of larger ones, the beginning and the middle of each tensor.
const WHOLE: usize = 1 << 30;
/// How many bytes that is.
const SAMPLE: usize = 4096;

impl NetworkTraining {
    /// Checks, before anything is computed, that all processes have read the same.
    ///
    /// - resolved: the configuration with all defaults
    ///
    /// # Errors
    /// If an image can't be read, or something differs.
    pub(super) fn require_same_inputs(
        &self,
        processes: &Processes,
        resolved: &str,
    ) -> Result<(), TrainerError> {
        let data = || digest_of_data(&self.data);
        let base = || Ok(digest_of_model(&self.base.checkpoint));
        self.origin()
            .require_same_inputs(processes, resolved, data, base)
    }
}

impl Origin<'_> {
    /// Checks, before anything is computed, that all processes have read the same.
    ///
    /// - resolved: the configuration with all defaults
    /// - data, base: digests of the data and of the base model
    ///
    /// # Errors
    /// If one of them can't be read, or something differs.
    pub fn require_same_inputs(
        &self,
        processes: &Processes,
        resolved: &str,
        data: impl FnOnce() -> Result<String, TrainerError>,
        base: impl FnOnce() -> Result<String, TrainerError>,
    ) -> Result<(), TrainerError> {
        if processes.is_alone() {
            return Ok(());
        }
        let sources = self.all_sources();
        let sources = sources.iter().chain(self.basis);
        let sources: Vec<String> = sources
            .map(|source| format!("{} ({})", source.location, source.sha256))
            .collect();
        Ok(processes.require_same(&[
            (
                "the version of Eigenmix",
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
            ("the training file", resolved.to_owned()),
            ("the data", data()?),
            ("the base model", base()?),
            ("the adapters", sources.join("\n")),
        ])?)
    }

    /// Checks that all processes start from the same values.
    ///
    /// # Errors
    /// If they do not.
    pub fn require_same_values(
        &self,
        processes: &Processes,
        values: impl FnOnce() -> TrainedValues,
    ) -> Result<(), TrainerError> {
        if processes.is_alone() {
            return Ok(());
        }
        let what = "the start of the training (are the processors of the same kind?)";
        let start = format!(
            "{:08x} {:08x}",
            digest_of_updates(self.updates),
            digest_of_values(&values())
        );
        Ok(processes.require_same(&[(what, start)])?)
    }
}

fn digest_of_data(data: &TrainingData) -> Result<String, TrainerError> {
    let splits = [
        ("train", Some(&data.train)),
        ("validation", data.validation.as_ref()),
        ("test", data.test.as_ref()),
    ];
    let mut lines = Vec::new();
    for (name, examples) in splits {
        if let Some(examples) = examples {
            let digest = digest_of_examples(&**examples)?;
            lines.push(format!("{name}: {} examples, {digest:08x}", examples.len()));
        }
    }
    Ok(lines.join("\n"))
}

fn digest_of_examples(examples: &dyn Examples) -> Result<u32, TrainerError> {
    let mut digest = Digest::default();
    digest.numbers(examples.lengths().into_iter().map(|length| length as u64));
    match examples.targets() {
        Some(EncodedTargets::Classes(classes)) => {
            digest.numbers(classes.iter().map(|class| *class as u64));
        }
        Some(EncodedTargets::Labels { outputs, .. }) => {
            for labels in outputs {
                digest.numbers([labels.len() as u64].into_iter());
                digest.numbers(labels.iter().map(|label| *label as u64));
            }
        }
        Some(EncodedTargets::Values(values)) => {
            digest.numbers(values.iter().map(|value| value.to_bits()));
        }
        None => {}
    }
    let count = examples.len();
    let has_images = count > 0 && examples.batch(&[0], None)?.batch.images.is_some();
    let (step, at_once) = match has_images {
        true => (count.div_ceil(IMAGES), 1),
        false => (1, TEXTS),
    };
    let chosen: Vec<usize> = (0..count).step_by(step.max(1)).collect();
    for chosen in chosen.chunks(at_once) {
        let labelled = examples.batch(chosen, None)?;
        if let Some(texts) = &labelled.batch.texts {
            digest.numbers(texts.ids().iter().map(|id| *id as u64));
            digest.numbers(texts.type_ids().iter().map(|id| *id as u64));
        }
        if let Some(images) = &labelled.batch.images {
            digest.floats(images.pixels());
        }
        digest.numbers([labelled.objective.weight().to_bits()].into_iter());
    }
    Ok(digest.0)
}

pub(crate) fn digest_of_model(checkpoint: &Checkpoint) -> String {
    let mut digest = Digest::default();
    digest.bytes(checkpoint.config().to_string().as_bytes());
    let view = |name| checkpoint.file_of(name)?.view(name).ok();
    let size = |name| view(name).map_or(0, <[u8]>::len);
    let is_small = checkpoint.names().map(size).sum::<usize>() <= WHOLE;
    for name in checkpoint.names() {
        digest.bytes(name.as_bytes());
        let shape = checkpoint.shape(name).unwrap_or_default();
        digest.numbers(shape.iter().map(|size| *size as u64));
        match view(name) {
            Some(bytes) if is_small => digest.bytes(bytes),
            Some(bytes) => {
                for begin in [0, bytes.len() / 2] {
                    digest.bytes(&bytes[begin..bytes.len().min(begin + SAMPLE)]);
                }
            }
            None => {}
        }
    }
    format!("{:08x}", digest.0)
}

fn digest_of_updates(updates: &BTreeMap<String, Update>) -> u32 {
    let mut digest = Digest::default();
    for (path, update) in updates {
        digest.bytes(path.as_bytes());
        digest.floats(&[update.scaling]);
        for (name, factor) in update.factors() {
            digest.bytes(name.as_bytes());
            digest.floats(factor.matrix.values());
        }
    }
    digest.0
}

/// That of trained values: equal where all of them are.
pub(super) fn digest_of_values(values: &TrainedValues) -> u32 {
    let mut digest = Digest::default();
    for (name, value) in values {
        digest.bytes(name.as_bytes());
        digest.floats(&value.values);
    }
    digest.0
}

/// A checksum (CRC-32C) of everything that was put in.
#[derive(Default)]
struct Digest(u32);

impl Digest {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, &(bytes.len() as u64).to_le_bytes());
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }

    fn numbers(&mut self, numbers: impl Iterator<Item = u64>) {
        let bytes: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
        self.bytes(&bytes);
    }

    fn floats(&mut self, values: &[f32]) {
        for values in values.chunks(1 << 16) {
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            self.bytes(&bytes);
        }
    }
}
