//! The suggested training file: TOML with a comment for every guess.

use std::fmt::{self, Write as _};

use eigenmix_trainer::{AdapterMethod, LabelSurvey, TaskKind};

use super::{FoundAdapter, FoundBase, FoundData};

/// Of more adapters than these, the file says how to choose among them.
const FEW_ADAPTERS: usize = 4;

/// The parts that the file is made from.
pub struct StarterFile<'a> {
    pub path: &'a str,
    pub base: Option<&'a FoundBase>,
    /// The name of the base model, if it could not be opened.
    pub base_name: Option<&'a str>,
    pub data: Option<&'a FoundData>,
    /// Those that fit, or those of them that were selected.
    pub adapters: Vec<&'a FoundAdapter>,
    /// Out of how many that fit they were selected for the task, if they were.
    pub selected_of: Option<usize>,
    pub method: AdapterMethod,
}

impl StarterFile<'_> {
    /// Whether nothing in it has to be filled in.
    pub fn is_complete(&self) -> bool {
        self.data.is_some() && (self.base.is_some() || self.base_name.is_some())
    }

    fn task(&self) -> TaskKind {
        let of_data = self.data.map(|data| data.kind);
        let of_base = || self.base.map(FoundBase::usual_task);
        of_data.or_else(of_base).unwrap_or_default()
    }

    fn rows(&self) -> Option<usize> {
        self.data?.splits.first().map(|(_, rows)| *rows)
    }

    /// The last part of the data's name.
    fn name(&self) -> &str {
        let path = self.data.map_or("training", |data| data.path.as_str());
        let path = path.split('@').next().unwrap_or(path);
        let mut parts = path.split('/');
        parts
            .rfind(|part| !["", ".", ".."].contains(part))
            .unwrap_or("training")
    }

    fn write_base(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "\n[base]")?;
        match (self.base, self.base_name) {
            (Some(base), _) => {
                writeln!(text, "# {}.", base.summary())?;
                writeln!(text, "model = {}", quoted(base.name()))
            }
            (None, Some(name)) => {
                writeln!(text, "# Not examined yet.")?;
                writeln!(text, "model = {}", quoted(name))
            }
            (None, None) => {
                writeln!(
                    text,
                    "# Fill in: a directory with config.json and model.safetensors, or a Hub id."
                )?;
                writeln!(text, "model = \"org/base-model\"")
            }
        }
    }

    fn write_data(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "\n[data]")?;
        let Some(data) = self.data else {
            writeln!(
                text,
                "# Fill in: a directory with train, validation and test as .jsonl, .csv or .parquet, or a"
            )?;
            writeln!(text, "# dataset on the Hub.")?;
            writeln!(text, "path = \"data\"")?;
            writeln!(text, "# The columns.")?;
            writeln!(text, "text = \"text\"\nlabel = \"label\"")?;
            return writeln!(text, "max_length = 128");
        };
        writeln!(text, "# {}.", data.summary())?;
        writeln!(text, "path = {}", quoted(&data.path))?;
        let columns = data.kind.definition().columns(&data.config);
        // A folder for each class has no columns.
        if !columns.is_empty() && !data.columns.is_empty() {
            writeln!(text, "# Guessed from the names of the columns.")?;
            for (key, column) in columns {
                writeln!(text, "{key} = {}", quoted(column))?;
            }
        }
        if let LabelSurvey::Lists {
            separator: Some(separator),
            ..
        } = data.labels
        {
            writeln!(text, "# Guessed: what stands between the labels of a row.")?;
            writeln!(text, "label_separator = {}", quoted(separator))?;
        }
        self.write_max_length(data, text)
    }

    fn write_max_length(&self, data: &FoundData, text: &mut String) -> fmt::Result {
        let limit = self.base.and_then(|base| base.model.max_length().ok());
        let limit = limit.unwrap_or(usize::MAX);
        let Some((usual, reason)) = data.kind.definition().usual_max_length() else {
            return Ok(());
        };
        match data.lengths {
            Some(lengths) => {
                let room = lengths.usual.next_multiple_of(8).max(8).min(limit);
                writeln!(
                    text,
                    "# Guessed: 99 of 100 training texts have at most {} tokens, the longest has {}.",
                    lengths.usual, lengths.longest
                )?;
                writeln!(text, "max_length = {room}")
            }
            None => {
                writeln!(text, "# Guessed: {reason}.")?;
                writeln!(text, "max_length = {}", limit.min(usual))
            }
        }
    }

    fn write_task(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "\n[task]")?;
        match (self.data, self.base) {
            (Some(data), _) => writeln!(text, "# Guessed: {}.", data.reason)?,
            (None, Some(_)) => writeln!(text, "# Guessed: what the base model is usually for.")?,
            (None, None) => {
                let kinds = TaskKind::ALL.map(|kind| quoted(kind.name()));
                let (last, others) = kinds.split_last().expect("there are several");
                writeln!(text, "# {} or {last}.", others.join(", "))?;
            }
        }
        writeln!(text, "kind = {}", quoted(self.task().name()))?;
        match self.data.map(|data| data.labels) {
            Some(LabelSurvey::Numbers) => {
                writeln!(text, "# Guessed: the labels are numbers with fractions.")?;
                writeln!(text, "target = \"number\"")
            }
            Some(LabelSurvey::Lists { .. }) => {
                writeln!(text, "# Guessed: a row may have several labels.")?;
                writeln!(text, "target = \"labels\"")?;
                writeln!(text, "# A label is predicted from this probability on.")?;
                writeln!(text, "# threshold = 0.5")
            }
            _ => Ok(()),
        }
    }

    fn write_adapter(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "\n[adapter]")?;
        let method = self.method;
        match (
            method.is_on_adapters(),
            self.selected_of.unwrap_or(self.adapters.len()),
        ) {
            (true, count) if method.is_composition() => writeln!(
                text,
                "# Guessed: {count} adapters fit the base model, so the weights of their sum are trained."
            )?,
            (true, count) => writeln!(
                text,
                "# Guessed: {count} adapters fit the base model, so their subspace is recycled."
            )?,
            (false, 0) => writeln!(
                text,
                "# No adapters to recycle fit; with some, try \"eigenmix\"."
            )?,
            (false, count) => writeln!(
                text,
                "# {count} adapters fit the base model; \"eigenmix\" would recycle them."
            )?,
        }
        writeln!(text, "method = {}", quoted(method.name()))?;
        if method.trains_everything() {
            return Ok(());
        }
        if method.is_on_adapters() {
            let names: Vec<String> = self
                .adapters
                .iter()
                .map(|adapter| format!("    {},\n", quoted(&adapter.name)))
                .collect();
            match self.selected_of {
                Some(of) => writeln!(
                    text,
                    "# Selected of the {of} that fit, by what the gradient of this task asks for; eigenmix select \
                     shows it."
                )?,
                None if names.len() > FEW_ADAPTERS => writeln!(
                    text,
                    "# Which of them are worth it for this task: eigenmix select ADAPTER... --for {}",
                    self.path
                )?,
                None => {}
            }
            writeln!(text, "adapters = [\n{}]", names.concat())?;
            self.write_base_mismatch(text)?;
        }
        if method.is_composition() {
            return Ok(());
        }
        if method.has_basis() {
            writeln!(
                text,
                "# The gradient of this task joins them: what they do not know of it."
            )?;
            writeln!(text, "gradient = true")?;
            writeln!(
                text,
                "# As many directions as keep to a tenth of LoRA's parameters; \"all\" keeps every one."
            )?;
            writeln!(text, "# components = \"all\"")?;
            writeln!(
                text,
                "# Zero or the average of the adapters, whichever the examples ask for before the training."
            )?;
            writeln!(text, "init = \"auto\"")?;
        }
        let recycled = self.adapters.iter().map(|adapter| adapter.rank).max();
        match recycled.filter(|_| method.has_basis()) {
            Some(rank) => {
                writeln!(text, "# Guessed: the rank of the adapters.")?;
                writeln!(text, "rank = {}", rank.max(1))?;
            }
            None => {
                writeln!(
                    text,
                    "# Guessed: enough for most tasks; doubling it doubles the parameters."
                )?;
                writeln!(text, "rank = {}", if self.is_decoder() { 16 } else { 8 })?;
            }
        }
        if let Some(base) = self.base.filter(|_| !method.has_basis()) {
            writeln!(
                text,
                "# PEFT's default for this architecture; \"all-linear\" adapts every linear layer."
            )?;
            let targets = base.default_targets().iter();
            let targets: Vec<String> = targets.map(|target| quoted(target)).collect();
            writeln!(text, "target_modules = [{}]", targets.join(", "))?;
        }
        Ok(())
    }

    /// Shapes were compared; names may still differ.
    fn write_base_mismatch(&self, text: &mut String) -> fmt::Result {
        let own = self.base.map(|base| base.model.name_and_revision().0);
        let other = self
            .adapters
            .iter()
            .filter_map(|adapter| adapter.base_model.as_deref());
        let other: Vec<&str> = other.filter(|name| Some(*name) != own).collect();
        let Some(first) = other.first() else {
            return Ok(());
        };
        writeln!(
            text,
            "# Guessed: their shapes fit, but they name the base model {}; is it the same one?",
            quoted(first)
        )?;
        writeln!(text, "allow_base_mismatch = true")
    }

    fn is_decoder(&self) -> bool {
        self.base.is_some_and(FoundBase::is_decoder)
    }

    fn write_training(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "\n[training]")?;
        let (epochs, reason) = match self.rows() {
            None => (8, "the number of rows is unknown".to_owned()),
            Some(rows @ 0..1_000) => (20, format!("{rows} rows are few, so many epochs help")),
            Some(rows @ 1_000..10_000) => (8, format!("a medium number of rows ({rows})")),
            Some(rows) => (3, format!("{rows} rows are many, so few epochs suffice")),
        };
        writeln!(text, "# Guessed: {reason}.")?;
        writeln!(text, "epochs = {epochs}")?;
        writeln!(
            text,
            "# Guessed: halve it, and double gradient_accumulation, if memory runs out."
        )?;
        writeln!(
            text,
            "batch_size = {}",
            if self.is_decoder() { 8 } else { 32 }
        )?;
        let (rate, reason) = match (self.method, self.is_decoder()) {
            (method, _) if method.trains_everything() => ("5e-5", "every weight is trained"),
            (method, _) if method.is_on_adapters() => (
                "4e-3",
                "there are few coefficients, which allow a high rate",
            ),
            (_, true) => ("2e-4", "usual for LoRA on decoders"),
            (_, false) => ("2e-3", "usual for LoRA on small encoders"),
        };
        writeln!(text, "# Guessed: {reason}. Tune this first.")?;
        writeln!(text, "learning_rate = {rate}")?;
        writeln!(
            text,
            "weight_decay = 0.01\nscheduler = \"linear\"\nwarmup_ratio = 0.06"
        )?;
        let has_validation = self.data.is_some_and(|data| data.splits.len() > 1);
        if has_validation {
            writeln!(
                text,
                "# The state that was best on the validation split, so that training too long does no harm."
            )?;
            writeln!(text, "keep = \"best\"")?;
        }
        Ok(())
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        writeln!(text, "# Written by `eigenmix init`; guesses are marked.\n#")?;
        writeln!(
            text,
            "#     eigenmix train {} --dry-run      what would be trained, and its memory",
            self.path
        )?;
        writeln!(text, "#     eigenmix train {}", self.path)?;
        writeln!(
            text,
            "seed = 0\noutput = {}",
            quoted(&format!("runs/{}", self.name()))
        )?;
        self.write_base(text)?;
        self.write_data(text)?;
        self.write_task(text)?;
        self.write_adapter(text)?;
        self.write_training(text)
    }
}

impl fmt::Display for StarterFile<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text)?;
        formatter.write_str(&text)
    }
}

/// A string in TOML.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use eigenmix_trainer::TrainConfig;

    #[test]
    fn a_template_without_anything_found_is_a_training_file() {
        for method in [
            AdapterMethod::Lora,
            AdapterMethod::Moslora,
            AdapterMethod::Full,
        ] {
            let file = StarterFile {
                path: "train.toml",
                base: None,
                base_name: None,
                data: None,
                adapters: Vec::new(),
                selected_of: None,
                method,
            };
            assert!(!file.is_complete());
            let text = file.to_string();
            let config = TrainConfig::from_toml(&text).expect("a training file");
            assert_eq!(config.adapter.method, method);
            assert_eq!(text.matches("# Fill in").count(), 2, "{text}");
        }
    }
}
