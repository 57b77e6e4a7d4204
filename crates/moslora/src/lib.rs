//! The adapted linear layer on Burn.
//!
//! Every method that Eigenmix trains adds the same update to a frozen weight W₀ `[d_out, d_in]`:
//!
//! ```text
//! ΔW = s · U · M · Vᵀ        U: [d_out, p]   M: [p, q]   V: [d_in, q]
//! ```
//!
//! | method | U | M | V |
//! |---|---|---|---|
//! | LoRA | B, trained | identity | Aᵀ, trained |
//! | MoSLoRA (arXiv 2406.11909) | B, trained | mixer W, trained | Aᵀ, trained |
//! | EigenLoRAx (arXiv 2502.04700) | basis | C_B · C_Aᵀ, both trained | basis |
//! | EigenLoRAx, flattened | factors side by side | (b ⊗ I) · (a ⊗ I)ᵀ, b and a trained | factors side by side |
//! | eigenmix | basis | trained | basis |
//! | composition | B_t of adapters side by side | diag(w_t), trained | A_tᵀ side by side |
//!
//! An [`Update`] is that product as matrices on the host, made by [`lora`], [`moslora`],
//! [`eigenlorax`], [`eigenmix`] or [`compose`]; [`AdaptedLinear`] is the layer that trains it, and
//! [`AdaptedConvolution`] the same layer on windows of images; [`Update::fold`] turns it into plain LoRA
//! factors. The product is always taken on activations, thin factor by
//! thin factor; a dense ΔW exists nowhere.
//!
//! ```
//! use eigenmix_moslora::{MixerInit, moslora};
//!
//! // [d_out, d_in] = [6, 5], rank 4, scaling 2, no dropout.
//! let update = moslora("layers.0.query", 0, [6, 5], 4, 2.0, 0.0, MixerInit::Kaiming);
//! assert_eq!(update.trained_parameters(), 6 * 4 + 4 * 4 + 4 * 5);
//! // B starts at zero, so that training starts from the base model.
//! assert!(update.fold().has_no_effect());
//! ```

mod composition;
mod convolution;
mod init;
mod linear;
mod parameters;
mod random_stream;
mod update;

pub use composition::{AdapterWeights, compose};
pub use convolution::AdaptedConvolution;
pub use init::{
    EigenloraxStart, FactorInit, MixerInit, eigenlorax, eigenlorax_scaling, eigenmix,
    eigenmix_scaling, flattened_eigenlorax, flattened_scaling, lora, moslora,
};
pub use linear::AdaptedLinear;
pub use parameters::{ParameterError, ParameterKind, ParameterNames, TrainedValues};
pub use random_stream::random_stream;
pub use update::{Factor, Mixer, ReplicatedCoefficients, Update, trained_parameters};
