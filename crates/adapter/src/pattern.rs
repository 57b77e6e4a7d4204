//! Regular expressions over module paths, matched as PEFT matches them with Python's `re`.

use fancy_regex::{Regex, RegexBuilder};

use crate::AdapterError;

/// The most bytes that an expression may take when compiled: a few letters of `{1000}{1000}` would
/// take any number, and what configurations have in them takes some ten thousand.
const SIZE_LIMIT: usize = 1 << 20;

/// A compiled expression together with the way in which PEFT applies it.
#[derive(Clone, Debug)]
pub(crate) struct ModulePattern(Regex);

impl ModulePattern {
    /// A key of `rank_pattern` or `alpha_pattern`: `re.match(rf"(.*\.)?({key})$", module)`.
    pub(crate) fn suffix(key: &str) -> Result<Self, AdapterError> {
        Self::compile(key, &format!(r"^(.*\.)?({key})$"))
    }

    /// `target_modules` or `exclude_modules` as one string: `re.fullmatch(expression, module)`.
    pub(crate) fn whole(expression: &str) -> Result<Self, AdapterError> {
        Self::compile(expression, &format!(r"^(?:{expression})$"))
    }

    /// The index of a layer in whatever list of layers: `re.match(r".*\.[^.]*\.(\d+)\.", module)`.
    pub(crate) fn any_layer() -> Result<Self, AdapterError> {
        let expression = r".*\.[^.]*\.(\d+)\.";
        Self::compile(expression, &format!("^{expression}"))
    }

    /// The index of a layer in the list that `layers_pattern` names:
    /// `re.match(rf".*\.{name}\.(\d+)\.", module)`.
    pub(crate) fn layer_of(name: &str) -> Result<Self, AdapterError> {
        Self::compile(name, &format!(r"^.*\.{name}\.(\d+)\."))
    }

    fn compile(pattern: &str, expression: &str) -> Result<Self, AdapterError> {
        RegexBuilder::new(expression)
            .delegate_size_limit(SIZE_LIMIT)
            .delegate_dfa_size_limit(SIZE_LIMIT)
            .build()
            .map(Self)
            .map_err(|source| AdapterError::Pattern {
                pattern: pattern.to_owned(),
                source: Box::new(source),
            })
    }

    /// Whether `module` matches. An expression that exhausts the backtracking limit does not match:
    /// Python would search on without end.
    pub(crate) fn matches(&self, module: &str) -> bool {
        self.0.is_match(module).unwrap_or(false)
    }

    /// The number in the last group, for the expressions that find a layer.
    pub(crate) fn layer_index(&self, module: &str) -> Option<usize> {
        let captures = self.0.captures(module).ok()??;
        captures.get(captures.len() - 1)?.as_str().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_matches_whole_components_at_the_end() {
        let pattern = ModulePattern::suffix("q_proj").unwrap();
        assert!(pattern.matches("model.layers.0.self_attn.q_proj"));
        assert!(pattern.matches("q_proj"));
        assert!(!pattern.matches("model.layers.0.self_attn.seq_proj"));
        assert!(!pattern.matches("model.q_proj.inner"));
    }

    #[test]
    fn alternatives_in_a_key_stay_inside_the_key() {
        let pattern = ModulePattern::suffix("query|key").unwrap();
        assert!(pattern.matches("layer.0.key"));
        assert!(!pattern.matches("query.0.value"));
    }

    #[test]
    fn an_anchored_key_matches_only_the_full_path() {
        let pattern = ModulePattern::suffix(r"^model\.q").unwrap();
        assert!(pattern.matches("model.q"));
        assert!(!pattern.matches("outer.model.q"));
    }

    #[test]
    fn the_last_number_in_the_path_is_the_layer() {
        let any = ModulePattern::any_layer().unwrap();
        assert_eq!(any.layer_index("model.layers.7.experts.3.w1"), Some(3));
        assert_eq!(any.layer_index("model.embed_tokens"), None);
        let named = ModulePattern::layer_of("layers").unwrap();
        assert_eq!(named.layer_index("model.layers.7.experts.3.w1"), Some(7));
    }

    #[test]
    fn lookarounds_of_python_are_understood() {
        let pattern = ModulePattern::whole(r"(?!.*vision).*\.(q|v)_proj").unwrap();
        assert!(pattern.matches("model.layers.0.q_proj"));
        assert!(!pattern.matches("model.vision.layers.0.q_proj"));
    }

    #[test]
    fn an_expression_that_would_take_any_memory_is_refused() {
        let error = ModulePattern::whole("(?:a{1000}){1000}").unwrap_err();
        assert!(error.to_string().contains("{1000}"), "{error}");
        assert!(ModulePattern::whole(r"(?:\w+\.)*layers\.\d{1,3}\.(?:q|k|v)_proj").is_ok());
    }

    #[test]
    fn a_broken_expression_is_named_in_the_error() {
        let error = ModulePattern::whole("(q_proj").unwrap_err();
        assert!(error.to_string().contains("(q_proj"), "{error}");
    }
}
