//! Names that AWS and Kubernetes give to things, checked once, where they come in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that breaks its own rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct NameError {
    /// The text as it came in.
    pub value: String,
    /// What would have been right, for people.
    pub expected: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// What a valid name looks like, for error messages.
            pub const EXPECTED: &'static str = $expected;

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(value: String) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&value) {
                    Ok(Self(value))
                } else {
                    Err(NameError { value, expected: $expected })
                }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(
    /// An AWS region such as `eu-west-1`.
    Region,
    "an AWS region such as eu-west-1",
    is_region
);

name!(
    /// An EKS cluster's name: 1 to 100 letters, digits, `-` and `_`, beginning
    /// with a letter or digit (EKS API reference, `CreateCluster.name`).
    ClusterName,
    "a cluster name (letters, digits, - and _, beginning with a letter or digit, at most 100)",
    |text| {
        text.len() <= 100
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    }
);

name!(
    /// A Kubernetes namespace: an RFC 1123 label, at most 63 characters.
    Namespace,
    "a namespace (lower-case letters, digits and -, beginning and ending with a letter or digit, at most 63)",
    |text| text.len() <= 63 && is_label(text)
);

name!(
    /// A Kubernetes service account: an RFC 1123 subdomain, at most 253 characters.
    ServiceAccount,
    "a service account (lower-case letters, digits, - and ., each part beginning and ending with a letter or digit, at most 253)",
    |text| text.len() <= 253 && text.split('.').all(is_label)
);

name!(
    /// A Kubernetes pod: an RFC 1123 subdomain, at most 253 characters.
    PodName,
    "a pod (lower-case letters, digits, - and ., each part beginning and ending with a letter or digit, at most 253)",
    |text| text.len() <= 253 && text.split('.').all(is_label)
);

name!(
    /// An IAM role's ARN, path included: `arn:aws:iam::111122223333:role/teams/payments-api`.
    RoleArn,
    "a role ARN such as arn:aws:iam::111122223333:role/name",
    |text| role_arn_parts(text).is_some()
);

name!(
    /// An IAM role's unique id (`AROA…`). A role deleted and made again under
    /// the same name has the same ARN and another id.
    RoleId,
    "a role's unique id (AROA…)",
    |text| (4..=128).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
);

name!(
    /// An EKS pod identity association's id, `a-…`; unique in its cluster.
    AssociationId,
    "an association id (a-…)",
    |text| {
        text.strip_prefix("a-").is_some_and(|rest| {
            !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric())
        })
    }
);

impl Namespace {
    /// What comes no later than any name with this beginning.
    pub(crate) fn no_later_than(prefix: &str) -> Self {
        Self(least(prefix))
    }
}

impl ServiceAccount {
    /// What comes no later than any name with this beginning.
    pub(crate) fn no_later_than(prefix: &str) -> Self {
        Self(least(prefix))
    }
}

/// No name begins with what comes before `0`, and `job-1` comes after `job`.
fn least(prefix: &str) -> String {
    match prefix.trim_end_matches(['-', '.']) {
        "" => "0".to_owned(),
        beginning => beginning.to_owned(),
    }
}

pub(crate) fn is_label(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(edge) && text.ends_with(edge) && text.chars().all(|c| edge(c) || c == '-')
}

fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let (Some(last), Some(first)) = (parts.last(), parts.first()) else {
        return false;
    };
    (3..=6).contains(&parts.len())
        && text.len() <= 32
        && first.len() >= 2
        && !last.is_empty()
        && last.chars().all(|c| c.is_ascii_digit())
        && parts[..parts.len() - 1]
            .iter()
            .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase()))
}

/// Account and `path/name` of a role's ARN.
fn role_arn_parts(text: &str) -> Option<(&str, &str)> {
    let mut parts = text.splitn(6, ':');
    let (arn, partition, service, region, account, resource) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let path_and_name = resource.strip_prefix("role/")?;
    let name = path_and_name.rsplit('/').next()?;
    // IAM's own alphabet for role names and paths.
    let valid = arn == "arn"
        && partition.starts_with("aws")
        && service == "iam"
        && region.is_empty()
        && account.len() == 12
        && account.chars().all(|c| c.is_ascii_digit())
        && (1..=64).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c))
        && path_and_name.len() <= 576
        && path_and_name.chars().all(|c| c.is_ascii_graphic());
    valid.then_some((account, path_and_name))
}

impl RoleArn {
    fn parts(&self) -> (&str, &str) {
        role_arn_parts(&self.0).unwrap_or_default()
    }

    /// The role's name, without its path: what IAM's API takes.
    pub fn role_name(&self) -> &str {
        let (_, path_and_name) = self.parts();
        path_and_name.rsplit('/').next().unwrap_or_default()
    }

    /// Its path, such as `/teams/a/`; `/` where it has none (IAM user guide, "IAM identifiers").
    pub fn path(&self) -> String {
        let (_, path_and_name) = self.parts();
        let end = path_and_name.rfind('/').map_or(0, |slash| slash + 1);
        format!("/{}", &path_and_name[..end])
    }

    /// The account that the role lives in, twelve digits.
    pub fn account(&self) -> &str {
        self.parts().0
    }

    /// The partition, such as `aws` or `aws-cn`.
    pub fn partition(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }
}

/// A cluster, by region and name: names repeat between regions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId {
    pub region: Region,
    pub name: ClusterName,
}

impl ClusterId {
    pub fn new(region: Region, name: ClusterName) -> Self {
        Self { region, name }
    }

    /// The ARN of a cluster in the account of a role.
    pub fn arn_beside(&self, role: &RoleArn) -> String {
        let (partition, account) = (role.partition(), role.account());
        format!("arn:{partition}:eks:{}:{account}:cluster/{}", self.region, self.name)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.region, self.name)
    }
}

impl FromStr for ClusterId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (region, name) = text
            .split_once('/')
            .ok_or_else(|| NameError { value: text.to_owned(), expected: "a cluster as region/name" })?;
        Ok(Self::new(region.parse()?, name.parse()?))
    }
}

/// A service account in its namespace: whom pods run as.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Workload {
    pub namespace: Namespace,
    pub service_account: ServiceAccount,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service_account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_by_their_own_rules() {
        let long_label = "a".repeat(64);
        let long_account = ["a"; 128].join(".");
        type Case<'a> = (&'a str, bool, fn(&str) -> bool);
        let cases: &[Case<'_>] = &[
            ("eu-west-1", true, |t| t.parse::<Region>().is_ok()),
            ("us-gov-west-1", true, |t| t.parse::<Region>().is_ok()),
            ("ap-southeast-2", true, |t| t.parse::<Region>().is_ok()),
            ("eu-west", false, |t| t.parse::<Region>().is_ok()),
            ("eu-west-", false, |t| t.parse::<Region>().is_ok()),
            ("", false, |t| t.parse::<Region>().is_ok()),
            ("Prod_EU-1", true, |t| t.parse::<ClusterName>().is_ok()),
            ("_prod", false, |t| t.parse::<ClusterName>().is_ok()),
            ("-prod", false, |t| t.parse::<ClusterName>().is_ok()),
            ("payments", true, |t| t.parse::<Namespace>().is_ok()),
            ("payments.api", false, |t| t.parse::<Namespace>().is_ok()),
            (&long_label, false, |t| t.parse::<Namespace>().is_ok()),
            ("payments.api", true, |t| t.parse::<ServiceAccount>().is_ok()),
            ("payments..api", false, |t| t.parse::<ServiceAccount>().is_ok()),
            ("Payments", false, |t| t.parse::<ServiceAccount>().is_ok()),
            (&long_account, false, |t| t.parse::<ServiceAccount>().is_ok()),
            ("a-0abc", true, |t| t.parse::<AssociationId>().is_ok()),
            ("a-", false, |t| t.parse::<AssociationId>().is_ok()),
            ("arn:aws:iam::111122223333:role/x", true, |t| t.parse::<RoleArn>().is_ok()),
            ("arn:aws-cn:iam::111122223333:role/a/b/x", true, |t| t.parse::<RoleArn>().is_ok()),
            ("arn:aws:iam::111122223333:user/x", false, |t| t.parse::<RoleArn>().is_ok()),
            ("arn:aws:iam::11112222333:role/x", false, |t| t.parse::<RoleArn>().is_ok()),
            ("arn:aws:iam::111122223333:role/", false, |t| t.parse::<RoleArn>().is_ok()),
        ];
        for (text, expected, valid) in cases {
            assert_eq!(valid(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn a_role_arn_knows_its_name_path_and_account() {
        let arn: RoleArn = "arn:aws:iam::111122223333:role/teams/a/payments-api".parse().unwrap();
        assert_eq!(arn.role_name(), "payments-api");
        assert_eq!(arn.account(), "111122223333");
        assert_eq!(arn.path(), "/teams/a/");
        let plain: RoleArn = "arn:aws:iam::111122223333:role/payments-api".parse().unwrap();
        assert_eq!(plain.path(), "/");
    }

    #[test]
    fn names_are_checked_when_deserialized_too() {
        let error = serde_json::from_str::<Namespace>("\"Kube System\"").unwrap_err();
        assert!(error.to_string().contains("is not a namespace"), "{error}");
    }
}
