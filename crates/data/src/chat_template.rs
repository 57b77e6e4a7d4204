//! Conversations → text, by the template that a model brings along.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use minijinja::value::{Enumerator, Object, Serde};
use minijinja::{Environment, Value};

use crate::chat_template_source::ChatTemplateSource;
use crate::error::DataError;
use crate::jinja_environment::{chat_environment, without_generation_tags};
use crate::language_error::LanguageError;
use crate::message::Message;
use crate::model_files::ModelFiles;
use crate::tokenizer_config::TokenName;

const NAME: &str = "chat_template";

/// The template that writes a conversation as the text its model was trained on.
///
/// Rendered as transformers' `apply_chat_template` does it, without documents; the date that a template may
/// ask for is that of loading it, in UTC, so that one run sees one date. A model's template for tools
/// (`tool_use`), where it has one beside the usual one, is part of it.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    path: PathBuf,
    /// `bos_token` and its like, by name; those that the tokenizer lacks are undefined.
    special_tokens: Vec<(&'static str, String)>,
}

impl ChatTemplate {
    /// Loads the template in `file`, else the model's own: that of a directory (`chat_template.jinja`,
    /// `tokenizer_config.json` or `chat_template.json`) or of a GGUF file.
    ///
    /// # Errors
    /// When there is none, or it cannot be read or is not a Jinja template.
    pub fn load(model_dir: &Path, file: Option<&Path>) -> Result<Self, DataError> {
        Self::load_at(model_dir, file, SystemTime::now().into())
    }

    /// As [`load`](Self::load), with the time that the template is told.
    fn load_at(
        model_dir: &Path,
        file: Option<&Path>,
        now: DateTime<Utc>,
    ) -> Result<Self, DataError> {
        let files = ModelFiles::open(model_dir)?;
        let config = files.tokenizer_config()?;
        let source = ChatTemplateSource::find(&files, file, &config)?;
        let special_tokens = [
            ("bos_token", &config.bos_token),
            ("eos_token", &config.eos_token),
            ("pad_token", &config.pad_token),
            ("unk_token", &config.unk_token),
        ];
        let special_tokens = special_tokens
            .into_iter()
            .filter_map(|(name, token)| {
                let token = token.as_ref().map(TokenName::as_str)?;
                Some((name, token.to_owned()))
            })
            .collect();
        Ok(Self::new(source, special_tokens, now)?)
    }

    fn new(
        source: ChatTemplateSource,
        special_tokens: Vec<(&'static str, String)>,
        now: DateTime<Utc>,
    ) -> Result<Self, LanguageError> {
        let (template, path) = (source.joined(), source.path);
        let parsed = chat_environment(now).and_then(|mut environment| {
            environment.add_template_owned(NAME, without_generation_tags(&template))?;
            Ok(environment)
        });
        match parsed {
            Ok(environment) => Ok(Self {
                environment,
                source: template,
                path,
                special_tokens,
            }),
            Err(source) => Err(LanguageError::MalformedChatTemplate { path, source }),
        }
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The file that the template is from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text of a conversation, special tokens included.
    ///
    /// - tools: JSON schemas of what the assistant may call; without any, the template is told of none
    /// - add_generation_prompt: end with what comes before the assistant's next words
    ///
    /// # Errors
    /// When the template refuses the conversation, or fails on it.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[serde_json::Value],
        add_generation_prompt: bool,
    ) -> Result<String, LanguageError> {
        let messages: Value = messages.iter().cloned().map(Value::from_object).collect();
        let tools = match tools {
            [] => Value::from(()),
            tools => Value::from(Serde(tools)),
        };
        let variables = [
            ("messages", messages),
            ("add_generation_prompt", add_generation_prompt.into()),
            ("tools", tools),
            ("documents", ().into()),
        ];
        let special_tokens = self.special_tokens.iter();
        let special_tokens = special_tokens.map(|(name, token)| (*name, token.as_str().into()));
        let variables: BTreeMap<&str, Value> =
            variables.into_iter().chain(special_tokens).collect();
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(variables))
            .map_err(|source| LanguageError::Rendering {
                path: self.path.clone(),
                source,
            })
    }
}

/// What a template sees of a message: a map, in the order of its file.
impl Object for Message {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "role" => Some(self.role.as_str().into()),
            "content" => match &self.parts {
                Some(parts) => Some(Value::from(Serde(parts.clone()))),
                None => self.content.as_deref().map(Value::from),
            },
            other => self
                .fields
                .get(other)
                .map(|field| Value::from(Serde(field))),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let others = self.fields.keys().map(String::as_str);
        let has_content = self.content.is_some() || self.parts.is_some();
        let content = has_content.then_some("content");
        let names = ["role"].into_iter().chain(content).chain(others);
        Enumerator::Values(names.map(Value::from).collect())
    }
}

#[cfg(test)]
#[path = "chat_template_tests.rs"]
mod tests;
