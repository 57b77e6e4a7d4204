//! A base model: its sizes, how it is quantised, and what its parts take.

use std::collections::BTreeMap;
use std::fmt;

use eigenmix_experiment::{ByteCount, Table};
use eigenmix_models::{ModelPart, Precision, TensorSize, TensorSizes};
use eigenmix_trainer::BaseModel;
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct ModelSummary {
    kind: &'static str,
    location: String,
    /// `model_type` of its configuration.
    family: String,
    layers: usize,
    /// The hidden size, and the intermediate size of the feed-forward layers.
    widths: [usize; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    vocabulary: Option<usize>,
    /// The longest sequence, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<usize>,
    /// Whether the output layer is the table of tokens.
    tied: bool,
    parameters: u64,
    is_quantised: bool,
    /// Of all tensors in the files, by what they are stored in.
    forms: BTreeMap<&'static str, FormSummary>,
    parts: Vec<PartSummary>,
    total: PartSummary,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Default, Serialize)]
struct FormSummary {
    tensors: usize,
    parameters: u64,
    /// With everything that gives codes their meaning.
    bytes: u64,
}

#[derive(Serialize)]
struct PartSummary {
    part: &'static str,
    parameters: u64,
    /// Bytes in the files.
    stored: u64,
    /// Bytes on the CPU, by what `--weights` says.
    held: BTreeMap<&'static str, u64>,
}

impl PartSummary {
    fn of<'a>(part: &'static str, tensors: impl Iterator<Item = &'a TensorSize> + Clone) -> Self {
        let held = Precision::NAMES.map(|(name, precision)| {
            let bytes = tensors.clone().map(|tensor| tensor.held(precision));
            (name, bytes.sum())
        });
        Self {
            part,
            parameters: tensors.clone().map(|tensor| tensor.parameters).sum(),
            stored: tensors.map(|tensor| tensor.stored).sum(),
            held: held.into(),
        }
    }
}

impl ModelSummary {
    /// Takes stock of a model; its weights are not read.
    pub(super) fn read(base: &BaseModel) -> anyhow::Result<Self> {
        let TensorSizes(tensors) = base.tensor_sizes()?;
        let mut forms: BTreeMap<&'static str, FormSummary> = BTreeMap::new();
        for tensor in &tensors {
            let form = forms.entry(tensor.form).or_default();
            form.tensors += 1;
            form.parameters += tensor.parameters;
            form.bytes += tensor.stored;
        }
        let parts = ModelPart::ALL.map(|part| {
            let of_part = tensors.iter().filter(move |tensor| tensor.part == part);
            PartSummary::of(part.name(), of_part)
        });
        let used = tensors
            .iter()
            .filter(|tensor| tensor.part != ModelPart::Unused);
        let parameters = used.clone().map(|tensor| tensor.parameters).sum();
        let architecture = &base.architecture;
        let family = base.checkpoint.config().get("model_type");
        Ok(Self {
            kind: "model",
            location: base.name.clone(),
            family: family
                .and_then(|family| family.as_str())
                .unwrap_or_default()
                .to_owned(),
            layers: architecture.n_layers(),
            widths: architecture.widths(),
            vocabulary: architecture.vocab_size(),
            context_length: architecture.max_length(),
            tied: architecture.ties_output(),
            parameters,
            is_quantised: base.checkpoint.is_quantised(),
            forms,
            parts: parts
                .into_iter()
                .filter(|part| part.parameters > 0)
                .collect(),
            total: PartSummary {
                parameters,
                ..PartSummary::of("total", tensors.iter())
            },
            note: base.checkpoint.note().map(str::to_owned),
        })
    }
}

impl fmt::Display for ModelSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [d_model, d_feed_forward] = self.widths;
        let quantised = match self.is_quantised {
            true => "quantised",
            false => "not quantised",
        };
        writeln!(
            formatter,
            "base model `{}` ({}), {quantised}",
            self.location, self.family
        )?;
        writeln!(
            formatter,
            "  size        {} parameters in {} layers of width {d_model}, feed-forward {d_feed_forward}",
            self.parameters, self.layers
        )?;
        if let Some(vocabulary) = self.vocabulary {
            let tied = match self.tied {
                true => ", the table of which is the output layer",
                false => "",
            };
            writeln!(formatter, "  vocabulary  {vocabulary} tokens{tied}")?;
        }
        if let Some(length) = self.context_length {
            writeln!(formatter, "  context     {length} tokens")?;
        }
        if let Some(note) = &self.note {
            writeln!(formatter, "  note        {note}")?;
        }
        let mut forms = Table::with_header(["stored as", "tensors", "parameters", "bytes"]);
        for (form, summary) in &self.forms {
            forms.push([
                (*form).to_owned(),
                summary.tensors.to_string(),
                summary.parameters.to_string(),
                ByteCount(summary.bytes).to_string(),
            ]);
        }
        writeln!(formatter, "\n{forms}\n")?;
        let names = Precision::NAMES.map(|(name, _)| name);
        let header = ["memory on the CPU", "parameters", "stored"];
        let mut parts = Table::with_header(header.into_iter().chain(names));
        for part in self.parts.iter().chain([&self.total]) {
            let held = names.map(|name| part.held.get(name).copied().unwrap_or(0));
            let bytes = [part.stored].into_iter().chain(held);
            parts.push(
                [part.part.to_owned(), part.parameters.to_string()]
                    .into_iter()
                    .chain(bytes.map(|bytes| ByteCount(bytes).to_string())),
            );
        }
        write!(
            formatter,
            "{parts}\n\nThe columns after `stored` are the values of --weights (base.weights)."
        )
    }
}
