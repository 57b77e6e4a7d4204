//! What needs `../shared`: a folder beside the repository with what the project was made from, a
//! real model, data sets, and third-party adapters. None of it can be redistributed. Each test
//! names the part that it needs, is skipped where that is absent, and the last line says how many
//! were. All other tests do with what is in the repository.

mod authors_merges;
mod clinc150;
#[path = "../../crates/eigenlorax/tests/golden_components/mod.rs"]
mod golden_components;
#[path = "../../crates/merging/tests/suite/golden_merges.rs"]
mod golden_merges;
#[path = "../../crates/merging/tests/suite/merged_with_itself.rs"]
mod merged_with_itself;
mod minilm;
#[path = "../../crates/merging/tests/suite/relative_difference.rs"]
mod relative_difference;
mod runner;
mod strangers_adapters;
#[path = "../../crates/merging/tests/suite/vanishing_directions.rs"]
mod vanishing_directions;

use std::process::ExitCode;

use runner::Test;

const TESTS: [Test; 12] = [
    Test {
        name: "authors_merges::what_the_authors_computed_is_what_the_saved_merge_does",
        needs: "golden/merging",
        run: authors_merges::what_the_authors_computed_is_what_the_saved_merge_does,
    },
    Test {
        name: "authors_merges::isotropized_merges_agree_but_for_the_directions_that_vanish",
        needs: "golden/merging",
        run: authors_merges::isotropized_merges_agree_but_for_the_directions_that_vanish,
    },
    Test {
        name: "authors_merges::raw_centred_components_are_those_of_the_authors",
        needs: "golden/merging",
        run: authors_merges::raw_centred_components_are_those_of_the_authors,
    },
    Test {
        name: "clinc150::every_row_is_read",
        needs: "datasets/clinc150",
        run: clinc150::every_row_is_read,
    },
    Test {
        name: "minilm::every_value_of_the_checkpoint_is_read",
        needs: "models/minilm",
        run: minilm::every_value_of_the_checkpoint_is_read,
    },
    Test {
        name: "minilm::texts_have_the_ids_that_transformers_gives",
        needs: "models/minilm",
        run: minilm::texts_have_the_ids_that_transformers_gives,
    },
    Test {
        name: "minilm::pairs_are_cut_as_transformers_does",
        needs: "models/minilm",
        run: minilm::pairs_are_cut_as_transformers_does,
    },
    Test {
        name: "minilm::a_vocabulary_alone_gives_the_same_ids_as_tokenizer_json",
        needs: "models/minilm",
        run: minilm::a_vocabulary_alone_gives_the_same_ids_as_tokenizer_json,
    },
    Test {
        name: "strangers_adapters::every_published_adapter_survives_saving",
        needs: "wild",
        run: strangers_adapters::every_adapter_survives_saving,
    },
    Test {
        name: "strangers_adapters::every_adapter_of_minilm_survives_saving",
        needs: "adapters/minilm",
        run: strangers_adapters::every_adapter_survives_saving,
    },
    Test {
        name: "strangers_adapters::heads_are_found_declared_or_not",
        needs: "wild",
        run: strangers_adapters::heads_are_found_declared_or_not,
    },
    Test {
        name: "strangers_adapters::an_adapter_merged_with_itself_keeps_its_heads_apart",
        needs: "wild/distilbert-emotion",
        run: strangers_adapters::an_adapter_merged_with_itself_keeps_its_heads_apart,
    },
];

fn main() -> ExitCode {
    runner::run(&TESTS)
}
