//! Full fine-tuning, or pre-training: every weight.

use super::definition::{Definition, Recipe};

pub(super) const FULL: Definition = Definition {
    name: "full",
    recipe: Recipe::Everything,
    // No layer has an update.
    trained: |_| 0,
    has_mixer: false,
};
