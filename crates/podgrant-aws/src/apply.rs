//! From approved changes to outcomes: idempotent, bounded, deadline-aware.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use podgrant_core::outcome::{FollowUp, Wait};
use podgrant_core::plan::{AgentRemoval, RevokeReason, is_handed_over, still_goes, yields_to};
use podgrant_core::{
    Approved, Association, AssociationId, Change, ClusterId, Mark, Outcome, Role, RoleArn, RoleId, RoleTags,
    Snapshot, Verdict, Workload,
};
use sha2::{Digest, Sha256};

mod roles;
mod uninstall;

use uninstall::who_may_need;

use crate::error::TRUST_POLICY_INVALID;
use crate::roles::TrustWritten;
use crate::{Aws, AwsError, CONCURRENT_CALLS, Meaning};

/// How a change ended, and the association it met.
type Ended = (Verdict, Option<AssociationId>);

impl Aws {
    /// Makes the approved changes: first what gives access, then what takes it.
    ///
    /// `occasion` names the message that asked, so that its redelivery repeats the
    /// same request tokens. `time_is_up` is asked before each change; what is left
    /// then is Unbegun. `keep` is asked for each role before it begins to lose anything.
    pub async fn apply(
        &self,
        approved: &Approved,
        snapshot: &Snapshot,
        occasion: Occasion<'_>,
        keep: &Keep<'_>,
        time_is_up: impl Fn() -> bool,
    ) -> Vec<Outcome> {
        let cause = occasion.token();
        let full = Mutex::default();
        // Asked once, by the first that it matters to.
        let late = async { Arc::new(self.made_since(snapshot).await) }.boxed().shared();
        let stage = |change: &Change| match change {
            // What is given leans on it.
            Change::AmendTrust { .. } => 0,
            // What nobody leans on any more, when associations are gone.
            Change::WithdrawTrust { .. }
            | Change::RemoveAccessEntry { .. }
            | Change::RemoveAgent { reason: AgentRemoval::Uninstalled, .. } => 3,
            change if change.takes_away() => 2,
            _ => 1,
        };
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(approved.changes().len());
        for now in 0..=3 {
            let untrusting: BTreeSet<RoleArn> = outcomes
                .iter()
                .filter(|outcome| stage(&outcome.change) == 0 && outcome.verdict != Verdict::Done)
                .filter_map(|outcome| outcome.change.role().cloned())
                .collect();
            // What still stands needs its role's trust policy.
            let standing: BTreeSet<RoleArn> = outcomes
                .iter()
                .filter(|outcome| outcome.change.existing().is_some() && outcome.verdict != Verdict::Done)
                .filter_map(|outcome| outcome.change.role().cloned())
                .collect();
            let changes = approved.changes().iter().filter(|change| stage(change) == now);
            let ended: Vec<Outcome> = stream::iter(changes)
                .map(|change| async {
                    let leans_on_trust =
                        now == 1 && change.role().is_some_and(|role| untrusting.contains(role));
                    let is_leant_on =
                        matches!(change, Change::WithdrawTrust { role, .. } if standing.contains(role));
                    let (verdict, association) = if leans_on_trust {
                        let reason = "the role's trust policy was to be mended first".to_owned();
                        (Verdict::Dropped { reason }, None)
                    } else if time_is_up() {
                        (Verdict::Unbegun, None)
                    } else if is_leant_on {
                        (not_yet(change, "not all of the role's associations are gone"), None)
                    } else if let Some(needed) = who_may_need(change, &late).await {
                        (needed, None)
                    } else {
                        let (verdict, association) =
                            self.change(change, snapshot, &cause, keep, &full, &time_is_up).await;
                        (in_time(change, verdict, occasion.attempt), association)
                    };
                    Outcome { change: change.clone(), verdict, association }
                })
                // In the plan's order, however long each takes.
                .buffered(CONCURRENT_CALLS)
                .collect()
                .await;
            outcomes.extend(ended);
        }
        outcomes
    }

    async fn change(
        &self,
        change: &Change,
        snapshot: &Snapshot,
        cause: &str,
        keep: &Keep<'_>,
        full: &Mutex<BTreeSet<ClusterId>>,
        time_is_up: &impl Fn() -> bool,
    ) -> Ended {
        let result = match change {
            Change::Create { mark, .. } if is_full(full, &mark.cluster) => Err(AwsError::new(
                "eks:CreatePodIdentityAssociation",
                mark.cluster.to_string(),
                Meaning::LimitExceeded,
                "not asked for: EKS refused one before it, for the cluster has as many as it may have",
            )),
            Change::Create { workload, mark } => match self.create(workload, mark, cause).await {
                Err(error) if error.is(Meaning::AlreadyExists) => {
                    match self.meet(workload, mark, &error, cause).await {
                        Ok(Some(ended)) => Ok(ended),
                        Ok(None) => Err(error),
                        Err(error) => Err(error),
                    }
                }
                Err(error) if error.is(Meaning::LimitExceeded) => {
                    full.lock().unwrap_or_else(PoisonError::into_inner).insert(mark.cluster.clone());
                    Err(error)
                }
                ended => ended,
            },
            Change::Update { association, mark } => {
                self.update(change, association, mark, snapshot, cause).await
            }
            Change::Adopt { association, mark } => self.adopt(association, mark, cause).await,
            Change::Revoke { association, reason } => {
                self.revoke(change, association, *reason, snapshot).await
            }
            Change::AmendTrust { role, role_id, policy_before, policy }
            | Change::WithdrawTrust { role, role_id, policy_before, policy } => {
                self.amend_trust(change, role, role_id, (policy_before, policy)).await
            }
            Change::MarkOrphan { role, mark } => self.mark_orphan(role, mark, snapshot).await,
            Change::UnmarkOrphan { role, mark, .. } => self.unmark_orphan(role, mark).await,
            Change::DeleteRole { record, mark } => {
                self.delete_role(record, mark, snapshot, keep(change), time_is_up).await
            }
            // Installed is not healthy yet: someone has to come back and look.
            Change::InstallAgent { cluster, version, configuration, overwrite } => {
                let installed =
                    self.install_agent(cluster, version, configuration.as_deref(), *overwrite).await;
                installed.map(|()| (starting(cluster), None))
            }
            Change::UpdateAgent { cluster, agent, version } => {
                self.update_agent(cluster, agent, version).await.map(|()| (starting(cluster), None))
            }
            Change::RemoveAgent { cluster, reason: AgentRemoval::Uninstalled, .. } => {
                self.uninstall_agent(change, cluster).await
            }
            Change::RemoveAgent { cluster, agent, reason } => {
                let again = *reason == AgentRemoval::ToBeMadeAnew;
                let ended = if again { starting(cluster) } else { Verdict::Done };
                // What it is in conflict with is somebody's agent that runs.
                let preserve = again && agent.is_in_conflict();
                self.remove_agent(cluster, preserve).await.map(|()| (ended, None))
            }
            Change::RemoveAccessEntry { entry } => self.remove_access_entry(entry).await,
            Change::OpenKubernetes { cluster, namespaces } => {
                self.open_kubernetes(cluster, namespaces).await.map(|()| (Verdict::Done, None))
            }
            // Their whole effect is the event that the report sends.
            Change::AnnounceAgent { .. } | Change::AnnounceCluster { .. } => Ok((Verdict::Done, None)),
        };
        result.unwrap_or_else(|error| (verdict_of(change, &error), None))
    }

    async fn create(&self, workload: &Workload, mark: &Mark, cause: &str) -> Result<Ended, AwsError> {
        let created = self
            .region(&mark.cluster.region)?
            .eks
            .create_pod_identity_association()
            .cluster_name(mark.cluster.name.as_str())
            .namespace(workload.namespace.as_str())
            .service_account(workload.service_account.as_str())
            .role_arn(mark.role_arn.as_str())
            .set_tags(Some(mark.to_tags(&self.keys).into_iter().collect()))
            .set_disable_session_tags(mark.session_tags_off.then_some(true))
            .set_target_role_arn(mark.target_role.as_ref().map(ToString::to_string))
            .client_request_token(token(&["create", cause, &workload.to_string()], mark))
            .send()
            .await
            .map_err(|error| {
                let about = format!("{} {workload}", mark.cluster);
                AwsError::of("eks:CreatePodIdentityAssociation", about, error)
            })?;
        let id = created.association.and_then(|a| a.association_id).and_then(|id| id.parse().ok());
        Ok((Verdict::Done, id))
    }

    async fn update(
        &self,
        change: &Change,
        association: &Association,
        mark: &Mark,
        snapshot: &Snapshot,
        cause: &str,
    ) -> Result<Ended, AwsError> {
        // The index may be stale: look before touching what was not looked at in this pass.
        let hands_over = association.mark.as_ref().is_some_and(|old| old.role_arn != mark.role_arn);
        // A role's event takes seconds; what a sweep described may be minutes old.
        let just_seen = association.record.is_some() && snapshot.scope.roles.is_some();
        let current = if just_seen && !hands_over {
            association.clone()
        } else {
            match self.look_again(change, association).await? {
                Ok(current) => current,
                Err(verdict) => return Ok((verdict, Some(association.id.clone()))),
            }
        };
        let old = current.mark.as_ref().filter(|old| old.role_arn != mark.role_arn);
        if old.is_some() && !self.still_goes(&current, None, Some(&mark.role_arn), snapshot).await? {
            return Ok((wanted_after_all(&current), Some(association.id.clone())));
        }
        self.bring_to(&current, mark, cause).await
    }

    /// Marks what somebody else made as ours, if it still is what was planned for.
    async fn adopt(&self, planned: &Association, mark: &Mark, cause: &str) -> Result<Ended, AwsError> {
        let id = Some(planned.id.clone());
        match self.describe_association(&planned.cluster, &planned.id).await? {
            Some(current)
                if current.may_be_adopted_by(&mark.role_arn) && current.workload == planned.workload =>
            {
                // The mark first: IAM lets nothing be changed that does not carry it.
                self.mark(&current, mark).await?;
                let marked = Association { mark: Some(mark.clone()), ..current };
                self.bring_to(&marked, mark, cause).await
            }
            _ => {
                let reason =
                    format!("association {} is no longer as it was when it was to be adopted", planned.id);
                Ok((Verdict::Dropped { reason }, id))
            }
        }
    }

    /// Puts a trust policy in place of the one that it was planned on.
    async fn amend_trust(
        &self,
        change: &Change,
        role: &RoleArn,
        id: &RoleId,
        (before, after): (&str, &str),
    ) -> Result<Ended, AwsError> {
        Ok(match self.replace_trust(role, id, (before, after)).await? {
            TrustWritten::Done => (Verdict::Done, None),
            TrustWritten::Gone(reason) => (Verdict::Dropped { reason }, None),
            TrustWritten::Changed(reason) => (not_yet(change, reason), None),
        })
    }

    /// A place that was free when we looked and is taken now: whoever was quicker is looked at, and brought to what
    /// was asked for, or left. `None` where what is right has to be planned anew.
    async fn meet(
        &self,
        workload: &Workload,
        mark: &Mark,
        error: &AwsError,
        cause: &str,
    ) -> Result<Option<Ended>, AwsError> {
        let id = match already_there(&error.message) {
            Some(id) => id,
            None => match self.list_associations(&mark.cluster, Some(workload)).await?.as_slice() {
                [standing] => standing.id.clone(),
                // Deleted a moment ago: EKS still thinks that it stands.
                _ => return Ok(None),
            },
        };
        let Some(standing) = self.describe_association(&mark.cluster, &id).await? else { return Ok(None) };
        let same_role = standing.managed().is_some_and(|theirs| theirs.role_id == mark.role_id);
        if standing.workload != *workload {
            Ok(None)
        } else if same_role && (standing.mark.as_ref() != Some(mark) || !standing.agrees_with(mark)) {
            self.bring_to(&standing, mark, cause).await.map(Some)
        } else if same_role || (standing.mark.is_none() && standing.agrees_with(mark)) {
            // Told by whoever made it.
            let reason = format!("association {id} was made meanwhile, and grants it");
            Ok(Some((Verdict::Dropped { reason }, Some(id))))
        } else {
            Ok(None)
        }
    }

    /// Makes one of ours, as it was just described, what a mark says.
    async fn bring_to(&self, current: &Association, mark: &Mark, cause: &str) -> Result<Ended, AwsError> {
        if !current.agrees_with(mark) {
            let target = mark.target_role.as_ref().map(|role| role.as_str());
            self.region(&mark.cluster.region)?
                .eks
                .update_pod_identity_association()
                .cluster_name(mark.cluster.name.as_str())
                .association_id(current.id.as_str())
                .role_arn(mark.role_arn.as_str())
                .disable_session_tags(mark.session_tags_off)
                // Left out it would stay; empty, it is cleared.
                .target_role_arn(target.unwrap_or_default())
                .client_request_token(token(&["update", cause, current.id.as_str()], mark))
                .send()
                .await
                .map_err(|error| {
                    AwsError::of("eks:UpdatePodIdentityAssociation", current.arn.as_str(), error)
                })?;
        }
        if current.mark.as_ref() == Some(mark) {
            return Ok((Verdict::Done, Some(current.id.clone())));
        }
        // After the update: should this fail, the old mark shows that something is left to do.
        self.mark(current, mark).await?;
        Ok((Verdict::Done, Some(current.id.clone())))
    }

    async fn mark(&self, association: &Association, mark: &Mark) -> Result<(), AwsError> {
        let tagged = self
            .region(&mark.cluster.region)?
            .eks
            .tag_resource()
            .resource_arn(&association.arn)
            .set_tags(Some(mark.to_tags(&self.keys).into_iter().collect()))
            .send()
            .await;
        match tagged.map_err(|error| AwsError::of("eks:TagResource", association.arn.as_str(), error)) {
            // It went between two calls, and with it what was just given: that is to be made anew.
            Err(error) if error.is(Meaning::NotFound) => {
                Err(AwsError { meaning: Meaning::WrongState, ..error })
            }
            tagged => tagged.map(|_| ()),
        }
    }

    async fn revoke(
        &self,
        change: &Change,
        association: &Association,
        reason: RevokeReason,
        snapshot: &Snapshot,
    ) -> Result<Ended, AwsError> {
        let id = Some(association.id.clone());
        if reason == RevokeReason::Uninstalled {
            return match self.look_before_uninstall(change, association).await? {
                Some(verdict) => Ok((verdict, id)),
                None => Ok((self.delete_association(association).await?, id)),
            };
        }
        let current = match self.look_again(change, association).await? {
            Ok(current) => current,
            Err(verdict) => return Ok((verdict, id)),
        };
        if let Some(heir) = self.half_handed_over(&current, snapshot).await? {
            let reason = format!("association {} is being handed over to {heir}", association.id);
            return Ok((Verdict::Dropped { reason }, id));
        }
        if !self.still_goes(&current, Some(reason), None, snapshot).await? {
            return Ok((wanted_after_all(&current), id));
        }
        if reason == RevokeReason::ServiceAccountGone {
            let Some(cluster) = snapshot.clusters.get(&current.cluster) else {
                return Ok((wanted_after_all(&current), id));
            };
            match self.account_exists(cluster, &current.workload, snapshot.observed_at).await {
                Ok(false) => {}
                Ok(true) => {
                    let reason = format!("looked at once more, {} is there again", current.workload);
                    return Ok((Verdict::Dropped { reason }, id));
                }
                Err(why) => return Ok((not_yet(change, why), id)),
            }
        }
        Ok((self.delete_association(association).await?, id))
    }

    async fn delete_association(&self, association: &Association) -> Result<Verdict, AwsError> {
        let deleted = self
            .region(&association.cluster.region)?
            .eks
            .delete_pod_identity_association()
            .cluster_name(association.cluster.name.as_str())
            .association_id(association.id.as_str())
            .send()
            .await
            .map_err(|error| {
                AwsError::of("eks:DeletePodIdentityAssociation", association.arn.as_str(), error)
            });
        // Gone may well be our own doing, its answer lost: better told twice than never.
        match deleted {
            Err(error) if !error.is(Meaning::NotFound) => Err(error),
            _ => Ok(Verdict::Done),
        }
    }

    /// The association as EKS has it now, if it is the one that was planned for;
    /// otherwise how the change ends.
    async fn look_again(
        &self,
        change: &Change,
        planned: &Association,
    ) -> Result<Result<Association, Verdict>, AwsError> {
        let Some(current) = self.describe_association(&planned.cluster, &planned.id).await? else {
            let reason = format!("association {} is gone already", planned.id);
            return Ok(Err(Verdict::Dropped { reason }));
        };
        if current.managed().is_none() {
            let reason = format!("association {} is no longer podgrant's", planned.id);
            return Ok(Err(Verdict::Dropped { reason }));
        }
        if current.mark != planned.mark || current.workload != planned.workload {
            // The index was behind: what is right is decided anew on what stands.
            let reason = format!("association {} changed since it was planned for", planned.id);
            return Ok(Err(not_yet(change, reason)));
        }
        Ok(Ok(current))
    }

    /// Whether an association about to be taken away still should be: its role is
    /// looked at once more, and judged by the rules that planned it.
    async fn still_goes(
        &self,
        association: &Association,
        reason: Option<RevokeReason>,
        heir: Option<&RoleArn>,
        snapshot: &Snapshot,
    ) -> Result<bool, AwsError> {
        let Some(mark) = association.managed() else { return Ok(false) };
        let name = mark.role_arn.role_name();
        let mut role = self.role(name).await?;
        // One that asks may be refused for what its policies allow, and then has no say in it.
        let may_be_refused =
            matches!(reason, None | Some(RevokeReason::Refused | RevokeReason::RoleReplaced));
        if let Some(role) = role.as_mut()
            && may_be_refused
            && self.guardrails.refuse_administrators
            && !RoleTags::parse(&self.keys, &role.tags).0.grants.is_empty()
        {
            role.powers = self.powers(name).await?;
        }
        let (keys, guardrails) = (&self.keys, &self.guardrails);
        let yields = heir
            .and_then(|heir| snapshot.roles.get(heir))
            .is_some_and(|heir| yields_to(association, role.clone(), heir, snapshot, keys, guardrails));
        Ok(yields || still_goes(association, role, snapshot, keys, guardrails))
    }

    /// The role that an association was given to while its mark still names another (an update, and its mark not yet),
    /// if that role may have it.
    async fn half_handed_over(
        &self,
        association: &Association,
        snapshot: &Snapshot,
    ) -> Result<Option<RoleArn>, AwsError> {
        let (Some(record), Some(mark)) = (&association.record, association.managed()) else {
            return Ok(None);
        };
        let heir = record.role_arn.parse::<RoleArn>().ok().filter(|role| *role != mark.role_arn);
        let Some(heir) = heir else { return Ok(None) };
        let found = self.whole_role(heir.role_name()).await?.filter(|role| role.arn == heir);
        let may_have_it = |role: &Role| {
            is_handed_over(association, [role], true, &snapshot.clusters, &self.keys, &self.guardrails)
        };
        Ok(found.filter(may_have_it).map(|role| role.arn))
    }
}

/// Keeps what is known of a role that is about to be deleted, where it outlasts the role.
pub type Keep<'a> = dyn Fn(&Change) -> BoxFuture<'a, Result<(), String>> + Send + Sync + 'a;

/// The message that a change is made for.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    /// The id of the event that asked.
    pub id: &'a str,
    /// How often the work was put off.
    pub attempt: u32,
}

impl Occasion<'_> {
    /// A later attempt is another request: its token must not bring back an old answer.
    fn token(self) -> String {
        format!("{}.{}", self.id, self.attempt)
    }
}

/// How often EKS may find a trust policy wanting that, as IAM shows it, is not.
const TRUST_LOOKS: u32 = 4;

/// What EKS says of a trust policy may be about the one before: IAM's changes take a while to be seen (IAM user
/// guide, "Troubleshoot IAM"). Nothing is made that the policy, as we read it, does not allow.
fn in_time(change: &Change, verdict: Verdict, attempt: u32) -> Verdict {
    match verdict {
        Verdict::Refused { reason } if attempt < TRUST_LOOKS && reason.contains(TRUST_POLICY_INVALID) => {
            not_yet(change, reason)
        }
        verdict => verdict,
    }
}

/// The association of `Association already exists: a-…`, as EKS words it (provider-upjet-aws#1437).
fn already_there(message: &str) -> Option<AssociationId> {
    let (_, rest) = message.rsplit_once("already exists: ")?;
    rest.trim().trim_end_matches('.').parse().ok()
}

/// Whether EKS refused a cluster one more association in this pass: it is not asked for the next.
fn is_full(full: &Mutex<BTreeSet<ClusterId>>, cluster: &ClusterId) -> bool {
    full.lock().unwrap_or_else(PoisonError::into_inner).contains(cluster)
}

fn starting(cluster: &ClusterId) -> Verdict {
    Verdict::NotYet(Wait {
        reason: format!("the agent on {cluster} is starting"),
        follow_up: FollowUp::AgentStarting { cluster: cluster.clone() },
    })
}

fn wanted_after_all(association: &Association) -> Verdict {
    let role = association.mark.as_ref().map(|mark| mark.role_arn.to_string()).unwrap_or_default();
    Verdict::Dropped { reason: format!("looked at once more, {role} keeps association {}", association.id) }
}

fn not_yet(change: &Change, reason: impl Into<String>) -> Verdict {
    // Looking inside is worth no wait: whoever looks next opens it.
    if matches!(change, Change::OpenKubernetes { .. }) {
        return Verdict::Dropped { reason: reason.into() };
    }
    Verdict::NotYet(Wait { reason: reason.into(), follow_up: change.follow_up() })
}

fn verdict_of(change: &Change, error: &AwsError) -> Verdict {
    let reason = error.to_string();
    // Nor a failed message.
    if matches!(change, Change::OpenKubernetes { .. }) {
        return Verdict::Refused { reason };
    }
    // Where an organisation forbids it, another try forbids it too.
    let is_of_a_role = matches!(
        change,
        Change::AmendTrust { .. }
            | Change::WithdrawTrust { .. }
            | Change::MarkOrphan { .. }
            | Change::UnmarkOrphan { .. }
            | Change::DeleteRole { .. }
    );
    if is_of_a_role && error.is(Meaning::AccessDenied) {
        return Verdict::Refused { reason };
    }
    match error.meaning {
        // The cluster went meanwhile, and took the association along.
        Meaning::NotFound => Verdict::Dropped { reason },
        Meaning::TrustPolicy | Meaning::Invalid | Meaning::LimitExceeded => Verdict::Refused { reason },
        Meaning::AlreadyExists | Meaning::RoleNotVisible | Meaning::WrongState | Meaning::Throttled => {
            not_yet(change, reason)
        }
        Meaning::AccessDenied
        | Meaning::NoCredentials
        | Meaning::BadCredentials
        | Meaning::Unreachable
        | Meaning::Transient => Verdict::Failed { reason },
    }
}

/// A request token that is the same for the same request, however often the
/// message that caused it is delivered. 64 hexadecimal digits.
fn token(parts: &[&str], mark: &Mark) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    for (key, value) in mark.to_tags(&podgrant_core::TagKeys::default()) {
        hash.update(key.as_bytes());
        hash.update([0]);
        hash.update(value.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
