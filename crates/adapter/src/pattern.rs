//! Regular expressions over module paths, matched as PEFT matches them with Python's `re`.

use fancy_regex::{Regex, RegexBuilder};

use crate::AdapterError;

/// The most bytes that an expression may take when compiled: a few letters of `{1000}{1000}` would
/// take any number, and what configurations have in them takes some ten thousand.
const SIZE_LIMIT: usize = 1 << 20;

/// An expression together with the way in which PEFT applies it.
#[derive(Clone, Debug)]
pub(crate) struct ModulePattern(Matcher);

/// Paths of modules, of which a configuration may have a thousand, need no automaton each.
#[derive(Clone, Debug)]
enum Matcher {
    Literal(Literal),
    Compiled(Box<Regex>),
}

/// Letters that a module must end in, after a dot or all of it; `None` stands for any letter.
#[derive(Clone, Debug)]
struct Literal {
    letters: Vec<Option<char>>,
    /// Whether it must be all of the module: `^…`.
    is_whole: bool,
}

impl Literal {
    /// The key of a pattern as letters, if it has no operators but `.`, escaped signs and `^` in front.
    fn parse(key: &str) -> Option<Self> {
        let (is_whole, key) = match key.strip_prefix('^') {
            Some(rest) => (true, rest),
            None => (false, key),
        };
        let mut letters = Vec::with_capacity(key.len());
        let mut rest = key.chars();
        while let Some(letter) = rest.next() {
            letters.push(match letter {
                '.' => None,
                '\\' => Some(rest.next().filter(char::is_ascii_punctuation)?),
                letter if letter.is_alphanumeric() || matches!(letter, '_' | '-') => Some(letter),
                _ => return None,
            });
        }
        Some(Self { letters, is_whole })
    }

    fn matches(&self, module: &str) -> bool {
        let mut rest = module.chars();
        for expected in self.letters.iter().rev() {
            let Some(found) = rest.next_back() else {
                return false;
            };
            // `.` is any letter but the end of a line.
            if expected.map_or(found == '\n', |expected| expected != found) {
                return false;
            }
        }
        let before = rest.as_str();
        before.is_empty() || (!self.is_whole && before.ends_with('.') && !before.contains('\n'))
    }
}

impl ModulePattern {
    /// A key of `rank_pattern` or `alpha_pattern`: `re.match(rf"(.*\.)?({key})$", module)`.
    pub(crate) fn suffix(key: &str) -> Result<Self, AdapterError> {
        match Literal::parse(key) {
            Some(literal) => Ok(Self(Matcher::Literal(literal))),
            None => Self::compile(key, &format!(r"^(.*\.)?({key})$")),
        }
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
            .map(|compiled| Self(Matcher::Compiled(Box::new(compiled))))
            .map_err(|source| AdapterError::Pattern {
                pattern: pattern.to_owned(),
                source: Box::new(source),
            })
    }

    /// Whether `module` matches. An expression that exhausts the backtracking limit does not match:
    /// Python would search on without end.
    pub(crate) fn matches(&self, module: &str) -> bool {
        match &self.0 {
            Matcher::Literal(literal) => literal.matches(module),
            Matcher::Compiled(compiled) => compiled.is_match(module).unwrap_or(false),
        }
    }

    /// The number in the last group, for the expressions that find a layer.
    pub(crate) fn layer_index(&self, module: &str) -> Option<usize> {
        let Matcher::Compiled(compiled) = &self.0 else {
            return None;
        };
        let captures = compiled.captures(module).ok()??;
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
    fn letters_match_as_the_expression_that_they_are() {
        let keys = [
            "q_proj",
            "layers.0.q",
            r"^layers\.0\.q",
            r"^layers.0.q",
            "",
            r"\.q",
            "é.q",
            "a-b",
            ".",
        ];
        let modules = [
            "q_proj",
            "model.q_proj",
            "seq_proj",
            "layers.0.q",
            "layers_0_q",
            "x.layers.0.q",
            "xlayers.0.q",
            "a\nb.q_proj",
            "a.\nq",
            "",
            "x.",
            "x..q",
            "q",
            "x.é.q",
            "x.éaq",
            "y.a-b",
        ];
        for key in keys {
            let literal = ModulePattern::suffix(key).unwrap();
            assert!(matches!(literal.0, Matcher::Literal(_)), "{key}");
            let compiled = ModulePattern::compile(key, &format!(r"^(.*\.)?({key})$")).unwrap();
            for module in modules {
                let expected = compiled.matches(module);
                assert_eq!(literal.matches(module), expected, "{key:?} and {module:?}");
            }
        }
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
