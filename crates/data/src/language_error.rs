//! What can be wrong with data for language models, beside what can be wrong with every table.

use std::path::PathBuf;

use thiserror::Error;

use crate::language_format::LanguageFormat;
use crate::row::Place;

/// What can be wrong with data for language models, beside what can be wrong with every table.
#[derive(Debug, Error)]
pub enum LanguageError {
    #[error(
        "{place}: the model was trained on questions with choices, which a line has not; give a \
         table with the columns of the training, or take the line as it stands (--raw)"
    )]
    LineWithoutChoices { place: Place },

    #[error(
        "{place}: the columns {found} make none of the known forms: expected `messages` (or \
         `conversations`), `prompt` with `completion`, `question` (or `prompt`) with `choices` and \
         `answer`, `instruction` with `output` (or `response`), or `{text}`; {advice}"
    )]
    UnknownForm {
        place: Place,
        found: String,
        /// The column that `data.text` names.
        text: String,
        advice: String,
    },

    #[error(
        "{place}: column `{column}` of format `{format}` is a list, which CSV cannot hold; write \
         the rows as .jsonl or .parquet"
    )]
    ListInCsv {
        place: Place,
        column: String,
        format: LanguageFormat,
    },

    #[error("{place}: column `{column}`, message {number}: expected {expected}, found {found}")]
    BadMessage {
        place: Place,
        column: String,
        /// From 1.
        number: usize,
        expected: &'static str,
        found: String,
    },

    #[error(
        "{place}: column `{column}`: `{answer}` is none of the choices {choices}; expected an \
         index from 0 to {}, a letter from A, or the text of one", count - 1
    )]
    UnknownAnswer {
        place: Place,
        column: String,
        answer: String,
        choices: String,
        count: usize,
    },

    #[error(
        "{place}: the text has places for {places} images (`<image>`, or parts of type `image`), and the \
         row brings {images}; each needs the other"
    )]
    ImageCount {
        place: Place,
        places: usize,
        images: usize,
    },

    #[error(
        "{place}: {in_parts} of {places} parts of type `image` say where their image is, and a column has \
         {in_column} images; have all of them in one of the two"
    )]
    ImagesInTwoPlaces {
        place: Place,
        places: usize,
        in_parts: usize,
        in_column: usize,
    },

    #[error(
        "{place}: the answer has a place for an image (`<image>`), which a model does not write; take it \
         out of the completion or the choices"
    )]
    ImageInAnswer { place: Place },

    #[error("{place}: the image `{url}` is on the Internet; download it and give its path")]
    RemoteImage { place: Place, url: String },

    #[error(
        "{place}: a text of which every token is learnt has images; give rows of `prompt` and \
         `completion`, or of messages"
    )]
    ImagesInText { place: Place },

    #[error(
        "{place}: with its images the question takes {tokens} tokens, and data.max_length leaves no \
         room for them; set data.max_length to {tokens} or more"
    )]
    NoRoomForImages { place: Place, tokens: usize },

    #[error(
        "the tokenizer does not know token {token}, which stands for images in the base model; is it \
         that of another model?"
    )]
    NoImageToken { token: u32 },

    #[error(
        "the chat template of `{path}` wrote {found} image tokens for {images} images; set \
         data.chat_template to one that is made for images", path = .path.display()
    )]
    TemplateImages {
        path: PathBuf,
        found: usize,
        images: usize,
    },

    #[error("`data.prompt_template` is not a valid template")]
    MalformedPromptTemplate {
        #[source]
        source: minijinja::Error,
    },

    #[error("{place}: `data.prompt_template` cannot be filled in; it may use {variables}")]
    PromptTemplate {
        place: Place,
        variables: &'static str,
        #[source]
        source: minijinja::Error,
    },

    #[error(
        "`data.prompt_template` does not go with format `{format}`; remove it, or use prompts and \
         completions, instructions or multiple-choice questions"
    )]
    NoPromptToFill { format: LanguageFormat },

    #[error(
        "`{dir}` has no chat template (neither chat_template.jinja, nor `chat_template` in \
         tokenizer_config.json, nor chat_template.json), which rows of messages need; set \
         `data.chat_template` to a template file, or give rows of `prompt` and `completion`"
    )]
    NoChatTemplate { dir: PathBuf },

    #[error(
        "`{path}` has no chat template (`tokenizer.chat_template`), which rows of messages need; set \
         `data.chat_template` to a template file, or give rows of `prompt` and `completion`"
    )]
    NoChatTemplateInGguf { path: PathBuf },

    #[error(
        "`{path}` has chat templates named {found}, expected one named `default`; write the one \
         to use into a file of its own and set `data.chat_template` to it"
    )]
    NoDefaultTemplate { path: PathBuf, found: String },

    #[error("the chat template in `{path}` is not one that can be read")]
    MalformedChatTemplate {
        path: PathBuf,
        #[source]
        source: minijinja::Error,
    },

    #[error(
        "there is no chat template loaded, which messages need; name one when the encoder is made"
    )]
    NoTemplateLoaded,

    #[error("the chat template in `{path}` refuses the conversation")]
    Rendering {
        path: PathBuf,
        #[source]
        source: minijinja::Error,
    },

    #[error("{place}: the conversation cannot be put into tokens")]
    Conversation {
        place: Place,
        #[source]
        source: Box<LanguageError>,
    },

    #[error(
        "the chat template in `{path}` rewrites what comes before: the conversation {until} is not \
         the beginning of the whole, so the tokens of message {number} cannot be told from the \
         others; set `data.train_on = \"each-turn\"`, or `data.chat_template` to a template that \
         keeps earlier turns as they were"
    )]
    RewrittenHistory {
        path: PathBuf,
        until: &'static str,
        /// The message of the assistant, from 1.
        number: usize,
    },

    #[error(
        "none of the {rows} rows has a token left to train on within `data.max_length` = \
         {max_length}; raise it, or check that the rows have completions or messages of role \
         `assistant`"
    )]
    NothingTrained { rows: usize, max_length: usize },

    #[error("`data.max_length` is {found}, expected at least 2: a token and the one it predicts")]
    MaxLengthTooShort { found: usize },

    #[error("{place}: expected a multiple-choice question, found a row of another form")]
    NotAQuestion { place: Place },

    #[error(
        "{place}: choice {number} has {tokens} tokens, `data.max_length` = {max_length} leaves no \
         room for a token of the question before it; raise it"
    )]
    ChoiceTooLong {
        place: Place,
        /// From 1.
        number: usize,
        tokens: usize,
        max_length: usize,
    },

    #[error("{place}: choice {number} has no tokens; remove the row")]
    NoChoiceTokens {
        place: Place,
        /// From 1.
        number: usize,
    },

    #[error(
        "{place}: the question is empty and the tokenizer has no token that begins a text, so \
         nothing predicts the choices; write the question"
    )]
    NoContext { place: Place },

    #[error(
        "`data.examples_per_class` needs classes, which rows for this task have not; use \
         `data.max_examples`"
    )]
    NoClasses,
}
