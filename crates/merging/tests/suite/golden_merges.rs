//! Merged updates in the recipes of the KnOTS and the Core Space authors, as files beside the
//! adapters that they are of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use eigenmix_adapter::AdapterFile;
use eigenmix_merging::{KnotsRows, MergeOptions, Method, Scope, Space, merge};
use eigenmix_tensors::{Matrix, TensorFile};

/// All merges of one file.
pub struct GoldenMerges {
    directory: PathBuf,
    tensors: TensorFile,
}

/// One of them, such as `coreauthors/same/knots/ties-20`.
pub struct GoldenCase {
    pub name: String,
    /// The group of adapters, such as `mixed`.
    pub group: String,
    pub options: MergeOptions,
    modules: Vec<String>,
}

/// A module merged by them and by us, ours read back from the saved adapter.
pub struct Pair {
    pub theirs: Matrix,
    pub ours: Matrix,
    /// How many directions our merge has.
    pub rank: usize,
    /// How many singular values their recipe isotropizes.
    pub isotropized: usize,
}

impl GoldenMerges {
    /// A file of `directory`, which has the adapters in `adapters/GROUP-{0,1,2}`.
    pub fn open(directory: &Path, file: &str) -> Self {
        Self {
            tensors: TensorFile::open(&directory.join(file)).expect("golden merges"),
            directory: directory.to_owned(),
        }
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
        let adapters = self.adapters(&case.group);
        let merged = merge(&adapters, &case.options, &|_, _| {});
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
                let columns = adapters.iter().map(|adapter| {
                    let (rank, ..) = adapter.shape(path).expect("the module");
                    rank
                });
                let largest_rank = ours.rows().min(ours.cols());
                Pair {
                    theirs: Matrix::new(ours.rows(), ours.cols(), theirs.expect("their update")),
                    rank: merged.report.modules[path].rank,
                    isotropized: match case.options.space {
                        Space::Full | Space::Knots => largest_rank,
                        Space::Core => largest_rank.min(columns.sum()),
                    },
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
            ["further", group, space, method] => (group, further(space, method)),
            _ => panic!("a new golden source: {name}"),
        };
        Self {
            group: (*group).to_owned(),
            options,
            modules,
            name,
        }
    }

    /// Whether a direction of singular value zero is raised, which rounding chose.
    pub fn raises_vanishing_directions(&self, pairs: &[Pair]) -> bool {
        self.options.isotropize && pairs.iter().any(|pair| pair.rank < pair.isotropized)
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

/// A method of `make_further.py`, such as `ties-50-compress4`.
fn further(space: &str, method: &str) -> MergeOptions {
    let (method, compress) = match method.split_once("-compress") {
        Some((method, rank)) => (method, Some(rank.parse().expect("a rank"))),
        None => (method, None),
    };
    let percent = |number: &str| number.parse::<f64>().expect("a percentage") / 100.0;
    let method = match method.rsplit_once('-') {
        None if method == "sum" => Method::Sum,
        None if method == "tsv" => Method::Tsv,
        Some(("ties", kept)) => Method::Ties {
            density: percent(kept),
        },
        Some(("iso-cts", common)) => Method::IsoCts {
            common_fraction: percent(common),
        },
        Some(("robust", pruned)) => Method::Robust {
            prune: percent(pruned),
        },
        _ => panic!("a new golden method: {method}"),
    };
    let (space, knots_rows) = match space {
        "full" => (Space::Full, KnotsRows::ScaledBySigma),
        "knots" => (Space::Knots, KnotsRows::ScaledBySigma),
        "unscaled" => (Space::Knots, KnotsRows::Unscaled),
        "core" => (Space::Core, KnotsRows::ScaledBySigma),
        other => panic!("a new golden space: {other}"),
    };
    MergeOptions {
        scope: Scope::Layer,
        knots_rows,
        compress,
        ..MergeOptions::new(space, method)
    }
}
