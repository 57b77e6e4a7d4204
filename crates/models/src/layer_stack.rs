//! Layers of one width that the same rows pass, as a training counts their memory.

/// Transformer layers of one kind, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerStack {
    /// What the paths of its layers begin with.
    pub prefix: &'static str,
    pub n_layers: usize,
    /// How many rows an example has at most.
    pub rows_per_example: usize,
    pub d_model: usize,
    /// How many activations a layer keeps per row for the backward pass, if all of its linear layers are
    /// adapted: the inputs of its norms and linear layers, queries, keys and values, and what goes into the
    /// activation function. Probabilities of the attention are not kept.
    pub activations: usize,
    /// How many of them a layer keeps through which a gradient only passes: not the inputs of linear layers.
    pub passed: usize,
}
