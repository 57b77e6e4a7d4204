//! One row for a language model: its columns checked, its prompt template filled in, not yet
//! tokens.

use serde_json::{Map, Value};

use crate::config::DataConfig;
use crate::content_part::{split_at_images, words_of};
use crate::error::DataError;
use crate::images::ImageSource;
use crate::jsonl::{kind, required, string};
use crate::language_cells::{ANSWERS, answers, earlier_turns, with_system_prompt};
use crate::language_columns::Layout;
use crate::language_error::LanguageError;
use crate::language_format::LanguageFormat;
use crate::message::{Message, parse_messages, parse_messages_with_images};
use crate::multiple_choice::Question;
use crate::prompt_template::{Instruction, PromptTemplate};
use crate::row::Place;
use crate::row_images::{RowImages, places_in, put_in_front};
use crate::tool_schema::parse_tools;

/// One example for a language model as its file has it, with its prompt template filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanguageRow {
    pub content: LanguageContent,
    /// Of a vision-language model: the images that stand in the text, in their order.
    pub images: Vec<ImageSource>,
    /// The answers that people gave, where they are more than one (`answers`).
    pub answers: Vec<String>,
    pub place: Place,
}

/// What an example consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LanguageContent {
    /// Needs a chat template.
    Conversation {
        messages: Vec<Message>,
        /// JSON schemas of the tools that the assistant may call, for the template.
        tools: Vec<Value>,
        /// The first message that may be trained on: 0, or where the completion of a row with a
        /// prompt of its own begins.
        completion_start: usize,
    },
    PromptCompletion {
        prompt: String,
        completion: String,
    },
    MultipleChoice(Question),
    Text(String),
}

impl LanguageRow {
    /// A row without images.
    pub fn new(content: LanguageContent, place: Place) -> Self {
        Self {
            content,
            images: Vec::new(),
            answers: Vec::new(),
            place,
        }
    }

    /// Gives the images to a row that has none yet: to the places that its text has for them, or before the
    /// words where it has none.
    ///
    /// # Errors
    /// When there are more or fewer than the text has places for.
    pub fn bring_images(&mut self, images: Vec<ImageSource>) -> Result<(), DataError> {
        let place = self.place.clone();
        if let LanguageContent::Conversation { messages, .. } = &mut self.content {
            for message in messages.iter_mut() {
                let words = message.content.as_deref();
                message.parts = words.and_then(split_at_images);
                if let Some(parts) = &message.parts {
                    message.content = Some(words_of(parts));
                }
            }
        }
        let mut places = places_in(&self.content);
        if places == 0 {
            put_in_front(&mut self.content, images.len());
            places = images.len();
        }
        if places != images.len() {
            let images = images.len();
            return Err(LanguageError::ImageCount {
                place,
                places,
                images,
            }
            .into());
        }
        self.images = images;
        Ok(())
    }

    /// Whether it takes a chat template to put the row into tokens.
    pub fn is_conversation(&self) -> bool {
        matches!(self.content, LanguageContent::Conversation { .. })
    }
}

/// Reads rows of one layout from their columns.
pub(crate) struct RowReader {
    layout: Layout,
    prompt_template: Option<PromptTemplate>,
    /// The columns that the prompt template leaves out of an instruction.
    left_out: Vec<String>,
    /// Where the images of rows are, if they may have any.
    images: Option<RowImages>,
}

impl RowReader {
    /// # Errors
    /// When `data.prompt_template` is malformed, or the layout has no prompt to put into it.
    pub(crate) fn new(layout: Layout, config: &DataConfig) -> Result<Self, LanguageError> {
        let prompt_template = match (&layout, &config.prompt_template) {
            (Layout::Messages { .. } | Layout::Text { .. }, Some(_)) => {
                return Err(LanguageError::NoPromptToFill {
                    format: layout.format(),
                });
            }
            (_, Some(template)) => Some(PromptTemplate::new(template)?),
            (Layout::Alpaca { .. }, None) => Some(PromptTemplate::alpaca()?),
            (_, None) => None,
        };
        let mut left_out = Vec::new();
        if let (
            Layout::Alpaca {
                system, history, ..
            },
            Some(template),
        ) = (&layout, &prompt_template)
        {
            for (variable, column) in [("system", system), ("history", history)] {
                if !template.uses(variable)? {
                    left_out.push(column.clone());
                }
            }
        }
        Ok(Self {
            layout,
            prompt_template,
            left_out,
            images: RowImages::new(config),
        })
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether a column is read of a row of such content.
    pub(crate) fn reads(&self, column: &str, content: &LanguageContent) -> bool {
        let is_of_template = match &self.layout {
            Layout::PromptCompletion { tools, .. } => tools == column,
            _ => false,
        };
        let has_template = matches!(content, LanguageContent::Conversation { .. });
        if self.reads_beside_images(column) {
            return true;
        }
        self.layout.reads(column)
            && (has_template || !is_of_template)
            && !self.left_out.iter().any(|name| name == column)
    }

    /// Whether a column is read of some rows.
    pub(crate) fn may_read(&self, column: &str) -> bool {
        self.layout.reads(column) || self.reads_beside_images(column)
    }

    /// Whether a column is read of rows that may have images only.
    pub(crate) fn reads_beside_images(&self, column: &str) -> bool {
        let images = self.images.as_ref();
        images.is_some_and(|images| images.reads(column) || column == ANSWERS)
    }

    /// Reads a list of messages.
    fn messages(
        &self,
        value: &Value,
        column: &str,
        place: &Place,
    ) -> Result<Vec<Message>, DataError> {
        match self.images {
            Some(_) => parse_messages_with_images(value, column, place),
            None => parse_messages(value, column, place),
        }
    }

    /// The row that a content is, with its images.
    fn with_images(
        &self,
        mut content: LanguageContent,
        columns: &Map<String, Value>,
        place: Place,
    ) -> Result<LanguageRow, DataError> {
        let Some(images) = &self.images else {
            return Ok(LanguageRow::new(content, place));
        };
        let images = images.of(columns, &mut content, &place)?;
        Ok(LanguageRow {
            images,
            answers: answers(columns, &place)?,
            ..LanguageRow::new(content, place)
        })
    }

    /// # Errors
    /// When a column is missing or is not what the layout says.
    pub(crate) fn row(
        &self,
        columns: &Map<String, Value>,
        place: Place,
    ) -> Result<LanguageRow, DataError> {
        let content = match &self.layout {
            Layout::Messages {
                messages,
                system,
                tools,
            } => {
                let value = required(columns, "data.columns.messages", messages, &place)?;
                let messages = self.messages(value, messages, &place)?;
                LanguageContent::Conversation {
                    messages: with_system_prompt(messages, columns, system, &place)?,
                    tools: parse_tools(columns.get(tools), tools, &place)?,
                    completion_start: 0,
                }
            }
            Layout::PromptCompletion {
                prompt,
                completion,
                tools,
            } => self.prompt_completion(columns, [prompt, completion, tools], &place)?,
            Layout::MultipleChoice {
                question,
                choices,
                answer,
            } => {
                let mut question = Question::parse(columns, [question, choices, answer], &place)?;
                if let Some(template) = &self.prompt_template {
                    question.prompt =
                        template.question(&question.prompt, &question.choices, &place)?;
                }
                LanguageContent::MultipleChoice(question)
            }
            Layout::Alpaca {
                instruction,
                input,
                output,
                system,
                history,
            } => self.alpaca(
                columns,
                [instruction, input, output, system, history],
                &place,
            )?,
            Layout::Text { text } => {
                LanguageContent::Text(string(columns, "data.text", text, &place)?)
            }
        };
        self.with_images(content, columns, place)
    }

    /// The row of a model that is to answer: as [`RowReader::row`], but the columns of the answer may
    /// be missing, and what they hold is not read.
    ///
    /// # Errors
    /// As [`RowReader::row`].
    pub(crate) fn prompt(
        &self,
        columns: &Map<String, Value>,
        place: Place,
    ) -> Result<LanguageRow, DataError> {
        let mut asked = columns.clone();
        match &self.layout {
            Layout::Messages { .. } | Layout::Text { .. } => {}
            Layout::PromptCompletion {
                prompt,
                completion,
                tools,
            } => {
                if let Some(value @ Value::Array(_)) = columns.get(prompt) {
                    let messages = self.messages(value, prompt, &place)?;
                    let content = LanguageContent::Conversation {
                        completion_start: messages.len(),
                        messages,
                        tools: parse_tools(columns.get(tools), tools, &place)?,
                    };
                    return self.with_images(content, columns, place);
                }
                asked.insert(completion.clone(), Value::from(""));
            }
            Layout::MultipleChoice { answer, .. } => {
                asked.insert(answer.clone(), Value::from(0));
            }
            Layout::Alpaca { output, .. } => {
                asked.insert(output.clone(), Value::from(""));
            }
        }
        self.row(&asked, place)
    }

    /// Both columns strings, or both lists of messages.
    fn prompt_completion(
        &self,
        columns: &Map<String, Value>,
        [prompt, completion, tools]: [&str; 3],
        place: &Place,
    ) -> Result<LanguageContent, DataError> {
        let prompt_value = required(columns, "data.columns.prompt", prompt, place)?;
        let completion_value = required(columns, "data.columns.completion", completion, place)?;
        let refused = |column: &str, expected: &'static str, found: &Value| DataError::BadValue {
            place: place.clone(),
            column: column.to_owned(),
            expected,
            found: kind(found).to_owned(),
        };
        match (prompt_value, completion_value) {
            (Value::String(prompt), Value::String(completion)) => {
                let prompt = match &self.prompt_template {
                    Some(template) => template.prompt(prompt, place)?,
                    None => prompt.clone(),
                };
                Ok(LanguageContent::PromptCompletion {
                    prompt,
                    completion: completion.clone(),
                })
            }
            (Value::Array(_), Value::Array(_)) => {
                if self.prompt_template.is_some() {
                    let expected = "a string to put into `data.prompt_template`";
                    return Err(refused(prompt, expected, prompt_value));
                }
                let mut messages = self.messages(prompt_value, prompt, place)?;
                let completion_start = messages.len();
                messages.extend(self.messages(completion_value, completion, place)?);
                Ok(LanguageContent::Conversation {
                    messages,
                    tools: parse_tools(columns.get(tools), tools, place)?,
                    completion_start,
                })
            }
            (Value::String(_), other) => {
                let expected = "a string, as the prompt is one";
                Err(refused(completion, expected, other))
            }
            (Value::Array(_), other) => {
                let expected = "a list of messages, as the prompt is one";
                Err(refused(completion, expected, other))
            }
            (other, _) => Err(refused(prompt, "a string or a list of messages", other)),
        }
    }

    fn alpaca(
        &self,
        columns: &Map<String, Value>,
        [instruction, input, output, system, history]: [&str; 5],
        place: &Place,
    ) -> Result<LanguageContent, DataError> {
        let instruction = string(columns, "data.columns.instruction", instruction, place)?;
        let optional = |setting: &str, column: &str| match columns.get(column) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(_) if self.left_out.iter().any(|name| name == column) => Ok(String::new()),
            Some(_) => string(columns, setting, column, place),
        };
        let input = optional("data.columns.input", input)?;
        let system = optional("data.columns.system", system)?;
        let completion = string(columns, "data.columns.output", output, place)?;
        let history = match self.left_out.iter().any(|name| name == history) {
            true => Vec::new(),
            false => earlier_turns(columns.get(history), history, place)?,
        };
        let asked = Instruction {
            instruction: &instruction,
            input: &input,
            system: &system,
            history: &history,
        };
        let prompt = match &self.prompt_template {
            Some(template) => template.instruction(&asked, place)?,
            None => PromptTemplate::alpaca()?.instruction(&asked, place)?,
        };
        Ok(LanguageContent::PromptCompletion { prompt, completion })
    }
}

/// A line as the prompt that a row of the configured form has: a message of the user, an instruction,
/// a prompt; without a form, a text.
///
/// # Errors
/// When the form has more than fits a line, or the prompt template does not take it.
pub fn prompt_of_line(
    line: &str,
    place: Place,
    config: &DataConfig,
) -> Result<LanguageRow, DataError> {
    let format = config.format.unwrap_or(LanguageFormat::Text);
    let column = match format {
        LanguageFormat::Messages => {
            let content = LanguageContent::Conversation {
                messages: vec![Message::new("user", line)],
                tools: Vec::new(),
                completion_start: 1,
            };
            return Ok(LanguageRow::new(content, place));
        }
        LanguageFormat::MultipleChoice => {
            return Err(LanguageError::LineWithoutChoices { place }.into());
        }
        LanguageFormat::Text => {
            let content = LanguageContent::Text(line.to_owned());
            return Ok(LanguageRow::new(content, place));
        }
        LanguageFormat::PromptCompletion => config.columns.prompt.as_deref().unwrap_or("prompt"),
        LanguageFormat::Alpaca => {
            let column = config.columns.instruction.as_deref();
            column.unwrap_or("instruction")
        }
    };
    let mut found = vec![column];
    found.extend(Layout::answer_columns(config));
    let reader = RowReader::new(Layout::resolve(&found, config, &place)?, config)?;
    let columns = Map::from_iter([(column.to_owned(), Value::from(line))]);
    reader.prompt(&columns, place)
}
