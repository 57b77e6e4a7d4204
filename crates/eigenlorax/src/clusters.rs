//! Which adapters belong together, so that each group gets a basis of its own.

use std::num::NonZeroUsize;
use std::str::FromStr;

use crate::error::EigenloraxError;
use crate::shared_energy::SharedEnergy;

/// Two groups are one where they share at least this part of what an adapter shares with its nearest one.
/// On seven adapters of one model, for different domains of one data set, the least that one of them
/// shares with the others is 0.4 of it; of random factors it is 0.02.
const PART_OF_NEAREST: f64 = 1.0 / 3.0;

/// And at least this many times what random directions would hold.
const TIMES_CHANCE: f64 = 3.0;

/// How many groups to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterCount {
    /// As many as the adapters fall into by what they share.
    Auto,
    Number(NonZeroUsize),
}

impl FromStr for ClusterCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text
                .parse()
                .map(Self::Number)
                .map_err(|_| format!("`{text}` is neither a number of clusters nor `auto`")),
        }
    }
}

impl ClusterCount {
    /// The fewest groups that are wanted of so many adapters.
    ///
    /// # Errors
    /// If there are fewer adapters than groups.
    pub fn check(self, adapters: usize) -> Result<usize, EigenloraxError> {
        let clusters = match self {
            Self::Auto => 1,
            Self::Number(number) => number.get(),
        };
        match clusters <= adapters {
            true => Ok(clusters),
            false => Err(EigenloraxError::TooManyClusters { clusters, adapters }),
        }
    }
}

/// Groups of adapters by their places among all, and those that stand alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clusters {
    /// Two adapters or more each, in ascending order; the largest group first.
    pub groups: Vec<Vec<usize>>,
    pub outliers: Vec<usize>,
}

impl Clusters {
    /// Joins the two groups that share most, in the mean of their pairs, again and again (average
    /// linkage): until `count` groups are left, those of one adapter counted; or with `Auto` until no
    /// two groups share
    ///
    /// - a third of what an adapter shares with its nearest one (the median over the adapters), and
    /// - three times what random directions would.
    ///
    /// # Errors
    /// If there are fewer adapters than groups, or every adapter stands alone.
    pub fn of(shared: &SharedEnergy, count: ClusterCount) -> Result<Self, EigenloraxError> {
        let adapters = shared.share.len();
        let wanted = count.check(adapters)?;
        let mut groups: Vec<Vec<usize>> = (0..adapters).map(|adapter| vec![adapter]).collect();
        let least = PART_OF_NEAREST * nearest(shared);
        while groups.len() > wanted {
            let joins = |link: &Link| match count {
                ClusterCount::Number(_) => true,
                ClusterCount::Auto => {
                    link.share >= least && link.share >= TIMES_CHANCE * link.chance
                }
            };
            let links = links(&groups, shared).into_iter().filter(joins);
            // Of equal ones the first, so that the result does not depend on chance.
            let best = links.reduce(|best, link| match link.share > best.share {
                true => link,
                false => best,
            });
            let Some(Link {
                groups: [first, second],
                ..
            }) = best
            else {
                break;
            };
            let joined = groups.swap_remove(second);
            groups[first].extend(joined);
            groups[first].sort_unstable();
            groups.sort_unstable();
        }
        let (mut groups, alone): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| group.len() > 1);
        groups.sort_by_key(|group| (std::cmp::Reverse(group.len()), group[0]));
        if groups.is_empty() {
            return Err(EigenloraxError::NoClusters { adapters });
        }
        Ok(Self {
            groups,
            outliers: alone.into_iter().flatten().collect(),
        })
    }
}

/// The mean of what the pairs of two groups share, and of chance.
struct Link {
    /// The smaller index first.
    groups: [usize; 2],
    share: f64,
    chance: f64,
}

fn links(groups: &[Vec<usize>], shared: &SharedEnergy) -> Vec<Link> {
    let mut links = Vec::new();
    for second in 1..groups.len() {
        for first in 0..second {
            let mean = |values: &[Vec<f64>]| {
                let rows = groups[first].iter();
                let sum: f64 = rows
                    .flat_map(|&row| groups[second].iter().map(move |&column| (row, column)))
                    .map(|(row, column)| values[row][column])
                    .sum();
                sum / (groups[first].len() * groups[second].len()) as f64
            };
            links.push(Link {
                groups: [first, second],
                share: mean(&shared.share),
                chance: mean(&shared.chance),
            });
        }
    }
    links
}

/// The median over the adapters of what each shares with the one it shares most with.
fn nearest(shared: &SharedEnergy) -> f64 {
    let mut most: Vec<f64> = shared
        .share
        .iter()
        .enumerate()
        .map(|(row, shares)| {
            let others = shares
                .iter()
                .enumerate()
                .filter(|(column, _)| *column != row);
            others.map(|(_, share)| *share).fold(0.0, f64::max)
        })
        .collect();
    most.sort_unstable_by(f64::total_cmp);
    most.get(most.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adapters of these families; random ones, of family 0, share what chance says.
    fn families(of: &[usize], within: f64, between: f64) -> SharedEnergy {
        let chance = 0.001;
        let share = |row: usize, column: usize| match (of[row], of[column]) {
            _ if row == column => 1.0,
            (0, _) | (_, 0) => chance,
            (one, other) if one == other => within,
            _ => between,
        };
        let table = |value: &dyn Fn(usize, usize) -> f64| {
            let row = |row| (0..of.len()).map(|column| value(row, column)).collect();
            (0..of.len()).map(row).collect()
        };
        SharedEnergy {
            share: table(&share),
            chance: table(&|_, _| chance),
        }
    }

    fn number(count: usize) -> ClusterCount {
        ClusterCount::Number(NonZeroUsize::new(count).expect("not 0"))
    }

    #[test]
    fn families_are_found_and_random_factors_stand_alone() {
        let shared = families(&[1, 2, 0, 2, 1, 2], 0.1, 0.01);
        let found = Clusters::of(&shared, ClusterCount::Auto).expect("clusters");
        assert_eq!(found.groups, [vec![1, 3, 5], vec![0, 4]]);
        assert_eq!(found.outliers, [2]);
    }

    #[test]
    fn what_is_nearly_as_near_is_one_family() {
        let shared = families(&[1, 2, 2, 1, 2], 0.1, 0.05);
        let found = Clusters::of(&shared, ClusterCount::Auto).expect("clusters");
        assert_eq!(found.groups, [vec![0, 1, 2, 3, 4]]);
        assert!(found.outliers.is_empty());
    }

    #[test]
    fn two_copies_of_one_adapter_do_not_push_the_others_out() {
        let mut shared = families(&[1, 1, 1, 1, 1], 0.02, 0.0);
        shared.share[0][1] = 1.0;
        shared.share[1][0] = 1.0;
        let found = Clusters::of(&shared, ClusterCount::Auto).expect("clusters");
        assert_eq!(found.groups, [vec![0, 1, 2, 3, 4]]);
    }

    #[test]
    fn a_number_of_clusters_is_kept_to() {
        let shared = families(&[1, 2, 0, 2, 1], 0.1, 0.09);
        let found = Clusters::of(&shared, number(3)).expect("clusters");
        assert_eq!(found.groups, [vec![0, 4], vec![1, 3]]);
        assert_eq!(found.outliers, [2]);
        let found = Clusters::of(&shared, number(1)).expect("clusters");
        assert_eq!(found.groups, [vec![0, 1, 2, 3, 4]]);
    }

    #[test]
    fn as_many_clusters_as_adapters_and_strangers_alone_are_refused() {
        let shared = families(&[0, 0, 0], 0.1, 0.1);
        for count in [ClusterCount::Auto, number(3)] {
            let error = Clusters::of(&shared, count).expect_err("a refusal");
            assert!(matches!(error, EigenloraxError::NoClusters { adapters: 3 }));
        }
        let error = Clusters::of(&shared, number(4)).expect_err("a refusal");
        assert!(matches!(
            error,
            EigenloraxError::TooManyClusters {
                clusters: 4,
                adapters: 3
            }
        ));
    }

    #[test]
    fn words_that_are_no_number_of_clusters_are_refused() {
        assert_eq!("auto".parse(), Ok(ClusterCount::Auto));
        assert_eq!("3".parse(), Ok(number(3)));
        for text in ["0", "-1", "some"] {
            let error = text.parse::<ClusterCount>().expect_err("a refusal");
            assert!(error.contains("auto"), "{error}");
        }
    }
}
