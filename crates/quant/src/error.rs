//! Why bytes are not the matrix that they should be.

/// Why a matrix could not be made of what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    #[error(
        "a row has {found} values, which {encoding} cannot hold: a block of it is {block} values"
    )]
    RowLength {
        encoding: &'static str,
        block: usize,
        found: usize,
    },

    #[error("{what} are {found}, expected {expected} for its shape")]
    Size {
        what: &'static str,
        expected: usize,
        found: usize,
    },

    #[error("{what} would be more than memory can address")]
    TooLarge { what: &'static str },

    #[error("blocks of {found} values; expected a multiple of 32, or groups of an even number")]
    BlockLength { found: usize },

    #[error("a column is in group {found}, but there are {groups} groups")]
    Group { found: u32, groups: usize },

    #[error("its rows cannot be taken in another order: {problem}")]
    RowOrder { problem: &'static str },
}

impl QuantError {
    /// # Errors
    /// If `found` is not what is expected, or that is too large to count.
    pub(crate) fn check_size(
        what: &'static str,
        expected: Option<usize>,
        found: usize,
    ) -> Result<(), Self> {
        let expected = expected.ok_or(Self::TooLarge { what })?;
        match expected == found {
            true => Ok(()),
            false => Err(Self::Size {
                what,
                expected,
                found,
            }),
        }
    }
}
