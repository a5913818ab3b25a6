use podgrant_tests::fake::{Addon, Association, Cluster, Fault, Role};

use crate::person::{EU, Person, US, role};

/// A bit of everything: an agent that is missing, grants to make, withdraw and refuse, an orphan.
pub async fn busy() -> Person {
    let person = Person::new().await;
    let aws = &person.aws;
    aws.add_cluster(Cluster::named("prod-us").region(US).tag("env", "prod"));
    aws.add_role(role("payments-api", "payments/api@prod-eu payments/worker@env=prod"));
    aws.add_role(role("batch", "batch/job@prod-eu batch/job"));
    aws.add_role(Role::named("distrustful").tag("podgrant/grant", "reports/nightly@prod-eu"));
    aws.add_role(Role::named("idle").trusting_pods());
    person.granted(&role("idle", ""), "idle/app@prod-eu");
    person.granted(&role("deleted", ""), "old/app@prod-eu");
    aws.add_association(Association::of("prod-eu", "batch", "job").role_arn(Role::named("idle").arn()));
    person
}

#[tokio::test]
async fn the_plan_of_a_fleet_is_shown_by_cluster_with_its_reasons() {
    let person = busy().await;
    insta::assert_snapshot!(person.story("plan", "").await, @r#"
    Roles and fleet
      ! bad tag: role batch: tag podgrant/grant: column 28: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing
      ! trust policy: role distrustful: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}

    eu-west-1/prod-eu
      - idle/app  role idle  (grant withdrawn)
      + payments/api  role payments-api  (payments/api@prod-eu)
      + payments/worker  role payments-api  (payments/worker@env=prod)
      - old/app  role deleted  (role gone)
      ! foreign association: batch/job role batch (batch/job@prod-eu): association a-000000000000003 stands there, made by someone else; podgrant never touches it: delete it, or take the grant back

    us-east-1/prod-us
      + agent v1.3.10-eksbuild.2
      + payments/worker  role payments-api  (payments/worker@env=prod)

    Plan: 4 to create, 0 to update, 2 to delete, 1 unchanged, 0 waiting, 3 findings.
    ---- exit 2
    "#);
    assert_eq!(person.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn the_same_for_a_program() {
    let person = busy().await;
    insta::assert_snapshot!(person.story("plan --output json", "").await, @r#"
    {
      "version": 1,
      "about": {
        "regions": [
          "eu-west-1",
          "us-east-1"
        ]
      },
      "changes": [
        {
          "action": "delete",
          "thing": "association",
          "cluster": "eu-west-1/prod-eu",
          "namespace": "idle",
          "serviceAccount": "app",
          "role": "arn:aws:iam::111122223333:role/idle",
          "grant": "idle/app@prod-eu",
          "text": "- eu-west-1/prod-eu  idle/app  role idle  (grant withdrawn)"
        },
        {
          "action": "create",
          "thing": "association",
          "cluster": "eu-west-1/prod-eu",
          "namespace": "payments",
          "serviceAccount": "api",
          "role": "arn:aws:iam::111122223333:role/payments-api",
          "grant": "payments/api@prod-eu",
          "text": "+ eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu)"
        },
        {
          "action": "create",
          "thing": "association",
          "cluster": "eu-west-1/prod-eu",
          "namespace": "payments",
          "serviceAccount": "worker",
          "role": "arn:aws:iam::111122223333:role/payments-api",
          "grant": "payments/worker@env=prod",
          "text": "+ eu-west-1/prod-eu  payments/worker  role payments-api  (payments/worker@env=prod)"
        },
        {
          "action": "delete",
          "thing": "association",
          "cluster": "eu-west-1/prod-eu",
          "namespace": "old",
          "serviceAccount": "app",
          "role": "arn:aws:iam::111122223333:role/deleted",
          "grant": "old/app@prod-eu",
          "text": "- eu-west-1/prod-eu  old/app  role deleted  (role gone)"
        },
        {
          "action": "create",
          "thing": "agent",
          "cluster": "us-east-1/prod-us",
          "text": "+ us-east-1/prod-us  agent v1.3.10-eksbuild.2"
        },
        {
          "action": "create",
          "thing": "association",
          "cluster": "us-east-1/prod-us",
          "namespace": "payments",
          "serviceAccount": "worker",
          "role": "arn:aws:iam::111122223333:role/payments-api",
          "grant": "payments/worker@env=prod",
          "text": "+ us-east-1/prod-us  payments/worker  role payments-api  (payments/worker@env=prod)"
        }
      ],
      "findings": [
        {
          "kind": "bad-tag",
          "role": "arn:aws:iam::111122223333:role/batch",
          "reason": "tag podgrant/grant: column 28: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing"
        },
        {
          "kind": "trust-policy",
          "role": "arn:aws:iam::111122223333:role/distrustful",
          "reason": "the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {\"Effect\":\"Allow\",\"Principal\":{\"Service\":\"pods.eks.amazonaws.com\"},\"Action\":[\"sts:AssumeRole\",\"sts:TagSession\"]}"
        },
        {
          "kind": "foreign-association",
          "cluster": "eu-west-1/prod-eu",
          "namespace": "batch",
          "serviceAccount": "job",
          "role": "arn:aws:iam::111122223333:role/batch",
          "grant": "batch/job@prod-eu",
          "reason": "association a-000000000000003 stands there, made by someone else; podgrant never touches it: delete it, or take the grant back"
        }
      ],
      "waiting": [],
      "unread": [],
      "unchanged": 1
    }
    ---- exit 2
    "#);
}

#[tokio::test]
async fn where_all_is_as_it_should_be_there_is_nothing_to_do() {
    let person = Person::new().await;
    person.aws.add_role(role("payments-api", "payments/api@prod-eu"));
    person.granted(&role("payments-api", ""), "payments/api@prod-eu");
    insta::assert_snapshot!(person.story("plan", "").await, @"
    Plan: 0 to create, 0 to update, 0 to delete, 2 unchanged, 0 waiting, 0 findings.
    ---- exit 0
    ");
    insta::assert_snapshot!(person.story("plan --thorough", "").await, @"
    Plan: 0 to create, 0 to update, 0 to delete, 2 unchanged, 0 waiting, 0 findings.
    ---- exit 0
    ");
}

#[tokio::test]
async fn a_refusal_alone_is_done_in_part() {
    let person = Person::new().await;
    person.aws.add_role(role("payments-api", "payments/api"));
    insta::assert_snapshot!(person.story("plan", "").await, @"
    Roles and fleet
      ! bad tag: role payments-api: tag podgrant/grant: column 13: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing

    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.
    ---- exit 3
    ");
}

#[tokio::test]
async fn one_role_or_one_cluster_is_looked_at_alone() {
    let person = busy().await;
    insta::assert_snapshot!(person.story("plan --role arn:aws:iam::111122223333:role/payments-api", "").await, @"
    eu-west-1/prod-eu
      + payments/api  role payments-api  (payments/api@prod-eu)
      + payments/worker  role payments-api  (payments/worker@env=prod)

    us-east-1/prod-us
      + payments/worker  role payments-api  (payments/worker@env=prod)

    Plan: 3 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ---- exit 2
    ");
    // Gone, and named all the same: what it left behind.
    insta::assert_snapshot!(person.story("plan --role deleted", "").await, @"
    eu-west-1/prod-eu
      - old/app  role deleted  (role gone)

    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ---- exit 2
    ");
    insta::assert_snapshot!(person.story("plan --cluster prod-us", "").await, @"
    us-east-1/prod-us
      + agent v1.3.10-eksbuild.2
      + payments/worker  role payments-api  (payments/worker@env=prod)

    Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ---- exit 2
    ");
    insta::assert_snapshot!(person.story("plan --cluster eu-west-1/prod-eu", "").await, @"
    eu-west-1/prod-eu
      - idle/app  role idle  (grant withdrawn)
      + payments/api  role payments-api  (payments/api@prod-eu)
      + payments/worker  role payments-api  (payments/worker@env=prod)
      ! foreign association: batch/job role batch (batch/job@prod-eu): association a-000000000000003 stands there, made by someone else; podgrant never touches it: delete it, or take the grant back

    Plan: 2 to create, 0 to update, 1 to delete, 1 unchanged, 0 waiting, 1 findings.
    ---- exit 2
    ");
}

#[tokio::test]
async fn what_cannot_be_done_yet_is_said() {
    let person = Person::new().await;
    person.aws.add_cluster(Cluster::named("new").creating_for(9));
    person.aws.add_role(role("payments-api", "payments/api@new"));
    insta::assert_snapshot!(person.story("plan --role payments-api", "").await, @"
    eu-west-1/new
      ! cluster not ready: payments/api role payments-api (payments/api@new): the cluster is CREATING; the grant is made when it is ready

    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ---- exit 0
    ");
    insta::assert_snapshot!(person.story("plan --cluster new", "").await, @"
    Roles and fleet
      . not yet: cluster eu-west-1/new is CREATING; run it again after a while

    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    ---- exit 2
    ");
}

#[tokio::test]
async fn what_cannot_be_read_is_no_whole_plan() {
    let person = busy().await;
    person.aws.fault(Fault::on("eks", "ListPodIdentityAssociations").error(
        "AccessDeniedException",
        403,
        "no",
    ));
    insta::assert_snapshot!(person.story("plan", "").await, @r#"
    Roles and fleet
      ! bad tag: role batch: tag podgrant/grant: column 28: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing
      ! trust policy: role distrustful: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}

    eu-west-1/prod-eu
      - old/app  role deleted  (role gone)
      ! not read: eks:ListPodIdentityAssociations eu-west-1/prod-eu: AccessDeniedException: no

    us-east-1/prod-us
      + agent v1.3.10-eksbuild.2
      ! not read: eks:ListPodIdentityAssociations us-east-1/prod-us: AccessDeniedException: no

    Plan: 1 to create, 0 to update, 1 to delete, 1 unchanged, 0 waiting, 2 findings.
    ---- exit 3
    "#);
}

#[tokio::test]
async fn more_than_the_limit_is_withheld_and_told_with_the_flag_that_allows_it() {
    let person = Person::new().await.variable("PODGRANT_MAX_DELETIONS", "1");
    for name in ["a", "b"] {
        person.granted(&role("gone", ""), &format!("old/{name}@prod-eu"));
    }
    insta::assert_snapshot!(person.story("plan", "").await, @"
    eu-west-1/prod-eu
      ! withheld: old/a role gone (old/a@prod-eu): this pass would delete 2 associations, and at most 1 are allowed; if that is meant, allow it once with --allow-deletions 2, or raise PODGRANT_MAX_DELETIONS to 2
      ! withheld: old/b role gone (old/b@prod-eu): this pass would delete 2 associations, and at most 1 are allowed; if that is meant, allow it once with --allow-deletions 2, or raise PODGRANT_MAX_DELETIONS to 2

    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 2 findings.
    ---- exit 3
    ");
}

#[tokio::test]
async fn colour_is_for_terminals_and_whoever_wants_it() {
    let mut person = Person::new().await;
    person.aws.delete_cluster(EU, "prod-eu");
    person.aws.add_cluster(Cluster::named("bare"));
    person.aws.add_addon(EU, "bare", Addon::agent().status("DEGRADED"));
    person.aws.add_role(role("payments-api", "payments/api@bare"));
    person = person.at_a_terminal();
    let said = person.types("plan --role payments-api", "").await;
    insta::assert_snapshot!(said.out.replace('\x1b', "ESC"), @"
    ESC[1meu-west-1/bareESC[0m
      ESC[32m+ payments/api  role payments-api  (payments/api@bare)ESC[0m

    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    insta::assert_snapshot!(said.errors.replace('\x1b', "ESC").replace('\r', "CR"), @"CRESC[Kasking AWS …CRESC[Klooking at role payments-api …CRESC[K");
    let person = person.variable("NO_COLOR", "1");
    assert!(!person.types("plan --role payments-api", "").await.out.contains('\x1b'));
}
