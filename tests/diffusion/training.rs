//! Trainings of diffusion models, from pictures to an adapter that makes others.

use std::fs;
use std::path::Path;

use eigenmix_images::{RgbImage, encode_png};
use eigenmix_tensors::{Dtype, TensorFile, TensorOutput, write_tensor_file};
use serde_json::Value;

use crate::files::*;
use crate::support::Workplace;
use crate::support::stopped_training::train;

/// A picture of one colour with a stripe of another.
fn picture(seed: usize, width: usize, height: usize) -> Vec<u8> {
    let pixel = |index: usize| {
        let (x, y) = (index % width, index / width);
        let level = |channel: usize| (seed * 40 + channel * 70 + y * 5) as u8;
        match (x + seed) % 5 {
            0 => [250, 20, 90],
            _ => [level(0), level(1), level(2)],
        }
    };
    let pixels = (0..width * height).flat_map(pixel).collect();
    encode_png(&RgbImage::new(width, height, pixels), &[]).expect("a PNG")
}

/// Pictures with captions beside them, in `train` and `validation`.
fn write_pictures(place: &Workplace) {
    for (split, count) in [("train", 5), ("validation", 2)] {
        let directory = place.path("data").join(split);
        fs::create_dir_all(&directory).expect("a directory");
        for index in 0..count {
            let image = picture(index + count, 20 + 2 * index, 18);
            fs::write(directory.join(format!("{index}.png")), image).expect("a file");
            let caption = format!("a red fox number {index}");
            fs::write(directory.join(format!("{index}.txt")), caption).expect("a file");
        }
    }
}

/// A training file of these pictures.
fn file(place: &Workplace, kind: &str, output: &str, adapter: &str, more: &str) -> String {
    let base = golden(kind).join("base");
    let [output, data] = [output, "data"].map(|name| place.path(name));
    format!(
        "seed = 3\noutput = {output:?}\n[base]\nmodel = {base:?}\n[task]\nkind = \"text-to-image\"\n[data]\n\
         path = {data:?}\nresolution = 16\nflip = true\n[adapter]\n{adapter}\n[training]\nepochs = 2\n\
         batch_size = 2\nlearning_rate = 1e-2\nlog_every = 1\n{more}"
    )
}

fn run(place: &Workplace, text: &str) -> Value {
    fs::write(place.path("training.toml"), text).expect("a file");
    place.run_json(&["train", "training.toml"])
}

fn refused(place: &Workplace, text: &str) -> String {
    fs::write(place.path("training.toml"), text).expect("a file");
    place.run_refused(&["train", "training.toml"])
}

#[test]
fn every_method_trains_an_adapter_that_makes_images() {
    for kind in ["sd", "sdxl"] {
        let place = Workplace::new();
        write_pictures(&place);
        let train = |output: &str, adapter: &str, more: &str| {
            run(&place, &file(&place, kind, output, adapter, more))
        };
        let samples = "[diffusion]\nmin_snr = 5.0\ncaption_dropout = 0.2\n[diffusion.samples]\n\
                       prompts = [\"a red fox\"]\nevery = 4\nsteps = 2";
        let lora = "method = \"lora\"\nrank = 3\n\
                    target_modules = [\"to_q\", \"to_v\", \"conv2\", \"to_out.0\"]";
        let found = train("pool-1", lora, samples);
        assert_eq!(found["steps"], 6, "{found}");
        let loss = found["validation"]["denoising-loss"].as_f64();
        assert!(loss.is_some_and(f64::is_finite), "{found}");
        for step in ["00000000", "00000004", "00000006"] {
            let image = place.path(&format!("pool-1/samples/step-{step}/000-0.png"));
            assert!(image.is_file(), "{}", image.display());
        }
        let events = fs::read_dir(place.path("pool-1")).expect("a run");
        let events = events.map(|entry| entry.expect("an entry").path());
        let mut events = events.filter(|path| path.to_string_lossy().contains("tfevents"));
        let events = fs::read(events.next().expect("events")).expect("a file");
        let tag = b"samples/000-0";
        assert!(events.windows(tag.len()).any(|window| window == tag));
        let second = lora.replace("rank = 3", "rank = 2");
        train("pool-2", &second, "");
        train("mixed", "method = \"moslora\"\nrank = 2", "");
        let pool: Vec<_> = ["pool-1", "pool-2"].map(|name| place.path(name)).to_vec();
        let on_pool = format!("rank = 2\nadapters = {pool:?}");
        let found = train("mix", &format!("method = \"eigenmix\"\n{on_pool}"), "");
        assert!(place.path("mix/coefficients.safetensors").is_file());
        assert!(place.path("mix/start.json").is_file());
        let push = [
            "push",
            "mix",
            "org/fox",
            "--base-model",
            "org/sd",
            "--dry-run",
        ];
        let pushed = place.run(&push);
        assert_eq!(pushed.status, 0, "{pushed:?}");
        for word in [
            "pytorch_lora_weights.safetensors",
            "library_name: diffusers",
            "load_lora_weights",
        ] {
            assert!(pushed.stdout.contains(word), "{word}: {}", pushed.stdout);
        }
        // The coefficients and the pool make the adapter again.
        let kept = fs::read(place.path("mix/adapter/pytorch_lora_weights.safetensors"));
        let kept = kept.expect("an adapter");
        fs::rename(place.path("mix/adapter"), place.path("moved")).expect("a directory");
        place.run_json(&["export", "mix", "--out", "again"]);
        let again = fs::read(place.path("again/pytorch_lora_weights.safetensors"));
        assert!(again.expect("an adapter") == kept, "{kind}");
        let pool = place.path("pool-2/adapter/pytorch_lora_weights.safetensors");
        let (own, other) = (fs::read(&pool).expect("a file"), kept);
        fs::write(&pool, &other).expect("a file");
        let message = place.run_refused(&["export", "mix", "--out", "third"]);
        assert!(message.contains("changed since the training"), "{message}");
        fs::write(&pool, own).expect("a file");
        fs::rename(place.path("moved"), place.path("mix/adapter")).expect("a directory");
        let lora = fs::metadata(place.path("pool-1/adapter/pytorch_lora_weights.safetensors"));
        assert!(found["bytes"].as_u64() < lora.ok().map(|file| file.len()));
        // EigenLoRAx starts at zero by drawing a factor anew.
        let paper = format!("method = \"eigenlorax\"\ninit = \"auto\"\n{on_pool}");
        train("paper", &paper, "");
        assert!(place.path("paper/start.json").is_file());
        let base = golden(kind).join("base");
        let image = |adapter: Option<&str>| {
            let mut arguments = vec!["generate", "--base", text(&base), "--prompt", "a red fox"];
            arguments.extend(["--steps", "2", "--out", "images", "--force"]);
            arguments.extend(adapter.into_iter().flat_map(|name| ["--adapter", name]));
            let outcome = place.run(&arguments);
            assert_eq!(outcome.status, 0, "{outcome:?}");
            let bytes = fs::read(place.path("images/000-0.png")).expect("an image");
            eigenmix_images::decode(&bytes).expect("a PNG")
        };
        let without = image(None);
        for run in ["pool-1", "mixed", "mix", "paper"] {
            assert_ne!(image(Some(run)), without, "{kind} {run}");
        }
    }
}

#[test]
fn a_stopped_training_goes_on_to_the_same_bytes() {
    let place = Workplace::new();
    write_pictures(&place);
    let more = "gradient_accumulation = 2\n[diffusion]\nnoise_offset = 0.1\ncaption_dropout = 0.3\nrepeats = 3\n\
                [diffusion.samples]\nprompts = [\"a fox\"]\nevery = 2\nsteps = 1";
    let adapter = "method = \"moslora\"\nrank = 2\ndropout = 0.2";
    let configuration = |output: &str| file(&place, "sd", output, adapter, more);
    let whole = train(&configuration("whole"), false, usize::MAX);
    let mut parts = train(&configuration("parts"), false, 3);
    parts.extend(train(&configuration("parts"), true, usize::MAX));
    assert_eq!(parts, whole);
    let read = |output: &str, file: &str| fs::read(place.path(output).join(file)).expect(file);
    let adapter = |output| read(output, "adapter/pytorch_lora_weights.safetensors");
    assert!(adapter("whole") == adapter("parts"));
    // An image says which run it is of.
    let image = |output| {
        let bytes = read(output, "samples/step-00000004/000-0.png");
        eigenmix_images::decode(&bytes).expect("a PNG")
    };
    assert_eq!(image("whole"), image("parts"));
}

#[test]
fn checkpointing_by_block_and_cropping_at_random_are_trainings_as_others() {
    let place = Workplace::new();
    write_pictures(&place);
    let losses = |output: &str, more: &str| {
        let text = file(&place, "sdxl", output, "method = \"lora\"\nrank = 2", more);
        train(&text, false, usize::MAX)
    };
    let plain = losses("plain", "");
    let blocks = losses("blocks", "gradient_checkpointing = true");
    for (plain, blocks) in plain.iter().zip(&blocks) {
        // Sums of the same numbers in another order, over six steps.
        assert!(
            (plain - blocks).abs() < 1e-3 * plain.abs(),
            "{plain} {blocks}"
        );
    }
    let adapter = "method = \"lora\"\nrank = 2";
    let samples = "[diffusion.samples]\nprompts = [\"a fox\"]\nsteps = 1";
    let cropped = file(&place, "sd", "cropped", adapter, samples);
    let buckets = "crop = \"random\"\nbuckets = true\nbucket_step = 8";
    let losses = train(&cropped.replace("flip = true", buckets), false, usize::MAX);
    assert!(losses.iter().all(|loss| loss.is_finite()));
    // Of the resolution, not of the first bucket.
    let sample = fs::read(place.path("cropped/samples/step-00000000/000-0.png"));
    let sample = eigenmix_images::decode(&sample.expect("an image")).expect("a PNG");
    assert_eq!((sample.width(), sample.height()), (16, 16));
}

#[test]
fn the_last_images_are_of_the_end_whatever_ended_the_training() {
    let place = Workplace::new();
    write_pictures(&place);
    let more = "early_stopping = 1\n[diffusion.samples]\nprompts = [\"a fox\"]\nsteps = 1";
    let text = file(&place, "sd", "run", "method = \"lora\"\nrank = 2", more);
    let text = text
        .replace("epochs = 2", "epochs = 200")
        .replace("1e-2", "0.2");
    let steps = run(&place, &text)["steps"].as_u64().expect("a number");
    assert!(steps < 200 * 3, "evaluations end it");
    let last = place.path(&format!("run/samples/step-{steps:08}/000-0.png"));
    assert!(last.is_file(), "{}", last.display());
}

#[test]
fn a_dry_run_counts_quantised_layers_as_they_are_held() {
    let place = Workplace::new();
    write_pictures(&place);
    let text = file(&place, "sd", "run", "method = \"lora\"\nrank = 2", "");
    fs::write(place.path("training.toml"), text).expect("a file");
    let weights = |precision: &str| {
        let set = format!("base.weights=\"{precision}\"");
        let found = place.run_json(&["train", "training.toml", "--dry-run", "--set", &set]);
        found["weights"].as_u64().expect("bytes")
    };
    // In convolutions, norms and biases nothing is quantised.
    assert!(weights("nf4") < weights("int8") && weights("int8") < weights("float32"));
}

#[test]
fn text_encoders_are_trained_along_where_that_is_asked_for() {
    for kind in ["sd", "sdxl"] {
        let place = Workplace::new();
        write_pictures(&place);
        let adapter = "method = \"lora\"\nrank = 2";
        let more = "[diffusion]\ntrain_text_encoders = true\n[diffusion.samples]\nprompts = [\"a fox\"]\nsteps = 1";
        let found = run(&place, &file(&place, kind, "run", adapter, more));
        assert_eq!(found["steps"], 6);
        let path = place.path("run/adapter/pytorch_lora_weights.safetensors");
        let file = TensorFile::open(&path).expect("an adapter");
        let parts: &[&str] = match kind {
            "sd" => &["unet.", "text_encoder."],
            _ => &["unet.", "text_encoder.", "text_encoder_2."],
        };
        for part in parts {
            let own = file.names().filter(|name| name.starts_with(part));
            let own: Vec<&str> = own
                .filter(|name| name.contains("lora_B") || name.contains("lora.up"))
                .collect();
            assert!(!own.is_empty(), "{kind} {part}");
            // B starts at zero, and a gradient moves it.
            let moved = own.iter().any(|name| {
                let values = file.read_f32(name).expect("values");
                values.iter().any(|value| *value != 0.0)
            });
            assert!(moved, "{kind} {part}");
        }
    }
}

#[test]
fn class_images_are_made_by_the_base_where_they_are_missing_and_kept() {
    let place = Workplace::new();
    write_pictures(&place);
    let dreambooth = |output: &str, more: &str| {
        let text = file(&place, "sd", output, "method = \"lora\"\nrank = 2", more);
        let data = format!(
            "path = {:?}\ninstance_prompt = \"sks fox\"\nclass_prompt = \"a fox\"\nclass_count = 2",
            place.path("data/train")
        );
        let text = text.replace("text-to-image", "dreambooth");
        text.replace(&format!("path = {:?}", place.path("data")), &data)
    };
    let shared = format!("[diffusion]\ncache = {:?}", place.path("shared"));
    let first = train(&dreambooth("first", &shared), false, usize::MAX);
    let made = || {
        let entries = fs::read_dir(place.path("shared")).expect("a cache");
        let names = entries.map(|entry| entry.expect("an entry").path());
        let mut class = names.filter(|path| path.is_dir());
        let directory = class.next().expect("class images");
        let image = |name: &str| fs::metadata(directory.join(name)).expect("an image");
        ["00000.png", "00001.png"].map(|name| image(name).modified().expect("a time"))
    };
    let times = made();
    let again = train(&dreambooth("again", &shared), false, usize::MAX);
    assert_eq!(first, again);
    assert_eq!(made(), times, "they were kept");
    let without = train(
        &dreambooth("without", &format!("{shared}\nprior_weight = 0.0")),
        false,
        usize::MAX,
    );
    assert!(
        without
            .iter()
            .zip(&first)
            .all(|(without, with)| without < with)
    );
}

/// A copy of the base whose VAE has a weight that is no number.
fn with_broken_vae(place: &Workplace) -> String {
    let base = without(place, "none");
    let path = Path::new(&base).join("vae/diffusion_pytorch_model.safetensors");
    let tensors = {
        let file = TensorFile::open(&path).expect("a VAE");
        let names: Vec<String> = file.names().map(str::to_owned).collect();
        let read = |name: &String| {
            let (shape, _) = file.tensor(name).expect("a tensor");
            let mut values = file.read_f32(name).expect("values");
            if name == "encoder.conv_in.weight" {
                values[3] = f32::NAN;
            }
            (name.clone(), shape.to_vec(), values)
        };
        names.iter().map(read).collect::<Vec<_>>()
    };
    let outputs = tensors.iter().map(|(name, shape, values)| {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        TensorOutput::bytes(name.clone(), shape.clone(), Dtype::F32, bytes.leak())
    });
    write_tensor_file(&path, outputs.collect()).expect("a file");
    base
}

#[test]
fn what_cannot_be_trained_is_refused_by_name_and_nothing_is_left_behind() {
    let place = Workplace::new();
    write_pictures(&place);
    let lora = "method = \"lora\"\nrank = 2";
    let plain = |more: &str| file(&place, "sd", "run", lora, more);
    let path = |name: &str| golden("sdxl").join(name).display().to_string();
    let foreign = format!(
        "method = \"eigenmix\"\nrank = 2\nadapters = [{:?}, {:?}]",
        path("adapter-attention/kohya.safetensors"),
        path("adapter-text/kohya.safetensors")
    );
    for (text, words) in [
        (
            plain("").replace("resolution = 16", "resolution = 20"),
            "multiple",
        ),
        (
            plain("").replace("resolution = 16", "resolution = 64"),
            "smaller",
        ),
        (plain("[diffusion]\nmin_snr = 0.0"), "diffusion.min_snr"),
        (plain("[diffusion]\nprior_weight = 2.0"), "prior_weight"),
        (plain("label_smoothing = 0.1"), "label_smoothing"),
        (
            file(
                &place,
                "sd",
                "run",
                "method = \"eigenmix\"\nrank = 2\ngradient = true",
                "",
            ),
            "adapter.gradient",
        ),
        (
            plain("").replace("rank = 2", "rank = 2\ntarget_modules = [\"q_proj\"]"),
            "q_proj",
        ),
        (plain("").replace("text-to-image", "causal-lm"), "diffusion"),
        (file(&place, "sd", "run", &foreign, ""), "base model"),
        (
            plain("[diffusion.samples]\nprompts = [\"a\"]\nsize = [17, 16]"),
            "17 × 16",
        ),
        (
            plain("[diffusion.samples]\nprompts = []"),
            "diffusion.samples.prompts",
        ),
    ] {
        let message = refused(&place, &text);
        assert!(message.contains(words), "{words}: {message}");
        assert!(!place.path("run").exists(), "{words}");
    }
    let base = golden("sd").join("base");
    let other = |model: &str| plain("").replace(&format!("{base:?}"), &format!("{model:?}"));
    let message = refused(&place, &other(&without(&place, "vae")));
    assert!(message.contains("has no `vae`"), "{message}");
    let message = refused(&place, &other(&with_broken_vae(&place)));
    assert!(
        message.contains("vae") && message.contains("encoder.conv_in.weight"),
        "{message}"
    );
    // Broken in the middle: named before anything is encoded.
    let broken = place.path("data/train/3.png");
    let bytes = fs::read(&broken).expect("a file");
    fs::write(&broken, &bytes[..20]).expect("a file");
    let message = refused(
        &place,
        &plain("")
            .replace("output = ", "# ")
            .replace("seed = 3", "output = \"broken\""),
    );
    assert!(message.contains("3.png"), "{message}");
    assert!(!place.path("broken").exists());
}

#[test]
fn the_arms_of_an_experiment_are_compared_and_show_what_they_make() {
    let place = Workplace::new();
    write_pictures(&place);
    let plain = file(
        &place,
        "sd",
        "experiment",
        "rank = 2",
        "[diffusion.samples]\nprompts = [\"a fox\"]\nsteps = 1",
    );
    let arms = "[[train]]\nname = \"a\"\nadapter.method = \"lora\"\n[[train]]\nname = \"b\"\nadapter.method = \"lora\"\n\
                seed = 8\n[[arm]]\nname = \"lora\"\nadapter.method = \"lora\"\n[[arm]]\nname = \"mix\"\n\
                adapter.method = \"eigenmix\"\nadapter.adapters = [\"train:a\", \"train:b\"]\n";
    fs::write(place.path("experiment.toml"), format!("{plain}\n{arms}")).expect("a file");
    place.run_json(&["run", "experiment.toml"]);
    let page = fs::read_to_string(place.path("experiment/report.html")).expect("a report");
    // Two arms before and after the training.
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 4);
    assert!(page.contains("denoising-loss") && !page.contains("denoising-loss/0-249 of the arms"));
    let base = golden("sd").join("base");
    let arguments = [
        "generate",
        "--base",
        text(&base),
        "--arms",
        "experiment",
        "--prompt",
        "a fox",
    ];
    let more = ["--prompt", "a red fox", "--steps", "1", "--out", "arms"];
    let made = place.run_json(&[&arguments[..], &more].concat());
    assert_eq!(made["images"].as_array().map(Vec::len), Some(6));
    let read = |arm: &str| {
        let bytes = fs::read(place.path(&format!("arms/{arm}/000-0.png"))).expect(arm);
        eigenmix_images::decode(&bytes).expect("a PNG")
    };
    assert_ne!(read("base"), read("lora"));
    assert_ne!(read("lora"), read("mix"));
    let page = fs::read_to_string(place.path("arms/images.html")).expect("a page");
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 6);
    let empty = place.run_refused(
        &[
            &arguments[..3],
            &["--arms", "data", "--prompt", "a", "--out", "x"],
        ]
        .concat(),
    );
    assert!(
        empty.contains("not the directory of an experiment"),
        "{empty}"
    );
    let message = place.run_refused(&["evaluate", "--base", text(&base), "--data", "data"]);
    assert!(message.contains("is a diffusion model"), "{message}");
}
