//! Access to a fake Hub as a test has it: a cache of its own, and no waiting between attempts.

use std::path::Path;
use std::time::Duration;

use eigenmix_hub::{Hub, HubId};

use super::FakeHub;

/// Access without a token, with a cache below `place`.
pub fn hub(server: &FakeHub, place: &Path) -> Hub {
    hub_with(server, place, None)
}

pub fn hub_with(server: &FakeHub, place: &Path, token: Option<&str>) -> Hub {
    let cache = place.join("cache");
    let token = token.map(str::to_owned);
    Hub::with_pause(&server.endpoint, &cache, token, Duration::ZERO)
}

pub fn id(text: &str) -> HubId {
    HubId::parse(text).expect("a Hub id")
}
