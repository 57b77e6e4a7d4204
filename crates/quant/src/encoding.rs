//! The block formats of GGUF files, by what their headers need: numbers, names and sizes.

/// How the values of a row lie one after another: in blocks of [`Encoding::block_len`] values, each
/// [`Encoding::block_bytes`] bytes long. A row is a whole number of blocks, and rows follow each other
/// without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
}

/// Number in GGUF files, name, values of a block, bytes of a block.
const TABLE: [(Encoding, u32, &str, usize, usize); 15] = [
    (Encoding::F32, 0, "F32", 1, 4),
    (Encoding::F16, 1, "F16", 1, 2),
    (Encoding::Bf16, 30, "BF16", 1, 2),
    (Encoding::Q4_0, 2, "Q4_0", 32, 18),
    (Encoding::Q4_1, 3, "Q4_1", 32, 20),
    (Encoding::Q5_0, 6, "Q5_0", 32, 22),
    (Encoding::Q5_1, 7, "Q5_1", 32, 24),
    (Encoding::Q8_0, 8, "Q8_0", 32, 34),
    (Encoding::Q2K, 10, "Q2_K", 256, 84),
    (Encoding::Q3K, 11, "Q3_K", 256, 110),
    (Encoding::Q4K, 12, "Q4_K", 256, 144),
    (Encoding::Q5K, 13, "Q5_K", 256, 176),
    (Encoding::Q6K, 14, "Q6_K", 256, 210),
    (Encoding::Iq4Nl, 20, "IQ4_NL", 32, 18),
    (Encoding::Iq4Xs, 23, "IQ4_XS", 256, 136),
];

/// Formats that files have and that are not read, by their number in GGUF files.
const OTHERS: [(u32, &str); 20] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (31, "Q4_0_4_4"),
];

impl Encoding {
    /// All that are read.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|entry| entry.0)
    }

    /// The format that a GGUF file means by a number, if it is one that is read.
    pub fn from_ggml(number: u32) -> Option<Self> {
        let entry = TABLE.iter().find(|entry| entry.1 == number);
        entry.map(|entry| entry.0)
    }

    /// The name of a format that is not read, for the message that refuses it.
    pub fn name_of_other(number: u32) -> Option<&'static str> {
        let entry = OTHERS.iter().find(|entry| entry.0 == number);
        entry.map(|entry| entry.1)
    }

    /// Its number in GGUF files.
    pub fn ggml(self) -> u32 {
        self.entry().1
    }

    /// As llama.cpp writes it, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.entry().2
    }

    /// The number of values of a block.
    pub fn block_len(self) -> usize {
        self.entry().3
    }

    /// The number of bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.entry().4
    }

    /// The number of bytes of a row of so many values; `None` if they are not a whole number of blocks,
    /// or too many to count.
    pub fn row_bytes(self, values: usize) -> Option<usize> {
        let (blocks, rest) = (values / self.block_len(), values % self.block_len());
        match rest {
            0 => blocks.checked_mul(self.block_bytes()),
            _ => None,
        }
    }

    fn entry(self) -> &'static (Self, u32, &'static str, usize, usize) {
        let entry = TABLE.iter().find(|entry| entry.0 == self);
        entry.expect("every encoding is in the table")
    }
}
