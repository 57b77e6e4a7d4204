//! The low-rank update of one layer: `ΔW = s · B · W · A`.

use eigenmix_tensors::Matrix;

use crate::LayerKind;

/// The LoRA factors of one module, as every dialect is read into.
///
/// `ΔW = s · B · A`, or `s · B · W · A` with a MoSLoRA mixer W (arXiv 2406.11909); with a DoRA
/// magnitude m the adapted weight is `m ⊙ (W₀ + ΔW) / ‖W₀ + ΔW‖`, norms over each output row.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraModule {
    /// A: `[rank, d_in]`.
    pub a: Matrix,
    /// B: `[d_out, rank]`.
    pub b: Matrix,
    /// The mixer W of MoSLoRA: `[rank, rank]`.
    pub mixer: Option<Matrix>,
    /// s: alpha / rank, or alpha / √rank with rsLoRA.
    pub scaling: f32,
    /// DoRA's magnitude: `[d_out]`.
    pub magnitude: Option<Vec<f32>>,
    /// The bias on B (`lora_bias`), which the update adds as `s · bias`: `[d_out]`.
    pub bias: Option<Vec<f32>>,
    /// What the module is a layer of; the numbers of ΔW do not depend on it.
    pub layer: LayerKind,
}

impl LoraModule {
    /// A plain update `s · B · A` of a linear layer.
    ///
    /// - b: `[d_out, rank]`
    /// - a: `[rank, d_in]`
    ///
    /// # Panics
    /// If the ranks of the two factors differ.
    pub fn new(b: Matrix, a: Matrix, scaling: f32) -> Self {
        assert_eq!(
            b.cols(),
            a.rows(),
            "B {:?} and A {:?}",
            b.shape(),
            a.shape()
        );
        Self {
            a,
            b,
            mixer: None,
            scaling,
            magnitude: None,
            bias: None,
            layer: LayerKind::Linear,
        }
    }

    /// The same update of another kind of layer.
    pub fn of_layer(mut self, layer: LayerKind) -> Self {
        self.layer = layer;
        self
    }

    pub fn rank(&self) -> usize {
        self.a.rows()
    }

    pub fn d_in(&self) -> usize {
        self.a.cols()
    }

    pub fn d_out(&self) -> usize {
        self.b.rows()
    }

    /// The plain factors (B', A) with B' · A = ΔW: scaling and mixer multiplied into B, so that
    /// whoever decomposes or merges cannot forget them. Magnitude and bias are not part of them.
    ///
    /// Shapes `[d_out, rank]` and `[rank, d_in]`.
    pub fn folded(&self) -> (Matrix, Matrix) {
        (self.folded_b(), self.a.clone())
    }

    /// B' = s · B · W: `[d_out, rank]`.
    pub(crate) fn folded_b(&self) -> Matrix {
        let mixed = match &self.mixer {
            Some(mixer) => self.b.product(mixer),
            None => self.b.clone(),
        };
        mixed.scaled(self.scaling)
    }

    /// The dense update ΔW `[d_out, d_in]`, for merging into a base model and for tests.
    pub fn update(&self) -> Matrix {
        let (b, a) = self.folded();
        b.product(&a)
    }

    /// How many numbers make up the update as it was trained.
    pub fn parameter_count(&self) -> usize {
        let matrices = [Some(&self.a), Some(&self.b), self.mixer.as_ref()];
        let vectors = [&self.magnitude, &self.bias];
        matrices
            .into_iter()
            .flatten()
            .map(|matrix| matrix.values().len())
            .sum::<usize>()
            + vectors.into_iter().flatten().map(Vec::len).sum::<usize>()
    }

    /// Whether the update is zero whatever the input: a factor, the mixer or the scaling vanishes,
    /// and so does the bias. With a DoRA magnitude that cannot be told without the base model, so
    /// the answer is no.
    pub fn has_no_effect(&self) -> bool {
        if self.magnitude.is_some() {
            return false;
        }
        if self.scaling == 0.0 {
            return true;
        }
        let has_bias = self.bias.iter().flatten().any(|&value| value != 0.0);
        !has_bias && self.factors_vanish()
    }

    fn factors_vanish(&self) -> bool {
        self.a.is_zero() || self.b.is_zero() || self.mixer.as_ref().is_some_and(Matrix::is_zero)
    }
}
