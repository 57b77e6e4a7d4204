//! `--adapter`, `--head` and `--prompt`: the model that a command is to run.
//!
//! A merge of several tasks has no head of its own, as heads belong to their task: `--head` takes
//! that of another adapter, `--prompt` what texts say of the labels.

use eigenmix_adapter::{AdapterFile, Prompts};
use eigenmix_data::LabelMap;
use eigenmix_trainer::{BaseModel, DeviceChoice, LoadedModel, TaskHead, ZeroShot};

use crate::adapter_argument::OpenedAdapter;
use crate::cli::{ModelArguments, ZeroShotArguments};
use crate::console::Console;
use crate::failure::BadInput;
use crate::load_report;

/// A model that a command is to run.
pub(crate) struct ModelRequest<'a> {
    arguments: &'a ModelArguments,
    zero_shot: &'a ZeroShotArguments,
    device: DeviceChoice,
    pub(crate) base: BaseModel,
}

impl<'a> ModelRequest<'a> {
    /// Opens the base model; its weights are not read yet.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn open(
        arguments: &'a ModelArguments,
        zero_shot: &'a ZeroShotArguments,
        device: DeviceChoice,
    ) -> anyhow::Result<Self> {
        let mut base = BaseModel::open(&arguments.base)?;
        base.checkpoint.set_precision(arguments.weights);
        Ok(Self {
            arguments,
            zero_shot,
            device,
            base,
        })
    }

    /// Loads the model, and tells how the adapter matched.
    ///
    /// - labels: those of a zero-shot head, where neither a flag nor an adapter names them
    ///
    /// # Errors
    /// If the adapter or the head does not fit the base model, `--head` names an adapter that has
    /// none, or nobody names the labels of a zero-shot head.
    pub(crate) fn load(
        &self,
        labels: &dyn Fn() -> anyhow::Result<LabelMap>,
        console: &Console,
    ) -> anyhow::Result<LoadedModel> {
        let model = self.model(labels)?;
        if let Some(report) = &model.report {
            load_report::tell(report, console);
        }
        Ok(model)
    }

    fn model(&self, labels: &dyn Fn() -> anyhow::Result<LabelMap>) -> anyhow::Result<LoadedModel> {
        let (base, partial) = (&self.base, self.arguments.allow_partial);
        let open = |name: &Option<String>| name.as_deref().map(OpenedAdapter::open).transpose();
        let (adapter, owner) = (open(&self.arguments.adapter)?, open(&self.arguments.head)?);
        for adapter in adapter.iter().chain(&owner) {
            adapter.file.require_one_model()?;
        }
        let device = self.device.open()?;
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

    /// What prompts say of labels, if there are prompts: from the flags, or else from the adapter
    /// whose head it is to be.
    fn zero_shot(
        &self,
        file: Option<&AdapterFile>,
        owner: Option<&AdapterFile>,
        labels: &dyn Fn() -> anyhow::Result<LabelMap>,
    ) -> anyhow::Result<Option<ZeroShot>> {
        let ZeroShotArguments {
            prompts,
            labels: named,
        } = self.zero_shot;
        let owner = owner.or(file);
        let prompts = match (prompts.is_empty(), owner.and_then(AdapterFile::prompts)) {
            (false, _) => Prompts::new(prompts.clone())
                .map_err(|error| BadInput(format!("--prompt: {error}")))?,
            (true, Some(prompts)) => prompts.clone(),
            (true, None) if named.is_empty() => return Ok(None),
            (true, None) => {
                let problem = "--labels: there is no prompt to say what they are; give --prompt \"a photo of a {}.\"";
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

/// For commands that read no labels from data.
pub(crate) fn no_labels() -> anyhow::Result<LabelMap> {
    let problem = "--prompt: nobody says what the labels are; give --labels a,b,c";
    Err(BadInput(problem.to_owned()).into())
}

/// The head of the adapter that `--head` names.
fn own_head(base: &BaseModel, owner: &AdapterFile) -> anyhow::Result<TaskHead> {
    if owner.head_names().next().is_none() {
        let problem = format!(
            "--head: adapter `{}` has no head, it saves no module whole; name the adapter that was trained on the task",
            owner.location()
        );
        return Err(BadInput(problem).into());
    }
    Ok(TaskHead::of(base, owner)?)
}
