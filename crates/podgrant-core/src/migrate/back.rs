//! From Pod Identity back to IRSA: what a journal says was done, in the other direction.
//!
//! What IRSA needs comes first. From the moment that the association is gone EKS's webhook gives new pods the annotation's
//! variables again; pods that run keep the credentials that the agent gave them, for 6 hours at most (EKS user guide, "How
//! EKS Pod Identity works"), and get no others. So it goes only where they can be made anew at once.

use super::{
    IrsaEdit, Moved, Sight, State, Step, StepKind, asks, elsewhere, lacks_irsa, oidc_statements, subject,
    trusts,
};
use crate::explain::evidence::Read;
use crate::model::{Cluster, Role};
use crate::tags::edit::{self, Edit};
use crate::tags::{RoleTags, TagKeys};

/// Why there is no way back, or not now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    pub state: State,
    pub told: String,
    pub remedy: String,
}

impl Halt {
    fn new(state: State, told: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state, told: told.into(), remedy: remedy.into() }
    }
}

/// The way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Back {
    /// In their order. What IRSA needs stands first, and is good whatever follows.
    pub steps: Vec<Step>,
    /// Why nothing goes that Pod Identity needs.
    pub halt: Option<Halt>,
}

impl Back {
    /// The next step, and which of them it is.
    ///
    /// # Errors
    /// Why it goes no further.
    pub fn next(self) -> Result<Option<(usize, Step)>, Halt> {
        let next = self.steps.into_iter().enumerate().find(|(_, step)| !step.done);
        match (next, self.halt) {
            (Some((_, step)), Some(halt)) if !gives_irsa(step.kind) => Err(halt),
            (None, Some(halt)) => Err(halt),
            (next, _) => Ok(next),
        }
    }
}

/// Whether a step gives back what IRSA needs, and takes nothing.
fn gives_irsa(kind: StepKind) -> bool {
    matches!(kind, StepKind::Statement | StepKind::Annotation)
}

/// What is to be done to go back. `provider`: whether the account has the cluster's OIDC provider.
///
/// # Errors
/// Why nothing of it is to be done.
pub fn back(
    sight: &Sight,
    moved: &Moved,
    provider: &Read<bool>,
    cluster: &Cluster,
    keys: &TagKeys,
) -> Result<Back, Halt> {
    let (workload, unread) = (&sight.annotated.workload, |why: &String| Halt::new(State::Unknown, why, ""));
    let standing = sight.standing.as_ref().map_err(unread)?;
    let pods = sight.pods.as_ref().map_err(unread)?;
    let role = sight.role.as_ref().map_err(unread)?.as_ref();
    if sight.is_annotated && sight.annotated.role != moved.role {
        let told = format!("its annotation names {} now, and not {}", sight.annotated.role, moved.role);
        return Err(Halt::new(State::MendFirst, told, "say which role is right, and annotate it so"));
    }
    let is_it = |role: &&Role| moved.role_id.as_ref().is_none_or(|id| *id == role.id.as_str());
    let Some(role) = role.filter(is_it) else {
        let told = match elsewhere(&moved.role, cluster) {
            Some(account) => format!("its role is in another account, {account}, and was not looked at"),
            None => format!("the role {} is gone, or was made again", moved.role),
        };
        let remedy = "by hand: statement and annotation back first, then take the association away, and restart its pods";
        return Err(Halt::new(State::MendFirst, told, remedy));
    };
    if !*provider.as_ref().map_err(unread)? {
        let told = "the account has no OIDC provider of the cluster any more: IRSA lets nobody in";
        let remedy = "make it: eksctl utils associate-iam-oidc-provider --approve --cluster …";
        return Err(Halt::new(State::MendFirst, told, remedy));
    }
    let mended = IrsaEdit::put_back(role, cluster, workload, &moved.statements)
        .map_err(|why| Halt::new(State::MendFirst, format!("its trust policy stays as it is: {why}"), ""))?;
    // Whoever writes into a journal writes the role as well: what was moved with a role has its trust.
    if mended.is_some() && !trusts(role, cluster, workload, keys) {
        let told =
            "the role does not let Pod Identity in for it: podgrant migrate did not move it with this role";
        return Err(Halt::new(
            State::MendFirst,
            told,
            "put its statement for IRSA back by hand, if it is right",
        ));
    }
    let policy = mended.as_ref().map_or(role.trust_policy.as_str(), IrsaEdit::after);
    if oidc_statements(policy, cluster.oidc_issuer.as_deref(), workload).is_empty() {
        let told = "the role's trust policy has no statement for it by the cluster's OIDC provider, and the journal \
                    knows of none";
        return Err(Halt::new(
            State::MendFirst,
            told,
            "let it in by IRSA first, or leave it to Pod Identity",
        ));
    }
    let edit = tags_back(role, moved, sight, cluster, keys);
    let step = |kind, done, told: String| Step { kind, done, told, caution: "", command: String::new() };
    let running = || pods.iter().filter(|pod| !pod.is_ending);
    let (lacking, all) = (running().filter(|pod| lacks_irsa(pod)).count(), running().count());
    let tags: Vec<&str> = edit.changes.iter().map(|change| change.key.as_str()).collect();
    let association = match standing {
        None => "no association stands".to_owned(),
        Some(standing) => format!("association {} goes", standing.id),
    };
    let steps = vec![
        step(
            StepKind::Statement,
            mended.is_none(),
            format!(
                "role {}: its trust policy has again {}",
                role.arn.role_name(),
                moved.statements.join(", ")
            ),
        ),
        step(
            StepKind::Annotation,
            sight.is_annotated || !moved.annotation,
            format!("the annotation with {}", moved.role),
        ),
        step(StepKind::Tag, edit.changes.is_empty(), format!("of the role's tags {}", tags.join(" and "))),
        step(StepKind::Association, standing.is_none(), association),
        step(StepKind::Restart, lacking == 0, format!("{lacking} of {all} pods lack IRSA's variables alone")),
    ];
    let halt = halt(sight, moved, (role, &edit), cluster, keys);
    Ok(Back { steps, halt })
}

/// Why the association stays.
fn halt(
    sight: &Sight,
    moved: &Moved,
    (role, edit): (&Role, &Edit),
    cluster: &Cluster,
    keys: &TagKeys,
) -> Option<Halt> {
    const BESIDE: &str = "what IRSA needs stands beside it again";
    if !sight.is_annotated && !moved.annotation {
        let told = "its annotation was taken away, and not by podgrant migrate";
        return Some(Halt::new(State::MendFirst, told, "put it back where it is written, then run it again"));
    }
    let standing = sight.standing.as_ref().ok()?.as_ref()?;
    if standing.managed().is_none() {
        let told = format!("association {} is not podgrant's; {BESIDE}", standing.id);
        let remedy = "whoever made it takes it away; then make its pods anew";
        return Some(Halt::new(State::Stays, told, remedy));
    }
    let after = Role { tags: edit.tags.clone(), ..role.clone() };
    if asks(&after, cluster, &sight.annotated.workload, keys) {
        let told = format!(
            "a grant of the role asks for the place that podgrant migrate did not write, or that means others too; {BESIDE}"
        );
        let remedy = "podgrant revoke takes it away, if that is meant; then make its pods anew";
        return Some(Halt::new(State::Stays, told, remedy));
    }
    None
}

/// The role's tags without what was written for this service account. That podgrant may see to the trust policy goes with
/// the last grant.
pub fn tags_back(role: &Role, moved: &Moved, sight: &Sight, cluster: &Cluster, keys: &TagKeys) -> Edit {
    let place = subject(cluster, &sight.annotated.workload).filter(|_| moved.grants);
    let mut edit = edit::revoke(keys, &role.tags, &place.into_iter().collect());
    let (left, problems) = RoleTags::parse(keys, &edit.tags);
    let key = keys.key("trust");
    if moved.trusts
        && left.grants.is_empty()
        && problems.is_empty()
        && edit.tags.get(&key).is_some_and(|is| is == "manage")
    {
        edit.tags.remove(&key);
        edit.changes = edit::changes(&role.tags, &edit.tags);
    }
    edit
}
