//! The head of an adapter that a training goes on from.

use std::collections::BTreeMap;

use eigenmix_data::{InputContract, LabelMap, Targets};
use eigenmix_models::{Description, HeadKind};
use eigenmix_tensors::{FileError, HostTensor};

use super::training_data::TrainingData;
use crate::methods::InitialAdapter;
use crate::model::output_layer;
use crate::{BaseModel, TrainerError};

/// The tensors of the adapter's head, with their outputs in the order of the training's labels; none where
/// it is for other labels or for another task, which a note says.
///
/// # Errors
/// If the adapter trained other tensors whole, adapts a layer of the head, or its head has another shape
/// than its labels say.
pub(super) fn initial_head(
    initial: &InitialAdapter,
    base: &BaseModel,
    kind: HeadKind,
    description: &Description,
    targets: Option<&Targets>,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<String, HostTensor>, TrainerError> {
    let file = &initial.file;
    let is_of_head = |name: &str| {
        description
            .head_tensors
            .iter()
            .any(|(known, _)| known == name)
    };
    let is_left_out = |name: &&str| {
        (!kind.is_of_task() || !is_of_head(name)) && !initial.saves_layer(name, description)
    };
    let others: Vec<&str> = file.head_names().filter(is_left_out).collect();
    require_other_heads(initial, base, &others)?;
    let adapter = file.location();
    if !kind.is_of_task() {
        if !others.is_empty() {
            notes.push(format!(
                "the head of `{adapter}` (`{}`) is for another task and left out",
                others.join("`, `")
            ));
        }
        return Ok(BTreeMap::new());
    }
    for path in file.module_paths() {
        if description.layer(path).is_some_and(|layer| layer.head) {
            return Err(initial.refused(format!(
                "it adapts `{path}`, a layer of the head, which a training trains whole. {}",
                initial.merge_advice()
            )));
        }
    }
    let mut tensors = file.heads()?;
    tensors.retain(|name, _| is_of_head(name));
    let [weight, bias] = output_layer(base);
    let order = match tensors.get(&weight) {
        None => Err("has no head".to_owned()),
        Some(tensor) => order_of_outputs(initial, base, tensor.shape[0], targets),
    };
    let order = match order {
        Ok(order) => order,
        Err(reason) => {
            notes.push(format!(
                "`{adapter}` {reason}; the head of the training starts anew"
            ));
            return Ok(BTreeMap::new());
        }
    };
    for (name, tensor) in &mut tensors {
        let mut of_head = description.head_tensors.iter();
        let shape = of_head
            .find(|(known, _)| known == name)
            .map(|(_, shape)| shape);
        if shape.is_some_and(|shape| *shape != tensor.shape) {
            return Err(initial.refused(format!(
                "its `{name}` has the shape {:?}, but the head of the training {:?}",
                tensor.shape,
                shape.map(Vec::as_slice).unwrap_or_default()
            )));
        }
        if [&weight, &bias].contains(&name) {
            *tensor = with_rows(tensor, &order);
        }
    }
    Ok(tensors)
}

/// Refuses tensors that are not those of a head: they would not be used.
fn require_other_heads(
    initial: &InitialAdapter,
    base: &BaseModel,
    others: &[&str],
) -> Result<(), TrainerError> {
    let classifier = base
        .architecture
        .describe(HeadKind::Classification { labels: 1 });
    let classifier = classifier
        .map(|found| found.head_tensors)
        .unwrap_or_default();
    let is_of_classifier = |name: &str| classifier.iter().any(|(known, _)| known == name);
    match others.iter().find(|name| !is_of_classifier(name)) {
        Some(name) => Err(initial.refused(format!(
            "it has trained `{name}` whole, which a training of an adapter does not. {}",
            initial.merge_advice()
        ))),
        None => Ok(()),
    }
}

/// For each output of the training, that of the adapter's head; a reason where it is for something else.
///
/// - outputs: how many outputs the adapter's head has
fn order_of_outputs(
    initial: &InitialAdapter,
    base: &BaseModel,
    outputs: usize,
    targets: Option<&Targets>,
) -> Result<Vec<usize>, String> {
    let own = initial.file.labels().map(|labels| labels.0.clone());
    let Some(labels) = targets.and_then(Targets::labels) else {
        return match own {
            Some(names) => Err(format!(
                "has a head for labels ({}), not for numbers",
                few(&names)
            )),
            None if outputs != 1 => Err(format!(
                "has a head of {outputs} outputs, not of one number"
            )),
            None => Ok(vec![0]),
        };
    };
    let of_base = || base.labels().filter(|names| names.len() == outputs);
    let Some(names) = own.or_else(of_base) else {
        let reason = "has a head, but nothing says for which labels (it has no labels.json)";
        return Err(reason.to_owned());
    };
    let place = |there: &LabelMap| -> Option<Vec<usize>> {
        let place = |name: &String| there.names().iter().position(|other| other == name);
        labels.names().iter().map(place).collect()
    };
    let order = labels.in_order_of(&names).as_ref().and_then(place);
    order.ok_or_else(|| {
        format!(
            "has a head for other labels ({}, not {})",
            few(&names),
            few(labels.names())
        )
    })
}

/// The first names of a list, which may be long.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names[..names.len().min(SHOWN)].join("`, `");
    match names.len() {
        ..=SHOWN => format!("`{shown}`"),
        count => format!("`{shown}` and {} more", count - SHOWN),
    }
}

/// The rows of a tensor in another order.
fn with_rows(tensor: &HostTensor, order: &[usize]) -> HostTensor {
    let size = tensor.shape[1..].iter().product::<usize>();
    let rows = order
        .iter()
        .flat_map(|&row| &tensor.values[row * size..][..size]);
    HostTensor::new(tensor.shape.clone(), rows.copied().collect())
}

/// What a training gives its model otherwise than the training of the adapter did.
///
/// # Errors
/// If a file beside the adapter cannot be read.
pub(super) fn other_input(
    initial: &InitialAdapter,
    data: &TrainingData,
) -> Result<Option<String>, TrainerError> {
    let Some((contract, directory)) = initial.input()? else {
        return Ok(None);
    };
    let mut differences = contract.differences(&data.input);
    if let (Some(name), Some(template)) = (&contract.chat_template, &data.chat_template) {
        let path = directory.join(name);
        let there = match path.is_file() {
            true => std::fs::read_to_string(&path).map_err(FileError::io("read", &path))?,
            false => template.clone(),
        };
        if there != *template {
            differences.push(format!(
                "another chat template (`{}` there)",
                directory.join(InputContract::CHAT_TEMPLATE).display()
            ));
        }
    }
    Ok((!differences.is_empty()).then(|| {
        format!(
            "`{}` was trained on another input than this training: {}; if that is not meant, set [data] \
             alike",
            initial.file.location(),
            differences.join(", ")
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_in_the_order_asked_for() {
        let weight = HostTensor::new([3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let bias = HostTensor::new([3], vec![7.0, 8.0, 9.0]);
        let order = [2, 0, 1];
        assert_eq!(
            with_rows(&weight, &order).values,
            [5.0, 6.0, 1.0, 2.0, 3.0, 4.0]
        );
        assert_eq!(with_rows(&bias, &order).values, [9.0, 7.0, 8.0]);
    }
}
