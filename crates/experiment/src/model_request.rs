//! The model to run: a base model, an adapter on it, a head.
//!
//! A merge of several tasks has no head of its own, as heads belong to their task: `head` takes
//! that of another adapter, `prompts` makes one from texts.

use eigenmix_adapter::{AdapterFile, Prompts};
use eigenmix_data::LabelMap;
use eigenmix_models::Precision;
use eigenmix_trainer::{BaseModel, DeviceChoice, LoadedModel, TaskHead, ZeroShot};

use crate::listener::Listener;
use crate::load_report;
use crate::opened_adapter::OpenedAdapter;
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
    pub device: DeviceChoice,
}

/// A model whose base model is open; weights are not read yet.
pub struct OpenedModel<'a> {
    request: &'a ModelRequest,
    pub base: BaseModel,
}

impl ModelRequest {
    /// Opens the base model; its weights are not read yet.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(&self) -> Result<OpenedModel<'_>, ExperimentError> {
        let mut base = BaseModel::open(&self.base)?;
        base.checkpoint.set_precision(self.weights);
        Ok(OpenedModel {
            request: self,
            base,
        })
    }
}

impl OpenedModel<'_> {
    /// Loads the model and reports how the adapter matched.
    ///
    /// - labels: those of a zero-shot head, if neither a flag nor an adapter names them
    ///
    /// # Errors
    /// If the adapter or the head does not fit the base model, `--head` names an adapter that has
    /// none, or the labels of a zero-shot head are unknown.
    pub fn load(
        &self,
        labels: &dyn Fn() -> Result<LabelMap, ExperimentError>,
        listener: &dyn Listener,
    ) -> Result<LoadedModel, ExperimentError> {
        if let Some(note) = self.base.checkpoint.note() {
            listener.note(&note);
        }
        let model = self.model(labels)?;
        if let Some(report) = &model.report {
            load_report::show(report, listener);
        }
        Ok(model)
    }

    fn model(
        &self,
        labels: &dyn Fn() -> Result<LabelMap, ExperimentError>,
    ) -> Result<LoadedModel, ExperimentError> {
        let (base, partial) = (&self.base, self.request.allow_partial);
        let open = |name: &Option<String>| name.as_deref().map(OpenedAdapter::open).transpose();
        let (adapter, owner) = (open(&self.request.adapter)?, open(&self.request.head)?);
        for adapter in adapter.iter().chain(&owner) {
            adapter.file.require_one_model()?;
        }
        let device = self.request.device.open()?;
        let file = adapter.as_ref().map(|adapter| &adapter.file);
        let owner = owner.as_ref().map(|owner| &owner.file);
        let zero_shot = self.zero_shot(file, owner, labels)?;
        let head = match (owner, &zero_shot) {
            (_, Some(_)) => None,
            (None, None) => return Ok(LoadedModel::load(base, file, partial, &device)?),
            (Some(owner), None) => Some(own_head(base, owner)?),
        };
        if let Some(file) = file
            && !partial
        {
            file.require_clean()?;
        }
        let adapter = file.map(|file| file.load()).transpose()?;
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
        let owner = owner.or(file);
        let prompts = match (prompts.is_empty(), owner.and_then(AdapterFile::prompts)) {
            (false, _) => Prompts::new(prompts.clone())
                .map_err(|error| BadInput(format!("--prompt: {error}")))?,
            (true, Some(prompts)) => prompts.clone(),
            (true, None) if named.is_empty() => return Ok(None),
            (true, None) => {
                let problem = "--labels needs a prompt; give --prompt \"a photo of a {}.\"";
                return Err(BadInput(problem.to_owned()).into());
            }
        };
        let labels = match (named.is_empty(), owner.and_then(AdapterFile::labels)) {
            (false, _) => LabelMap::from_names(named.clone())
                .map_err(|error| BadInput(format!("--labels: {error}")))?,
            (true, Some(names)) => LabelMap::from_names(names.0.clone())?,
            (true, None) => labels()?,
        };
        Ok(Some(ZeroShot::new(&self.base, &prompts, &labels)?))
    }
}

/// The labels for commands that read none from data.
pub fn no_labels() -> Result<LabelMap, ExperimentError> {
    let problem =
        "--prompt needs labels, and neither the adapter nor the data have any; give --labels a,b,c";
    Err(BadInput(problem.to_owned()).into())
}

/// The head of the adapter that `--head` names.
fn own_head(base: &BaseModel, owner: &AdapterFile) -> Result<TaskHead, ExperimentError> {
    if owner.head_names().next().is_none() {
        let problem = format!(
            "--head: adapter `{}` has no head; name the adapter that was trained on the task",
            owner.location()
        );
        return Err(BadInput(problem).into());
    }
    Ok(TaskHead::of(base, owner)?)
}
