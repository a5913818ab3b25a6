//! Who can be whom, where: one page that needs nothing but itself, and the same as Markdown.

use std::fmt::Write as _;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;

/// What the page tells. Text is as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// When AWS was looked at.
    pub made_at: String,
    pub regions: Vec<String>,
    pub clusters: Vec<ClusterPart>,
    pub roles: Vec<RolePart>,
    pub findings: Vec<FindingPart>,
    /// What could not be read, and so may be missing.
    pub unseen: Vec<String>,
}

/// A cluster, and who can be whom on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPart {
    /// Region and name.
    pub cluster: String,
    /// What is special about it, such as that it opted out.
    pub note: Option<String>,
    pub access: Vec<Access>,
}

/// A service account that can be a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    pub namespace: String,
    pub service_account: String,
    pub role: String,
    pub role_arn: String,
    /// Who made the association, and may change it.
    pub whose: String,
    /// What is wrong with it.
    pub wrong: Option<String>,
}

/// A role that any tag of podgrant's or association names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RolePart {
    pub role: String,
    pub role_arn: String,
    /// The subjects of its tags.
    pub asks: Vec<String>,
    /// Service accounts that can be it, over all clusters.
    pub associations: usize,
    /// How it stands, where its clusters are gone.
    pub standing: Option<String>,
}

/// Something a person should know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingPart {
    pub kind: String,
    /// What it is about.
    pub about: String,
    pub reason: String,
}

impl Page {
    fn associations(&self) -> usize {
        self.clusters.iter().map(|part| part.access.len()).sum()
    }

    /// How much there is of what.
    pub fn in_short(&self) -> String {
        let count =
            |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
        [
            count(self.associations(), "association"),
            count(self.clusters.len(), "cluster"),
            count(self.roles.len(), "role"),
            count(self.findings.len(), "finding"),
        ]
        .join(", ")
    }

    /// One file, for a browser, a printer or an archive. Nothing is fetched, and scripts only filter.
    pub fn html(&self) -> String {
        let markup = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta http-equiv="Content-Security-Policy"
                        content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
                    title { "podgrant: who can be whom, where" }
                    style { (PreEscaped(include_str!("page/page.css"))) }
                }
                body {
                    header {
                        h1 { "Who can be whom, where" }
                        p {
                            (self.in_short())
                            span.soft { " · " (self.regions.join(", ")) " · as AWS was at " (self.made_at) }
                        }
                        nav {
                            @if !self.findings.is_empty() { a href="#findings" { "Findings" } }
                            a href="#clusters" { "Clusters" }
                            a href="#roles" { "Roles" }
                        }
                    }
                    div.filter hidden {
                        div {
                            input type="search" aria-label="Filter" autofocus
                                placeholder="Filter: namespace, account, role, cluster …";
                            output {}
                        }
                    }
                    main {
                        @if !self.unseen.is_empty() {
                            h2.bad { "Not everything could be read" }
                            ul { @for unseen in &self.unseen { li { (unseen) } } }
                        }
                        (self.findings_html())
                        h2 #clusters { "Clusters" }
                        @for part in &self.clusters { (part.html()) }
                        (self.roles_html())
                    }
                    script { (PreEscaped(include_str!("page/page.js"))) }
                }
            }
        };
        markup.into_string()
    }

    fn findings_html(&self) -> Markup {
        html! {
            @if !self.findings.is_empty() {
                section.part data-of="findings" {
                    h2 #findings { "Findings" }
                    ul.findings {
                        @for finding in &self.findings {
                            li {
                                span.kind { (finding.kind) }
                                @if !finding.about.is_empty() { " " (finding.about) }
                                br;
                                span.soft { (finding.reason) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn roles_html(&self) -> Markup {
        html! {
            section.part data-of="roles" {
                h2 #roles { "Roles" }
                table {
                    colgroup { col.wider; col.wider; col.narrow; col; }
                    thead { tr { th { "role" } th { "asks for" } th { "has" } th {} } }
                    tbody {
                        @for role in &self.roles {
                            tr {
                                td title=(role.role_arn) { (role.role) }
                                td data-is="asks for" {
                                    @for (number, subject) in role.asks.iter().enumerate() {
                                        @if number > 0 { br; }
                                        (subject)
                                    }
                                }
                                td data-is="has" { (role.associations) }
                                td.bad { @if let Some(standing) = &role.standing { (standing) } }
                            }
                        }
                    }
                }
            }
        }
    }

    /// For a pull request or a ticket.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "# Who can be whom, where\n\n{} · {} · as AWS was at {}\n",
            self.in_short(),
            self.regions.join(", "),
            self.made_at
        );
        if !self.unseen.is_empty() {
            text.push_str("\n## Not everything could be read\n\n");
            for unseen in &self.unseen {
                let _ = writeln!(text, "* {}", cell(unseen));
            }
        }
        if !self.findings.is_empty() {
            text.push_str("\n## Findings\n\n");
            for finding in &self.findings {
                let about = if finding.about.is_empty() {
                    String::new()
                } else {
                    format!(" {}", cell(&finding.about))
                };
                let _ = writeln!(text, "* **{}**{about}: {}", cell(&finding.kind), cell(&finding.reason));
            }
        }
        for part in &self.clusters {
            let note = part.note.as_ref().map(|note| format!("{}\n\n", cell(note))).unwrap_or_default();
            let _ = writeln!(
                text,
                "\n## {}\n\n{note}| namespace | service account | role | whose | |",
                cell(&part.cluster)
            );
            text.push_str("| --- | --- | --- | --- | --- |\n");
            for access in &part.access {
                let wrong = access.wrong.as_deref().unwrap_or_default();
                let cells = [&access.namespace, &access.service_account, &access.role, &access.whose, wrong];
                let _ = writeln!(text, "| {} |", cells.map(cell).join(" | "));
            }
        }
        text.push_str("\n## Roles\n\n| role | asks for | has | |\n| --- | --- | --- | --- |\n");
        for role in &self.roles {
            let asks: Vec<String> = role.asks.iter().map(|subject| cell(subject)).collect();
            let standing = cell(role.standing.as_deref().unwrap_or_default());
            let _ = writeln!(
                text,
                "| {} | {} | {} | {standing} |",
                cell(&role.role),
                asks.join("<br>"),
                role.associations
            );
        }
        text
    }
}

impl ClusterPart {
    fn html(&self) -> Markup {
        let much = html! { (self.access.len()) @if let Some(note) = &self.note { " · " (note) } };
        html! {
            section.part data-of=(self.cluster) {
                h3 { (self.cluster) " " small { (much) } }
                @if !self.access.is_empty() {
                    table {
                        colgroup { col; col; col; col.wide; col; }
                        thead {
                            // For paper, where it stands on each page.
                            tr.where { th colspan="5" { (self.cluster) " " small.soft { (much) } } }
                            tr { th { "namespace" } th { "service account" } th { "role" } th { "whose" } th {} }
                        }
                        tbody {
                            @for access in &self.access {
                                tr {
                                    td.of { (access.namespace) }
                                    td { (access.service_account) }
                                    td data-is="→" title=(access.role_arn) { (access.role) }
                                    td data-is="by" { (access.whose) }
                                    td.bad { @if let Some(wrong) = &access.wrong { (wrong) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Text that Markdown shows as it is, in a cell or elsewhere. Names of AWS's and Kubernetes' may hold `_` and `*`.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => cell.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' => cell.extend(['\\', character]),
            _ => cell.push(character),
        }
    }
    cell
}
