use podgrant_tests::fake::{Cluster, Fault};

use crate::person::{Person, US};

#[tokio::test]
async fn no_credentials() {
    let person = Person::new().await.without_credentials();
    insta::assert_snapshot!(person.story("plan", "").await, @"
    ---- stderr
    podgrant: no AWS credentials: the credential provider was not enabled: no providers in chain provided credentials
      log in (aws sso login), name a profile that can (--profile), or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY

    ---- exit 1
    ");
    insta::assert_snapshot!(person.story("list --profile work --output json", "").await, @r#"
    {
      "version": 1,
      "error": {
        "message": "no AWS credentials: the credential provider was not enabled: no providers in chain provided credentials",
        "remedy": "log in (aws sso login --profile work), name a profile that can (--profile), or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
      }
    }
    ---- stderr
    podgrant: no AWS credentials: the credential provider was not enabled: no providers in chain provided credentials
      log in (aws sso login --profile work), name a profile that can (--profile), or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY

    ---- exit 1
    "#);
}

#[tokio::test]
async fn credentials_that_aws_does_not_take() {
    let person = Person::new().await;
    let expired = Fault::on("eks", "ListClusters");
    person.aws.fault(expired.error(
        "ExpiredTokenException",
        403,
        "The security token included in the request is expired",
    ));
    insta::assert_snapshot!(person.story("plan --profile work", "").await, @"
    ---- stderr
    podgrant: AWS does not take the credentials: eks:ListClusters eu-west-1: ExpiredTokenException: The security token included in the request is expired
      log in again (aws sso login --profile work), or get new ones; a region that the account did not enable refuses them too

    ---- exit 1
    ");
}

#[tokio::test]
async fn what_is_not_allowed() {
    let person = Person::new().await;
    let denied = Fault::on("eks", "ListClusters");
    person.aws.fault(denied.error(
        "AccessDeniedException",
        403,
        "User: arn:aws:iam::111122223333:user/me is not authorized to perform: eks:ListClusters",
    ));
    insta::assert_snapshot!(person.story("plan", "").await, @"
    ---- stderr
    podgrant: not allowed: eks:ListClusters eu-west-1: AccessDeniedException: User: arn:aws:iam::111122223333:user/me is not authorized to perform: eks:ListClusters
      whoever runs this needs eks:ListClusters; docs/cli.md lists the actions of each command

    ---- exit 1
    ");
    person.aws.clear_faults();
    let denied = Fault::on("iam", "GetRole");
    person.aws.fault(denied.error("AccessDenied", 403, "User: me is not authorized to perform: iam:GetRole"));
    insta::assert_snapshot!(person.story("plan --role payments-api", "").await, @"
    ---- stderr
    podgrant: not allowed: iam:GetRole payments-api: AccessDenied: User: me is not authorized to perform: iam:GetRole
      whoever runs this needs iam:GetRole; docs/cli.md lists the actions of each command

    ---- exit 1
    ");
    insta::assert_snapshot!(person.story("grant payments-api a/b@c --yes", "").await, @"
    ---- stderr
    podgrant: not allowed: iam:GetRole payments-api: AccessDenied: User: me is not authorized to perform: iam:GetRole
      whoever runs this needs iam:GetRole; docs/cli.md lists the actions of each command

    ---- exit 1
    ");
}

#[tokio::test]
async fn nobody_answers() {
    let person = Person::new().await.cut_off();
    let said = person.types("plan", "").await;
    assert_eq!(said.code, 1);
    insta::assert_snapshot!(said.errors, @"
    podgrant: no answer: eks:ListClusters eu-west-1: dispatch failure: io error: client error (Connect): tcp connect error: Connection refused (os error 111)
      see whether the region's name is right (--region), and the network, or a proxy (HTTPS_PROXY) in between
    ");
}

#[tokio::test]
async fn things_that_are_not_there() {
    let person = Person::new().await;
    insta::assert_snapshot!(person.story("plan --role nobody", "").await, @"
    ---- stderr
    podgrant: there is no role nobody in this account
      see whether the name is right, and the account: aws sts get-caller-identity

    ---- exit 1
    ");
    insta::assert_snapshot!(person.story("revoke nobody a/b@c --yes", "").await, @"
    ---- stderr
    podgrant: there is no role nobody in this account
      see whether the name is right, and the account: aws sts get-caller-identity

    ---- exit 1
    ");
    insta::assert_snapshot!(person.story("plan --cluster nowhere", "").await, @"
    ---- stderr
    podgrant: there is no cluster nowhere in eu-west-1, us-east-1
      see whether the name is right, and name its region with --region

    ---- exit 1
    ");
    insta::assert_snapshot!(person.story("list --cluster us-east-1/prod-eu", "").await, @"
    ---- stderr
    podgrant: there is no cluster prod-eu in us-east-1
      see whether the name is right, and name its region with --region

    ---- exit 1
    ");
    insta::assert_snapshot!(person.story("list --cluster us-west-2/prod-eu", "").await, @"
    ---- stderr
    podgrant: us-west-2 is not one of the regions that are looked at: eu-west-1, us-east-1
      name it with --region, or in PODGRANT_REGIONS

    ---- exit 64
    ");
    person.aws.add_cluster(Cluster::named("prod-eu").region(US));
    insta::assert_snapshot!(person.story("plan --cluster prod-eu", "").await, @"
    ---- stderr
    podgrant: the cluster prod-eu is in several regions: eu-west-1/prod-eu, us-east-1/prod-eu
      say which: --cluster eu-west-1/prod-eu

    ---- exit 64
    ");
}

#[tokio::test]
async fn variables_that_make_no_sense() {
    let person = Person::new().await.variable("PODGRANT_MAX_DELETIONS", "many");
    insta::assert_snapshot!(person.story("plan", "").await, @r#"
    ---- stderr
    podgrant: PODGRANT_MAX_DELETIONS: "many": invalid digit found in string

    ---- exit 64
    "#);
}

#[tokio::test]
async fn one_region_that_does_not_answer_is_a_gap() {
    let person = Person::new().await;
    let denied = Fault::on("eks", "ListClusters").region(US);
    person.aws.fault(denied.error("AccessDeniedException", 403, "no"));
    insta::assert_snapshot!(person.story("plan", "").await, @"
    Roles and fleet
      ! not read: eks:ListClusters us-east-1: AccessDeniedException: no

    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.
    ---- exit 3
    ");
}
