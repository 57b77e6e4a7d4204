//! The gradient of the task in the basis of its own training: taken once, before the first step, and kept
//! in the run, so that a resumed training has the same basis.

use std::cell::RefCell;
use std::path::Path;

use eigenmix_adapter::{Adapter, Companion, Provenance, SaveOptions};
use serde_json::json;

use super::gradient::{GradientOptions, TaskGradient};
use super::{NetworkTraining, Observer, RunOptions};
use crate::TrainerError;
use crate::basis_config::GradientJoin;
use crate::methods::{BasisSource, read, start};
use crate::run::Run;
use crate::run_output;

impl NetworkTraining {
    /// Puts the gradient of the task into the basis, if the configuration says so. Gives one that was
    /// just taken and is not kept yet.
    ///
    /// # Errors
    /// If the run exists already, or the gradient cannot be taken, read or joined.
    pub(super) fn join_gradient(
        &mut self,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Option<TaskGradient>, TrainerError> {
        let Some(config) = self.config.adapter.gradient_config() else {
            return Ok(None);
        };
        let output = Path::new(&self.config.output);
        let kept = output.join(Run::GRADIENT);
        // Without a checkpoint there is no head to go on with, and it is taken anew with the gradient.
        let is_kept = options.processes.as_first_finds(|| {
            let is_begun = !Run::at(output).checkpoints().is_empty();
            options.resume && is_begun && kept.is_dir()
        })?;
        if is_kept {
            let kept = read(&kept.display().to_string(), None)?;
            self.put_into_basis(Some(&kept.adapter))?;
            self.basis.push(kept.source);
            return Ok(None);
        }
        run_output::refuse_existing(output, options)?;
        let wanted = config.options();
        let total = self.gradient_work(&wanted);
        let taken = {
            let state = RefCell::new((0, observer));
            let advance = |count: usize| {
                let (done, observer) = &mut *state.borrow_mut();
                *done += count;
                observer.gradient(*done, total);
            };
            self.gradient(&wanted, &options.device.clone().inner(), &advance)?
        };
        self.put_into_basis(Some(&taken.adapter))?;
        let adapter = &self.config.adapter;
        let joined = match adapter.joining_for(self.data.train.len()).gradient_join() {
            Some(GradientJoin::Weight) => " as one more adapter",
            Some(GradientJoin::Rotate) => ", which chooses among the directions of the adapters",
            Some(GradientJoin::Augment) => {
                ", with directions of its own beside those of the adapters"
            }
            Some(GradientJoin::Auto) | None => "",
        };
        self.start_notes.push(format!(
            "the gradient of the task over {} examples is in the basis{joined}; two halves of the examples \
             agree by {:.2} (1: the same direction, 0: nothing but noise)",
            taken.examples,
            taken.agreement()
        ));
        if config.head.unwrap_or(true) {
            let reason = if taken.adapter.heads.is_empty() {
                "this training has no head that it fits"
            } else if !self.initial_head.is_empty() {
                "the head is that of adapter.init"
            } else {
                ""
            };
            match reason {
                "" => self.initial_head.clone_from(&taken.softened_head),
                _ if config.head.is_none() => {}
                reason => self
                    .start_notes
                    .push(format!("adapter.gradient.head is not used: {reason}")),
            }
        }
        Ok(Some(taken))
    }

    /// The start of the training on a basis with the gradient, and from the composition, as far as there are
    /// any.
    pub(super) fn put_into_basis(
        &mut self,
        gradient: Option<&Adapter>,
    ) -> Result<(), TrainerError> {
        let examples = self.data.train.len();
        let start = start(&BasisSource {
            config: &self
                .config
                .adapter
                .starting_from(&self.start)
                .joining_for(examples),
            base: &self.base,
            description: &self.description,
            seed: self.config.seed,
            gradient,
            composition: self.composition.as_ref(),
        })?;
        self.updates = start.updates;
        self.spectra = start.spectra;
        self.basis = start.basis;
        self.start_notes = start.notes;
        Ok(())
    }

    /// Writes a gradient as an adapter, with how it was made.
    ///
    /// - companions: what to write beside it
    ///
    /// # Errors
    /// If it cannot be written, or is there already and `force` is not set.
    pub fn save_gradient(
        &self,
        gradient: &TaskGradient,
        options: &GradientOptions,
        path: &Path,
        companions: Vec<Companion>,
        force: bool,
    ) -> Result<(), TrainerError> {
        let provenance = Provenance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            method: "gradient".to_owned(),
            sources: Vec::new(),
            options: json!({
                "rank": options.rank,
                "examples": gradient.examples,
                "agreement": gradient.agreement(),
                "loss": gradient.loss,
            }),
            input: Some(self.input_contract()),
        };
        let save = SaveOptions {
            force,
            provenance: Some(provenance),
            companions,
        };
        Ok(gradient.adapter.save(path, &save)?)
    }
}
