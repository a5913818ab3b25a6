//! `podgrant verify` before a cluster of the test's own.

mod cleaning;
mod faults;
mod hands;
mod inside;
mod script;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use podgrant_tests::fake::{Cluster, Fault};

use crate::person::{EU, Person};
use hands::{FakeHands, Fate};

/// Whoever verifies prod-eu, and the cluster's side of it.
pub async fn verifier() -> (Person, Arc<FakeHands>) {
    let hands = Arc::new(FakeHands::new());
    let mut person = Person::new().await;
    person.hands = Arc::clone(&hands) as _;
    (person, hands)
}

const VERIFY: &str = "verify --cluster prod-eu --yes";

#[tokio::test]
async fn it_works_and_nothing_is_left() {
    let (person, hands) = verifier().await;
    insta::assert_snapshot!(person.story(VERIFY, "").await, @"
    To be made for eu-west-1/prod-eu, and removed again
      role             podgrant-verify-mm90wfdc: for pods of this cluster only, and allowed nothing but sts:GetCallerIdentity
      association      default/podgrant-verify-mm90wfdc with that role
      service account  default/podgrant-verify-mm90wfdc
      pod              default/podgrant-verify-mm90wfdc-1, image amazon/aws-cli:2.31.29; 12 at most, one after the other

      ok      role        podgrant-verify-mm90wfdc is made
      ok      association default/podgrant-verify-mm90wfdc is made
      ok      account     default/podgrant-verify-mm90wfdc is made
      ok      pod         default/podgrant-verify-mm90wfdc-1 ran on ip-10-0-1-7, 10 s after it was made
      ok      variables   the pod was given http://169.254.170.23/v1/credentials
      ok      credentials the pod got credentials at once
      ok      identity    the pod is
                          arn:aws:sts::111122223333:assumed-role/podgrant-verify-mm90wfdc/eks-prod-eu-podgrant-v-1f0c
      ok      privilege   listing buckets is denied, as it should be
      removed pod             podgrant-verify-mm90wfdc-1
      removed service account podgrant-verify-mm90wfdc
      removed association     podgrant-verify-mm90wfdc
      removed role            podgrant-verify-mm90wfdc

    Pod Identity works on eu-west-1/prod-eu. All that was made is removed again. (10 s)
    ---- exit 0
    ");
    assert_eq!(hands.left(), [""; 0]);
    assert!(person.aws.roles().is_empty() && person.aws.associations(EU, "prod-eu").is_empty());
    insta::assert_snapshot!(person.writes().join("\n"), @"
    iam CreateRole
    iam PutRolePolicy
    eks CreatePodIdentityAssociation
    eks DeletePodIdentityAssociation
    iam DeleteRolePolicy
    iam DeleteRole
    ");
    insta::assert_snapshot!(hands.calls().join("\n"), @"
    obstacles
    make account
    make pod
    pod
    pod
    pod
    remove
    remove
    ");
}

#[tokio::test]
async fn what_is_made_is_marked_and_confined() {
    let (person, hands) = verifier().await;
    let seen = hands::noted(&hands);
    let seen_aws = Arc::clone(&seen);
    person.aws.fault(Fault::on("iam", "DeleteRole").meanwhile(move |aws| {
        let role = aws.roles().remove(0);
        let mut seen = seen_aws.lock().unwrap();
        seen.push(format!("{} {:?}\n{}", role.arn(), role.tags, role.trust_policy));
    }));
    let seen_aws = Arc::clone(&seen);
    person.aws.fault(Fault::on("eks", "DeletePodIdentityAssociation").meanwhile(move |aws| {
        let made = aws.associations(EU, "prod-eu").remove(0);
        let place = format!("{}/{}", made.namespace, made.service_account);
        seen_aws.lock().unwrap().push(format!("{place} {} {:?}", made.role_arn, made.tags));
    }));
    assert_eq!(person.types(VERIFY, "").await.code, 0);
    insta::assert_snapshot!(seen.lock().unwrap().join("\n"), @r#"
    (ServiceAccount, "default", "podgrant-verify-mm90wfdc") {"app.kubernetes.io/managed-by": "podgrant", "podgrant/verify": "mm90wfdc"}
    (Pod, "default", "podgrant-verify-mm90wfdc-1") {"app.kubernetes.io/managed-by": "podgrant", "podgrant/verify": "mm90wfdc"}
    default/podgrant-verify-mm90wfdc arn:aws:iam::111122223333:role/podgrant-verify/podgrant-verify-mm90wfdc {"podgrant/verify": "mm90wfdc eu-west-1/prod-eu default 2026-03-02T10:15:30Z"}
    arn:aws:iam::111122223333:role/podgrant-verify/podgrant-verify-mm90wfdc {"podgrant/verify": "mm90wfdc eu-west-1/prod-eu default 2026-03-02T10:15:30Z"}
    {"Statement":[{"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"ArnEquals":{"aws:SourceArn":"arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu"},"StringEquals":{"aws:SourceAccount":"111122223333"}},"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"}}],"Version":"2012-10-17"}
    "#);
}

#[tokio::test]
async fn it_asks_first() {
    let (mut person, hands) = verifier().await;
    insta::assert_snapshot!(person.story("verify --cluster prod-eu", "").await, @"
    ---- stderr
    podgrant: verify asks before it makes or removes anything, and there is nobody to ask
      run it on a terminal, or with --yes

    ---- exit 64
    ");
    person = person.at_a_terminal().variable("NO_COLOR", "1");
    person.terminal.errors = false;
    insta::assert_snapshot!(person.story("verify --cluster prod-eu --namespace tools", "no\n").await, @"
    To be made for eu-west-1/prod-eu, and removed again
      role             podgrant-verify-mm90wfdc: for pods of this cluster only, and allowed nothing but sts:GetCallerIdentity
      association      tools/podgrant-verify-mm90wfdc with that role
      service account  tools/podgrant-verify-mm90wfdc
      pod              tools/podgrant-verify-mm90wfdc-1, image amazon/aws-cli:2.31.29; 12 at most, one after the other

    ---- stderr
    Make these, and remove them again? Only yes is a yes: Nothing was made.

    ---- exit 4
    ");
    assert!(person.writes().is_empty() && hands.left().is_empty());
    // Its age counts from before the question: who answers late could be cleaned away while under way.
    for (seconds, code) in [(301, 1), (300, 0)] {
        let now = person.clock_hand();
        person.asked = Some(Box::new(move || {
            now.fetch_add(seconds, Ordering::Relaxed);
        }));
        let said = person.types("verify --cluster prod-eu", "yes\n").await;
        assert_eq!(said.code, code, "{said}");
        assert_eq!(person.writes().is_empty(), code == 1, "{said}");
        assert_eq!(said.errors.contains("the question stood too long"), code == 1, "{said}");
    }
    person.asked = None;
    let person = person.variable("PODGRANT_DRY_RUN", "on");
    insta::assert_snapshot!(person.story(VERIFY, "").await, @"
    ---- stderr
    podgrant: PODGRANT_DRY_RUN is on, and forbids it
      unset it, or use podgrant doctor

    ---- exit 64
    ");
}

#[tokio::test]
async fn the_same_for_a_program() {
    let (person, _) = verifier().await;
    insta::assert_snapshot!(person.story(&format!("{VERIFY} --output json"), "").await, @r#"
    {
      "version": 1,
      "cluster": "eu-west-1/prod-eu",
      "namespace": "default",
      "run": "mm90wfdc",
      "image": "amazon/aws-cli:2.31.29",
      "begun": true,
      "works": true,
      "links": [
        {
          "kind": "role",
          "state": "right",
          "told": "podgrant-verify-mm90wfdc is made",
          "remedy": null
        },
        {
          "kind": "association",
          "state": "right",
          "told": "default/podgrant-verify-mm90wfdc is made",
          "remedy": null
        },
        {
          "kind": "account",
          "state": "right",
          "told": "default/podgrant-verify-mm90wfdc is made",
          "remedy": null
        },
        {
          "kind": "pod",
          "state": "right",
          "told": "default/podgrant-verify-mm90wfdc-1 ran on ip-10-0-1-7, 10 s after it was made",
          "remedy": null
        },
        {
          "kind": "variables",
          "state": "right",
          "told": "the pod was given http://169.254.170.23/v1/credentials",
          "remedy": null
        },
        {
          "kind": "credentials",
          "state": "right",
          "told": "the pod got credentials at once",
          "remedy": null
        },
        {
          "kind": "identity",
          "state": "right",
          "told": "the pod is arn:aws:sts::111122223333:assumed-role/podgrant-verify-mm90wfdc/eks-prod-eu-podgrant-v-1f0c",
          "remedy": null
        },
        {
          "kind": "privilege",
          "state": "right",
          "told": "listing buckets is denied, as it should be",
          "remedy": null
        }
      ],
      "causes": [],
      "removed": [
        {
          "thing": "pod",
          "name": "podgrant-verify-mm90wfdc-1",
          "removed": true
        },
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
      "seconds": 10
    }
    ---- stderr
    To be made for eu-west-1/prod-eu, and removed again
      role             podgrant-verify-mm90wfdc: for pods of this cluster only, and allowed nothing but sts:GetCallerIdentity
      association      default/podgrant-verify-mm90wfdc with that role
      service account  default/podgrant-verify-mm90wfdc
      pod              default/podgrant-verify-mm90wfdc-1, image amazon/aws-cli:2.31.29; 12 at most, one after the other

      ok      role        podgrant-verify-mm90wfdc is made
      ok      association default/podgrant-verify-mm90wfdc is made
      ok      account     default/podgrant-verify-mm90wfdc is made
      ok      pod         default/podgrant-verify-mm90wfdc-1 ran on ip-10-0-1-7, 10 s after it was made
      ok      variables   the pod was given http://169.254.170.23/v1/credentials
      ok      credentials the pod got credentials at once
      ok      identity    the pod is
                          arn:aws:sts::111122223333:assumed-role/podgrant-verify-mm90wfdc/eks-prod-eu-podgrant-v-1f0c
      ok      privilege   listing buckets is denied, as it should be
      removed pod             podgrant-verify-mm90wfdc-1
      removed service account podgrant-verify-mm90wfdc
      removed association     podgrant-verify-mm90wfdc
      removed role            podgrant-verify-mm90wfdc

    Pod Identity works on eu-west-1/prod-eu. All that was made is removed again. (10 s)

    ---- exit 0
    "#);
    let (person, hands) = verifier().await;
    hands.fate(Fate::Node);
    let said = person.types(&format!("{VERIFY} --output json"), "").await;
    assert_eq!(said.code, 2);
    insta::assert_snapshot!(said.out, @r#"
    {
      "version": 1,
      "cluster": "eu-west-1/prod-eu",
      "namespace": "default",
      "run": "mm90wfdc",
      "image": "amazon/aws-cli:2.31.29",
      "begun": true,
      "works": false,
      "links": [
        {
          "kind": "role",
          "state": "right",
          "told": "podgrant-verify-mm90wfdc is made",
          "remedy": null
        },
        {
          "kind": "association",
          "state": "right",
          "told": "default/podgrant-verify-mm90wfdc is made",
          "remedy": null
        },
        {
          "kind": "account",
          "state": "right",
          "told": "default/podgrant-verify-mm90wfdc is made",
          "remedy": null
        },
        {
          "kind": "pod",
          "state": "right",
          "told": "default/podgrant-verify-mm90wfdc-1 ran on ip-10-0-1-7, 10 s after it was made",
          "remedy": null
        },
        {
          "kind": "variables",
          "state": "right",
          "told": "the pod was given http://169.254.170.23/v1/credentials",
          "remedy": null
        },
        {
          "kind": "credentials",
          "state": "right",
          "told": "the pod got credentials at once",
          "remedy": null
        },
        {
          "kind": "identity",
          "state": "broken",
          "told": "the pod became arn:aws:sts::111122223333:assumed-role/nodes/i-0abc and not podgrant-verify-mm90wfdc, its node's role, as every pod without credentials of its own has it",
          "remedy": "the image's AWS CLI may be older than 2.15 and not know the agent: name another with --image"
        }
      ],
      "causes": [],
      "removed": [
        {
          "thing": "pod",
          "name": "podgrant-verify-mm90wfdc-1",
          "removed": true
        },
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
      "seconds": 10
    }
    "#);
}

#[tokio::test]
async fn a_role_takes_a_while_to_be_seen_and_so_does_an_association() {
    let (person, hands) = verifier().await;
    hands.without_variables(3);
    person.aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").first(4).error(
        "InvalidParameterException",
        400,
        "Role provided in the request does not exist.",
    ));
    insta::assert_snapshot!(person.story(VERIFY, "").await, @"
    To be made for eu-west-1/prod-eu, and removed again
      role             podgrant-verify-mm90wfdc: for pods of this cluster only, and allowed nothing but sts:GetCallerIdentity
      association      default/podgrant-verify-mm90wfdc with that role
      service account  default/podgrant-verify-mm90wfdc
      pod              default/podgrant-verify-mm90wfdc-1, image amazon/aws-cli:2.31.29; 12 at most, one after the other

      ok      role        podgrant-verify-mm90wfdc is made
      ok      association default/podgrant-verify-mm90wfdc is made, 20 s after its role
      ok      account     default/podgrant-verify-mm90wfdc is made
      ok      pod         default/podgrant-verify-mm90wfdc-4 ran on ip-10-0-1-7, 10 s after it was made
      ok      variables   the pod was given http://169.254.170.23/v1/credentials
      ok      credentials the pod got credentials at once
      ok      identity    the pod is
                          arn:aws:sts::111122223333:assumed-role/podgrant-verify-mm90wfdc/eks-prod-eu-podgrant-v-1f0c
      ok      privilege   listing buckets is denied, as it should be
      removed pod             podgrant-verify-mm90wfdc-4
      removed service account podgrant-verify-mm90wfdc
      removed association     podgrant-verify-mm90wfdc
      removed role            podgrant-verify-mm90wfdc

    Pod Identity works on eu-west-1/prod-eu. All that was made is removed again. (45 s)
    ---- exit 0
    ");
    assert!(hands.left().is_empty());
}

#[tokio::test]
async fn what_is_never_seen_ends_it() {
    let (person, hands) = verifier().await;
    person.aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").error(
        "InvalidParameterException",
        400,
        "Role provided in the request does not exist.",
    ));
    insta::assert_snapshot!(person.story(VERIFY, "").await, @"
    To be made for eu-west-1/prod-eu, and removed again
      role             podgrant-verify-mm90wfdc: for pods of this cluster only, and allowed nothing but sts:GetCallerIdentity
      association      default/podgrant-verify-mm90wfdc with that role
      service account  default/podgrant-verify-mm90wfdc
      pod              default/podgrant-verify-mm90wfdc-1, image amazon/aws-cli:2.31.29; 12 at most, one after the other

      ok      role        podgrant-verify-mm90wfdc is made
      removed role            podgrant-verify-mm90wfdc

    Whether Pod Identity works on eu-west-1/prod-eu was not seen. All that was made is removed again. (90 s)
    ---- stderr
    podgrant: eks:CreatePodIdentityAssociation eu-west-1/prod-eu default/podgrant-verify-mm90wfdc: InvalidParameterException: Role provided in the request does not exist.

    ---- exit 1
    ");
    assert!(person.aws.roles().is_empty() && hands.left().is_empty());
}

#[tokio::test]
async fn what_does_not_work_is_said_with_its_cause() {
    for (fate, code, told) in [
        (Fate::Node, 2, "not know the agent"),
        (Fate::Refused, 2, "got no credentials"),
        (Fate::Listing, 2, "may list buckets"),
        (Fate::NoSts, 1, "STS did not tell it who it is"),
        (Fate::NoS3, 3, "not known"),
        (Fate::NoImage, 1, "ImagePullBackOff"),
        (Fate::NoNode, 1, "0/2 nodes"),
        (Fate::Fargate, 1, "the pod came to Fargate"),
        (Fate::Garbage, 1, "makes no sense"),
        (Fate::Silent, 1, "told nothing in time"),
    ] {
        let (person, hands) = verifier().await;
        hands.fate(fate);
        // Variables that Fargate's pods may lack are not waited for.
        hands.without_variables(if fate == Fate::Fargate { 99 } else { 0 });
        let said = person.types(VERIFY, "").await;
        assert!(said.code == code && said.out.contains(told), "{fate:?}: {said}");
        assert_eq!(hands.calls().iter().filter(|call| *call == "make pod").count(), 1, "{fate:?}");
        assert!(person.aws.roles().is_empty() && hands.left().is_empty(), "{fate:?}");
        assert!(person.aws.associations(EU, "prod-eu").is_empty(), "{fate:?}");
    }
    // Never any variables: the last pod tells what becomes of such.
    let (person, hands) = verifier().await;
    hands.without_variables(99);
    hands.fate(Fate::Node);
    person.aws.delete_cluster(EU, "prod-eu");
    person.aws.add_cluster(Cluster::named("prod-eu").node_group("workers"));
    insta::assert_snapshot!(person.story(VERIFY, "").await, @"
    To be made for eu-west-1/prod-eu, and removed again
      role             podgrant-verify-mm90wfdc: for pods of this cluster only, and allowed nothing but sts:GetCallerIdentity
      association      default/podgrant-verify-mm90wfdc with that role
      service account  default/podgrant-verify-mm90wfdc
      pod              default/podgrant-verify-mm90wfdc-1, image amazon/aws-cli:2.31.29; 12 at most, one after the other

      ok      role        podgrant-verify-mm90wfdc is made
      ok      association default/podgrant-verify-mm90wfdc is made
      ok      account     default/podgrant-verify-mm90wfdc is made
      ok      pod         default/podgrant-verify-mm90wfdc-12 ran on ip-10-0-1-7, 10 s after it was made
      BROKEN  variables   EKS gave the pod no variables, though its association stands
                          → EKS's webhook pod-identity-webhook gives them when a pod is made: see that
                          no admission policy takes them out, and that the association is of this
                          cluster, namespace and service account
      ok      credentials the pod got credentials at once
      BROKEN  identity    the pod became arn:aws:sts::111122223333:assumed-role/nodes/i-0abc and not
                          podgrant-verify-mm90wfdc, its node's role, as every pod without credentials of
                          its own has it
                          → see why pods get no variables, and keep pods from their node's role (EKS
                          best practices, hop limit 1)
      podgrant doctor: 1 wrong
        1.  the cluster has no add-on eks-pod-identity-agent
            → podgrant's install-agent makes it; by hand: aws eks create-addon --cluster-name prod-eu
            --addon-name eks-pod-identity-agent
      removed pod             podgrant-verify-mm90wfdc-12
      removed service account podgrant-verify-mm90wfdc
      removed association     podgrant-verify-mm90wfdc
      removed role            podgrant-verify-mm90wfdc

    Pod Identity does not work on eu-west-1/prod-eu. All that was made is removed again. (65 s)
    ---- exit 2
    ");
    assert!(hands.left().is_empty());
    let (person, hands) = verifier().await;
    hands.fate(Fate::NoNode);
    insta::assert_snapshot!(person.story(&format!("{VERIFY} --wait-limit 60"), "").await, @"
    To be made for eu-west-1/prod-eu, and removed again
      role             podgrant-verify-mm90wfdc: for pods of this cluster only, and allowed nothing but sts:GetCallerIdentity
      association      default/podgrant-verify-mm90wfdc with that role
      service account  default/podgrant-verify-mm90wfdc
      pod              default/podgrant-verify-mm90wfdc-1, image amazon/aws-cli:2.31.29; 12 at most, one after the other

      ok      role        podgrant-verify-mm90wfdc is made
      ok      association default/podgrant-verify-mm90wfdc is made
      ok      account     default/podgrant-verify-mm90wfdc is made
      unknown pod         no node takes the pod: 0/2 nodes are available: 2 Insufficient cpu.
                          → see that a Linux node has room and no taint, or name a namespace whose pods
                          get one with --namespace
      podgrant doctor sees nothing else that is wrong.
      removed pod             podgrant-verify-mm90wfdc-1
      removed service account podgrant-verify-mm90wfdc
      removed association     podgrant-verify-mm90wfdc
      removed role            podgrant-verify-mm90wfdc

    Whether Pod Identity works on eu-west-1/prod-eu was not seen. All that was made is removed again. (60 s)
    ---- exit 1
    ");
}

#[tokio::test]
async fn ctrl_c_removes_what_was_made() {
    let (person, hands) = verifier().await;
    hands.fate(Fate::Silent);
    person.patience.set(12);
    insta::assert_snapshot!(person.story(VERIFY, "").await, @"
    To be made for eu-west-1/prod-eu, and removed again
      role             podgrant-verify-mm90wfdc: for pods of this cluster only, and allowed nothing but sts:GetCallerIdentity
      association      default/podgrant-verify-mm90wfdc with that role
      service account  default/podgrant-verify-mm90wfdc
      pod              default/podgrant-verify-mm90wfdc-1, image amazon/aws-cli:2.31.29; 12 at most, one after the other

      ok      role        podgrant-verify-mm90wfdc is made
      ok      association default/podgrant-verify-mm90wfdc is made
      ok      account     default/podgrant-verify-mm90wfdc is made
      removed pod             podgrant-verify-mm90wfdc-1
      removed service account podgrant-verify-mm90wfdc
      removed association     podgrant-verify-mm90wfdc
      removed role            podgrant-verify-mm90wfdc

    Whether Pod Identity works on eu-west-1/prod-eu was not seen. All that was made is removed again. (10 s)
    ---- stderr
    podgrant: interrupted
      what was made is removed now

    ---- exit 1
    ");
    assert!(person.aws.roles().is_empty() && hands.left().is_empty());
}
