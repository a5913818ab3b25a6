use podgrant_cli::Terminal;
use podgrant_tests::fake::{Association, Cluster, FakeAws, Role};

use crate::person::{EU, Person, US, role};

#[tokio::test]
async fn a_grant_is_shown_with_what_comes_of_it_and_written_on_a_yes() {
    let person = Person::new().await.at_a_terminal().variable("NO_COLOR", "1");
    person.aws.add_cluster(Cluster::named("prod-us").region(US).tag("env", "prod"));
    person.aws.add_role(role("payments-api", "payments/api@prod-eu  what/is").tag("team", "payments"));
    person.granted(&role("payments-api", ""), "payments/api@prod-eu");
    let said =
        person.story("grant payments-api payments/worker@env=prod payments/api@prod-eu", "yes\n").await;
    insta::assert_snapshot!(said.replace(['\x1b', '\r'], "^"), @"
    Role payments-api
      - podgrant/grant = payments/api@prod-eu  what/is
      + podgrant/grant = payments/api@prod-eu  what/is payments/worker@env=prod
      payments/api@prod-eu is granted already; means eu-west-1/prod-eu
      payments/worker@env=prod means eu-west-1/prod-eu, us-east-1/prod-us

    What podgrant makes of it, where it runs, or podgrant apply by hand:

    Roles and fleet
      ! bad tag: role payments-api: tag podgrant/grant: column 30: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing

    eu-west-1/prod-eu
      + payments/worker  role payments-api  (payments/worker@env=prod)

    us-east-1/prod-us
      + payments/worker  role payments-api  (payments/worker@env=prod)

    Plan: 2 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.

    The tags of payments-api are written.
    ---- stderr
    ^^[Kasking AWS …^^[Klooking at the role …^^[Klooking at the clusters …^^[KWrite these tags? Only yes is a yes: 
    ---- exit 3
    ");
    assert_eq!(
        person.aws.role("payments-api").unwrap().tags["podgrant/grant"],
        "payments/api@prod-eu  what/is payments/worker@env=prod"
    );
    // The same once more is nothing to do.
    let mut person = person;
    person.terminal = Terminal::default();
    insta::assert_snapshot!(person.story("grant payments-api payments/worker@env=prod --yes", "").await, @"
    Role payments-api
      payments/worker@env=prod is granted already; means eu-west-1/prod-eu, us-east-1/prod-us

    What podgrant makes of it, where it runs, or podgrant apply by hand:

    Roles and fleet
      ! bad tag: role payments-api: tag podgrant/grant: column 30: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing

    eu-west-1/prod-eu
      + payments/worker  role payments-api  (payments/worker@env=prod)

    us-east-1/prod-us
      + payments/worker  role payments-api  (payments/worker@env=prod)

    Plan: 2 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.

    The tags are so already.
    ---- exit 3
    ");
    assert_eq!(person.writes(), ["iam TagRole"]);
}

#[tokio::test]
async fn what_podgrant_would_refuse_is_told_before() {
    let person = Person::new().await;
    person.aws.add_role(Role::named("payments-api"));
    insta::assert_snapshot!(person.story("grant payments-api payments/api@prod-eu kube-system/x@prod-eu a/b@nowhere --label x --yes", "").await, @r#"
    Role payments-api
      + podgrant/grant/x = a/b@nowhere kube-system/x@prod-eu payments/api@prod-eu
      a/b@nowhere means no cluster now
      kube-system/x@prod-eu means eu-west-1/prod-eu
      payments/api@prod-eu means eu-west-1/prod-eu

    What podgrant makes of it, where it runs, or podgrant apply by hand:

    Roles and fleet
      ! trust policy: role payments-api: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}
      ! no such cluster: a/b role payments-api (a/b@nowhere): no configured region has a cluster nowhere; the grant is made when there is one

    eu-west-1/prod-eu
      ! guardrail: kube-system/x role payments-api (kube-system/x@prod-eu): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES

    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 3 findings.

    The tags of payments-api are written.
    ---- exit 3
    "#);
}

#[tokio::test]
async fn a_program_reads_tags_and_clusters() {
    let person = Person::new().await;
    person.aws.add_role(role("payments-api", "payments/api@prod-eu"));
    insta::assert_snapshot!(person.story("grant payments-api a/b@_ --output json --yes", "").await, @r#"
    {
      "version": 1,
      "role": "arn:aws:iam::111122223333:role/payments-api",
      "tags": [
        {
          "key": "podgrant/grant",
          "before": "payments/api@prod-eu",
          "after": "payments/api@prod-eu a/b@_"
        }
      ],
      "subjects": [
        {
          "subject": "a/b@_",
          "already": false,
          "clusters": [
            "eu-west-1/prod-eu"
          ]
        }
      ],
      "written": true,
      "real": null,
      "changes": [
        {
          "action": "create",
          "thing": "association",
          "cluster": "eu-west-1/prod-eu",
          "namespace": "a",
          "serviceAccount": "b",
          "role": "arn:aws:iam::111122223333:role/payments-api",
          "grant": "a/b@_",
          "text": "+ eu-west-1/prod-eu  a/b  role payments-api  (a/b@_)"
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
        }
      ],
      "findings": [],
      "waiting": [],
      "unread": [],
      "unchanged": 0
    }
    ---- stderr
    Role payments-api
      - podgrant/grant = payments/api@prod-eu
      + podgrant/grant = payments/api@prod-eu a/b@_
      a/b@_ means eu-west-1/prod-eu

    What podgrant makes of it, where it runs, or podgrant apply by hand:

    eu-west-1/prod-eu
      + a/b  role payments-api  (a/b@_)
      + payments/api  role payments-api  (payments/api@prod-eu)

    Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.

    The tags of payments-api are written.

    ---- exit 0
    "#);
}

#[tokio::test]
async fn declined_or_unasked_nothing_is_written() {
    let person = Person::new().await;
    person.aws.add_role(role("payments-api", "payments/api@prod-eu"));
    assert_eq!(person.types("grant payments-api a/b@_", "yes\n").await.code, 64);
    let person = person.at_a_terminal();
    assert_eq!(person.types("grant payments-api a/b@_", "no\n").await.code, 4);
    assert_eq!(person.types("revoke payments-api payments/api@prod-eu", "\n").await.code, 4);
    assert_eq!(person.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn it_waits_until_podgrant_made_it_real() {
    let mut person = Person::new().await;
    person.aws.add_role(Role::named("payments-api").trusting_pods());
    person.meanwhile = Box::new(|aws: &FakeAws, passed| {
        if passed == 10 {
            let made =
                Association::of("prod-eu", "payments", "api").role_arn(Role::named("payments-api").arn());
            aws.add_association(made);
        }
    });
    insta::assert_snapshot!(person.story("grant payments-api payments/api@prod-eu --yes --wait", "").await, @"
    Role payments-api
      + podgrant/grant = payments/api@prod-eu
      payments/api@prod-eu means eu-west-1/prod-eu

    What podgrant makes of it, where it runs, or podgrant apply by hand:

    eu-west-1/prod-eu
      + payments/api  role payments-api  (payments/api@prod-eu)

    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.

    The tags of payments-api are written.
    It is so.
    ---- stderr
    waiting for:
      + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu)

    ---- exit 0
    ");
}

#[tokio::test]
async fn it_waits_no_longer_than_it_was_told() {
    let person = Person::new().await;
    person.aws.add_role(Role::named("payments-api").trusting_pods());
    insta::assert_snapshot!(person.story("grant payments-api payments/api@prod-eu --yes --wait --wait-limit 20", "").await, @"
    Role payments-api
      + podgrant/grant = payments/api@prod-eu
      payments/api@prod-eu means eu-west-1/prod-eu

    What podgrant makes of it, where it runs, or podgrant apply by hand:

    eu-west-1/prod-eu
      + payments/api  role payments-api  (payments/api@prod-eu)

    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.

    The tags of payments-api are written.
    After 20 s it is not so yet. Where podgrant runs, its log says why; by hand:
      podgrant apply --role payments-api
    ---- stderr
    waiting for:
      + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu)

    ---- exit 3
    ");
}

#[tokio::test]
async fn the_last_subject_takes_its_tag_along() {
    let mut person = Person::new().await;
    person.aws.add_role(
        role("payments-api", "payments/api@prod-eu").tag("podgrant/grant/x", "a/b@prod-eu c/d@prod-eu"),
    );
    for subject in ["payments/api@prod-eu", "a/b@prod-eu", "c/d@prod-eu"] {
        person.granted(&role("payments-api", ""), subject);
    }
    person.meanwhile = Box::new(|aws: &FakeAws, _| {
        aws.delete_association(EU, "prod-eu", "payments", "api");
        aws.delete_association(EU, "prod-eu", "a", "b");
    });
    insta::assert_snapshot!(person.story("revoke payments-api payments/api@prod-eu a/b@prod-eu --yes --wait", "").await, @r#"
    Role payments-api
      - podgrant/grant = payments/api@prod-eu
      - podgrant/grant/x = a/b@prod-eu c/d@prod-eu
      + podgrant/grant/x = c/d@prod-eu
      a/b@prod-eu means eu-west-1/prod-eu
      payments/api@prod-eu means eu-west-1/prod-eu

    What podgrant makes of it, where it runs, or podgrant apply by hand:

    eu-west-1/prod-eu
      - a/b  role payments-api  (grant withdrawn)
      ~ c/d  role payments-api  label "" -> "x"
      - payments/api  role payments-api  (grant withdrawn)

    Plan: 0 to create, 1 to update, 2 to delete, 0 unchanged, 0 waiting, 0 findings.

    The tags of payments-api are written.
    It is so.
    ---- stderr
    waiting for:
      - eu-west-1/prod-eu  a/b  role payments-api  (grant withdrawn)
      - eu-west-1/prod-eu  payments/api  role payments-api  (grant withdrawn)

    ---- exit 0
    "#);
    let tags = person.aws.role("payments-api").unwrap().tags;
    assert_eq!(tags.get("podgrant/grant"), None);
    assert_eq!(tags["podgrant/grant/x"], "c/d@prod-eu");
}

#[tokio::test]
async fn a_role_that_changed_meanwhile_is_not_written_over() {
    let person = Person::new().await.at_a_terminal().variable("NO_COLOR", "1");
    person.aws.add_role(role("payments-api", "payments/api@prod-eu"));
    // It is read when it is shown and planned with, and shows its older tags then.
    person.aws.freeze_role("payments-api", 2);
    person.aws.tag_role("payments-api", "podgrant/grant", "other/one@prod-eu");
    let said = person.types("grant payments-api a/b@prod-eu", "yes\n").await;
    insta::assert_snapshot!(said.errors.replace(['\x1b', '\r'], "^"), @"
    ^^[Kasking AWS …^^[Klooking at the role …^^[Klooking at the clusters …^^[KWrite these tags? Only yes is a yes: podgrant: the role payments-api changed since it was shown, and nothing was written
      run it again
    ");
    assert_eq!((said.code, person.writes()), (1, vec![]));
}
