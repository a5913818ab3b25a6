//! From tag to credentials, link by link.

use std::fmt;

use serde::Serialize;

/// The whole way from a role's tag to a pod's credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chain {
    /// What it is about: `payments/api@prod-eu`, or a pod there.
    pub place: String,
    /// The role's name; none where nobody asks and nothing stands.
    pub role: Option<String>,
    /// From the tag on. What hangs on a link that is not there is left out.
    pub links: Vec<Link>,
}

/// One thing that must be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    pub kind: LinkKind,
    pub state: State,
    /// What is so.
    pub told: String,
    /// What would mend it, or show it.
    pub remedy: Option<String>,
    /// What exactly is broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Right,
    Broken,
    /// It could not be read.
    Unknown,
}

/// Which link it is, in the order of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// The role is there.
    Role,
    /// A tag of it names the place.
    Tag,
    Guardrails,
    /// Its trust policy lets EKS Pod Identity assume it for this place.
    Trust,
    /// The cluster is there, ready, enrolled and supported.
    Cluster,
    /// The association is there, with that role.
    Association,
    /// The agent is installed and healthy.
    Agent,
    /// The service account is there.
    Account,
    /// Pods use it.
    Pod,
    /// They were given the variables and the token.
    Variables,
    /// Their nodes have a ready agent.
    Node,
    /// Their nodes' role lets the agent ask for credentials.
    NodeRole,
    /// Nothing that AWS's SDKs look at earlier, and nothing between them and the agent.
    Sdk,
}

/// What is broken, the likelier to be the cause of all else first: a chain's first fault is named first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    NoCluster,
    ClusterUnsupported,
    ClusterNotReady,
    /// The pod uses another service account than the one that has a role.
    OtherAccount,
    NoRole,
    BadTag,
    NoTag,
    ClusterOptedOut,
    Guardrail,
    TrustPolicy,
    /// Somebody else's association, or another role's, stands in the place.
    OtherAssociation,
    AssociationGoing,
    RoleReplaced,
    NoAssociation,
    Fargate,
    Windows,
    NoAccount,
    NoPod,
    /// Pods of the namespace use other service accounts.
    Unused,
    /// The pod is older than its association.
    PodOlder,
    /// The pod has EKS leave a container alone.
    ContainerSkipped,
    /// The variables are not as EKS sets them.
    VariablesOtherwise,
    /// Younger than its association, and without variables all the same.
    NotGiven,
    StaticKeys,
    WebIdentity,
    NoAgent,
    PortTaken,
    NodeDown,
    NodeTaints,
    NodeLeftOut,
    AgentNotReady,
    AgentUnhealthy,
    NodeRole,
    Proxy,
}

impl Link {
    pub(super) fn right(kind: LinkKind, told: impl Into<String>) -> Self {
        Self { kind, state: State::Right, told: told.into(), remedy: None, fault: None }
    }

    pub(super) fn broken(
        kind: LinkKind,
        fault: Fault,
        told: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into()).filter(|remedy: &String| !remedy.is_empty());
        Self { kind, state: State::Broken, told: told.into(), remedy, fault: Some(fault) }
    }

    /// A refusal as plans word it: `what is so; what would change it`.
    pub(super) fn refused(kind: LinkKind, fault: Fault, reason: &str) -> Self {
        let (told, remedy) = reason.rsplit_once("; ").unwrap_or((reason, ""));
        Self::broken(kind, fault, told, remedy)
    }

    pub(super) fn unknown(kind: LinkKind, why: impl Into<String>) -> Self {
        Self { kind, state: State::Unknown, told: why.into(), remedy: None, fault: None }
    }

    pub(super) fn mended_by(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

impl Chain {
    /// Whether every link is known to be right.
    pub fn is_whole(&self) -> bool {
        self.links.iter().all(|link| link.state == State::Right)
    }

    pub fn is_broken(&self) -> bool {
        self.links.iter().any(|link| link.state == State::Broken)
    }
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Role => "role",
            Self::Tag => "tag",
            Self::Guardrails => "guardrails",
            Self::Trust => "trust",
            Self::Cluster => "cluster",
            Self::Association => "association",
            Self::Agent => "agent",
            Self::Account => "account",
            Self::Pod => "pod",
            Self::Variables => "variables",
            Self::Node => "node",
            Self::NodeRole => "node role",
            Self::Sdk => "sdk",
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Right => "ok",
            // The one that tired eyes look for.
            Self::Broken => "BROKEN",
            Self::Unknown => "unknown",
        })
    }
}

/// Where a line's text begins, and where it should end.
const MARGIN: usize = 22;
const WIDTH: usize = 100;

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        if let Some(role) = &self.role {
            write!(f, " → role {role}")?;
        }
        for link in &self.links {
            write!(f, "\n  {:<7} {:<11} ", link.state, link.kind)?;
            let mut lines = wrapped(&link.told, WIDTH - MARGIN).into_iter();
            f.write_str(&lines.next().unwrap_or_default())?;
            let remedy =
                link.remedy.iter().flat_map(|remedy| wrapped(&format!("→ {remedy}"), WIDTH - MARGIN));
            for line in lines.chain(remedy) {
                write!(f, "\n{:MARGIN$}{line}", "")?;
            }
        }
        Ok(())
    }
}

/// A text in lines of at most `width` characters; a word that is longer has a line of its own, for it may be
/// there to be copied.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
