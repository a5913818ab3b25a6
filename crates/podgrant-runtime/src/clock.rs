//! The only place where time is read, so that tests can turn it.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, from the system or from a test.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    pub fn system() -> Self {
        Self::from_fn(|| {
            #[expect(clippy::disallowed_methods, reason = "this is the clock")]
            let now = SystemTime::now();
            now.duration_since(UNIX_EPOCH)
                .ok()
                .and_then(|since| i64::try_from(since.as_millis()).ok())
                .unwrap_or_default()
        })
    }

    pub fn from_fn(now_millis: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_millis))
    }

    pub fn millis(&self) -> i64 {
        (self.0)()
    }

    pub fn seconds(&self) -> i64 {
        self.millis().div_euclid(1000)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.millis())
    }
}
