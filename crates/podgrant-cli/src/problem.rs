//! What went wrong, and what a person can do about it.

use podgrant_aws::{AwsError, Meaning};
use podgrant_runtime::ConfigError;
use serde::Serialize;

use crate::exit::Exit;

/// Why a command ends without having done what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub message: String,
    /// What to do about it; empty where the message says it.
    pub remedy: String,
    #[serde(skip)]
    pub exit: Exit,
}

impl Problem {
    pub fn failed(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into(), exit: Exit::Failed }
    }

    pub fn usage(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::failed(message, remedy) }
    }

    /// One for whoever has this profile.
    pub fn of_aws(error: &AwsError, profile: Option<&str>) -> Self {
        let with_profile = profile.map(|name| format!(" --profile {name}")).unwrap_or_default();
        let log_in = format!("aws sso login{with_profile}");
        match error.meaning {
            Meaning::NoCredentials => Self::failed(
                format!("no AWS credentials: {}", error.message),
                format!(
                    "log in ({log_in}), name a profile that can (--profile), or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                ),
            ),
            Meaning::BadCredentials => Self::failed(
                format!("AWS does not take the credentials: {error}"),
                format!(
                    "log in again ({log_in}), or get new ones; a region that the account did not enable refuses them too"
                ),
            ),
            Meaning::AccessDenied => Self::failed(
                format!("not allowed: {error}"),
                format!(
                    "whoever runs this needs {}; docs/cli.md lists the actions of each command",
                    error.operation
                ),
            ),
            Meaning::Unreachable => Self::failed(
                format!("no answer: {error}"),
                "see whether the region's name is right (--region), and the network, or a proxy (HTTPS_PROXY) in between",
            ),
            Meaning::Throttled => Self::failed(
                error.to_string(),
                "AWS has too many calls of this account; run it again after a while",
            ),
            _ => Self::failed(error.to_string(), ""),
        }
    }
}

impl From<ConfigError> for Problem {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string(), "")
    }
}
