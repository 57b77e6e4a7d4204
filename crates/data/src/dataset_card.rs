//! What the head of a dataset's `README.md` says of its files.
//!
//! ```yaml
//! configs:
//! - config_name: plain
//!   default: true
//!   data_files:
//!   - split: train
//!     path: plain/part-*.parquet
//! ```

use saphyr::{LoadableYamlNode, Yaml};

use crate::split::Split;

/// The configurations of a dataset, each a set of files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DatasetCard {
    configs: Vec<CardConfig>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CardConfig {
    pub(crate) name: String,
    is_default: bool,
    /// The folder that all is in, with a slash after it, or nothing.
    folder: String,
    /// None if the names of the files say which split they are.
    files: Option<Vec<(Split, String)>>,
}

impl DatasetCard {
    pub(crate) const FILE_NAME: &str = "README.md";

    /// Reads the head of a card. What is not understood says nothing: a card is for people first.
    pub(crate) fn parse(text: &str) -> Self {
        let configs = front_matter(text).and_then(|head| {
            let documents = Yaml::load_from_str(head).ok()?;
            let configs = documents
                .first()?
                .as_mapping_get("configs")?
                .as_sequence()?;
            Some(configs.iter().filter_map(CardConfig::parse).collect())
        });
        Self {
            configs: configs.unwrap_or_default(),
        }
    }

    /// The configuration called `name`; without a name the default one, or the only one.
    ///
    /// # Errors
    /// The names to choose from, if there are several and none is the default.
    pub(crate) fn config(&self, name: Option<&str>) -> Result<Option<&CardConfig>, Vec<&str>> {
        let mut configs = self.configs.iter();
        if let Some(name) = name {
            return Ok(configs.find(|config| config.name == name));
        }
        let default = configs.find(|config| config.is_default || config.name == "default");
        match (default, &self.configs[..]) {
            (Some(config), _) | (None, [config]) => Ok(Some(config)),
            (None, []) => Ok(None),
            (None, several) => Err(several.iter().map(|config| config.name.as_str()).collect()),
        }
    }
}

impl CardConfig {
    fn parse(yaml: &Yaml<'_>) -> Option<Self> {
        let folder = yaml.as_mapping_get("data_dir").and_then(Yaml::as_str);
        let folder = folder.map_or("", |folder| folder.trim_matches('/'));
        let flag = yaml.as_mapping_get("default").and_then(Yaml::as_bool);
        Some(Self {
            name: yaml.as_mapping_get("config_name")?.as_str()?.to_owned(),
            is_default: flag.unwrap_or(false),
            folder: match folder {
                "" | "." => String::new(),
                folder => format!("{}/", folder.trim_start_matches("./")),
            },
            files: yaml.as_mapping_get("data_files").map(data_files),
        })
    }

    /// The patterns of a split's files; none if the names of the files are to say it.
    pub(crate) fn patterns(&self, split: Split) -> Option<Vec<String>> {
        let files = self.files.as_ref()?.iter();
        let own = files.filter(|(of, _)| *of == split);
        Some(
            own.map(|(_, pattern)| format!("{}{pattern}", self.folder))
                .collect(),
        )
    }

    /// The folder in which names are to say it.
    pub(crate) fn folder(&self) -> &str {
        self.folder.trim_end_matches('/')
    }
}

/// `data_files` in its three forms: patterns of the training split, a mapping from splits to
/// patterns, or a list of `split` and `path`.
fn data_files(yaml: &Yaml<'_>) -> Vec<(Split, String)> {
    if let Some(mapping) = yaml.as_mapping() {
        let named = mapping.iter().filter_map(|(split, paths)| {
            let split: Split = split.as_str()?.parse().ok()?;
            Some(strings(paths).into_iter().map(move |path| (split, path)))
        });
        return named.flatten().collect();
    }
    let of_train = |path| (Split::Train, path);
    let Some(items) = yaml.as_sequence() else {
        return strings(yaml).into_iter().map(of_train).collect();
    };
    let mut files = Vec::new();
    for item in items {
        match (item.as_mapping_get("split"), item.as_mapping_get("path")) {
            (Some(split), Some(paths)) => {
                let split = split.as_str().and_then(|split| split.parse::<Split>().ok());
                let paths = strings(paths).into_iter();
                files.extend(
                    split
                        .into_iter()
                        .flat_map(|split| paths.clone().map(move |path| (split, path))),
                );
            }
            _ => files.extend(strings(item).into_iter().map(of_train)),
        }
    }
    files
}

/// A text, or those of a list.
fn strings(yaml: &Yaml<'_>) -> Vec<String> {
    match (yaml.as_str(), yaml.as_sequence()) {
        (Some(text), _) => vec![text.to_owned()],
        (None, Some(items)) => items
            .iter()
            .filter_map(Yaml::as_str)
            .map(str::to_owned)
            .collect(),
        (None, None) => Vec::new(),
    }
}

/// What stands between the first two lines of `---`.
fn front_matter(text: &str) -> Option<&str> {
    let text = text.trim_start_matches('\u{feff}');
    let rest = text.strip_prefix("---")?;
    let start = rest.find('\n')? + 1;
    let rest = &rest[start..];
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return Some(&rest[..end]);
        }
        end += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(card: &str, config: Option<&str>, split: Split) -> Option<Vec<String>> {
        let card = DatasetCard::parse(&format!("---\n{card}\n---\n# Words\n"));
        card.config(config).unwrap()?.patterns(split)
    }

    #[test]
    fn files_are_named_in_three_forms() {
        let list = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path:\n    - a.csv\n    - b.csv\n  - split: test\n    path: \"held/*.csv\"";
        assert_eq!(
            patterns(list, None, Split::Train).unwrap(),
            ["a.csv", "b.csv"]
        );
        assert_eq!(patterns(list, None, Split::Test).unwrap(), ["held/*.csv"]);
        assert!(patterns(list, None, Split::Validation).unwrap().is_empty());
        let mapping = "configs:\n- config_name: x\n  data_dir: inner\n  data_files: {train: a.csv, dev: b.csv}";
        assert_eq!(
            patterns(mapping, None, Split::Validation).unwrap(),
            ["inner/b.csv"]
        );
        let plain = "configs:\n- config_name: x\n  data_files: '*.csv'";
        assert_eq!(patterns(plain, Some("x"), Split::Train).unwrap(), ["*.csv"]);
    }

    #[test]
    fn the_default_is_taken_and_several_without_one_are_named() {
        let two = "configs:\n- config_name: a\n  data_files: a.csv\n- config_name: b\n  data_files: b.csv";
        let card = DatasetCard::parse(&format!("---\n{two}\n---\n"));
        assert_eq!(card.config(None), Err(vec!["a", "b"]));
        assert_eq!(card.config(Some("c")), Ok(None));
        let marked = format!("{two}\n  default: true");
        assert_eq!(patterns(&marked, None, Split::Train).unwrap(), ["b.csv"]);
        assert_eq!(
            patterns(&marked, Some("a"), Split::Train).unwrap(),
            ["a.csv"]
        );
    }

    #[test]
    fn a_card_without_a_head_or_with_a_broken_one_says_nothing() {
        for card in [
            "",
            "# Words",
            "---\nno end",
            "---\n: : [\n---\n",
            "---\nconfigs: 7\n---\n",
            "---\n- x\n---\n",
        ] {
            assert_eq!(DatasetCard::parse(card), DatasetCard::default(), "{card}");
        }
    }
}
