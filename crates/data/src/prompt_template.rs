//! A row's columns → a prompt, for datasets of instructions rather than conversations.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value};

use crate::language_error::LanguageError;
use crate::row::Place;

/// Stanford Alpaca's prompt, with the line break before the output that the `text` column of its
/// dataset has. As in LLaMA-Factory, a row's system prompt stands in the place of the first sentences, and what
/// was asked and answered before in front of the instruction.
const ALPACA: &str = "\
{% if system %}{{ system }}{% else %}\
Below is an instruction that describes a task\
{% if input %}, paired with an input that provides further context{% endif %}. \
Write a response that appropriately completes the request.\
{% endif %}

{% for question, answer in history %}### Instruction:
{{ question }}

### Response:
{{ answer }}

{% endfor %}### Instruction:
{{ instruction }}

{% if input %}### Input:
{{ input }}

{% endif %}### Response:
";

const NAME: &str = "data.prompt_template";

/// An instruction with what a row has to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Instruction<'a> {
    pub instruction: &'a str,
    /// May be empty, as all that follows.
    pub input: &'a str,
    pub system: &'a str,
    /// Pairs of what was asked and answered before.
    pub history: &'a [[String; 2]],
}

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

    /// Whether the template uses a variable.
    ///
    /// # Errors
    /// Never: the template was read when this was made.
    pub(crate) fn uses(&self, variable: &str) -> Result<bool, LanguageError> {
        let template = self.environment.get_template(NAME);
        let template =
            template.map_err(|source| LanguageError::MalformedPromptTemplate { source })?;
        Ok(template.undeclared_variables(false).contains(variable))
    }

    /// The prompt of an instruction.
    ///
    /// # Errors
    /// When the template uses a variable that is none of an instruction's.
    pub fn instruction(&self, asked: &Instruction, place: &Place) -> Result<String, LanguageError> {
        let pairs = asked.history.iter();
        let history: Value = pairs
            .map(|pair| pair.iter().map(String::as_str).collect::<Value>())
            .collect();
        let variables = [
            ("instruction", asked.instruction.into()),
            ("input", asked.input.into()),
            ("system", asked.system.into()),
            ("history", history),
        ];
        let named = "`instruction`, `input`, `system` and `history`";
        self.fill(variables, named, place)
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
        let asked = Instruction {
            instruction: "Name a <b> tag.",
            ..Instruction::default()
        };
        let prompt = template.instruction(&asked, &place());
        assert_eq!(prompt.unwrap(), without);
        let with = "Below is an instruction that describes a task, paired with an input that \
                    provides further context. Write a response that appropriately completes the \
                    request.\n\n### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:\n";
        let asked = Instruction {
            instruction: "Add.",
            input: "1, 2",
            ..Instruction::default()
        };
        let prompt = template.instruction(&asked, &place());
        assert_eq!(prompt.unwrap(), with);
    }

    /// As LLaMA-Factory's template `alpaca` has it, but for the end tokens behind earlier answers and the empty
    /// line that it lacks behind a system prompt.
    #[test]
    fn a_system_prompt_is_in_the_place_of_alpacas_and_history_before_the_instruction() {
        let history = [["1 + 1?", "2"].map(str::to_owned)];
        let asked = Instruction {
            instruction: "And 2 + 2?",
            input: "in words",
            system: "You add.",
            history: &history,
        };
        let template = PromptTemplate::alpaca().unwrap();
        let expected = "You add.\n\n### Instruction:\n1 + 1?\n\n### Response:\n2\n\n\
                        ### Instruction:\nAnd 2 + 2?\n\n### Input:\nin words\n\n### Response:\n";
        assert_eq!(template.instruction(&asked, &place()).unwrap(), expected);
        assert!(template.uses("history").unwrap());
        let own = PromptTemplate::new("{{ system }}|{{ instruction }}").unwrap();
        assert_eq!(
            own.instruction(&asked, &place()).unwrap(),
            "You add.|And 2 + 2?"
        );
        assert!(own.uses("system").unwrap() && !own.uses("history").unwrap());
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
