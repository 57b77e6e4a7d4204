//! AdamW over many small parameters at once, where each kernel that is launched costs more than it computes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use eigenmix_kernels::{AdamWState, AdamWStep, joined};
use eigenmix_moslora::{ParameterKind, ParameterNames, TrainedValues};
use eigenmix_tensors::HostTensor;

use super::optimizer::{Moments, NamedGradients};
use crate::host_values::host_values;

/// Parameters whose size is a multiple of this come first, as parts of a buffer that start there are not copied.
const ALIGNED: usize = 128;

/// The parameters that take steps together, in a buffer for each learning rate. What the module has are parts of
/// these buffers.
pub(super) struct FlatAdamW {
    groups: Vec<Group>,
}

/// Parameters of one learning rate.
struct Group {
    /// In the order in which they are in the buffer.
    places: Vec<(String, Range<usize>)>,
    state: AdamWState,
}

impl FlatAdamW {
    /// Joins the parameters that have a gradient, with the moments that they have so far.
    pub fn new<M: Module>(
        module: &M,
        names: &ParameterNames,
        gradients: &NamedGradients,
        moments: &mut BTreeMap<String, Moments>,
    ) -> Self {
        let mut parameters = Parameters {
            names,
            found: BTreeMap::new(),
        };
        module.visit(&mut parameters);
        let is_factor = |name: &&String| names.kind(name) == Some(ParameterKind::Factor);
        let (factors, others): (Vec<_>, Vec<_>) = gradients.keys().partition(is_factor);
        let mut groups = Vec::new();
        for mut members in [factors, others] {
            members.retain(|name| parameters.found.contains_key(*name));
            members.sort_by_key(|name| !gradients[*name].dims()[0].is_multiple_of(ALIGNED));
            if members.is_empty() {
                continue;
            }
            let (mut places, mut end) = (Vec::new(), 0);
            let (mut values, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
            for name in members {
                let gradient = &gradients[name];
                let [count] = gradient.dims();
                places.push((name.clone(), end..end + count));
                end += count;
                values.extend(parameters.found.remove(name));
                let before = moments.remove(name).unwrap_or_else(|| Moments {
                    first: gradient.zeros_like(),
                    second: gradient.zeros_like(),
                });
                first.push(before.first);
                second.push(before.second);
            }
            let [parameter, first, second] =
                [values, first, second].map(|parts| Tensor::cat(parts, 0));
            groups.push(Group {
                places,
                state: AdamWState {
                    parameter,
                    first,
                    second,
                },
            });
        }
        Self { groups }
    }

    /// Whether these are the parameters with a gradient.
    pub fn has(&self, gradients: &NamedGradients) -> bool {
        let own: BTreeSet<&String> = self.places().map(|(name, _)| name).collect();
        own.into_iter().eq(gradients.keys())
    }

    fn places(&self) -> impl Iterator<Item = &(String, Range<usize>)> {
        self.groups.iter().flat_map(|group| &group.places)
    }

    /// A step of all parameters, with gradients scaled down to the norm `limit` if theirs is larger (0: never).
    /// Nothing is read from the device.
    ///
    /// - of_each: the gradients
    /// - step: its settings for a learning rate
    /// - rate: of the parameter of that name
    pub fn step<M: Module>(
        &mut self,
        module: M,
        names: &ParameterNames,
        mut of_each: NamedGradients,
        limit: f64,
        step: impl Fn(f64) -> AdamWStep,
        rate: impl Fn(&str) -> f64,
    ) -> M {
        let gradients = self.groups.iter().map(|group| {
            let parts = group
                .places
                .iter()
                .filter_map(|(name, _)| of_each.remove(name));
            joined(parts.collect())
        });
        let mut gradients: Vec<Tensor<1>> = gradients.collect();
        if limit > 0.0 {
            let squares = gradients
                .iter()
                .map(|gradient| gradient.clone().square().sum());
            if let Some(squares) = squares.reduce(|sum, one| sum + one) {
                let scale = (squares.sqrt().recip() * limit).clamp_max(1.0);
                gradients = gradients
                    .into_iter()
                    .map(|gradient| gradient * scale.clone())
                    .collect();
            }
        }
        let mut stepped = BTreeMap::new();
        for (group, gradient) in self.groups.iter_mut().zip(gradients) {
            let (name, _) = &group.places[0];
            group.state = step(rate(name)).apply(group.state.clone(), gradient);
            for (name, place) in &group.places {
                let value = group.state.parameter.clone().slice(place.clone());
                stepped.insert(name.clone(), value);
            }
        }
        module.map(&mut Stepped { names, stepped })
    }

    /// The moments of each parameter by name.
    pub fn into_moments(self) -> BTreeMap<String, Moments> {
        let groups = self.groups.into_iter();
        let each = groups.flat_map(|Group { places, state }| {
            let part = move |(name, place): (String, Range<usize>)| {
                let moments = Moments {
                    first: state.first.clone().slice(place.clone()),
                    second: state.second.clone().slice(place),
                };
                (name, moments)
            };
            places.into_iter().map(part)
        });
        each.collect()
    }

    /// m as `NAME/first` and v as `NAME/second`.
    pub fn values(&self) -> TrainedValues {
        let mut found = TrainedValues::new();
        for Group { places, state } in &self.groups {
            let [first, second] = [&state.first, &state.second].map(|all| host_values(all.clone()));
            for (name, place) in places {
                for (moment, values) in [("first", &first), ("second", &second)] {
                    let values = values[place.clone()].to_vec();
                    let shape = vec![values.len()];
                    found.insert(format!("{name}/{moment}"), HostTensor { shape, values });
                }
            }
        }
        found
    }
}

/// The flattened parameters, outside of the graph.
struct Parameters<'a> {
    names: &'a ParameterNames,
    found: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Parameters<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(name) = self.names.get(param.id) {
            let value = param.val().inner();
            let count = value.shape().num_elements();
            self.found.insert(name.to_owned(), value.reshape([count]));
        }
    }
}

struct Stepped<'a> {
    names: &'a ParameterNames,
    stepped: BTreeMap<String, Tensor<1>>,
}

impl ModuleMapper for Stepped<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.names.get(param.id);
        let Some(value) = name.and_then(|name| self.stepped.get(name)).cloned() else {
            return param;
        };
        param.map(|tensor| Tensor::from_inner(value.reshape(tensor.dims())).require_grad())
    }
}
