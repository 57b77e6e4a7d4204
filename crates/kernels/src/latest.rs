//! What is made once for a batch on a device, and used by all layers of a model.

use std::sync::{Mutex, PoisonError};

/// The latest few values that were made, by what they were made of. They outlive the batch: the next one is often
/// of the same form.
pub struct Latest<K, V>(Mutex<Vec<(K, V)>>);

impl<K, V: Clone> Latest<K, V> {
    /// None yet.
    #[expect(clippy::new_without_default, reason = "only statics have one")]
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// The value whose key is the one, or a new one.
    ///
    /// - kept: how many values are kept, the latest used first
    pub fn get(
        &self,
        kept: usize,
        is_the_one: impl Fn(&K) -> bool,
        make: impl FnOnce() -> (K, V),
    ) -> V {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = match entries.iter().position(|(key, _)| is_the_one(key)) {
            Some(place) => entries.remove(place),
            None => make(),
        };
        let value = entry.1.clone();
        entries.insert(0, entry);
        entries.truncate(kept);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_until_others_push_it_out() {
        let latest = Latest::new();
        let mut made = Vec::new();
        for key in [1, 2, 1, 3, 1, 2] {
            let value = latest.get(
                2,
                |other| *other == key,
                || {
                    made.push(key);
                    (key, key * 10)
                },
            );
            assert_eq!(value, key * 10);
        }
        assert_eq!(made, [1, 2, 3, 2]);
    }
}
