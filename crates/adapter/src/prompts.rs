//! What CLIP is asked about each label of a zero-shot task.

use std::path::Path;

use eigenmix_tensors::{FileError, write_file};

use crate::AdapterError;

/// Texts with `{}` where a label goes, such as `a photo of a {}.`; on disk a list of strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompts(Vec<String>);

/// Why texts are no prompts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    #[error("there is no prompt; give at least one text such as `a photo of a {{}}.`")]
    None,
    #[error("prompt `{0}` has no {{}}, which is where the label goes, as in `a photo of a {{}}.`")]
    NoPlace(String),
}

impl Prompts {
    /// The name by which adapters carry their prompts.
    pub const FILE_NAME: &str = "prompts.json";

    /// # Errors
    /// If there is none, or one has no place for a label.
    pub fn new(templates: Vec<String>) -> Result<Self, PromptError> {
        if templates.is_empty() {
            return Err(PromptError::None);
        }
        match templates.iter().find(|template| !template.contains("{}")) {
            Some(template) => Err(PromptError::NoPlace(template.clone())),
            None => Ok(Self(templates)),
        }
    }

    /// Reads a prompts file.
    ///
    /// # Errors
    /// If the file cannot be read, is no list of strings, or as [`Prompts::new`].
    pub fn read(path: &Path) -> Result<Self, AdapterError> {
        let text = std::fs::read(path).map_err(FileError::io("read", path))?;
        let templates = serde_json::from_slice(&text).map_err(|source| FileError::Json {
            path: path.to_owned(),
            source,
        })?;
        Self::new(templates).map_err(|source| AdapterError::Prompts {
            path: path.to_owned(),
            source,
        })
    }

    /// Writes the prompts in the form in which [`Prompts::read`] reads them.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), AdapterError> {
        let list = serde_json::Value::from(self.0.clone());
        Ok(write_file(path, format!("{list:#}\n").as_bytes())?)
    }

    pub fn templates(&self) -> &[String] {
        &self.0
    }

    /// What is said of `label`: a text a template, `_` in the label written as a space.
    pub fn of<'a>(&'a self, label: &str) -> impl Iterator<Item = String> + 'a {
        let words = label.replace('_', " ");
        let texts = self.0.iter();
        texts.map(move |template| template.replace("{}", &words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts(templates: &[&str]) -> Result<Prompts, PromptError> {
        Prompts::new(templates.iter().map(|&text| text.to_owned()).collect())
    }

    #[test]
    fn a_label_takes_its_place_in_every_template() {
        let prompts = prompts(&["a photo of a {}.", "{}, my {}"]).unwrap();
        let texts: Vec<String> = prompts.of("red_panda").collect();
        assert_eq!(
            texts,
            ["a photo of a red panda.", "red panda, my red panda"]
        );
    }

    #[test]
    fn a_text_without_a_place_is_named() {
        assert_eq!(prompts(&[]), Err(PromptError::None));
        let error = prompts(&["{}", "a photo"]).unwrap_err().to_string();
        assert!(
            error.contains("`a photo`") && error.contains("{}"),
            "{error}"
        );
    }

    #[test]
    fn prompts_written_are_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(Prompts::FILE_NAME);
        let written = prompts(&["a \"{}\"", "{}é"]).unwrap();
        written.write(&path).unwrap();
        assert_eq!(Prompts::read(&path).unwrap(), written);
        std::fs::write(&path, "[\"a photo\"]").unwrap();
        let error = Prompts::read(&path).unwrap_err();
        assert!(matches!(error, AdapterError::Prompts { .. }), "{error}");
    }
}
