//! The results of an experiment: arm by arm, over the seeds.

mod arm;
mod compared;
mod page;
mod plan;
mod recycling;
mod samples;
mod table;
use std::path::Path;

use eigenmix_tensors::write_file;
use serde::{Deserialize, Serialize};

pub use self::arm::{ArmReport, ArmSubspace, Failure};
use self::compared::Compared;
pub use self::plan::ExperimentPlan;
pub use self::recycling::RecyclingEffect;
pub(crate) use self::samples::thumbnail;
use crate::ExperimentError;

/// The comparison of an experiment's arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub output: String,
    pub arms: Vec<ArmReport>,
}

impl Report {
    /// Writes `report.md`, `report.json` and `report.html` into `directory`. The page opens offline,
    /// and the JSON holds everything that it shows.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), ExperimentError> {
        /// `report.json`.
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            report: &'a Report,
            recycled: &'a Compared,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            recycling: Vec<RecyclingEffect>,
        }
        let compared = Compared::of(self);
        let whole = Whole {
            report: self,
            recycled: &compared,
            recycling: self.recycling(),
        };
        let write = |name: &str, text: &[u8]| write_file(&directory.join(name), text);
        write("report.md", self.markdown().as_bytes())?;
        write("report.json", &serde_json::to_vec_pretty(&whole)?)?;
        let page = page::page(self, &compared).render();
        write("report.html", page.as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use eigenmix_trainer::Outcome;
    use serde_json::Value;

    use super::*;

    fn outcome(directory: &Path, accuracy: f64) -> Outcome {
        Outcome {
            output: directory.to_owned(),
            interrupted: false,
            steps: 20,
            seconds: 2.0,
            adapter_parameters: 512,
            head_parameters: 650,
            bytes: 5_800,
            examples_per_second: Some(100.0),
            peak_memory: Some(64_000_000),
            processes: None,
            start: None,
            loss: Some(0.5),
            validation: None,
            test: Some(BTreeMap::from([("accuracy".to_owned(), accuracy)])),
        }
    }

    fn written(report: &Report) -> [String; 3] {
        let root = tempfile::tempdir().expect("a directory");
        report.write(root.path()).expect("a report");
        let read = |name: &str| std::fs::read_to_string(root.path().join(name)).expect(name);
        ["report.md", "report.json", "report.html"].map(read)
    }

    #[test]
    fn failed_cells_stand_in_every_form_of_the_report() {
        let runs = tempfile::tempdir().expect("a directory");
        let outcomes = [
            (0, outcome(runs.path(), 0.7)),
            (1, outcome(runs.path(), 0.8)),
        ];
        let failure = |seed| Failure {
            seed,
            problem: "the loss is <NaN>".to_owned(),
        };
        let mut half = ArmReport::of("half", &outcomes).expect("an arm");
        half.failures.push(failure(2));
        let none = ArmReport::failed("none", vec![failure(0)]);
        let report = Report {
            output: "runs/x".to_owned(),
            arms: vec![half, none],
        };
        let [markdown, json, html] = written(&report);
        assert!(markdown.contains("| half | 512 | 650 | 5.8 kB | 0.7500 ± 0.0707 | 2.0 ± 0.0 |"));
        assert!(markdown.contains("- none, seed 0: the loss is <NaN>"));
        let json: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["arms"][0]["failures"][0]["seed"], 2);
        assert_eq!(json["arms"][1]["seconds"], Value::Null);
        assert!(html.contains("half, seed 2: the loss is &lt;NaN&gt;"));
        assert!(html.contains("accuracy against trained parameters"));
        let words = report.to_string();
        assert!(words.contains("not finished: half, seed 2"), "{words}");
        // What one release writes, the next one reads.
        let text = serde_json::to_string(&report).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Report>(&text).expect("a report"),
            report
        );
    }

    #[test]
    fn what_cannot_be_read_is_left_out_with_a_note() {
        let run = tempfile::tempdir().expect("a directory");
        std::fs::write(run.path().join("metrics.jsonl"), "{\n{}\n").expect("a file");
        std::fs::write(run.path().join("basis.json"), "{}").expect("a file");
        let arm = ArmReport::of("odd", &[(0, outcome(run.path(), 0.5))]).expect("an arm");
        assert_eq!(arm.notes.len(), 2, "{:?}", arm.notes);
        let report = Report {
            output: "runs/x".to_owned(),
            arms: vec![arm],
        };
        let [_, _, html] = written(&report);
        assert!(html.contains("odd: no learning curves"));
        assert!(html.contains("odd: no spectrum"));
    }
}
