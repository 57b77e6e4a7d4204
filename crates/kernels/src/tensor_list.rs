//! Several tensors as one argument of a backend's operation.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType};

/// A tensor, or none.
#[derive(ExtensionType)]
pub(crate) enum Slot<B: Backend> {
    Empty,
    Full(FloatTensor<B>),
}

/// Up to eight tensors; extensions of backends accept structures of tensors, but not vectors.
#[derive(ExtensionType)]
pub(crate) struct TensorList<B: Backend> {
    #[extension_type]
    first: Slot<B>,
    #[extension_type]
    second: Slot<B>,
    #[extension_type]
    third: Slot<B>,
    #[extension_type]
    fourth: Slot<B>,
    #[extension_type]
    fifth: Slot<B>,
    #[extension_type]
    sixth: Slot<B>,
    #[extension_type]
    seventh: Slot<B>,
    #[extension_type]
    eighth: Slot<B>,
}

impl<B: Backend> TensorList<B> {
    /// # Panics
    /// If there are more than eight.
    pub fn new(tensors: Vec<FloatTensor<B>>) -> Self {
        assert!(
            tensors.len() <= 8,
            "{} tensors in a list of eight",
            tensors.len()
        );
        let mut tensors = tensors.into_iter();
        let mut next = || tensors.next().map_or(Slot::Empty, Slot::Full);
        Self {
            first: next(),
            second: next(),
            third: next(),
            fourth: next(),
            fifth: next(),
            sixth: next(),
            seventh: next(),
            eighth: next(),
        }
    }

    /// In the order in which they were given.
    pub fn into_vec(self) -> Vec<FloatTensor<B>> {
        let slots = [
            self.first,
            self.second,
            self.third,
            self.fourth,
            self.fifth,
            self.sixth,
            self.seventh,
            self.eighth,
        ];
        let tensors = slots.into_iter().filter_map(|slot| match slot {
            Slot::Empty => None,
            Slot::Full(tensor) => Some(tensor),
        });
        tensors.collect()
    }
}
