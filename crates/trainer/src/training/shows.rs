//! What can be seen of a model while it is trained.

use std::path::PathBuf;

use crate::TrainerError;

/// Shows a model on the way.
pub(crate) trait Shows<M> {
    /// Whether it is due in the midst of a training.
    ///
    /// - step: how many steps were taken
    fn is_due(&self, step: usize) -> bool;

    /// Makes images with the model and writes them into the run; nothing if they are there already.
    ///
    /// # Errors
    /// If they cannot be made or written.
    fn show(&self, model: &M, step: usize) -> Result<Vec<ShownImage>, TrainerError>;
}

/// An image in the run.
pub(crate) struct ShownImage {
    /// The same at every step.
    pub name: String,
    /// A PNG.
    pub path: PathBuf,
    /// Height and width.
    pub size: [usize; 2],
}
