//! Whether a launcher of MPI started this process, and as one of how many.

use std::env;

/// What the environment says of the launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launcher {
    pub name: &'static str,
    /// How many processes it started; `None` where only MPI knows.
    pub size: Option<usize>,
    /// Which one this is.
    pub rank: Option<usize>,
}

/// The variables of a launcher: of the number of processes, and of the number of this one.
const LAUNCHERS: [(&str, &str, &str); 3] = [
    ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    // MPICH, Intel MPI, and `srun --mpi=pmi2`.
    ("mpiexec", "PMI_SIZE", "PMI_RANK"),
    // `srun --mpi=pmix` says no more than the rank; the number of tasks is Slurm's own.
    ("srun", "SLURM_STEP_NUM_TASKS", "PMIX_RANK"),
];

impl Launcher {
    /// The launcher of this process, if there is one.
    pub fn of_this_process() -> Option<Self> {
        Self::of(|name| env::var(name).ok())
    }

    /// Whether it started others too, as far as the environment says.
    pub fn has_others(self) -> bool {
        self.size.is_some_and(|size| size > 1)
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        LAUNCHERS.into_iter().find_map(|(name, size, rank)| {
            let rank = number(rank)?;
            Some(Self {
                name,
                size: number(size),
                rank: Some(rank),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Option<Launcher> {
        Launcher::of(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_launcher_is_known_by_the_rank_that_it_gives() {
        let (name, size, rank) = ("mpirun", Some(4), Some(2));
        let open_mpi = [
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("OMPI_COMM_WORLD_RANK", "2"),
            ("PMIX_RANK", "2"),
        ];
        assert_eq!(found(&open_mpi), Some(Launcher { name, size, rank }));
        let mpich = found(&[("PMI_RANK", "0"), ("PMI_SIZE", "8")]);
        assert_eq!(mpich.and_then(|found| found.size), Some(8));
        let slurm = found(&[("PMIX_RANK", "1"), ("SLURM_STEP_NUM_TASKS", "2")]);
        assert!(slurm.is_some_and(Launcher::has_others));
    }

    #[test]
    fn tasks_of_slurm_without_mpi_are_processes_of_their_own() {
        let array = [("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "8")];
        assert_eq!(found(&array), None);
        assert_eq!(found(&[]), None);
    }
}
