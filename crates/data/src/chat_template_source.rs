//! Which of a model's files has its chat template.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::byte_order_mark::without_mark_str;
use crate::error::{DataError, quoted};
use crate::language_error::LanguageError;
use crate::model_files::ModelFiles;
use crate::tokenizer_config::{ChatTemplates, TokenizerConfig, read_if_present};

/// The text of a chat template and the file it is from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChatTemplateSource {
    pub template: String,
    /// The template for conversations with tools, where the model has one of its own for them.
    pub tool_use: Option<String>,
    pub path: PathBuf,
}

impl ChatTemplateSource {
    /// The template in `file`, else the model's own: in a directory `chat_template.jinja`, the
    /// `chat_template` of `tokenizer_config.json`, or `chat_template.json`, the first that is there, in a
    /// GGUF file its `tokenizer.chat_template`. Where they have one named `tool_use` too, it is for conversations with tools, as transformers has it.
    ///
    /// # Errors
    /// When there is none, or a file cannot be read or understood.
    pub(crate) fn find(
        files: &ModelFiles,
        file: Option<&Path>,
        config: &TokenizerConfig,
    ) -> Result<Self, DataError> {
        #[derive(Deserialize)]
        struct TemplateFile {
            chat_template: ChatTemplates,
        }

        if let Some(path) = file {
            let template = fs::read_to_string(path).map_err(|source| DataError::Io {
                path: path.to_owned(),
                source,
            })?;
            return Ok(Self {
                template: without_mark_str(&template).to_owned(),
                tool_use: None,
                path: path.to_owned(),
            });
        }
        let model_dir = match files {
            ModelFiles::Directory(directory) => directory,
            ModelFiles::Gguf(gguf) => {
                let path = gguf.path().to_owned();
                return match &config.chat_template {
                    Some(templates) => Self::default_of(templates.clone(), path),
                    None => Err(LanguageError::NoChatTemplateInGguf { path }.into()),
                };
            }
        };
        let path = model_dir.join("chat_template.jinja");
        match fs::read_to_string(&path) {
            Ok(template) => {
                let template = without_mark_str(&template).to_owned();
                let tool_use = text_if_present(&model_dir.join(TOOL_USE_FILE))?;
                return Ok(Self {
                    template,
                    tool_use,
                    path,
                });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(DataError::Io { path, source }),
        }
        if let Some(templates) = &config.chat_template {
            return Self::default_of(templates.clone(), model_dir.join("tokenizer_config.json"));
        }
        let path = model_dir.join("chat_template.json");
        match read_if_present::<TemplateFile>(&path)? {
            Some(file) => Self::default_of(file.chat_template, path),
            None => Err(LanguageError::NoChatTemplate {
                dir: model_dir.to_owned(),
            }
            .into()),
        }
    }

    fn default_of(templates: ChatTemplates, path: PathBuf) -> Result<Self, DataError> {
        let templates = match templates {
            ChatTemplates::One(template) => {
                return Ok(Self {
                    template,
                    tool_use: None,
                    path,
                });
            }
            ChatTemplates::Named(templates) => templates,
        };
        let named = |name: &str| {
            let named = templates.iter().find(|named| named.name == name)?;
            Some(named.template.clone())
        };
        match named("default") {
            Some(template) => Ok(Self {
                template,
                tool_use: named("tool_use"),
                path,
            }),
            None => {
                let names: Vec<&str> = templates.iter().map(|named| named.name.as_str()).collect();
                let found = quoted(&names);
                Err(LanguageError::NoDefaultTemplate { path, found }.into())
            }
        }
    }

    /// The one template that is both: that for tools where there are some, else the other.
    pub(crate) fn joined(&self) -> String {
        let Some(tool_use) = &self.tool_use else {
            return self.template.clone();
        };
        // Jinja leaves out the last line break of a template, and `+%}` keeps the first one.
        let part = |template: &str| template.strip_suffix('\n').unwrap_or(template).to_owned();
        let (tool_use, usual) = (part(tool_use), part(&self.template));
        format!("{{% if tools is not none +%}}{tool_use}{{%+ else +%}}{usual}{{%+ endif %}}")
    }
}

/// Where a model that has its template in `chat_template.jinja` has that for tools.
const TOOL_USE_FILE: &str = "additional_chat_templates/tool_use.jinja";

fn text_if_present(path: &Path) -> Result<Option<String>, DataError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Whether a directory has a chat template in one of the usual places, or a GGUF file has one.
///
/// # Errors
/// When a file is there and cannot be read or understood.
pub fn has_chat_template(directory: &Path) -> Result<bool, DataError> {
    let files = ModelFiles::open(directory)?;
    match ChatTemplateSource::find(&files, None, &files.tokenizer_config()?) {
        Ok(_) => Ok(true),
        Err(DataError::Language(
            LanguageError::NoChatTemplate { .. } | LanguageError::NoChatTemplateInGguf { .. },
        )) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(files: &[(&str, &str)], file: Option<&str>) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let files = ModelFiles::open(dir.path()).unwrap();
        let config = files.tokenizer_config().unwrap();
        let file = file.map(|name| dir.path().join(name));
        ChatTemplateSource::find(&files, file.as_deref(), &config)
            .map(|source| source.template)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_template_is_found_in_each_of_its_places_in_order() {
        let own = ("own.jinja", "own");
        let jinja = ("chat_template.jinja", "jinja");
        let config = ("tokenizer_config.json", r#"{"chat_template": "config"}"#);
        let json = ("chat_template.json", r#"{"chat_template": "json"}"#);
        let all = [own, jinja, config, json];
        assert_eq!(find(&all, Some("own.jinja")).unwrap(), "own");
        assert_eq!(find(&all[1..], None).unwrap(), "jinja");
        assert_eq!(find(&all[2..], None).unwrap(), "config");
        assert_eq!(find(&all[3..], None).unwrap(), "json");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_template() {
        let own = ("own.jinja", "\u{feff}own");
        let jinja = ("chat_template.jinja", "\u{feff}jinja");
        assert_eq!(find(&[own, jinja], Some("own.jinja")).unwrap(), "own");
        assert_eq!(find(&[jinja], None).unwrap(), "jinja");
        let config = (
            "tokenizer_config.json",
            "\u{feff}{\"chat_template\": \"config\"}",
        );
        assert_eq!(find(&[config], None).unwrap(), "config");
    }

    #[test]
    fn of_several_templates_the_default_one_is_meant() {
        let several = r#"{"chat_template": [{"name": "tool_use", "template": "t"},
                                             {"name": "default", "template": "d"}]}"#;
        assert_eq!(
            find(&[("tokenizer_config.json", several)], None).unwrap(),
            "d"
        );
        let others = several.replace("default", "rag");
        let error = find(&[("tokenizer_config.json", &others)], None).unwrap_err();
        assert!(
            error.contains("named `tool_use`, `rag`, expected one named `default`"),
            "{error}"
        );
    }

    #[test]
    fn a_directory_without_a_template_says_what_to_do() {
        let error = find(&[], None).unwrap_err();
        assert!(error.contains("has no chat template"), "{error}");
        assert!(
            error.contains("set `data.chat_template` to a template file"),
            "{error}"
        );
        let error = find(&[], Some("absent.jinja")).unwrap_err();
        assert!(error.contains("absent.jinja"), "{error}");
    }
}
