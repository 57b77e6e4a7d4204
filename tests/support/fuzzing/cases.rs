//! How many cases a test of readers tries: some hundred, the same every time; or, where
//! EIGENMIX_FUZZ_SECONDS says so, others for that long.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// Runs `test` on cases of `strategy`, and says on how many.
///
/// - usual: how many they are in a usual run
///
/// # Panics
/// When a case fails: with the smallest one that does.
pub fn run<S: Strategy>(
    name: &str,
    usual: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> u64 {
    let seconds = std::env::var("EIGENMIX_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("EIGENMIX_FUZZ_SECONDS is a number"));
    let config = Config {
        cases: usual,
        failure_persistence: None,
        ..Config::default()
    };
    let (start, mut rounds) = (Instant::now(), 0);
    loop {
        let mut runner = match seconds {
            // The same cases every time.
            None => {
                let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
                TestRunner::new_with_rng(config.clone(), random)
            }
            Some(_) => TestRunner::new(config.clone()),
        };
        if let Err(error) = runner.run(strategy, &test) {
            match error {
                TestError::Fail(reason, case) => panic!("{name}: {reason}: {case:#?}"),
                TestError::Abort(reason) => panic!("{name}: {reason}"),
            }
        }
        rounds += 1;
        let is_over = |seconds| start.elapsed() >= Duration::from_secs(seconds);
        if seconds.is_none_or(is_over) {
            return rounds * u64::from(usual);
        }
    }
}
