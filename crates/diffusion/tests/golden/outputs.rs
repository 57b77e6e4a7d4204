//! What the parts give, with and without adapters.

use burn::tensor::Tensor;
use eigenmix_diffusion::{Part, TextEncoderFiles, TextEncoders, Vae, VaeConfig};
use eigenmix_models::{Adaptation, Checkpoint};

use crate::reference::{Reference, forms, golden};

#[test]
fn a_unet_gives_what_diffusers_does() {
    for kind in ["sd", "sdxl"] {
        let reference = Reference::of(kind);
        let unet = reference.unet(None).expect("a UNet").unet;
        let input = reference.unet_input("unet.states", "unet.text_embeds");
        reference.assert_close(unet.forward(&input), "unet.out.base");
    }
}

#[test]
fn a_unet_with_an_adapter_of_any_form_gives_what_diffusers_does() {
    for kind in ["sd", "sdxl"] {
        let reference = Reference::of(kind);
        for name in ["attention", "patterns", "convolutions", "text"] {
            for (form, adapter) in forms(kind, name) {
                println!("{form}");
                let unet = reference.unet(Some(&adapter)).expect("a UNet").unet;
                let (states, pooled) = match name {
                    "text" => ("text.unet_states.text", "text.unet_pooled.text"),
                    _ => ("unet.states", "unet.text_embeds"),
                };
                let output = unet.forward(&reference.unet_input(states, pooled));
                reference.assert_close(output, &format!("unet.out.{name}"));
            }
        }
    }
}

#[test]
fn text_encoders_give_what_diffusers_feeds_the_unet_with_and_without_an_adapter() {
    for kind in ["sd", "sdxl"] {
        let reference = Reference::of(kind);
        let shape = reference.file.shape("text.ids").expect("ids").to_vec();
        let shape = [shape[0], shape[1]];
        let ids = reference.file.read_i64("text.ids").expect("ids");
        let second = reference.file.read_i64("text.ids_2").ok();
        let ids = [Some(&ids[..]), second.as_deref()];
        let mut cases = vec![("", None)];
        let adapters: Vec<_> = forms(kind, "text").into_iter().collect();
        let with_text = adapters
            .iter()
            .filter(|(_, adapter)| adapter.part(Part::TextEncoder).is_some());
        cases.extend(with_text.map(|(_, adapter)| (".text", Some(adapter))));
        assert!(cases.len() > 1);
        for (ending, adapter) in cases {
            let encoders = reference.text_encoders(adapter);
            let found = encoders.conditions(ids, shape, &reference.device);
            let name = format!("text.unet_states{ending}");
            reference.assert_close(found.states, &name);
            if let Some(pooled) = found.pooled {
                reference.assert_close(pooled, &format!("text.unet_pooled{ending}"));
            }
        }
    }
}

#[test]
fn text_encoders_are_read_in_both_namings() {
    let reference = Reference::of("sd");
    let directory = golden("sd").join("base/text_encoder-5.24");
    let checkpoint = Checkpoint::open(&directory).expect("a checkpoint");
    let files = TextEncoderFiles::new(Part::TextEncoder, checkpoint, &directory).expect("CLIP");
    let encoder = files.load(&Adaptation::default(), &reference.device);
    let encoders = TextEncoders {
        first: encoder.expect("a text encoder"),
        second: None,
    };
    let ids = reference.file.read_i64("text.ids").expect("ids");
    let shape = reference.file.shape("text.ids").expect("ids").to_vec();
    let ids = [Some(&ids[..]), None];
    let found = encoders.conditions(ids, [shape[0], shape[1]], &reference.device);
    reference.assert_close(found.states, "text.last_hidden_state");
}

#[test]
fn a_vae_encodes_and_decodes_as_diffusers_does_in_both_namings() {
    for (kind, directory) in [("sd", "vae"), ("sd", "vae-0.42"), ("sdxl", "vae")] {
        let reference = Reference::of(kind);
        let directory = golden(kind).join("base").join(directory);
        let stem = "diffusion_pytorch_model";
        let checkpoint = Checkpoint::open_part(&directory, stem);
        let checkpoint = checkpoint.expect("a checkpoint");
        let config = VaeConfig::from_json(checkpoint.config(), &directory).expect("a VAE");
        let vae = Vae::load(&checkpoint, &config, &reference.device).expect("a VAE");
        let moments = vae.encode(reference.tensor("vae.image"));
        let noise: Tensor<4> = reference.tensor("vae.noise");
        let sampled = moments.mean.clone() + (moments.logvar.clone() * 0.5).exp() * noise;
        reference.assert_close(moments.mean, "vae.mean");
        reference.assert_close(moments.logvar, "vae.logvar");
        reference.assert_close(sampled * config.scaling_factor, "vae.latents");
        let decoded = vae.decode(reference.tensor("vae.decode_input"));
        reference.assert_close(decoded, "vae.decoded");
    }
}
