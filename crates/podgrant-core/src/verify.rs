//! Whether EKS Pod Identity really works on a cluster: what `podgrant verify` makes for that, and how it knows it again.
//!
//! A run makes a role, an association, a service account and a pod, and removes all of them. Each carries the run's
//! name and its mark; nothing else is removed. The run's id is its moment, so that what a crashed run left tells its age.

mod judged;
mod pod;
mod telling;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::json;

pub use judged::{Judged, Link, LinkKind, Proof, judge};
pub use pod::{PodEnd, PodWish, SeenPod, Stage, Terminated, may_go_on, stage};
pub use telling::{Answer, SCRIPT, Telling, Unreadable};

use crate::moment::rfc3339;
use crate::names::{ClusterId, Namespace, RoleArn, ServiceAccount, Workload};

/// The path of verify's roles: no other role has a place there.
pub const ROLE_PATH: &str = "/podgrant-verify/";

/// What the names of all that verify makes begin with.
const PREFIX: &str = "podgrant-verify-";

/// The inline policy of its role.
pub const POLICY_NAME: &str = "podgrant-verify";

/// The tag of its role and association is `podgrant/verify`.
pub const TAG: &str = "verify";

/// The label by which its Kubernetes objects are known, beside [`MANAGED_BY`]. Its value is the run's id.
pub const LABEL: &str = "podgrant/verify";

/// Kubernetes' recommended label for what manages an object (Kubernetes documentation, "Recommended Labels").
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "podgrant");

/// The AWS CLI as AWS publishes it, for amd64 and arm64.
pub const IMAGE: &str = "amazon/aws-cli:2.31.29";

/// What is younger may be a run that is under way, in seconds. None that keeps its limits still makes or asks anything
/// then: a question ([`ASKED`]), a role ([`ROLE_LIMIT`]), pods ([`MOST_PODS`], some 25 s each) and a pod that tells
/// (540 s at most) take 21 minutes. Whoever cleans while it removes is in nobody's way.
pub const SETTLED: i64 = 30 * 60;

/// How long its question may stand, in seconds: a run's age counts from before it, for its names are shown with it.
pub const ASKED: i64 = 5 * 60;

/// How long EKS may not see a new role, in seconds: IAM's changes are seen everywhere within some (IAM user guide,
/// "Troubleshoot IAM"); this is generous.
pub const ROLE_LIMIT: i64 = 90;

/// How many pods are made, one after the other, until one is given the variables: EKS knows a new association after
/// "several seconds" (EKS API reference, CreatePodIdentityAssociation).
pub const MOST_PODS: u32 = 12;

/// Seconds between two looks, and between two pods.
pub const PAUSE: u64 = 5;

/// How often it is tried to remove a thing, and to find one of which it is not known whether it was made.
pub const TRIES: u32 = 4;

/// A run of verify, by its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    millis: i64,
}

/// Digits of a run's id. No year that matters has more or fewer than eight of them.
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

impl RunId {
    /// The run that begins now, in milliseconds since 1970.
    pub fn at(millis: i64) -> Self {
        Self { millis: millis.max(0) }
    }

    /// When it began, in seconds since 1970.
    pub fn began(self) -> i64 {
        self.millis.div_euclid(1000)
    }

    /// The name of all that it makes, but that its pods are numbered.
    pub fn name(self) -> String {
        format!("{PREFIX}{self}")
    }

    /// The name of its pod of this number, from 1.
    pub fn pod_name(self, number: u32) -> String {
        format!("{PREFIX}{self}-{number}")
    }

    /// The run that a name tells; of a pod's too.
    pub fn of_name(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?;
        let (id, number) = rest.split_once('-').map_or((rest, None), |(id, number)| (id, Some(number)));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        number.is_none_or(is_number).then(|| id.parse().ok())?
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut rest, mut digits) = (self.millis.unsigned_abs(), Vec::new());
        while rest > 0 || digits.len() < 8 {
            let digit = usize::try_from(rest % 36).unwrap_or_default();
            digits.push(DIGITS.get(digit).copied().map_or('0', char::from));
            rest /= 36;
        }
        digits.iter().rev().try_for_each(|digit| write!(f, "{digit}"))
    }
}

impl FromStr for RunId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let millis = i64::from_str_radix(text, 36).map_err(|_| ())?;
        let run = Self { millis };
        // One spelling for each: no capitals, no sign, no zeros before it.
        if millis >= 0 && run.to_string() == text { Ok(run) } else { Err(()) }
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A run and its place: what is written on all that it makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    pub id: RunId,
    pub cluster: ClusterId,
    pub namespace: Namespace,
}

impl Run {
    /// The mark as a tag's value: `mm90wfgr eu-west-1/prod-eu default 2026-03-02T10:15:30Z`.
    pub fn mark(&self) -> String {
        format!("{} {} {} {}", self.id, self.cluster, self.namespace, rfc3339(self.id.began()))
    }

    /// Reads what [`mark`](Self::mark) writes, and nothing else.
    pub fn of_mark(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let run = Self {
            id: parts.next()?.parse().ok()?,
            cluster: parts.next()?.parse().ok()?,
            namespace: parts.next()?.parse().ok()?,
        };
        (run.mark() == text).then_some(run)
    }

    /// The run that made a role, by its mark, its name and its path. `None`: it is somebody else's.
    pub fn of_role(arn: &RoleArn, mark: Option<&str>) -> Option<Self> {
        let run = Self::of_mark(mark?)?;
        (arn.path() == ROLE_PATH && arn.role_name() == run.id.name()).then_some(run)
    }

    /// The run that made an association, by its mark, its cluster and its service account. `None`: it is somebody else's.
    pub fn of_association(cluster: &ClusterId, workload: &Workload, mark: Option<&str>) -> Option<Self> {
        let run = Self::of_mark(mark?)?;
        let here = run.cluster == *cluster && run.namespace == workload.namespace;
        (here && workload.service_account.as_str() == run.id.name()).then_some(run)
    }

    /// The run that made a Kubernetes object, by its labels and its name. `None`: it is somebody else's.
    pub fn of_object(
        cluster: &ClusterId,
        namespace: &str,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<Self> {
        let label = |key: &str| labels.get(key).map(String::as_str);
        let id: RunId = label(LABEL)?.parse().ok()?;
        let is_ours = label(MANAGED_BY.0) == Some(MANAGED_BY.1) && RunId::of_name(name) == Some(id);
        is_ours.then_some(Self { id, cluster: cluster.clone(), namespace: namespace.parse().ok()? })
    }

    /// The labels of its Kubernetes objects.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let ours = [(MANAGED_BY.0, MANAGED_BY.1.to_owned()), (LABEL, self.id.to_string())];
        ours.map(|(key, value)| (key.to_owned(), value)).into()
    }

    /// Its service account; `None` never, for the name keeps Kubernetes' rules.
    pub fn workload(&self) -> Option<Workload> {
        let service_account: ServiceAccount = self.id.name().parse().ok()?;
        Some(Workload { namespace: self.namespace.clone(), service_account })
    }

    /// Whether it may still make what was asked about, or the question stood too long.
    pub fn may_begin(&self, now: i64) -> bool {
        now - self.id.began() <= ASKED
    }

    /// Whether none that was begun then can still be under way.
    pub fn is_settled(&self, now: i64) -> bool {
        now - self.id.began() >= SETTLED
    }
}

/// Whether an association is one of verify's, as far as its names tell: for people, and no leave to remove it.
pub fn looks_like_verify(workload: &Workload, role_arn: &str) -> bool {
    let account = workload.service_account.as_str();
    RunId::of_name(account).is_some() && role_arn.ends_with(&format!(":role{ROLE_PATH}{account}"))
}

/// Account and partition of a cluster's ARN, `arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu`.
pub fn account_of(cluster_arn: &str) -> Option<(&str, &str)> {
    let mut parts = cluster_arn.split(':');
    let (_, partition, _, _, account) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    (account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit())).then_some((partition, account))
}

/// Who may be the role: pods of this very cluster, and nobody else's (EKS user guide, "Create IAM role with trust policy
/// required by EKS Pod Identity": `aws:SourceAccount` and `aws:SourceArn` against the confused deputy).
pub fn trust_policy(cluster_arn: &str, account: &str) -> String {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": {
                "StringEquals": {"aws:SourceAccount": account},
                "ArnEquals": {"aws:SourceArn": cluster_arn},
            },
        }],
    })
    .to_string()
}

/// What the role may do: ask who it is.
pub fn policy() -> String {
    json!({
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"}],
    })
    .to_string()
}

/// What a run makes, in this order; it is removed in the opposite one. The association is there before the service
/// account, so that no pattern of a grant can take the place, and both before the pod, which is given its
/// variables when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Thing {
    /// With its policy.
    Role,
    Association,
    ServiceAccount,
    Pod,
}

impl Thing {
    pub const ALL: [Self; 4] = [Self::Role, Self::Association, Self::ServiceAccount, Self::Pod];

    /// How whoever has to removes it without podgrant. `name` is a pod's own.
    pub fn by_hand(self, run: &Run, name: &str) -> String {
        let (region, cluster) = (&run.cluster.region, &run.cluster.name);
        let (namespace, account) = (&run.namespace, run.id.name());
        let at = format!("--region {region} --cluster-name {cluster}");
        match self {
            Self::Role => format!(
                "aws iam delete-role-policy --role-name {account} --policy-name {POLICY_NAME}; aws iam delete-role \
                 --role-name {account}"
            ),
            Self::Association => format!(
                "aws eks delete-pod-identity-association {at} --association-id $(aws eks \
                 list-pod-identity-associations {at} --namespace {namespace} --service-account {account} --query \
                 'associations[0].associationId' --output text)"
            ),
            Self::ServiceAccount => {
                format!("kubectl --namespace {namespace} delete serviceaccount {account}")
            }
            Self::Pod => format!("kubectl --namespace {namespace} delete pod {name}"),
        }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Role => "role",
            Self::Association => "association",
            Self::ServiceAccount => "service account",
            Self::Pod => "pod",
        })
    }
}

/// A service account or pod of a run, as it was found on a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    pub thing: Thing,
    pub name: String,
    pub run: Run,
}

/// What became of a thing that was to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    Removed,
    /// There was none.
    Absent,
    /// It is on its way out.
    Going,
    /// Something of its name stands there without the run's mark: it is left alone.
    Foreign,
}

/// Why a cluster's Kubernetes API did not do what it was asked, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It does not know whoever asks (401), or forbids it (403): rights, an admission policy, a quota.
    Refused(String),
    /// No way there, no answer in time, or none that makes sense: it may be done all the same.
    Unreachable(String),
    /// It answered no for another reason.
    Rejected(String),
}

impl Trouble {
    /// Whether what was asked may be done all the same.
    pub fn may_be_done(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(why) | Self::Unreachable(why) | Self::Rejected(why)) = self;
        f.write_str(why)
    }
}

#[cfg(test)]
mod tests;
