//! What no tag can ask for: limits that whoever runs podgrant sets, on by default.
//!
//! A claim that a guardrail refuses gets nothing new. What stands already is told and
//! left as it is, or goes, as [`OnRefused`] says.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Role;
use crate::names::Namespace;
use crate::powers::Powers;
use crate::tags::Grant;

/// The namespaces that Kubernetes makes for itself (Kubernetes documentation,
/// "Namespaces", "Initial namespaces"); `default`, the fourth, is people's.
const KUBERNETES_OWN: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Many service accounts on one role is a role that nobody made for them.
const MAX_SERVICE_ACCOUNTS: usize = 10;

/// What grants are held to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guardrails {
    /// Pods of these namespaces get no roles.
    pub refused_namespaces: BTreeSet<Namespace>,
    /// Roles must be somewhere under one of these IAM paths, such as `/apps/`; empty: anywhere.
    pub role_paths: Vec<String>,
    /// Roles that can do everything are given to no pods.
    pub refuse_administrators: bool,
    /// How many service accounts, wherever they are, a role's grants may name; and with those that its patterns mean
    /// on a cluster, how many may share it there.
    pub max_service_accounts: usize,
    /// The ARN of the policy that roles must have for their permissions boundary.
    pub permissions_boundary: Option<String>,
    /// What becomes of what stands already.
    pub on_refused: OnRefused,
}

impl Default for Guardrails {
    fn default() -> Self {
        Self {
            refused_namespaces: KUBERNETES_OWN.iter().filter_map(|name| name.parse().ok()).collect(),
            role_paths: Vec::new(),
            refuse_administrators: true,
            max_service_accounts: MAX_SERVICE_ACCOUNTS,
            permissions_boundary: None,
            on_refused: OnRefused::Report,
        }
    }
}

/// What becomes of an association whose grant a guardrail refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRefused {
    /// It stays as it is, and is told of: a limit that comes after it breaks nothing.
    #[default]
    Report,
    /// It goes.
    Withdraw,
}

/// One of the guardrails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    RefusedNamespaces,
    RolePaths,
    Administrators,
    ServiceAccounts,
    RequiredBoundary,
}

impl Rule {
    /// The variable that it is set by.
    pub fn variable(self) -> &'static str {
        match self {
            Self::RefusedNamespaces => "PODGRANT_REFUSED_NAMESPACES",
            Self::RolePaths => "PODGRANT_ROLE_PATHS",
            Self::Administrators => "PODGRANT_REFUSE_ADMINISTRATORS",
            Self::ServiceAccounts => "PODGRANT_MAX_SERVICE_ACCOUNTS",
            Self::RequiredBoundary => "PODGRANT_REQUIRED_BOUNDARY",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RefusedNamespaces => "refused-namespaces",
            Self::RolePaths => "role-paths",
            Self::Administrators => "administrators",
            Self::ServiceAccounts => "service-accounts",
            Self::RequiredBoundary => "required-boundary",
        })
    }
}

/// A guardrail's no. Its `Display` names the rule, what is so, and the remedies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub rule: Rule,
    /// What is so, and what would change it.
    pub reason: String,
    /// It may not be so: then nobody loses access for it.
    pub in_doubt: bool,
}

impl Refusal {
    /// Whether another place might do; otherwise it is the role that will not.
    pub fn is_about_a_place(&self) -> bool {
        self.rule == Rule::RefusedNamespaces
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.reason)
    }
}

/// What the guardrails leave to a claim; of several, the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Ruling {
    /// All that its tags ask for.
    #[default]
    Allowed,
    /// What it has, until the role's powers are known.
    Unread,
    /// What it has, as it is.
    Refused,
    /// Nothing.
    Expelled,
}

impl Guardrails {
    /// Why pods of a namespace get no role.
    pub fn namespace_refusal(&self, namespace: &Namespace) -> Option<Refusal> {
        self.refused_namespaces.contains(namespace).then(|| {
            let variable = Rule::RefusedNamespaces.variable();
            let reason = format!(
                "pods of {namespace} get no roles; grant to another namespace, or allow this one with {variable}"
            );
            Refusal { rule: Rule::RefusedNamespaces, reason, in_doubt: false }
        })
    }

    /// Why no pods get a role, whoever they are: each rule that it breaks.
    pub fn role_refusals(&self, role: &Role, grants: &[Grant]) -> Vec<Refusal> {
        let sure = |rule, reason| Refusal { rule, reason, in_doubt: false };
        let refusals = [
            self.path_refusal(role).map(|reason| sure(Rule::RolePaths, reason)),
            self.administrator_refusal(role),
            self.sharing_refusal(grants).map(|reason| sure(Rule::ServiceAccounts, reason)),
            self.boundary_refusal(role).map(|reason| sure(Rule::RequiredBoundary, reason)),
        ];
        refusals.into_iter().flatten().collect()
    }

    /// Whether the role's powers must be known, and are not.
    pub fn lacks_powers(&self, role: &Role) -> bool {
        self.refuse_administrators && role.powers == Powers::Unread
    }

    /// What refusals leave of a claim.
    pub fn ruling<'a>(&self, refusals: impl IntoIterator<Item = &'a Refusal>) -> Ruling {
        let ruling = |refusal: &Refusal| match self.on_refused {
            OnRefused::Withdraw if !refusal.in_doubt => Ruling::Expelled,
            OnRefused::Withdraw | OnRefused::Report => Ruling::Refused,
        };
        refusals.into_iter().map(ruling).max().unwrap_or_default()
    }

    fn path_refusal(&self, role: &Role) -> Option<String> {
        let paths: Vec<String> = self.role_paths.iter().map(|path| whole_segments(path)).collect();
        let path = role.arn.path();
        let allowed = paths.is_empty() || paths.iter().any(|allowed| path.starts_with(allowed.as_str()));
        // IAM's UpdateRole changes no path (IAM API reference): it is part of the ARN.
        (!allowed).then(|| {
            format!(
                "the role's path is {path}, and pods get roles under {} only; make it anew under such a path, \
                 or allow this one with {}",
                paths.join(" and "),
                Rule::RolePaths.variable()
            )
        })
    }

    fn administrator_refusal(&self, role: &Role) -> Option<Refusal> {
        if !self.refuse_administrators {
            return None;
        }
        let (what, in_doubt) = match &role.powers {
            // Whether what is unread comes to a refusal is not known: see `lacks_powers`.
            Powers::Unread | Powers::Limited => return None,
            Powers::Everything { policy } => (
                format!(
                    "its policy {policy} allows everything, or all but what it names; let it name what the pods need"
                ),
                false,
            ),
            Powers::Unclear { policy, problem } => (
                format!("its policy {policy} makes no sense ({problem}), and may allow everything; mend it"),
                true,
            ),
        };
        let reason = format!("{what}, or allow such roles with {}", Rule::Administrators.variable());
        Some(Refusal { rule: Rule::Administrators, reason, in_doubt })
    }

    /// Patterns count as one: what they mean on a cluster is for [`crowd_refusal`](Self::crowd_refusal) to say.
    fn sharing_refusal(&self, grants: &[Grant]) -> Option<String> {
        let named: BTreeSet<_> =
            grants.iter().map(|grant| (&grant.subject.namespace, &grant.subject.service_account)).collect();
        (named.len() > self.max_service_accounts).then(|| {
            format!(
                "its grants name {count} service accounts, and at most {} may share a role; \
                 make a role for each workload, or raise {} to {count}",
                self.max_service_accounts,
                Rule::ServiceAccounts.variable(),
                count = named.len(),
            )
        })
    }

    /// Why a role's patterns get nothing new on a cluster where so many service accounts would share it. Who makes
    /// service accounts has no say in what others have: nobody loses access for it.
    pub(crate) fn crowd_refusal(&self, sharing: usize) -> Option<Refusal> {
        (sharing > self.max_service_accounts).then(|| {
            let reason = format!(
                "with what its patterns mean here its grants come to {sharing} service accounts, and at most {} may \
                 share a role; what stands stays, and its patterns get nothing new here: narrow them, make a role for \
                 each workload, or raise {} to {sharing}",
                self.max_service_accounts,
                Rule::ServiceAccounts.variable(),
            );
            Refusal { rule: Rule::ServiceAccounts, reason, in_doubt: true }
        })
    }

    /// Why a pattern does not reach these namespaces.
    pub(crate) fn passed_by(&self, namespaces: &[&str]) -> String {
        let rule = Rule::RefusedNamespaces;
        format!(
            "{rule}: pods of {} get no roles, and the pattern passes them by; {} says which",
            namespaces.join(", "),
            rule.variable()
        )
    }

    fn boundary_refusal(&self, role: &Role) -> Option<String> {
        let required = self.permissions_boundary.as_deref()?;
        let has = match role.permissions_boundary.as_deref() {
            Some(boundary) if boundary == required => return None,
            Some(boundary) => format!("its permissions boundary is {boundary}"),
            None => "it has no permissions boundary".to_owned(),
        };
        Some(format!(
            "{has}, and pods get roles with {required} only; give it that boundary, or change {}",
            Rule::RequiredBoundary.variable()
        ))
    }
}

/// `/apps/`, also where it was written `apps` or `/apps`: a prefix that ends amid a
/// name would let `/apps-of-others/` in.
fn whole_segments(path: &str) -> String {
    match path.trim().trim_matches('/') {
        "" => "/".to_owned(),
        segments => format!("/{segments}/"),
    }
}

#[cfg(test)]
mod tests;
