//! What carries the messages between processes.

use super::ProcessError;

/// Something like MPI, as seen from one process.
pub trait Transport: Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// The name of this machine.
    fn host(&self) -> String;

    /// Gives every process the bytes of all, one after the other in the order of their ranks. Every process
    /// calls it equally often.
    ///
    /// - own: as many bytes as `lengths` says
    /// - lengths: `[size]`, how many bytes each process gives, the same in all of them
    ///
    /// # Errors
    /// If they cannot be carried.
    fn gather(&self, own: &[u8], lengths: &[usize]) -> Result<Vec<u8>, ProcessError>;
}

/// Threads in the place of processes.
#[cfg(test)]
pub(crate) mod threads {
    use std::sync::{Barrier, Mutex};

    use super::*;
    use crate::processes::Processes;

    struct Table {
        barrier: Barrier,
        messages: Mutex<Vec<Vec<u8>>>,
    }

    struct Thread {
        rank: usize,
        table: std::sync::Arc<Table>,
    }

    impl Transport for Thread {
        fn rank(&self) -> usize {
            self.rank
        }

        fn size(&self) -> usize {
            self.table.messages.lock().unwrap().len()
        }

        fn host(&self) -> String {
            format!("node-{}", self.rank)
        }

        fn gather(&self, own: &[u8], lengths: &[usize]) -> Result<Vec<u8>, ProcessError> {
            let Table { barrier, messages } = &*self.table;
            messages.lock().unwrap()[self.rank] = own.to_vec();
            barrier.wait();
            let all = messages.lock().unwrap().clone();
            barrier.wait();
            let found: Vec<usize> = all.iter().map(Vec::len).collect();
            assert_eq!(found, lengths);
            Ok(all.concat())
        }
    }

    /// Runs `work` in as many threads at once, each as one of as many processes.
    pub(crate) fn run_together(size: usize, work: impl Fn(&Processes) + Sync) {
        let table = std::sync::Arc::new(Table {
            barrier: Barrier::new(size),
            messages: Mutex::new(vec![Vec::new(); size]),
        });
        std::thread::scope(|scope| {
            for rank in 0..size {
                let table = table.clone();
                let work = &work;
                scope.spawn(move || {
                    let thread = Thread { rank, table };
                    work(&Processes::over(Box::new(thread)).unwrap());
                });
            }
        });
    }
}
