//! DARE: drop and rescale (arXiv 2311.03099).

use eigenmix_tensors::Matrix;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::entries::{Entries, EntrySetting};
use crate::factors::Factors;

/// Which entries of one representation are dropped.
///
/// Every entry has its own place in a random stream, and every adapter and module their own stream,
/// derived from the adapter's update. So the choice depends neither on blocks and threads nor on
/// the order or the names of the adapters.
pub(crate) struct DropMask {
    random: ChaCha8Rng,
    /// Entries whose random word is below this are dropped.
    dropped_below: u32,
}

impl DropMask {
    /// A mask for every adapter that has the module, or none if nothing is dropped.
    pub(crate) fn of_tasks(
        factors: &[Factors<'_>],
        setting: &EntrySetting<'_>,
    ) -> Vec<Option<Self>> {
        let drop = setting.method.drop;
        if drop == 0.0 {
            return factors.iter().map(|_| None).collect();
        }
        let mut earlier = Vec::new();
        factors
            .iter()
            .map(|factors| {
                let fingerprint = fingerprint(setting.path, factors);
                // Equal adapters still get different streams.
                let twins = earlier
                    .iter()
                    .filter(|&&other| other == fingerprint)
                    .count();
                earlier.push(fingerprint);
                let mut random = ChaCha8Rng::seed_from_u64(setting.seed);
                random.set_stream(fingerprint.wrapping_add(twins as u64));
                Some(Self {
                    random,
                    dropped_below: (drop * 2f64.powi(32)) as u32,
                })
            })
            .collect()
    }

    /// Zeroes the dropped ones of `entries`, the first of which has the index `first`.
    pub(crate) fn apply(&self, first: usize, entries: &mut [f32]) {
        let mut random = self.random.clone();
        random.set_word_pos(first as u128);
        for entry in entries {
            if random.next_u32() < self.dropped_below {
                *entry = 0.0;
            }
        }
    }
}

/// `Σ_t τ_t` of what is kept, already divided by 1 − p.
pub(crate) fn sum(entries: &Entries<'_>) -> Matrix {
    entries.merged(|block, target| {
        for task in &block.tasks {
            for (sum, value) in target.iter_mut().zip(task) {
                *sum += *value;
            }
        }
    })
}

/// A fingerprint of an update: the FNV-1a hash of the path and of the bits of the factors.
fn fingerprint(path: &str, factors: &Factors<'_>) -> u64 {
    let values = [&factors.b, &factors.a]
        .into_iter()
        .flat_map(|factor| factor.values())
        .chain([&factors.scaling])
        .map(|value| u64::from(value.to_bits()));
    path.bytes()
        .map(u64::from)
        .chain(values)
        .fold(0xcbf2_9ce4_8422_2325, |hash, word| {
            (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3)
        })
}
