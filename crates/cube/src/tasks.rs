//! Which scores of attention exist at the same time.

use std::ops::Range;

use crate::attention::{PADDED, Seen};

/// How long a sequence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lengths {
    pub queries: usize,
    pub keys: usize,
}

/// Some scores: of all heads of queries in a block, or of some queries of one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// Heads of keys of sequences.
    pub blocks: Range<usize>,
    /// Rows of a block: `group · longest` queries.
    pub rows: Range<usize>,
    /// The query of the first row.
    pub first_query: usize,
    /// The keys that they may see.
    pub keys: Range<usize>,
}

/// What tasks follow from.
pub(crate) struct TaskSizes<'a> {
    /// Heads of keys of all sequences.
    pub blocks: usize,
    /// How many heads of queries share one of keys.
    pub group: usize,
    /// Places of a sequence's queries and keys, those for padding included.
    pub longest: usize,
    pub longest_key: usize,
    pub seen: Seen,
    pub lengths: &'a [Lengths],
    /// How many scores may exist at a time.
    pub scores: usize,
}

/// Queries at a time, at least, where a window makes most scores needless.
const QUERIES: usize = 512;

/// All scores that some query needs, each once.
pub(crate) fn tasks(sizes: &TaskSizes<'_>) -> Vec<Task> {
    let rows = sizes.group * sizes.longest;
    let of_block = rows * sizes.longest_key;
    let is_narrow = match sizes.seen {
        Seen::Window(width) => sizes.longest_key > 2 * (width + QUERIES),
        Seen::Everything | Seen::Causal => false,
    };
    if of_block > sizes.scores || is_narrow {
        return sizes.parts_of_heads();
    }
    let together = (sizes.scores / of_block.max(1)).max(1);
    let blocks = in_steps(0..sizes.blocks, together);
    let whole = blocks.map(|blocks| Task {
        blocks,
        rows: 0..rows,
        first_query: 0,
        keys: 0..sizes.longest_key,
    });
    whole.collect()
}

fn in_steps(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range
        .step_by(step)
        .map(move |start| start..end.min(start + step))
}

impl TaskSizes<'_> {
    /// Some queries of one head of each block, with the keys that they may see.
    fn parts_of_heads(&self) -> Vec<Task> {
        let most = match self.seen {
            Seen::Window(width) => width.max(QUERIES),
            Seen::Everything | Seen::Causal => self.longest,
        };
        let step = most.min(self.scores / self.longest_key.max(1)).max(1);
        let mut found = Vec::new();
        for queries in in_steps(0..self.longest, step) {
            let keys = self.keys_of(&queries);
            if keys.is_empty() {
                continue;
            }
            let together = (self.scores / (queries.len() * keys.len())).max(1);
            for head in 0..self.group {
                let first = head * self.longest;
                let rows = first + queries.start..first + queries.end;
                found.extend(in_steps(0..self.blocks, together).map(|blocks| Task {
                    blocks,
                    rows: rows.clone(),
                    first_query: queries.start,
                    keys: keys.clone(),
                }));
            }
        }
        found
    }

    /// The keys that some of these queries see, in any sequence.
    fn keys_of(&self, queries: &Range<usize>) -> Range<usize> {
        let seen = self.lengths.iter().filter_map(|length| {
            let last = queries.end.min(length.queries);
            if last <= queries.start {
                return None;
            }
            // The position of a query is that of as many keys from the end.
            let position = |query: usize| length.keys + query - length.queries;
            Some(match self.seen {
                Seen::Everything => 0..length.keys,
                Seen::Causal => 0..position(last - 1) + 1,
                Seen::Window(width) => {
                    let first = (position(queries.start) + 1).saturating_sub(width);
                    first..position(last - 1) + 1
                }
            })
        });
        let all = seen.reduce(|all, one| all.start.min(one.start)..all.end.max(one.end));
        let all = all.unwrap_or(0..0);
        // Whole vectors, as the products read them.
        let start = all.start / PADDED * PADDED;
        start..all.end.next_multiple_of(PADDED).min(self.longest_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(seen: Seen, lengths: &[Lengths], scores: usize) -> TaskSizes<'_> {
        let longest = |length: fn(&Lengths) -> usize| {
            let longest = lengths.iter().map(length).max().unwrap_or(0);
            longest.next_multiple_of(8)
        };
        TaskSizes {
            blocks: 3 * lengths.len(),
            group: 2,
            longest: longest(|length| length.queries),
            longest_key: longest(|length| length.keys),
            seen,
            lengths,
            scores,
        }
    }

    #[test]
    fn every_score_that_is_needed_is_in_one_task() {
        let length = |queries, keys| Lengths { queries, keys };
        let lengths = [length(40, 40), length(9, 1300), length(1300, 1300)];
        for seen in [Seen::Everything, Seen::Causal, Seen::Window(30)] {
            for scores in [1 << 30, 100_000, 5_000] {
                let sizes = sizes(seen, &lengths, scores);
                let tasks = tasks(&sizes);
                for (block, row) in [(0, 0), (0, 39), (3, 8), (6, 1299), (8, 2000), (7, 700)] {
                    let (query, length) = (row % sizes.longest, lengths[block / 3]);
                    if query >= length.queries {
                        continue;
                    }
                    let end = match seen {
                        Seen::Everything => length.keys,
                        _ => length.keys + query + 1 - length.queries,
                    };
                    let first = match seen {
                        Seen::Window(width) => end.saturating_sub(width),
                        _ => 0,
                    };
                    let of_it = tasks
                        .iter()
                        .filter(|task| task.blocks.contains(&block) && task.rows.contains(&row));
                    let of_it: Vec<&Task> = of_it.collect();
                    assert_eq!(of_it.len(), 1, "{seen:?}, {scores}: {block}, {row}");
                    let task = of_it[0];
                    assert!(task.keys.start <= first && end <= task.keys.end, "{task:?}");
                    let own = row - task.rows.start + task.first_query;
                    assert_eq!(own % sizes.longest, query, "{task:?}");
                }
            }
        }
    }

    #[test]
    fn scores_are_as_many_as_may_be_and_a_window_needs_few() {
        let lengths = [Lengths {
            queries: 8192,
            keys: 8192,
        }];
        for (seen, most) in [(Seen::Causal, 1 << 22), (Seen::Window(100), 1 << 22)] {
            let sizes = sizes(seen, &lengths, most);
            let count = |task: &Task| task.blocks.len() * task.rows.len() * task.keys.len();
            let tasks = tasks(&sizes);
            assert!(tasks.iter().all(|task| count(task) <= most), "{seen:?}");
            let all: usize = tasks.iter().map(count).sum();
            let square = 6 * 8192 * 8192;
            match seen {
                Seen::Window(_) => assert!(all < square / 10, "{all}"),
                _ => assert!(all < square, "{all}"),
            }
        }
    }
}
