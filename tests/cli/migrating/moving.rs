//! Service accounts that are moved, and what is taken away when they are.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use podgrant_core::explain::evidence::{FULL_URI, NodeKind, WEB_IDENTITY};
use podgrant_tests::fake::{Association, Cluster, Role};
use podgrant_tests::fake_kubernetes::{FakeKubernetes, Trouble, object};

use super::{BEFORE, PODS, irsa, trusting};
use crate::person::{EU, NOW, Person, Said, role};

/// Agents keep credentials for so long (EKS user guide, "How EKS Pod Identity works").
const HELD: i64 = 6 * 3600;

/// prod-eu with two service accounts of one role, each with a statement of its own and a Deployment.
pub struct Moving {
    pub person: Person,
    pub kubernetes: FakeKubernetes,
    pub journal: PathBuf,
}

/// Something that an account needs, and has not.
type Lack = Option<String>;

pub const ACCOUNTS: [&str; 2] = ["payments/api", "payments/worker"];

impl Moving {
    pub async fn new() -> Self {
        let mut person = Person::new().await;
        let cluster = Cluster::named("prod-eu").tag("env", "prod");
        person.aws.add_cluster(cluster.endpoint("https://prod-eu.example", "bm8gY2VydGlmaWNhdGU="));
        let kubernetes = FakeKubernetes::of(&person.aws, "prod-eu");
        let statements = ACCOUNTS.map(irsa);
        person.aws.add_role(trusting(Role::named("payments").tag("team", "billing"), &statements));
        for account in ACCOUNTS {
            kubernetes.add_account(account, Some(&Role::named("payments").arn()));
            let (_, name) = account.split_once('/').unwrap();
            kubernetes.deploy("Deployment", account, name, 2, BEFORE);
        }
        person.kubernetes = Some(kubernetes.clone());
        let settling = kubernetes.clone();
        person.meanwhile = Box::new(move |aws, passed| {
            aws.set_time(NOW + passed);
            settling.settle(NOW + passed);
        });
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("podgrant-migrate-test-{}-{number}.jsonl", std::process::id());
        Self { person, kubernetes, journal: std::env::temp_dir().join(name) }
    }

    pub async fn migrate(&self, how: &str) -> Said {
        let journal = self.journal.display();
        let command = format!("migrate --cluster prod-eu {how} --journal {journal}");
        let mut said = self.person.types(&command, "").await;
        for text in [&mut said.out, &mut said.errors] {
            *text = text.replace(&journal.to_string(), "JOURNAL");
        }
        said
    }

    /// As [`Self::migrate`], and it ends well.
    pub async fn migrates(&self, how: &str) -> Said {
        let said = self.migrate(how).await;
        assert_eq!(said.code, 0, "{how}: {said}");
        said
    }

    pub fn noted(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.journal).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A naive look at whether pods can have credentials, those that run and one that would be made now: by IRSA, by Pod
    /// Identity, or because the agent gave them some before.
    pub fn lack(&self, account: &str) -> Lack {
        let (namespace, name) = account.split_once('/').unwrap();
        let role = self.person.aws.role("payments");
        let policy = role.map(|role| role.trust_policy).unwrap_or_default();
        let document: serde_json::Value = serde_json::from_str(&policy).unwrap();
        let statements: Vec<String> =
            document["Statement"].as_array().unwrap().iter().map(ToString::to_string).collect();
        let by_oidc =
            statements.iter().any(|one| one.contains(&format!("system:serviceaccount:{namespace}:{name}")));
        // A statement of podgrant's names those that it is for.
        let by_pods = statements.iter().any(|one| {
            one.contains("pods.eks.amazonaws.com")
                && (!one.contains("Condition") || one.contains(&format!("\"{name}\"")))
        });
        let stands = self.person.aws.association(EU, "prod-eu", namespace, name).is_some();
        let now = self.person.clock_hand().load(Ordering::Relaxed);
        let gone_at = self.person.aws.deleted_at(EU, "prod-eu", namespace, name);
        for pod in self.kubernetes.pods() {
            if (pod.namespace.as_str(), pod.account.as_str()) != (namespace, name) {
                continue;
            }
            let has = |variable: &str| pod.containers[0].variables.contains_key(variable);
            let asked_before =
                gone_at.is_some_and(|at| pod.created_at.is_some_and(|made| made <= at) && now - at < HELD);
            let can =
                (has(WEB_IDENTITY) && by_oidc) || (has(FULL_URI) && ((by_pods && stands) || asked_before));
            if !can {
                return Some(format!(
                    "{} can't: {:?}, {stands}, {policy}",
                    pod.name, pod.containers[0].variables
                ));
            }
        }
        let annotated = self.kubernetes.annotation(account).is_some();
        let new_can = if stands { by_pods } else { annotated && by_oidc };
        (!new_can).then(|| format!("a new pod of {account} can't: {stands}, {annotated}, {policy}"))
    }

    pub fn all_have_access(&self, context: &str) {
        for account in ACCOUNTS {
            if let Some(lack) = self.lack(account) {
                panic!("{lack}\n{context}");
            }
        }
    }

    /// All that a migration may change.
    pub fn state(&self) -> String {
        let role = self.person.aws.role("payments").unwrap();
        let policy: serde_json::Value = serde_json::from_str(&role.trust_policy).unwrap();
        let statements = policy["Statement"].as_array().unwrap().iter();
        let mut trusted: Vec<String> = statements
            .map(|one| match one["Principal"]["Federated"].as_str() {
                Some(_) => one["Condition"]["StringEquals"].to_string(),
                None => one["Sid"].to_string(),
            })
            .collect();
        trusted.sort();
        let associations = self.person.aws.associations(EU, "prod-eu");
        let mut associated: Vec<String> =
            associations.iter().map(|one| format!("{}/{}", one.namespace, one.service_account)).collect();
        associated.sort();
        let annotated: Vec<Option<String>> = ACCOUNTS.map(|one| self.kubernetes.annotation(one)).into();
        let pods = self.kubernetes.pods();
        let given = pods.iter().map(|pod| pod.containers[0].variables.keys().copied().collect::<Vec<_>>());
        let mut given: Vec<String> = given.map(|keys| keys.join(" ")).collect();
        given.sort();
        let mut tags = role.tags.clone();
        for value in tags.values_mut() {
            let mut words: Vec<&str> = value.split(' ').collect();
            words.sort_unstable();
            *value = words.join(" ");
        }
        format!(
            "tags {:?}\ntrust {trusted:?}\nassociations {associated:?}\nannotations {annotated:?}\npods {given:?}\n",
            tags
        )
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.journal);
    }
}

/// podgrant's own statement, once it is there, may stay.
pub fn without_trust(state: &str) -> String {
    state.replace("\"\\\"PodgrantManaged1\\\"\", ", "")
}

#[tokio::test]
async fn it_moves_them_and_takes_irsa_away_when_it_is_told() {
    let moving = Moving::new().await;
    insta::assert_snapshot!(moving.migrate("--apply --yes").await, @"
    SERVICE ACCOUNT  ROLE      PODS  STATE    WHY
    payments/api     payments  2     to move  nothing is in the way
    payments/worker  payments  2     to move  nothing is in the way

    2 to move, 0 under way, 0 moved, 0 to mend first, 0 that stay, 0 unknown.

    To be moved, and IRSA to be left beside it
      payments/api
        + role payments: podgrant/grant = payments/api@eu-west-1/prod-eu
        + role payments: podgrant/trust = manage
        ~ role payments: its trust policy lets Pod Identity in for it, if it does not
        + association with role payments
        ~ Deployment payments/api, 2 of 2 pods
      payments/worker
        + role payments: podgrant/grant = payments/worker@eu-west-1/prod-eu
        + role payments: podgrant/trust = manage
        ~ role payments: its trust policy lets Pod Identity in for it, if it does not
        + association with role payments
        ~ Deployment payments/worker, 2 of 2 pods
    + role payments: podgrant/grant = payments/api@eu-west-1/prod-eu payments/worker@eu-west-1/prod-eu => done
    + role payments: podgrant/trust = manage => done
    ~ role payments  trust policy: + allows pods.eks.amazonaws.com for payments/api@eu-west-1/prod-eu, payments/worker@eu-west-1/prod-eu => done
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@eu-west-1/prod-eu) => done
    + eu-west-1/prod-eu  payments/worker  role payments  (payments/worker@eu-west-1/prod-eu) => done
    ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    ~ eu-west-1/prod-eu  Deployment payments/worker => rolling
    ~ eu-west-1/prod-eu  Deployment payments/api => rolled out
    ~ eu-west-1/prod-eu  Deployment payments/worker => rolled out
    payments/api => moved
    payments/worker => moved

    2 moved.
    Annotations and statements of IRSA stand beside it. When all works: podgrant migrate --cluster eu-west-1/prod-eu --finish
    ---- stderr
    What was there before is noted in JOURNAL.
    waiting for:
      eu-west-1/prod-eu Deployment payments/api: Kubernetes has not begun
      eu-west-1/prod-eu Deployment payments/worker: Kubernetes has not begun

    ---- exit 0
    ");
    insta::assert_snapshot!(moving.state(), @r#"
    tags {"podgrant/grant": "payments/api@eu-west-1/prod-eu payments/worker@eu-west-1/prod-eu", "podgrant/trust": "manage", "team": "billing"}
    trust ["\"PodgrantManaged1\"", "{\"oidc.eks.eu-west-1.amazonaws.com/id/PROD-EU:sub\":\"system:serviceaccount:payments:api\"}", "{\"oidc.eks.eu-west-1.amazonaws.com/id/PROD-EU:sub\":\"system:serviceaccount:payments:worker\"}"]
    associations ["payments/api", "payments/worker"]
    annotations [Some("arn:aws:iam::111122223333:role/payments"), Some("arn:aws:iam::111122223333:role/payments")]
    pods ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    "#);
    moving.all_have_access("moved");
    // Again there is nothing to do, and nothing is done.
    let (writes, written) = (moving.person.writes().len(), moving.kubernetes.writes().len());
    let said = moving.migrates("--apply --yes").await;
    assert!(said.out.contains("There is nothing to move."), "{said}");
    assert_eq!((moving.person.writes().len(), moving.kubernetes.writes().len()), (writes, written));

    insta::assert_snapshot!(moving.migrate("--finish --yes").await, @"
    SERVICE ACCOUNT  ROLE      PODS  STATE  WHY
    payments/api     payments  2     moved  all its pods have Pod Identity's variables
    payments/worker  payments  2     moved  all its pods have Pod Identity's variables

    0 to move, 0 under way, 2 moved, 0 to mend first, 0 that stay, 0 unknown.

    To be taken away
      - service account payments/api: eks.amazonaws.com/role-arn = arn:aws:iam::111122223333:role/payments
      - role payments: what lets in payments/api alone by IRSA, of its trust policy
      - service account payments/worker: eks.amazonaws.com/role-arn = arn:aws:iam::111122223333:role/payments
      - role payments: what lets in payments/worker alone by IRSA, of its trust policy
    ! Others that read the annotation can't be seen: External Secrets' serviceAccountRef, the Secrets Store CSI driver. They need both.
    - service account payments/api: eks.amazonaws.com/role-arn => done
    - role payments: what lets in payments/api alone by IRSA, of its trust policy => done
    payments/api => finished
    - service account payments/worker: eks.amazonaws.com/role-arn => done
    - role payments: what lets in payments/worker alone by IRSA, of its trust policy => done
    payments/worker => finished

    2 finished.
    Where the annotation is written (chart, manifest) it is to go too. Back again: podgrant migrate --cluster eu-west-1/prod-eu --undo
    ---- stderr
    What was there before is noted in JOURNAL.

    ---- exit 0
    ");
    insta::assert_snapshot!(moving.state(), @r#"
    tags {"podgrant/grant": "payments/api@eu-west-1/prod-eu payments/worker@eu-west-1/prod-eu", "podgrant/trust": "manage", "team": "billing"}
    trust ["\"PodgrantManaged1\""]
    associations ["payments/api", "payments/worker"]
    annotations [None, None]
    pods ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    "#);
    moving.all_have_access("finished");
    insta::assert_snapshot!(moving.migrate("").await, @"
    SERVICE ACCOUNT  ROLE      PODS  STATE     WHY
    payments/api     payments  2     finished  it is by Pod Identity alone
    payments/worker  payments  2     finished  it is by Pod Identity alone

    payments/api
      1. done  the trust policy lets Pod Identity assume the role
      2. done  the role's tag asks for the place
      3. done  the association stands, and the trust policy allows it
      4. done  2 of 2 pods have Pod Identity's variables
      5. done  the annotation is gone
      6. done  the trust policy has no statement for it by this cluster's OIDC provider

    payments/worker
      1. done  the trust policy lets Pod Identity assume the role
      2. done  the role's tag asks for the place
      3. done  the association stands, and the trust policy allows it
      4. done  2 of 2 pods have Pod Identity's variables
      5. done  the annotation is gone
      6. done  the trust policy has no statement for it by this cluster's OIDC provider

    0 to move, 0 under way, 0 moved, 2 finished, 0 to mend first, 0 that stay, 0 unknown.
    Nothing was changed.
    ---- exit 0
    ");
}

#[tokio::test]
async fn it_asks_first() {
    let mut moving = Moving::new().await;
    let usage = moving.migrate("--apply").await;
    assert!(usage.code == 64 && usage.errors.contains("nobody to ask"), "{usage}");
    let usage = moving.migrate("--yes").await;
    assert!(usage.code == 64 && usage.errors.contains("--yes is about --apply"), "{usage}");
    let usage = moving.migrate("--apply --finish").await;
    assert_eq!(usage.code, 64, "{usage}");
    moving.person.terminal.input = true;
    let journal = moving.journal.display().to_string();
    for how in ["--apply", "--finish"] {
        let command = format!("migrate --cluster prod-eu {how} --journal {journal}");
        let said = moving.person.types(&command, "no\n").await;
        assert_eq!(said.code, if how == "--apply" { 4 } else { 0 }, "{said}");
    }
    assert!(moving.person.writes().is_empty() && moving.kubernetes.writes().is_empty());
    moving.migrates("--apply --yes").await;
    let (writes, written) = (moving.person.writes().len(), moving.kubernetes.writes().len());
    for how in ["--finish", "--undo"] {
        let command = format!("migrate --cluster prod-eu {how} --journal {journal}");
        let said = moving.person.types(&command, "y\n").await;
        assert!(said.code == 4 && said.errors.contains("Nothing was changed."), "{said}");
    }
    assert_eq!((moving.person.writes().len(), moving.kubernetes.writes().len()), (writes, written));
}

#[tokio::test]
async fn what_can_not_be_moved_stops_by_itself_and_the_others_go_on() {
    let moving = Moving::new().await;
    // Its pods may not go.
    moving.kubernetes.add_budget("payments", "worker", 0);
    let said = moving.migrate("--apply --yes").await;
    assert_eq!(said.code, 3, "{said}");
    let ends = said.out.lines().filter(|line| line.contains("=> moved") || line.contains("=> stopped"));
    insta::assert_snapshot!(ends.collect::<Vec<_>>().join("\n"), @"
    payments/worker => stopped: Deployment payments/worker: PodDisruptionBudget worker lets no pod go now: 2 healthy, and 2 must be
    payments/api => moved
    ");
    moving.all_have_access("half-way");
    // And is not finished, but the other is.
    let said = moving.migrate("--finish --yes").await;
    assert_eq!(said.code, 3, "{said}");
    assert!(moving.kubernetes.annotation("payments/api").is_none(), "{said}");
    assert!(moving.kubernetes.annotation("payments/worker").is_some(), "{said}");
    moving.all_have_access("half finished");
    for how in ["--apply --yes", "--finish --yes", "--undo --yes"] {
        let said = moving.migrate(&format!("payments/api payments/typo {how}")).await;
        assert_eq!(said.code, 3, "{said}");
        assert!(said.out.contains("payments/typo"), "{said}");
    }
}

#[tokio::test]
async fn what_the_roles_tags_ask_for_beside_it_is_not_done_unasked() {
    let moving = Moving::new().await;
    moving.person.aws.tag_role("payments", "podgrant/grant", "other/app@prod-eu");
    let said = moving.migrate("--apply --yes").await;
    assert_eq!(said.code, 1, "{said}");
    assert!(said.out.contains("ask for more than to move it") && said.out.contains("other/app"), "{said}");
    assert!(moving.person.aws.associations(EU, "prod-eu").is_empty(), "{said}");
    moving.all_have_access("left");
    // Of an account that is not moved here it is the same.
    let moving = Moving::new().await;
    moving.person.aws.tag_role("payments", "podgrant/grant", "payments/worker@prod-eu");
    let said = moving.migrate("payments/api --apply --yes").await;
    assert!(said.code == 1 && said.out.contains("payments/worker"), "{said}");
    assert!(moving.person.aws.associations(EU, "prod-eu").is_empty(), "{said}");
}

#[tokio::test]
async fn a_grant_never_takes_over_what_somebody_else_made() {
    let moving = Moving::new().await;
    let made = Association::of("prod-eu", "payments", "api").role_arn(Role::named("payments").arn());
    moving.person.aws.add_association(made);
    let said = moving.migrate("payments/api --apply --yes").await;
    assert!(said.code == 1 && said.out.contains("somebody else made its association"), "{said}");
    assert_eq!(moving.person.writes(), [""; 0]);
}

#[tokio::test]
async fn without_pods_it_is_finished_only_by_name() {
    let moving = Moving::new().await;
    moving.kubernetes.change(&object("Deployment", "payments", "api"), |controller| {
        controller.counts.desired = 0;
    });
    moving.kubernetes.drop_pods("payments/api");
    moving.migrates("--apply --yes").await;
    let said = moving.migrate("--finish --yes").await;
    assert!(said.code == 3 && said.out.contains("payments/api has no pods to tell that it works"), "{said}");
    assert!(moving.kubernetes.annotation("payments/api").is_some(), "{said}");
    moving.migrates("payments/api --finish --yes").await;
    assert!(moving.kubernetes.annotation("payments/api").is_none());
    moving.all_have_access("finished");
}

#[tokio::test]
async fn a_statement_for_others_too_stays() {
    let moving = Moving::new().await;
    let both = irsa("payments/api").replace(
        "\"system:serviceaccount:payments:api\"",
        "[\"system:serviceaccount:payments:api\",\"system:serviceaccount:payments:worker\"]",
    );
    moving.person.aws.add_role(trusting(Role::named("payments"), std::slice::from_ref(&both)));
    moving.migrates("payments/api --apply --yes").await;
    let said = moving.migrates("payments/api --finish --yes").await;
    assert!(said.out.contains("payments/api => finished"), "{said}");
    assert!(moving.person.aws.role("payments").unwrap().trust_policy.contains(&both), "{said}");
    moving.all_have_access("finished");
}

#[tokio::test]
async fn who_has_irsa_still_keeps_its_statement() {
    let moving = Moving::new().await;
    moving.migrates("--apply --yes").await;
    // A pod that came by IRSA in between: its association was away for a while.
    moving.kubernetes.change_pods(|pod| {
        if pod.name.starts_with("worker") && pod.name.ends_with("-2") {
            pod.containers[0].variables = [(WEB_IDENTITY, None)].into();
            pod.has_token = false;
        }
    });
    let said = moving.migrate("--finish --yes").await;
    assert!(said.out.contains("payments/api => finished"), "{said}");
    assert!(moving.kubernetes.annotation("payments/worker").is_some(), "{said}");
    moving.all_have_access("one has IRSA still");
}

#[tokio::test]
async fn what_is_ending_has_irsa_until_it_has_ended() {
    let mut moving = Moving::new().await;
    // The old pods of a queue's worker take their time.
    let (kubernetes, settling) = (moving.kubernetes.clone(), moving.kubernetes.clone());
    moving.person.meanwhile = Box::new(move |aws, passed| {
        aws.set_time(NOW + passed);
        let old: Vec<_> = kubernetes.pods().into_iter().filter(|pod| pod.account == "worker").collect();
        settling.settle(NOW + passed);
        let has_new = kubernetes.pods().iter().any(|pod| pod.account == "worker" && pod.has_token);
        match (has_new, passed < 400) {
            (true, true) if !kubernetes.pods().iter().any(|pod| pod.is_ending) => {
                kubernetes.add_ending(old.into_iter().filter(|pod| !pod.has_token).collect());
            }
            (_, false) => kubernetes.end(),
            _ => {}
        }
    });
    let said = moving.migrate("payments/worker --apply --yes --wait-limit 30").await;
    assert!(said.code == 1 && said.out.contains("2 with IRSA's are still ending"), "{said}");
    let said = moving.migrate("payments/worker --finish --yes").await;
    assert!(said.code == 3 && said.out.contains("There is nothing to finish."), "{said}");
    moving.migrates("payments/worker --apply --yes").await;
    moving.migrates("payments/worker --finish --yes").await;
    moving.all_have_access("finished");
}

#[tokio::test]
async fn pods_are_made_anew_only_when_the_webhook_knows() {
    let mut moving = Moving::new().await;
    // podgrant's function was quicker: it made the association when the tag was written.
    let tagged = role("payments", "payments/api@eu-west-1/prod-eu");
    moving.person.aws.add_role(trusting(
        tagged.clone(),
        &[irsa("payments/api"), irsa("payments/worker"), PODS.to_owned()],
    ));
    moving.person.granted(&tagged, "payments/api@eu-west-1/prod-eu");
    let kubernetes = moving.kubernetes.clone();
    let first = std::sync::Arc::new(std::sync::Mutex::new(None));
    let seen = std::sync::Arc::clone(&first);
    moving.person.meanwhile = Box::new(move |aws, passed| {
        aws.set_time(NOW + passed);
        if !kubernetes.writes().is_empty() {
            seen.lock().unwrap().get_or_insert(passed);
        }
        kubernetes.settle(NOW + passed);
    });
    moving.migrates("payments/api --apply --yes").await;
    assert!(first.lock().unwrap().is_some_and(|passed| passed >= 60), "{first:?}");
}

#[tokio::test]
async fn nodes_without_pod_identity_stop_it_before_anything_is_written() {
    let moving = Moving::new().await;
    moving.kubernetes.run_on("payments/api", NodeKind::Fargate);
    let said = moving.migrates("payments/api --apply --yes").await;
    assert!(said.out.contains("There is nothing to move."), "{said}");
    assert_eq!(moving.person.writes(), [""; 0]);
}

#[tokio::test]
async fn the_journal_is_written_before_anything_is_changed() {
    let moving = Moving::new().await;
    moving.migrates("payments/api --apply --yes").await;
    moving.migrates("payments/api --finish --yes").await;
    let lines: Vec<String> = moving
        .noted()
        .iter()
        .map(|line| format!("{} {} {}", line["serviceAccount"], line["step"], line["stage"]))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    "payments/api" "tags" "begun"
    "payments/api" "tags" "done"
    "payments/api" "association" "begun"
    "payments/api" "association" "done"
    "payments/api" "restart" "begun"
    "payments/api" "restart" "done"
    "payments/api" "annotation" "begun"
    "payments/api" "annotation" "done"
    "payments/api" "statement" "begun"
    "payments/api" "statement" "done"
    "#);
    insta::assert_snapshot!(moving.noted()[0], @r#"{"after":{"podgrant/grant":"payments/api@eu-west-1/prod-eu","podgrant/trust":"manage"},"at":"2026-03-02T10:15:30Z","before":{"podgrant/grant":null,"podgrant/trust":null},"cluster":"arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu","grants":true,"role":"arn:aws:iam::111122223333:role/payments","roleId":"AROA00000000000000001","serviceAccount":"payments/api","stage":"begun","step":"tags","trusts":true,"version":1}"#);
    // Where it can't be written nothing is done.
    let mut blocked = Moving::new().await;
    blocked.journal = PathBuf::from("/proc/podgrant-migrate.jsonl");
    let said = blocked.migrate("--apply --yes").await;
    assert!(said.code == 1 && said.errors.contains("could not be opened"), "{said}");
    assert!(blocked.person.writes().is_empty() && blocked.kubernetes.writes().is_empty());
    // Nor where it is no journal.
    std::fs::write(&moving.journal, "{\"version\":2}\n").unwrap();
    let said = moving.migrate("--apply --yes").await;
    assert!(said.code == 1 && said.errors.contains("line 1"), "{said}");
    // Nor is any other file cut.
    std::fs::write(&moving.journal, "[1, 2]").unwrap();
    let said = moving.migrate("--apply --yes").await;
    assert!(said.code == 1 && said.errors.contains("no line of a journal"), "{said}");
    assert_eq!(std::fs::read_to_string(&moving.journal).unwrap(), "[1, 2]");
    // Half a line is what a crash leaves: what it was about was not begun.
    std::fs::write(&moving.journal, "{\"version\":1,\"at\"").unwrap();
    moving.migrates("--apply --yes").await;
    assert!(!moving.noted().is_empty());
}

#[tokio::test]
async fn the_same_for_a_program() {
    let moving = Moving::new().await;
    moving.kubernetes.add_budget("payments", "worker", 0);
    let said = moving.migrate("--apply --yes --output json").await;
    let seen: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(seen["applied"], true);
    let outcomes: Vec<String> = seen["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {}", one["serviceAccount"], one["outcome"]))
        .collect();
    insta::assert_snapshot!(outcomes.join("\n"), @r#"
    "payments/api" {"verdict":"moved"}
    "payments/worker" {"reason":"Deployment payments/worker: PodDisruptionBudget worker lets no pod go now: 2 healthy, and 2 must be","remedy":"run it again when more pods are healthy; where it never lets one go, or they lack nothing but credentials: kubectl --namespace payments rollout restart deployment/worker","verdict":"stopped"}
    "#);
}

#[tokio::test]
async fn a_statement_that_goes_leaves_all_else_to_the_letter() {
    let moving = Moving::new().await;
    let odd = r#" { "Effect" : "Allow", "Principal":{"AWS":"arn:aws:iam::111122223333:root"}, "Action":"sts:AssumeRole" } "#;
    let [api, worker] = ACCOUNTS.map(irsa);
    moving
        .person
        .aws
        .add_role(trusting(Role::named("payments"), &[odd.to_owned(), api, PODS.to_owned(), worker.clone()]));
    moving.migrates("payments/api --apply --yes").await;
    moving.migrates("payments/api --finish --yes").await;
    let policy = moving.person.aws.role("payments").unwrap().trust_policy;
    assert_eq!(
        policy,
        format!(r#"{{"Version":"2012-10-17","Statement":[{},{PODS},{worker}]}}"#, odd.trim_end())
    );
}

#[tokio::test]
async fn a_refused_annotation_is_said_and_nothing_else_goes() {
    let moving = Moving::new().await;
    moving.migrates("--apply --yes").await;
    let before = moving.state();
    moving.kubernetes.trouble("annotate", None, Trouble::Refuse);
    let said = moving.migrate("--finish --yes").await;
    assert!(said.code == 1 && said.out.contains("forbidden"), "{said}");
    assert_eq!(moving.state(), before);
}
