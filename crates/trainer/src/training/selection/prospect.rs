//! Whether recycling will pay, as far as it can be told before a training.

use super::Selection;

/// What can be expected of the chosen adapters, against random directions of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Prospect {
    /// They point where the gradient of the task does, and one of them lowers the loss by itself.
    Good,
    /// One of the two.
    Mixed,
    /// Neither: no adapter is known to be better than a random one.
    Poor,
}

/// The best of many is compared, so that a difference has to be this many standard errors.
const CERTAIN: f64 = 3.0;

impl Selection {
    /// And an alignment this many standard deviations of random updates.
    pub const ALIGNED: f64 = 5.0;

    /// The place of the chosen adapter that is aligned most, and its alignment in standard deviations of
    /// random updates.
    pub fn most_aligned(&self) -> Option<(usize, f64)> {
        let chosen = self.adapters[..self.chosen].iter().enumerate();
        let over = chosen.map(|(place, adapter)| {
            let alignment = &adapter.alignment;
            (place, alignment.cosine / alignment.cosine_chance)
        });
        over.filter(|(_, over)| over.is_finite())
            .max_by(|one, other| one.1.total_cmp(&other.1))
    }

    /// The place of the chosen adapter with the lowest loss.
    pub fn lowest_loss(&self) -> Option<usize> {
        let chosen = self.adapters[..self.chosen].iter().enumerate();
        let losses = chosen.filter_map(|(place, adapter)| {
            let mean = adapter.loss.as_ref()?.mean();
            mean.is_finite().then_some((place, mean))
        });
        let lowest = losses.min_by(|one, other| one.1.total_cmp(&other.1));
        lowest.map(|(place, _)| place)
    }

    /// By how much that loss is below the one under random updates, and the standard error of that.
    pub fn advantage(&self) -> Option<[f64; 2]> {
        let adapter = &self.adapters[self.lowest_loss()?];
        Some(adapter.loss.as_ref()?.advantage_over(&self.control))
    }

    /// Whether that is more than chance.
    pub fn is_lower(&self) -> bool {
        self.advantage()
            .is_some_and(|[mean, error]| mean > CERTAIN * error)
    }

    pub fn prospect(&self) -> Prospect {
        let is_aligned = self
            .most_aligned()
            .is_some_and(|(_, over)| over > Self::ALIGNED);
        match (is_aligned, self.is_lower()) {
            (true, true) => Prospect::Good,
            (false, false) => Prospect::Poor,
            _ => Prospect::Mixed,
        }
    }

    /// Whether an adapter has next to nothing that those before it do not have.
    pub fn is_redundant(&self, place: usize) -> bool {
        place > 0 && self.adapters[place].rank.novelty <= super::REDUNDANT
    }
}
