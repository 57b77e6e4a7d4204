//! The micro-batches of a step: what goes through the model at once, in one process.

use std::num::NonZeroUsize;

/// Into how many micro-batches each batch is divided.
///
/// Without a number in the configuration a single process takes batches whole, and several divide them so
/// that each has as many micro-batches of a step as the others.
///
/// - accumulation: how many batches make a step
pub(super) fn division(
    configured: Option<NonZeroUsize>,
    accumulation: NonZeroUsize,
    processes: usize,
) -> usize {
    match configured {
        Some(parts) => parts.get(),
        None => processes / common_divisor(processes, accumulation.get()),
    }
}

/// A batch in as many parts, or as many as it has examples. Each example goes, the longest first, to the part
/// that has the fewest rows so far, and keeps its place among those of its part.
///
/// - lengths: of all examples, in rows
pub(super) fn divided(batch: &[usize], parts: usize, lengths: &[usize]) -> Vec<Vec<usize>> {
    let parts = parts.clamp(1, batch.len().max(1));
    if parts == 1 {
        return vec![batch.to_vec()];
    }
    let mut places: Vec<usize> = (0..batch.len()).collect();
    places.sort_by_key(|&place| std::cmp::Reverse(lengths[batch[place]]));
    let mut loads = vec![(0, 0); parts];
    let mut part_of = vec![0; batch.len()];
    for place in places {
        let least = (0..parts).min_by_key(|&part| loads[part]).unwrap_or(0);
        let (rows, examples) = &mut loads[least];
        *rows += lengths[batch[place]];
        *examples += 1;
        part_of[place] = least;
    }
    let of_part = |part: usize| {
        let own = batch.iter().zip(&part_of);
        let own = own.filter(|(_, found)| **found == part);
        own.map(|(example, _)| *example).collect()
    };
    (0..parts).map(of_part).collect()
}

fn common_divisor(left: usize, right: usize) -> usize {
    match right {
        0 => left,
        right => common_divisor(right, left % right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: usize) -> NonZeroUsize {
        NonZeroUsize::new(number).unwrap()
    }

    #[test]
    fn every_process_has_as_many_micro_batches_of_a_step_as_the_others() {
        for (accumulation, processes, parts) in [
            (1, 1, 1),
            (5, 1, 1),
            (1, 4, 4),
            (4, 4, 1),
            (8, 4, 1),
            (2, 4, 2),
            (3, 2, 2),
            (6, 4, 2),
        ] {
            let found = division(None, number(accumulation), processes);
            assert_eq!(found, parts, "{accumulation} {processes}");
            assert!((accumulation * parts).is_multiple_of(processes));
        }
        assert_eq!(division(Some(number(3)), number(1), 2), 3);
    }

    #[test]
    fn the_parts_of_a_batch_have_each_example_once_and_about_as_many_rows() {
        let lengths: Vec<usize> = (0..60).map(|example| 4 + example * 29 % 37).collect();
        let batch: Vec<usize> = (0..32).map(|place| place * 7 % 60).collect();
        for parts in [2, 3, 4] {
            let found = divided(&batch, parts, &lengths);
            assert_eq!(found.len(), parts);
            let mut all = found.concat();
            all.sort_unstable();
            let mut expected = batch.clone();
            expected.sort_unstable();
            assert_eq!(all, expected);
            let rows = |part: &Vec<usize>| part.iter().map(|example| lengths[*example]).sum();
            let rows: Vec<usize> = found.iter().map(rows).collect();
            let (least, most) = (rows.iter().min().unwrap(), rows.iter().max().unwrap());
            assert!(most - least <= 4, "{rows:?}");
            let place = |example: &usize| batch.iter().position(|other| other == example);
            for part in &found {
                assert!(part.is_sorted_by_key(place), "{part:?}");
            }
        }
    }

    #[test]
    fn a_batch_has_no_more_parts_than_examples_and_one_part_is_the_batch() {
        let lengths = [0, 0, 9];
        assert_eq!(divided(&[2, 0, 1], 1, &lengths), [[2, 0, 1]]);
        let found = divided(&[2, 0, 1], 5, &lengths);
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|part| part.len() == 1), "{found:?}");
    }
}
