//! From a chain to causes, the likeliest first.

use std::fmt;

use serde::Serialize;

use super::chain::{Chain, Fault, Link, LinkKind, State, wrapped};
use super::evidence::{Evidence, PROFILE, Pod};
use super::pods::SETTLING;
use crate::moment::rfc3339;

/// What keeps pods from their credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// What it is about.
    pub about: String,
    /// The likeliest first: what is surely broken, in the order of [`Fault`], then what only may be.
    pub causes: Vec<Cause>,
    /// What could not be seen, and why.
    pub unseen: Vec<String>,
    /// How much was looked at and is right.
    pub right: usize,
}

/// Something that keeps pods from their credentials, or may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    pub kind: CauseKind,
    /// What is so.
    pub told: String,
    pub remedy: Option<String>,
}

/// What sort of cause it is; ordered by how likely it is the one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CauseKind {
    /// It is surely broken.
    Broken(Fault),
    /// It may be what is wrong.
    Possible(Suspicion),
}

/// What may be wrong, and can't be told for sure from outside the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suspicion {
    /// The association is so young that EKS may not know it everywhere.
    Settling,
    /// The association was changed, and the pod may still have what it had before.
    Cached,
    /// The pod is on the host's network.
    HostNetwork,
    /// A profile is named, which many SDKs look at before the agent.
    Profile,
}

/// How long credentials that were given out are good for, in seconds: six hours, and with a target role an hour
/// less a minute, for a chained role's session lasts no longer (EKS user guide, "Access AWS resources using EKS Pod
/// Identity Target IAM Roles"). The agent renews its own after three hours (eks-pod-identity-agent, its default
/// `max-credential-retention-before-renewal`), and an SDK keeps what it was given until shortly before its end.
const CREDENTIALS_LAST: i64 = 6 * 3600;
const CHAINED_CREDENTIALS_LAST: i64 = 59 * 60;

/// The causes, the likeliest first, of what is wrong with a place.
pub fn diagnose(evidence: &Evidence, chain: &Chain) -> Diagnosis {
    Diagnosis::of(chain, suspicions(evidence))
}

/// The same where there is no place, and the chain is all there is.
impl From<&Chain> for Diagnosis {
    fn from(chain: &Chain) -> Self {
        Self::of(chain, Vec::new())
    }
}

impl Diagnosis {
    fn of(chain: &Chain, suspicions: Vec<Cause>) -> Self {
        // The whole cluster's want of an agent is told once, and not for each node.
        let no_agent = |link: &&Link, kind| link.kind == kind && link.fault == Some(Fault::NoAgent);
        let told = chain.links.iter().any(|link| no_agent(&link, LinkKind::Agent));
        let told_twice = |link: &&Link| told && no_agent(link, LinkKind::Node);
        let links = chain.links.iter().filter(|link| !told_twice(link));
        let broken = links.filter_map(|link| {
            let fault = link.fault.filter(|_| link.state == State::Broken)?;
            Some(Cause {
                kind: CauseKind::Broken(fault),
                told: link.told.clone(),
                remedy: link.remedy.clone(),
            })
        });
        let mut causes: Vec<Cause> = broken.chain(suspicions).collect();
        // Stable: what is equally likely stays in the chain's order.
        causes.sort_by_key(|cause| cause.kind);
        let unknown = chain.links.iter().filter(|link| link.state == State::Unknown);
        let mut unseen: Vec<String> = unknown.map(|link| format!("{}: {}", link.kind, link.told)).collect();
        let reached_pods = chain.links.iter().any(|link| link.kind == LinkKind::Sdk);
        if reached_pods {
            unseen.push(BEYOND.to_owned());
        }
        let right = chain.links.iter().filter(|link| link.state == State::Right).count();
        Self { about: chain.place.clone(), causes, unseen, right }
    }
}

/// What no API tells.
const BEYOND: &str = "the SDK's version in the pod (older ones do not know the agent: EKS user guide, \"Use pod identity \
                      with the AWS SDK\"), code that names its own credentials, network policies, and in a VPC without a \
                      way out whether there is an endpoint for com.amazonaws.<region>.eks-auth";

fn suspicions(evidence: &Evidence) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut suspect = |suspicion, told: String, remedy: String| {
        causes.push(Cause { kind: CauseKind::Possible(suspicion), told, remedy: Some(remedy) });
    };
    let now = evidence.snapshot.observed_at;
    let pods = evidence.inside.as_ref().and_then(|inside| inside.pods.as_ref().ok());
    let pods: &[Pod] = pods.map_or(&[], |pods| &pods.seen);
    if let Some(times) = &evidence.times {
        if (0..SETTLING).contains(&(now - times.created_at)) {
            suspect(
                Suspicion::Settling,
                format!(
                    "the association was made {} s ago: EKS may not know it everywhere yet",
                    now - times.created_at
                ),
                "wait a minute, and make the pod anew if it was made meanwhile".to_owned(),
            );
        }
        let standing =
            evidence.snapshot.associations.iter().find(|association| association.id == times.association);
        let chained = standing.and_then(|association| association.record.as_ref());
        let chained = chained.is_some_and(|record| record.target_role.is_some());
        let last = if chained { CHAINED_CREDENTIALS_LAST } else { CREDENTIALS_LAST };
        let older = |pod: &&Pod| pod.created_at.is_none_or(|at| at < times.modified_at);
        let until = times.modified_at.saturating_add(last);
        if times.modified_at > times.created_at && now < until && pods.iter().any(|pod| older(&pod)) {
            suspect(
                Suspicion::Cached,
                format!(
                    "the association was changed {}, and a pod that is older may have the former role's credentials \
                     until {}",
                    rfc3339(times.modified_at),
                    rfc3339(until)
                ),
                "make the pod anew to have the change at once".to_owned(),
            );
        }
    }
    if let Some(pod) = pods.iter().find(|pod| pod.host_network) {
        suspect(
            Suspicion::HostNetwork,
            format!(
                "{} is on its host's network, where credentials were seen to fail (eks-pod-identity-agent#139)",
                pod.name
            ),
            "try it without hostNetwork".to_owned(),
        );
    }
    let profile = |pod: &Pod| pod.containers.iter().any(|container| container.has(PROFILE));
    if let Some(pod) = pods.iter().find(|pod| profile(pod)) {
        suspect(
            Suspicion::Profile,
            format!(
                "{PROFILE} is set in {}: many SDKs look into that profile before they ask the agent",
                pod.name
            ),
            format!("take {PROFILE} out of the pod's template"),
        );
    }
    causes
}

impl Diagnosis {
    /// What is named first.
    pub fn first(&self) -> Option<&Cause> {
        self.causes.first()
    }
}

const WIDTH: usize = 100;

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.about)?;
        let surely = self.causes.iter().filter(|cause| matches!(cause.kind, CauseKind::Broken(_))).count();
        match (surely, self.causes.len() - surely) {
            (0, 0) if self.unseen.is_empty() => write!(f, "nothing is wrong")?,
            (0, 0) => write!(f, "nothing wrong was seen")?,
            (0, possible) => write!(f, "nothing is surely wrong, {possible} to look at")?,
            (broken, 0) => write!(f, "{broken} wrong")?,
            (broken, possible) => write!(f, "{broken} wrong, {possible} more to look at")?,
        }
        for (number, cause) in (1..).zip(&self.causes) {
            let possible = if matches!(cause.kind, CauseKind::Possible(_)) { "maybe: " } else { "" };
            item(f, &format!("{number}."), &format!("{possible}{}", cause.told))?;
            if let Some(remedy) = &cause.remedy {
                item(f, "", &format!("→ {remedy}"))?;
            }
        }
        if !self.unseen.is_empty() {
            f.write_str("\n  not seen")?;
        }
        self.unseen.iter().try_for_each(|unseen| item(f, "-", unseen))
    }
}

/// A text under a number, a dash, or nothing.
fn item(f: &mut fmt::Formatter<'_>, mark: &str, text: &str) -> fmt::Result {
    let mut mark = mark;
    for line in wrapped(text, WIDTH - 6) {
        write!(f, "\n  {mark:<3} {line}")?;
        mark = "";
    }
    Ok(())
}
