//! What can be known of a model from its `config.json`: every linear layer, by path and shape.

/// A linear layer that an adapter may target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinearLayer {
    /// The module path, as PEFT and the checkpoint call it.
    pub path: String,
    pub d_out: usize,
    pub d_in: usize,
    /// Whether it is part of the task's head, which "all-linear" leaves out.
    pub head: bool,
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
    /// All numbers of the base model, head included.
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
