//! The names of GGUF files.

use std::path::Path;

/// Whether a path or a name is that of a GGUF file, in upper or lower case; what is there is not looked at.
///
/// ```
/// use eigenmix_gguf::is_gguf_name;
///
/// assert!(is_gguf_name("models/lora-F16.GGUF"));
/// assert!(!is_gguf_name("models/gguf") && !is_gguf_name("lora.gguf.txt"));
/// ```
pub fn is_gguf_name(name: impl AsRef<Path>) -> bool {
    let extension = name.as_ref().extension();
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}
