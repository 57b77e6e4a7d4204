//! In which form a model holds a frozen matrix.

use burn::tensor::FloatDType;

use crate::precision::Precision;
use crate::stored::StoredTensor;
use crate::trained_tables::is_output_weight;

/// What a frozen matrix is in a model, which decides what may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The weight of a layer.
    Layer,
    /// The same, stored as Wᵀ.
    TransposedLayer,
    /// A table whose rows are looked up; it may be the output layer too.
    Table,
}

/// The form of a frozen matrix in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    /// Quantised while it is loaded.
    Quantised,
    /// As stored, where products read that form, and widened to f32 where they do not.
    Stored,
    /// Widened to f32.
    Wide,
}

impl Holding {
    /// - name: of the tensor
    /// - precision: as [`crate::Checkpoint::settled`] has it
    /// - computes_in: whether the device computes in a type
    pub(crate) fn of(
        tensor: &dyn StoredTensor,
        name: &str,
        role: Role,
        precision: Precision,
        computes_in: impl Fn(FloatDType) -> bool,
    ) -> Self {
        let is_layer = role != Role::Table && !is_output_weight(name);
        let quantises = precision.quantised().is_some();
        if quantises && is_layer && !tensor.is_quantised() {
            return Self::Quantised;
        }
        let is_kept = match tensor.dtype() {
            Some(dtype) => precision.keeps(dtype, computes_in),
            None => precision != Precision::Float32,
        };
        match is_kept {
            true => Self::Stored,
            false => Self::Wide,
        }
    }
}
