//! The links that AWS tells: role, tag, guardrails, trust, cluster, association, agent.

use super::chain::{Chain, Fault, Link, LinkKind};
use super::evidence::{Evidence, Part, Read};
use crate::accounts::{Namespaces, SeenAccounts, ServiceAccounts};
use crate::agent::pods::{AgentPods, Inside};
use crate::agent::{AGENT_ADDON, AgentSettings, plan_agents, version_matters};
use crate::guardrails::Guardrails;
use crate::model::{Agent, Association, Cluster, Nodes, Role, Snapshot};
use crate::moment::rfc3339;
use crate::outcome::{Finding, FindingKind};
use crate::plan::{Announce, Change, Plan, plan_grants};
use crate::tags::{Grant, RoleTags, TagKeys};
use crate::trust::{TrustPolicy, Use};

/// What there is where Pod Identity is not.
const INSTEAD: &str = "use IAM roles for service accounts (IRSA) there";

/// The links that AWS tells, as far as there is something to hang them on.
pub(super) fn links(evidence: &Evidence, keys: &TagKeys, guardrails: &Guardrails) -> Vec<Link> {
    Aws::new(evidence, keys, guardrails).links()
}

/// What is to be said of a role beside the places that it asks for: it is not there, or its tags ask for nothing that
/// can be. None where its places say it all.
///
/// `role`: by name, as it was read.
pub fn explain_role(
    name: &str,
    role: &Read<Option<Role>>,
    keys: &TagKeys,
    guardrails: &Guardrails,
) -> Option<Chain> {
    let chain = |links| Some(Chain { place: format!("role {name}"), role: None, links });
    let role = match role {
        Ok(Some(role)) => role,
        Ok(None) => {
            let told = format!("the account has no role {name}");
            let remedy = "look at its spelling and at the account";
            return chain(vec![Link::broken(LinkKind::Role, Fault::NoRole, told, remedy)]);
        }
        Err(why) => return chain(vec![Link::unknown(LinkKind::Role, why)]),
    };
    let exists = Link::right(LinkKind::Role, format!("{} exists", role.arn));
    let snapshot = Snapshot { roles: [(role.arn.clone(), role.clone())].into(), ..Snapshot::default() };
    let findings = plan_grants(&snapshot, keys, guardrails).findings;
    let of_tags = findings.iter().filter_map(|finding| match finding.kind {
        FindingKind::BadTag => {
            Some(Link::broken(LinkKind::Tag, Fault::BadTag, &finding.reason, "mend the tag"))
        }
        _ => None,
    });
    let grants = RoleTags::parse(keys, &role.tags).0.grants;
    let patterns = grants.iter().filter(|grant| grant.subject.is_pattern()).map(|grant| {
        let told = "a pattern: whom it means only its clusters know, and podgrant plan --role asks them";
        Link::unknown(LinkKind::Tag, format!("{}: {told}", grant.subject))
    });
    let mut links: Vec<Link> = std::iter::once(exists).chain(of_tags).chain(patterns).collect();
    if links.len() == 1 && grants.is_empty() {
        let key = keys.key("grant");
        let remedy = format!("tag it, as in {key} = payments/api@prod-eu");
        links.push(Link::broken(
            LinkKind::Tag,
            Fault::NoTag,
            format!("it has no tag {key}, nor {key}/<label>"),
            remedy,
        ));
    }
    if links.len() == 1 { None } else { chain(links) }
}

/// The evidence, and what podgrant's own rules make of it.
struct Aws<'a> {
    evidence: &'a Evidence,
    keys: &'a TagKeys,
    guardrails: &'a Guardrails,
    plan: Plan,
    role: Option<&'a Role>,
    tags: RoleTags,
    cluster: Option<&'a Cluster>,
    standing: Option<&'a Association>,
}

/// What podgrant would do in the place. Its service account is taken for there: whether it is, a link of its own says.
pub(super) fn planned(evidence: &Evidence, keys: &TagKeys, guardrails: &Guardrails) -> Plan {
    let account = SeenAccounts::new(Namespaces::All, [evidence.workload.clone()].into());
    let accounts = evidence.cluster.clone().map(|cluster| (cluster, ServiceAccounts::Seen(account)));
    let service_accounts = accounts.into_iter().collect();
    plan_grants(&Snapshot { service_accounts, ..evidence.snapshot.clone() }, keys, guardrails)
}

impl<'a> Aws<'a> {
    fn new(evidence: &'a Evidence, keys: &'a TagKeys, guardrails: &'a Guardrails) -> Self {
        let snapshot = &evidence.snapshot;
        let named = |role: &&Role| Some(role.arn.role_name()) == evidence.role.as_deref();
        let role = snapshot.roles.values().find(named);
        let cluster = evidence.cluster.as_ref().and_then(|id| snapshot.clusters.get(id));
        let here = |association: &&Association| {
            Some(&association.cluster) == evidence.cluster.as_ref()
                && association.workload == evidence.workload
        };
        Self {
            evidence,
            keys,
            guardrails,
            plan: planned(evidence, keys, guardrails),
            role,
            tags: role.map(|role| RoleTags::parse(keys, &role.tags).0).unwrap_or_default(),
            cluster,
            standing: snapshot.associations.iter().find(here),
        }
    }

    fn links(&self) -> Vec<Link> {
        let mut links = vec![self.role()];
        if self.role.is_some() {
            links.extend([self.tag(), self.guardrails(), self.trust()].into_iter().flatten());
        }
        links.push(self.cluster());
        if self.cluster.is_some() {
            links.push(self.association());
            links.extend(self.agent());
        }
        links
    }

    fn unread(&self, part: Part) -> Option<&'a String> {
        self.evidence.unread.get(&part)
    }

    /// What podgrant finds about this role, here or everywhere.
    fn findings(&self, kinds: &[FindingKind]) -> Vec<&Finding> {
        let about_role = |finding: &&Finding| {
            finding.role.is_none() || finding.role.as_ref() == self.role.map(|role| &role.arn)
        };
        let about_place = |finding: &&Finding| {
            let here = self.evidence.cluster.is_none() || finding.cluster == self.evidence.cluster;
            finding.workload.as_ref().is_none_or(|workload| *workload == self.evidence.workload)
                && (finding.cluster.is_none() || here)
        };
        let findings = self.plan.findings.iter().filter(|finding| kinds.contains(&finding.kind));
        findings.filter(about_role).filter(about_place).collect()
    }

    /// The grant of the role that means this place.
    fn grant(&self) -> Option<&Grant> {
        let cluster = self.cluster;
        let asking = self.tags.grants.iter().filter(|grant| match cluster {
            Some(cluster) => {
                grant.subject.means(&self.evidence.workload) && grant.subject.clusters.matches(cluster)
            }
            None => grant.subject.to_string() == self.evidence.place,
        });
        // A name goes before a pattern.
        asking.min_by_key(|grant| grant.subject.is_pattern())
    }

    /// The association that stands in the place and has this very role; by name, where the role was not read.
    fn stands(&self) -> Option<&'a Association> {
        let standing = self.standing?;
        let has = match &standing.record {
            Some(record) => Some(record.role_arn.as_str()),
            None => standing.mark.as_ref().map(|mark| mark.role_arn.as_str()),
        };
        let is_it = match self.role {
            Some(role) => has == Some(role.arn.as_str()),
            None => has.and_then(|arn| arn.rsplit('/').next()) == self.evidence.role.as_deref(),
        };
        is_it.then_some(standing)
    }

    fn role(&self) -> Link {
        const KIND: LinkKind = LinkKind::Role;
        let place = &self.evidence.place;
        match (self.role, &self.evidence.role) {
            (Some(role), _) => Link::right(KIND, format!("{} exists", role.arn)),
            (None, name) if self.unread(Part::Role).is_some() => {
                let why = self.unread(Part::Role).cloned().unwrap_or_default();
                let about = name.as_ref().map(|name| format!("role {name}: ")).unwrap_or_default();
                Link::unknown(KIND, format!("{about}{why}"))
            }
            (None, Some(name)) => {
                let told = format!("the account has no role {name}");
                match self.standing {
                    Some(association) => Link::broken(
                        KIND,
                        Fault::NoRole,
                        format!("{told}, and association {} gives it to pods", association.id),
                        format!(
                            "make the role again, or take the association away (podgrant does where it made it); then \
                             tag the role that is meant: {} = {place}",
                            self.keys.key("grant")
                        ),
                    ),
                    None => {
                        Link::broken(KIND, Fault::NoRole, told, "look at its spelling and at the account")
                    }
                }
            }
            (None, None) if self.cluster.is_none() => {
                Link::unknown(KIND, "whose tags ask for it hangs on which cluster it is")
            }
            (None, None) => Link::broken(
                KIND,
                Fault::NoTag,
                format!("no role's tag asks for {place}, and no association stands there"),
                format!("tag a role: {} = {place}", self.keys.key("grant")),
            ),
        }
    }

    fn tag(&self) -> Option<Link> {
        const KIND: LinkKind = LinkKind::Tag;
        let place = &self.evidence.place;
        let bad = self.findings(&[FindingKind::BadTag]);
        let bad = |key: &str| {
            bad.iter()
                .find(|finding| finding.reason.starts_with(&format!("tag {key}")))
                .map(|finding| &finding.reason)
        };
        if let Some(grant) = self.grant() {
            // Without its target role it gets nothing new.
            return Some(match bad(&self.keys.key("target-role")) {
                Some(reason) if self.stands().is_none() => {
                    Link::broken(KIND, Fault::BadTag, reason, "mend the tag")
                }
                _ => Link::right(KIND, format!("{} = {}", self.key(grant), grant.subject)),
            });
        }
        if let Some(association) = self.stands().filter(|association| association.managed().is_none()) {
            let whose = association.owner.as_deref().unwrap_or("somebody else");
            return Some(Link::right(
                KIND,
                format!("none asks, and none has to: {whose} made the association"),
            ));
        }
        if let Some(reason) = bad(&self.keys.key("grant")) {
            return Some(Link::broken(KIND, Fault::BadTag, reason, "mend the tag"));
        }
        let asked: Vec<String> =
            self.tags.grants.iter().take(5).map(|grant| grant.subject.to_string()).collect();
        let asks = if asked.is_empty() {
            "it has no grants".to_owned()
        } else {
            format!("its grants are {}", asked.join(", "))
        };
        let key = self.keys.key("grant");
        Some(Link::broken(
            KIND,
            Fault::NoTag,
            format!("no tag of the role asks for {place}: {asks}"),
            format!("add {place} to its tag {key}, or to one of its own, {key}/<label>"),
        ))
    }

    fn key(&self, grant: &Grant) -> String {
        let key = self.keys.key("grant");
        if grant.label.is_empty() { key } else { format!("{key}/{}", grant.label) }
    }

    /// Guardrails hold for what podgrant does: what others made they do not touch.
    fn guardrails(&self) -> Option<Link> {
        const KIND: LinkKind = LinkKind::Guardrails;
        let role = self.role?;
        self.grant()?;
        let refused = self.findings(&[FindingKind::Guardrail]);
        Some(match refused.first() {
            Some(finding) if self.stands().is_some() && !self.goes() => Link::right(
                KIND,
                format!("what stands stays, though podgrant would not make it now: {}", finding.reason),
            ),
            Some(finding) => Link::refused(KIND, Fault::Guardrail, &finding.reason),
            None if self.guardrails.lacks_powers(role) && self.stands().is_none() => {
                let why =
                    self.unread(Part::Powers).map_or("the role's policies were not read", String::as_str);
                Link::unknown(KIND, format!("whether the role is an administrator's is not known: {why}"))
            }
            None => Link::right(KIND, "none refuses it"),
        })
    }

    fn trust(&self) -> Option<Link> {
        const KIND: LinkKind = LinkKind::Trust;
        let role = self.role?;
        let recorded = self.stands().and_then(|association| association.record.as_ref());
        let off = recorded.map_or(self.tags.session_tags_off, |record| record.session_tags_off);
        let place = self.cluster.map(|cluster| (cluster, &self.evidence.workload));
        let usage = Use { account: role.arn.account(), session_tags_off: Some(off), place };
        Some(match TrustPolicy::read(&role.trust_policy).allows(&usage) {
            Ok(()) => Link::right(KIND, "EKS Pod Identity may assume the role for it"),
            Err(reason) => {
                let link = Link::refused(KIND, Fault::TrustPolicy, &reason);
                let amended = |change: &&Change| matches!(change, Change::AmendTrust { role: amended, .. } if *amended == role.arn);
                match (self.plan.changes.iter().find(amended), link.remedy.clone()) {
                    (Some(_), _) => link.mended_by(format!(
                        "{} = manage: podgrant's next pass adds it",
                        self.keys.key("trust")
                    )),
                    // What is to be copied stands last.
                    (None, Some(remedy)) if !self.tags.manage_trust => link.mended_by(format!(
                        "tag the role {} = manage, and podgrant adds what is missing; or {remedy}",
                        self.keys.key("trust")
                    )),
                    _ => link,
                }
            }
        })
    }

    fn cluster(&self) -> Link {
        const KIND: LinkKind = LinkKind::Cluster;
        if let Some(why) = self.unread(Part::Cluster) {
            return Link::unknown(KIND, why);
        }
        let Some(cluster) = self.cluster else {
            let kinds =
                [FindingKind::NoSuchCluster, FindingKind::AmbiguousCluster, FindingKind::RegionNotConfigured];
            return match self.findings(&kinds).first() {
                Some(finding) => Link::refused(KIND, Fault::NoCluster, &finding.reason),
                None => {
                    let name = self.evidence.place.rsplit('@').next().unwrap_or_default();
                    Link::broken(
                        KIND,
                        Fault::NoCluster,
                        format!("no configured region has just one cluster {name}"),
                        "look at its spelling and at PODGRANT_REGIONS; write region/name where names repeat",
                    )
                }
            };
        };
        let ground = ground(&self.evidence.snapshot, cluster, self.keys);
        if ground.fault.is_none() && !cluster.is_enrolled(self.keys) && self.stands().is_none() {
            let remedy = format!("take the tag {} off the cluster", self.keys.key("enroll"));
            return Link::broken(KIND, Fault::ClusterOptedOut, cluster.opted_out(self.keys), remedy);
        }
        ground
    }

    fn is_supported(&self) -> bool {
        self.cluster.is_some_and(|cluster| !cluster.kind.connected && !cluster.kind.outpost)
    }

    fn goes(&self) -> bool {
        let here = |change: &&Change| change.existing().map(|a| &a.id) == self.standing.map(|a| &a.id);
        self.plan.changes.iter().filter(here).any(|change| matches!(change, Change::Revoke { .. }))
    }

    fn association(&self) -> Link {
        const KIND: LinkKind = LinkKind::Association;
        if let Some(why) = self.unread(Part::Association) {
            return Link::unknown(KIND, why);
        }
        let workload = &self.evidence.workload;
        let planned = self.plan.changes.iter().find(|change| {
            change.workload() == Some(workload) && change.cluster() == self.evidence.cluster.as_ref()
        });
        let Some(association) = self.standing else {
            let told = format!("{workload} has none on this cluster");
            return match (planned, self.evidence.role.is_some()) {
                (Some(Change::Create { .. }), _) if self.is_supported() => Link::broken(
                    KIND,
                    Fault::NoAssociation,
                    told,
                    "nothing keeps podgrant from making it: see whether reconcile-associations runs, or run podgrant apply",
                ),
                (_, true) => {
                    Link::broken(KIND, Fault::NoAssociation, told, "it follows when the above is mended")
                }
                (_, false) => {
                    Link::broken(KIND, Fault::NoAssociation, told, "it follows from a tag on a role")
                }
            };
        };
        let kinds = [FindingKind::ForeignAssociation, FindingKind::Conflict];
        let id = &association.id;
        if self.stands().is_none() {
            if let Some(finding) = self.findings(&kinds).first() {
                let reason = finding.reason.strip_prefix("association ").unwrap_or(&finding.reason);
                return Link::refused(KIND, Fault::OtherAssociation, reason);
            }
            let has = association.roles().into_iter().collect::<Vec<_>>().join(", ");
            let has = if has.is_empty() { "a role that is not known".to_owned() } else { has };
            return match planned {
                Some(change @ Change::Update { .. }) => Link::broken(
                    KIND,
                    Fault::OtherAssociation,
                    format!("{id} has {has}"),
                    format!("podgrant's next pass, or podgrant apply, hands it over: {change}"),
                ),
                _ => {
                    Link::broken(KIND, Fault::OtherAssociation, format!("{id} has {has}"), "see whose it is")
                }
            };
        }
        match planned {
            Some(Change::Revoke { reason, .. }) => Link::broken(
                KIND,
                Fault::AssociationGoing,
                format!("{id} stands, and podgrant takes it away: {reason}"),
                "mend the tag, if it is meant to stay",
            ),
            Some(Change::Update { mark, association: Association { mark: Some(old), .. } })
                if old.role_id != mark.role_id =>
            {
                Link::broken(
                    KIND,
                    Fault::RoleReplaced,
                    format!(
                        "{id} was made for an earlier role of that name ({}, now {})",
                        old.role_id, mark.role_id
                    ),
                    "podgrant's next pass, or podgrant apply, gives it to the role as it is now",
                )
            }
            Some(change @ Change::Update { .. }) => Link::right(
                KIND,
                format!("{}; podgrant brings it up to date: {change}", self.whose(association)),
            ),
            _ => Link::right(KIND, self.whose(association)),
        }
    }

    fn whose(&self, association: &Association) -> String {
        let whose = match (association.managed(), &association.owner) {
            (Some(_), _) => "podgrant's".to_owned(),
            (None, Some(owner)) => format!("owned by {owner}"),
            (None, None) => "made by somebody else".to_owned(),
        };
        let since =
            self.evidence.times.as_ref().map(|times| format!(", since {}", rfc3339(times.created_at)));
        let target = association.record.as_ref().and_then(|record| record.target_role.as_ref());
        let target = target.map(|target| format!(", on to {target}")).unwrap_or_default();
        format!("{}, {whose}{}{target}", association.id, since.unwrap_or_default())
    }

    fn agent(&self) -> Option<Link> {
        let cluster = self.cluster.filter(|cluster| cluster.status.is_ready() && self.is_supported())?;
        Some(match self.unread(Part::Agent) {
            Some(why) => Link::unknown(LinkKind::Agent, why),
            None => Agents::new(&self.evidence.snapshot, cluster, self.inside(), self.keys).link(),
        })
    }

    fn inside(&self) -> Option<&'a Read<Option<AgentPods>>> {
        self.evidence.inside.as_ref().map(|inside| &inside.agent)
    }
}

/// What podgrant's own rules say of a cluster's agent, with what the cluster says of it.
pub(super) struct Agents<'a> {
    cluster: &'a Cluster,
    agent: Option<&'a Agent>,
    nodes: Nodes,
    inside: Option<&'a Option<AgentPods>>,
    planned: Plan,
    keys: &'a TagKeys,
}

impl<'a> Agents<'a> {
    pub fn new(
        snapshot: &'a Snapshot,
        cluster: &'a Cluster,
        inside: Option<&'a Read<Option<AgentPods>>>,
        keys: &'a TagKeys,
    ) -> Self {
        let seen = inside.map(|agent| match agent {
            Ok(None) => Inside::NoAgent,
            Ok(Some(pods)) => Inside::Agent(pods.clone()),
            Err(why) => Inside::Unseen { why: why.clone() },
        });
        let (id, agent) = (&cluster.id, snapshot.agents.get(&cluster.id));
        let nodes = snapshot.nodes.get(id).copied().unwrap_or_default();
        let alone = Snapshot {
            clusters: [(id.clone(), cluster.clone())].into(),
            agents: agent.map(|agent| (id.clone(), agent.clone())).into_iter().collect(),
            nodes: [(id.clone(), nodes)].into(),
            inside: seen.map(|seen| (id.clone(), seen)).into_iter().collect(),
            ..Snapshot::default()
        };
        let planned = plan_agents(&alone, keys, &AgentSettings::default(), Announce::Agent, 0);
        Self { cluster, agent, nodes, inside: inside.and_then(|inside| inside.as_ref().ok()), planned, keys }
    }

    fn finding(&self, kind: FindingKind) -> Option<&str> {
        let mut findings = self.planned.findings.iter();
        findings.find(|finding| finding.kind == kind).map(|finding| finding.reason.as_str())
    }

    /// A cluster where the agent has no place.
    fn unsupported(&self, kind: LinkKind, fault: Fault) -> Option<Link> {
        let link = Link::refused(kind, fault, self.finding(FindingKind::ClusterUnsupported)?);
        let remedy = link.remedy.as_ref().map_or(INSTEAD.to_owned(), |remedy| format!("{INSTEAD}; {remedy}"));
        Some(link.mended_by(remedy))
    }

    pub fn link(&self) -> Link {
        const KIND: LinkKind = LinkKind::Agent;
        let runs = self.inside.and_then(Option::as_ref);
        let Some(agent) = self.agent else {
            return match runs {
                Some(pods) => Link::right(KIND, format!("it runs and is no EKS add-on, {}", pods.progress())),
                None => self.none(),
            };
        };
        let told = format!("{AGENT_ADDON} {} is {}", agent.version, agent.status);
        match (self.finding(FindingKind::AgentUnhealthy), agent.status.as_str(), runs) {
            (Some(reason), ..) if self.inside == Some(&None) => Link::refused(KIND, Fault::NoAgent, reason),
            (Some(reason), ..) => Link::refused(KIND, Fault::AgentUnhealthy, reason),
            (None, "ACTIVE", Some(pods)) => Link::right(KIND, format!("{told}, {}", pods.progress())),
            (None, "ACTIVE", None) => Link::right(KIND, told),
            // On its way; how far, the plan says.
            (None, ..) => {
                let waits = self.planned.waits.iter().map(|wait| wait.reason.clone());
                let why = waits.chain([told]).next().unwrap_or_default();
                Link::broken(KIND, Fault::AgentUnhealthy, why, "wait a few minutes, and look again")
            }
        }
    }

    /// No add-on, and none that runs without being one.
    fn none(&self) -> Link {
        const KIND: LinkKind = LinkKind::Agent;
        if let Some(link) = self.unsupported(KIND, Fault::Fargate) {
            return link;
        }
        if self.cluster.kind.auto_mode && !version_matters(self.cluster, None, self.nodes, self.keys) {
            return Link::right(KIND, "built into EKS Auto Mode's nodes");
        }
        let key = self.keys.key("agent");
        let told = format!("the cluster has no add-on {AGENT_ADDON}");
        match self.cluster.tag(self.keys, "agent") {
            Some(value @ ("off" | "remove")) => Link::broken(
                KIND,
                Fault::NoAgent,
                format!("{told}, and carries {key} = {value}"),
                format!("take the tag {key} off the cluster, or install the agent by other means"),
            ),
            _ => Link::broken(
                KIND,
                Fault::NoAgent,
                told,
                format!(
                    "podgrant's install-agent makes it; by hand: aws eks create-addon --cluster-name {} --addon-name {AGENT_ADDON}",
                    self.cluster.id.name
                ),
            ),
        }
    }
}

/// Whether a cluster can have pods with roles at all, and now.
pub(super) fn ground(snapshot: &Snapshot, cluster: &Cluster, keys: &TagKeys) -> Link {
    const KIND: LinkKind = LinkKind::Cluster;
    if cluster.kind.connected || cluster.kind.outpost {
        let agents = Agents::new(snapshot, cluster, None, keys);
        let told = "Pod Identity does not work on such a cluster";
        let otherwise = || Link::broken(KIND, Fault::ClusterUnsupported, told, INSTEAD);
        return agents.unsupported(KIND, Fault::ClusterUnsupported).unwrap_or_else(otherwise);
    }
    if !cluster.status.is_ready() {
        let issues = cluster.issues.join("; ");
        let issues = if issues.is_empty() { issues } else { format!(": {issues}") };
        let remedy = if cluster.status.is_on_its_way() { "wait until it is ACTIVE" } else { "" };
        let told = format!("{} is {}{issues}", cluster.id, cluster.status);
        return Link::broken(KIND, Fault::ClusterNotReady, told, remedy);
    }
    Link::right(KIND, format!("{} is {}, Kubernetes {}", cluster.id, cluster.status, cluster.version))
}
