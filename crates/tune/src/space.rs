//! The changes of a training file that are worth trying.

use eigenmix_trainer::{
    AdapterConfig, AdapterMethod, BasisKind, ComponentCount, GradientJoin, GradientKey, Init,
    TrainConfig,
};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use toml::{Table, Value};

use crate::candidate::Candidate;

/// No more are tried, however large the budget is.
const MOST: usize = 64;

/// How often combinations are drawn in search of new ones.
const DRAWS: usize = 1_000;

/// Components of the smallest basis that is tried where the file says no number.
const FEW: usize = 8;

/// The word for every component.
const ALL: &str = "all";

/// The rank of methods with factors where the file gives none.
const RANK: i64 = 8;

/// The keys that say what a basis is made of, which mean nothing to methods without one.
const OF_BASES: [&str; 8] = [
    "adapter.adapters",
    "adapter.subspace",
    "adapter.weights",
    "adapter.basis",
    "adapter.gradient",
    "adapter.components",
    "adapter.augment",
    "adapter.init",
];

/// The file itself, then each change by itself, the most promising first, then combinations of them that
/// are drawn with the seed. Only valid files are among them.
///
/// - rows: how many the winner is trained on
pub(crate) fn candidates(file: &Table, config: &TrainConfig, rows: usize) -> Vec<Candidate> {
    let dimensions = dimensions(config, rows);
    let mut found = vec![Candidate::default()];
    let add = |found: &mut Vec<Candidate>, candidate: Candidate| {
        let is_valid = eigenmix_experiment::train_config(&candidate.apply(file)).is_ok();
        if is_valid && !found.contains(&candidate) {
            found.push(candidate);
        }
    };
    // The first change of every kind, then the second of every kind, and so on.
    let longest = dimensions.iter().map(Vec::len).max().unwrap_or(0);
    for place in 0..longest {
        for changes in &dimensions {
            if let Some(change) = changes.get(place) {
                add(&mut found, change.clone());
            }
        }
    }
    let mut random = ChaCha8Rng::seed_from_u64(config.seed);
    for _ in 0..DRAWS {
        let mut combined = Candidate::default();
        for changes in &dimensions {
            if random.random_bool(0.5)
                && let Some(change) = changes.choose(&mut random)
            {
                combined = combined.and(change);
            }
        }
        add(&mut found, combined);
    }
    found.truncate(MOST);
    found
}

/// The changes of each kind. The method is the last: it leaves out what others set and it does not know.
fn dimensions(config: &TrainConfig, rows: usize) -> Vec<Vec<Candidate>> {
    let adapter = &config.adapter;
    let mut dimensions = vec![rates(config)];
    if adapter.method.has_basis() {
        dimensions.extend([gradient(adapter, rows), start(adapter), components(adapter)]);
    }
    dimensions.extend([epochs(config), methods(adapter)]);
    dimensions
}

fn rates(config: &TrainConfig) -> Vec<Candidate> {
    let rate = config.training.learning_rate;
    [2.0, 0.5, 4.0]
        .map(|factor| Candidate::default().set("training.learning_rate", factor * rate))
        .into()
}

fn gradient(adapter: &AdapterConfig, rows: usize) -> Vec<Candidate> {
    let candidate = Candidate::default;
    if matches!(adapter.gradient, None | Some(GradientKey::Used(false))) {
        let is_without = adapter.basis != BasisKind::Gradient;
        let with = is_without.then(|| candidate().set("adapter.gradient", true));
        return with.into_iter().collect();
    }
    let without = candidate().without("adapter.gradient");
    let other = match adapter.joining_for(rows).gradient_join() {
        Some(GradientJoin::Augment) => Some("weight"),
        Some(_) => Some("augment"),
        None => None,
    };
    let joined = other.map(|join| match adapter.gradient {
        Some(GradientKey::Options(options)) => {
            let joined = candidate().set("adapter.gradient.join", join);
            match options.weight {
                Some(_) => joined.without("adapter.gradient.weight"),
                None => joined,
            }
        }
        _ => {
            let table = Table::from_iter([("join".to_owned(), Value::from(join))]);
            candidate().set("adapter.gradient", table)
        }
    });
    joined.into_iter().chain([without]).collect()
}

fn start(adapter: &AdapterConfig) -> Vec<Candidate> {
    let starts = match adapter.init() {
        Init::Zero | Init::Random => ["merge", "compose"],
        Init::Merge => ["compose", "zero"],
        Init::Compose | Init::Auto => ["merge", "zero"],
        // The adapter to go on from is a wish, not a setting.
        Init::Project(_) | Init::Adapter(_) => return Vec::new(),
    };
    starts
        .map(|start| Candidate::default().set("adapter.init", start))
        .into()
}

fn components(adapter: &AdapterConfig) -> Vec<Candidate> {
    let candidate = Candidate::default;
    let counted = |count: usize| candidate().set("adapter.components", whole(count.max(1)));
    let all = candidate().set("adapter.components", ALL);
    // Of a pool; directions of nothing or of weights there are as many as the layer is wide.
    let all = (adapter.is_recycling() && adapter.basis == BasisKind::Recycled).then_some(all);
    let fewer = match adapter.components {
        Some(ComponentCount::Count(count)) => counted(count.get() / 2),
        // What is then left over: as many as keep to a tenth of LoRA's parameters.
        Some(ComponentCount::All(_)) => {
            return vec![candidate().without("adapter.components"), counted(FEW)];
        }
        None => counted(FEW),
    };
    all.into_iter().chain([fewer]).collect()
}

fn epochs(config: &TrainConfig) -> Vec<Candidate> {
    let epochs = config.training.epochs;
    // Where the number of steps ends a training, more epochs are the same training.
    if config.training.max_steps.is_some() {
        return Vec::new();
    }
    [epochs.saturating_mul(2), epochs / 2]
        .into_iter()
        .filter(|epochs| *epochs > 0)
        .map(|epochs| Candidate::default().set("training.epochs", whole(epochs)))
        .collect()
}

fn methods(adapter: &AdapterConfig) -> Vec<Candidate> {
    let others = match adapter.method.has_basis() {
        true => vec![
            AdapterMethod::Lora,
            AdapterMethod::Eigenlorax,
            AdapterMethod::Eigenmix,
        ],
        false => vec![AdapterMethod::Lora, AdapterMethod::Moslora],
    };
    let others = others
        .into_iter()
        .filter(|method| *method != adapter.method && !adapter.method.trains_everything());
    others
        .map(|method| {
            let mut candidate = Candidate::default().set("adapter.method", method.name());
            if adapter.rank.is_none() {
                candidate = candidate.set("adapter.rank", RANK);
            }
            match adapter.method.has_basis() == method.has_basis() {
                true => candidate,
                false => OF_BASES.into_iter().fold(candidate, Candidate::without),
            }
        })
        .collect()
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_rows(adapter: &str, rows: usize) -> Vec<String> {
        let file: Table = format!(
            "output = 'x'\nbase.model = 'm'\ndata.path = 'd'\nadapter = {{ {adapter} }}\n\
             [training]\nepochs = 4\nbatch_size = 8\nlearning_rate = 0.004"
        )
        .parse()
        .unwrap();
        let config = eigenmix_experiment::train_config(&file).unwrap();
        let candidates = candidates(&file, &config, rows);
        candidates.iter().map(Candidate::to_string).collect()
    }

    fn of(adapter: &str) -> Vec<String> {
        of_rows(adapter, 75)
    }

    const EIGENMIX: &str = "method = 'eigenmix', rank = 8, adapters = ['a', 'b'], init = 'merge'";

    #[test]
    fn single_changes_come_before_combinations_and_the_file_before_all() {
        let found = of(EIGENMIX);
        assert_eq!(
            found[..6],
            [
                "the file as it is",
                "training.learning_rate=0.008",
                "adapter.gradient=true",
                "adapter.init=\"compose\"",
                "adapter.components=\"all\"",
                "training.epochs=8",
            ]
        );
        assert!(found[6].starts_with("adapter.method=\"lora\", no adapter.adapters"));
        assert_eq!(found.len(), MOST);
    }

    #[test]
    fn every_candidate_is_another() {
        let mut found = of(EIGENMIX);
        found.sort();
        found.dedup();
        assert_eq!(found.len(), MOST);
    }

    #[test]
    fn a_file_without_adapters_to_recycle_keeps_to_factors() {
        let found = of("method = 'lora', rank = 4");
        assert!(found.contains(&"adapter.method=\"moslora\"".to_owned()));
        assert!(found.iter().all(|name| !name.contains("components")));
    }

    #[test]
    fn how_the_gradient_joins_is_tried_where_there_is_something_to_join() {
        let changes = |more: &str| -> Vec<String> {
            let all = of(&format!("{EIGENMIX}, {more}"));
            let single = all
                .into_iter()
                .filter(|name| name.starts_with("adapter.gradient"));
            single
                .filter(|name| !name.contains(", adapter") && !name.contains("training"))
                .collect()
        };
        let table = changes("gradient = { examples = 64, weight = 2 }");
        assert!(
            table.iter().any(|name| name == "adapter.gradient.join=\"augment\", no adapter.gradient.weight"),
            "{table:?}"
        );
        // Of a file that leaves it open only the other way is another training.
        for (rows, own, other) in [(75, "weight", "augment"), (300, "augment", "weight")] {
            let open = of_rows(&format!("{EIGENMIX}, gradient = true"), rows);
            let is_tried = |join: &str| {
                open.iter()
                    .any(|name| name.contains(&format!("join = \"{join}\"")))
            };
            assert!(is_tried(other) && !is_tried(own), "{rows}: {open:?}");
        }
        let alone = of("method = 'eigenmix', rank = 8, gradient = true");
        assert!(!alone.iter().any(|name| name.contains("join")), "{alone:?}");
        assert!(
            !alone.iter().any(|name| name.contains("\"all\"")),
            "{alone:?}"
        );
    }

    #[test]
    fn an_adapter_to_go_on_from_stays() {
        let found = of("method = 'eigenmix', rank = 8, adapters = ['a'], init = './mine'");
        let changes_start = |name: &String| name.contains("adapter.init=");
        assert!(!found.iter().any(changes_start));
    }
}
