//! What is to be explained, as somebody writes it.

use std::fmt;

use serde::Serialize;

use crate::names::{ClusterId, Namespace, PodName, RoleArn, Workload};
use crate::subject::ClusterSelector;

/// What somebody asks about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Target {
    /// A role, by name: every grant of it.
    Role { name: String },
    /// A service account on a cluster, and all pods that use it.
    ServiceAccount { workload: Workload, cluster: NamedCluster },
    /// One pod.
    Pod { namespace: Namespace, pod: PodName, cluster: NamedCluster },
    /// A cluster: its agent, and every association of it.
    Cluster { cluster: NamedCluster },
    /// Every cluster of every configured region.
    Fleet,
}

/// A cluster by its name, or by region and name where names repeat.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedCluster(ClusterSelector);

impl NamedCluster {
    /// # Errors
    /// A text that is neither a cluster's name nor region and name.
    pub fn read(text: &str) -> Result<Self, String> {
        let read = match text.split_once('/') {
            Some((region, name)) => {
                region.parse().and_then(|region| Ok(ClusterSelector::RegionAndName(region, name.parse()?)))
            }
            None => text.parse().map(ClusterSelector::Name),
        };
        read.map(Self).map_err(|error| format!("{error}; write it as prod-eu or eu-west-1/prod-eu"))
    }

    /// The clusters that it may mean.
    pub fn selector(&self) -> &ClusterSelector {
        &self.0
    }
}

impl From<&ClusterId> for NamedCluster {
    fn from(cluster: &ClusterId) -> Self {
        Self(ClusterSelector::RegionAndName(cluster.region.clone(), cluster.name.clone()))
    }
}

impl fmt::Display for NamedCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for NamedCluster {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Target {
    /// The cluster that it names, if it names one.
    pub fn cluster_named(&self) -> Option<&NamedCluster> {
        match self {
            Self::ServiceAccount { cluster, .. } | Self::Pod { cluster, .. } | Self::Cluster { cluster } => {
                Some(cluster)
            }
            Self::Role { .. } | Self::Fleet => None,
        }
    }

    /// A role's name, or its ARN.
    ///
    /// # Errors
    /// A text that is no role's name.
    pub fn role(text: &str) -> Result<Self, String> {
        let name = match text.parse::<RoleArn>() {
            Ok(arn) => arn.role_name().to_owned(),
            // The ARN's own rules for names.
            Err(_) => format!("arn:aws:iam::000000000000:role/{text}")
                .parse::<RoleArn>()
                .ok()
                .filter(|_| !text.contains('/'))
                .map(|arn| arn.role_name().to_owned())
                .ok_or_else(|| format!("{text:?} is neither a role's name nor its ARN"))?,
        };
        Ok(Self::Role { name })
    }

    /// `namespace/service-account@cluster`.
    ///
    /// # Errors
    /// What is wrong with the text, and how it is written.
    pub fn service_account(text: &str) -> Result<Self, String> {
        const FORM: &str = "namespace/service-account@cluster, as in payments/api@prod-eu";
        let (namespace, service_account, cluster) = parts(text, FORM)?;
        let written = |error| format!("{error}; write {FORM}");
        let workload = Workload {
            namespace: namespace.parse().map_err(written)?,
            service_account: service_account.parse().map_err(written)?,
        };
        Ok(Self::ServiceAccount { workload, cluster })
    }

    /// `namespace/pod@cluster`.
    ///
    /// # Errors
    /// What is wrong with the text, and how it is written.
    pub fn pod(text: &str) -> Result<Self, String> {
        const FORM: &str = "namespace/pod@cluster, as in payments/api-6c5f-x2x@prod-eu";
        let (namespace, pod, cluster) = parts(text, FORM)?;
        let written = |error| format!("{error}; write {FORM}");
        Ok(Self::Pod {
            namespace: namespace.parse().map_err(written)?,
            pod: pod.parse().map_err(written)?,
            cluster,
        })
    }

    /// A cluster's name, or region and name.
    ///
    /// # Errors
    /// What is wrong with the text, and how it is written.
    pub fn cluster(text: &str) -> Result<Self, String> {
        Ok(Self::Cluster { cluster: NamedCluster::read(text)? })
    }
}

fn parts<'a>(text: &'a str, form: &str) -> Result<(&'a str, &'a str, NamedCluster), String> {
    let (place, cluster) =
        text.split_once('@').ok_or_else(|| format!("{text:?} names no cluster; write {form}"))?;
    let (namespace, name) =
        place.split_once('/').ok_or_else(|| format!("{text:?} names no namespace; write {form}"))?;
    Ok((namespace, name, NamedCluster::read(cluster)?))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role { name } => write!(f, "role {name}"),
            Self::ServiceAccount { workload, cluster } => write!(f, "{workload}@{cluster}"),
            Self::Pod { namespace, pod, cluster } => write!(f, "pod {namespace}/{pod}@{cluster}"),
            Self::Cluster { cluster } => write!(f, "cluster {cluster}"),
            Self::Fleet => f.write_str("fleet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_they_are_written() {
        let rows: &[(&str, Result<Target, String>)] = &[
            ("role", Target::role("payments")),
            ("role", Target::role("arn:aws:iam::111122223333:role/teams/payments")),
            ("role", Target::role("payments/api")),
            ("role", Target::role("")),
            ("account", Target::service_account("payments/api@prod-eu")),
            ("account", Target::service_account("payments/api@eu-west-1/prod-eu")),
            ("account", Target::service_account("payments/api")),
            ("account", Target::service_account("api@prod-eu")),
            ("account", Target::service_account("payments/job-_@prod-eu")),
            ("account", Target::service_account("payments/api@env=prod")),
            ("pod", Target::pod("payments/api-6c5f-x2x@prod-eu")),
            ("pod", Target::pod("Payments/api@prod-eu")),
            ("cluster", Target::cluster("eu-west-1/prod-eu")),
            ("cluster", Target::cluster("mars/prod-eu")),
        ];
        let shown = rows.iter().map(|(kind, read)| match read {
            Ok(target) => format!("{kind}: {target}"),
            Err(error) => format!("{kind}! {error}"),
        });
        insta::assert_snapshot!(shown.collect::<Vec<_>>().join("\n"));
    }
}
