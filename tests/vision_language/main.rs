//! Vision-language models: LLaVA's form through the whole command line, compared with transformers and
//! PEFT (see golden/README.md).

#[path = "../support/mod.rs"]
mod support;

mod adapters;
mod conversations;
mod golden;
mod logits;
mod places;
mod siglip;
mod squares;
mod training;
