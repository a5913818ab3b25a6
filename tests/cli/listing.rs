use podgrant_tests::fake::{Association, Cluster, Fault, Role};

use crate::person::{Person, US, role};

pub async fn fleet() -> Person {
    let person = Person::new().await;
    let aws = &person.aws;
    aws.add_cluster(Cluster::named("prod-us").region(US));
    aws.add_role(role("payments-api", "payments/api@prod-eu"));
    person.granted(&role("payments-api", ""), "payments/api@prod-eu");
    person.granted(&role("deleted", ""), "old/app@prod-eu");
    aws.add_role(Role::named("again").trusting_pods());
    person.granted(&role("again", ""), "again/app@_");
    aws.delete_role("again");
    aws.add_role(Role::named("again").trusting_pods());
    let owner = "arn:aws:eks:eu-west-1:111122223333:addon/prod-eu/vpc-cni/0a1b";
    aws.add_association(
        Association::of("prod-eu", "kube-system", "aws-node")
            .role_arn(Role::named("again").arn())
            .owner(owner),
    );
    aws.add_association(
        Association::of("prod-us", "reports", "nightly").role_arn(Role::named("terraformed").arn()),
    );
    person
}

#[tokio::test]
async fn each_association_says_whose_it_is_and_whether_its_role_is_there() {
    let person = fleet().await;
    insta::assert_snapshot!(person.story("list", "").await, @"
    CLUSTER            SERVICE ACCOUNT       ROLE          ROLE IS              MADE BY
    eu-west-1/prod-eu  again/app             again         another of its name  podgrant, for again/app@_
    eu-west-1/prod-eu  kube-system/aws-node  again         there                addon/prod-eu/vpc-cni/0a1b
    eu-west-1/prod-eu  old/app               deleted       gone                 podgrant, for old/app@prod-eu
    eu-west-1/prod-eu  payments/api          payments-api  there                podgrant, for payments/api@prod-eu
    us-east-1/prod-us  reports/nightly       terraformed   gone                 somebody else
    ---- exit 0
    ");
    let described =
        person.aws.calls().iter().filter(|call| call.operation == "DescribePodIdentityAssociation").count();
    assert_eq!(described, 2, "what the tag index does not know");
}

#[tokio::test]
async fn the_same_for_a_program_and_in_part() {
    let person = fleet().await;
    insta::assert_snapshot!(person.story("list --output json --cluster us-east-1/prod-us", "").await, @r#"
    {
      "version": 1,
      "associations": [
        {
          "cluster": "us-east-1/prod-us",
          "namespace": "reports",
          "serviceAccount": "nightly",
          "association": "a-000000000000005",
          "role": "arn:aws:iam::111122223333:role/terraformed",
          "roleIs": "gone",
          "owner": "somebody-else"
        }
      ],
      "unread": []
    }
    ---- exit 0
    "#);
    insta::assert_snapshot!(person.story("list --role payments-api", "").await, @"
    CLUSTER            SERVICE ACCOUNT  ROLE          ROLE IS  MADE BY
    eu-west-1/prod-eu  payments/api     payments-api  there    podgrant, for payments/api@prod-eu
    ---- exit 0
    ");
    insta::assert_snapshot!(person.story("list --role nobody", "").await, @"
    No associations.
    ---- exit 0
    ");
}

#[tokio::test]
async fn roles_that_cannot_be_read_are_unknown() {
    let person = fleet().await;
    let denied = Fault::on("iam", "GetAccountAuthorizationDetails");
    person.aws.fault(denied.error("AccessDenied", 403, "User: me is not authorized"));
    insta::assert_snapshot!(person.story("list --cluster prod-us", "").await, @"
    CLUSTER            SERVICE ACCOUNT  ROLE         ROLE IS  MADE BY
    us-east-1/prod-us  reports/nightly  terraformed  unknown  somebody else
    ! not read: iam:GetAccountAuthorizationDetails roles: AccessDenied: User: me is not authorized
    ---- exit 3
    ");
}
