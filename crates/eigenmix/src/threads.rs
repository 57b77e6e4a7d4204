//! How many threads compute.

use std::num::NonZeroUsize;

use eigenmix_trainer::{ProcessError, Processes};

/// Sets the number of threads for everything that computes in parallel. Without one, each of several
/// processes on a machine takes its share of the processors that it may run on.
///
/// # Errors
/// If the threads can't be started, or another process has failed.
pub(crate) fn set(threads: Option<NonZeroUsize>, processes: &Processes) -> anyhow::Result<()> {
    let shared = match processes.is_alone() {
        true => None,
        false => Some(own_share(processes)?),
    };
    if let Some(threads) = threads.map(NonZeroUsize::get).or(shared) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global()?;
    }
    Ok(())
}

/// The sum over the processors of this process of one by the number of processes that may run on it too.
fn own_share(processes: &Processes) -> Result<usize, ProcessError> {
    let masks = processes.exchange(&processors())?;
    let own = processes.host(processes.rank());
    let here = (0..processes.size()).filter(|rank| processes.host(*rank) == own);
    let here: Vec<&[u8]> = here.map(|rank| masks[rank].as_slice()).collect();
    let most = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Ok(share(&masks[processes.rank()], &here).min(most))
}

/// - own: a bit for each processor that the process may run on
/// - all: the same of all processes of the machine, this one among them
fn share(own: &[u8], all: &[&[u8]]) -> usize {
    let has = |mask: &[u8], bit: usize| {
        mask.get(bit / 8)
            .is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    };
    let bits = (0..own.len() * 8).filter(|bit| has(own, *bit));
    let parts = bits.map(|bit| {
        let sharing = all.iter().filter(|mask| has(mask, bit)).count();
        1.0 / sharing.max(1) as f64
    });
    // A sum of equal parts may be an ulp short.
    ((parts.sum::<f64>() + 1e-6) as usize).max(1)
}

/// A bit for each processor that this process may run on.
#[cfg(target_os = "linux")]
fn processors() -> Vec<u8> {
    let mut set = [0u8; size_of::<libc::cpu_set_t>()];
    // SAFETY: the call writes no more than as many bytes as it is told.
    let code = unsafe { libc::sched_getaffinity(0, set.len(), set.as_mut_ptr().cast()) };
    match code {
        0 => set.to_vec(),
        _ => all_processors(),
    }
}

#[cfg(not(target_os = "linux"))]
fn processors() -> Vec<u8> {
    all_processors()
}

fn all_processors() -> Vec<u8> {
    let count = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let byte = |byte: usize| {
        let bits = count.saturating_sub(byte * 8).min(8);
        ((1u16 << bits) - 1) as u8
    };
    (0..count.div_ceil(8)).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_are_bound_keep_their_processors_and_others_share_them() {
        let (low, high, all) = ([0x0f], [0xf0], [0xff]);
        assert_eq!(share(&low, &[&low, &high]), 4);
        assert_eq!(share(&all, &[&all, &all]), 4);
        assert_eq!(share(&all, &[&all, &all, &all]), 2);
        assert_eq!(share(&[1], &[&[1], &[1], &[1]]), 1);
        assert_eq!(share(&all, &[&all, &low]), 6);
        assert!(share(&all_processors(), &[&processors()]) > 0);
    }
}
