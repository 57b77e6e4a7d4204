//! Trained parameters by name: what checkpoints hold, what the optimiser's state is keyed by.
//!
//! Burn identifies a parameter by a random [`ParamId`]; files need a name that is the same in
//! every run. [`ParameterNames`] maps one to the other. Parameters that several modules share are
//! one by name: as many copies, which have the same value at every step.

use std::collections::{BTreeMap, HashMap, HashSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use eigenmix_tensors::HostTensor;

/// Values of trained parameters, by name.
pub type TrainedValues = BTreeMap<String, HostTensor>;

/// What is wrong with saved parameters.
#[derive(Debug, thiserror::Error)]
pub enum ParameterError {
    #[error(
        "parameter `{0}` is trained but not among the saved values; were they saved with another method or other target modules?"
    )]
    Missing(String),
    #[error(
        "parameter `{name}` has shape {expected:?}, but its saved value has {found:?}; were they saved with other settings?"
    )]
    Shape {
        name: String,
        expected: Vec<usize>,
        found: Vec<usize>,
    },
}

/// Refuses a saved value of another shape than its parameter has.
///
/// # Errors
/// If the value has another shape than `expected`.
pub(crate) fn check_shape(
    name: &str,
    value: &HostTensor,
    expected: &[usize],
) -> Result<(), ParameterError> {
    if value.shape == expected {
        return Ok(());
    }
    Err(ParameterError::Shape {
        name: name.to_owned(),
        expected: expected.to_vec(),
        found: value.shape.clone(),
    })
}

/// What a trained parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// A factor of a module's update.
    Factor,
    /// A tensor of the model, such as those of its head.
    Tensor,
}

/// The names of a model's trained parameters, and the kind of each, which the name alone does not
/// show.
#[derive(Clone, Debug, Default)]
pub struct ParameterNames {
    names: HashMap<ParamId, String>,
    kinds: HashMap<String, ParameterKind>,
    shared: HashSet<String>,
    /// Of tensors that checkpoints have in another shape than the model.
    stored_shapes: HashMap<String, Vec<usize>>,
}

impl ParameterNames {
    /// Names a tensor of the model.
    pub fn insert(&mut self, id: ParamId, name: String) {
        self.kinds.insert(name.clone(), ParameterKind::Tensor);
        self.names.insert(id, name);
    }

    /// Names a factor of a module's update, or one more copy of a factor that modules share.
    pub fn insert_factor(&mut self, id: ParamId, name: String) {
        if self
            .kinds
            .insert(name.clone(), ParameterKind::Factor)
            .is_some()
        {
            self.shared.insert(name.clone());
        }
        self.names.insert(id, name);
    }

    /// Notes the shape in which checkpoints have a tensor.
    pub fn set_stored_shape(&mut self, name: &str, shape: &[usize]) {
        self.stored_shapes.insert(name.to_owned(), shape.to_vec());
    }

    /// The shape in which checkpoints have a tensor, if it is another than the model's.
    pub fn stored_shape(&self, name: &str) -> Option<&[usize]> {
        self.stored_shapes.get(name).map(Vec::as_slice)
    }

    /// Takes over the names of a part of a model, with `part` and a dot in front.
    pub fn extend(&mut self, part: &str, names: Self) {
        let within = |name: String| format!("{part}.{name}");
        let named = names.names.into_iter();
        self.names
            .extend(named.map(|(id, name)| (id, within(name))));
        let kinds = names.kinds.into_iter();
        self.kinds
            .extend(kinds.map(|(name, kind)| (within(name), kind)));
        self.shared.extend(names.shared.into_iter().map(within));
        let shapes = names.stored_shapes.into_iter();
        self.stored_shapes
            .extend(shapes.map(|(name, shape)| (within(name), shape)));
    }

    pub fn get(&self, id: ParamId) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// Whether several modules have a copy of the parameter of that name.
    pub fn is_shared(&self, name: &str) -> bool {
        self.shared.contains(name)
    }

    /// The kind of the parameter of that name, if there is one.
    pub fn kind(&self, name: &str) -> Option<ParameterKind> {
        self.kinds.get(name).copied()
    }

    /// How many parameters (tensors) are named, every copy counted.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The current values of the named parameters of `module`.
    pub fn values_of<M: Module>(&self, module: &M) -> TrainedValues {
        let mut reader = Reader {
            names: self,
            values: BTreeMap::new(),
        };
        module.visit(&mut reader);
        reader.values
    }

    /// `module` with its named parameters set to `values`; other entries of `values` are ignored.
    ///
    /// # Errors
    /// If a named parameter is missing from `values` or has another shape there.
    pub fn with_values<M: Module>(
        &self,
        module: M,
        values: &TrainedValues,
    ) -> Result<M, ParameterError> {
        let mut writer = Writer {
            names: self,
            values,
            error: None,
        };
        let module = module.map(&mut writer);
        match writer.error {
            Some(error) => Err(error),
            None => Ok(module),
        }
    }
}

struct Reader<'a> {
    names: &'a ParameterNames,
    values: TrainedValues,
}

impl ModuleVisitor for Reader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(name) = self.names.get(param.id) else {
            return;
        };
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        let values = tensor
            .into_data()
            .convert::<f32>()
            .try_into_vec()
            .expect("converted to f32");
        self.values
            .insert(name.to_owned(), HostTensor { shape, values });
    }
}

struct Writer<'a> {
    names: &'a ParameterNames,
    values: &'a TrainedValues,
    error: Option<ParameterError>,
}

impl ModuleMapper for Writer<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(name) = self.names.get(param.id) else {
            return param;
        };
        let Some(value) = self.values.get(name) else {
            self.error
                .get_or_insert(ParameterError::Missing(name.to_owned()));
            return param;
        };
        if let Err(error) = check_shape(name, value, &param.val().dims()) {
            self.error.get_or_insert(error);
            return param;
        }
        param.map(|tensor| {
            let data = TensorData::new(value.values.clone(), value.shape.clone());
            let requires_grad = tensor.is_require_grad();
            Tensor::from_data(data, &tensor.device()).set_require_grad(requires_grad)
        })
    }
}
