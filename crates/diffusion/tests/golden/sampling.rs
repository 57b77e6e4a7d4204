//! Samplers, with guidance and decoded.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use eigenmix_diffusion::{AddedInput, Conditions, Guidance, NoiseSchedule, SamplerKind, sample};
use serde_json::{Value, json};

use crate::reference::{Reference, forms, golden};

/// What the issue asks of latents after four steps.
const LATENTS: f32 = 1e-3;

fn schedule(kind: &str, changes: &[(&str, Value)]) -> NoiseSchedule {
    let directory = golden(kind).join("base/scheduler");
    let text = std::fs::read_to_string(directory.join("scheduler_config.json")).expect("a file");
    let mut json: Value = serde_json::from_str(&text).expect("JSON");
    for (key, value) in changes {
        json[*key] = value.clone();
    }
    NoiseSchedule::from_json(&json, &directory).expect("a schedule")
}

/// Of the first two prompts.
fn conditions(reference: &Reference, ending: &str, images: usize) -> Conditions {
    let states: Tensor<3> = reference.tensor(&format!("text.unet_states{ending}"));
    let pooled = format!("text.unet_pooled{ending}");
    let [_, _, height, width] = reference.tensor::<4>("sample.ddim.decoded").dims();
    let sizes = [height, width, 0, 0, height, width].map(|size| size as f32);
    let added = reference.file.contains(&pooled).then(|| AddedInput {
        text_embeds: reference.tensor::<2>(&pooled).narrow(0, 0, images),
        time_ids: sizes.repeat(images),
    });
    Conditions {
        states: states.narrow(0, 0, images),
        added,
    }
}

#[test]
fn the_schedule_of_stable_diffusion_is_that_of_its_file() {
    let reference = Reference::of("sd");
    for schedule in [
        schedule("sd", &[]),
        NoiseSchedule::stable_diffusion(eigenmix_diffusion::Prediction::Epsilon),
    ] {
        // diffusers multiplies a thousand factors in f32.
        reference.assert_values(&schedule.alphas, "scheduler.alphas_cumprod", 2e-6);
        let expected = reference.values("scheduler.alphas_cumprod");
        let last = schedule.alphas[999] / expected[999];
        assert!((last - 1.0).abs() < 1e-4, "{last}");
    }
}

#[test]
fn four_steps_of_every_sampler_are_those_of_diffusers() {
    let leading = || vec![("timestep_spacing", json!("leading"))];
    let velocity = || vec![("prediction_type", json!("v_prediction"))];
    for kind in ["sd", "sdxl"] {
        let reference = Reference::of(kind);
        for (name, sampler, changes, adapter) in [
            ("ddim", SamplerKind::Ddim, vec![], None),
            ("ddim-v", SamplerKind::Ddim, velocity(), None),
            (
                "ddim-attention",
                SamplerKind::Ddim,
                vec![],
                Some("attention"),
            ),
            ("euler", SamplerKind::Euler, vec![], None),
            ("euler-leading", SamplerKind::Euler, leading(), None),
            ("euler-v", SamplerKind::Euler, velocity(), None),
            (
                "euler-attention",
                SamplerKind::Euler,
                vec![],
                Some("attention"),
            ),
        ] {
            if !reference.file.contains(&format!("sample.{name}.steps")) {
                continue;
            }
            let adapter = adapter.map(|adapter| forms(kind, adapter)["kohya.safetensors"].clone());
            let unet = reference.unet(adapter.as_ref()).expect("a UNet").unet;
            let mut sampler = schedule(kind, &changes)
                .sampler(sampler, 4)
                .expect("four steps");
            assert_eq!(
                sampler.times(),
                reference.numbers(&format!("sample.{name}.timesteps"))
            );
            let initial = format!("sample.{name}.init_noise_sigma");
            if reference.file.contains(&initial) {
                reference.assert_values(&[sampler.initial_scale()], &initial, 1e-5);
            }
            let noise: Tensor<4> = reference.tensor("sample.initial");
            let [images, ..] = noise.dims();
            let guidance = Guidance {
                scale: 5.0,
                negative: conditions(&reference, "_negative", images),
            };
            let prompt = conditions(&reference, "", images);
            let mut steps: Vec<f32> = Vec::new();
            let observe = |_: usize, latents: &Tensor<4>| {
                let values = latents.clone().into_data().try_to_vec::<f32>();
                steps.extend(values.expect("f32"));
                ControlFlow::Continue(())
            };
            let latents = sample(
                &unet,
                &mut *sampler,
                noise,
                &prompt,
                Some(&guidance),
                observe,
            )
            .expect("all steps");
            reference.assert_values(&steps, &format!("sample.{name}.steps"), LATENTS);
            let vae = reference.vae();
            let decoded = vae.decode(latents / vae.config().scaling_factor);
            let decoded: Vec<f32> = decoded.into_data().try_to_vec().expect("f32");
            reference.assert_values(&decoded, &format!("sample.{name}.decoded"), LATENTS);
        }
    }
}

#[test]
fn samplers_of_any_setting_are_those_of_diffusers() {
    // tests/golden/diffusion/make_samplers.py, the toy model included.
    let text = include_str!("../../../../tests/golden/diffusion/samplers.json");
    let cases: Vec<Value> = serde_json::from_str(text).expect("JSON");
    let numbers = |value: &Value| -> Vec<f32> {
        let numbers = value.as_array().expect("numbers").iter();
        numbers
            .map(|number| number.as_f64().expect("a number") as f32)
            .collect()
    };
    let device = burn::tensor::Device::flex();
    let index = Tensor::<4>::from_data([[[[0.0f32, 1.0], [2.0, 3.0]]]], &device);
    for case in cases {
        let what = format!("{} {} {}", case["kind"], case["steps"], case["config"]);
        let directory = std::path::Path::new("");
        let schedule = NoiseSchedule::from_json(&case["config"], directory).expect("a schedule");
        let kind = SamplerKind::from_name(case["kind"].as_str().expect("a name")).expect("known");
        let steps = case["steps"].as_u64().expect("a number") as usize;
        let mut sampler = schedule.sampler(kind, steps).expect("a sampler");
        let times = sampler.times().to_vec();
        let expected = numbers(&case["timesteps"]);
        assert_eq!(times.len(), expected.len(), "{what}");
        for (time, expected) in times.iter().zip(&expected) {
            // Karras' are not whole.
            assert!(
                (time - expected).abs() < 2e-2,
                "{what}: {times:?} {expected:?}"
            );
        }
        let scale = sampler.initial_scale();
        let expected = case["initial_scale"].as_f64().expect("a number") as f32;
        assert!(
            (scale / expected - 1.0).abs() < 1e-5,
            "{what}: {scale} {expected}"
        );
        let mut latents = (index.clone() * 0.7 - 0.9) * scale;
        for (step, time) in times.into_iter().enumerate() {
            let input = sampler.input(step, latents.clone());
            let output = input * (0.6 * (time / 700.0).cos())
                + (0.3 * (time / 90.0).sin())
                + index.clone() * 0.2;
            latents = sampler.advance(step, latents, output);
        }
        let found: Vec<f32> = latents.into_data().try_to_vec().expect("f32");
        for (found, expected) in found.iter().zip(numbers(&case["sample"])) {
            // diffusers computes ᾱ and σ in f32.
            assert!(
                (found - expected).abs() < 1e-3 * (1.0 + expected.abs()),
                "{what}: {found} {expected}"
            );
        }
    }
}
