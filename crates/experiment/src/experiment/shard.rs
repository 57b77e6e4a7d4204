//! A part of an experiment: `I/N`, as in a job array.

use std::num::NonZeroUsize;
use std::str::FromStr;

/// One of several parts of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which one, from 0.
    index: usize,
    count: NonZeroUsize,
}

impl Shard {
    /// The part of one of several processes.
    ///
    /// - index: from 0, below `count`
    pub fn of_process(index: usize, count: NonZeroUsize) -> Self {
        Self { index, count }
    }

    /// Every `count`-th item, so that all parts take about as long.
    pub fn part_of<T: Copy>(self, items: &[T]) -> Vec<T> {
        let own = items.iter().skip(self.index).step_by(self.count.get());
        own.copied().collect()
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let number = |text: &str| text.trim().parse::<NonZeroUsize>().ok();
        let numbers = parts.and_then(|(index, count)| Some((number(index)?, number(count)?)));
        match numbers {
            Some((index, count)) if index <= count => Ok(Self {
                index: index.get() - 1,
                count,
            }),
            _ => Err("expected I/N, from 1/N to N/N, such as 3/8".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shards_cover_every_item_once() {
        let items: Vec<usize> = (0..11).collect();
        let part = |text: &str| text.parse::<Shard>().unwrap().part_of(&items);
        assert_eq!(part("2/4"), [1, 5, 9]);
        let mut all = [part("1/4"), part("2/4"), part("3/4"), part("4/4")].concat();
        all.sort_unstable();
        assert_eq!(all, items);
        assert_eq!(part("1/1"), items);
    }

    #[test]
    fn invalid_shards_are_refused() {
        for text in ["0/4", "5/4", "4", "1/0", "a/b", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
