//! How many calls AWS takes before it says no: token buckets, on Tokio's clock.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::calls::Call;

/// The limit of one service, in each region by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Calls a second that go on for ever.
    pub per_second: f64,
    /// Calls at once after a rest.
    pub burst: f64,
}

#[derive(Debug, Default)]
pub(super) struct Limits {
    by_service: BTreeMap<String, RateLimit>,
    buckets: BTreeMap<(String, String), Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Limits {
    pub fn set(&mut self, service: &str, limit: RateLimit) {
        self.by_service.insert(service.to_owned(), limit);
        self.buckets.retain(|(of, _), _| of != service);
    }

    /// Whether there is room for a call now; if so it is taken. A call that is refused costs nothing, as with EC2's
    /// documented buckets (EC2 API reference, "Request throttling"); EKS and IAM document none.
    pub fn admits(&mut self, call: &Call) -> bool {
        let Some(limit) = self.by_service.get(&call.service) else { return true };
        let now = Instant::now();
        let bucket = self.buckets.entry((call.service.clone(), call.region.clone()));
        let bucket = bucket.or_insert(Bucket { tokens: limit.burst, filled: now });
        let passed = now.duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * limit.per_second).min(limit.burst);
        bucket.filled = now;
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }
}
