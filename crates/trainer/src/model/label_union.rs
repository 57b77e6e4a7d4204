//! The union of the labels of several tasks.

use std::collections::HashMap;

use eigenmix_data::LabelMap;

/// The labels of all tasks, each name once, for a merged model that does not know which task an
/// example belongs to (the joint evaluation of KnOTS, arXiv 2410.19735).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelUnion {
    names: Vec<String>,
    /// For each output of each task, in their order, the label in the union.
    labels: Vec<usize>,
    /// Where the outputs of each task begin.
    first: Vec<usize>,
}

impl LabelUnion {
    /// Labels in the order of the tasks and of their outputs; a name that two tasks share is one
    /// label.
    pub fn new(tasks: &[&LabelMap]) -> Self {
        let mut union = Self {
            names: Vec::new(),
            labels: Vec::new(),
            first: Vec::new(),
        };
        let mut index_of = HashMap::new();
        for task in tasks {
            union.first.push(union.labels.len());
            for name in task.names() {
                let label = *index_of.entry(name.as_str()).or_insert(union.names.len());
                if label == union.names.len() {
                    union.names.push(name.clone());
                }
                union.labels.push(label);
            }
        }
        union
    }

    /// The labels.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The label in the union of an output of a task.
    ///
    /// # Panics
    /// If the task or output does not exist.
    pub fn label(&self, task: usize, output: usize) -> usize {
        self.labels[self.first[task] + output]
    }

    /// One logit per label; for a label that several tasks share, the largest of their outputs. A
    /// NaN stays NaN.
    ///
    /// - logits: `[examples, Σ outputs]`, task by task
    /// - output: `[examples, labels]`
    pub fn unite(&self, logits: &[f32]) -> Vec<f32> {
        let examples = logits.chunks_exact(self.labels.len().max(1));
        examples
            .flat_map(|logits| {
                let mut united = vec![f32::NEG_INFINITY; self.names.len()];
                for (&logit, &label) in logits.iter().zip(&self.labels) {
                    if logit.is_nan() || logit > united[label] {
                        united[label] = logit;
                    }
                }
                united
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eigenmix_data::metrics::hits_at;

    fn labels(names: &[&str]) -> LabelMap {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        LabelMap::from_names(names).expect("distinct names")
    }

    /// Two tasks that have `cancel` in common.
    fn union() -> LabelUnion {
        let (gym, library) = (
            labels(&["book", "cancel"]),
            labels(&["cancel", "hours", "renew"]),
        );
        LabelUnion::new(&[&gym, &library])
    }

    #[test]
    fn a_name_that_two_tasks_have_is_one_label() {
        let union = union();
        assert_eq!(union.names(), ["book", "cancel", "hours", "renew"]);
        assert_eq!(union.label(0, 1), 1);
        let of_library: Vec<usize> = (0..3).map(|output| union.label(1, output)).collect();
        assert_eq!(of_library, [1, 2, 3]);
    }

    #[test]
    fn hits_on_united_labels_are_those_counted_by_hand() {
        let union = union();
        #[rustfmt::skip]
        let logits = [
            // gym: book, cancel; library: cancel, hours, renew
            2.0, 0.0,   1.0, 3.0, 0.5, // hours 3, book 2, cancel 1, renew 0.5
            0.0, 4.0,   1.0, 2.0, 3.0, // cancel 4 of the gym's head, renew 3, hours 2, book 0
            1.0, 0.0,   5.0, 2.0, 3.0, // cancel 5 of the library's head, renew 3, hours 2, book 1
        ];
        let united = union.unite(&logits);
        #[rustfmt::skip]
        let expected = [
            2.0, 1.0, 3.0, 0.5,
            0.0, 4.0, 2.0, 3.0,
            1.0, 5.0, 2.0, 3.0,
        ];
        assert_eq!(united, expected);
        // The gym's `book` is second; the library's `cancel` is first, through the gym's head; the
        // gym's `book` is last.
        let targets = [union.label(0, 0), union.label(1, 0), union.label(0, 0)];
        for (k, hits) in [(1, 1.0), (2, 2.0), (3, 2.0), (4, 3.0)] {
            let found = hits_at(k, &united, 4, &targets).expect("hits");
            assert_eq!(found, hits / 3.0, "Hits@{k}");
        }
    }

    #[test]
    fn a_logit_that_is_no_number_is_not_hidden_by_another() {
        let united = union().unite(&[0.0, 1.0, f32::NAN, 0.0, 0.0]);
        assert!(united[1].is_nan());
        let united = union().unite(&[0.0, f32::NAN, 1.0, 0.0, 0.0]);
        assert!(united[1].is_nan());
    }
}
