//! The processes that share one training: one alone, or as many as `mpirun` or `srun` started.
//!
//! Everything they tell each other goes through [`Processes::exchange`]: every process gives some bytes and
//! gets those of all, in the order of their ranks. What is computed from them is then the same everywhere,
//! to the bit, whatever MPI carries them. An exchange also tells who failed, so that nobody waits for a
//! process that has nothing to give any more.

mod error;
mod launcher;
#[cfg(feature = "mpi")]
mod mpi;
mod sharing;
mod transport;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

pub use error::ProcessError;
pub use launcher::Launcher;
pub use transport::Transport;

pub(crate) use sharing::take;
#[cfg(test)]
pub(crate) use transport::threads::run_together;

/// Bytes that every process gives in the first round of an exchange: what is short needs no second one.
const FRAME: usize = 256;
/// Of them: what the message is, and its length.
const HEADER: usize = 1 + size_of::<u64>();
/// The most bytes that one round brings to a process; MPI counts them in 31 bits.
const ROUND: usize = 1 << 30;

/// What a message is.
const GIVEN: u8 = 0;
const FAILED: u8 = 1;

/// The processes of a training, seen from one of them.
pub struct Processes {
    /// `None` of one that is alone.
    transport: Option<Box<dyn Transport>>,
    /// The machine of every process.
    hosts: Vec<String>,
    /// Whether all of them know that one has failed.
    is_known: AtomicBool,
    traffic: Mutex<Traffic>,
}

/// What exchanges took so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Bytes that this process gave to each of the others.
    pub bytes: u64,
    /// Seconds until the others were there, each with the beginning of its message.
    pub waiting: f64,
    /// Seconds in which the rest of the messages came.
    pub moving: f64,
}

impl Processes {
    /// A process of its own, as almost every training is.
    pub fn alone() -> Self {
        Self {
            transport: None,
            hosts: vec![String::new()],
            is_known: AtomicBool::new(false),
            traffic: Mutex::default(),
        }
    }

    /// The processes that `mpirun` or `srun` started together with this one; alone, if nothing of the kind
    /// did. To be called once, by the thread that trains.
    ///
    /// # Errors
    /// If this build has no MPI, and there are others.
    pub fn open() -> Result<Self, ProcessError> {
        let Some(launcher) = Launcher::of_this_process() else {
            return Ok(Self::alone());
        };
        #[cfg(feature = "mpi")]
        {
            let _ = launcher;
            Self::over(Box::new(mpi::Mpi::open()?))
        }
        #[cfg(not(feature = "mpi"))]
        match launcher.size {
            Some(2..) => Err(ProcessError::NotBuilt {
                launcher: launcher.name,
                size: launcher.size,
            }),
            // Of how many this is one, only MPI could tell; it is not the only one.
            None if launcher.rank.is_some_and(|rank| rank > 0) => Err(ProcessError::NotBuilt {
                launcher: launcher.name,
                size: None,
            }),
            _ => Ok(Self::alone()),
        }
    }

    /// Processes that talk over something else than MPI.
    ///
    /// # Errors
    /// If they do not reach each other.
    pub fn over(transport: Box<dyn Transport>) -> Result<Self, ProcessError> {
        let own = transport.host();
        let mut processes = Self {
            transport: Some(transport),
            ..Self::alone()
        };
        let hosts = processes.exchange(own.as_bytes())?;
        let name = |host: Vec<u8>| String::from_utf8_lossy(&host).into_owned();
        processes.hosts = hosts.into_iter().map(name).collect();
        Ok(processes)
    }

    /// The number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.transport.as_ref().map_or(0, |it| it.rank())
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.transport.as_ref().map_or(1, |it| it.size())
    }

    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// Whether this is the one that writes files and talks to the user.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The machine of a process.
    pub fn host(&self, rank: usize) -> &str {
        self.hosts.get(rank).map_or("", String::as_str)
    }

    /// The number of this process among those of its machine.
    pub fn local_rank(&self) -> usize {
        let before = &self.hosts[..self.rank()];
        let own = self.host(self.rank());
        before.iter().filter(|host| *host == own).count()
    }

    /// The share of this process of `count` pieces of work that are numbered through in the order of the
    /// processes.
    pub fn part(&self, count: usize) -> Range<usize> {
        self.part_of(self.rank(), count)
    }

    /// The same of another process.
    pub fn part_of(&self, rank: usize, count: usize) -> Range<usize> {
        let begin = |rank: usize| count * rank / self.size();
        begin(rank)..begin(rank + 1)
    }

    /// Gives every process the bytes of all, by their ranks. All of them have to call it equally often.
    ///
    /// # Errors
    /// If one of them has failed, with what it said.
    pub fn exchange(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, ProcessError> {
        match &self.transport {
            Some(transport) => self.round(&**transport, GIVEN, own),
            None => Ok(vec![own.to_vec()]),
        }
    }

    /// Gives every process what the first one makes.
    ///
    /// # Errors
    /// As `make`, and as [`Processes::exchange`].
    pub fn from_first<E: From<ProcessError>>(
        &self,
        make: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let own = match self.is_first() {
            true => make()?,
            false => Vec::new(),
        };
        Ok(self.exchange(&own)?.swap_remove(0))
    }

    /// What the first one finds to be so: files that it writes may not be there yet for others, or already.
    ///
    /// # Errors
    /// As [`Processes::exchange`].
    pub fn as_first_finds(&self, is_so: impl FnOnce() -> bool) -> Result<bool, ProcessError> {
        let answer = self.from_first(|| Ok::<_, ProcessError>(vec![u8::from(is_so())]))?;
        Ok(answer == [1])
    }

    /// The sum of what every process counted.
    ///
    /// # Errors
    /// As [`Processes::exchange`].
    pub fn sum(&self, own: usize) -> Result<usize, ProcessError> {
        let all = self.exchange(&(own as u64).to_le_bytes())?;
        let counts = all.iter().map(|count| {
            let count = count.as_slice().try_into();
            count.map_or(0, u64::from_le_bytes) as usize
        });
        Ok(counts.sum())
    }

    /// Waits until all have come this far.
    ///
    /// # Errors
    /// As [`Processes::exchange`].
    pub fn meet(&self) -> Result<(), ProcessError> {
        self.exchange(&[]).map(drop)
    }

    /// Tells the others, in the exchange that they are in or come to, that this process has failed. Does
    /// nothing where they know that one has.
    pub fn announce(&self, problem: &str) {
        let Some(transport) = &self.transport else {
            return;
        };
        if !self.is_known.load(Ordering::Relaxed) {
            // It fails, as it is to do.
            let _ = self.round(&**transport, FAILED, problem.as_bytes());
        }
    }

    /// Goes on after a failure of which all know, as an experiment does with its next cell.
    pub fn go_on(&self) {
        self.is_known.store(false, Ordering::Relaxed);
    }

    /// Checks that every process has the same values as the first.
    ///
    /// - values: by what they are
    ///
    /// # Errors
    /// The first difference, the same one in every process.
    pub fn require_same(&self, values: &[(&'static str, String)]) -> Result<(), ProcessError> {
        let mut own = String::new();
        for (_, value) in values {
            own.push_str(value);
            own.push('\0');
        }
        let all = self.exchange(own.as_bytes())?;
        let first = String::from_utf8_lossy(&all[0]).into_owned();
        for (rank, found) in all.iter().enumerate().skip(1) {
            let found = String::from_utf8_lossy(found).into_owned();
            let pairs = first.split('\0').zip(found.split('\0'));
            let differing = pairs.zip(values).find(|((first, found), _)| first != found);
            if let Some(((first, found), (what, _))) = differing {
                self.is_known.store(true, Ordering::Relaxed);
                let line = error::first_difference(first, found);
                return Err(ProcessError::Different {
                    rank,
                    host: self.host(rank).to_owned(),
                    what,
                    first: line.0,
                    found: line.1,
                });
            }
        }
        Ok(())
    }

    /// What exchanges took so far.
    pub fn traffic(&self) -> Traffic {
        *self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn round(
        &self,
        transport: &dyn Transport,
        kind: u8,
        own: &[u8],
    ) -> Result<Vec<Vec<u8>>, ProcessError> {
        let size = transport.size();
        let (begin, rest) = own.split_at(own.len().min(FRAME - HEADER));
        let mut frame = [0; FRAME];
        frame[0] = kind;
        frame[1..HEADER].copy_from_slice(&(own.len() as u64).to_le_bytes());
        frame[HEADER..][..begin.len()].copy_from_slice(begin);
        let started = Instant::now();
        let frames = transport.gather(&frame, &vec![FRAME; size])?;
        let waited = started.elapsed().as_secs_f64();
        let (mut kinds, mut messages, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        for frame in frames.chunks_exact(FRAME) {
            let length = frame[1..HEADER].try_into().map_or(0, u64::from_le_bytes);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let begin = &frame[HEADER..][..length.min(FRAME - HEADER)];
            kinds.push(frame[0]);
            messages.push(begin.to_vec());
            lengths.push(length);
        }
        let started = Instant::now();
        let mut given = 0;
        loop {
            let most = ROUND / size;
            let left = |(message, length): (&Vec<u8>, &usize)| length - message.len();
            let counts: Vec<usize> = messages.iter().zip(&lengths).map(left).collect();
            let counts: Vec<usize> = counts.into_iter().map(|left| left.min(most)).collect();
            if counts.iter().all(|count| *count == 0) {
                break;
            }
            let count = counts[transport.rank()];
            let found = transport.gather(&rest[given..][..count], &counts)?;
            given += count;
            let mut place = 0;
            for (message, count) in messages.iter_mut().zip(&counts) {
                message.extend_from_slice(&found[place..][..*count]);
                place += count;
            }
        }
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        traffic.bytes += (FRAME + rest.len()) as u64;
        traffic.waiting += waited;
        traffic.moving += started.elapsed().as_secs_f64();
        let Some(rank) = kinds.iter().position(|kind| *kind == FAILED) else {
            return Ok(messages);
        };
        self.is_known.store(true, Ordering::Relaxed);
        Err(ProcessError::Failed {
            rank,
            host: self.host(rank).to_owned(),
            problem: String::from_utf8_lossy(&messages[rank]).into_owned(),
        })
    }
}

impl Traffic {
    /// What was added since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            bytes: self.bytes - earlier.bytes,
            waiting: self.waiting - earlier.waiting,
            moving: self.moving - earlier.moving,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of no period that messages of other processes have.
    fn message(rank: usize, length: usize) -> Vec<u8> {
        (0..length)
            .map(|place| (place * (rank + 3) % 251) as u8)
            .collect()
    }

    #[test]
    fn every_process_gets_the_bytes_of_all_in_the_order_of_their_ranks() {
        let lengths = [0, 1, FRAME - HEADER, FRAME - HEADER + 1, 5000];
        run_together(5, |processes| {
            for turn in 0..5 {
                let length = |rank: usize| lengths[(rank + turn) % 5];
                let rank = processes.rank();
                let found = processes.exchange(&message(rank, length(rank))).unwrap();
                for (rank, found) in found.iter().enumerate() {
                    assert_eq!(*found, message(rank, length(rank)), "{rank}, {turn}");
                }
            }
        });
    }

    #[test]
    fn a_process_that_fails_is_named_in_the_exchange_that_the_others_come_to() {
        run_together(3, |processes| {
            assert_eq!(processes.exchange(&[7]).unwrap(), [[7], [7], [7]]);
            if processes.rank() == 1 {
                processes.announce("the disk is full");
            } else {
                let error = processes.meet().unwrap_err().to_string();
                assert_eq!(error, "process 1 on `node-1` failed: the disk is full");
            }
            // All of them know: nothing more is told, and the next work begins.
            processes.announce("the same");
            processes.go_on();
            assert_eq!(processes.exchange(&[]).unwrap().len(), 3);
        });
    }

    #[test]
    fn a_difference_is_named_with_the_process_that_has_it_and_what_differs() {
        run_together(3, |processes| {
            let seed = if processes.rank() == 2 { 4 } else { 3 };
            let file = format!("output = \"o\"\nseed = {seed}\nepochs = 2");
            let same = ("the version", "0.1.0".to_owned());
            assert!(processes.require_same(std::slice::from_ref(&same)).is_ok());
            let error = processes.require_same(&[same, ("the training file", file)]);
            assert_eq!(
                error.unwrap_err().to_string(),
                "the training file is not the same in all processes: `seed = 4` in process 2 on \
                 `node-2`, `seed = 3` in process 0"
            );
        });
    }

    #[test]
    fn what_the_first_process_finds_holds_for_all() {
        run_together(2, |processes| {
            let is_first = processes.is_first();
            assert!(processes.as_first_finds(|| is_first).unwrap());
            assert!(!processes.as_first_finds(|| !is_first).unwrap());
            let failed = processes.from_first(|| {
                Err::<Vec<u8>, _>(ProcessError::Mpi {
                    operation: "read",
                    code: 5,
                })
            });
            let error = failed.unwrap_err();
            if is_first {
                processes.announce(&error.to_string());
            } else {
                assert!(matches!(error, ProcessError::Failed { rank: 0, .. }));
            }
        });
    }

    #[test]
    fn the_parts_of_the_processes_follow_each_other() {
        run_together(3, |processes| {
            for count in 0..10 {
                let parts = (0..3).flat_map(|rank| processes.part_of(rank, count));
                assert!(parts.eq(0..count));
                let size = processes.part(count).len();
                assert!(size == count / 3 || size == count.div_ceil(3));
            }
        });
    }

    #[test]
    fn one_alone_exchanges_with_itself() {
        let alone = Processes::alone();
        assert!(alone.is_first() && alone.is_alone());
        assert_eq!(alone.exchange(&[1, 2]).unwrap(), [[1, 2]]);
        assert_eq!(alone.part(5), 0..5);
        alone.announce("nobody hears it");
        assert!(alone.meet().is_ok());
        assert_eq!(alone.traffic(), Traffic::default());
    }
}
