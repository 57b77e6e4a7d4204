//! The reference values and the models that they are of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use eigenmix_adapter::{Adapter, AdapterError, AdapterFile};
use eigenmix_diffusion::{
    AddedInput, DiffusionError, Kind, LoadedUnet, Part, Pipeline, PipelineAdapter,
    TextEncoderFiles, TextEncoders, Unet, UnetConfig, UnetInput, Vae, VaeConfig,
};
use eigenmix_models::{Adaptation, Precision};
use eigenmix_tensors::TensorFile;

/// What the issue asks of outputs.
const RELATIVE: f32 = 1e-4;

pub(crate) fn golden(name: &str) -> PathBuf {
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/diffusion");
    let root = std::env::var_os("EIGENMIX_DIFFUSION_GOLDEN").map_or(stored, PathBuf::from);
    root.join(name)
}

pub(crate) struct Reference {
    pub kind: &'static str,
    pub file: TensorFile,
    pub pipeline: Pipeline,
    pub device: Device,
}

impl Reference {
    pub fn of(kind: &'static str) -> Self {
        let path = golden(kind).join("reference.safetensors");
        let base = golden(kind).join("base");
        Self {
            kind,
            file: TensorFile::open(&path).expect("a reference"),
            pipeline: Pipeline::open(&base, Precision::Auto).expect("a pipeline"),
            device: Device::flex(),
        }
    }

    pub fn values(&self, name: &str) -> Vec<f32> {
        self.file.read_f32(name).expect(name)
    }

    pub fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        let shape = self.file.shape(name).expect(name);
        let shape: [usize; D] = shape.try_into().expect("the number of dimensions");
        Tensor::from_data(TensorData::new(self.values(name), shape), &self.device)
    }

    pub fn numbers(&self, name: &str) -> Vec<f32> {
        match self.file.read_i64(name) {
            Ok(numbers) => numbers.into_iter().map(|number| number as f32).collect(),
            Err(_) => self.values(name),
        }
    }

    /// Compares relatively to the largest value, as the issue asks of outputs.
    pub fn assert_close<const D: usize>(&self, found: Tensor<D>, name: &str) {
        let shape = self.file.shape(name).expect(name).to_vec();
        assert_eq!(found.dims().to_vec(), shape, "{name}");
        let found: Vec<f32> = found.into_data().try_to_vec().expect("f32");
        self.assert_values(&found, name, RELATIVE);
    }

    /// Compares relatively to the largest value.
    pub fn assert_values(&self, found: &[f32], name: &str, tolerance: f32) {
        let expected = self.values(name);
        assert_eq!(found.len(), expected.len(), "{name}");
        let size = expected
            .iter()
            .fold(0.0f32, |all, value| all.max(value.abs()));
        let pairs = found.iter().zip(&expected);
        let difference = pairs.fold(0.0f32, |all, (found, expected)| {
            all.max((found - expected).abs())
        });
        println!("{} {name}: {:e}", self.kind, difference / size);
        assert!(found.iter().all(|value| value.is_finite()), "{name}");
        assert!(
            difference < tolerance * size,
            "{name}: {difference} of {size}"
        );
    }

    pub fn unet(&self, adapter: Option<&PipelineAdapter>) -> Result<LoadedUnet, DiffusionError> {
        let checkpoint = self.pipeline.checkpoint(Part::Unet)?;
        let directory = self.pipeline.directory_of(Part::Unet);
        let config = UnetConfig::from_json(checkpoint.config(), &directory)?;
        let kind = self.pipeline.kind()?;
        let adaptation = match adapter {
            Some(adapter) => {
                let description = config.describe();
                adapter
                    .adaptation(Part::Unet, kind, &description, &checkpoint, false)?
                    .map_or(Adaptation::default(), |(adaptation, _)| adaptation)
            }
            None => Adaptation::default(),
        };
        Ok(Unet::load(&checkpoint, &config, &adaptation, &self.device)?)
    }

    pub fn vae(&self) -> Vae {
        let checkpoint = self.pipeline.checkpoint(Part::Vae).expect("a checkpoint");
        let directory = self.pipeline.directory_of(Part::Vae);
        let config = VaeConfig::from_json(checkpoint.config(), &directory).expect("a VAE");
        Vae::load(&checkpoint, &config, &self.device).expect("a VAE")
    }

    pub fn unet_input(&self, states: &str, pooled: &str) -> UnetInput {
        UnetInput {
            sample: self.tensor("unet.latents"),
            timesteps: self.numbers("unet.timesteps"),
            states: self.tensor(states),
            added: self.file.contains("unet.time_ids").then(|| AddedInput {
                text_embeds: self.tensor(pooled),
                time_ids: self.values("unet.time_ids"),
            }),
        }
    }

    pub fn text_encoders(&self, adapter: Option<&PipelineAdapter>) -> TextEncoders {
        let kind = self.pipeline.kind().expect("a kind");
        let load = |part: Part| {
            let checkpoint = self.pipeline.checkpoint(part).expect("a checkpoint");
            let directory = self.pipeline.directory_of(part);
            let files = TextEncoderFiles::new(part, checkpoint, &directory).expect("CLIP");
            let adaptation = adapter.and_then(|adapter| {
                let (description, checkpoint) = (files.describe(), &files.checkpoint);
                adapter
                    .adaptation(part, kind, &description, checkpoint, false)
                    .expect("an adapter that fits")
            });
            let adaptation = adaptation.map(|(adaptation, _)| adaptation);
            files
                .load(&adaptation.unwrap_or_default(), &self.device)
                .expect("a text encoder")
        };
        TextEncoders {
            first: load(Part::TextEncoder),
            second: (kind == Kind::Xl).then(|| load(Part::TextEncoder2)),
        }
    }
}

pub(crate) fn read(path: &Path) -> Result<Adapter, AdapterError> {
    AdapterFile::open(path)?.load()
}

/// Every form of an adapter that is stored.
pub(crate) fn forms(kind: &str, name: &str) -> BTreeMap<&'static str, PipelineAdapter> {
    let directory = golden(kind).join(format!("adapter-{name}"));
    let mut forms = BTreeMap::new();
    for file in ["kohya.safetensors", "pytorch_lora_weights.safetensors"] {
        let path = directory.join(file);
        if path.is_file() {
            let adapter = read(&path).expect("an adapter");
            let location = path.display().to_string();
            forms.insert(file, PipelineAdapter::of(&location, adapter));
        }
    }
    let parts = PipelineAdapter::from_directories(&directory, read).expect("adapters");
    forms.extend(parts.map(|adapter| ("PEFT", adapter)));
    let unet = directory.join("unet");
    if unet.is_dir() {
        let adapter = read(&unet).expect("an adapter");
        let location = unet.display().to_string();
        forms.insert("PEFT of the UNet", PipelineAdapter::of(&location, adapter));
    }
    assert!(!forms.is_empty(), "{kind} {name}");
    forms
}
