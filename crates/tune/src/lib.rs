//! Settings chosen by measuring: a training takes seconds where only coefficients are learned, so method,
//! sources, start, components, learning rate and epochs need not be guessed.
//!
//! [`tune`] starts from a training file and tries changes of it ([`Candidate`]) by successive halving
//! (Jamieson & Talwalkar 2016): all are measured a little, the better half some more, and so on, as far as
//! a budget of time goes. They are measured on the validation split, or where the data have none, on
//! folds of the training rows. The file itself is measured on everything that any change is measured on,
//! and a change has to beat it by more than the spread of the measurements. Then the winner is trained on
//! all rows. The test split is not read before that.

mod candidate;
mod clock;
mod evidence;
mod measurement;
mod report;
mod rungs;
mod search;
mod space;
mod tuning;

pub use candidate::Candidate;
pub use report::{TriedCandidate, TuneReport};
pub use tuning::{TuneRequest, tune};
