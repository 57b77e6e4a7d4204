//! What kind of layer a LoRA module adapts, which says how ΔW lies in the weight.

/// The kind of an adapted layer.
///
/// ΔW is always a matrix `[d_out, d_in]` that lies in memory as the weight does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LayerKind {
    /// A weight `[d_out, d_in]`.
    #[default]
    Linear,
    /// A table `[entries, size]`: d_out is the number of entries, d_in the size of one.
    Embedding,
    /// A weight `[d_out, channels, kernel…]`: d_in is channels times the sizes of the kernel.
    Convolution {
        /// The sizes of the kernel: of an image `[height, width]`.
        kernel: Vec<usize>,
    },
}

impl LayerKind {
    /// The shape of the weight, whose values are in the order of ΔW `[d_out, d_in]`.
    pub fn weight_shape(&self, d_out: usize, d_in: usize) -> Vec<usize> {
        self.a_shape(d_out, d_in)
    }

    /// The shape of A, `[rank, d_in]` with the kernel apart.
    pub(crate) fn a_shape(&self, rank: usize, d_in: usize) -> Vec<usize> {
        match self {
            Self::Linear | Self::Embedding => vec![rank, d_in],
            Self::Convolution { kernel } => {
                let window: usize = kernel.iter().product();
                let mut shape = vec![rank, d_in / window.max(1)];
                shape.extend(kernel);
                shape
            }
        }
    }

    /// The shape of B, `[d_out, rank]`: of a convolution one of single pixels.
    pub(crate) fn b_shape(&self, d_out: usize, rank: usize) -> Vec<usize> {
        let mut shape = vec![d_out, rank];
        if let Self::Convolution { kernel } = self {
            shape.extend(kernel.iter().map(|_| 1));
        }
        shape
    }
}

impl std::fmt::Display for LayerKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Linear => formatter.write_str("a linear layer"),
            Self::Embedding => formatter.write_str("an embedding"),
            Self::Convolution { kernel } => {
                let sizes: Vec<String> = kernel.iter().map(ToString::to_string).collect();
                write!(formatter, "a convolution of {}", sizes.join(" × "))
            }
        }
    }
}
