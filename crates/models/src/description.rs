//! What can be known of a model from its `config.json`: every linear layer, by path and shape.

/// A linear layer that an adapter may target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearLayer {
    /// The module path, as PEFT and the checkpoint call it.
    pub path: String,
    pub d_out: usize,
    pub d_in: usize,
    /// Whether it has a bias `[d_out]`.
    pub bias: bool,
    /// Whether the checkpoint stores the weight `[d_in, d_out]`, as GPT-2 does (PEFT's
    /// `fan_in_fan_out`).
    pub transposed: bool,
    /// Whether it is part of the task's head, which "all-linear" leaves out.
    pub head: bool,
}

impl LinearLayer {
    /// A layer with a bias, stored `[d_out, d_in]`.
    pub fn new(path: impl Into<String>, [d_out, d_in]: [usize; 2]) -> Self {
        Self {
            path: path.into(),
            d_out,
            d_in,
            bias: true,
            transposed: false,
            head: false,
        }
    }

    /// A layer with a bias that is part of a head.
    pub(crate) fn of_head(path: &str, shape: [usize; 2]) -> Self {
        Self {
            head: true,
            ..Self::new(path, shape)
        }
    }

    /// How many parameters it has.
    pub fn parameters(&self) -> usize {
        self.d_out * (self.d_in + usize::from(self.bias))
    }

    /// The shape in which the checkpoint stores the weight.
    pub fn stored_shape(&self) -> [usize; 2] {
        match self.transposed {
            true => [self.d_in, self.d_out],
            false => [self.d_out, self.d_in],
        }
    }

    /// The names and stored shapes of its tensors.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let weight = (
            format!("{}.weight", self.path),
            self.stored_shape().to_vec(),
        );
        let bias = self
            .bias
            .then(|| (format!("{}.bias", self.path), vec![self.d_out]));
        std::iter::once(weight).chain(bias).collect()
    }
}

/// A model's layers, its head's tensors and its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The name of the model inside its task wrapper, such as `bert`: paths start with it, while
    /// checkpoints and adapters of the bare model leave it out.
    pub prefix: &'static str,
    pub layers: Vec<LinearLayer>,
    /// The tensors of the head with their shapes.
    pub head_tensors: Vec<(String, Vec<usize>)>,
    /// The modules of the head, as `modules_to_save` names them.
    pub head_modules: Vec<&'static str>,
    /// All parameters of the base model, head included.
    pub parameters: usize,
}

impl Description {
    /// The layer of that path, with or without the prefix.
    pub fn layer(&self, path: &str) -> Option<&LinearLayer> {
        self.layers.iter().find(|layer| {
            layer.path == path
                || layer
                    .path
                    .strip_prefix(self.prefix)
                    .and_then(|rest| rest.strip_prefix('.'))
                    .is_some_and(|rest| rest == path)
        })
    }
}
