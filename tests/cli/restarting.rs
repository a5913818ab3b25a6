use podgrant_core::explain::evidence::{NodeKind, Owner};
use podgrant_core::restart::Strategy;
use podgrant_tests::fake::{Association, Cluster, Fault};
use podgrant_tests::fake_kubernetes::{FakeKubernetes, Trouble, object};

use crate::person::{EU, NOW, Person, role};

mod doubtful;

/// An hour ago, before any association.
const BEFORE: i64 = NOW - 3600;

/// payments/api and payments/web have associations of half an hour ago; their pods are older.
pub async fn inside() -> (Person, FakeKubernetes) {
    let mut person = Person::new().await;
    let cluster = Cluster::named("prod-eu").tag("env", "prod");
    person.aws.add_cluster(cluster.endpoint("https://prod-eu.example", "bm8gY2VydGlmaWNhdGU="));
    let kubernetes = FakeKubernetes::of(&person.aws, "prod-eu");
    kubernetes.deploy("Deployment", "payments/api", "api", 3, BEFORE);
    kubernetes.deploy("StatefulSet", "payments/web", "web", 2, BEFORE);
    person.aws.add_role(role("payments", "payments/api@prod-eu payments/web@prod-eu"));
    for account in ["api", "web"] {
        let mut made = Association::of("prod-eu", "payments", account).role_arn(role("payments", "").arn());
        (made.created_at, made.modified_at) = (NOW - 1800, NOW - 1800);
        person.aws.add_association(made);
    }
    person.kubernetes = Some(kubernetes.clone());
    let settling = kubernetes.clone();
    person.meanwhile = Box::new(move |_, passed| settling.settle(NOW + passed));
    (person, kubernetes)
}

/// The same, with one of everything that podgrant does not roll.
pub async fn motley() -> (Person, FakeKubernetes) {
    let (person, kubernetes) = inside().await;
    let accounts = [
        "batch/job",
        "batch/alone",
        "legacy/app",
        "argo/app",
        "farm/app",
        "tight/app",
        "still/app",
        "young/app",
    ];
    for account in accounts {
        let (namespace, name) = account.split_once('/').unwrap();
        let mut made = Association::of("prod-eu", namespace, name).role_arn(role("payments", "").arn());
        (made.created_at, made.modified_at) = (NOW - 1800, NOW - 1800);
        person.aws.add_association(made);
    }
    let nothing = |kubernetes: &FakeKubernetes| kubernetes.change_pods(|pod| pod.has_token = false);
    kubernetes.deploy("Job", "batch/job", "nightly-1", 1, BEFORE);
    kubernetes
        .set_owner(&object("Job", "batch", "nightly-1"), Some(object("CronJob", "batch", "nightly").owner));
    kubernetes.add_pod("batch/alone", "alone", BEFORE);
    let left = kubernetes.deploy("DaemonSet", "legacy/app", "app", 2, BEFORE);
    kubernetes.change(&left, |controller| controller.strategy = Strategy::OnDelete);
    kubernetes.deploy("Deployment", "argo/app", "app", 1, BEFORE);
    let rollout =
        Owner { group: "argoproj.io".to_owned(), kind: "Rollout".to_owned(), name: "app".to_owned() };
    kubernetes.set_owner(&object("ReplicaSet", "argo", "app-1"), Some(rollout));
    kubernetes.deploy("Deployment", "farm/app", "app", 1, BEFORE);
    kubernetes.run_on("farm/app", NodeKind::Fargate);
    kubernetes.deploy("Deployment", "tight/app", "app", 2, BEFORE);
    kubernetes.add_budget("tight", "app", 0);
    let still = kubernetes.deploy("Deployment", "still/app", "app", 2, BEFORE);
    kubernetes.change(&still, |controller| controller.strategy = Strategy::Paused);
    kubernetes.deploy("Deployment", "young/app", "app", 1, NOW - 60);
    nothing(&kubernetes);
    kubernetes.change_pods(|pod| pod.containers[0].variables.clear());
    (person, kubernetes)
}

#[tokio::test]
async fn the_fleet_is_looked_over_and_nothing_is_changed() {
    let (person, kubernetes) = motley().await;
    insta::assert_snapshot!(person.story("restart", "").await, @"
    CLUSTER            WORKLOAD                  SERVICE ACCOUNT  LACK    RESTART    WHY
    eu-west-1/prod-eu  Rollout argo/app          argo/app         1 of 1  by hand    made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  CronJob batch/nightly     batch/job        1 of 1  by hand    made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  Deployment farm/app       farm/app         1 of 1  no help    made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  DaemonSet legacy/app      legacy/app       2 of 2  by hand    made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  Deployment payments/api   payments/api     3 of 3  roll       made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  StatefulSet payments/web  payments/web     2 of 2  roll       made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  Deployment still/app      still/app        2 of 2  by hand    made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  Deployment tight/app      tight/app        2 of 2  held back  made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  Deployment young/app      young/app        1 of 1  no help    without the variables
    eu-west-1/prod-eu  Pod batch/alone           batch/alone      1 of 1  by hand    made before its association (2026-03-02T09:45:30Z)

    ! Rollout argo/app: it is Argo's to roll
      → kubectl argo rollouts --namespace argo restart app
    ! CronJob batch/nightly: the Job that runs keeps its pods as they are
      → wait for its next run, which has them
    ! Deployment farm/app: it runs on Fargate, where Pod Identity does not work
      → leave it to IAM roles for service accounts: an association that stands takes that from new pods
    ! DaemonSet legacy/app: it leaves its pods to whoever deletes them (OnDelete)
      → delete them one by one: kubectl --namespace legacy delete pod …
    ! Deployment still/app: it is paused
      → kubectl --namespace still rollout resume deployment/app, and run it again
    ! Deployment tight/app: PodDisruptionBudget app lets no pod go now: 2 healthy, and 2 must be
      → run it again when more pods are healthy; where it never lets one go, or they lack nothing but credentials: kubectl --namespace tight rollout restart deployment/app
    ! Deployment young/app: its pods are younger than the association, or keep EKS from giving the variables
      → podgrant doctor young/app@… names the cause
    ! Pod batch/alone: nobody makes it anew
      → make it anew yourself: kubectl --namespace batch get pod … --output yaml, delete it, apply it

    2 workloads to roll, 1 held back, 5 by hand, 2 that it does not help, 0 unknown.
    podgrant restart --apply rolls them.
    ---- exit 2
    ");
    insta::assert_snapshot!(person.story("restart payments/api@prod-eu --output json", "").await, @r#"
    {
      "version": 1,
      "about": "payments/api@prod-eu",
      "workloads": [
        {
          "cluster": "eu-west-1/prod-eu",
          "namespace": "payments",
          "kind": "Deployment",
          "name": "api",
          "serviceAccount": "payments/api",
          "pods": [
            "api-1-1",
            "api-1-2",
            "api-1-3"
          ],
          "of": 3,
          "why": "made before its association (2026-03-02T09:45:30Z)",
          "restart": "roll"
        }
      ],
      "applied": false,
      "unread": []
    }
    ---- stderr
    CLUSTER            WORKLOAD                 SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  Deployment payments/api  payments/api     3 of 3  roll     made before its association (2026-03-02T09:45:30Z)

    1 workload to roll, 0 held back, 0 by hand, 0 that it does not help, 0 unknown.
    podgrant restart --apply rolls them.

    ---- exit 2
    "#);
    assert_eq!(kubernetes.writes(), [""; 0]);
    assert_eq!(person.writes(), [""; 0]);
}

#[tokio::test]
async fn what_is_to_be_rolled_is_rolled_on_a_yes() {
    let (mut person, kubernetes) = inside().await;
    insta::assert_snapshot!(person.story("restart --apply", "").await, @"
    ---- stderr
    podgrant: it asks before it changes anything, and there is nobody to ask
      run it on a terminal, or with --yes

    ---- exit 64
    ");
    person.terminal.input = true;
    insta::assert_snapshot!(person.story("restart --apply", "no\n").await, @"
    CLUSTER            WORKLOAD                  SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  Deployment payments/api   payments/api     3 of 3  roll     made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  StatefulSet payments/web  payments/web     2 of 2  roll     made before its association (2026-03-02T09:45:30Z)

    2 workloads to roll, 0 held back, 0 by hand, 0 that it does not help, 0 unknown.

    ---- stderr
    Roll 2 workloads? Only yes is a yes: Nothing was changed.

    ---- exit 4
    ");
    assert_eq!(kubernetes.writes(), [""; 0]);
    insta::assert_snapshot!(person.story("restart --apply", "yes\n").await, @"
    CLUSTER            WORKLOAD                  SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  Deployment payments/api   payments/api     3 of 3  roll     made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  StatefulSet payments/web  payments/web     2 of 2  roll     made before its association (2026-03-02T09:45:30Z)

    2 workloads to roll, 0 held back, 0 by hand, 0 that it does not help, 0 unknown.

    ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    ~ eu-west-1/prod-eu  StatefulSet payments/web => rolling

    Restarted: 0 rolled out, 2 rolling, 0 still lacking, 0 held back, 0 failed, 0 unsure, 0 not begun.
    ---- stderr
    Roll 2 workloads? Only yes is a yes: 
    ---- exit 0
    ");
    insta::assert_snapshot!(kubernetes.writes().join("\n"), @"
    roll Deployment payments/api 2026-03-02T10:15:30Z
    roll StatefulSet payments/web 2026-03-02T10:15:30Z
    ");
    insta::assert_snapshot!(person.story("restart", "").await, @"
    CLUSTER            WORKLOAD                  SERVICE ACCOUNT  LACK    RESTART    WHY
    eu-west-1/prod-eu  Deployment payments/api   payments/api     3 of 3  held back  made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  StatefulSet payments/web  payments/web     2 of 2  held back  made before its association (2026-03-02T09:45:30Z)

    ! Deployment payments/api: it is being rolled already
      → see kubectl --namespace payments rollout status deployment/api; run it again when that is over
    ! StatefulSet payments/web: it is being rolled already
      → see kubectl --namespace payments rollout status statefulset/web; run it again when that is over

    0 workloads to roll, 2 held back, 0 by hand, 0 that it does not help, 0 unknown.
    ---- exit 2
    ");
    kubernetes.settle(NOW);
    insta::assert_snapshot!(person.story("restart --cluster prod-eu", "").await, @"
    No pod lacks what Pod Identity gives it.
    ---- exit 0
    ");
}

#[tokio::test]
async fn it_waits_until_they_are_rolled_out() {
    let (person, _) = inside().await;
    insta::assert_snapshot!(person.story("restart --apply --yes --wait", "").await, @"
    CLUSTER            WORKLOAD                  SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  Deployment payments/api   payments/api     3 of 3  roll     made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  StatefulSet payments/web  payments/web     2 of 2  roll     made before its association (2026-03-02T09:45:30Z)

    2 workloads to roll, 0 held back, 0 by hand, 0 that it does not help, 0 unknown.

    ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    ~ eu-west-1/prod-eu  StatefulSet payments/web => rolling
    ~ eu-west-1/prod-eu  Deployment payments/api => rolled out
    ~ eu-west-1/prod-eu  StatefulSet payments/web => rolled out

    Restarted: 2 rolled out, 0 rolling, 0 still lacking, 0 held back, 0 failed, 0 unsure, 0 not begun.
    ---- stderr
    waiting for:
      eu-west-1/prod-eu Deployment payments/api: Kubernetes has not begun
      eu-west-1/prod-eu StatefulSet payments/web: Kubernetes has not begun

    ---- exit 0
    ");
    insta::assert_snapshot!(person.story("restart --apply --yes", "").await, @"
    No pod lacks what Pod Identity gives it.
    ---- exit 0
    ");

    let (mut person, _) = inside().await;
    person.meanwhile = Box::new(|_, _| {});
    insta::assert_snapshot!(person.story("restart payments/web@prod-eu --apply --yes --wait --wait-limit 12 --output json", "").await, @r#"
    {
      "version": 1,
      "about": "payments/web@prod-eu",
      "workloads": [
        {
          "cluster": "eu-west-1/prod-eu",
          "namespace": "payments",
          "kind": "StatefulSet",
          "name": "web",
          "serviceAccount": "payments/web",
          "pods": [
            "web-1",
            "web-2"
          ],
          "of": 2,
          "why": "made before its association (2026-03-02T09:45:30Z)",
          "restart": "roll",
          "outcome": {
            "verdict": "rolling"
          }
        }
      ],
      "applied": true,
      "unread": []
    }
    ---- stderr
    CLUSTER            WORKLOAD                  SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  StatefulSet payments/web  payments/web     2 of 2  roll     made before its association (2026-03-02T09:45:30Z)

    1 workload to roll, 0 held back, 0 by hand, 0 that it does not help, 0 unknown.

    ~ eu-west-1/prod-eu  StatefulSet payments/web => rolling
    waiting for:
      eu-west-1/prod-eu StatefulSet payments/web: Kubernetes has not begun
    After 15 s not all are rolled out; kubectl rollout status shows more.

    Restarted: 0 rolled out, 1 rolling, 0 still lacking, 0 held back, 0 failed, 0 unsure, 0 not begun.

    ---- exit 3
    "#);

    // Rolled out, and no better.
    let (mut person, kubernetes) = inside().await;
    person.meanwhile = Box::new(move |_, passed| {
        kubernetes.settle(NOW + passed);
        kubernetes.change_pods(|pod| pod.containers[0].variables.clear());
    });
    insta::assert_snapshot!(person.story("restart payments/api@prod-eu --apply --yes --wait", "").await, @"
    CLUSTER            WORKLOAD                 SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  Deployment payments/api  payments/api     3 of 3  roll     made before its association (2026-03-02T09:45:30Z)

    1 workload to roll, 0 held back, 0 by hand, 0 that it does not help, 0 unknown.

    ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    ~ eu-west-1/prod-eu  Deployment payments/api => rolled out
    ~ eu-west-1/prod-eu  Deployment payments/api => still lacking: 3 of its pods lack them all the same; podgrant doctor names the cause

    Restarted: 0 rolled out, 0 rolling, 1 still lacking, 0 held back, 0 failed, 0 unsure, 0 not begun.
    ---- stderr
    waiting for:
      eu-west-1/prod-eu Deployment payments/api: Kubernetes has not begun

    ---- exit 3
    ");
}

#[tokio::test]
async fn a_rolling_update_that_is_stuck_has_failed() {
    let (mut person, kubernetes) = inside().await;
    person.meanwhile = Box::new(move |_, passed| {
        kubernetes.settle(NOW + passed);
        kubernetes.change(&object("Deployment", "payments", "api"), |controller| {
            (controller.counts.available, controller.is_stuck) = (0, true);
        });
    });
    insta::assert_snapshot!(person.story("restart payments/api@prod-eu --apply --yes --wait", "").await, @"
    CLUSTER            WORKLOAD                 SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  Deployment payments/api  payments/api     3 of 3  roll     made before its association (2026-03-02T09:45:30Z)

    1 workload to roll, 0 held back, 0 by hand, 0 that it does not help, 0 unknown.

    ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    ~ eu-west-1/prod-eu  Deployment payments/api => failed: it made no progress for as long as it may (progressDeadlineSeconds)

    Restarted: 0 rolled out, 0 rolling, 0 still lacking, 0 held back, 1 failed, 0 unsure, 0 not begun.
    ---- stderr
    waiting for:
      eu-west-1/prod-eu Deployment payments/api: Kubernetes has not begun

    ---- exit 1
    ");
}

#[tokio::test]
async fn what_goes_wrong_with_a_write_is_said_and_done_once() {
    let mut told = String::new();
    for trouble in [Trouble::Refuse, Trouble::LoseAnswer, Trouble::Cut, Trouble::Conflict] {
        for number in [Some(1), None] {
            let (person, kubernetes) = inside().await;
            kubernetes.trouble("roll", number, trouble);
            let story = person.types("restart payments/api@prod-eu --apply --yes", "").await;
            let outcome = story.out.lines().find(|line| line.starts_with('~')).unwrap().to_owned();
            let generation =
                kubernetes.controller(&object("Deployment", "payments", "api")).unwrap().generation;
            let when = if number.is_some() { "once" } else { "always" };
            told.push_str(&format!(
                "{trouble:?} {when}: exit {}, generation {generation}\n  {outcome}\n",
                story.code
            ));
        }
    }
    insta::assert_snapshot!(told, @"
    Refuse once: exit 1, generation 1
      ~ eu-west-1/prod-eu  Deployment payments/api => failed: forbidden
    Refuse always: exit 1, generation 1
      ~ eu-west-1/prod-eu  Deployment payments/api => failed: forbidden
    LoseAnswer once: exit 0, generation 2
      ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    LoseAnswer always: exit 0, generation 2
      ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    Cut once: exit 0, generation 2
      ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    Cut always: exit 3, generation 1
      ~ eu-west-1/prod-eu  Deployment payments/api => unsure: whether it is being rolled is not known: the connection was cut
    Conflict once: exit 0, generation 2
      ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    Conflict always: exit 1, generation 1
      ~ eu-west-1/prod-eu  Deployment payments/api => failed: it changed 5 times while it was looked at
    ");
}

#[tokio::test]
async fn what_changes_before_the_yes_is_looked_at_again() {
    let changes = [
        "paused",
        "rolled by somebody else",
        "deleted",
        "held by a budget",
        "shut out by the trust policy",
        "made anew",
    ];
    for change in changes {
        let (mut person, kubernetes) = inside().await;
        let aws = person.aws.clone();
        let api = object("Deployment", "payments", "api");
        let inner = kubernetes.clone();
        // While the question stands.
        person.asked = Some(Box::new(move || match change {
            "paused" => inner.change(&api, |controller| {
                controller.strategy = Strategy::Paused;
                (controller.generation, controller.observed) = (2, 2);
            }),
            "rolled by somebody else" => inner.change(&api, |controller| {
                (controller.generation, controller.observed) = (2, 2);
            }),
            "deleted" => inner.remove(&api),
            "shut out by the trust policy" => aws.change_role("payments", |role| {
                role.trust_policy = role.trust_policy.replace("sts:TagSession", "sts:SetSourceIdentity");
            }),
            "made anew" => inner.drain("payments/api", NOW),
            _ => inner.add_budget("payments", "api", 0),
        }));
        person.terminal.input = true;
        let said = person.types("restart payments/api@prod-eu --apply", "yes\n").await;
        assert_eq!((said.code, kubernetes.writes().len()), (3, 0), "{change}: {said}");
        let outcome = said.out.lines().find(|line| line.starts_with('~')).unwrap();
        insta::allow_duplicates! { insta::assert_snapshot!(outcome.split("held back").next().unwrap(), @"~ eu-west-1/prod-eu  Deployment payments/api => ") };
    }
}

#[tokio::test]
async fn ctrl_c_ends_it_between_two_workloads() {
    let (person, kubernetes) = inside().await;
    person.patience.set(2);
    insta::assert_snapshot!(person.story("restart --apply --yes", "").await, @"
    CLUSTER            WORKLOAD                  SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  Deployment payments/api   payments/api     3 of 3  roll     made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  StatefulSet payments/web  payments/web     2 of 2  roll     made before its association (2026-03-02T09:45:30Z)

    2 workloads to roll, 0 held back, 0 by hand, 0 that it does not help, 0 unknown.

    ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    ~ eu-west-1/prod-eu  StatefulSet payments/web => not begun

    Restarted: 0 rolled out, 1 rolling, 0 still lacking, 0 held back, 0 failed, 0 unsure, 1 not begun.
    ---- exit 3
    ");
    assert_eq!(kubernetes.writes().len(), 1);

    // While it waits: the second is not asked for any more.
    let (person, _) = inside().await;
    person.patience.set(4);
    let said = person.story("restart --apply --yes --wait", "").await;
    insta::assert_snapshot!(said.split("WHY").last().unwrap().trim(), @"
    eu-west-1/prod-eu  Deployment payments/api   payments/api     3 of 3  roll     made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  StatefulSet payments/web  payments/web     2 of 2  roll     made before its association (2026-03-02T09:45:30Z)

    2 workloads to roll, 0 held back, 0 by hand, 0 that it does not help, 0 unknown.

    ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    ~ eu-west-1/prod-eu  StatefulSet payments/web => rolling
    After 0 s not all are rolled out; kubectl rollout status shows more.

    Restarted: 0 rolled out, 2 rolling, 0 still lacking, 0 held back, 0 failed, 0 unsure, 0 not begun.
    ---- stderr
    waiting for:
      eu-west-1/prod-eu Deployment payments/api: Kubernetes has not begun
      eu-west-1/prod-eu StatefulSet payments/web: not looked at

    ---- exit 3
    ");
    // Before it looks at the new pods.
    let (person, _) = inside().await;
    person.patience.set(5);
    let said = person.story("restart payments/api@prod-eu --apply --yes --wait", "").await;
    insta::assert_snapshot!(said.split("WHY").last().unwrap().trim(), @"
    eu-west-1/prod-eu  Deployment payments/api  payments/api     3 of 3  roll     made before its association (2026-03-02T09:45:30Z)

    1 workload to roll, 0 held back, 0 by hand, 0 that it does not help, 0 unknown.

    ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    ~ eu-west-1/prod-eu  Deployment payments/api => rolled out
    ~ eu-west-1/prod-eu  Deployment payments/api => unsure: rolled out; whether its new pods have them was not seen: it was interrupted

    Restarted: 0 rolled out, 0 rolling, 0 still lacking, 0 held back, 0 failed, 1 unsure, 0 not begun.
    ---- stderr
    waiting for:
      eu-west-1/prod-eu Deployment payments/api: Kubernetes has not begun

    ---- exit 3
    ");
}

#[tokio::test]
async fn pods_that_would_lose_their_role_are_left_alone() {
    let (person, kubernetes) = inside().await;
    person.aws.change_role("payments", |role| {
        role.trust_policy = role.trust_policy.replace("sts:TagSession", "sts:SetSourceIdentity");
    });
    // They may work with their node's role.
    insta::assert_snapshot!(person.story("restart payments/api@prod-eu", "").await, @"
    CLUSTER            WORKLOAD                 SERVICE ACCOUNT  LACK    RESTART    WHY
    eu-west-1/prod-eu  Deployment payments/api  payments/api     3 of 3  held back  made before its association (2026-03-02T09:45:30Z)

    ! Deployment payments/api: new pods would get nothing: the trust policy does not allow sts:TagSession to pods.eks.amazonaws.com
      → mend that first: podgrant doctor payments/api@…

    0 workloads to roll, 1 held back, 0 by hand, 0 that it does not help, 0 unknown.
    ---- exit 2
    ");
    kubernetes
        .change_pods(|pod| drop(pod.containers[0].variables.insert("AWS_WEB_IDENTITY_TOKEN_FILE", None)));
    insta::assert_snapshot!(person.story("restart payments/api@prod-eu", "").await, @"
    CLUSTER            WORKLOAD                 SERVICE ACCOUNT  LACK    RESTART    WHY
    eu-west-1/prod-eu  Deployment payments/api  payments/api     3 of 3  held back  made before its association (2026-03-02T09:45:30Z); by IRSA until then

    ! Deployment payments/api: new pods would get nothing: the trust policy does not allow sts:TagSession to pods.eks.amazonaws.com
      → mend that first: podgrant doctor payments/api@…

    0 workloads to roll, 1 held back, 0 by hand, 0 that it does not help, 0 unknown.
    ---- exit 2
    ");
}

#[tokio::test]
async fn what_can_not_be_seen_is_said() {
    let (person, kubernetes) = inside().await;
    kubernetes.trouble("pods", None, Trouble::Cut);
    insta::assert_snapshot!(person.story("restart", "").await, @"
    ---- stderr
    podgrant: the cluster's Kubernetes API could not be reached: cut

    ---- exit 1
    ");
    kubernetes.no_more_trouble();
    kubernetes.trouble("budgets", None, Trouble::Cut);
    insta::assert_snapshot!(person.story("restart payments/api@prod-eu", "").await, @"
    CLUSTER            WORKLOAD                 SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  Deployment payments/api  payments/api     3 of 3  unknown  made before its association (2026-03-02T09:45:30Z)

    ! Deployment payments/api: its disruption budgets were not seen: the cluster's Kubernetes API could not be reached: cut

    0 workloads to roll, 0 held back, 0 by hand, 0 that it does not help, 1 unknown.
    ---- exit 3
    ");
    kubernetes.no_more_trouble();
    kubernetes.trouble("objects", None, Trouble::Cut);
    insta::assert_snapshot!(person.story("restart payments/api@prod-eu", "").await, @"
    CLUSTER            WORKLOAD                   SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  ReplicaSet payments/api-1  payments/api     3 of 3  unknown  made before its association (2026-03-02T09:45:30Z)

    ! ReplicaSet payments/api-1: who makes it anew was not seen: the cluster's Kubernetes API could not be reached: cut

    0 workloads to roll, 0 held back, 0 by hand, 0 that it does not help, 1 unknown.
    ---- exit 3
    ");
    kubernetes.no_more_trouble();
    person.aws.fault(Fault::on("eks", "DescribePodIdentityAssociation").region(EU).access_denied());
    let said = person.types("restart payments/api@prod-eu --apply --yes", "").await;
    let told = "when its association was made was not read: eks:DescribePodIdentityAssociation";
    assert!(said.out.contains(told), "{said}");
    assert_eq!((said.code, kubernetes.writes()), (3, Vec::new()), "{said}");
    person.aws.fault(Fault::on("eks", "ListPodIdentityAssociations").region(EU).access_denied());
    insta::assert_snapshot!(person.story("restart", "").await, @"
    ---- stderr
    podgrant: eks:ListPodIdentityAssociations eu-west-1/prod-eu: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:ListPodIdentityAssociations

    ---- exit 1
    ");
    insta::assert_snapshot!(person.story("restart payments/api@nowhere", "").await, @"
    ---- stderr
    podgrant: no configured region has a cluster nowhere; look at its spelling and at PODGRANT_REGIONS

    ---- exit 1
    ");
    insta::assert_snapshot!(person.story("restart --yes", "").await, @"
    ---- stderr
    podgrant: --yes and --wait are about --apply, and it is not there

    ---- exit 64
    ");
    let person = person.variable("PODGRANT_DRY_RUN", "on");
    insta::assert_snapshot!(person.story("restart --apply --yes", "").await, @"
    ---- stderr
    podgrant: PODGRANT_DRY_RUN is on, and forbids it
      unset it, or leave --apply out

    ---- exit 64
    ");
}
