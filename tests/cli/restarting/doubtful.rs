//! Where rolling a workload would be of no use, or nobody saw whether it was.

use podgrant_core::explain::evidence::Owner;
use podgrant_tests::fake_kubernetes::{Trouble, object};

use super::inside;
use crate::person::{EU, NOW};

#[tokio::test]
async fn what_an_operator_keeps_is_left_to_it_or_seen_to_be_put_back() {
    let (mut person, kubernetes) = inside().await;
    let api = object("Deployment", "payments", "api");
    let inner = kubernetes.clone();
    person.meanwhile = Box::new(move |_, passed| {
        inner.change(&object("Deployment", "payments", "api"), |controller| {
            (controller.restarted_at, controller.generation) = (None, 3);
        });
        inner.settle(NOW + passed);
    });
    insta::assert_snapshot!(person.story("restart payments/api@prod-eu --apply --yes --wait", "").await, @"
    CLUSTER            WORKLOAD                 SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  Deployment payments/api  payments/api     3 of 3  roll     made before its association (2026-03-02T09:45:30Z)

    1 workload to roll, 0 held back, 0 by hand, 0 that it does not help, 0 unknown.

    ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    ~ eu-west-1/prod-eu  Deployment payments/api => failed: somebody put its template back

    Restarted: 0 rolled out, 0 rolling, 0 still lacking, 0 held back, 1 failed, 0 unsure, 0 not begun.
    ---- stderr
    waiting for:
      eu-west-1/prod-eu Deployment payments/api: Kubernetes has not begun

    ---- exit 1
    ");
    let (person, kubernetes) = inside().await;
    let owner = Owner { group: "example.com".to_owned(), kind: "Service".to_owned(), name: "api".to_owned() };
    kubernetes.set_owner(&api, Some(owner));
    insta::assert_snapshot!(person.story("restart payments/api@prod-eu --apply --yes", "").await, @"
    CLUSTER            WORKLOAD                 SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  Deployment payments/api  payments/api     3 of 3  by hand  made before its association (2026-03-02T09:45:30Z)

    ! Deployment payments/api: Service api keeps it, and may put its template back
      → restart it as that wants it, or delete its pods one by one: kubectl --namespace payments delete pod …

    0 workloads to roll, 0 held back, 1 by hand, 0 that it does not help, 0 unknown.
    ---- exit 3
    ");
    assert_eq!(kubernetes.writes(), [""; 0]);
}

#[tokio::test]
async fn a_stateful_set_that_waits_for_a_pod_is_not_rolled() {
    let (person, kubernetes) = inside().await;
    kubernetes
        .change(&object("StatefulSet", "payments", "web"), |controller| controller.counts.available = 1);
    insta::assert_snapshot!(person.story("restart payments/web@prod-eu --apply --yes", "").await, @"
    CLUSTER            WORKLOAD                  SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  StatefulSet payments/web  payments/web     2 of 2  by hand  made before its association (2026-03-02T09:45:30Z)

    ! StatefulSet payments/web: a pod of it is not ready, and Kubernetes makes none anew before it is (OrderedReady)
      → delete the pod that is not ready: kubectl --namespace payments delete pod …

    0 workloads to roll, 0 held back, 1 by hand, 0 that it does not help, 0 unknown.
    ---- exit 3
    ");
    assert_eq!(kubernetes.writes(), [""; 0]);
}

#[tokio::test]
async fn whether_new_pods_are_better_may_not_be_seen() {
    let (person, kubernetes) = inside().await;
    // Listed when it is shown, and right before it is rolled.
    kubernetes.trouble("pods", Some(3), Trouble::Cut);
    insta::assert_snapshot!(person.story("restart payments/api@prod-eu --apply --yes --wait", "").await, @"
    CLUSTER            WORKLOAD                 SERVICE ACCOUNT  LACK    RESTART  WHY
    eu-west-1/prod-eu  Deployment payments/api  payments/api     3 of 3  roll     made before its association (2026-03-02T09:45:30Z)

    1 workload to roll, 0 held back, 0 by hand, 0 that it does not help, 0 unknown.

    ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    ~ eu-west-1/prod-eu  Deployment payments/api => rolled out
    ~ eu-west-1/prod-eu  Deployment payments/api => unsure: rolled out; whether its new pods have them was not seen: the cluster's Kubernetes API could not be reached: cut

    Restarted: 0 rolled out, 0 rolling, 0 still lacking, 0 held back, 0 failed, 1 unsure, 0 not begun.
    ---- stderr
    waiting for:
      eu-west-1/prod-eu Deployment payments/api: Kubernetes has not begun

    ---- exit 3
    ");
}

#[tokio::test]
async fn a_cluster_that_can_not_be_looked_into_is_not_right() {
    let (person, _) = inside().await;
    person.aws.set_cluster_status(EU, "prod-eu", "FAILED");
    insta::assert_snapshot!(person.story("restart --cluster prod-eu", "").await, @"
    ---- stderr
    podgrant: the cluster eu-west-1/prod-eu is FAILED, and can't be looked into

    ---- exit 1
    ");
}

#[tokio::test]
async fn a_no_after_a_lost_answer_leaves_it_unsure() {
    let (person, kubernetes) = inside().await;
    kubernetes.trouble("roll", Some(1), Trouble::Cut);
    kubernetes.trouble("roll", Some(2), Trouble::Refuse);
    let said = person.types("restart payments/api@prod-eu --apply --yes", "").await;
    let outcome = said.out.lines().find(|line| line.starts_with('~')).unwrap();
    insta::assert_snapshot!(outcome, @"~ eu-west-1/prod-eu  Deployment payments/api => unsure: whether it is being rolled is not known: the connection was cut");
    assert_eq!((said.code, kubernetes.writes().len()), (3, 2));
    // It can't be looked at again.
    let (person, kubernetes) = inside().await;
    kubernetes.trouble("roll", Some(1), Trouble::Cut);
    kubernetes.trouble("pods", Some(3), Trouble::Cut);
    let said = person.types("restart payments/api@prod-eu --apply --yes", "").await;
    let outcome = said.out.lines().find(|line| line.starts_with('~')).unwrap();
    assert!(outcome.contains("=> unsure: "), "{said}");
    assert_eq!((said.code, kubernetes.writes().len()), (3, 1));
}

#[tokio::test]
async fn the_limit_of_waiting_holds_where_a_cluster_takes_its_time() {
    let (person, kubernetes) = inside().await;
    kubernetes.answer_late(person.clock_hand(), 10);
    let said = person.story("restart --apply --yes --wait --wait-limit 5", "").await;
    insta::assert_snapshot!(said.split("WHY").last().unwrap().trim(), @"
    eu-west-1/prod-eu  Deployment payments/api   payments/api     3 of 3  roll     made before its association (2026-03-02T09:45:30Z)
    eu-west-1/prod-eu  StatefulSet payments/web  payments/web     2 of 2  roll     made before its association (2026-03-02T09:45:30Z)

    2 workloads to roll, 0 held back, 0 by hand, 0 that it does not help, 0 unknown.

    ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    ~ eu-west-1/prod-eu  StatefulSet payments/web => rolling
    After 10 s not all are rolled out; kubectl rollout status shows more.

    Restarted: 0 rolled out, 2 rolling, 0 still lacking, 0 held back, 0 failed, 0 unsure, 0 not begun.
    ---- stderr
    waiting for:
      eu-west-1/prod-eu Deployment payments/api: Kubernetes has not begun
      eu-west-1/prod-eu StatefulSet payments/web: not looked at

    ---- exit 3
    ");
}
