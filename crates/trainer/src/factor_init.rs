//! What `adapter.factor_init` does not go with.

use crate::TrainerError;
use crate::adapter_config::AdapterConfig;
use crate::init::Init;
use crate::methods::Recipe;

impl AdapterConfig {
    /// An error if A, whose start is given, is not initialised at all.
    pub(crate) fn factor_init_problem(&self) -> Option<TrainerError> {
        self.factor_init?;
        let has_factors = matches!(self.method.definition().recipe, Recipe::Factors { .. });
        let reason = match (has_factors, self.init()) {
            (false, _) => "only lora and moslora initialise factors of their own",
            (true, Init::Adapter(_)) => {
                "the factors are those of the adapter in adapter.init; leave it out"
            }
            (true, _) => return None,
        };
        Some(TrainerError::Method {
            key: "adapter.factor_init",
            method: self.method.name(),
            reason: reason.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_factors_is_refused_where_there_are_none_to_start() {
        let problem = |text: &str| {
            let config: AdapterConfig = toml::from_str(text).expect("a table");
            config.problems().first().map(ToString::to_string)
        };
        for method in ["lora", "moslora"] {
            let text = format!("method = \"{method}\"\nrank = 2\nfactor_init = \"gaussian\"");
            assert_eq!(problem(&text), None);
        }
        for text in [
            "method = \"eigenmix\"\nrank = 2\nsubspace = \"s\"\nfactor_init = \"gaussian\"",
            "method = \"lora\"\ninit = \"org/adapter\"\nfactor_init = \"gaussian\"",
        ] {
            let found = problem(text).expect("a problem");
            assert!(found.contains("factor_init"), "{found}");
        }
    }
}
