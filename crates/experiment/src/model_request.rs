//! The model to run: a base model, an adapter on it, a head.
//!
//! A merge of several tasks has no head of its own, as heads belong to their task: `head` takes
//! that of another adapter, `prompts` makes one from texts.

use eigenmix_adapter::{AdapterFile, Prompts, Provenance};
use eigenmix_data::{LabelMap, Threshold};
use eigenmix_models::{HeadKind, Precision};
use eigenmix_trainer::{
    BaseModel, DeviceChoice, LoadedModel, TaskHead, ZeroShot, fetch_tokenizer_of,
};

use serde_json::Value;

use crate::known_input::KnownInput;
use crate::listener::Listener;
use crate::load_report;
use crate::opened_adapter::OpenedAdapter;
use crate::option_names::OptionNames;
use crate::{BadInput, ExperimentError};

/// A request for a model to run.
#[derive(Clone, Debug, Default)]
pub struct ModelRequest {
    /// The base model: a directory or a Hub id.
    pub base: String,
    /// How frozen weights are stored in memory.
    pub weights: Precision,
    /// The adapter; without one the base model runs alone.
    pub adapter: Option<String>,
    /// The adapter whose head and labels are used instead.
    pub head: Option<String>,
    /// Continue even if the adapter has tensors that do not fit the base model.
    pub allow_partial: bool,
    /// CLIP: zero-shot prompts; those of the adapter if there are none.
    pub prompts: Vec<String>,
    /// CLIP: the labels to choose from.
    pub labels: Vec<String>,
    /// The probability from which on a label applies, where an example may have several; that of the
    /// training without one.
    pub threshold: Option<Threshold>,
    pub device: DeviceChoice,
    /// How messages name these options.
    pub names: OptionNames,
}

/// The key of the prompts.
const PROMPTS: &str = "task.prompts";

/// A model whose base model and adapters are open; weights are not read yet.
pub struct OpenedModel<'a> {
    request: &'a ModelRequest,
    pub base: BaseModel,
    pub adapter: Option<OpenedAdapter>,
    /// The adapter whose head and labels are used instead.
    head: Option<OpenedAdapter>,
    /// What the training knew of its input.
    pub input: KnownInput,
    /// Whether the tokenizer is another than the base model's, brought along by the adapter.
    brings_tokenizer: bool,
}

impl ModelRequest {
    /// Opens the base model and the adapters; weights are not read yet.
    ///
    /// # Errors
    /// If one of them is not there or damaged, or an adapter is of several models.
    pub fn open(&self) -> Result<OpenedModel<'_>, ExperimentError> {
        let mut base = BaseModel::open(&self.base)?;
        base.checkpoint.set_precision(self.weights);
        let open = |name: &Option<String>| {
            let name = name.as_deref();
            let open = |name| OpenedAdapter::open_for(name, || Ok(Some(&base)));
            name.map(open).transpose()
        };
        let (adapter, head) = (open(&self.adapter)?, open(&self.head)?);
        for argument in self.adapter.iter().chain(&self.head) {
            fetch_tokenizer_of(argument)?;
        }
        for adapter in adapter.iter().chain(&head) {
            adapter.file.require_one_model()?;
        }
        let mut input = KnownInput::in_directory(base.directory())?;
        let mut brings_tokenizer = false;
        if let Some(adapter) = &adapter {
            base.bring_vocabulary(&adapter.file);
        }
        // The task's own adapter, whose head is used, knows its input best.
        for adapter in adapter.iter().chain(&head) {
            let known = adapter.input()?;
            if known.contract().is_some() {
                input = known;
            }
            if let Some(directory) = adapter.directory() {
                brings_tokenizer |= base.bring_text_files(directory)?;
            }
        }
        Ok(OpenedModel {
            request: self,
            base,
            adapter,
            head,
            input,
            brings_tokenizer,
        })
    }
}

impl OpenedModel<'_> {
    /// What to say if the adapter was trained on weights that were quantised while they were loaded, and
    /// now they are not.
    fn precision_note(&self) -> Result<Option<String>, ExperimentError> {
        let directory = self.adapter.as_ref().and_then(OpenedAdapter::directory);
        let made = directory.map(Provenance::read_json).transpose()?.flatten();
        let trained = made
            .as_ref()
            .and_then(|made| made.get("options")?.get("base_weights"));
        let named = |(name, _): &(&str, Precision)| Some(*name) == trained.and_then(Value::as_str);
        let found = Precision::NAMES.into_iter().find(named);
        // A base that was quantised already, "stored", is not quantised while it is loaded.
        let found = found.filter(|(_, precision)| precision.quantises());
        let is_other = |(_, precision): &(&str, Precision)| *precision != self.request.weights;
        let is_plain = !self.base.checkpoint.is_quantised();
        Ok(found.filter(is_other).filter(|_| is_plain).map(|(name, _)| {
            format!(
                "the adapter was trained on the base model's weights in {name}, which are not used here; --weights {name} repeats it"
            )
        }))
    }

    /// Loads the model and reports how the adapter matched.
    ///
    /// - labels: those of a zero-shot head, if neither a flag nor an adapter names them
    ///
    /// # Errors
    /// If the adapter or the head does not fit the base model, `head` names an adapter that has
    /// none, or the labels of a zero-shot head are unknown.
    pub fn load(
        &self,
        labels: &dyn Fn() -> Result<LabelMap, ExperimentError>,
        listener: &dyn Listener,
    ) -> Result<LoadedModel, ExperimentError> {
        if self.brings_tokenizer {
            listener.note(&"the tokenizer is that beside the adapter, not the base model's");
        }
        if let Some(note) = self.base.checkpoint.note() {
            listener.note(&note);
        }
        if let Some(note) = self.precision_note()? {
            listener.note(&note);
        }
        let mut model = self.model(labels)?;
        model.multi_label = self.multi_label(&model)?;
        if let Some(threshold) = model.multi_label {
            listener.note(&format!(
                "a row may have several labels, or none: those of a probability of at least {threshold}"
            ));
        }
        if let Some(report) = &model.report {
            load_report::show(report, listener);
        }
        if self.takes_the_head_of_the_base(&model) {
            let head = self.request.names.of("head");
            listener.note(&format_args!(
                "the adapter has no head of its own, so the base model's classifier is used; {head} \
                 takes that of another adapter"
            ));
        }
        Ok(model)
    }

    /// Whether labels are those of the base model though an adapter, such as a merged one, is on it.
    fn takes_the_head_of_the_base(&self, model: &LoadedModel) -> bool {
        let is_classifier = matches!(model.head, HeadKind::Classification { .. });
        let adapter = self.adapter.as_ref().filter(|_| self.head.is_none());
        is_classifier && adapter.is_some_and(|adapter| adapter.file.head_names().next().is_none())
    }

    /// From which probability on a label applies, if an example may have several: the contract of a
    /// training says it, otherwise the `config.json` of the base model.
    fn multi_label(&self, model: &LoadedModel) -> Result<Option<Threshold>, BadInput> {
        let of_training = match (model.head, self.input.contract()) {
            (HeadKind::Classification { .. }, Some(contract)) => contract.multi_label(),
            _ => model.multi_label,
        };
        match (of_training, self.request.threshold) {
            (None, Some(_)) => Err(BadInput(format!(
                "{} is for models that give a row several labels, and this is none; leave it out",
                self.request.names.of("threshold")
            ))),
            (None, None) => Ok(None),
            (Some(usual), asked) => Ok(Some(asked.unwrap_or(usual))),
        }
    }

    fn model(
        &self,
        labels: &dyn Fn() -> Result<LabelMap, ExperimentError>,
    ) -> Result<LoadedModel, ExperimentError> {
        let (base, partial) = (&self.base, self.request.allow_partial);
        let device = self.request.device.open()?;
        let file = self.adapter.as_ref().map(|adapter| &adapter.file);
        let owner = self.head.as_ref().map(|owner| &owner.file);
        let zero_shot = self.zero_shot(file, owner, labels)?;
        let head = match (owner, &zero_shot) {
            (_, Some(_)) => None,
            (None, None) => return Ok(LoadedModel::load(base, file, partial, &device)?),
            (Some(owner), None) => own_head(base, owner, self.request.names)?,
        };
        if let Some(file) = file
            && !partial
        {
            file.require_clean()?;
        }
        let mut adapter = file.map(|file| file.load()).transpose()?;
        if let (Some(owner), None, None) = (owner, &head, &zero_shot) {
            let names = self.request.names;
            let adapter = adapter.as_mut().ok_or_else(|| {
                BadInput(format!(
                    "{}: adapter `{}` has no head apart from its updates, but modules that were trained \
                     along; they need an adapter to go with: give it with {}",
                    names.of("head"),
                    owner.location(),
                    names.of("adapter")
                ))
            })?;
            adapter.heads = owner.heads()?;
        }
        let adapter = adapter.as_ref();
        let head = match zero_shot {
            Some(zero_shot) => Some(zero_shot.head(base, adapter, &device)?),
            None => head,
        };
        Ok(LoadedModel::assemble(
            base,
            adapter,
            head.as_ref(),
            partial,
            &device,
        )?)
    }

    /// The prompts and labels of a zero-shot head, if there are prompts: from the flags, or else
    /// from the adapter whose head it replaces.
    fn zero_shot(
        &self,
        file: Option<&AdapterFile>,
        owner: Option<&AdapterFile>,
        labels: &dyn Fn() -> Result<LabelMap, ExperimentError>,
    ) -> Result<Option<ZeroShot>, ExperimentError> {
        let (prompts, named) = (&self.request.prompts, &self.request.labels);
        let names = self.request.names;
        let owner = owner.or(file);
        let prompts = match (prompts.is_empty(), owner.and_then(AdapterFile::prompts)) {
            (false, _) => Prompts::new(prompts.clone())
                .map_err(|error| BadInput(format!("{}: {error}", names.of(PROMPTS))))?,
            (true, Some(prompts)) => prompts.clone(),
            (true, None) if named.is_empty() => return Ok(None),
            (true, None) => {
                return Err(BadInput(format!(
                    "{} needs a prompt; give {}",
                    names.of("labels"),
                    names.with(PROMPTS, "\"a photo of a {}.\"")
                ))
                .into());
            }
        };
        let labels = match (named.is_empty(), owner.and_then(AdapterFile::labels)) {
            (false, _) => LabelMap::from_names(named.clone())
                .map_err(|error| BadInput(format!("{}: {error}", names.of("labels"))))?,
            (true, Some(names)) => LabelMap::from_names(names.0.clone())?,
            (true, None) => labels()?,
        };
        Ok(Some(ZeroShot::new(&self.base, &prompts, &labels)?))
    }
}

/// The head of the adapter that was named for it.
fn own_head(
    base: &BaseModel,
    owner: &AdapterFile,
    names: OptionNames,
) -> Result<Option<TaskHead>, ExperimentError> {
    if owner.head_names().next().is_none() {
        let problem = format!(
            "{}: adapter `{}` has no head; name the adapter that was trained on the task",
            names.of("head"),
            owner.location()
        );
        return Err(BadInput(problem).into());
    }
    match TaskHead::is_in(base, owner) {
        true => Ok(Some(TaskHead::of(base, owner)?)),
        false => Ok(None),
    }
}
