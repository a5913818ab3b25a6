//! From IAM roles for service accounts (IRSA) to Pod Identity: which service accounts can move, what is next for each, and why
//! others stay.
//!
//! What is seen decides, and nothing that was noted before. The steps are in the order that loses no access: from the moment
//! that an association stands, EKS's webhook gives new pods Pod Identity's variables and not the annotation's
//! (amazon-eks-pod-identity-webhook, `buildPodPatchConfig`), so all that these need comes before it, and what IRSA needs
//! goes last.

use std::collections::BTreeSet;

use crate::explain::evidence::{NodeKind, Pod, Read};
use crate::guardrails::Guardrails;
use crate::model::{Association, Cluster, Role};
use crate::names::{RoleArn, Workload};
use crate::outcome::{Finding, FindingKind};
use crate::plan::{Change, Plan};
use crate::subject::Subject;
use crate::tags::edit::{self, Edit, EditError};
use crate::tags::{RoleTags, TagKeys};
use crate::trust::{TrustPolicy, Use};

mod back;
mod journal;
mod oidc;
mod steps;
#[cfg(test)]
mod tests;
mod trust;

pub use back::{Back, Halt, back, tags_back};
pub use journal::{Entry, Journal, JournalError, Line, Moved, Stage};
pub use oidc::{OidcStatement, Reach, oidc_statements};
use steps::{annotation, restart, statement, steps};
pub use steps::{has_variables, lacks_irsa};
pub use trust::IrsaEdit;

/// The annotation of a service account that names its role (EKS user guide, "Assign IAM roles to Kubernetes service
/// accounts").
pub const ANNOTATION: &str = "eks.amazonaws.com/role-arn";

/// Others that read it of service accounts, and know of no association (External Secrets' documentation, "AWS Access";
/// Secrets Manager user guide, "Use AWS Secrets and Configuration Provider CSI with IRSA"). And eksctl deletes the role
/// with its stack (eksctl user guide, "IAM Roles for Service Accounts").
const ANNOTATION_CAUTION: &str = "not while External Secrets' serviceAccountRef or the Secrets Store CSI driver reads \
                                  it, and not with eksctl delete iamserviceaccount, which deletes the role";

/// What pods would show, where there are none: a CronJob's between two runs, or of what is scaled to zero.
const NO_PODS: &str =
    "it has no pods now: where they will run, and who else reads its annotation, can't be seen";

/// The first version of Kubernetes that Pod Identity works on (EKS user guide, "EKS Pod Identity cluster versions").
const FIRST_MINOR: u32 = 24;

/// A service account with IRSA's annotation, or one that had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotated {
    pub workload: Workload,
    /// As the annotation has it.
    pub role: String,
}

/// What was read of one of them.
#[derive(Debug, Clone)]
pub struct Sight {
    pub annotated: Annotated,
    /// Whether it has the annotation now; a journal knows of others that had it.
    pub is_annotated: bool,
    /// The role of the annotation; none where the account has none of that ARN.
    pub role: Read<Option<Role>>,
    /// What stands in its place, described.
    pub standing: Read<Option<Association>>,
    /// When that was made, in seconds since 1970.
    pub made_at: Option<i64>,
    /// Its pods.
    pub pods: Read<Vec<Pod>>,
    /// What Pod Identity needs beside role and association (cluster, agent, nodes, their role) and is surely wrong.
    pub broken: Vec<String>,
    /// What of that could not be seen.
    pub unseen: Vec<String>,
    /// What the planning rules refuse with the role's tags as they would be.
    pub refused: Read<Vec<(FindingKind, String)>>,
}

/// What is to be said of a service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub state: State,
    pub told: String,
    pub remedy: String,
    /// In their order; none where it stays.
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// IRSA is right for it.
    Stays,
    /// Something is to be mended before it may move.
    MendFirst,
    /// What decides was not read.
    Unknown,
    ToMove,
    /// An association stands already.
    UnderWay,
    /// Every pod has its credentials by Pod Identity; IRSA may go.
    Moved,
    /// Nothing is left of IRSA that is its alone.
    Finished,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stays => "stays",
            Self::MendFirst => "mend-first",
            Self::Unknown => "unknown",
            Self::ToMove => "to-move",
            Self::UnderWay => "under-way",
            Self::Moved => "moved",
            Self::Finished => "finished",
        }
    }
}

/// One step, in the order that loses no access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub kind: StepKind,
    pub done: bool,
    pub told: String,
    /// How it must not be done; may be empty.
    pub caution: &'static str,
    /// What does it; may be empty.
    pub command: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    /// The role lets Pod Identity assume it, or says that podgrant may see to that.
    Trust,
    /// The role's tag asks for the place.
    Tag,
    Association,
    /// The pods are made anew.
    Restart,
    /// The annotation goes.
    Annotation,
    /// The role's statement for IRSA goes.
    Statement,
}

impl StepKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Tag => "tag",
            Self::Association => "association",
            Self::Restart => "restart",
            Self::Annotation => "annotation",
            Self::Statement => "statement",
        }
    }
}

/// The subject that a grant of this place has.
pub fn subject(cluster: &Cluster, workload: &Workload) -> Option<Subject> {
    format!("{workload}@{}", cluster.id).parse().ok()
}

/// The role's tags as they would be once it may move: they ask for the place, and let podgrant see to the trust policy where
/// that is not right. None where there is nothing to ask the planning rules about.
pub fn as_if(sight: &Sight, cluster: &Cluster, keys: &TagKeys) -> Option<Result<Edit, EditError>> {
    let Ok(Some(role)) = &sight.role else { return None };
    let place = subject(cluster, &sight.annotated.workload)?;
    let mut tags = role.tags.clone();
    if !trusts(role, cluster, &sight.annotated.workload, keys) {
        tags.insert(keys.key("trust"), "manage".to_owned());
    }
    let asked =
        if asks(role, cluster, &sight.annotated.workload, keys) { BTreeSet::new() } else { [place].into() };
    let granted = edit::grant(keys, &tags, None, &asked);
    Some(granted.map(|edit| Edit { changes: edit::changes(&role.tags, &edit.tags), ..edit }))
}

/// What the planning rules refuse in its place, of what they say to the role's tags as they would be. What they make there
/// they do not refuse, and what they say of the role's other grants is about other places.
pub fn refusals(
    plan: &Plan,
    sight: &Sight,
    cluster: &Cluster,
    guardrails: &Guardrails,
) -> Vec<(FindingKind, String)> {
    let place = &sight.annotated.workload;
    let is_made = |change: &Change| match change {
        Change::Create { workload, mark } => {
            workload == place && mark.cluster == cluster.id && mark.role_arn.as_str() == sight.annotated.role
        }
        _ => false,
    };
    if plan.changes.iter().any(is_made) {
        return Vec::new();
    }
    let is_about = |finding: &&Finding| {
        let grant = finding.grant.as_ref().map(|grant| grant.parse::<Subject>());
        // It is told of one of the clusters that have the name.
        let is_here = finding.kind == FindingKind::AmbiguousCluster
            || finding.cluster.as_ref().is_none_or(|id| *id == cluster.id);
        // A pattern passes by namespaces that a guardrail refuses: to others that is nothing.
        let passes_by = finding.kind == FindingKind::Guardrail
            && finding.workload.is_none()
            && finding.grant.is_some()
            && guardrails.namespace_refusal(&place.namespace).is_none();
        finding.kind.is_refusal()
            && is_here
            && !passes_by
            && finding.workload.as_ref().is_none_or(|workload| workload == place)
            && grant.is_none_or(|grant| {
                grant.is_ok_and(|subject| subject.means(place) && subject.clusters.matches(cluster))
            })
    };
    let found = plan.findings.iter().filter(is_about);
    found.map(|finding| (finding.kind, finding.reason.clone())).collect()
}

impl Verdict {
    /// The first step that is not done.
    pub fn next(&self) -> Option<&Step> {
        self.steps.iter().find(|step| !step.done)
    }

    fn new(state: State, told: impl Into<String>, remedy: &str) -> Self {
        Self { state, told: told.into(), remedy: remedy.to_owned(), steps: Vec::new() }
    }
}

/// Judges one service account.
pub fn judge(sight: &Sight, cluster: &Cluster, keys: &TagKeys) -> Verdict {
    if let Some((told, remedy)) = unfit(sight, cluster) {
        return match &sight.standing {
            Ok(Some(standing)) => {
                taken(&told, standing, "take the association away, or the tag that made it")
            }
            _ => Verdict::new(State::Stays, told, remedy),
        };
    }
    if let Ok(Some(standing)) = &sight.standing
        && is_chained(standing, &sight.annotated)
    {
        return chained(sight, standing, cluster);
    }
    if let Some(account) = elsewhere(&sight.annotated.role, cluster) {
        return of_another_account(sight, &account, keys);
    }
    let (role, standing, pods) = match (&sight.role, &sight.standing, &sight.pods) {
        (Ok(Some(role)), Ok(standing), Ok(pods)) => (role, standing, pods),
        (Ok(None), ..) => {
            return Verdict::new(
                State::MendFirst,
                format!("there is no role {}", sight.annotated.role),
                "its pods have no credentials by IRSA either: make the role, or take the annotation away",
            );
        }
        (Err(why), ..) | (_, Err(why), _) | (_, _, Err(why)) => {
            return Verdict::new(State::Unknown, why, "");
        }
    };
    let other = standing.iter().find_map(|standing| {
        let given = &standing.record.as_ref()?.role_arn;
        (given != role.arn.as_str())
            .then(|| format!("association {} gives its new pods {given}", standing.id))
    });
    if let Some(told) = other {
        let remedy = "say which role is right: give the association the other role, or take it away";
        return Verdict::new(State::MendFirst, told, remedy);
    }
    if !sight.is_annotated && standing.is_none() {
        let told = "it has no annotation of IRSA any more, and no association";
        let remedy =
            "podgrant grant, if it is to have the role; podgrant migrate --undo, if IRSA is to come back";
        return Verdict::new(State::Stays, told, remedy);
    }
    let refused = match &sight.refused {
        Ok(refused) if standing.is_none() => refused.as_slice(),
        Ok(_) => &[],
        Err(why) => return Verdict::new(State::Unknown, why, ""),
    };
    let is_kept = |(kind, _): &&(FindingKind, String)| {
        matches!(kind, FindingKind::Guardrail | FindingKind::ClusterOptedOut)
    };
    if let Some((_, why)) = refused.iter().find(is_kept) {
        let remedy = "IRSA goes on working for it, as it does for add-ons and their controllers; an EKS add-on is moved \
                      by itself: aws eks update-addon --pod-identity-associations";
        return Verdict::new(State::Stays, why, remedy);
    }
    let refused = refused.first().map(|(_, why)| why);
    if let Some(verdict) = lacking(sight, refused, standing.is_some()) {
        return verdict;
    }
    let steps = steps(sight, (role, standing.as_ref(), pods), cluster, keys);
    let (state, told) = reached(&steps, standing.is_some(), pods);
    Verdict { state, told, remedy: String::new(), steps }
}

/// Of what should stay with IRSA, and an association stands.
fn taken(told: &str, standing: &Association, remedy: &str) -> Verdict {
    let told = format!("{told}, and association {} takes IRSA from its new pods", standing.id);
    Verdict::new(State::MendFirst, told, remedy)
}

/// Of what Pod Identity needs beside role and association: what is wrong, or else what could not be seen.
fn lacking(sight: &Sight, refused: Option<&String>, stands: bool) -> Option<Verdict> {
    if let Some(why) = sight.broken.first().or(refused) {
        let remedy = if stands {
            "an association stands, and new pods go without: mend it now, or take the association away"
        } else {
            "mend it before anything is moved, or leave it to IRSA"
        };
        return Some(Verdict::new(State::MendFirst, why, remedy));
    }
    sight.unseen.first().map(|why| Verdict::new(State::Unknown, why, ""))
}

/// How far it is by its steps, and what its pods are.
fn reached(steps: &[Step], stands: bool, pods: &[Pod]) -> (State, String) {
    let (state, told) = match steps.iter().find(|step| !step.done) {
        Some(step) if step.kind >= StepKind::Annotation && pods.is_empty() => {
            (State::Moved, "its association stands")
        }
        Some(step) if step.kind >= StepKind::Annotation => {
            (State::Moved, "all its pods have Pod Identity's variables")
        }
        Some(step) if step.kind == StepKind::Restart => (State::UnderWay, "its pods are to be made anew"),
        None => (State::Finished, "it is by Pod Identity alone"),
        _ if stands => (State::UnderWay, "its association stands before what it needs"),
        _ => (State::ToMove, "nothing is in the way"),
    };
    let told = if pods.is_empty() {
        format!("{told}; {NO_PODS}")
    } else if pods.iter().any(|pod| pod.host_network) {
        format!("{told}; a pod is on its host's network, where Pod Identity was seen to fail")
    } else {
        told.to_owned()
    };
    (state, told)
}

/// Why Pod Identity would not do for it where it runs, whatever its role, and what would be another way.
fn unfit(sight: &Sight, cluster: &Cluster) -> Option<(String, &'static str)> {
    if cluster.kind.outpost || cluster.kind.connected {
        let what = if cluster.kind.outpost { "on an Outpost" } else { "connected, and not EKS's own" };
        return Some((format!("the cluster is {what}: Pod Identity does not work there"), ""));
    }
    let minor = cluster.version.split_once('.').and_then(|(_, minor)| minor.parse::<u32>().ok());
    if minor.is_some_and(|minor| cluster.version.starts_with("1.") && minor < FIRST_MINOR) {
        let told = format!(
            "Kubernetes {} is older than 1.{FIRST_MINOR}, the first with Pod Identity",
            cluster.version
        );
        return Some((told, "update the cluster first"));
    }
    let runs_on = sight.pods.iter().flatten().find_map(|pod| match pod.runs_on? {
        NodeKind::Fargate => Some("Fargate"),
        NodeKind::Windows => Some("Windows nodes"),
        NodeKind::Instance | NodeKind::Auto | NodeKind::Hybrid => None,
    })?;
    let remedy = "run it on EC2 nodes with Linux, if it is to move";
    Some((format!("pods of it run on {runs_on}, where Pod Identity does not work"), remedy))
}

/// Of a role that EKS takes for no association: another may go on to it (EKS user guide, "Target IAM Roles").
fn of_another_account(sight: &Sight, account: &str, keys: &TagKeys) -> Verdict {
    let told = format!("its role is in another account, {account}, and EKS takes none of another");
    let key = keys.key("target-role");
    match &sight.standing {
        Ok(Some(standing)) => {
            let remedy = format!(
                "have the association go on to that role ({key} = its ARN, on the role that the association has), or \
                 take the association away"
            );
            taken(&told, standing, &remedy)
        }
        Ok(None) => {
            let remedy = format!(
                "or give it a role of the cluster's account that has {key} = that role's ARN and is allowed \
                 sts:AssumeRole and sts:TagSession on it, and have that role's trust policy allow it both"
            );
            Verdict::new(State::Stays, told, &remedy)
        }
        // It may be on its way to that role.
        Err(why) => Verdict::new(State::Unknown, why, ""),
    }
}

/// Whether the association's role goes on to the annotated one, so that pods get what they had.
fn is_chained(standing: &Association, annotated: &Annotated) -> bool {
    let record = standing.record.as_ref();
    record.is_some_and(|record| record.target_role.as_deref() == Some(annotated.role.as_str()))
}

/// Of one that has its role as a target role: what comes before the association was done for another role.
fn chained(sight: &Sight, standing: &Association, cluster: &Cluster) -> Verdict {
    let pods = match &sight.pods {
        Ok(pods) => pods,
        Err(why) => return Verdict::new(State::Unknown, why, ""),
    };
    if let Some(verdict) = lacking(sight, None, true) {
        return verdict;
    }
    let workload = &sight.annotated.workload;
    let statement = match &sight.role {
        Ok(Some(role)) => statement(role, cluster, workload),
        _ => Step {
            kind: StepKind::Statement,
            done: false,
            told: format!(
                "last, take its statement out of the trust policy of {}, if it is for this service account alone: it \
                 was not looked at",
                sight.annotated.role
            ),
            caution: "",
            command: String::new(),
        },
    };
    let annotation = annotation(workload, sight.is_annotated);
    let steps = vec![restart(true, pods, cluster, workload), annotation, statement];
    let (state, told) = reached(&steps, true, pods);
    let given = standing.record.as_ref().map_or("", |record| record.role_arn.as_str());
    let given = given.rsplit('/').next().unwrap_or(given);
    let told = format!(
        "{told}; association {} goes on to its role from {given}: whether the two roles' policies allow that was not \
         looked at",
        standing.id
    );
    Verdict { state, told, remedy: String::new(), steps }
}

/// The account of a role, where it is not the cluster's.
pub fn elsewhere(role: &str, cluster: &Cluster) -> Option<String> {
    let here = cluster.arn.split(':').nth(4)?;
    let arn: RoleArn = role.parse().ok()?;
    (arn.account() != here).then(|| arn.account().to_owned())
}

fn trusts(role: &Role, cluster: &Cluster, workload: &Workload, keys: &TagKeys) -> bool {
    let (tags, _) = RoleTags::parse(keys, &role.tags);
    let usage = Use {
        account: role.arn.account(),
        session_tags_off: Some(tags.session_tags_off),
        place: Some((cluster, workload)),
    };
    TrustPolicy::read(&role.trust_policy).allows(&usage).is_ok()
}

fn asks(role: &Role, cluster: &Cluster, workload: &Workload, keys: &TagKeys) -> bool {
    let (tags, _) = RoleTags::parse(keys, &role.tags);
    let mut grants = tags.grants.iter();
    grants.any(|grant| grant.subject.means(workload) && grant.subject.clusters.matches(cluster))
}
