use podgrant_tests::fake::Role;

use crate::listing::fleet;

#[tokio::test]
async fn a_service_account_is_explained_link_by_link() {
    let person = fleet().await;
    insta::assert_snapshot!(person.story("explain payments/api@prod-eu", "").await, @"
    payments/api@prod-eu → role payments-api
      ok      role        arn:aws:iam::111122223333:role/payments-api exists
      ok      tag         podgrant/grant = payments/api@prod-eu
      ok      guardrails  none refuses it
      ok      trust       EKS Pod Identity may assume the role for it
      ok      cluster     eu-west-1/prod-eu is ACTIVE, Kubernetes 1.33
      ok      association a-000000000000001, podgrant's, since 2026-03-02T10:15:30Z
      ok      agent       eks-pod-identity-agent v1.3.10-eksbuild.2 is ACTIVE
    ---- exit 0
    ");
    person.aws.add_role(Role::named("broken").tag("podgrant/grant", "payments/web@prod-eu"));
    insta::assert_snapshot!(person.story("explain broken", "").await, @r#"
    payments/web@prod-eu → role broken
      ok      role        arn:aws:iam::111122223333:role/broken exists
      ok      tag         podgrant/grant = payments/web@prod-eu
      ok      guardrails  none refuses it
      BROKEN  trust       the trust policy does not allow sts:AssumeRole and sts:TagSession to
                          pods.eks.amazonaws.com
                          → tag the role podgrant/trust = manage, and podgrant adds what is missing; or
                          add the statement
                          {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}
      ok      cluster     eu-west-1/prod-eu is ACTIVE, Kubernetes 1.33
      BROKEN  association payments/web has none on this cluster
                          → it follows when the above is mended
      ok      agent       eks-pod-identity-agent v1.3.10-eksbuild.2 is ACTIVE
    ---- exit 2
    "#);
    insta::assert_snapshot!(person.story("explain --output json nobody", "").await, @r#"
    {
      "version": 1,
      "target": {
        "kind": "role",
        "name": "nobody"
      },
      "chains": [
        {
          "place": "role nobody",
          "role": null,
          "links": [
            {
              "kind": "role",
              "state": "broken",
              "told": "the account has no role nobody",
              "remedy": "look at its spelling and at the account",
              "fault": "no-role"
            }
          ]
        }
      ]
    }
    ---- exit 2
    "#);
}

#[tokio::test]
async fn the_doctor_names_causes_and_a_script_sees_that_there_are_some() {
    let person = fleet().await;
    insta::assert_snapshot!(person.story("doctor", "").await, @"
    cluster eu-west-1/prod-eu: 2 wrong
      1.  the role is gone, and podgrant takes the association away: old/app role deleted
          (a-000000000000002)
          → see whether clean-up-orphans runs, or run podgrant apply; or make the role again
      2.  to be taken away: - eu-west-1/prod-eu again/app role again (role deleted and made again)

    cluster us-east-1/prod-us: 2 wrong
      1.  the role is gone, and the association is not podgrant's: reports/nightly role terraformed
          (a-000000000000005)
          → whoever makes a role of that name gives it to these pods: delete the association, or make
          the role
      2.  the cluster has no add-on eks-pod-identity-agent
          → podgrant's install-agent makes it; by hand: aws eks create-addon --cluster-name prod-us
          --addon-name eks-pod-identity-agent
    ---- exit 2
    ");
    insta::assert_snapshot!(person.story("doctor --output json old/app@prod-eu", "").await, @r#"
    {
      "version": 1,
      "diagnoses": [
        {
          "about": "old/app@prod-eu",
          "causes": [
            {
              "kind": {
                "broken": "no-role"
              },
              "told": "the account has no role deleted, and association a-000000000000002 gives it to pods",
              "remedy": "make the role again, or take the association away (podgrant does where it made it); then tag the role that is meant: podgrant/grant = old/app@prod-eu"
            },
            {
              "kind": {
                "possible": "settling"
              },
              "told": "the association was made 0 s ago: EKS may not know it everywhere yet",
              "remedy": "wait a minute, and make the pod anew if it was made meanwhile"
            }
          ],
          "unseen": [],
          "right": 3
        }
      ]
    }
    ---- exit 2
    "#);
}

#[tokio::test]
async fn what_is_asked_about_has_a_form() {
    let person = fleet().await;
    insta::assert_snapshot!(person.story("explain --pod api@prod-eu", "").await, @r#"
    ---- stderr
    error: invalid value 'api@prod-eu' for '--pod <POD>': "api@prod-eu" names no namespace; write namespace/pod@cluster, as in payments/api-6c5f-x2x@prod-eu

    For more information, try '--help'.

    ---- exit 64
    "#);
    insta::assert_snapshot!(person.story("doctor Payments/api@prod-eu", "").await, @r#"
    ---- stderr
    error: invalid value 'Payments/api@prod-eu' for '[ACCOUNT]': "Payments" is not a namespace (lower-case letters, digits and -, beginning and ending with a letter or digit, at most 63); write namespace/service-account@cluster, as in payments/api@prod-eu

    For more information, try '--help'.

    ---- exit 64
    "#);
    insta::assert_snapshot!(person.story("explain", "").await, @"
    ---- stderr
    error: the following required arguments were not provided:
      <ROLE|ACCOUNT>

    Usage: podgrant explain <ROLE|ACCOUNT>

    For more information, try '--help'.

    ---- exit 64
    ");
}
