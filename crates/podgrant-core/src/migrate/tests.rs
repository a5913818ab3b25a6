//! A service account with IRSA that can move; each row changes something, and the table shows what is said of it.

use std::fmt::Write as _;

use super::*;
use crate::explain::evidence::{Container, FULL_URI, TOKEN_FILE, WEB_IDENTITY};
use crate::fixtures::{cluster, foreign, ours, role, snapshot};
use crate::names::{Region, Workload};
use crate::plan::plan_grants;

const ISSUER: &str = "https://oidc.eks.eu-west-1.amazonaws.com/id/PROD";
const SUBJECT: &str = "system:serviceaccount:payments:api";

fn workload() -> Workload {
    Workload { namespace: "payments".parse().unwrap(), service_account: "api".parse().unwrap() }
}

/// A statement for IRSA, with this operator and these subjects.
fn statement(operator: &str, subjects: &str) -> String {
    format!(
        r#"{{"Effect":"Allow","Principal":{{"Federated":"arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/PROD"}},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{{"{operator}":{{"oidc.eks.eu-west-1.amazonaws.com/id/PROD:sub":{subjects}}}}}}}"#
    )
}

fn policy(statements: &[String]) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
}

fn irsa() -> String {
    statement("StringEquals", &format!("\"{SUBJECT}\""))
}

fn trusting() -> String {
    crate::trust::MISSING_STATEMENT.to_owned()
}

struct Row {
    sight: Sight,
    cluster: Cluster,
}

fn payments() -> Role {
    let mut payments = role("payments");
    payments.trust_policy = policy(&[irsa()]);
    payments
}

fn row() -> Row {
    let mut prod = cluster("prod-eu");
    prod.oidc_issuer = Some(ISSUER.to_owned());
    let pod = Pod {
        namespace: "payments".to_owned(),
        account: "api".to_owned(),
        containers: vec![Container { variables: [(WEB_IDENTITY, None)].into(), ..Container::default() }],
        ..Pod::default()
    };
    let sight = Sight {
        annotated: Annotated { workload: workload(), role: payments().arn.to_string() },
        is_annotated: true,
        role: Ok(Some(payments())),
        standing: Ok(None),
        made_at: None,
        pods: Ok(vec![pod.clone(), pod]),
        broken: Vec::new(),
        unseen: Vec::new(),
        refused: Ok(Vec::new()),
    };
    Row { sight, cluster: prod }
}

impl Row {
    fn role(&mut self) -> &mut Role {
        self.sight.role.as_mut().unwrap().as_mut().unwrap()
    }

    fn pods(&mut self) -> &mut Vec<Pod> {
        self.sight.pods.as_mut().unwrap()
    }

    /// Trust, tag and association, as podgrant leaves them.
    fn granted(&mut self) {
        self.role().trust_policy = policy(&[irsa(), trusting()]);
        self.role().tags.insert("podgrant/grant".to_owned(), "payments/api@prod-eu".to_owned());
        let role = payments();
        self.sight.standing = Ok(Some(ours(&role, "prod-eu", "payments/api@prod-eu").granting(&role)));
    }

    /// Annotated with a role of another account.
    fn elsewhere(&mut self) {
        self.sight.annotated.role = "arn:aws:iam::999988887777:role/shared".to_owned();
        self.sight.role = Ok(None);
    }

    /// An association with a role that goes on to that one.
    fn chained(&mut self) {
        self.elsewhere();
        let mut standing = foreign("prod-eu", "payments/api").granting(&role("local"));
        standing.record.as_mut().unwrap().target_role = Some(self.sight.annotated.role.clone());
        self.sight.standing = Ok(Some(standing));
    }

    fn given(&mut self, pods: usize) {
        for pod in self.pods().iter_mut().take(pods) {
            pod.has_token = true;
            pod.containers[0].variables = [(FULL_URI, None), (TOKEN_FILE, None)].into();
        }
    }
}

fn shown(row: &Row) -> String {
    let Verdict { state, told, remedy, steps } = judge(&row.sight, &row.cluster, &TagKeys::default());
    let mut text = format!("    {}: {told}\n", state.as_str());
    if !remedy.is_empty() {
        let _ = writeln!(text, "    → {remedy}");
    }
    for step in steps {
        let _ =
            writeln!(text, "    {} {} {}", if step.done { "x" } else { "." }, step.kind.as_str(), step.told);
        if !step.caution.is_empty() {
            let _ = writeln!(text, "      {}", step.caution);
        }
    }
    text
}

#[test]
fn what_is_said_of_a_service_account() {
    type Change = (&'static str, fn(&mut Row));
    let rows: &[Change] = &[
        ("as it is", |_| {}),
        ("trusted", |r| r.role().trust_policy = policy(&[irsa(), trusting()])),
        ("trust to be managed", |r| {
            r.role().tags.insert("podgrant/trust".to_owned(), "manage".to_owned());
        }),
        ("no pods", |r| r.pods().clear()),
        ("granted", Row::granted),
        ("granted, some pods made anew", |r| {
            r.granted();
            r.given(1);
        }),
        ("granted, all pods made anew", |r| {
            r.granted();
            r.given(2);
        }),
        ("granted, all made anew, and one is ending", |r| {
            r.granted();
            r.given(1);
            r.pods()[1].is_ending = true;
        }),
        ("granted, pods with both use IRSA", |r| {
            r.granted();
            r.given(2);
            r.pods()[1].containers[0].variables.insert(WEB_IDENTITY, None);
        }),
        ("granted, no pods", |r| {
            r.granted();
            r.pods().clear();
        }),
        ("somebody else's association with the role", |r| {
            r.role().trust_policy = policy(&[irsa(), trusting()]);
            let made = foreign("prod-eu", "payments/api").granting(&payments());
            r.sight.standing = Ok(Some(made));
        }),
        ("an association before the trust", |r| {
            r.granted();
            r.role().trust_policy = policy(&[irsa()]);
        }),
        ("an association with another role", |r| {
            r.sight.standing = Ok(Some(foreign("prod-eu", "payments/api").granting(&role("other"))));
        }),
        ("a broken agent", |r| r.sight.broken.push("the cluster has no agent".to_owned())),
        ("a broken agent beneath an association", |r| {
            r.granted();
            r.sight.broken.push("the cluster has no agent".to_owned());
        }),
        ("an agent unseen", |r| r.sight.unseen.push("nodes are forbidden".to_owned())),
        ("refused by the planning rules", |r| {
            r.sight.refused = Ok(vec![(FindingKind::Conflict, "role older asks for it too".to_owned())]);
        }),
        ("kept by a guardrail", |r| {
            r.sight.refused = Ok(vec![(FindingKind::Guardrail, "kube-system is refused".to_owned())]);
        }),
        ("the plan unread", |r| r.sight.refused = Err("denied".to_owned())),
        ("no such role", |r| r.sight.role = Ok(None)),
        ("the role unread", |r| r.sight.role = Err("denied".to_owned())),
        ("pods unread", |r| r.sight.pods = Err("forbidden".to_owned())),
        ("a role of another account", Row::elsewhere),
        ("another account, beneath an association", |r| {
            r.elsewhere();
            r.sight.standing = Ok(Some(foreign("prod-eu", "payments/api").granting(&role("local"))));
        }),
        ("another account, what stands unread", |r| {
            r.elsewhere();
            r.sight.standing = Err("denied".to_owned());
        }),
        ("another account, by target role", Row::chained),
        ("another account, by target role, all pods made anew", |r| {
            r.chained();
            r.given(2);
        }),
        ("another account, by target role, no pods", |r| {
            r.chained();
            r.pods().clear();
        }),
        ("another account, by target role, a broken agent", |r| {
            r.chained();
            r.sight.broken.push("the cluster has no agent".to_owned());
        }),
        ("another account, by target role, pods unread", |r| {
            r.chained();
            r.sight.pods = Err("forbidden".to_owned());
        }),
        ("another account, by target role, on Fargate", |r| {
            r.chained();
            r.pods()[0].runs_on = Some(NodeKind::Fargate);
        }),
        ("another account, by another target role", |r| {
            r.chained();
            r.sight.annotated.role.push('2');
        }),
        ("its own account, by target role", |r| {
            r.chained();
            r.sight.annotated.role = payments().arn.to_string();
            r.sight.role = Ok(Some(payments()));
            let standing = r.sight.standing.as_mut().unwrap().as_mut().unwrap();
            standing.record.as_mut().unwrap().target_role = Some(payments().arn.to_string());
        }),
        ("on Fargate", |r| r.pods()[0].runs_on = Some(NodeKind::Fargate)),
        ("on Fargate beneath an association", |r| {
            r.granted();
            r.pods()[0].runs_on = Some(NodeKind::Fargate);
        }),
        ("on Windows", |r| r.pods()[0].runs_on = Some(NodeKind::Windows)),
        ("on an Outpost", |r| r.cluster.kind.outpost = true),
        ("an older Kubernetes", |r| r.cluster.version = "1.23".to_owned()),
        ("on the host's network", |r| r.pods()[0].host_network = true),
        ("no issuer told", |r| r.cluster.oidc_issuer = None),
        ("a statement for two", |r| {
            let two =
                statement("StringEquals", &format!(r#"["{SUBJECT}","system:serviceaccount:payments:web"]"#));
            r.role().trust_policy = policy(&[two]);
        }),
        ("two statements for it alone", |r| {
            r.role().trust_policy = policy(&[irsa(), trusting(), irsa()]);
        }),
        ("a statement for it alone, and one for all", |r| {
            r.role().trust_policy = policy(&[irsa(), statement("StringLike", r#""*""#)]);
        }),
        ("no statement", |r| r.role().trust_policy = policy(&[trusting()])),
    ];
    let mut table = String::new();
    for (name, change) in rows {
        let mut row = row();
        change(&mut row);
        let _ = write!(table, "{name}\n{}", shown(&row));
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_order_of_steps_is_never_another() {
    let steps = judge(&row().sight, &row().cluster, &TagKeys::default()).steps;
    let kinds: Vec<&str> = steps.iter().map(|step| step.kind.as_str()).collect();
    assert_eq!(kinds, ["trust", "tag", "association", "restart", "annotation", "statement"]);
    let mut commands = String::new();
    for step in steps {
        let _ = writeln!(commands, "{}: {}", step.kind.as_str(), step.command);
    }
    insta::assert_snapshot!(commands);
}

#[test]
fn what_is_asked_of_the_planning_rules_is_the_role_as_it_would_be() {
    let mut row = row();
    let as_if = |row: &Row| as_if(&row.sight, &row.cluster, &TagKeys::default()).unwrap().unwrap().tags;
    assert_eq!(
        as_if(&row).into_iter().collect::<Vec<_>>(),
        [
            ("podgrant/grant".to_owned(), "payments/api@eu-west-1/prod-eu".to_owned()),
            ("podgrant/trust".to_owned(), "manage".to_owned())
        ]
    );
    row.granted();
    assert_eq!(as_if(&row), row.role().tags.clone());
}

#[test]
fn what_is_refused_of_the_roles_other_grants_is_no_matter() {
    let payments = |_: &mut Row| {
        let mut guardrails = Guardrails::default();
        guardrails.refused_namespaces.insert("payments".parse().unwrap());
        guardrails
    };
    let usual = |_: &mut Row| Guardrails::default();
    type Set<'a> = &'a dyn Fn(&mut Row) -> Guardrails;
    let unready: Set<'_> = &|row| {
        row.cluster.status = "CREATING".into();
        Guardrails::default()
    };
    let in_both: Set<'_> = &|row| {
        row.cluster = cluster("us-east-1/prod-eu");
        Guardrails::default()
    };
    let rows: &[(&str, &str, Set<'_>)] = &[
        ("none", "web/front@prod-eu", &usual),
        ("of another region", "web/front@ap-south-1/other", &usual),
        ("of another region, with nothing made yet", "web/front@ap-south-1/other", unready),
        ("of its name in another region", "payments/api@ap-south-1/other", unready),
        ("a pattern's", "batch/job-_@prod-eu", &usual),
        ("a pattern's, that means it too", "payments/_@prod-eu", &usual),
        ("a pattern's, that passes others by", "_/_@prod-eu", &usual),
        ("its own namespace's", "web/front@prod-eu", &payments),
        ("its own namespace's, by a pattern", "_/_@prod-eu", &payments),
        ("its own cluster's name in two regions", "payments/api@prod-eu", in_both),
    ];
    let mut table = String::new();
    for (name, grant, set) in rows {
        let mut row = row();
        let guardrails = set(&mut row);
        row.role().tags.insert("podgrant/grant/more".to_owned(), (*grant).to_owned());
        let keys = TagKeys::default();
        let mut asking = row.role().clone();
        asking.tags = as_if(&row.sight, &row.cluster, &keys).unwrap().unwrap().tags;
        let mut seen = snapshot([asking], [cluster("prod-eu"), row.cluster.clone()], []);
        seen.regions = ["eu-west-1", "us-east-1"].map(|region| region.parse::<Region>().unwrap()).into();
        let plan = plan_grants(&seen, &keys, &guardrails);
        let kinds = |kinds: Vec<FindingKind>| {
            let kinds: BTreeSet<String> = kinds.iter().map(ToString::to_string).collect();
            if kinds.is_empty() { "-".to_owned() } else { kinds.into_iter().collect::<Vec<_>>().join(", ") }
        };
        let told = plan.findings.iter().map(|finding| finding.kind).collect();
        let refused = refusals(&plan, &row.sight, &row.cluster, &guardrails);
        let refused = refused.into_iter().map(|(kind, _)| kind).collect();
        let _ = writeln!(table, "{name}: {} → {}", kinds(told), kinds(refused));
    }
    insta::assert_snapshot!(table, @"
    none: - → -
    of another region: region not configured → -
    of another region, with nothing made yet: cluster not ready, region not configured → -
    of its name in another region: cluster not ready, region not configured → -
    a pattern's: pattern not expanded → -
    a pattern's, that means it too: pattern not expanded → pattern not expanded
    a pattern's, that passes others by: guardrail, pattern not expanded → pattern not expanded
    its own namespace's: guardrail → guardrail
    its own namespace's, by a pattern: guardrail, pattern not expanded → guardrail, pattern not expanded
    its own cluster's name in two regions: ambiguous cluster → ambiguous cluster
    ");
}

#[test]
fn a_statement_is_for_one_alone_only_where_its_text_says_so() {
    let one = format!("\"{SUBJECT}\"");
    let rows = [
        ("alone", statement("StringEquals", &one)),
        ("a list of one", statement("StringEquals", &format!("[{one}]"))),
        ("by StringLike, word for word", statement("StringLike", &one)),
        ("two", statement("StringEquals", &format!(r#"[{one},"system:serviceaccount:a:b"]"#))),
        ("a wildcard", statement("StringLike", r#""system:serviceaccount:payments:*""#)),
        ("any letter", statement("StringLike", r#""system:serviceaccount:payments:ap?""#)),
        ("everything", statement("StringLike", r#""*""#)),
        ("another's wildcard", statement("StringLike", r#""system:serviceaccount:web:*""#)),
        ("another's", statement("StringEquals", r#""system:serviceaccount:payments:web""#)),
        ("a star that is none", statement("StringEquals", r#""system:serviceaccount:payments:*""#)),
        ("an operator we do not know", statement("ForAnyValue:StringLike", &one)),
        ("another cluster's", statement("StringEquals", &one).replace("PROD", "STAGING")),
        ("two providers", statement("StringEquals", &one).replace(
            r#""arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/PROD""#,
            r#"["arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/PROD","arn:aws:iam::111122223333:oidc-provider/x"]"#,
        )),
        ("no condition", statement("StringEquals", &one).replace(":sub", ":aud")),
        ("a denial", statement("StringEquals", &one).replace("Allow", "Deny")),
        ("Pod Identity's", trusting()),
    ];
    let mut table = String::new();
    for (name, statement) in rows {
        let found = oidc_statements(&policy(&[statement]), Some(ISSUER), &workload());
        let reach: Vec<String> = found.iter().map(|one| format!("{:?}", one.reach)).collect();
        let _ = writeln!(table, "{name}: {}", if reach.is_empty() { "not it" } else { &reach[0] });
    }
    insta::assert_snapshot!(table);
    let staging = irsa().replace("PROD", "STAGING");
    let found = oidc_statements(&policy(&[staging]), None, &workload());
    assert_eq!(found[0].reach, Reach::Wider, "without an issuer nobody knows whose it is");
    assert_eq!(oidc_statements("not JSON", None, &workload()), []);
}

mod journal {
    use super::*;

    const CLUSTER: &str = "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu";

    fn line(account: &str, entry: &Entry, stage: Stage) -> String {
        let (namespace, name) = account.split_once('/').unwrap();
        let workload =
            Workload { namespace: namespace.parse().unwrap(), service_account: name.parse().unwrap() };
        let at = "2026-03-02T10:15:30Z".to_owned();
        let line = Line::new(at, CLUSTER, &workload, "arn:role", entry.clone(), stage);
        serde_json::to_string(&line).unwrap() + "\n"
    }

    fn tags() -> Entry {
        Entry::Tags {
            role_id: "AROA1".to_owned(),
            before: [("podgrant/grant".to_owned(), None)].into(),
            after: [("podgrant/grant".to_owned(), Some("payments/api@prod-eu".to_owned()))].into(),
            grants: true,
            trusts: true,
        }
    }

    fn read(lines: &[String]) -> Journal {
        Journal::read(&lines.concat()).unwrap()
    }

    #[test]
    fn what_may_have_been_done_counts_and_what_was_refused_does_not() {
        let of = |lines: &[String]| read(lines).of(CLUSTER, &workload());
        assert_eq!(of(&[]), None);
        let (begun, done, not) = (Stage::Begun, Stage::Done, Stage::NotDone);
        for (stages, counts) in [
            (vec![begun], true),
            (vec![begun, done], true),
            (vec![begun, not], false),
            (vec![begun, not, begun], true),
            // The first one has no end: nobody knows.
            (vec![begun, begun, not], true),
            (vec![begun, not, begun, not], false),
            (vec![begun, done, begun, not], true),
        ] {
            let lines: Vec<String> =
                stages.iter().map(|stage| line("payments/api", &tags(), *stage)).collect();
            let moved = of(&lines).unwrap_or_default();
            assert_eq!((moved.grants, moved.trusts), (counts, counts), "{stages:?}");
        }
        // Another step after one without an end.
        let moved =
            of(&[line("payments/api", &tags(), begun), line("payments/api", &Entry::Annotation, begun)]);
        assert!(moved.is_some_and(|moved| moved.grants && moved.annotation));
    }

    #[test]
    fn what_a_role_was_let_goes_with_the_last_that_was_moved_with_it() {
        let both = [
            line("payments/api", &tags(), Stage::Begun),
            line("payments/worker", &Entry::Association, Stage::Done),
        ];
        let worker = Workload { service_account: "worker".parse().unwrap(), ..workload() };
        let undone = line("payments/api", &Entry::Undone, Stage::Done);
        let journal = read(&[both.concat(), undone.clone()]);
        assert_eq!(journal.of(CLUSTER, &workload()), None);
        assert!(journal.of(CLUSTER, &worker).is_some_and(|moved| moved.trusts && !moved.grants));
        assert_eq!(journal.accounts(CLUSTER), [worker.clone()].into());
        assert!(journal.accounts("arn:aws:eks:eu-west-1:999988887777:cluster/prod-eu").is_empty());
        let last = line("payments/worker", &Entry::Undone, Stage::Done);
        let again = line("payments/worker", &Entry::Association, Stage::Done);
        let journal = read(&[both.concat(), undone, last, again]);
        assert!(journal.of(CLUSTER, &worker).is_some_and(|moved| !moved.trusts));
    }

    #[test]
    fn half_a_line_is_none_and_a_line_that_is_none_is_an_error() {
        let whole = line("payments/api", &tags(), Stage::Done);
        assert_eq!(Journal::read(&format!("{whole}{{\"version\":1")), Journal::read(&whole));
        let problem = |text: &str| Journal::read(text).unwrap_err().to_string();
        assert!(problem(&format!("{whole}{{\"version\":1\n")).starts_with("line 2: "));
        let newer = whole.replace("\"version\":1", "\"version\":2");
        assert_eq!(problem(&newer), "line 1: version 2 is not known, but 1 is");
    }
}
