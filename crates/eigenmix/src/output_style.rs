//! The dialect of an adapter that is written: its sources', or the one that was asked for.

use std::path::Path;

use eigenmix_adapter::{Dialect, Style};

use crate::adapter_argument::OpenedAdapter;
use crate::cli::FormatArguments;
use crate::failure::BadInput;

/// How what is made of `sources` is written to `out`.
///
/// # Errors
/// If the sources have several dialects and none was chosen, or `out` or a dtype does not go with it.
pub(crate) fn style_of_result(
    sources: &[&OpenedAdapter],
    arguments: FormatArguments,
    out: Option<&Path>,
) -> Result<Style, BadInput> {
    let styles: Vec<&Style> = sources.iter().map(|source| source.file.style()).collect();
    let dialect = arguments.format.map(Dialect::from);
    let style = Style::of_result(&styles, dialect).map_err(|[first, second]| {
        BadInput(format!(
            "the adapters are of several dialects, {first} and {second}; choose the one to write with --format"
        ))
    })?;
    checked(style, arguments, out)
}

/// How an unchanged `source` is written to `out`.
///
/// # Errors
/// If `out` or a dtype does not go with the dialect.
pub(crate) fn style_of_copy(
    source: &OpenedAdapter,
    arguments: FormatArguments,
    out: &Path,
) -> Result<Style, BadInput> {
    let style = source
        .file
        .style()
        .of_copy(arguments.format.map(Dialect::from));
    checked(style, arguments, Some(out))
}

fn checked(
    style: Style,
    arguments: FormatArguments,
    out: Option<&Path>,
) -> Result<Style, BadInput> {
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
    match arguments.dtype {
        None => Ok(style),
        Some(_) if dialect == Dialect::Peft => {
            let problem =
                "--dtype is for kohya, diffusers and mlx; PEFT adapters are written in f32";
            Err(BadInput(problem.to_owned()))
        }
        Some(dtype) => Ok(style.with_dtype(dtype.into())),
    }
}
