//! What a file says twice, in vain or out of range is refused before anything is trained.

use super::tests::{FILE, mistakes, read};

#[test]
fn an_extraction_that_says_twice_how_much_to_keep_is_a_mistake_of_the_file() {
    let stage = "[[extract]]\nname = 'x'\nadapters = ['a']\ncomponents = 4\nvariance = 0.9";
    let found = mistakes(&format!("{FILE}\n{stage}")).join("\n");
    assert!(found.contains("`components` and `variance`"), "{found}");
}

#[test]
fn an_impossible_share_of_variance_is_a_mistake_of_the_file() {
    let stage = "[[extract]]\nname = 'x'\nadapters = ['a']\nvariance = 2.0";
    let found = mistakes(&format!("{FILE}\n{stage}")).join("\n");
    assert!(found.contains("must be above 0 and at most 1"), "{found}");
}

#[test]
fn a_seed_that_is_listed_twice_is_refused_where_it_stands() {
    let defaults = FILE.replace("[3, 4]", "[3, 3]");
    assert_eq!(mistakes(&defaults), ["3: seed 3 is listed twice"]);
    let arm = FILE.replace("adapter.rank = 2", "seeds = [0, 1, 0]");
    assert_eq!(mistakes(&arm), ["17: seed 0 is listed twice"]);
}

#[test]
fn values_of_a_merge_beside_values_to_search_are_refused() {
    let file = |merge: &str, search: &str| {
        format!(
            "{FILE}\n[[merge]]\nname = 'both'\nadapters = ['a', 'b']\nspace = 'core'\n\
            method = 'dare-ties'\n{merge}\n[merge.search]\nbase = 'm'\ndata = ['x', 'y']\n{search}\n"
        )
    };
    for (merge, search, expected) in [
        (
            "scale = 0.5",
            "scales = [0.1, 0.2]",
            "`scale` sets the value and `search.scales` lists values to search",
        ),
        (
            "density = 0.5",
            "densities = [0.1]",
            "`density` sets the value and `search.densities` lists values to search",
        ),
        (
            "drop = 0.5",
            "drops = [0.1]",
            "`drop` sets the value and `search.drops` lists values to search",
        ),
        (
            "",
            "scales = [0.1]\npatience = 3",
            "`search.patience` is for values of λ beyond 1.0",
        ),
        ("", "densities = [0.1, 1.5]", "1.5"),
        ("", "rank_fractions = [0.1]", "`search.rank_fractions`"),
    ] {
        let found = mistakes(&file(merge, search));
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }
    for (merge, search) in [
        ("scale = 0.5", "densities = [0.1]"),
        ("density = 0.5", "scales = [0.1]"),
        ("drop = 0.5", "patience = 3"),
    ] {
        assert!(read(&file(merge, search)).is_ok(), "{merge}, {search}");
    }
}

#[test]
fn what_a_merge_cannot_have_is_found_before_its_sources_are_trained() {
    let file = |merge: &str| {
        format!(
            "{FILE}\n[[merge]]\nname = 'both'\nadapters = ['a', 'b']\nspace = 'core'\n\
            method = 'ties'\n{merge}\n"
        )
    };
    assert!(read(&file("density = 0.5\nweights = [1, 2]")).is_ok());
    assert!(read(&file("compress = 4\nrank = 2")).is_ok());
    for (method, value) in [("iso-cts", "common_fraction"), ("robust", "prune")] {
        let of_method = |merge: &str| file(merge).replace("'ties'", &format!("'{method}'"));
        assert!(read(&of_method(&format!("{value} = 0.5"))).is_ok());
        let found = mistakes(&of_method(&format!("{value} = 1.5")));
        assert!(
            found.len() == 1 && found[0].contains("found 1.5"),
            "{found:?}"
        );
        let found = mistakes(&file(&format!("{value} = 0.5")));
        let owner = format!("`{value}` is for {method} only");
        assert!(found.len() == 1 && found[0].contains(&owner), "{found:?}");
    }
    for (merge, expected) in [
        ("compress = 4\nrank = 4", "would truncate nothing"),
        ("density = 2.0", "must be above 0 and at most 1"),
        ("weights = [1.0]", "1 weights were given for 2 adapters"),
        ("drop = 0.5", "`drop` is for dare and dare-ties only"),
    ] {
        let found = mistakes(&file(merge));
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }
}

#[test]
fn keys_of_an_arm_that_nothing_reads_are_refused() {
    let arm = |keys: &str| format!("{FILE}\n[[arm]]\nname = 'merged'\nevaluate = 'org/a'\n{keys}");
    for key in [
        "adapter.rank",
        "training.epochs",
        "vary.adapter.rank",
        "vary.training.epochs",
        "base.from_scratch",
        "base.dropout",
        "task.kind",
        "task.target",
        "seeds",
        "seed",
    ] {
        let value = match key {
            "base.from_scratch" => "true",
            "base.dropout" => "0.1",
            "task.kind" => "'causal-lm'",
            "task.target" => "'number'",
            "seeds" => "[1, 2]",
            key if key.starts_with("vary") => "[1]",
            _ => "1",
        };
        let found = mistakes(&arm(&format!("{key} = {value}")));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("25: `arm[2]."), "{found:?}");
        assert!(
            found[0].contains("has no effect beside `evaluate`"),
            "{found:?}"
        );
    }
    // What the defaults have is for the other arms.
    let good = arm("head = 'org/b'\ntask.metrics = ['accuracy']\nbase.weights = 'stored'");
    let good = format!("vary.adapter.rank = [1, 2]\n{good}");
    let merged = &read(&good).expect("an experiment").arms[4..];
    assert_eq!(merged.len(), 1);
    assert_eq!(merged[0].name, "merged");

    let head = mistakes(&format!("{FILE}\n[[arm]]\nname = 'x'\nhead = 'org/b'"));
    assert_eq!(
        head,
        ["24: `arm[2].head` has no effect without `evaluate`; remove it"]
    );
}
