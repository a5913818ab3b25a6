//! The time of Tokio's clock, which a test or a simulation may pause, for the SDK.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_async::time::TimeSource;
use tokio::time::Instant;

/// A time source that goes as Tokio's clock goes.
#[derive(Debug, Clone, Copy)]
pub struct VirtualTime {
    at_start: Duration,
    started: Instant,
}

impl VirtualTime {
    /// From this second since 1970 on.
    pub fn from(seconds: u64) -> Self {
        Self { at_start: Duration::from_secs(seconds), started: Instant::now() }
    }

    /// Time since 1970.
    pub fn since_1970(&self) -> Duration {
        self.at_start + self.started.elapsed()
    }
}

impl TimeSource for VirtualTime {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + self.since_1970()
    }
}
