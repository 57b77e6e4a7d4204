//! Merged updates that the KnOTS and the Core Space authors' code computed, from `shared/golden`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eigenmix_adapter::AdapterFile;
use eigenmix_merging::{KnotsRows, MergeOptions, Method, Scope, Space, merge};
use eigenmix_tensors::{Matrix, TensorFile};

use crate::random_adapters::relative_difference;

/// All merges of the golden file.
pub struct Golden {
    directory: PathBuf,
    tensors: TensorFile,
}

/// One of them, such as `coreauthors/same/knots/ties-20`.
pub struct GoldenCase {
    pub name: String,
    /// The group of adapters: `same` or `mixed`.
    pub group: String,
    pub options: MergeOptions,
    modules: Vec<String>,
}

/// A module merged by the authors and by us, ours read back from the saved adapter.
pub struct Pair {
    pub theirs: Matrix,
    pub ours: Matrix,
    pub rank: usize,
}

impl Golden {
    /// `shared/golden/merging`, beside the repository on the machine where it was made.
    pub fn open() -> Option<Self> {
        let directory =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/merging");
        if !directory.exists() {
            println!("skipped: {} is not here", directory.display());
            return None;
        }
        let tensors = TensorFile::open(&directory.join("merged.safetensors"));
        Some(Self {
            tensors: tensors.expect("the golden merges"),
            directory,
        })
    }

    pub fn cases(&self) -> Vec<GoldenCase> {
        let mut modules: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for tensor in self.tensors.names() {
            let (case, module) = tensor.rsplit_once('/').expect("SOURCE/…/MODULE");
            let entry = modules.entry(case.to_owned()).or_default();
            entry.push(module.to_owned());
        }
        modules
            .into_iter()
            .map(|(name, modules)| GoldenCase::new(name, modules))
            .collect()
    }

    pub fn adapters(&self, group: &str) -> Vec<AdapterFile> {
        (0..3)
            .map(|index| self.directory.join(format!("adapters/{group}-{index}")))
            .map(|path| AdapterFile::open(&path).expect("a golden adapter"))
            .collect()
    }

    pub fn pairs(&self, case: &GoldenCase) -> Vec<Pair> {
        let merged = merge(&self.adapters(&case.group), &case.options, &|_, _| {});
        let merged = merged.expect("a merge");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("merged");
        let saved = merged.adapter.save(&path, &Default::default());
        saved.expect("a saved adapter");
        let file = AdapterFile::open(&path).expect("the saved adapter");
        file.require_clean().expect("nothing unexpected");
        case.modules
            .iter()
            .map(|path| {
                let ours = file.module(path).expect("the module").update();
                let theirs = self.tensors.read_f32(&format!("{}/{path}", case.name));
                Pair {
                    theirs: Matrix::new(ours.rows(), ours.cols(), theirs.expect("their update")),
                    rank: merged.report.modules[path].rank,
                    ours,
                }
            })
            .collect()
    }
}

impl GoldenCase {
    fn new(name: String, modules: Vec<String>) -> Self {
        let words: Vec<&str> = name.split('/').collect();
        let (group, options) = match words.as_slice() {
            ["coreauthors", group, space, method] => (group, core_authors(space, method)),
            ["knotsauthors", group, method] => (group, knots_authors(method)),
            _ => panic!("a new golden source: {name}"),
        };
        Self {
            group: (*group).to_owned(),
            options,
            modules,
            name,
        }
    }

    /// How many singular values the authors' code isotropizes for a module of this shape.
    pub fn isotropized(&self, [d_out, d_in]: [usize; 2]) -> usize {
        // Ranks 4, 4, 4 and 2, 4, 3.
        let columns = if self.group == "same" { 12 } else { 9 };
        match self.options.space {
            Space::Full | Space::Knots => d_out.min(d_in),
            Space::Core => d_out.min(d_in).min(columns),
        }
    }

    /// Whether the authors' result depends on directions that their decomposition chose at random.
    ///
    /// TSV, where an adapter has fewer directions than its share of the triplets (`mixed`), takes
    /// up triplets whose singular value is zero; isotropizing raises vanishing directions. See
    /// `golden_undetermined`.
    pub fn is_undetermined(&self, pairs: &[Pair]) -> bool {
        let takes_zero_triplets = self.options.method == Method::Tsv && self.group == "mixed";
        takes_zero_triplets || self.options.isotropize && self.vanishing_directions(pairs)
    }

    fn vanishing_directions(&self, pairs: &[Pair]) -> bool {
        pairs
            .iter()
            .any(|pair| pair.rank < self.isotropized(pair.ours.shape()))
    }
}

fn core_authors(space: &str, method: &str) -> MergeOptions {
    let (name, isotropize) = match method.strip_suffix("-iso") {
        Some(name) => (name, true),
        None => (method, false),
    };
    let method = match name {
        "mean" => Method::Average,
        "sum" => Method::Sum,
        "ties-20" => Method::Ties { density: 0.2 },
        "ties-50" => Method::Ties { density: 0.5 },
        "tsv" => Method::Tsv,
        "cart-0.16-0.7" => Method::Cart {
            rank_fraction: 0.16,
            coefficient: 0.7,
        },
        other => panic!("a new golden method: {other}"),
    };
    let space = match space {
        "full" => Space::Full,
        "knots" => Space::Knots,
        "core" => Space::Core,
        other => panic!("a new golden space: {other}"),
    };
    MergeOptions {
        isotropize,
        scope: Scope::Layer,
        knots_rows: KnotsRows::Unscaled,
        ..MergeOptions::new(space, method)
    }
}

fn knots_authors(method: &str) -> MergeOptions {
    let words: Vec<&str> = method.split('-').collect();
    let &[name, top, scale] = words.as_slice() else {
        panic!("a new golden case: {method}")
    };
    let density = top.parse::<f64>().expect("a percentage") / 100.0;
    let scale = scale.strip_prefix("scale").expect("a scale");
    let method = match name {
        "tv" if density == 1.0 => Method::Sum,
        "ties" => Method::Ties { density },
        other => panic!("a new golden method: {other}"),
    };
    MergeOptions {
        scale: scale.parse().expect("a number"),
        ..MergeOptions::new(Space::Knots, method)
    }
}

#[test]
fn what_the_authors_computed_is_what_the_saved_merge_does() {
    let Some(golden) = Golden::open() else { return };
    let mut undetermined = 0;
    let cases = golden.cases();
    assert_eq!(cases.len(), 72);
    for case in cases {
        let pairs = golden.pairs(&case);
        if case.is_undetermined(&pairs) {
            undetermined += 1;
            continue;
        }
        for Pair { theirs, ours, .. } in &pairs {
            // Their KnOTS decomposes dense f32 products: 8e-6 at worst. All else is below 3e-7.
            let difference = relative_difference(ours, theirs);
            assert!(difference < 1e-4, "{}: {difference}", case.name);
        }
    }
    assert_eq!(undetermined, 13);
}
