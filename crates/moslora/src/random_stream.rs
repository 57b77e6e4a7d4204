//! Independent random streams, by name.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A generator that depends on the seed and on what is drawn, by its names, and on nothing else:
/// the same experiment has the same initial values on every device, independently of what else it
/// draws.
pub fn random_stream(seed: u64, names: &[&str]) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(fnv_1a(names.join("\0").as_bytes()));
    random
}

fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn the_hash_is_that_of_the_reference() {
        // From the test vectors of the algorithm's authors.
        assert_eq!(fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn streams_differ_by_seed_and_by_every_name() {
        let first = |seed, names: &[&str]| random_stream(seed, names).random::<u64>();
        let found = first(1, &["layer", "left"]);
        assert_eq!(found, first(1, &["layer", "left"]));
        for (seed, names) in [
            (2, &["layer", "left"][..]),
            (1, &["layer", "right"]),
            (1, &["layerleft"]),
        ] {
            assert_ne!(found, first(seed, names));
        }
    }
}
