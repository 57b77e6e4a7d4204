//! Messages over MPI, through the bindings of the crate `mpi-sys`.

use std::ffi::{c_char, c_int};
use std::ptr::null_mut;

use mpi_sys as ffi;

use super::{ProcessError, Transport};

/// This process among all that the launcher started (`MPI_COMM_WORLD`).
pub(super) struct Mpi {
    rank: usize,
    size: usize,
}

impl Mpi {
    /// Joins the others. MPI is initialised once in the life of a process.
    ///
    /// # Errors
    /// If MPI can't be initialised.
    pub fn open() -> Result<Self, ProcessError> {
        let (mut provided, mut rank, mut size) = (0, 0, 0);
        // SAFETY: MPI accepts null pointers for the arguments of the program, and writes one number to each
        // of the others. Only the thread that called this calls MPI ("funneled").
        unsafe {
            let funneled = ffi::RSMPI_THREAD_FUNNELED;
            let code = ffi::MPI_Init_thread(null_mut(), null_mut(), funneled, &raw mut provided);
            check("be initialised", code)?;
            if provided < funneled {
                return Err(ProcessError::Mpi {
                    operation: "be used by a program with threads",
                    code: provided,
                });
            }
            let code = ffi::MPI_Comm_rank(ffi::RSMPI_COMM_WORLD, &raw mut rank);
            check("tell the rank", code)?;
            let code = ffi::MPI_Comm_size(ffi::RSMPI_COMM_WORLD, &raw mut size);
            check("tell the number of processes", code)?;
        }
        Ok(Self {
            rank: rank as usize,
            size: size as usize,
        })
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn host(&self) -> String {
        let mut length = 0;
        // SAFETY: a constant that MPI sets.
        let most = unsafe { ffi::RSMPI_MAX_PROCESSOR_NAME };
        let mut name = vec![0u8; most as usize + 1];
        // SAFETY: MPI writes at most as many bytes as the constant says, and their number.
        unsafe {
            ffi::MPI_Get_processor_name(name.as_mut_ptr().cast::<c_char>(), &raw mut length);
        }
        name.truncate(usize::try_from(length).unwrap_or(0));
        String::from_utf8_lossy(&name).into_owned()
    }

    fn gather(&self, own: &[u8], lengths: &[usize]) -> Result<Vec<u8>, ProcessError> {
        let too_long = |_| ProcessError::Mpi {
            operation: "carry as many bytes at once",
            code: c_int::MAX,
        };
        let (mut counts, mut places) = (Vec::new(), Vec::new());
        let mut total = 0;
        for length in lengths {
            counts.push(c_int::try_from(*length).map_err(too_long)?);
            places.push(c_int::try_from(total).map_err(too_long)?);
            total += length;
        }
        assert!(lengths.len() == self.size && lengths[self.rank] == own.len());
        let mut all = vec![0u8; total];
        // SAFETY: `own` has as many bytes as `counts` says of this rank, `all` as many as all counts together,
        // and every count begins where the one before it ends.
        let code = unsafe {
            ffi::MPI_Allgatherv(
                own.as_ptr().cast(),
                counts[self.rank],
                ffi::RSMPI_UINT8_T,
                all.as_mut_ptr().cast(),
                counts.as_ptr(),
                places.as_ptr(),
                ffi::RSMPI_UINT8_T,
                ffi::RSMPI_COMM_WORLD,
            )
        };
        check("gather", code)?;
        Ok(all)
    }
}

impl Drop for Mpi {
    /// Leaves the others, which is the last thing that MPI does here. A process that panics ends them.
    fn drop(&mut self) {
        const PANICKED: c_int = 101;
        // SAFETY: MPI was initialised, and nothing of it is used afterwards.
        unsafe {
            match std::thread::panicking() {
                true => ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, PANICKED),
                false => ffi::MPI_Finalize(),
            };
        }
    }
}

fn check(operation: &'static str, code: c_int) -> Result<(), ProcessError> {
    match code {
        0 => Ok(()),
        code => Err(ProcessError::Mpi { operation, code }),
    }
}
