//! What the head of a dataset's `README.md` says of its files, and of the classes in its columns.
//!
//! ```yaml
//! configs:
//! - config_name: plain
//!   default: true
//!   data_files:
//!   - split: train
//!     path: plain/part-*.parquet
//! ```

use std::collections::BTreeMap;

use saphyr::{LoadableYamlNode, Yaml};

use crate::byte_order_mark::without_mark_str;
use crate::class_names::ClassNames;
use crate::config::DataConfig;
use crate::error::DataError;
use crate::labelled::Labelled;
use crate::row::LabelPolicy;
use crate::split::Split;

/// The configurations of a dataset, each a set of files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DatasetCard {
    configs: Vec<CardConfig>,
    infos: Vec<CardInfo>,
}

/// The columns of one configuration, as far as they hold classes.
#[derive(Debug, PartialEq, Eq)]
struct CardInfo {
    /// The configuration's name, where the card says it.
    config: Option<String>,
    /// The names of the classes, by column.
    classes: BTreeMap<String, Vec<String>>,
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
        let documents =
            front_matter(without_mark_str(text)).and_then(|head| Yaml::load_from_str(head).ok());
        let Some(head) = documents.as_ref().and_then(|documents| documents.first()) else {
            return Self::default();
        };
        let configs = head.as_mapping_get("configs").and_then(Yaml::as_sequence);
        let configs = configs.into_iter().flatten();
        Self {
            configs: configs.filter_map(CardConfig::parse).collect(),
            infos: infos(head),
        }
    }

    /// Gives the rows of a split the names of their classes, where their files have numbers only.
    ///
    /// # Errors
    /// As [`ClassNames::name_all`].
    pub(crate) fn name_classes<R: Labelled>(
        &self,
        rows: &mut [R],
        config: &DataConfig,
        labels: LabelPolicy,
    ) -> Result<(), DataError> {
        match self.class_names(config.config.as_deref(), &config.label) {
            Some(names) => names.name_all(rows, &config.label, labels),
            None => Ok(()),
        }
    }

    /// The names of the classes in a column of the configuration whose files are read: the one called
    /// `name`, or the default or only one.
    ///
    /// Those of another configuration would be wrong, so where it is open which one is meant, only a
    /// description without a configuration's name counts.
    fn class_names(&self, name: Option<&str>, column: &str) -> Option<ClassNames> {
        let of = |config: Option<&str>| {
            let mut infos = self.infos.iter();
            infos.find(|info| info.config.as_deref() == config)
        };
        let info = match (self.config(name), name) {
            (Ok(Some(config)), _) => of(Some(&config.name)).or_else(|| of(None)),
            (Ok(None), Some(name)) => of(Some(name)).or_else(|| of(None)),
            // Older cards describe the columns and name no files.
            (Ok(None), None) => match &self.infos[..] {
                [only] => Some(only),
                _ => of(Some("default")).or_else(|| of(None)),
            },
            (Err(_), _) => of(None),
        };
        let names = info?.classes.get(column)?;
        Some(ClassNames::new(names.clone()))
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

/// What `dataset_info` says of one configuration or of a list of them.
fn infos(head: &Yaml<'_>) -> Vec<CardInfo> {
    let Some(info) = head.as_mapping_get("dataset_info") else {
        return Vec::new();
    };
    let several = info.as_sequence().into_iter().flatten();
    let one = info.is_mapping().then_some(info);
    several.chain(one).map(CardInfo::parse).collect()
}

impl CardInfo {
    fn parse(info: &Yaml<'_>) -> Self {
        let config = info.as_mapping_get("config_name").and_then(Yaml::as_str);
        let features = info.as_mapping_get("features").and_then(Yaml::as_sequence);
        let classes = features.into_iter().flatten().filter_map(|feature| {
            let column = feature.as_mapping_get("name")?.as_str()?;
            Some((column.to_owned(), names_of_feature(feature)?))
        });
        Self {
            config: config.map(str::to_owned),
            classes: classes.collect(),
        }
    }
}

/// `dtype.class_label.names` of a feature, or of lists `sequence.class_label.names`: a list, or a
/// mapping from the numbers 0, 1, ….
fn names_of_feature(feature: &Yaml<'_>) -> Option<Vec<String>> {
    // `list` is the newer word for a sequence.
    let kinds = ["dtype", "sequence", "list"].into_iter();
    let mut kinds = kinds.filter_map(|kind| feature.as_mapping_get(kind));
    let names = kinds
        .find_map(|kind| kind.as_mapping_get("class_label"))?
        .as_mapping_get("names")?;
    let Some(mapping) = names.as_mapping() else {
        return Some(strings(names)).filter(|names| !names.is_empty());
    };
    let number = |key: &Yaml<'_>| match (key.as_integer(), key.as_str()) {
        (Some(number), _) => Some(number),
        (None, text) => text?.parse().ok(),
    };
    let numbered = mapping
        .iter()
        .map(|(key, name)| Some((number(key)?, name.as_str()?.to_owned())));
    let numbered: BTreeMap<i64, String> = numbered.collect::<Option<_>>()?;
    let is_complete = numbered.keys().copied().eq(0..mapping.len() as i64);
    (is_complete && !numbered.is_empty()).then(|| numbered.into_values().collect())
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
    fn classes_are_named_by_number_and_by_configuration() {
        let names = |names: [&str; 2]| Some(ClassNames::new(names.map(str::to_owned).into()));
        let of = |name: &str, first: &str, second: &str| {
            format!(
                "- config_name: {name}\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n      class_label:\n        names:\n          '0': {first}\n          '1': {second}\n"
            )
        };
        let card = format!(
            "dataset_info:\n{}{}",
            of("a", "no", "yes"),
            of("b", "x", "w")
        );
        let card = DatasetCard::parse(&format!("---\n{card}\n---\n"));
        assert_eq!(card.class_names(Some("a"), "label"), names(["no", "yes"]));
        assert_eq!(card.class_names(Some("b"), "label"), names(["x", "w"]));
        assert_eq!(
            card.class_names(None, "label"),
            None,
            "either could be meant"
        );
        assert_eq!(card.class_names(Some("a"), "text"), None);
        let one = "---\ndataset_info:\n  features:\n  - {name: label, dtype: {class_label: {names: [pos, neg]}}}\n---\n";
        let card = DatasetCard::parse(one);
        assert_eq!(card.class_names(None, "label"), names(["pos", "neg"]));
        let gap = one.replace("[pos, neg]", "{'0': pos, '2': neg}");
        assert_eq!(DatasetCard::parse(&gap).class_names(None, "label"), None);
    }

    #[test]
    fn classes_are_named_as_in_the_configuration_whose_files_are_read() {
        let info = |name: &str, names: &str| {
            let dtype = match names {
                "" => "int64".to_owned(),
                names => format!("{{class_label: {{names: [{names}]}}}}"),
            };
            format!("- config_name: {name}\n  features:\n  - {{name: label, dtype: {dtype}}}\n")
        };
        let configs = "configs:\n- config_name: a\n  data_files: a.csv\n- config_name: b\n  data_files: b.csv\n  default: true\n";
        let found = |infos: String, config| {
            let card = format!("---\n{configs}dataset_info:\n{infos}---\n");
            DatasetCard::parse(&card).class_names(config, "label")
        };
        let names = |names: [&str; 2]| Some(ClassNames::new(names.map(str::to_owned).into()));
        let a = info("a", "no, yes");
        assert_eq!(found(a.clone(), None), None, "only a has names, b is read");
        assert_eq!(found([a.clone(), info("b", "")].concat(), None), None);
        let both = [a, info("b", "x, w")].concat();
        assert_eq!(found(both.clone(), None), names(["x", "w"]));
        assert_eq!(found(both.clone(), Some("a")), names(["no", "yes"]));
        assert_eq!(found(both, Some("c")), None);
    }

    #[test]
    fn a_card_with_a_byte_order_mark_is_read() {
        let card = "---\nconfigs:\n- config_name: a\n  data_files: a.csv\n---\n";
        let marked = DatasetCard::parse(&format!("\u{feff}{card}"));
        assert_eq!(marked, DatasetCard::parse(card));
        assert_ne!(marked, DatasetCard::default());
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
