//! A row's columns → a prompt, for datasets of instructions rather than conversations.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value};

use crate::language_error::LanguageError;
use crate::row::Place;

/// Stanford Alpaca's prompt, with the line break before the output that the `text` column of its
/// dataset has.
const ALPACA: &str = "\
Below is an instruction that describes a task\
{% if input %}, paired with an input that provides further context{% endif %}. \
Write a response that appropriately completes the request.

### Instruction:
{{ instruction }}

{% if input %}### Input:
{{ input }}

{% endif %}### Response:
";

const NAME: &str = "data.prompt_template";

/// The words that a prompt is put into: Alpaca's, or a Jinja template of the user's.
///
/// Line breaks at the template's end are kept: what is written is what the model sees.
pub struct PromptTemplate {
    environment: Environment<'static>,
}

impl PromptTemplate {
    /// # Errors
    /// When `template` is not a Jinja template.
    pub fn new(template: &str) -> Result<Self, LanguageError> {
        let malformed = |source| LanguageError::MalformedPromptTemplate { source };
        let mut syntax = SyntaxConfig::builder();
        let syntax = syntax
            .keep_trailing_newline(true)
            .build()
            .map_err(malformed)?;
        let mut environment = Environment::new();
        environment.set_syntax(syntax);
        // A misspelt variable would otherwise be an empty one in every prompt.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .add_template_owned(NAME, template.to_owned())
            .map_err(malformed)?;
        Ok(Self { environment })
    }

    /// # Errors
    /// Never, unless Alpaca's prompt is not a Jinja template.
    pub fn alpaca() -> Result<Self, LanguageError> {
        Self::new(ALPACA)
    }

    /// The prompt of an instruction, whose `input` may be empty.
    ///
    /// # Errors
    /// When the template uses a variable that is neither `instruction` nor `input`.
    pub fn instruction(
        &self,
        instruction: &str,
        input: &str,
        place: &Place,
    ) -> Result<String, LanguageError> {
        let variables = [("instruction", instruction.into()), ("input", input.into())];
        self.fill(variables, "`instruction` and `input`", place)
    }

    /// # Errors
    /// When the template uses a variable other than `prompt`.
    pub fn prompt(&self, prompt: &str, place: &Place) -> Result<String, LanguageError> {
        self.fill([("prompt", prompt.into())], "`prompt`", place)
    }

    /// The prompt of a question, which may list its choices.
    ///
    /// # Errors
    /// When the template uses a variable that is neither `question` nor `choices`.
    pub fn question(
        &self,
        question: &str,
        choices: &[String],
        place: &Place,
    ) -> Result<String, LanguageError> {
        let choices: Value = choices.iter().map(String::as_str).collect();
        let variables = [("question", question.into()), ("choices", choices)];
        self.fill(variables, "`question` and `choices`", place)
    }

    fn fill<const COUNT: usize>(
        &self,
        variables: [(&'static str, Value); COUNT],
        named: &'static str,
        place: &Place,
    ) -> Result<String, LanguageError> {
        let variables = BTreeMap::from(variables);
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(variables))
            .map_err(|source| LanguageError::PromptTemplate {
                place: place.clone(),
                variables: named,
                source,
            })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn place() -> Place {
        Place {
            file: Path::new("train.jsonl").into(),
            line: 2,
        }
    }

    /// As `PROMPT_DICT` of Stanford Alpaca's train.py has it, and a line break.
    #[test]
    fn alpacas_prompt_leaves_out_an_empty_input() {
        let template = PromptTemplate::alpaca().unwrap();
        let without = "Below is an instruction that describes a task. Write a response that \
                       appropriately completes the request.\n\n### Instruction:\nName a <b> \
                       tag.\n\n### Response:\n";
        let prompt = template.instruction("Name a <b> tag.", "", &place());
        assert_eq!(prompt.unwrap(), without);
        let with = "Below is an instruction that describes a task, paired with an input that \
                    provides further context. Write a response that appropriately completes the \
                    request.\n\n### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n";
        let prompt = template.instruction("Add.", "1, 2", &place());
        assert_eq!(prompt.unwrap(), with);
    }

    #[test]
    fn an_own_template_keeps_its_last_line_break() {
        let template = PromptTemplate::new("Q: {{ prompt }}\nA:\n").unwrap();
        assert_eq!(template.prompt("why?", &place()).unwrap(), "Q: why?\nA:\n");
    }

    #[test]
    fn a_question_may_list_its_choices() {
        let source = "{{ question }}{% for choice in choices %}\n{{ 'ABCD'[loop.index0] }}. \
                      {{ choice }}{% endfor %}\nAnswer:";
        let template = PromptTemplate::new(source).unwrap();
        let choices = ["red", "blue"].map(str::to_owned);
        let prompt = template.question("Which?", &choices, &place()).unwrap();
        assert_eq!(prompt, "Which?\nA. red\nB. blue\nAnswer:");
    }

    #[test]
    fn a_misspelt_variable_and_a_broken_template_are_refused() {
        let template = PromptTemplate::new("{{ promt }}").unwrap();
        let error = template.prompt("why?", &place()).unwrap_err().to_string();
        let expected = "train.jsonl:2: `data.prompt_template` cannot be filled in; it may use \
                        `prompt`";
        assert_eq!(error, expected);
        assert!(PromptTemplate::new("{{ prompt").is_err());
    }
}
