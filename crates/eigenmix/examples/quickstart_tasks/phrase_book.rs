//! The phrase book: templates of what people say, by what they want and where.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// So that no single word decides an action.
const MIN_TEMPLATES: usize = 12;

pub type Slots = BTreeMap<String, Vec<String>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhraseBook {
    pub openings: Vec<String>,
    pub closings: Vec<String>,
    pub joints: Vec<String>,
    pub contractions: BTreeMap<String, String>,
    pub slots: Slots,
    pub kinds: BTreeMap<String, Phrases>,
    pub topics: BTreeMap<String, Topic>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    pub role: Role,
    pub slots: Slots,
    /// What people want here, where the topic has no task and so no names for it.
    #[serde(default)]
    pub kinds: Vec<String>,
    #[serde(default)]
    pub actions: BTreeMap<String, Action>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Source,
    New,
    Pretraining,
}

#[derive(Deserialize)]
pub struct Action {
    kind: Option<String>,
    #[serde(flatten)]
    own: Phrases,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Phrases {
    pub question: Vec<String>,
    pub request: Vec<String>,
    pub statement: Vec<String>,
    pub aside: Vec<String>,
}

#[derive(Clone, Copy)]
pub enum Form {
    Question,
    Request,
    Statement,
}

pub const FORMS: [(Form, &str); 3] = [
    (Form::Question, "question"),
    (Form::Request, "request"),
    (Form::Statement, "statement"),
];

impl Phrases {
    pub fn of(&self, form: Form) -> &[String] {
        match form {
            Form::Question => &self.question,
            Form::Request => &self.request,
            Form::Statement => &self.statement,
        }
    }

    fn templates(&self) -> usize {
        self.question.len() + self.request.len() + self.statement.len()
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.question
            .iter()
            .chain(&self.request)
            .chain(&self.statement)
            .chain(&self.aside)
    }

    fn extend(&mut self, other: &Phrases) {
        self.question.extend_from_slice(&other.question);
        self.request.extend_from_slice(&other.request);
        self.statement.extend_from_slice(&other.statement);
        self.aside.extend_from_slice(&other.aside);
    }
}

impl PhraseBook {
    /// A topic's actions by label, each with the phrases of its kind and its own.
    pub fn actions(&self, name: &str, topic: &Topic) -> Result<BTreeMap<String, Phrases>> {
        let named = topic
            .actions
            .iter()
            .map(|(label, action)| (label, action.kind.as_ref(), Some(&action.own)));
        let unnamed = topic.kinds.iter().map(|kind| (kind, Some(kind), None));
        let mut actions = BTreeMap::new();
        for (label, kind, own) in named.chain(unnamed) {
            let mut phrases = match kind {
                Some(kind) => self
                    .kinds
                    .get(kind)
                    .with_context(|| {
                        format!("topic `{name}`, action `{label}`: there is no kind `{kind}`")
                    })?
                    .clone(),
                None => Phrases::default(),
            };
            phrases.extend(own.unwrap_or(&Phrases::default()));
            ensure!(
                phrases.templates() >= MIN_TEMPLATES,
                "topic `{name}`, action `{label}`: {} templates, expected at least {MIN_TEMPLATES}",
                phrases.templates()
            );
            actions.insert(label.clone(), phrases);
        }
        Ok(actions)
    }

    /// Every piece that a sentence can be cut into, in alphabetical order.
    pub fn vocabulary(&self) -> BTreeSet<String> {
        let topics = self.topics.values();
        let slots = topics
            .clone()
            .map(|topic| &topic.slots)
            .chain([&self.slots])
            .flat_map(|slots| slots.values().flatten());
        let own = topics
            .flat_map(|topic| topic.actions.values())
            .flat_map(|action| action.own.all());
        let shared = self.kinds.values().flat_map(Phrases::all);
        let around = self
            .openings
            .iter()
            .chain(&self.closings)
            .chain(&self.joints)
            .chain(self.contractions.values());
        let mut words: BTreeSet<String> = slots
            .chain(own)
            .chain(shared)
            .chain(around)
            .flat_map(|template| words_of(template))
            .collect();
        words.extend([".", "?", "!", ",", "'", "an"].map(String::from));
        words
    }
}

/// The words of a template, its slots left out.
pub fn words_of(template: &str) -> Vec<String> {
    let mut text = template.to_owned();
    while let (Some(open), Some(close)) = (text.find('{'), text.find('}')) {
        text.replace_range(open..=close, " ");
    }
    pieces(&text.replace(['[', ']', '|'], " "))
}

/// A text as BERT's pre-tokenizer cuts it: at spaces, and around each mark.
pub fn pieces(text: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(2 * text.len());
    for character in text.chars() {
        if character.is_ascii_punctuation() {
            spaced.extend([' ', character, ' ']);
        } else {
            spaced.push(character);
        }
    }
    spaced.split_whitespace().map(String::from).collect()
}

/// Words of each topic's slots that no other topic has.
pub fn telling_words(topics: &BTreeMap<String, Topic>) -> BTreeMap<&str, BTreeSet<String>> {
    let words: BTreeMap<&str, BTreeSet<String>> = topics
        .iter()
        .map(|(name, topic)| {
            (
                name.as_str(),
                topic
                    .slots
                    .values()
                    .flatten()
                    .flat_map(|phrase| words_of(phrase))
                    .collect(),
            )
        })
        .collect();
    let is_told_by_others = |name: &str, word: &String| {
        words
            .iter()
            .any(|(other, theirs)| *other != name && theirs.contains(word))
    };
    words
        .iter()
        .map(|(name, own)| {
            (
                *name,
                own.iter()
                    .filter(|word| !is_told_by_others(name, word))
                    .cloned()
                    .collect(),
            )
        })
        .collect()
}
