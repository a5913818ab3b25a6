use podgrant_tests::fake::{Cluster, Fault, Role};

use crate::person::{EU, Person, role};
use crate::planning::busy;

#[tokio::test]
async fn what_was_shown_is_applied_when_somebody_said_yes() {
    let person = busy().await.at_a_terminal().variable("NO_COLOR", "1");
    insta::assert_snapshot!(person.story("apply", "yes\n").await.replace(['\x1b', '\r'], "^"), @r#"
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
    Limits on loss: 100 associations of a cluster (--allow-deletions), or 20 % of those that podgrant made there if that is 10 or more (--allow-share); 5 roles (--allow-role-deletions).

    + us-east-1/prod-us  agent v1.3.10-eksbuild.2 => not yet: the agent on us-east-1/prod-us is starting
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => done
    + eu-west-1/prod-eu  payments/worker  role payments-api  (payments/worker@env=prod) => done
    - eu-west-1/prod-eu  idle/app  role idle  (grant withdrawn) => done
    + us-east-1/prod-us  payments/worker  role payments-api  (payments/worker@env=prod) => done
    - eu-west-1/prod-eu  old/app  role deleted  (role gone) => done
    . the agent on us-east-1/prod-us is starting; run it again after a while

    Applied: 5 done, 1 not yet, 0 dropped, 0 refused, 0 failed, 0 not begun.
    ---- stderr
    ^^[Kasking AWS …^^[Klooking at agents …^^[Klooking at roles …^^[Klooking at eu-west-1/prod-eu …^^[Klooking at us-east-1/prod-us …^^[Klooking at orphans …^^[Klooking at orphans …^^[KApply this? Only yes is a yes: ^^[Kapplying to us-east-1/prod-us …^^[K^^[Kapplying to eu-west-1/prod-eu …^^[K^^[Kapplying to us-east-1/prod-us …^^[K^^[Kapplying to eu-west-1/prod-eu …^^[K
    ---- exit 3
    "#);
    insta::assert_snapshot!(person.writes().join("\n"), @"
    eks CreateAddon
    eks CreatePodIdentityAssociation
    eks CreatePodIdentityAssociation
    eks DeletePodIdentityAssociation
    eks CreatePodIdentityAssociation
    eks DeletePodIdentityAssociation
    ");
}

#[tokio::test]
async fn nothing_but_yes_is_a_yes() {
    let person = busy().await.at_a_terminal().variable("NO_COLOR", "1");
    for answer in ["y\n", "\n", "", "no\n"] {
        let said = person.types("apply --role payments-api", answer).await;
        assert_eq!(said.code, 4, "{said}");
    }
    assert_eq!(person.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn nobody_is_asked_where_nobody_is_or_nobody_wants_to_be() {
    let person = busy().await;
    insta::assert_snapshot!(person.story("apply", "yes\n").await, @"
    ---- stderr
    podgrant: apply asks before it changes anything, and there is nobody to ask
      run it on a terminal, or with --yes

    ---- exit 64
    ");
    assert_eq!(person.writes(), Vec::<String>::new());
    insta::assert_snapshot!(person.story("apply --yes --role payments-api", "").await, @"
    eu-west-1/prod-eu
      + payments/api  role payments-api  (payments/api@prod-eu)
      + payments/worker  role payments-api  (payments/worker@env=prod)

    us-east-1/prod-us
      + payments/worker  role payments-api  (payments/worker@env=prod)

    Plan: 3 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.

    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => done
    + eu-west-1/prod-eu  payments/worker  role payments-api  (payments/worker@env=prod) => done
    + us-east-1/prod-us  payments/worker  role payments-api  (payments/worker@env=prod) => done

    Applied: 3 done, 0 not yet, 0 dropped, 0 refused, 0 failed, 0 not begun.
    ---- exit 0
    ");
    insta::assert_snapshot!(person.story("apply --yes --role payments-api", "").await, @"
    Plan: 0 to create, 0 to update, 0 to delete, 3 unchanged, 0 waiting, 0 findings.
    ---- exit 0
    ");
}

#[tokio::test]
async fn a_program_reads_how_each_change_ended() {
    let person = Person::new().await;
    person.aws.add_role(role("payments-api", "payments/api@prod-eu"));
    insta::assert_snapshot!(person.story("apply --yes --output json --role payments-api", "").await, @r#"
    {
      "version": 1,
      "about": {
        "role": "payments-api",
        "regions": [
          "eu-west-1",
          "us-east-1"
        ]
      },
      "applied": true,
      "changes": [
        {
          "action": "create",
          "thing": "association",
          "cluster": "eu-west-1/prod-eu",
          "namespace": "payments",
          "serviceAccount": "api",
          "role": "arn:aws:iam::111122223333:role/payments-api",
          "grant": "payments/api@prod-eu",
          "text": "+ eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu)",
          "outcome": {
            "verdict": "done"
          }
        }
      ],
      "findings": [],
      "waiting": [],
      "unread": [],
      "unchanged": 0
    }
    ---- stderr
    eu-west-1/prod-eu
      + payments/api  role payments-api  (payments/api@prod-eu)

    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.

    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => done

    Applied: 1 done, 0 not yet, 0 dropped, 0 refused, 0 failed, 0 not begun.

    ---- exit 0
    "#);
}

#[tokio::test]
async fn what_fails_is_said_and_the_rest_is_done() {
    let person = Person::new().await;
    person.aws.add_role(role("payments-api", "payments/api@prod-eu payments/worker@prod-eu"));
    let denied = Fault::on("eks", "CreatePodIdentityAssociation").first(1);
    person.aws.fault(denied.error("AccessDeniedException", 403, "User: me is not authorized"));
    insta::assert_snapshot!(person.story("apply --yes --role payments-api", "").await, @"
    eu-west-1/prod-eu
      + payments/api  role payments-api  (payments/api@prod-eu)
      + payments/worker  role payments-api  (payments/worker@prod-eu)

    Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.

    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => failed: eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: AccessDeniedException: User: me is not authorized
    + eu-west-1/prod-eu  payments/worker  role payments-api  (payments/worker@prod-eu) => done

    Applied: 1 done, 0 not yet, 0 dropped, 0 refused, 1 failed, 0 not begun.
    ---- exit 3
    ");
}

#[tokio::test]
async fn a_limit_on_loss_is_raised_once_by_a_flag() {
    let person = Person::new().await.variable("PODGRANT_MAX_DELETIONS", "1");
    for name in ["a", "b"] {
        person.granted(&role("gone", ""), &format!("old/{name}@prod-eu"));
    }
    let said = person.types("apply --yes", "").await;
    assert_eq!((said.code, person.writes()), (3, vec![]), "{said}");
    insta::assert_snapshot!(person.story("apply --yes --allow-deletions 2", "").await, @"
    eu-west-1/prod-eu
      - old/a  role gone  (role gone)
      - old/b  role gone  (role gone)

    Plan: 0 to create, 0 to update, 2 to delete, 1 unchanged, 0 waiting, 0 findings.
    Limits on loss: 2 associations of a cluster (--allow-deletions), or 20 % of those that podgrant made there if that is 10 or more (--allow-share); 5 roles (--allow-role-deletions).

    - eu-west-1/prod-eu  old/a  role gone  (role gone) => done
    - eu-west-1/prod-eu  old/b  role gone  (role gone) => done

    Applied: 2 done, 0 not yet, 0 dropped, 0 refused, 0 failed, 0 not begun.
    ---- exit 0
    ");
    assert!(person.aws.associations(EU, "prod-eu").is_empty());
}

#[tokio::test]
async fn a_role_whose_trust_policy_is_mended_gets_its_grants_in_the_same_run() {
    let person = Person::new().await;
    person.aws.add_cluster(Cluster::named("second"));
    let mut untrusting =
        Role::named("payments-api").tag("podgrant/grant", "payments/api@prod-eu payments/api@second");
    untrusting = untrusting.tag("podgrant/trust", "manage");
    person.aws.add_role(untrusting);
    insta::assert_snapshot!(person.story("apply --yes", "").await, @"
    Roles and fleet
      ~ role payments-api  trust policy: + allows pods.eks.amazonaws.com for payments/api@prod-eu, payments/api@second

    eu-west-1/prod-eu
      + payments/api  role payments-api  (payments/api@prod-eu)

    eu-west-1/second
      + agent v1.3.10-eksbuild.2
      + payments/api  role payments-api  (payments/api@second)

    Plan: 3 to create, 1 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.

    + eu-west-1/second  agent v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/second is starting
    ~ role payments-api  trust policy: + allows pods.eks.amazonaws.com for payments/api@prod-eu, payments/api@second => done
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => done
    + eu-west-1/second  payments/api  role payments-api  (payments/api@second) => done
    . the agent on eu-west-1/second is starting; run it again after a while

    Applied: 3 done, 1 not yet, 0 dropped, 0 refused, 0 failed, 0 not begun.
    ---- exit 3
    ");
}

#[tokio::test]
async fn interrupted_it_says_what_was_done() {
    let person = Person::new().await;
    let subjects: Vec<String> = (0..9).map(|n| format!("a/b{n}@prod-eu")).collect();
    person.aws.add_role(role("payments-api", &subjects.join(" ")));
    person.patience.set(4);
    let said = person.types("apply --yes --role payments-api", "").await;
    assert_eq!(said.code, 3, "{said}");
    let done = said.out.lines().filter(|line| line.ends_with("=> done")).count();
    assert!(
        said.out.contains(&format!(
            "Applied: {done} done, 0 not yet, 0 dropped, 0 refused, 0 failed, {} not begun.",
            9 - done
        )),
        "{said}"
    );
    assert_eq!(person.aws.associations(EU, "prod-eu").len(), done);
    assert!((1..9).contains(&done));
}

#[tokio::test]
async fn a_bus_is_told_where_one_is_named() {
    let person = Person::new().await.variable("PODGRANT_EVENT_BUS", "the-functions-own");
    person.aws.add_role(role("payments-api", "payments/api@prod-eu"));
    assert_eq!(person.types("apply --yes --role payments-api", "").await.code, 0);
    assert!(person.aws.events().is_empty());
    person.aws.add_role(role("batch", "batch/job@prod-eu"));
    assert_eq!(person.types("apply --yes --role batch --event-bus mine", "").await.code, 0);
    let told: Vec<_> = person.aws.events().into_iter().map(|event| (event.bus, event.detail_type)).collect();
    assert_eq!(told, [("mine".to_owned(), "Access Granted".to_owned())]);
    assert!(person.aws.messages().is_empty());
}

#[tokio::test]
async fn a_dry_run_by_the_environment_forbids_it() {
    let person = busy().await.variable("PODGRANT_DRY_RUN", "on");
    insta::assert_snapshot!(person.story("apply --yes", "").await, @"
    ---- stderr
    podgrant: PODGRANT_DRY_RUN is on, and forbids it
      unset it, or use podgrant plan

    ---- exit 64
    ");
    assert_eq!(person.writes(), Vec::<String>::new());
}
