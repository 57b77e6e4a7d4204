//! A batch of token sequences, packed: real tokens only, one sequence after the other.

use std::sync::Arc;

/// Token sequences without padding; `rows` counts the tokens of all sequences.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBatch {
    /// `[rows]`
    ids: Vec<i32>,
    /// The position of each token in its sequence, counted with the padding before it: `[rows]`.
    position_ids: Vec<i32>,
    /// The segment of each token: `[rows]`.
    type_ids: Vec<i32>,
    /// Sequence i holds the rows `offsets[i]..offsets[i + 1]`.
    offsets: Arc<[usize]>,
}

impl TokenBatch {
    /// Packs sequences given as (ids, segment of each token).
    ///
    /// # Panics
    /// If a sequence is empty or has more or fewer segments than tokens.
    pub fn from_sequences<'a>(sequences: impl IntoIterator<Item = (&'a [u32], &'a [u32])>) -> Self {
        let (mut ids, mut position_ids, mut type_ids) = (vec![], vec![], vec![]);
        let mut offsets = vec![0];
        for (sequence, segments) in sequences {
            assert!(!sequence.is_empty(), "an empty sequence");
            assert_eq!(sequence.len(), segments.len(), "a segment for every token");
            ids.extend(sequence.iter().map(|&id| id as i32));
            position_ids.extend(0..sequence.len() as i32);
            type_ids.extend(segments.iter().map(|&segment| segment as i32));
            offsets.push(ids.len());
        }
        Self {
            ids,
            position_ids,
            type_ids,
            offsets: offsets.into(),
        }
    }

    /// Packs the next tokens of sequences of which `cached_lengths` tokens are cached.
    ///
    /// # Panics
    /// If a sequence is empty, or `cached_lengths` has more or fewer entries.
    pub fn continuing(sequences: &[Vec<u32>], cached_lengths: &[usize]) -> Self {
        assert_eq!(
            sequences.len(),
            cached_lengths.len(),
            "a length for each sequence"
        );
        let segments: Vec<Vec<u32>> = sequences.iter().map(|ids| vec![0; ids.len()]).collect();
        let pairs = sequences.iter().zip(&segments);
        let mut batch = Self::from_sequences(pairs.map(|(ids, types)| (&ids[..], &types[..])));
        for (sequence, &cached) in cached_lengths.iter().enumerate() {
            let rows = batch.offsets[sequence]..batch.offsets[sequence + 1];
            batch.position_ids[rows]
                .iter_mut()
                .for_each(|position| *position += cached as i32);
        }
        batch
    }

    /// Packs padded tensors: the tokens whose mask is not 0.
    ///
    /// - ids, mask, type_ids: `[batch, length]`, row-major; no type_ids means segment 0
    /// - keep_first: whether the first token of every sequence is kept regardless of its mask,
    ///   because a head reads it; otherwise only a wholly masked sequence keeps it
    ///
    /// # Panics
    /// If the slices are not `batch · length` long.
    pub fn from_padded(
        ids: &[i64],
        mask: Option<&[i64]>,
        type_ids: Option<&[i64]>,
        [batch, length]: [usize; 2],
        keep_first: bool,
    ) -> Self {
        assert_eq!(
            ids.len(),
            batch * length,
            "ids of a [{batch}, {length}] batch"
        );
        let (mut packed, mut position_ids, mut segments) = (vec![], vec![], vec![]);
        let mut offsets = vec![0];
        for sequence in 0..batch {
            let rows = sequence * length..(sequence + 1) * length;
            let masked_whole = mask.is_some_and(|mask| mask[rows].iter().all(|&one| one == 0));
            for position in 0..length {
                let index = sequence * length + position;
                let first = position == 0 && (keep_first || masked_whole);
                if first || mask.is_none_or(|mask| mask[index] != 0) {
                    packed.push(ids[index] as i32);
                    position_ids.push(position as i32);
                    segments.push(type_ids.map_or(0, |segments| segments[index] as i32));
                }
            }
            offsets.push(packed.len());
        }
        Self {
            ids: packed,
            position_ids,
            type_ids: segments,
            offsets: offsets.into(),
        }
    }

    pub fn ids(&self) -> &[i32] {
        &self.ids
    }

    /// The position of each token in its sequence, counted with the padding before it: `[rows]`.
    pub fn position_ids(&self) -> &[i32] {
        &self.position_ids
    }

    pub fn type_ids(&self) -> &[i32] {
        &self.type_ids
    }

    pub fn offsets(&self) -> &Arc<[usize]> {
        &self.offsets
    }

    /// How many sequences there are.
    pub fn sequences(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The total number of tokens.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_padded_tensors_gives_the_sequences_without_padding() {
        let ids = [5, 6, 7, 0, 8, 9, 0, 0];
        let mask = [1, 1, 1, 0, 1, 1, 0, 0];
        let types = [0, 0, 1, 0, 0, 1, 0, 0];
        let padded = TokenBatch::from_padded(&ids, Some(&mask), Some(&types), [2, 4], true);
        let packed = TokenBatch::from_sequences([
            (&[5u32, 6, 7][..], &[0u32, 0, 1][..]),
            (&[8, 9], &[0, 1]),
        ]);
        assert_eq!(padded, packed);
        assert_eq!((packed.sequences(), packed.tokens()), (2, 5));
    }

    #[test]
    fn padding_on_the_left_keeps_the_position_ids() {
        let pack = |keep_first| {
            let (ids, mask) = ([0, 0, 4, 3], [0, 0, 1, 1]);
            TokenBatch::from_padded(&ids, Some(&mask), None, [1, 4], keep_first)
        };
        assert_eq!(pack(true).position_ids(), [0, 2, 3]);
        assert_eq!(pack(false).position_ids(), [2, 3]);
        let nothing = TokenBatch::from_padded(&[7, 8], Some(&[0, 0]), None, [1, 2], false);
        assert_eq!(nothing.ids(), [7]);
    }
}
