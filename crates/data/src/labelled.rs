//! What rows of texts, images and conversations have in common: a label and a place to name in
//! errors.

use crate::row::{Place, RawLabel, Row};

/// A row of any kind of data, as far as its label is concerned.
pub trait Labelled {
    /// `None` only where [`LabelPolicy::Optional`](super::LabelPolicy) allowed it.
    fn label(&self) -> Option<&RawLabel>;

    /// Puts another label in its place, or none.
    fn set_label(&mut self, label: Option<RawLabel>);

    /// Where errors say the row is.
    fn place(&self) -> &Place;
}

impl Labelled for Row {
    fn label(&self) -> Option<&RawLabel> {
        self.label.as_ref()
    }

    fn set_label(&mut self, label: Option<RawLabel>) {
        self.label = label;
    }

    fn place(&self) -> &Place {
        &self.place
    }
}
