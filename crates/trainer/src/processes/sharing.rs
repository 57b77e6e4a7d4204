//! Work of many pieces, each done by one of the processes.

use super::{ProcessError, Processes};

impl Processes {
    /// Does each of `count` pieces of work in one of the processes, in turns, and gives the numbers that
    /// each piece gave to all: what a single process gets that does them one after the other.
    ///
    /// # Errors
    /// As `work`; and if another process has failed.
    pub fn share_out<E: From<ProcessError>>(
        &self,
        count: usize,
        mut work: impl FnMut(usize) -> Result<Vec<f64>, E>,
    ) -> Result<Vec<Vec<f64>>, E> {
        if self.is_alone() {
            return (0..count).map(work).collect();
        }
        let mut own = Vec::new();
        for piece in (self.rank()..count).step_by(self.size()) {
            let numbers = work(piece)?;
            own.extend_from_slice(&(numbers.len() as u64).to_le_bytes());
            for number in numbers {
                own.extend_from_slice(&number.to_le_bytes());
            }
        }
        let all = self.exchange(&own)?;
        let mut readers: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let mut pieces = Vec::with_capacity(count);
        for piece in 0..count {
            let rank = piece % self.size();
            let numbers = read(&mut readers[rank]);
            pieces.push(numbers.ok_or_else(|| self.malformed(rank))?);
        }
        Ok(pieces)
    }

    pub(crate) fn malformed(&self, rank: usize) -> ProcessError {
        ProcessError::Malformed {
            rank,
            host: self.host(rank).to_owned(),
        }
    }
}

/// The next list of numbers.
fn read(bytes: &mut &[u8]) -> Option<Vec<f64>> {
    let count = u64::from_le_bytes(*take(bytes)?);
    let count = usize::try_from(count).ok()?;
    if count > bytes.len() / size_of::<f64>() {
        return None;
    }
    (0..count)
        .map(|_| take(bytes).map(|found| f64::from_le_bytes(*found)))
        .collect()
}

/// The next bytes of a message.
pub(crate) fn take<'b, const N: usize>(bytes: &mut &'b [u8]) -> Option<&'b [u8; N]> {
    let (found, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::run_together;

    #[test]
    fn shared_work_gives_what_one_process_gets() {
        let work = |piece: usize| {
            let numbers = (0..piece % 4).map(|number| (piece as f64 + 0.1) / number as f64);
            Ok::<Vec<f64>, ProcessError>(numbers.collect())
        };
        for count in [0, 1, 7, 40] {
            let expected = Processes::alone().share_out(count, work).unwrap();
            run_together(3, |processes| {
                let mut done = 0;
                let found = processes.share_out(count, |piece| {
                    done += 1;
                    work(piece)
                });
                assert_eq!(found.unwrap(), expected);
                assert!(done <= count.div_ceil(3), "{done} of {count}");
            });
        }
    }

    #[test]
    fn a_message_that_is_too_short_is_no_list() {
        let mut bytes = &[3, 0, 0, 0, 0, 0, 0, 0, 1, 2][..];
        assert_eq!(read(&mut bytes), None);
        assert_eq!(read(&mut &[1, 0][..]), None);
    }
}
