//! From Pod Identity back to IRSA: what a journal says was done, in the other direction.
//!
//! What IRSA needs comes first. From the moment that the association is gone EKS's webhook gives new pods the annotation's
//! variables again; pods that run keep the credentials that the agent gave them, for 6 hours at most (EKS user guide, "How
//! EKS Pod Identity works"), and get no others. So it goes only where they can be made anew at once.

use super::{
    Moved, Sight, State, Step, StepKind, asks, elsewhere, has_variables, oidc_statements, subject,
};
use crate::model::{Cluster, Role};
use crate::tags::edit::{self, Edit};
use crate::tags::{RoleTags, TagKeys};
use crate::trust::manage::with_also;

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

/// The steps back, in their order.
///
/// # Errors
/// Why nothing of it is to be done.
pub fn back(sight: &Sight, moved: &Moved, cluster: &Cluster, keys: &TagKeys) -> Result<Vec<Step>, Halt> {
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
        let remedy = "by hand: put the annotation back, take the association away, restart its pods";
        return Err(Halt::new(State::MendFirst, told, remedy));
    };
    let mended = with_also(&role.trust_policy, &moved.statements)
        .map_err(|why| Halt::new(State::MendFirst, format!("its trust policy stays as it is: {why}"), ""))?;
    let policy = mended.as_ref().unwrap_or(&role.trust_policy);
    if oidc_statements(policy, cluster.oidc_issuer.as_deref(), workload).is_empty() {
        let told = "the role's trust policy has no statement for it by the cluster's OIDC provider, and the journal \
                    knows of none";
        return Err(Halt::new(State::MendFirst, told, "let it in by IRSA first, or leave it to Pod Identity"));
    }
    let edit = tags_back(role, moved, sight, cluster, keys);
    if let Some(standing) = standing {
        let after = Role { tags: edit.tags.clone(), ..role.clone() };
        if standing.managed().is_none() {
            let told = format!("association {} is not podgrant's", standing.id);
            return Err(Halt::new(State::Stays, told, "whoever made it takes it away"));
        }
        if asks(&after, cluster, workload, keys) {
            let told = "a grant of the role asks for the place that was there before it was moved, or means others too";
            let remedy = "podgrant revoke takes it away, if that is meant";
            return Err(Halt::new(State::Stays, told, remedy));
        }
    }
    let step = |kind, done, told: String| Step { kind, done, told, caution: "", command: String::new() };
    let given = pods.iter().filter(|pod| has_variables(pod)).count();
    let tags: Vec<&str> = edit.changes.iter().map(|change| change.key.as_str()).collect();
    Ok(vec![
        step(StepKind::Statement, mended.is_none(), counted(moved.statements.len())),
        step(StepKind::Annotation, sight.is_annotated, format!("the annotation with {}", moved.role)),
        step(
            StepKind::Tag,
            edit.changes.is_empty(),
            format!("take back {} of the role", if tags.is_empty() { "no tag".to_owned() } else { tags.join(" and ") }),
        ),
        step(
            StepKind::Association,
            standing.is_none(),
            standing.as_ref().map_or_else(
                || "no association stands".to_owned(),
                |standing| format!("take association {} away", standing.id),
            ),
        ),
        step(StepKind::Restart, given == 0, format!("{given} of {} pods have Pod Identity's variables", pods.len())),
    ])
}

fn counted(statements: usize) -> String {
    match statements {
        0 => "the trust policy has what IRSA needs".to_owned(),
        1 => "the statement for IRSA, back into the trust policy".to_owned(),
        many => format!("{many} statements for IRSA, back into the trust policy"),
    }
}

/// The role's tags without what was written for this service account. That podgrant may see to the trust policy goes with
/// the last grant.
pub fn tags_back(role: &Role, moved: &Moved, sight: &Sight, cluster: &Cluster, keys: &TagKeys) -> Edit {
    let place = subject(cluster, &sight.annotated.workload).filter(|_| moved.grants);
    let mut edit = edit::revoke(keys, &role.tags, &place.into_iter().collect());
    let (left, problems) = RoleTags::parse(keys, &edit.tags);
    let key = keys.key("trust");
    if moved.trusts && left.grants.is_empty() && problems.is_empty() && edit.tags.get(&key).is_some_and(|is| is == "manage") {
        edit.tags.remove(&key);
        edit.changes = edit::changes(&role.tags, &edit.tags);
    }
    edit
}
