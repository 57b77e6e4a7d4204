//! Panics of other libraries on damaged files, which are errors here.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use ::parquet::errors::ParquetError;

thread_local! {
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// An error that can say that a file is damaged.
pub(crate) trait Damaged {
    fn damaged(words: String) -> Self;
}

impl Damaged for ParquetError {
    fn damaged(words: String) -> Self {
        Self::General(words)
    }
}

impl Damaged for tokenizers::Error {
    fn damaged(words: String) -> Self {
        words.into()
    }
}

/// What `read` gives; where a library panics in it, as that of parquet does on some damaged pages and
/// that of tokenizers on some damaged files, that is an error, and nobody is told of a panic.
///
/// # Errors
/// Those of `read`, and its panics. What `read` has changed must not be used after them.
pub(crate) fn contained<T, E: Damaged>(read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    static SILENCED: Once = Once::new();
    SILENCED.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if !IS_CONTAINED.try_with(Cell::get).unwrap_or(false) {
                usual(panicked);
            }
        }));
    });
    let before = IS_CONTAINED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(read));
    IS_CONTAINED.set(before);
    result.unwrap_or_else(|payload| Err(E::damaged(words(&*payload))))
}

fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or(payload.downcast_ref::<&str>().copied());
    format!(
        "the file is damaged ({})",
        text.unwrap_or("no more is known")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        let values: Vec<i32> = Vec::new();
        let index = values.len();
        let error = contained(|| Ok::<_, ParquetError>(values[index]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("the file is damaged"), "{error}");
        assert!(error.contains("index out of bounds"), "{error}");
        assert_eq!(contained(|| Ok::<_, ParquetError>(7)).unwrap(), 7);
    }
}
