//! `adapter.init`: where the training of an adapter starts.

use std::path::Path;

use eigenmix_data::closest_name;
use eigenmix_store::StoredName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AdapterConfig, AdapterMethod};

/// Where the training of an adapter starts.
///
/// In files it is one word of text. Keywords come first, then what begins with `project:`; everything
/// else names an adapter, so that the directory `zero` is written `./zero`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub enum Init {
    /// ΔW = 0.
    #[default]
    Zero,
    /// Random coefficients on a basis.
    Random,
    /// The projection of this adapter onto the basis; the head is new.
    Project(String),
    /// The average of the recycled adapters.
    Merge,
    /// Zero or the average of the recycled adapters, whichever the task's own examples ask for.
    Auto,
    /// The composition of the recycled adapters whose weights the task's own examples ask for.
    Compose,
    /// This adapter, and its head if that is for the same labels: a directory, the directory of a run,
    /// or a Hub id.
    Adapter(String),
}

/// The values that name no adapter.
const KEYWORDS: [&str; 5] = ["zero", "random", "merge", "compose", "auto"];
const PROJECT: &str = "project";

impl Init {
    /// The adapter that it names.
    pub fn adapter(&self) -> Option<&str> {
        match self {
            Self::Project(adapter) | Self::Adapter(adapter) => Some(adapter),
            Self::Zero | Self::Random | Self::Merge | Self::Compose | Self::Auto => None,
        }
    }
}

impl TryFrom<String> for Init {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let projected = text
            .strip_prefix(PROJECT)
            .and_then(|rest| rest.strip_prefix(':'));
        match (text.as_str(), projected) {
            ("zero", _) => Ok(Self::Zero),
            ("random", _) => Ok(Self::Random),
            ("merge", _) => Ok(Self::Merge),
            ("compose", _) => Ok(Self::Compose),
            ("auto", _) => Ok(Self::Auto),
            (_, Some(adapter)) if !adapter.is_empty() => Ok(Self::Project(adapter.to_owned())),
            (_, None) if may_be_an_adapter(&text) => Ok(Self::Adapter(text)),
            _ => Err(unknown(&text)),
        }
    }
}

impl From<Init> for String {
    fn from(init: Init) -> Self {
        match init {
            Init::Zero => "zero".into(),
            Init::Random => "random".into(),
            Init::Merge => "merge".into(),
            Init::Compose => "compose".into(),
            Init::Auto => "auto".into(),
            Init::Project(adapter) => format!("{PROJECT}:{adapter}"),
            Init::Adapter(adapter) => adapter,
        }
    }
}

/// Whether `text` can be a path or a Hub id: a word without a slash is one only if it exists here or
/// has a revision; otherwise a misspelt keyword would be looked for on the Hub.
fn may_be_an_adapter(text: &str) -> bool {
    if !text.is_empty() && Path::new(text).exists() {
        return true;
    }
    if StoredName::split(text).is_some_and(|stored| stored.is_in_store()) {
        return true;
    }
    // A directory may contain a colon, but then it does not come before the first slash; a drive may.
    let is_word = |text: &str| text.len() > 1 && !text.contains(['/', '\\']);
    match text.split_once(':') {
        Some((word, _)) if is_word(word) => false,
        _ => text.contains(['/', '\\', '@']),
    }
}

/// What is wrong with a value that is neither a keyword nor an adapter.
fn unknown(text: &str) -> String {
    let word = text.split_once(':').map_or(text, |(word, _)| word);
    let words = [&KEYWORDS[..], &[PROJECT]].concat();
    let advice = match closest_name(word, &words) {
        Some(PROJECT) => format!("; did you mean `{PROJECT}:ADAPTER`?"),
        Some(near) => format!("; did you mean `{near}`?"),
        None => String::new(),
    };
    format!(
        "init `{text}` is unknown; expected {}, {PROJECT}:ADAPTER or ADAPTER (the directory of an \
         adapter or of a run, or a Hub id such as org/name){advice}",
        KEYWORDS.join(", ")
    )
}

impl AdapterConfig {
    /// Where the training starts. Left out, the data choose where eigenmix recycles adapters that are at hand;
    /// those of a subspace need not be there any more, and other methods start as their authors do.
    pub fn init(&self) -> Init {
        let is_chosen = self.method == AdapterMethod::Eigenmix
            && !self.adapters.is_empty()
            && self.has_start_to_choose();
        self.init.clone().unwrap_or(match is_chosen {
            true => Init::Auto,
            false => Init::Zero,
        })
    }

    /// Whether the average of the adapters is a start on the basis.
    fn has_start_to_choose(&self) -> bool {
        self.is_recycling() && self.basis.is_recycled()
    }

    /// The start that everything is prepared for: with "auto" the merge, which zero may replace before the first
    /// step, or zero where the basis is not that of the adapters.
    pub(crate) fn first_start(&self) -> Init {
        match self.init() {
            Init::Auto if self.has_start_to_choose() => Init::Merge,
            Init::Auto => Init::Zero,
            init => init,
        }
    }

    /// The same table with another start.
    pub(crate) fn starting_from(&self, init: &Init) -> Self {
        Self {
            init: Some(init.clone()),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_init_is_read_back_as_written() {
        for text in [
            "zero",
            "random",
            "merge",
            "compose",
            "auto",
            "project:some/adapter",
            "some/adapter",
            "runs/gym/adapter",
            "name@v1",
            "./zero",
            "C:\\adapters\\gym",
        ] {
            let init = Init::try_from(text.to_owned()).unwrap();
            assert_eq!(String::from(init), text);
        }
    }

    #[test]
    fn a_keyword_wins_over_a_directory_and_a_path_to_it_does_not() {
        let adapter = |text: &str| {
            let init = Init::try_from(text.to_owned()).unwrap();
            init.adapter().map(str::to_owned)
        };
        assert_eq!(adapter("merge"), None);
        assert_eq!(adapter("./merge").as_deref(), Some("./merge"));
        assert_eq!(adapter("project:zero").as_deref(), Some("zero"));
        // Tests run in the directory of the crate: a directory here, without a slash.
        assert_eq!(
            Init::try_from("src".to_owned()),
            Ok(Init::Adapter("src".to_owned()))
        );
    }

    #[test]
    fn a_misspelt_keyword_is_refused_with_the_one_meant() {
        for (text, meant) in [
            ("zeros", "did you mean `zero`?"),
            ("composed", "did you mean `compose`?"),
            ("merged", "did you mean `merge`?"),
            ("Random", "did you mean `random`?"),
            ("project:", "did you mean `project:ADAPTER`?"),
            ("project", "did you mean `project:ADAPTER`?"),
            ("projct:runs/gym", "did you mean `project:ADAPTER`?"),
            (
                "gymnasium",
                "expected zero, random, merge, compose, auto, project:ADAPTER or ADAPTER",
            ),
            ("", "is unknown"),
        ] {
            let message = Init::try_from(text.to_owned()).unwrap_err();
            assert!(message.contains(meant), "{text}: {message}");
        }
    }

    #[test]
    fn left_out_the_start_is_left_to_the_data_where_eigenmix_recycles_adapters_at_hand() {
        for (text, init) in [
            ("method = \"eigenmix\"\nadapters = [\"a\"]", Init::Auto),
            (
                "method = \"eigenmix\"\nadapters = [\"a\"]\ngradient = true",
                Init::Auto,
            ),
            (
                "method = \"eigenmix\"\nadapters = [\"a\"]\nbasis = \"random\"",
                Init::Zero,
            ),
            ("method = \"eigenmix\"\nsubspace = \"s\"", Init::Zero),
            ("method = \"eigenmix\"\ngradient = true", Init::Zero),
            ("method = \"eigenlorax\"\nadapters = [\"a\"]", Init::Zero),
            ("method = \"compose\"\nadapters = [\"a\"]", Init::Zero),
            ("method = \"lora\"", Init::Zero),
            (
                "method = \"eigenmix\"\nadapters = [\"a\"]\ninit = \"merge\"",
                Init::Merge,
            ),
            (
                "method = \"eigenmix\"\nsubspace = \"s\"\ninit = \"auto\"",
                Init::Auto,
            ),
        ] {
            assert_eq!(
                toml::from_str::<AdapterConfig>(text)
                    .expect("a table")
                    .init(),
                init,
                "{text}"
            );
        }
    }
}
