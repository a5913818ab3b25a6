//! What is left, and what others make of what stands.

use podgrant_tests::fake::{Fault, Role};

use super::faults::crash_at;
use super::hands::How;
use super::{VERIFY, verifier};
use crate::person::EU;

#[tokio::test]
async fn cleaning_asks_first_and_leaves_young_runs_alone() {
    let (person, hands) = verifier().await;
    crash_at(&person, &hands, "make pod").await;
    insta::assert_snapshot!(person.story("verify --clean --yes", "").await, @"
    run mm90wfdc of 2026-03-02T10:15:30Z on eu-west-1/prod-eu, namespace default
      service account podgrant-verify-mm90wfdc
      association     podgrant-verify-mm90wfdc
      role            podgrant-verify-mm90wfdc
      it may be under way, and is left alone; run this again in half an hour
    ---- exit 3
    ");
    person.pass(29 * 60);
    assert_eq!(person.types("verify --clean --yes", "").await.code, 3);
    person.pass(60);
    let person = person.at_a_terminal().variable("NO_COLOR", "1");
    insta::assert_snapshot!(person.types("verify --clean", "no\n").await.out, @"
    run mm90wfdc of 2026-03-02T10:15:30Z on eu-west-1/prod-eu, namespace default
      service account podgrant-verify-mm90wfdc
      association     podgrant-verify-mm90wfdc
      role            podgrant-verify-mm90wfdc
    ");
    insta::assert_snapshot!(person.types("verify --clean --output json --yes", "").await.out, @r#"
    {
      "version": 1,
      "runs": [
        {
          "run": "mm90wfdc",
          "cluster": "eu-west-1/prod-eu",
          "namespace": "default",
          "began": "2026-03-02T10:15:30Z",
          "young": false,
          "left": [
            "service account podgrant-verify-mm90wfdc",
            "association podgrant-verify-mm90wfdc",
            "role podgrant-verify-mm90wfdc"
          ]
        }
      ],
      "cleaned": true,
      "removed": [
        {
          "thing": "service-account",
          "name": "podgrant-verify-mm90wfdc",
          "removed": true
        },
        {
          "thing": "association",
          "name": "podgrant-verify-mm90wfdc",
          "removed": true
        },
        {
          "thing": "role",
          "name": "podgrant-verify-mm90wfdc",
          "removed": true
        }
      ],
      "unread": []
    }
    "#);
    assert!(person.aws.roles().is_empty() && hands.left().is_empty());
}

#[tokio::test]
async fn cleaning_says_what_it_can_not_see() {
    let (person, hands) = verifier().await;
    crash_at(&person, &hands, "make pod").await;
    person.pass(30 * 60);
    let elsewhere = "mm90wfgr eu-central-1/far default 2026-03-02T10:15:30Z";
    let far = Role::named("podgrant-verify-mm90wfgr").path("/podgrant-verify/");
    person.aws.add_role(far.tag("podgrant/verify", elsewhere));
    hands.fail_always("objects");
    insta::assert_snapshot!(person.story("verify --clean --yes", "").await, @"
    run mm90wfdc of 2026-03-02T10:15:30Z on eu-west-1/prod-eu, namespace default
      association     podgrant-verify-mm90wfdc
      role            podgrant-verify-mm90wfdc
    ! not read: what run mm90wfgr left on eu-central-1/far: add --region eu-central-1
    ! not read: eu-west-1/prod-eu: the cluster's Kubernetes API did not answer within 10 s; see the way there: its public access CIDRs, and a proxy (HTTPS_PROXY) in between; what is left in it podgrant verify --clean --cluster eu-west-1/prod-eu finds

      removed association     podgrant-verify-mm90wfdc
      LEFT    role            podgrant-verify-mm90wfdc: kept, for by it what else is left is found again
                              → aws iam delete-role-policy --role-name podgrant-verify-mm90wfdc --policy-name podgrant-verify; aws iam delete-role --role-name podgrant-verify-mm90wfdc
    ---- exit 3
    ");
    assert_eq!(hands.left().len(), 1);
    // By the role that was kept, once the cluster answers.
    hands.mend();
    person.aws.delete_role("podgrant-verify-mm90wfgr");
    insta::assert_snapshot!(person.story("verify --clean --yes", "").await, @"
    run mm90wfdc of 2026-03-02T10:15:30Z on eu-west-1/prod-eu, namespace default
      service account podgrant-verify-mm90wfdc
      role            podgrant-verify-mm90wfdc

      removed service account podgrant-verify-mm90wfdc
      removed role            podgrant-verify-mm90wfdc
    ---- exit 0
    ");
    assert!(person.aws.roles().is_empty() && hands.left().is_empty());
    // Where a cluster was not read it is not said that nothing is left.
    hands.fail_always("objects");
    insta::assert_snapshot!(person.story("verify --clean --yes --cluster prod-eu", "").await, @"
    ! not read: eu-west-1/prod-eu: the cluster's Kubernetes API did not answer within 10 s; see the way there: its public access CIDRs, and a proxy (HTTPS_PROXY) in between; what is left in it podgrant verify --clean --cluster eu-west-1/prod-eu finds
    ---- exit 3
    ");
    person.aws.fault(Fault::on("iam", "ListRoles").access_denied());
    person.aws.fault(Fault::on("tagging", "GetResources").access_denied());
    insta::assert_snapshot!(person.story("verify --clean --yes", "").await, @"
    ---- stderr
    podgrant: not allowed: iam:ListRoles /podgrant-verify/: AccessDenied: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: iam:ListRoles
      whoever runs this needs iam:ListRoles; docs/cli.md lists the actions of each command

    ---- exit 1
    ");
}

#[tokio::test]
async fn by_the_labels_alone_what_is_left_is_found_where_the_cluster_is_named() {
    let (person, hands) = verifier().await;
    crash_at(&person, &hands, "make pod").await;
    person.pass(60 * 60);
    let name = person.aws.roles()[0].name.clone();
    person.aws.delete_role(&name);
    person.aws.delete_association(EU, "prod-eu", "default", &name);
    insta::assert_snapshot!(person.story("verify --clean --yes --cluster prod-eu", "").await, @"
    run mm90wfdc of 2026-03-02T10:15:30Z on eu-west-1/prod-eu, namespace default
      service account podgrant-verify-mm90wfdc

      removed service account podgrant-verify-mm90wfdc
    ---- exit 0
    ");
    assert!(hands.left().is_empty());
}

#[tokio::test]
async fn the_role_goes_only_after_all_that_it_leads_to() {
    // What the run itself could not remove.
    let (person, hands) = verifier().await;
    hands.strike("remove", 1, How::Refused);
    let said = person.types(VERIFY, "").await;
    assert!(said.code == 1 && person.aws.roles().len() == 1, "{said}");
    let left: Vec<&str> = said.out.lines().filter(|line| line.contains("LEFT")).map(str::trim).collect();
    insta::assert_snapshot!(left.join("\n"), @"
    LEFT    pod             podgrant-verify-mm90wfdc-1: the cluster's Kubernetes API refused you (403: no)
    LEFT    role            podgrant-verify-mm90wfdc: kept, for by it what else is left is found again
    ");
    // Nor does cleaning remove it before that.
    person.pass(60 * 60);
    hands.mend();
    hands.strike("remove", 3, How::Refused);
    let said = person.types("verify --clean --yes", "").await;
    assert!(said.code == 1 && person.aws.roles().len() == 1, "{said}");
    hands.mend();
    let said = person.types("verify --clean --yes", "").await;
    assert_eq!((said.code, hands.left()), (0, Vec::new()), "{said}");
    assert!(person.aws.roles().is_empty());
}

#[tokio::test]
async fn two_runs_at_once_do_not_disturb_each_other() {
    let (person, hands) = verifier().await;
    let other = person.beside(1);
    let cleaner = person.beside(2);
    let (one, two, clean) = tokio::join!(
        person.types(VERIFY, ""),
        other.types(VERIFY, ""),
        cleaner.types("verify --clean --yes", "")
    );
    assert_eq!((one.code, two.code), (0, 0), "{one}\n{two}");
    assert!(clean.code == 0 || clean.code == 3, "{clean}");
    assert!(person.aws.roles().is_empty() && hands.left().is_empty());
    assert!(person.aws.associations(EU, "prod-eu").is_empty());
}

#[tokio::test]
async fn plans_and_lists_take_it_for_what_it_is() {
    let (person, hands) = verifier().await;
    crash_at(&person, &hands, "make pod").await;
    insta::assert_snapshot!(person.story("plan", "").await, @"
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.
    ---- exit 0
    ");
    insta::assert_snapshot!(person.story("list", "").await, @"
    CLUSTER            SERVICE ACCOUNT                   ROLE                      ROLE IS  MADE BY
    eu-west-1/prod-eu  default/podgrant-verify-mm90wfdc  podgrant-verify-mm90wfdc  there    podgrant verify
    ---- exit 0
    ");
    insta::assert_snapshot!(person.types("list --output json", "").await.out, @r#"
    {
      "version": 1,
      "associations": [
        {
          "cluster": "eu-west-1/prod-eu",
          "namespace": "default",
          "serviceAccount": "podgrant-verify-mm90wfdc",
          "association": "a-000000000000001",
          "role": "arn:aws:iam::111122223333:role/podgrant-verify/podgrant-verify-mm90wfdc",
          "roleIs": "there",
          "owner": "podgrant-verify"
        }
      ],
      "unread": []
    }
    "#);
    // A crashed run's role may be removed by hand, too.
    let name = person.aws.roles()[0].name.clone();
    person.aws.delete_role(&name);
    insta::assert_snapshot!(person.story("plan", "").await, @"
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.
    ---- exit 0
    ");
}
