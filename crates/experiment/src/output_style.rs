//! The dialect of an adapter that is written: that of its sources, or the requested one.

use std::path::Path;

use eigenmix_adapter::{Dialect, Style};
use eigenmix_tensors::Dtype;

use crate::BadInput;
use crate::opened_adapter::OpenedAdapter;
use crate::option_names::OptionNames;

/// The requested form of an adapter that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputFormat {
    /// The dialect. Default: that of the sources.
    pub dialect: Option<Dialect>,
    /// kohya, diffusers, mlx: the dtype of the factors. Default: that of the file if it is exact,
    /// otherwise f32.
    pub dtype: Option<Dtype>,
}

/// The style in which a result made from `sources` is written to `out`.
///
/// - names: how messages name the options of the request
///
/// # Errors
/// If the sources have several dialects and none was chosen, or `out` or a dtype does not fit it.
pub fn style_of_result(
    sources: &[&OpenedAdapter],
    format: OutputFormat,
    out: Option<&Path>,
    names: OptionNames,
) -> Result<Style, BadInput> {
    let styles: Vec<&Style> = sources.iter().map(|source| source.file.style()).collect();
    let dialect = format.dialect;
    let style = Style::of_result(&styles, dialect).map_err(|[first, second]| {
        let remedy = match names {
            OptionNames::Flags => "choose the one to write with --format",
            // Files have no such key.
            OptionNames::Keys => "bring them to one with `eigenmix export ADAPTER --format`",
        };
        BadInput(format!(
            "the adapters are of several dialects, {first} and {second}; {remedy}"
        ))
    })?;
    checked(style, format, out)
}

/// The style in which an unchanged `source` is written to `out`.
///
/// # Errors
/// If `out` or a dtype does not fit the dialect.
pub fn style_of_copy(
    source: &OpenedAdapter,
    format: OutputFormat,
    out: &Path,
) -> Result<Style, BadInput> {
    let style = source.file.style().of_copy(format.dialect);
    checked(style, format, Some(out))
}

fn checked(style: Style, format: OutputFormat, out: Option<&Path>) -> Result<Style, BadInput> {
    let dialect = style.dialect();
    let names_file = out
        .and_then(Path::extension)
        .is_some_and(|found| found == "safetensors");
    if names_file && !dialect.is_one_file() {
        let problem = format!(
            "--out names a file, but an adapter of {dialect} is a directory; leave out .safetensors, or choose --format kohya or diffusers"
        );
        return Err(BadInput(problem));
    }
    match format.dtype {
        None => Ok(style),
        Some(_) if dialect == Dialect::Peft => {
            let problem =
                "--dtype is for kohya, diffusers and mlx; PEFT adapters are written in f32";
            Err(BadInput(problem.to_owned()))
        }
        Some(dtype) => Ok(style.with_dtype(dtype)),
    }
}
