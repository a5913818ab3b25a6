//! Which version of the agent a cluster should run.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An add-on version such as `v1.3.8-eksbuild.2`: compared by its numbers, not as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AddonVersion {
    numbers: Vec<u64>,
    build: u64,
    text: String,
}

impl AddonVersion {
    /// Whether the version belongs to a line: `v1.3.8-eksbuild.2` to `v1.3` and to `v1.3.8`.
    fn is_in(&self, line: &[u64]) -> bool {
        self.numbers.starts_with(line)
    }
}

impl FromStr for AddonVersion {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an add-on version such as v1.3.8-eksbuild.2");
        let (numbers, build) = match text.split_once("-eksbuild.") {
            Some((numbers, build)) => (numbers, build.parse().map_err(|_| wrong())?),
            None => (text, 0),
        };
        let numbers = numbers_of(numbers).filter(|numbers| numbers.len() == 3).ok_or_else(wrong)?;
        Ok(Self { numbers, build, text: text.to_owned() })
    }
}

impl Ord for AddonVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        // The text last, so that order agrees with equality.
        (&self.numbers, self.build, &self.text).cmp(&(&other.numbers, other.build, &other.text))
    }
}

impl PartialOrd for AddonVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for AddonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The numbers of `v1.3` or `1.3`.
fn numbers_of(text: &str) -> Option<Vec<u64>> {
    let text = text.strip_prefix('v').unwrap_or(text);
    text.split('.')
        .map(|number| number.parse().ok().filter(|_| number.bytes().all(|b| b.is_ascii_digit())))
        .collect()
}

/// The version asked for, on the cluster (`podgrant/agent-version`) or in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WantedVersion {
    /// AWS's default for the cluster's Kubernetes version.
    #[default]
    Default,
    /// The newest that AWS offers for it.
    Latest,
    /// The newest of a line: `v1.3`.
    Line(Vec<u64>),
    /// Just this one: `v1.3.8-eksbuild.2`.
    Exact(AddonVersion),
}

impl FromStr for WantedVersion {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "default" => Ok(Self::Default),
            "latest" => Ok(Self::Latest),
            text => match numbers_of(text) {
                Some(numbers) if numbers.len() <= 3 => Ok(Self::Line(numbers)),
                _ => text.parse().map(Self::Exact).map_err(|_| {
                    format!(
                        "expected default, latest, a version such as v1.3.8-eksbuild.2 or a line such as v1.3, found {text:?}"
                    )
                }),
            },
        }
    }
}

impl TryFrom<String> for WantedVersion {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<WantedVersion> for String {
    fn from(wanted: WantedVersion) -> String {
        wanted.to_string()
    }
}

impl fmt::Display for WantedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Latest => f.write_str("latest"),
            Self::Exact(version) => version.fmt(f),
            Self::Line(numbers) => {
                f.write_str("v")?;
                for (index, number) in numbers.iter().enumerate() {
                    let dot = if index == 0 { "" } else { "." };
                    write!(f, "{dot}{number}")?;
                }
                Ok(())
            }
        }
    }
}

/// A version that AWS offers for a cluster's Kubernetes version
/// (`DescribeAddonVersions`, filtered by that version).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedVersion {
    pub version: String,
    pub is_default: bool,
}

/// Chooses among the versions on offer.
///
/// # Errors
/// What was asked for and all that is on offer instead, newest first.
pub fn choose(
    wanted: &WantedVersion,
    offered: &[OfferedVersion],
    kubernetes: &str,
) -> Result<AddonVersion, String> {
    let mut versions: Vec<(AddonVersion, bool)> = offered
        .iter()
        .filter_map(|offered| Some((offered.version.parse().ok()?, offered.is_default)))
        .collect();
    versions.sort_by(|a, b| b.0.cmp(&a.0));
    let found = versions.iter().find(|(version, is_default)| match wanted {
        WantedVersion::Default => *is_default,
        WantedVersion::Latest => true,
        WantedVersion::Line(line) => version.is_in(line),
        WantedVersion::Exact(exact) => version == exact,
    });
    found.map(|(version, _)| version.clone()).ok_or_else(|| {
        if versions.is_empty() {
            return format!("AWS offers no version for Kubernetes {kubernetes}");
        }
        let all: Vec<String> = versions
            .iter()
            .map(|(version, is_default)| {
                let default = if *is_default { " (default)" } else { "" };
                format!("{version}{default}")
            })
            .collect();
        format!("{wanted} is not on offer for Kubernetes {kubernetes}; AWS offers {}", all.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> AddonVersion {
        text.parse().unwrap()
    }

    #[test]
    fn versions_compare_as_versions() {
        let sorted = [
            "v1.3.8-eksbuild.2",
            "v1.3.8-eksbuild.10",
            "v1.3.10-eksbuild.1",
            "v1.10.0-eksbuild.1",
            "v2.0.0-eksbuild.1",
        ];
        for pair in sorted.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        for wrong in [
            "",
            "v",
            "v1",
            "v1.3",
            "v1.3.8-eksbuild.",
            "v1.3.8-eksbuild.x",
            "v1.3.8-beta",
            "v1..8",
            "v+1.2.3",
        ] {
            assert!(wrong.parse::<AddonVersion>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_wanted_is_chosen_from_what_is_offered() {
        let offered: Vec<OfferedVersion> = [
            ("v1.3.4-eksbuild.1", false),
            ("v1.3.10-eksbuild.1", false),
            ("v1.3.8-eksbuild.2", true),
            ("v1.2.0-eksbuild.1", false),
            ("odd", false),
        ]
        .map(|(version, is_default)| OfferedVersion { version: version.to_owned(), is_default })
        .into();
        let chosen = |wanted: &str| {
            choose(&wanted.parse().unwrap(), &offered, "1.33").map(|version| version.to_string())
        };
        assert_eq!(chosen("default").unwrap(), "v1.3.8-eksbuild.2");
        assert_eq!(chosen("latest").unwrap(), "v1.3.10-eksbuild.1");
        assert_eq!(chosen("v1.3").unwrap(), "v1.3.10-eksbuild.1");
        assert_eq!(chosen("1.2").unwrap(), "v1.2.0-eksbuild.1");
        assert_eq!(chosen("v1.3.8").unwrap(), "v1.3.8-eksbuild.2");
        assert_eq!(chosen("v1.3.4-eksbuild.1").unwrap(), "v1.3.4-eksbuild.1");
        assert_eq!(
            chosen("v1.4").unwrap_err(),
            "v1.4 is not on offer for Kubernetes 1.33; AWS offers v1.3.10-eksbuild.1, \
             v1.3.8-eksbuild.2 (default), v1.3.4-eksbuild.1, v1.2.0-eksbuild.1"
        );
        assert_eq!(
            choose(&WantedVersion::Default, &[], "1.33").unwrap_err(),
            "AWS offers no version for Kubernetes 1.33"
        );
        assert!("v1.3.8-eksbuild".parse::<WantedVersion>().is_err());
    }

    proptest! {
        #[test]
        fn a_wanted_version_survives_its_text(text in "default|latest|v[0-9]{1,3}(\\.[0-9]{1,3}){0,2}|v[0-9]\\.[0-9]\\.[0-9]{1,2}-eksbuild\\.[0-9]") {
            let wanted: WantedVersion = text.parse().unwrap();
            prop_assert_eq!(wanted.to_string().parse::<WantedVersion>().unwrap(), wanted);
        }
    }
}
