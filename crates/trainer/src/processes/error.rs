//! Why processes can't go on together.

/// The same in every process but the one that failed, which has the error itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    #[error(
        "this is one of {} of `{launcher}`, and this build has no MPI; build it with `cargo build --release --features mpi`",
        number(*.size)
    )]
    NotBuilt {
        launcher: &'static str,
        /// `None` where only MPI knows.
        size: Option<usize>,
    },

    #[error("process {rank}{} failed: {problem}", on(.host))]
    Failed {
        rank: usize,
        host: String,
        problem: String,
    },

    #[error(
        "{what} is not the same in all processes: `{found}` in process {rank}{}, `{first}` in process 0",
        on(.host)
    )]
    Different {
        rank: usize,
        host: String,
        what: &'static str,
        first: String,
        found: String,
    },

    #[error("MPI cannot {operation} (code {code})")]
    Mpi { operation: &'static str, code: i32 },

    #[error("process {rank}{} sent what no process of this version sends", on(.host))]
    Malformed { rank: usize, host: String },
}

fn on(host: &str) -> String {
    match host {
        "" => String::new(),
        host => format!(" on `{host}`"),
    }
}

/// The first line in which two texts differ, of each.
pub(super) fn first_difference(first: &str, found: &str) -> (String, String) {
    let (mut first, mut found) = (first.lines(), found.lines());
    loop {
        let pair = (first.next(), found.next());
        if pair.0 != pair.1 || pair.0.is_none() {
            let line = |line: Option<&str>| line.unwrap_or("nothing").trim().to_owned();
            return (line(pair.0), line(pair.1));
        }
    }
}

fn number(size: Option<usize>) -> String {
    match size {
        Some(size) => format!("{size} processes"),
        None => "several processes".to_owned(),
    }
}
