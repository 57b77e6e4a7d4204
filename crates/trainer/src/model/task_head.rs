//! The head of a task: it maps hidden states of the adapted base model to the task's labels.

use eigenmix_tensors::HostTensor;
use std::collections::BTreeMap;

use eigenmix_adapter::{AdapterFile, Labels};
use eigenmix_models::{Adaptation, Description, HeadKind, LoadReport, TEXT_FEATURES};

use crate::{BaseModel, TrainerError};

/// A head apart from the adapter that it was trained with.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskHead {
    /// Its tensors by name in the base model, the output layer's among them.
    pub tensors: BTreeMap<String, HostTensor>,
    /// The labels of its outputs, if known.
    pub labels: Option<Labels>,
}

/// Refuses a head of no outputs, or of others than its labels name.
///
/// - owner: whose it is
///
/// # Errors
/// [`TrainerError::HeadOutputs`].
pub(super) fn require_labelled(
    outputs: usize,
    labels: Option<&Labels>,
    owner: &str,
) -> Result<(), TrainerError> {
    let named = labels.map_or(outputs, |labels| labels.0.len());
    match outputs > 0 && named == outputs {
        true => Ok(()),
        false => Err(TrainerError::HeadOutputs {
            owner: owner.to_owned(),
            outputs,
            labels: named,
        }),
    }
}

impl TaskHead {
    /// The head that `adapter` was saved with; parts of the output layer that it lacks are taken
    /// from the base model.
    ///
    /// # Errors
    /// If neither has an output layer, or it cannot be read.
    pub fn of(base: &BaseModel, adapter: &AdapterFile) -> Result<Self, TrainerError> {
        let mut tensors = adapter.heads()?;
        let [weight, bias] = output_layer(base);
        for name in [&weight, &bias] {
            if tensors.contains_key(name) {
                continue;
            }
            if let Some(shape) = base.checkpoint.shape(name).map(<[usize]>::to_vec) {
                let values = base.checkpoint.read(name, &shape)?;
                tensors.insert(name.clone(), HostTensor { shape, values });
            }
        }
        let mut head = Self {
            tensors,
            labels: adapter.labels().cloned(),
        };
        let outputs = head.outputs(base).ok_or(TrainerError::NoHead)?;
        let owner = format!("`{}`", adapter.location());
        require_labelled(outputs, head.labels.as_ref(), &owner)?;
        if head.labels.is_none() {
            let of_base = base.labels().filter(|labels| labels.len() == outputs);
            head.labels = of_base.map(Labels);
        }
        Ok(head)
    }

    /// Whether the outputs of `adapter` on `base` are labels: what a language model's has were modules
    /// trained whole, such as a connector or a table of tokens.
    pub fn is_in(base: &BaseModel, adapter: &AdapterFile) -> bool {
        let [weight, _] = output_layer(base);
        let mut own = adapter.head_names();
        own.any(|name| name == weight || name == TEXT_FEATURES)
            || !base.architecture.supports(HeadKind::LanguageModel)
            || base.checkpoint.shape(&weight).is_some()
    }

    /// How many outputs it has, if it has an output layer.
    pub fn outputs(&self, base: &BaseModel) -> Option<usize> {
        let [weight, _] = self.output_layer(base);
        self.tensors.get(&weight)?.shape.first().copied()
    }

    /// What kind of head it is.
    ///
    /// # Errors
    /// If it has no output layer.
    pub(crate) fn kind(&self, base: &BaseModel) -> Result<HeadKind, TrainerError> {
        let labels = self.outputs(base).ok_or(TrainerError::NoHead)?;
        Ok(match self.is_zero_shot() {
            true => HeadKind::ZeroShot { labels },
            false => HeadKind::Classification { labels },
        })
    }

    fn is_zero_shot(&self) -> bool {
        self.tensors.contains_key(TEXT_FEATURES)
    }

    /// The names of the weight and bias that give the outputs; the features of texts are such a
    /// weight, and have no bias.
    fn output_layer(&self, base: &BaseModel) -> [String; 2] {
        match self.is_zero_shot() {
            true => [TEXT_FEATURES.to_owned(), format!("{TEXT_FEATURES}.bias")],
            false => output_layer(base),
        }
    }

    /// Replaces the head in `adaptation` and in `report`.
    pub(crate) fn replace(
        &self,
        adaptation: &mut Adaptation,
        report: &mut LoadReport,
        description: &Description,
    ) {
        if self.is_zero_shot() {
            // It is placed on top of the adapter's own projection, if there is one.
            adaptation.tensors.extend(self.tensors.clone());
            return;
        }
        for name in report.heads.drain(..) {
            adaptation.tensors.remove(&name);
        }
        for (name, tensor) in &self.tensors {
            let mut known = description.head_tensors.iter();
            if known.any(|(known, _)| known == name) {
                report.heads.push(name.clone());
                adaptation.tensors.insert(name.clone(), tensor.clone());
            } else {
                report.unexpected.push(name.clone());
            }
        }
        // A layer that is saved whole is not adapted, even if the adapter's targets match it.
        let is_whole = |path: &String| self.tensors.contains_key(&format!("{path}.weight"));
        report.missing.retain(|path| !is_whole(path));
    }

    /// Several heads as one, whose outputs are those of all, one after the other; `None` where they
    /// differ in more than the output layer.
    ///
    /// ```text
    /// W = [W_1; …; W_T] [Σ outputs, d_model]    b = [b_1; …; b_T]
    /// ```
    pub(crate) fn stacked(base: &BaseModel, heads: &[&Self]) -> Option<Self> {
        let (first, others) = heads.split_first()?;
        let layer = first.output_layer(base);
        let beneath = |head: &Self| {
            let mut tensors = head.tensors.clone();
            tensors.retain(|name, _| !layer.contains(name));
            tensors
        };
        let mut tensors = beneath(first);
        if others.iter().any(|head| beneath(head) != tensors) {
            return None;
        }
        for name in layer {
            let parts: Vec<Option<&HostTensor>> =
                heads.iter().map(|head| head.tensors.get(&name)).collect();
            // Heads without a bias stack as they are; one without among others has no place.
            if parts.iter().all(Option::is_none) {
                continue;
            }
            let parts: Vec<&HostTensor> = parts.into_iter().collect::<Option<_>>()?;
            let (_, width) = parts[0].shape.split_first()?;
            let mut rows = 0;
            for part in &parts {
                let (count, other) = part.shape.split_first()?;
                if other != width {
                    return None;
                }
                rows += count;
            }
            let stack = HostTensor {
                shape: [&[rows], width].concat(),
                values: parts
                    .iter()
                    .flat_map(|part| &part.values)
                    .copied()
                    .collect(),
            };
            tensors.insert(name, stack);
        }
        Some(Self {
            tensors,
            labels: None,
        })
    }
}

/// The names of the output layer's weight and bias.
pub(crate) fn output_layer(base: &BaseModel) -> [String; 2] {
    let weight = base.architecture.output_weight().to_owned();
    let bias = match weight.strip_suffix(".weight") {
        Some(path) => format!("{path}.bias"),
        None => format!("{weight}.bias"),
    };
    [weight, bias]
}
