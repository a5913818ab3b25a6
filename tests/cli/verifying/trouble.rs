//! What is denied, not there, or does not answer.

use base64::Engine as _;
use podgrant_tests::fake::{Cluster, Fault};

use super::hands::How;
use super::{VERIFY, verifier};
use crate::person::{EU, Person};

#[tokio::test]
async fn nothing_is_made_where_the_pod_could_not_be() {
    let (person, hands) = verifier().await;
    hands.refuse("you may not create, delete pods in the namespace default");
    insta::assert_snapshot!(person.story(VERIFY, "").await, @"
    ---- stderr
    podgrant: eu-west-1/prod-eu: you may not create, delete pods in the namespace default
      name another namespace with --namespace, or be let in: an access entry with AmazonEKSEditPolicy for default allows what verify does

    ---- exit 1
    ");
    assert!(person.writes().is_empty());
    person.aws.add_cluster(Cluster::named("far").connected());
    insta::assert_snapshot!(person.story("verify --cluster far --yes", "").await, @"
    ---- stderr
    podgrant: eu-west-1/far is only connected to EKS, and Pod Identity is not there
      use IAM roles for service accounts (IRSA) there

    ---- exit 1
    ");
    person.aws.add_cluster(Cluster::named("new").status("CREATING"));
    insta::assert_snapshot!(person.story("verify --cluster new --yes", "").await, @"
    ---- stderr
    podgrant: eu-west-1/new is CREATING, and has no Kubernetes API yet
      run it again when it is ACTIVE

    ---- exit 1
    ");
    insta::assert_snapshot!(person.story("verify --cluster nowhere --yes", "").await, @"
    ---- stderr
    podgrant: there is no cluster nowhere in eu-west-1, us-east-1
      see whether the name is right, and name its region with --region

    ---- exit 1
    ");
    insta::assert_snapshot!(person.story("verify --yes", "").await, @"
    ---- stderr
    error: the following required arguments were not provided:
      --cluster <[REGION/]CLUSTER>

    Usage: podgrant verify --yes --cluster <[REGION/]CLUSTER>

    For more information, try '--help'.

    ---- exit 64
    ");
    insta::assert_snapshot!(person.story("verify --cluster prod-eu --wait-limit 900", "").await, @"
    ---- stderr
    error: invalid value '900' for '--wait-limit <SECONDS>': 900 is not in 30..=540

    For more information, try '--help'.

    ---- exit 64
    ");
    insta::assert_snapshot!(person.story("verify --clean --image x", "").await, @"
    ---- stderr
    error: the argument '--clean' cannot be used with '--image <IMAGE>'

    Usage: podgrant verify --clean

    For more information, try '--help'.

    ---- exit 64
    ");
}

/// With the real hands, and nobody there.
#[tokio::test]
async fn an_api_that_does_not_answer() {
    let person = Person::new().await;
    let nobody = "https://127.0.0.1:9";
    let ca = include_str!("../../../crates/podgrant-kubernetes/src/nobody.pem");
    let ca = base64::engine::general_purpose::STANDARD.encode(ca);
    person.aws.add_cluster(Cluster::named("prod-eu").endpoint(nobody, &ca));
    insta::assert_snapshot!(person.story(VERIFY, "").await, @"
    ---- stderr
    podgrant: eu-west-1/prod-eu: the cluster's Kubernetes API could not be reached: Connection refused (os error 111)
      see the way there: its public access CIDRs, and a proxy (HTTPS_PROXY) in between

    ---- exit 1
    ");
    person.aws.add_cluster(Cluster::named("prod-eu").endpoint(nobody, &ca).private_endpoint());
    insta::assert_snapshot!(person.story(VERIFY, "").await, @"
    ---- stderr
    podgrant: eu-west-1/prod-eu: the cluster's Kubernetes API could not be reached (its endpoint is private): Connection refused (os error 111)
      its endpoint is private: run it where it can be reached, such as in its VPC

    ---- exit 1
    ");
    assert!(person.writes().is_empty());
}

#[tokio::test]
async fn who_may_not_is_told_what() {
    let person = Person::new().await.without_credentials();
    insta::assert_snapshot!(person.story(VERIFY, "").await, @"
    ---- stderr
    podgrant: no AWS credentials: the credential provider was not enabled: no providers in chain provided credentials
      log in (aws sso login), name a profile that can (--profile), or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY

    ---- exit 1
    ");
    let (person, hands) = verifier().await;
    person.aws.fault(Fault::on("iam", "CreateRole").access_denied());
    insta::assert_snapshot!(person.story(VERIFY, "").await, @"
    To be made for eu-west-1/prod-eu, and removed again
      role             podgrant-verify-mm90wfdc: for pods of this cluster only, and allowed nothing but sts:GetCallerIdentity
      association      default/podgrant-verify-mm90wfdc with that role
      service account  default/podgrant-verify-mm90wfdc
      pod              default/podgrant-verify-mm90wfdc-1, image amazon/aws-cli:2.31.29; 12 at most, one after the other


    Whether Pod Identity works on eu-west-1/prod-eu was not seen. Nothing was made. (0 s)
    ---- stderr
    podgrant: not allowed: iam:CreateRole podgrant-verify-mm90wfdc: AccessDenied: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: iam:CreateRole
      whoever runs this needs iam:CreateRole; docs/cli.md lists the actions of each command

    ---- exit 1
    ");
    let (person, _) = verifier().await;
    person.aws.fault(Fault::on("eks", "DeletePodIdentityAssociation").server_error());
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
      LEFT    association     podgrant-verify-mm90wfdc: eks:DeletePodIdentityAssociation eu-west-1/prod-eu default/podgrant-verify-mm90wfdc: ServerException: The request processing has failed because of an unknown error.
                              → aws eks delete-pod-identity-association --region eu-west-1 --cluster-name prod-eu --association-id $(aws eks list-pod-identity-associations --region eu-west-1 --cluster-name prod-eu --namespace default --service-account podgrant-verify-mm90wfdc --query 'associations[0].associationId' --output text)
      LEFT    role            podgrant-verify-mm90wfdc: kept, for by it what else is left is found again
                              → aws iam delete-role-policy --role-name podgrant-verify-mm90wfdc --policy-name podgrant-verify; aws iam delete-role --role-name podgrant-verify-mm90wfdc

    Pod Identity works on eu-west-1/prod-eu. Not all that was made could be removed: half an hour after it began podgrant verify --clean --cluster eu-west-1/prod-eu tries again. (25 s)
    ---- exit 1
    ");
    // Whoever may, half an hour later.
    person.aws.clear_faults();
    person.pass(30 * 60);
    insta::assert_snapshot!(person.story("verify --clean --yes", "").await, @"
    run mm90wfdc of 2026-03-02T10:15:30Z on eu-west-1/prod-eu, namespace default
      association     podgrant-verify-mm90wfdc
      role            podgrant-verify-mm90wfdc

      removed association     podgrant-verify-mm90wfdc
      removed role            podgrant-verify-mm90wfdc
    ---- exit 0
    ");
    assert!(person.aws.roles().is_empty() && person.aws.associations(EU, "prod-eu").is_empty());
    insta::assert_snapshot!(person.story("verify --clean --yes --output json", "").await, @r#"
    {
      "version": 1,
      "runs": [],
      "cleaned": false,
      "removed": [],
      "unread": []
    }
    ---- stderr
    Nothing of verify's is left.

    ---- exit 0
    "#);
    drop(hands);
}

#[tokio::test]
async fn a_pod_that_lost_its_mark_is_left_and_told() {
    let (person, hands) = verifier().await;
    hands.takes_labels();
    let said = person.types(VERIFY, "").await;
    assert_eq!((said.code, hands.left().len()), (1, 1), "{said}");
    assert!(person.aws.roles().is_empty(), "{said}");
    let end: Vec<&str> = said.out.lines().skip_while(|line| !line.contains("LEFT")).map(str::trim).collect();
    insta::assert_snapshot!(end.join("\n"), @"
    LEFT    pod             podgrant-verify-mm90wfdc-1: what stands there lacks verify's mark, and is left alone
    removed service account podgrant-verify-mm90wfdc
    removed association     podgrant-verify-mm90wfdc
    removed role            podgrant-verify-mm90wfdc

    Pod Identity works on eu-west-1/prod-eu. Not all that was made could be removed: look at it, and remove it by hand. (10 s)
    ");
    // And no more are made.
    let (person, hands) = verifier().await;
    hands.takes_labels();
    hands.without_variables(99);
    let said = person.types(VERIFY, "").await;
    assert_eq!((said.code, hands.left().len()), (1, 1), "{said}");
    assert!(said.out.contains("LEFT    pod"), "{said}");
    insta::assert_snapshot!(said.errors, @"
    podgrant: eu-west-1/prod-eu: the pod podgrant-verify-mm90wfdc-1 lost verify's mark when it was made
      see what admission policy rewrites the labels of pods, or name a namespace without one with --namespace
    ");
}

#[tokio::test]
async fn only_the_pod_whose_answer_was_lost_is_looked_for_again() {
    let (person, hands) = verifier().await;
    hands.without_variables(3);
    hands.lingers();
    hands.strike("make pod", 4, How::Fails);
    let said = person.types(VERIFY, "").await;
    // Three pauses between four pods, three looks for the last one, and one for the service account.
    assert!(said.code == 1 && said.out.contains("(35 s)"), "{said}");
    assert!(person.aws.roles().is_empty() && hands.left().is_empty());
}

#[tokio::test]
async fn a_role_that_does_not_show_yet_is_looked_for_again() {
    let (person, hands) = verifier().await;
    person.aws.fault(Fault::on("iam", "PutRolePolicy").meanwhile(|aws| {
        aws.hide_role(&aws.roles()[0].name, 2);
    }));
    person.aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").access_denied());
    let said = person.types(VERIFY, "").await;
    assert!(said.code == 1 && said.out.contains("removed role"), "{said}");
    assert!(person.aws.roles().is_empty() && hands.left().is_empty());
}

#[tokio::test]
async fn a_role_whose_answer_was_lost_and_that_does_not_show_yet_is_looked_for_again() {
    let (person, hands) = verifier().await;
    person.aws.fault(Fault::on("iam", "CreateRole").first(1).lose_response());
    let hidden = Fault::on("iam", "GetRole").first(1);
    person.aws.fault(hidden.meanwhile(|aws| aws.hide_role(&aws.roles()[0].name, 2)));
    let said = person.types(VERIFY, "").await;
    assert!(said.code == 1 && said.errors.contains("EntityAlreadyExists"), "{said}");
    assert!(said.out.contains("removed role"), "{said}");
    assert!(person.aws.roles().is_empty() && hands.left().is_empty());
    // Where it shows, it is known for the run's own.
    let (person, hands) = verifier().await;
    person.aws.fault(Fault::on("iam", "CreateRole").first(1).lose_response());
    assert_eq!(person.types(VERIFY, "").await.code, 0);
    assert!(person.aws.roles().is_empty() && hands.left().is_empty());
}

#[tokio::test]
async fn a_role_that_others_hung_something_on_is_left_and_told() {
    let (person, _) = verifier().await;
    person.aws.fault(Fault::on("eks", "DeletePodIdentityAssociation").meanwhile(|aws| {
        let role = aws.roles()[0].name.clone();
        aws.change_role(&role, |role| {
            role.attached_policies.push("arn:aws:iam::aws:policy/ReadOnlyAccess".to_owned());
        });
    }));
    let said = person.types(VERIFY, "").await;
    assert_eq!(said.code, 1, "{said}");
    let left: Vec<&str> = said.out.lines().filter(|line| line.contains("LEFT")).collect();
    insta::assert_snapshot!(left.join("\n"), @"  LEFT    role            podgrant-verify-mm90wfdc: iam:DeleteRole podgrant-verify-mm90wfdc: DeleteConflict: Cannot delete entity, must detach all policies first.");
    // Nor is one removed that lost its mark meanwhile.
    let (person, _) = verifier().await;
    person.aws.fault(Fault::on("eks", "DeletePodIdentityAssociation").meanwhile(|aws| {
        aws.untag_role(&aws.roles()[0].name, "podgrant/verify");
    }));
    let said = person.types(VERIFY, "").await;
    assert!(said.code == 1 && person.aws.roles().len() == 1, "{said}");
    let left: Vec<&str> = said.out.lines().filter(|line| line.contains("LEFT")).collect();
    insta::assert_snapshot!(left.join("\n"), @"  LEFT    role            podgrant-verify-mm90wfdc: what stands there lacks verify's mark, and is left alone");
}
