//! Which tensors of an adapter file belong together, checked before any of them is read.

use std::collections::BTreeMap;

use eigenmix_tensors::{FileError, Matrix, TensorFile};

use crate::file_report::UnexpectedTensor;
use crate::key::{Part, Role};
use crate::target::has_component;
use crate::{AdapterError, LayerKind, LoraModule};

/// The most numbers in the kernel of a convolution whose factors have a third one between them:
/// folding it makes A so many times as large as the file, and none that is trained has more.
const LARGEST_WINDOW: usize = 49;

/// The tensors of one module by what they are, and what is known of them beforehand.
#[derive(Clone, Debug)]
pub(crate) struct ModuleParts {
    pub(crate) keys: BTreeMap<Part, String>,
    /// s.
    pub(crate) scaling: f32,
    pub(crate) orientation: Orientation,
}

/// How a file stores the two factors of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orientation {
    /// A `[rank, d_in]` and B `[d_out, rank]`, or those of a convolution.
    Usual,
    /// Both transposed, of a linear layer.
    Transposed,
    /// Of an embedding, A `[rank, d_in]` and B `[d_out, rank]`.
    Embedding,
    /// Of an embedding, both transposed.
    TransposedEmbedding,
}

impl Orientation {
    fn is_transposed(self) -> bool {
        matches!(self, Self::Transposed | Self::TransposedEmbedding)
    }
}

/// The tensors of one module and the sizes they agree on.
#[derive(Clone, Debug)]
pub(crate) struct ModuleEntry {
    pub(crate) keys: BTreeMap<Part, String>,
    pub(crate) rank: usize,
    pub(crate) d_in: usize,
    pub(crate) d_out: usize,
    /// s.
    pub(crate) scaling: f32,
    pub(crate) layer: LayerKind,
    pub(crate) is_transposed: bool,
}

/// Everything in a file, by what it is. Heads and biases map their names to the keys in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileIndex {
    pub(crate) modules: BTreeMap<String, ModuleEntry>,
    pub(crate) heads: BTreeMap<String, String>,
    pub(crate) biases: BTreeMap<String, String>,
    pub(crate) unexpected: Vec<UnexpectedTensor>,
    /// Tensors without any effect beside the others.
    pub(crate) copies: Vec<String>,
}

impl FileIndex {
    /// Notes a tensor that is left out.
    pub(crate) fn leave_out(&mut self, name: &str, reason: &'static str) {
        self.unexpected.push(UnexpectedTensor {
            name: name.to_owned(),
            reason,
        });
    }

    /// Adds a tensor that is no part of an update.
    ///
    /// # Errors
    /// If there is another of the same name, unless it is a head and the two are copies.
    pub(crate) fn add_other(
        &mut self,
        file: &TensorFile,
        role: Role<'_>,
        key: &str,
    ) -> Result<(), AdapterError> {
        match role {
            Role::Head(name) => self.add_head(file, name, key)?,
            Role::Bias(name) => {
                if let Some(first) = self.biases.insert(name, key.to_owned()) {
                    return Err(duplicate(file, first, key));
                }
            }
            Role::Copy => self.copies.push(key.to_owned()),
            Role::Unexpected(reason) => self.leave_out(key, reason),
            Role::Factor(..) => self.leave_out(key, "a part of an update"),
        }
        Ok(())
    }

    /// Adds a tensor that was trained whole. PEFT writes that of a resized embedding twice, as `X.weight`
    /// and as `X.modules_to_save.weight`, and reads the first.
    ///
    /// # Errors
    /// If there are two and they differ, or they are of two adapters.
    fn add_head(&mut self, file: &TensorFile, name: String, key: &str) -> Result<(), AdapterError> {
        let Some(before) = self.heads.insert(name.clone(), key.to_owned()) else {
            return Ok(());
        };
        let is_wrapped = |key: &str| has_component(key, "modules_to_save");
        let (plain, wrapped) = match (is_wrapped(&before), is_wrapped(key)) {
            (false, true) => (before, key.to_owned()),
            (true, false) => (key.to_owned(), before),
            _ => return Err(duplicate(file, before, key)),
        };
        let are_equal = file.tensor(&plain)? == file.tensor(&wrapped)?
            && file.view(&plain)? == file.view(&wrapped)?;
        if !are_equal {
            return Err(AdapterError::UnequalCopies {
                path: file.path().to_owned(),
                first: plain,
                second: wrapped,
            });
        }
        self.copies.push(wrapped);
        self.heads.insert(name, plain);
        Ok(())
    }

    /// # Errors
    /// If there is no module.
    pub(crate) fn require_modules(&self, file: &TensorFile) -> Result<(), AdapterError> {
        if !self.modules.is_empty() {
            return Ok(());
        }
        let found = match (self.unexpected.first(), file.names().next()) {
            (_, None) => "the file has no tensors at all".to_owned(),
            (Some(first), _) => format!("{} tensors, such as {first}", file.names().count()),
            (None, Some(first)) => format!("only heads and biases, such as `{first}`"),
        };
        Err(AdapterError::NoModules {
            path: file.path().to_owned(),
            found,
        })
    }
}

impl ModuleEntry {
    /// Checks that the factors fit each other, and everything else fits them.
    ///
    /// `spelling` is how the dialect calls a part, for errors.
    pub(crate) fn check(
        file: &TensorFile,
        module: &str,
        parts: ModuleParts,
        spelling: impl Fn(Part) -> &'static str,
    ) -> Result<Self, AdapterError> {
        let ModuleParts {
            keys,
            scaling,
            orientation,
        } = parts;
        for part in [Part::A, Part::B] {
            if !keys.contains_key(&part) {
                return Err(AdapterError::IncompleteModule {
                    path: file.path().to_owned(),
                    module: module.to_owned(),
                    missing: spelling(part),
                });
            }
        }
        let factors = FactorSizes::of(file, &keys, orientation, &spelling)?;
        let FactorSizes {
            rank, d_in, d_out, ..
        } = factors;
        for (&part, key) in &keys {
            let found = file.shape(key)?;
            let (fits, expected) = match part {
                Part::Mixer => (found == [rank, rank], format!("[{rank}, {rank}]")),
                Part::Magnitude | Part::Bias => (
                    found == [d_out] || found == [d_out, 1] || found == [1, d_out],
                    format!("[{d_out}], the output size of its module"),
                ),
                _ => continue,
            };
            if !fits {
                return Err(wrong_shape(file, key, expected).into());
            }
        }
        Ok(Self {
            keys,
            rank,
            d_in,
            d_out,
            scaling,
            layer: factors.layer,
            is_transposed: orientation.is_transposed(),
        })
    }

    /// Reads the factors as they are meant: A `[rank, d_in]` and B `[d_out, rank]`.
    pub(crate) fn read(&self, file: &TensorFile) -> Result<LoraModule, AdapterError> {
        let &Self {
            rank, d_in, d_out, ..
        } = self;
        let read = |part: Part| {
            let key = self.keys.get(&part);
            key.map(|key| file.read_finite_f32(key)).transpose()
        };
        let factor = |part: Part, rows: usize, cols: usize| {
            let values = file.read_finite_f32(&self.keys[&part])?;
            Ok::<_, AdapterError>(match self.is_transposed {
                true => Matrix::new(cols, rows, values).transposed(),
                false => Matrix::new(rows, cols, values),
            })
        };
        let a = match read(Part::Mid)? {
            None => factor(Part::A, rank, d_in)?,
            Some(middle) => {
                let key = &self.keys[&Part::A];
                let inner = file.shape(key)?[0];
                fold_middle(&middle, &file.read_finite_f32(key)?, rank, inner)
            }
        };
        Ok(LoraModule {
            a,
            b: factor(Part::B, d_out, rank)?,
            mixer: read(Part::Mixer)?.map(|values| Matrix::new(rank, rank, values)),
            scaling: self.scaling,
            magnitude: read(Part::Magnitude)?,
            bias: read(Part::Bias)?,
            layer: self.layer.clone(),
        })
    }
}

/// `A'[p, (i, k)] = Σ_q mid[p, q, k] · A[q, i]`, which is A of a convolution by one number after
/// another: `[rank, d_in]`.
///
/// - middle: `[rank, inner, kernel…]`, row-major
/// - down: `[inner, channels, 1…]`, row-major
fn fold_middle(middle: &[f32], down: &[f32], rank: usize, inner: usize) -> Matrix {
    let (window, channels) = (middle.len() / (rank * inner), down.len() / inner);
    Matrix::from_fn(rank, channels * window, |row, col| {
        let (channel, offset) = (col / window, col % window);
        let terms = (0..inner).map(|between| {
            let middle = middle[(row * inner + between) * window + offset];
            f64::from(middle) * f64::from(down[between * channels + channel])
        });
        terms.sum::<f64>() as f32
    })
}

/// The sizes on which the factors of a module agree.
struct FactorSizes {
    rank: usize,
    d_in: usize,
    d_out: usize,
    layer: LayerKind,
}

impl FactorSizes {
    fn of(
        file: &TensorFile,
        keys: &BTreeMap<Part, String>,
        orientation: Orientation,
        spelling: &impl Fn(Part) -> &'static str,
    ) -> Result<Self, AdapterError> {
        let (a_key, b_key) = (&keys[&Part::A], &keys[&Part::B]);
        let (a, b) = (file.shape(a_key)?, file.shape(b_key)?);
        for (key, shape) in [(a_key, a), (b_key, b)] {
            if shape.contains(&0) {
                return Err(AdapterError::EmptyTensor {
                    path: file.path().to_owned(),
                    tensor: key.clone(),
                    found: shape.to_owned(),
                });
            }
        }
        if let Some(middle) = keys.get(&Part::Mid) {
            return Self::around(file, a_key, middle, b_key);
        }
        if orientation == Orientation::Usual && a.len() > 2 {
            return Self::of_convolution(file, a_key, b_key);
        }
        let names = match orientation.is_transposed() {
            true => ["[d_in, rank]", "rank", "d_out"],
            false => ["[rank, d_in]", "d_out", "rank"],
        };
        let &[first, second] = a else {
            return Err(wrong_shape(file, a_key, names[0].to_owned()).into());
        };
        let (rank, d_in) = match orientation.is_transposed() {
            true => (second, first),
            false => (first, second),
        };
        let d_out = match (orientation.is_transposed(), b) {
            (false, &[d_out, inner]) if inner == rank => d_out,
            (true, &[inner, d_out]) if inner == rank => d_out,
            (is_transposed, _) => {
                let expected = match is_transposed {
                    true => format!("[{rank}, d_out]"),
                    false => format!("[d_out, {rank}]"),
                };
                let factor = spelling(Part::A);
                let problem = format!("{expected}, as {factor} has rank {rank}");
                return Err(wrong_shape(file, b_key, problem).into());
            }
        };
        Ok(Self {
            rank,
            d_in,
            d_out,
            layer: match orientation {
                Orientation::Usual | Orientation::Transposed => LayerKind::Linear,
                Orientation::Embedding | Orientation::TransposedEmbedding => LayerKind::Embedding,
            },
        })
    }

    /// A `[rank, channels, kernel…]` and B `[d_out, rank, 1…]`.
    fn of_convolution(file: &TensorFile, a_key: &str, b_key: &str) -> Result<Self, AdapterError> {
        let a = file.shape(a_key)?;
        let &[rank, channels, ref kernel @ ..] = a else {
            return Err(wrong_shape(file, a_key, "[rank, channels, kernel…]".to_owned()).into());
        };
        if kernel.len() > 3 {
            let expected = "[rank, channels, kernel…] with a kernel of up to 3 sizes";
            return Err(wrong_shape(file, a_key, expected.to_owned()).into());
        }
        let d_out = output_size(file, b_key, rank, kernel.len())?;
        Ok(Self {
            rank,
            // Fits: none of the sizes is 0, and A lies in a file of that length.
            d_in: channels * kernel.iter().product::<usize>(),
            d_out,
            layer: LayerKind::Convolution {
                kernel: kernel.to_vec(),
            },
        })
    }

    /// A `[inner, channels, 1…]`, a middle factor `[rank, inner, kernel…]` and B `[d_out, rank, 1…]`.
    fn around(
        file: &TensorFile,
        a_key: &str,
        middle_key: &str,
        b_key: &str,
    ) -> Result<Self, AdapterError> {
        let &[rank, inner, ref kernel @ ..] = file.shape(middle_key)? else {
            let expected = "[rank, rank, kernel…]".to_owned();
            return Err(wrong_shape(file, middle_key, expected).into());
        };
        let window = kernel
            .iter()
            .try_fold(1usize, |product, &size| product.checked_mul(size));
        let window = match window {
            Some(window) if rank > 0 && inner > 0 && (1..=LARGEST_WINDOW).contains(&window) => {
                window
            }
            _ => {
                let expected = format!("[rank, rank, kernel…], 1 to {LARGEST_WINDOW} in a kernel");
                return Err(wrong_shape(file, middle_key, expected).into());
            }
        };
        let channels = match file.shape(a_key)? {
            &[found, channels, ref rest @ ..]
                if found == inner && rest.len() == kernel.len() && is_one(rest) =>
            {
                channels
            }
            _ => {
                let expected = format!("[{inner}, channels, 1…], as lora_mid says");
                return Err(wrong_shape(file, a_key, expected).into());
            }
        };
        let d_out = output_size(file, b_key, rank, kernel.len())?;
        Ok(Self {
            rank,
            d_in: channels * window,
            d_out,
            layer: LayerKind::Convolution {
                kernel: kernel.to_vec(),
            },
        })
    }
}

/// d_out of B `[d_out, rank, 1…]`.
fn output_size(
    file: &TensorFile,
    key: &str,
    rank: usize,
    kernel: usize,
) -> Result<usize, AdapterError> {
    match file.shape(key)? {
        &[d_out, inner, ref rest @ ..] if inner == rank && rest.len() == kernel && is_one(rest) => {
            Ok(d_out)
        }
        _ => {
            let ones = ", 1".repeat(kernel);
            let expected = format!("[d_out, {rank}{ones}], as the other factor has rank {rank}");
            Err(wrong_shape(file, key, expected).into())
        }
    }
}

fn is_one(sizes: &[usize]) -> bool {
    sizes.iter().all(|&size| size == 1)
}

/// Two tensors of `file` that are one.
pub(crate) fn duplicate(file: &TensorFile, first: String, second: &str) -> AdapterError {
    AdapterError::DuplicateTensor {
        path: file.path().to_owned(),
        first,
        second: second.to_owned(),
    }
}

fn wrong_shape(file: &TensorFile, key: &str, expected: String) -> FileError {
    FileError::TensorShape {
        path: file.path().to_owned(),
        tensor: key.to_owned(),
        expected,
        found: file.shape(key).unwrap_or_default().to_owned(),
    }
}
