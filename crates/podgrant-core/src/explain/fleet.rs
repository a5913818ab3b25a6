//! Clusters as a whole: their agents, what their grants come to, and pods that go without.

use std::collections::{BTreeMap, BTreeSet};

use super::Target;
use super::aws::{Agents, ground};
use super::chain::{Chain, Fault, Link, LinkKind, State};
use super::evidence::{ClusterInside, NODE_ACTION, NODE_POLICIES, NodeRole, Read};
use super::pods::{faults_of, lacking};
use crate::agent::pods::AgentPods;
use crate::guardrails::Guardrails;
use crate::model::{Cluster, Snapshot};
use crate::names::{ClusterId, RoleArn};
use crate::outcome::{Finding, FindingKind};
use crate::plan::{Change, Plan, plan_grants};
use crate::tags::{RoleTags, TagKeys};

/// What was read of clusters.
#[derive(Debug, Clone)]
pub struct FleetEvidence {
    pub target: Target,
    /// Roles, clusters, their associations and agents.
    pub snapshot: Snapshot,
    /// What is unread of all of them, and why.
    pub unread: Vec<String>,
    pub inside: BTreeMap<ClusterId, ClusterInside>,
    /// By cluster and managed node group.
    pub node_roles: BTreeMap<ClusterId, BTreeMap<String, Read<NodeRole>>>,
}

/// How many things of a kind a line names.
const NAMED: usize = 5;

/// A chain for each cluster, after one for what is wrong with roles wherever they are granted.
pub fn explain_fleet(evidence: &FleetEvidence, keys: &TagKeys, guardrails: &Guardrails) -> Vec<Chain> {
    let plan = plan_grants(&evidence.snapshot, keys, guardrails);
    let fleet = Fleet { evidence, keys, plan };
    let mut chains: Vec<Chain> = fleet.roles().into_iter().collect();
    chains.extend(evidence.snapshot.clusters.values().map(|cluster| fleet.cluster(cluster)));
    for chain in &mut chains {
        chain.links.sort_by_key(|link| (link.kind, link.fault));
    }
    chains
}

struct Fleet<'a> {
    evidence: &'a FleetEvidence,
    keys: &'a TagKeys,
    plan: Plan,
}

impl Fleet<'_> {
    /// What is wrong with roles, and with what was read of all; none where nothing is.
    fn roles(&self) -> Option<Chain> {
        let unread = self.evidence.unread.iter().map(|why| Link::unknown(LinkKind::Role, why));
        let mut links: Vec<Link> = unread.collect();
        let general = self.plan.findings.iter().filter(|finding| finding.cluster.is_none());
        links.extend(general.filter(|finding| self.is_of_interest(finding)).filter_map(link_of));
        let place = match &self.evidence.target {
            Target::Fleet => "roles".to_owned(),
            target => format!("roles of {target}"),
        };
        (!links.is_empty()).then_some(Chain { place, role: None, links })
    }

    /// With one cluster in view, what other clusters' grants lack is not of interest.
    fn is_of_interest(&self, finding: &Finding) -> bool {
        if self.evidence.target == Target::Fleet {
            return true;
        }
        if matches!(finding.kind, FindingKind::NoSuchCluster | FindingKind::RegionNotConfigured) {
            return false;
        }
        let role = finding.role.as_ref().and_then(|arn| self.evidence.snapshot.roles.get(arn));
        let grants = role.map(|role| RoleTags::parse(self.keys, &role.tags).0.grants).unwrap_or_default();
        let mut clusters = self.evidence.snapshot.clusters.values();
        clusters.any(|cluster| grants.iter().any(|grant| grant.subject.clusters.matches(cluster)))
    }

    fn cluster(&self, cluster: &Cluster) -> Chain {
        let chain = |links| Chain { place: format!("cluster {}", cluster.id), role: None, links };
        let snapshot = &self.evidence.snapshot;
        let ground = ground(snapshot, cluster, self.keys);
        if ground.state != State::Right {
            return chain(vec![ground]);
        }
        if !cluster.is_enrolled(self.keys) {
            return chain(vec![Link::right(
                LinkKind::Cluster,
                format!("{}; podgrant leaves it alone", cluster.opted_out(self.keys)),
            )]);
        }
        let mut links = vec![ground];
        let gaps = snapshot.gaps.iter().filter(|gap| gap.cluster.as_ref() == Some(&cluster.id));
        let gaps: Vec<Link> = gaps.map(|gap| Link::unknown(LinkKind::Association, &gap.why)).collect();
        let here = self.plan.findings.iter().filter(|finding| finding.cluster.as_ref() == Some(&cluster.id));
        links.extend(here.filter_map(link_of));
        if gaps.is_empty() {
            links.extend(self.associations(cluster));
        }
        links.extend(gaps);
        let inside = self.evidence.inside.get(&cluster.id);
        links.push(Agents::new(snapshot, cluster, inside.map(|inside| &inside.agent), self.keys).link());
        if let Some(inside) = inside {
            links.extend(within(inside));
        }
        links.extend(self.node_roles(&cluster.id));
        chain(links)
    }

    fn associations(&self, cluster: &Cluster) -> Vec<Link> {
        const KIND: LinkKind = LinkKind::Association;
        let changes: Vec<&Change> =
            self.plan.changes.iter().filter(|change| change.cluster() == Some(&cluster.id)).collect();
        let told = |is: fn(&Change) -> bool| {
            let such: Vec<String> =
                changes.iter().filter(|change| is(change)).map(|change| change.to_string()).collect();
            (!such.is_empty()).then(|| some(&such, "; "))
        };
        let mut links = Vec::new();
        if let Some(missing) = told(|change| matches!(change, Change::Create { .. })) {
            links.push(Link::broken(
                KIND,
                Fault::NoAssociation,
                format!("not made yet: {missing}"),
                "see whether reconcile-associations runs, or run podgrant apply",
            ));
        }
        if let Some(going) = told(|change| matches!(change, Change::Revoke { .. })) {
            links.push(Link::broken(KIND, Fault::AssociationGoing, format!("to be taken away: {going}"), ""));
        }
        if let Some(other) = told(|change| matches!(change, Change::Update { .. } | Change::Adopt { .. })) {
            links.push(Link::broken(
                KIND,
                Fault::RoleReplaced,
                format!("to be brought up to date: {other}"),
                "podgrant's next pass does so, or podgrant apply",
            ));
        }
        links.extend(self.dangling(cluster));
        let standing = self.evidence.snapshot.associations.iter();
        let count = standing.filter(|association| association.cluster == cluster.id).count();
        links.push(Link::right(KIND, format!("{count} stand")));
        links
    }

    /// Associations whose role is not there: podgrant's, that go, and those of others, that nobody takes away.
    fn dangling(&self, cluster: &Cluster) -> Vec<Link> {
        const KIND: LinkKind = LinkKind::Association;
        let snapshot = &self.evidence.snapshot;
        // Without a role in view none is known to be gone.
        let here = snapshot
            .associations
            .iter()
            .filter(|association| association.cluster == cluster.id && !snapshot.roles.is_empty());
        let (mut going, mut staying) = (Vec::new(), Vec::new());
        for association in here {
            let recorded = association.record.as_ref().and_then(|record| record.role_arn.parse().ok());
            let role: Option<RoleArn> =
                recorded.or_else(|| association.mark.as_ref().map(|mark| mark.role_arn.clone()));
            let Some(role) = role.filter(|role| !snapshot.roles.contains_key(role)) else { continue };
            let told = format!("{} role {} ({})", association.workload, role.role_name(), association.id);
            if association.managed().is_some() { &mut going } else { &mut staying }.push(told);
        }
        let mut links = Vec::new();
        if !going.is_empty() {
            let told =
                format!("the role is gone, and podgrant takes the association away: {}", some(&going, "; "));
            let remedy = "see whether clean-up-orphans runs, or run podgrant apply; or make the role again";
            links.push(Link::broken(KIND, Fault::NoRole, told, remedy));
        }
        if !staying.is_empty() {
            let told =
                format!("the role is gone, and the association is not podgrant's: {}", some(&staying, "; "));
            let remedy = "whoever makes a role of that name gives it to these pods: delete the association, or make the \
                          role";
            links.push(Link::broken(KIND, Fault::NoRole, told, remedy));
        }
        links
    }

    fn node_roles(&self, cluster: &ClusterId) -> Vec<Link> {
        const KIND: LinkKind = LinkKind::NodeRole;
        let groups = self.evidence.node_roles.get(cluster).into_iter().flatten();
        groups
            .map(|(group, role)| match role {
                Ok(role) if role.allows => {
                    Link::right(KIND, format!("{group}: {} allows {NODE_ACTION}", role.name))
                }
                Ok(role) => Link::broken(
                    KIND,
                    Fault::NodeRole,
                    format!("{group}: no policy of the nodes' role {} allows {NODE_ACTION}", role.name),
                    format!("attach {}, or a policy of your own that allows it", NODE_POLICIES[0]),
                ),
                Err(why) => Link::unknown(KIND, format!("{group}: {why}")),
            })
            .collect()
    }
}

/// What a cluster's own API shows of nodes and pods.
fn within(inside: &ClusterInside) -> Vec<Link> {
    let mut links = Vec::new();
    match &inside.agent {
        Ok(Some(agent)) => links.extend(nodes(agent, &inside.port_holders)),
        Ok(None) => {}
        Err(why) => links.push(Link::unknown(LinkKind::Node, why)),
    }
    match &inside.pods {
        // What is right of thousands of pods fills no page.
        Ok(pods) => links.extend(faults_of(pods).into_iter().filter(|link| link.state == State::Broken)),
        Err(why) => links.push(Link::unknown(LinkKind::Variables, why)),
    }
    links
}

/// Nodes without a ready agent, those that lack it for the same reason together.
fn nodes(agent: &AgentPods, holders: &Read<BTreeSet<String>>) -> Vec<Link> {
    let mut groups: Vec<(Link, Vec<String>)> = Vec::new();
    for lack in &agent.lacking {
        let on_it = format!(" on {}", lack.node);
        let holders: Vec<&str> =
            holders.iter().flatten().filter_map(|holder| holder.strip_suffix(&on_it)).collect();
        let link = lacking(&lack.why, &holders);
        match groups.iter_mut().find(|(known, _)| *known == link) {
            Some((_, nodes)) => nodes.push(lack.node.clone()),
            None => groups.push((link, vec![lack.node.clone()])),
        }
    }
    let told = groups.into_iter().map(|(link, nodes)| {
        let told = format!("{}: {}", some(&nodes, ", "), link.told);
        Link { told, ..link }
    });
    let mut links: Vec<Link> = told.collect();
    match &agent.nodes_unseen {
        Some(why) => {
            links.push(Link::unknown(LinkKind::Node, format!("nodes that the agent passes over: {why}")))
        }
        None if links.is_empty() => {
            links.push(Link::right(LinkKind::Node, "every node that can have the agent has it ready"));
        }
        None => {}
    }
    links
}

/// A finding about grants, as a link.
fn link_of(finding: &Finding) -> Option<Link> {
    let (kind, fault) = match finding.kind {
        FindingKind::BadTag | FindingKind::KeptForBadTag => (LinkKind::Tag, Fault::BadTag),
        FindingKind::PatternNotExpanded => {
            let role = finding.role.as_ref().map(|role| role.role_name()).unwrap_or_default();
            let grant = finding.grant.as_deref().unwrap_or_default();
            let told =
                format!("role {role}, {grant}: a pattern: whom it means podgrant plan --role {role} asks");
            return Some(Link::unknown(LinkKind::Tag, told));
        }
        FindingKind::TrustPolicy => (LinkKind::Trust, Fault::TrustPolicy),
        FindingKind::Guardrail => (LinkKind::Guardrails, Fault::Guardrail),
        FindingKind::NoSuchCluster | FindingKind::RegionNotConfigured | FindingKind::AmbiguousCluster => {
            (LinkKind::Cluster, Fault::NoCluster)
        }
        FindingKind::Conflict | FindingKind::ForeignAssociation => {
            (LinkKind::Association, Fault::OtherAssociation)
        }
        _ => return None,
    };
    let link = Link::refused(kind, fault, &finding.reason);
    let role = finding.role.as_ref().map(|role| format!("role {}", role.role_name()));
    let about: Vec<String> = role.into_iter().chain(finding.grant.clone()).collect();
    let told = if about.is_empty() { link.told } else { format!("{}: {}", about.join(", "), link.told) };
    Some(Link { told, ..link })
}

/// The first few, and how many more there are.
fn some(items: &[String], separator: &str) -> String {
    let more = items.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", items.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(separator))
}

#[cfg(test)]
mod tests;
