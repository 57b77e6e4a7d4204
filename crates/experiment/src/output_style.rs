//! The dialect of an adapter that is written: that of its sources, or the requested one.

use std::path::Path;

use eigenmix_adapter::{AdapterError, Dialect, GgufBase, Style};
use eigenmix_gguf::is_gguf_name;
use eigenmix_tensors::Dtype;

use crate::BadInput;
use crate::opened_adapter::OpenedAdapter;
use crate::option_names::OptionNames;

/// The requested form of an adapter that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputFormat {
    /// The dialect. Default: that of the sources.
    pub dialect: Option<Dialect>,
    /// kohya, diffusers, mlx, gguf: the dtype of the factors. Default: that of the file if it is exact,
    /// otherwise f32.
    pub dtype: Option<Dtype>,
    /// gguf: the base model, if the sources do not say it.
    pub gguf: Option<GgufBase>,
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
    let dialect = format.dialect.or_else(|| unasked(&styles, out));
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
    let style = source.file.style();
    let dialect = format.dialect.or_else(|| unasked(&[style], Some(out)));
    let style = style.of_copy(dialect);
    checked(style, format, Some(out))
}

/// The dialect where none is asked for and that of the sources does not go with the output: what was read
/// from GGUF files is a PEFT adapter, unless the output is such a file.
fn unasked(styles: &[&Style], out: Option<&Path>) -> Option<Dialect> {
    let is_gguf = styles.iter().all(|style| style.dialect() == Dialect::Gguf);
    (is_gguf && !out.is_some_and(|out| ends_in(out, "gguf"))).then_some(Dialect::Peft)
}

fn ends_in(path: &Path, extension: &str) -> bool {
    match extension {
        "gguf" => is_gguf_name(path),
        _ => path.extension().is_some_and(|found| found == extension),
    }
}

fn checked(style: Style, format: OutputFormat, out: Option<&Path>) -> Result<Style, BadInput> {
    let style = match format.gguf {
        Some(base) => style.for_base(base),
        None => style,
    };
    let dialect = style.dialect();
    let refuse = |problem: String| Err(BadInput(problem));
    let own = dialect.extension();
    for (extension, formats) in [("safetensors", "kohya or diffusers"), ("gguf", "gguf")] {
        let names_file = out.is_some_and(|out| ends_in(out, extension));
        if names_file && own != Some(extension) {
            let form = match own {
                None => "a directory".to_owned(),
                Some(own) => format!("a .{own} file"),
            };
            return refuse(format!(
                "--out names a .{extension} file, but an adapter of {dialect} is {form}; choose another name, or --format {formats}"
            ));
        }
    }
    if dialect == Dialect::Gguf {
        if !out.is_some_and(|out| ends_in(out, "gguf")) {
            let problem = "an adapter in GGUF is one file; --out must name it, as FILE.gguf";
            return refuse(problem.to_owned());
        }
        if style.gguf_base().is_none() {
            return refuse(AdapterError::NoGgufBase.to_string());
        }
    }
    match format.dtype {
        None => Ok(style),
        Some(_) if dialect == Dialect::Peft => {
            let problem =
                "--dtype is for kohya, diffusers, mlx and gguf; PEFT adapters are written in f32";
            Err(BadInput(problem.to_owned()))
        }
        Some(dtype) => Ok(style.with_dtype(dtype)),
    }
}
