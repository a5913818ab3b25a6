//! All that a command meets outside itself, so that tests can be it.

use std::io::{BufRead, Write};
use std::time::Duration;

use futures_util::future::BoxFuture;
use podgrant_aws::{Lookout, Onlooker, SdkConfig};
use podgrant_runtime::Clock;

/// Where a command runs.
pub struct Surroundings<'a> {
    pub streams: Streams<'a>,
    pub outside: Outside<'a>,
}

/// The standard streams.
pub struct Streams<'a> {
    pub out: &'a mut dyn Write,
    pub errors: &'a mut dyn Write,
    /// What a person types.
    pub answers: &'a mut dyn BufRead,
    pub terminal: Terminal,
}

/// Which of the standard streams a person sits at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terminal {
    pub input: bool,
    pub out: bool,
    pub errors: bool,
}

/// All else.
pub struct Outside<'a> {
    /// The environment's variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    pub clock: Clock,
    /// The SDK's configuration, of a profile where one is named.
    pub sdk: &'a dyn Fn(Option<String>) -> BoxFuture<'static, SdkConfig>,
    /// The way into clusters' Kubernetes APIs, if there is one.
    pub lookout: Option<Lookout>,
    /// The way to look at pods and service accounts there, with this person's rights, if there is one.
    pub onlooker: Option<Onlooker>,
    /// Whether the person wants it to end.
    pub interrupted: &'a dyn Fn() -> bool,
    /// Waits.
    pub pause: &'a dyn Fn(Duration) -> BoxFuture<'static, ()>,
}
