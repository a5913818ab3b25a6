//! A plan of one or more passes, as people and programs see it.

use std::collections::{BTreeMap, BTreeSet};

use podgrant_core::model::Gap;
use podgrant_core::{Change, ClusterId, Finding, FindingKind, Plan, Verdict, Workload};
use podgrant_runtime::Function;
use podgrant_runtime::by_hand::{Prepared, PreparedPass};
use serde::Serialize;

use crate::exit::Exit;
use crate::ui::{Look, Ui};

/// What passes come to together.
#[derive(Debug, Default)]
pub struct Shown {
    pub plan: Plan,
    /// What could not be read, and where.
    pub unread: Vec<Gap>,
}

impl Shown {
    pub fn of<'p>(prepared: impl IntoIterator<Item = &'p Prepared>) -> Self {
        let mut shown = Self::default();
        for prepared in prepared {
            let unread = prepared.unread.iter();
            shown.unread.extend(unread.map(|error| Gap {
                cluster: None,
                why: error.to_string(),
                throttled: false,
            }));
            prepared.passes.iter().for_each(|pass| shown.add(pass));
        }
        shown.sort();
        shown
    }

    pub fn of_pass(pass: &PreparedPass) -> Self {
        let mut shown = Self::default();
        shown.add(pass);
        shown.sort();
        shown
    }

    fn add(&mut self, pass: &PreparedPass) {
        let approved = pass.approved();
        self.plan.changes.extend_from_slice(approved.changes());
        self.plan.findings.extend_from_slice(approved.findings());
        self.plan.waits.extend(pass.waits().cloned());
        self.plan.orphans.extend_from_slice(approved.orphans());
        // Who cleans up counts as unchanged what the others have counted.
        if pass.function() != Function::CleanUpOrphans {
            self.plan.unchanged += approved.unchanged();
        }
        self.unread.extend_from_slice(&pass.snapshot().gaps);
    }

    /// By cluster, and in the order of the passes there.
    fn sort(&mut self) {
        let mut mended = BTreeSet::new();
        // The pass over a cluster plans what the pass over all roles does.
        self.plan.changes.retain(|change| match change {
            Change::AmendTrust { role, .. } => mended.insert(role.clone()),
            _ => true,
        });
        self.plan.changes.sort_by(|one, other| one.cluster().cmp(&other.cluster()));
        self.plan.findings.sort();
        self.plan.findings.dedup();
        self.plan.waits.sort();
        self.plan.waits.dedup();
        let mut told = BTreeSet::new();
        self.unread.retain(|gap| told.insert((gap.cluster.clone(), gap.why.clone())));
    }

    /// Shows it, by clusters; what is of no cluster comes first.
    pub fn show(&self, ui: &mut Ui<'_>) {
        let mut sections: BTreeMap<Option<&ClusterId>, Vec<String>> = BTreeMap::new();
        for change in &self.plan.changes {
            let lines = sections.entry(change.cluster()).or_default();
            lines.push(beside_its_heading(change));
            if let Change::DeleteRole { record, .. } = change {
                // What outlasts the role: it is seen before anybody says yes.
                let record = serde_json::to_string(record).unwrap_or_default();
                lines.push(format!("  all that makes it again: {record}"));
            }
        }
        for wait in &self.plan.waits {
            sections
                .entry(None)
                .or_default()
                .push(format!(". not yet: {}; run it again after a while", wait.reason));
        }
        for finding in &self.plan.findings {
            let beside = Finding { cluster: None, ..finding.clone() };
            sections.entry(finding.cluster.as_ref()).or_default().push(format!("! {beside}"));
        }
        for gap in &self.unread {
            sections.entry(gap.cluster.as_ref()).or_default().push(format!("! not read: {}", gap.why));
        }
        for (cluster, lines) in sections {
            let heading = cluster.map_or_else(|| "Roles and fleet".to_owned(), ClusterId::to_string);
            let heading = ui.look(Look::Bold, &heading);
            ui.show(&heading);
            for line in lines {
                let line = ui.look(Look::of_sign(&line), &line);
                ui.show(&format!("  {line}"));
            }
            ui.show("");
        }
        ui.show(&self.plan.summary());
    }

    /// How a command ends that leaves it at that.
    pub fn exit(&self) -> Exit {
        if !self.unread.is_empty() {
            Exit::InPart
        } else if !self.plan.changes.is_empty() || !self.plan.waits.is_empty() {
            Exit::Found
        } else if self.says_no() {
            Exit::InPart
        } else {
            Exit::Done
        }
    }

    /// Whether something that was asked for is refused, or something that should be done is not.
    pub fn says_no(&self) -> bool {
        self.plan.findings.iter().any(|finding| says_no(finding.kind))
    }

    pub fn deletes(&self) -> bool {
        self.plan.changes.iter().any(Change::takes_away)
    }

    pub fn withholds(&self) -> bool {
        self.plan.findings.iter().any(|finding| finding.kind == FindingKind::Withheld)
    }

    pub fn shape(&self) -> PlanShape {
        PlanShape {
            changes: self.plan.changes.iter().map(|change| ChangeShape::of(change, None)).collect(),
            findings: self.plan.findings.iter().map(FindingShape::of).collect(),
            waiting: self.plan.waits.iter().map(|wait| wait.reason.clone()).collect(),
            unread: self.unread.iter().map(UnreadShape::of).collect(),
            unchanged: self.plan.unchanged,
        }
    }
}

pub fn says_no(kind: FindingKind) -> bool {
    kind.is_refusal()
        || matches!(kind, FindingKind::Withheld | FindingKind::AgentRefused | FindingKind::GaveUp)
}

/// A change's line without the cluster that stands above it.
pub fn beside_its_heading(change: &Change) -> String {
    let line = change.to_string();
    let Some(cluster) = change.cluster() else { return line };
    let (sign, rest) = line.split_once(' ').unwrap_or_default();
    match rest.strip_prefix(&format!("{cluster}  ")) {
        Some(rest) => format!("{sign} {rest}"),
        None => line,
    }
}

// ── JSON ──

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanShape {
    pub changes: Vec<ChangeShape>,
    pub findings: Vec<FindingShape>,
    /// What can't be done yet, and why.
    pub waiting: Vec<String>,
    pub unread: Vec<UnreadShape>,
    pub unchanged: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeShape {
    pub action: &'static str,
    pub thing: &'static str,
    #[serde(flatten)]
    place: PlaceShape,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// The line that a person sees.
    text: String,
    /// Of a role that is deleted: all that makes it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeShape>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeShape {
    pub verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaceShape {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account: Option<String>,
}

impl PlaceShape {
    pub fn of(cluster: Option<&ClusterId>, workload: Option<&Workload>) -> Self {
        Self {
            cluster: cluster.map(ToString::to_string),
            namespace: workload.map(|workload| workload.namespace.to_string()),
            service_account: workload.map(|workload| workload.service_account.to_string()),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingShape {
    kind: FindingKind,
    #[serde(flatten)]
    place: PlaceShape,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    reason: String,
}

#[derive(Debug, Serialize)]
pub struct UnreadShape {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    reason: String,
}

impl ChangeShape {
    pub fn of(change: &Change, verdict: Option<&Verdict>) -> Self {
        let (action, thing) = kind(change);
        let record = match change {
            Change::DeleteRole { record, .. } => serde_json::to_value(record).ok(),
            _ => None,
        };
        Self {
            action,
            thing,
            place: PlaceShape::of(change.cluster(), change.workload()),
            role: change.role().map(ToString::to_string),
            grant: change.mark().map(|mark| mark.subject.to_string()),
            label: change.mark().map(|mark| mark.label.clone()).filter(|label| !label.is_empty()),
            text: change.to_string(),
            record,
            outcome: verdict.map(|verdict| {
                let (verdict, reason) = told(verdict);
                OutcomeShape { verdict, reason: reason.map(str::to_owned) }
            }),
        }
    }
}

impl FindingShape {
    pub fn of(finding: &Finding) -> Self {
        Self {
            kind: finding.kind,
            place: PlaceShape::of(finding.cluster.as_ref(), finding.workload.as_ref()),
            role: finding.role.as_ref().map(ToString::to_string),
            grant: finding.grant.clone(),
            reason: finding.reason.clone(),
        }
    }
}

impl UnreadShape {
    pub fn of(gap: &Gap) -> Self {
        Self { cluster: gap.cluster.as_ref().map(ToString::to_string), reason: gap.why.clone() }
    }
}

/// Verb and noun.
fn kind(change: &Change) -> (&'static str, &'static str) {
    match change {
        Change::Create { .. } => ("create", "association"),
        Change::Update { .. } => ("update", "association"),
        Change::Adopt { .. } => ("adopt", "association"),
        Change::Revoke { .. } => ("delete", "association"),
        Change::AmendTrust { .. } => ("update", "trust-policy"),
        Change::WithdrawTrust { .. } => ("delete", "trust-policy"),
        Change::RemoveAccessEntry { .. } => ("delete", "access-entry"),
        Change::MarkOrphan { .. } => ("create", "orphan-mark"),
        Change::UnmarkOrphan { .. } => ("delete", "orphan-mark"),
        Change::DeleteRole { .. } => ("delete", "role"),
        Change::InstallAgent { .. } => ("create", "agent"),
        Change::UpdateAgent { .. } => ("update", "agent"),
        Change::RemoveAgent { .. } => ("delete", "agent"),
        Change::OpenKubernetes { .. } => ("create", "access-entry"),
        Change::AnnounceAgent { .. } | Change::AnnounceCluster { .. } => ("announce", "cluster"),
    }
}

/// A verdict in a word, and why.
pub fn told(verdict: &Verdict) -> (&'static str, Option<&str>) {
    match verdict {
        Verdict::Done => ("done", None),
        Verdict::NotYet(wait) => ("not-yet", Some(&wait.reason)),
        Verdict::Unbegun => ("unbegun", None),
        Verdict::Dropped { reason } => ("dropped", Some(reason)),
        Verdict::Refused { reason } => ("refused", Some(reason)),
        Verdict::Failed { reason } => ("failed", Some(reason)),
    }
}
