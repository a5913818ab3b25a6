//! `podgrant report`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use podgrant_aws::View;
use podgrant_core::moment::rfc3339;
use podgrant_core::{Association, ClusterId, Finding, RoleTags, Snapshot, TagKeys};
use serde::Serialize;

use super::list::{RoleIs, row};
use super::prepare::prepare;
use crate::arguments::{Looks, Output, ReportFormat, Target, role_name};
use crate::exit::Exit;
use crate::page::{Access, ClusterPart, FindingPart, Page, RolePart};
use crate::problem::Problem;
use crate::session::Session;
use crate::shown::Shown;
use crate::ui::JSON_VERSION;

#[derive(Serialize)]
struct Shape<'a> {
    version: u32,
    #[serde(flatten)]
    page: &'a Page,
}

/// Looks at the whole fleet, and writes the page.
pub async fn run(
    session: &mut Session<'_>,
    format: ReportFormat,
    file: Option<&Path>,
    looks: &Looks,
) -> Result<Exit, Problem> {
    session.ui.progress("looking at associations …");
    let view = View::Associations { cluster: None };
    let seen = session.aws.observe(&view, session.now(), || false).await;
    let seen = seen.map_err(|error| session.problem(&error))?;
    let fleet = Target { role: None, cluster: None };
    let (_, prepared) = prepare(session, &fleet, looks).await?;
    let shown = Shown::of(prepared.iter().map(|(_, prepared)| prepared));
    let page = page(&seen, &shown, session.aws.keys());
    let text = match (session.ui.output, format) {
        (Output::Json, _) => {
            let shape = Shape { version: JSON_VERSION, page: &page };
            let text = serde_json::to_string_pretty(&shape);
            text.map_err(|error| Problem::failed(error.to_string(), ""))? + "\n"
        }
        (Output::Text, ReportFormat::Html) => page.html(),
        (Output::Text, ReportFormat::Markdown) => page.markdown(),
    };
    match file {
        None => session.ui.raw(text.as_bytes()),
        Some(path) => {
            std::fs::write(path, text).map_err(|error| {
                let problem = format!("{} could not be written: {error}", path.display());
                Problem::failed(problem, "name another --file, or leave it out and redirect")
            })?;
            session.ui.say(&format!("{}: {}", path.display(), page.in_short()));
        }
    }
    Ok(if page.unseen.is_empty() { Exit::Done } else { Exit::InPart })
}

fn page(seen: &Snapshot, shown: &Shown, keys: &TagKeys) -> Page {
    let mut by_cluster: BTreeMap<&ClusterId, Vec<&Association>> =
        seen.clusters.keys().map(|cluster| (cluster, Vec::new())).collect();
    for association in &seen.associations {
        by_cluster.entry(&association.cluster).or_default().push(association);
    }
    let clusters = by_cluster.into_iter().map(|(id, mut associations)| {
        associations.sort_by_key(|association| (&association.workload, &association.id));
        ClusterPart {
            cluster: id.to_string(),
            note: seen
                .clusters
                .get(id)
                .filter(|cluster| !cluster.is_enrolled(keys))
                .map(|_| format!("opted out ({} = off)", keys.key("enroll"))),
            access: associations.into_iter().map(|association| access(association, seen)).collect(),
        }
    });
    let whys = seen.gaps.iter().chain(&shown.unread).map(|gap| gap.why.clone());
    Page {
        made_at: rfc3339(seen.observed_at),
        regions: seen.regions.iter().map(ToString::to_string).collect(),
        clusters: clusters.collect(),
        roles: roles(seen, shown, keys),
        findings: shown.plan.findings.iter().map(finding).collect(),
        unseen: whys.collect::<BTreeSet<String>>().into_iter().collect(),
    }
}

fn access(association: &Association, seen: &Snapshot) -> Access {
    let row = row(association, seen);
    let wrong = match row.role_is {
        RoleIs::There | RoleIs::Unknown => None,
        RoleIs::Gone => Some("the role is gone"),
        RoleIs::Replaced => Some("the role was deleted and made again"),
    };
    Access {
        namespace: association.workload.namespace.to_string(),
        service_account: association.workload.service_account.to_string(),
        role: role_name(&row.role).to_owned(),
        whose: row.made_by().to_owned(),
        wrong: wrong.map(str::to_owned),
        role_arn: row.role,
    }
}

/// Roles that ask for something, or that some association gives.
fn roles(seen: &Snapshot, shown: &Shown, keys: &TagKeys) -> Vec<RolePart> {
    let mut has: BTreeMap<String, usize> = BTreeMap::new();
    for association in &seen.associations {
        *has.entry(row(association, seen).role).or_default() += 1;
    }
    let roles = seen.roles.values().filter_map(|role| {
        let (tags, problems) = RoleTags::parse(keys, &role.tags);
        let associations = has.get(role.arn.as_str()).copied().unwrap_or_default();
        let mut asks: Vec<String> = tags.grants.iter().map(|grant| grant.subject.to_string()).collect();
        asks.extend(problems.iter().map(|problem| format!("! {problem}")));
        if asks.is_empty() && associations == 0 {
            return None;
        }
        let orphan = shown.plan.orphans.iter().find(|orphan| orphan.role_arn == role.arn);
        Some(RolePart {
            role: role.arn.role_name().to_owned(),
            role_arn: role.arn.to_string(),
            asks,
            associations,
            standing: orphan.map(|orphan| orphan.text.clone()),
        })
    });
    roles.collect()
}

fn finding(finding: &Finding) -> FindingPart {
    let about = [
        finding.cluster.as_ref().map(ToString::to_string),
        finding.workload.as_ref().map(ToString::to_string),
        finding.role.as_ref().map(|role| format!("role {}", role.role_name())),
        finding.grant.as_ref().map(|grant| format!("({grant})")),
    ];
    FindingPart {
        kind: finding.kind.to_string(),
        about: about.into_iter().flatten().collect::<Vec<_>>().join(" "),
        reason: finding.reason.clone(),
    }
}
