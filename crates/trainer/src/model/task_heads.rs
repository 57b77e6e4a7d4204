//! One adapted base model under the heads of several tasks.

use std::num::NonZeroUsize;
use std::ops::Range;

use burn::tensor::Device;
use eigenmix_adapter::Adapter;

use super::task_head::TaskHead;
use crate::tasks::Inputs;
use crate::{BaseModel, Classifier, TrainerError};

/// The heads of several tasks for one base model.
///
/// Heads that differ in their output layer only are stacked, so that one pass through the model
/// serves them all; others (RoBERTa and DistilBERT have an additional layer) take one each.
pub struct TaskHeads {
    outputs: Vec<usize>,
    stacks: Vec<Stack>,
}

/// Heads that share a pass.
struct Stack {
    head: TaskHead,
    tasks: Vec<usize>,
}

/// An adapter on its base model under several heads.
pub struct TaskClassifiers {
    /// How many outputs each task has.
    outputs: Vec<usize>,
    passes: Vec<Pass>,
}

struct Pass {
    classifier: Classifier,
    /// The tasks and which columns of the classifier's outputs are theirs.
    tasks: Vec<(usize, Range<usize>)>,
}

impl TaskHeads {
    /// - heads: one per task, each with an output layer
    ///
    /// # Errors
    /// If one has no output layer.
    pub fn new(base: &BaseModel, heads: &[TaskHead]) -> Result<Self, TrainerError> {
        let outputs = heads
            .iter()
            .map(|head| head.outputs(base).ok_or(TrainerError::NoHead))
            .collect::<Result<_, _>>()?;
        let mut stacks: Vec<Stack> = Vec::new();
        for (task, head) in heads.iter().enumerate() {
            let joined = stacks.iter_mut().find_map(|stack| {
                let head = TaskHead::stacked(base, &[&stack.head, head])?;
                Some((stack, head))
            });
            match joined {
                Some((stack, head)) => {
                    stack.head = head;
                    stack.tasks.push(task);
                }
                None => stacks.push(Stack {
                    head: head.clone(),
                    tasks: vec![task],
                }),
            }
        }
        Ok(Self { outputs, stacks })
    }

    /// How many passes through the model it takes to have the outputs of every head.
    pub fn passes(&self) -> usize {
        self.stacks.len()
    }

    /// Places `adapter` on `base`, or nothing, and every head on top; the adapter's own heads are
    /// ignored.
    ///
    /// # Errors
    /// As [`Classifier::assemble`].
    pub fn on(
        &self,
        base: &BaseModel,
        adapter: Option<&Adapter>,
        allow_partial: bool,
        device: &Device,
    ) -> Result<TaskClassifiers, TrainerError> {
        let passes = self.stacks.iter().map(|stack| {
            let head = Some(&stack.head);
            let classifier = Classifier::assemble(base, adapter, head, allow_partial, device)?;
            let mut first = 0;
            let tasks = stack.tasks.iter().map(|&task| {
                let columns = first..first + self.outputs[task];
                first = columns.end;
                (task, columns)
            });
            Ok(Pass {
                tasks: tasks.collect(),
                classifier,
            })
        });
        Ok(TaskClassifiers {
            passes: passes.collect::<Result<_, TrainerError>>()?,
            outputs: self.outputs.clone(),
        })
    }
}

impl TaskClassifiers {
    /// The logits of one task's own head on its examples: `[examples, outputs of the task]`.
    ///
    /// # Errors
    /// If an image can't be read.
    pub fn logits(
        &self,
        task: usize,
        inputs: &dyn Inputs,
        batch_size: NonZeroUsize,
        progress: &dyn Fn(usize),
    ) -> Result<Vec<f32>, TrainerError> {
        let place = self.passes.iter().find_map(|pass| {
            let (_, columns) = pass.tasks.iter().find(|(other, _)| *other == task)?;
            Some((pass, columns.clone()))
        });
        let Some((pass, columns)) = place else {
            return Ok(Vec::new());
        };
        let all = pass.classifier.all_logits(inputs, batch_size, progress)?;
        Ok(select(&all, pass.classifier.outputs(), columns))
    }

    /// The logits of all heads on the same examples, task by task: `[examples, Σ outputs]`.
    /// `progress` is called for all examples in every pass.
    ///
    /// # Errors
    /// If an image can't be read.
    pub fn joint_logits(
        &self,
        inputs: &dyn Inputs,
        batch_size: NonZeroUsize,
        progress: &dyn Fn(usize),
    ) -> Result<Vec<f32>, TrainerError> {
        let width: usize = self.outputs.iter().sum();
        let mut joint = vec![0.0; inputs.len() * width];
        for pass in &self.passes {
            let found = pass.classifier.all_logits(inputs, batch_size, progress)?;
            let rows = found.chunks(pass.classifier.outputs());
            for (row, found) in joint.chunks_mut(width).zip(rows) {
                for (task, columns) in &pass.tasks {
                    row[self.columns(*task)].copy_from_slice(&found[columns.clone()]);
                }
            }
        }
        Ok(joint)
    }

    /// Of joint logits `[examples, Σ outputs]`, those of one task's head: `[examples, outputs]`.
    pub fn own(&self, task: usize, joint: &[f32]) -> Vec<f32> {
        select(joint, self.outputs.iter().sum(), self.columns(task))
    }

    /// Which columns of the joint logits are those of a task.
    fn columns(&self, task: usize) -> Range<usize> {
        let first = self.outputs[..task].iter().sum();
        first..first + self.outputs[task]
    }
}

/// Some columns of a matrix of `width` columns.
fn select(matrix: &[f32], width: usize, columns: Range<usize>) -> Vec<f32> {
    let rows = matrix.chunks(width);
    rows.flat_map(|row| &row[columns.clone()])
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use eigenmix_tensors::HostTensor;
    use std::path::PathBuf;

    use eigenmix_adapter::AdapterFile;

    use super::*;
    use crate::{DeviceChoice, TextInputs};
    use eigenmix_data::{DataConfig, LabelPolicy, Split, read_split};

    const BATCH: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");

    fn quickstart(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../datasets/quickstart")
            .join(name)
    }

    fn base() -> BaseModel {
        let path = quickstart("base");
        let mut base = BaseModel::open(path.to_str().expect("UTF-8")).expect("the base model");
        base.checkpoint.share_tensors();
        base
    }

    fn source(name: &str) -> AdapterFile {
        AdapterFile::open(&quickstart("adapters").join(name)).expect("an adapter")
    }

    fn examples(base: &BaseModel) -> TextInputs {
        let dir = quickstart("tasks/gym");
        let config = DataConfig::new("unused");
        let rows = read_split(&dir, Split::Test, &config, LabelPolicy::Required).expect("rows");
        let tokenizer = base.tokenizer().expect("a tokenizer");
        TextInputs(tokenizer.encode_all(&rows[..40], 48).expect("tokens"))
    }

    /// One head of the gym's ten labels and one of three of the library's, on the bakery's adapter.
    fn heads(base: &BaseModel) -> [TaskHead; 2] {
        let gym = TaskHead::of(base, &source("gym")).expect("a head");
        let mut library = TaskHead::of(base, &source("library")).expect("a head");
        for tensor in library.tensors.values_mut() {
            let width: usize = tensor.shape[1..].iter().product();
            tensor.shape[0] = 3;
            tensor.values.truncate(3 * width);
        }
        library.labels = None;
        [gym, library]
    }

    fn assert_same_logits(base: &BaseModel, heads: &[TaskHead], passes: usize) {
        let device = DeviceChoice::default().open().expect("the CPU");
        let adapter = source("bakery").load().expect("an adapter");
        let inputs = examples(base);
        let all = TaskHeads::new(base, heads).expect("heads");
        assert_eq!(all.passes(), passes);
        let placed = all
            .on(base, Some(&adapter), false, &device)
            .expect("a classifier");
        let joint = placed
            .joint_logits(&inputs, BATCH, &|_| {})
            .expect("logits");
        assert_eq!(joint.len(), 40 * 13);
        for (task, head) in heads.iter().enumerate() {
            let alone = Classifier::assemble(base, Some(&adapter), Some(head), false, &device);
            let alone = alone.expect("a classifier");
            let expected = alone.all_logits(&inputs, BATCH, &|_| {}).expect("logits");
            let own = placed
                .logits(task, &inputs, BATCH, &|_| {})
                .expect("logits");
            for found in [own, placed.own(task, &joint)] {
                assert_eq!(found.len(), expected.len());
                let pairs = found.iter().zip(&expected);
                let difference = pairs.map(|(found, expected)| (found - expected).abs());
                let largest = difference.fold(0.0, f32::max);
                // Logits of size ten in f32; another width may sum in another order.
                assert!(largest < 2e-5, "{largest}");
            }
        }
    }

    #[test]
    fn stacked_heads_give_the_logits_of_each_alone_in_one_pass() {
        let base = base();
        assert_same_logits(&base, &heads(&base), 1);
    }

    #[test]
    fn heads_that_differ_beneath_the_output_layer_take_a_pass_each() {
        let base = base();
        let mut heads = heads(&base);
        let name = "bert.pooler.dense.weight";
        let values = base.checkpoint.read("pooler.dense.weight", &[64, 64]);
        let mut values = values
            .or_else(|_| base.checkpoint.read(name, &[64, 64]))
            .expect("the base model's pooler");
        values.reverse();
        let shape = vec![64, 64];
        let pooler = HostTensor { shape, values };
        heads[1].tensors.insert(name.to_owned(), pooler);
        assert_same_logits(&base, &heads, 2);
    }

    #[test]
    fn shared_tensors_change_no_logit() {
        let device = DeviceChoice::default().open().expect("the CPU");
        let shared = base();
        let path = quickstart("base");
        let alone = BaseModel::open(path.to_str().expect("UTF-8")).expect("the base model");
        let inputs = examples(&shared);
        let logits = |base: &BaseModel, name: &str| {
            let classifier = Classifier::load(base, Some(&source(name)), false, &device);
            let classifier = classifier.expect("a classifier");
            classifier
                .all_logits(&inputs, BATCH, &|_| {})
                .expect("logits")
        };
        // The second model is the one that finds everything placed.
        for name in ["gym", "bakery", "gym"] {
            assert_eq!(logits(&shared, name), logits(&alone, name), "{name}");
        }
    }
}
