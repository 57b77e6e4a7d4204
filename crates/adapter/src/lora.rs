//! The low-rank update of one layer: `ΔW = s · B · W · A`.

use std::borrow::Cow;

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
    fn folded_b(&self) -> Matrix {
        self.mixed_b().into_owned().scaled(self.scaling)
    }

    /// B · W: `[d_out, rank]`.
    fn mixed_b(&self) -> Cow<'_, Matrix> {
        match &self.mixer {
            Some(mixer) => Cow::Owned(self.b.product(mixer)),
            None => Cow::Borrowed(&self.b),
        }
    }

    /// The same update without a mixer, `s · (B·W) · A`; as it is where there is none.
    pub fn without_mixer(module: Cow<'_, Self>) -> Cow<'_, Self> {
        if module.mixer.is_none() {
            return module;
        }
        let b = module.mixed_b().into_owned();
        Cow::Owned(Self {
            b,
            mixer: None,
            ..module.into_owned()
        })
    }

    /// The same update with scaling 1: s is multiplied into B and into the bias of B. As it is where
    /// s is 1.
    pub fn unscaled(module: Cow<'_, Self>) -> Cow<'_, Self> {
        let scaling = module.scaling;
        if scaling == 1.0 {
            return module;
        }
        let mut module = module.into_owned();
        module.b = module.b.scaled(scaling);
        for value in module.bias.iter_mut().flatten() {
            *value *= scaling;
        }
        module.scaling = 1.0;
        Cow::Owned(module)
    }

    /// Whether factors, mixer and scaling are all free of NaN and infinities.
    pub fn is_finite(&self) -> bool {
        self.scaling.is_finite()
            && [Some(&self.a), Some(&self.b), self.mixer.as_ref()]
                .into_iter()
                .flatten()
                .all(Matrix::is_finite)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// [3, 2] of rank 2 with a mixer, a bias and a scaling that is not 1.
    fn module() -> LoraModule {
        let b = Matrix::new(3, 2, vec![1.0, 2.0, -1.0, 0.5, 3.0, 1.0]);
        let a = Matrix::new(2, 2, vec![4.0, -2.0, 1.0, 8.0]);
        LoraModule {
            mixer: Some(Matrix::new(2, 2, vec![0.0, 2.0, 1.0, -1.0])),
            bias: Some(vec![1.0, 2.0, 3.0]),
            ..LoraModule::new(b, a, 0.5)
        }
    }

    #[test]
    fn folding_mixer_and_scaling_leaves_the_update_as_it_is() {
        let module = module();
        let unmixed = LoraModule::without_mixer(Cow::Borrowed(&module));
        assert_eq!((&unmixed.mixer, unmixed.scaling), (&None, 0.5));
        assert_eq!(unmixed.update(), module.update());
        let plain = LoraModule::unscaled(unmixed);
        assert_eq!(plain.update(), module.update());
        assert_eq!(plain.scaling, 1.0);
        assert_eq!(plain.bias, Some(vec![0.5, 1.0, 1.5]));
    }

    #[test]
    fn what_needs_no_folding_is_borrowed() {
        let plain = LoraModule::new(module().b, module().a, 1.0);
        let folded = LoraModule::unscaled(LoraModule::without_mixer(Cow::Borrowed(&plain)));
        assert!(matches!(folded, Cow::Borrowed(_)));
    }

    #[test]
    fn a_nan_anywhere_in_the_product_is_found() {
        assert!(module().is_finite());
        let mut broken = module();
        broken.mixer = Some(Matrix::new(2, 2, vec![0.0, f32::NAN, 1.0, 1.0]));
        assert!(!broken.is_finite());
        let broken = LoraModule {
            scaling: f32::INFINITY,
            ..module()
        };
        assert!(!broken.is_finite());
    }
}
