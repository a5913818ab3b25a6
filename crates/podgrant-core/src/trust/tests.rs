use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::fixtures::{cluster, foreign};

const ACCOUNT: &str = "111122223333";

/// For any use of a role with session tags.
fn allows_pods(policy: &str) -> Result<(), String> {
    TrustPolicy::read(policy).allows(&Use { account: ACCOUNT, session_tags_off: Some(false), place: None })
}

/// payments/api on prod-eu, the same on test-eu, web/site on prod-eu, payments/api
/// on prod-eu without session tags, and anyone anywhere.
fn verdicts(policy: &str) -> [Result<(), String>; 5] {
    let policy = TrustPolicy::read(policy);
    let [prod, test] = [cluster("prod-eu"), cluster("test-eu")];
    let [api, site] = ["payments/api", "web/site"].map(|workload| foreign("prod-eu", workload).workload);
    let verdict =
        |off: bool, place| policy.allows(&Use { account: ACCOUNT, session_tags_off: Some(off), place });
    [
        verdict(false, Some((&prod, &api))),
        verdict(false, Some((&test, &api))),
        verdict(false, Some((&prod, &site))),
        verdict(true, Some((&prod, &api))),
        verdict(false, None),
    ]
}

/// The guide's statement, under a condition.
fn allowing(condition: &str) -> String {
    with(MISSING_STATEMENT, condition)
}

fn with(statement: &str, condition: &str) -> String {
    format!(r#"{},"Condition":{condition}}}"#, statement.strip_suffix('}').unwrap())
}

pub(super) fn policy(statements: &[&str]) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
}

#[test]
fn policies_are_judged_by_meaning() {
    let plain = format!(r#"{{"Statement":[{MISSING_STATEMENT}]}}"#);
    let cases: &[(&str, &str, Option<&str>)] = &[
        ("the user guide's own", &plain, None),
        (
            "two statements, strings, another order",
            r#"{"Statement":[
                {"Action":"sts:tagsession","Effect":"Allow","Principal":{"Service":["ec2.amazonaws.com","pods.eks.amazonaws.com"]}},
                {"Action":"sts:AssumeRole","Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"}}]}"#,
            None,
        ),
        (
            "one statement, not in a list, with wildcards",
            r#"{"Statement":{"Action":"sts:*","Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"}}}"#,
            None,
        ),
        (
            "anyone",
            r#"{"Statement":{"Action":["sts:A*e","sts:Tag?ession"],"Effect":"Allow","Principal":"*"}}"#,
            None,
        ),
        (
            "no TagSession",
            r#"{"Statement":{"Action":"sts:AssumeRole","Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"}}}"#,
            Some("does not allow sts:TagSession to pods.eks.amazonaws.com; add the statement"),
        ),
        (
            "another service",
            r#"{"Statement":{"Action":"sts:*","Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"}}}"#,
            Some("does not allow sts:AssumeRole and sts:TagSession"),
        ),
        (
            "a user, not a service",
            r#"{"Statement":{"Action":"sts:*","Effect":"Allow","Principal":{"AWS":"*"}}}"#,
            Some("does not allow"),
        ),
        (
            "denied again",
            &format!(
                r#"{{"Statement":[{MISSING_STATEMENT},{{"Effect":"Deny","Principal":"*","Action":"sts:TagSession"}}]}}"#
            ),
            Some("denies sts:TagSession"),
        ),
        (
            "denied under a condition",
            &format!(
                r#"{{"Statement":[{MISSING_STATEMENT},{{"Effect":"Deny","Principal":"*","Action":"sts:*","Condition":{{"Bool":{{"aws:SecureTransport":"false"}}}}}}]}}"#
            ),
            None,
        ),
        ("empty", "{}", Some("does not allow")),
        ("not JSON", "nonsense", Some("is not JSON")),
        ("statements of the wrong kind", r#"{"Statement":[1,"x",null,[]]}"#, Some("does not allow")),
    ];
    for (name, policy, expected) in cases {
        match (allows_pods(policy), expected) {
            (Ok(()), None) => {}
            (Err(problem), Some(part)) => assert!(problem.contains(part), "{name}: {problem}"),
            (verdict, _) => panic!("{name}: {verdict:?}"),
        }
    }
}

#[test]
fn the_statement_we_ask_for_satisfies_us() {
    allows_pods(&format!(r#"{{"Statement":{MISSING_STATEMENT}}}"#)).unwrap();
}

pub(super) const DENY: &str = r#"{"Effect":"Deny","Principal":"*","Action":"sts:*"}"#;
const PROD: &str = "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu";
const TEST: &str = "arn:aws:eks:eu-west-1:111122223333:cluster/test-eu";
pub(super) const OIDC: &str = r#"{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE:sub":"system:serviceaccount:payments:api","oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE:aud":"sts.amazonaws.com"}}}"#;

/// `+` where the use is allowed, in the order of [`verdicts`].
#[test]
fn conditions_are_judged_for_the_use() {
    let under = |condition: &str| policy(&[&allowing(condition)]);
    let denied = |condition: &str| policy(&[MISSING_STATEMENT, &with(DENY, condition)]);
    let only = |statement: &str| policy(&[statement]);
    let arn = |operator: &str, arn: &str| format!(r#"{{"{operator}":{{"aws:SourceArn":"{arn}"}}}}"#);
    let tag = |operator: &str, tag: &str, value: &str| {
        format!(r#"{{"{operator}":{{"aws:RequestTag/{tag}":"{value}"}}}}"#)
    };
    let namespace = |operator: &str, value: &str| tag(operator, "kubernetes-namespace", value);
    let cases = [
        // EKS user guide, "Pod Identity role".
        ("the guide's own", only(MISSING_STATEMENT), "+++++"),
        (
            "the guide's, for one service account",
            under(
                r#"{"StringEquals":{"aws:RequestTag/kubernetes-namespace":["payments"],"aws:RequestTag/kubernetes-service-account":["api"]}}"#,
            ),
            "++--+",
        ),
        // EKS user guide, "Target IAM Roles": the tags that its target role asks for.
        (
            "one service account on one cluster",
            under(&format!(
                r#"{{"StringEquals":{{"aws:RequestTag/eks-cluster-arn":"{PROD}","aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":"api"}}}}"#
            )),
            "+---+",
        ),
        (
            "a target role of another account, which no pods principal is named in",
            only(
                r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"ArnEquals":{"aws:PrincipalARN":"arn:aws:iam::111122223333:role/primary"}}}"#,
            ),
            "-----",
        ),
        // terraform-aws-modules/terraform-aws-eks#3743 tried the cluster's ARN on a real cluster.
        (
            "no confused deputy: account and cluster",
            under(&format!(
                r#"{{"StringEquals":{{"aws:SourceAccount":"{ACCOUNT}"}},"ArnLike":{{"aws:SourceArn":"{PROD}"}}}}"#
            )),
            "+-+++",
        ),
        (
            "any cluster of the account",
            under(&arn("ArnLike", "arn:aws:eks:*:111122223333:cluster/*")),
            "+++++",
        ),
        ("another account", under(r#"{"StringEquals":{"aws:SourceAccount":"222233334444"}}"#), "-----"),
        // As terraform-aws-modules/terraform-aws-eks-pod-identity#11 asks for.
        ("an organization", under(r#"{"StringEquals":{"aws:SourceOrgId":"o-example"}}"#), "+++++"),
        (
            "an organization's paths",
            under(r#"{"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":"o-x/*"}}"#),
            "+++++",
        ),
        // awslabs/mountpoint-s3-csi-driver#781: pods got no credentials.
        (
            "the association's ARN",
            under(&arn("ArnLike", "arn:aws:eks:*:111122223333:podidentityassociation/prod-eu/*")),
            "----+",
        ),
        // aws-samples/sample-eks-nitro-sandbox.
        (
            "account, cluster's name and service account",
            under(
                r#"{"StringEquals":{"aws:SourceAccount":"111122223333","aws:RequestTag/eks-cluster-name":"prod-eu","aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":"api"}}"#,
            ),
            "+---+",
        ),
        // Principals.
        ("IRSA (EKS user guide, IAM roles for service accounts)", only(OIDC), "-----"),
        ("IRSA and Pod Identity", policy(&[OIDC, MISSING_STATEMENT]), "+++++"),
        (
            "ec2 and pods",
            only(
                r#"{"Effect":"Allow","Principal":{"Service":["ec2.amazonaws.com","pods.eks.amazonaws.com"]},"Action":["sts:AssumeRole","sts:TagSession"]}"#,
            ),
            "+++++",
        ),
        ("eksctl's twins", policy(&[MISSING_STATEMENT, MISSING_STATEMENT]), "+++++"),
        (
            "everyone but ec2 names nobody",
            only(r#"{"Effect":"Allow","NotPrincipal":{"Service":"ec2.amazonaws.com"},"Action":"sts:*"}"#),
            "-----",
        ),
        (
            "everyone but an account is denied",
            policy(&[
                MISSING_STATEMENT,
                r#"{"Effect":"Deny","NotPrincipal":{"AWS":"111122223333"},"Action":"sts:*"}"#,
            ]),
            "-----",
        ),
        (
            "everyone but pods is denied",
            policy(&[
                MISSING_STATEMENT,
                r#"{"Effect":"Deny","NotPrincipal":{"Service":["pods.eks.amazonaws.com"]},"Action":"sts:*"}"#,
            ]),
            "+++++",
        ),
        (
            "nobody is denied, or we can't tell who",
            policy(&[MISSING_STATEMENT, r#"{"Effect":"Deny","NotPrincipal":{"AWS":"*"},"Action":"sts:*"}"#]),
            "+++++",
        ),
        // Actions.
        (
            "all actions but one of others",
            only(
                r#"{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"NotAction":"sts:AssumeRoleWithSAML"}"#,
            ),
            "+++++",
        ),
        (
            "all actions but TagSession",
            only(
                r#"{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"NotAction":["STS:tag*"]}"#,
            ),
            "-----",
        ),
        (
            "what pods do not need is denied",
            policy(&[
                MISSING_STATEMENT,
                r#"{"Effect":"Deny","Principal":"*","NotAction":["sts:AssumeRole","sts:TagSession"]}"#,
            ]),
            "+++++",
        ),
        (
            "TagSession under a condition of its own",
            policy(&[
                r#"{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":"sts:AssumeRole"}"#,
                &with(
                    r#"{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":"sts:TagSession"}"#,
                    &namespace("StringEquals", "payments"),
                ),
            ]),
            "++--+",
        ),
        // Several statements: one that holds will do.
        (
            "a statement for each cluster",
            policy(&[&allowing(&arn("ArnEquals", PROD)), &allowing(&arn("ArnEquals", TEST))]),
            "+++++",
        ),
        (
            "each cluster for its own namespace",
            policy(&[
                &allowing(&format!(
                    r#"{{"StringEquals":{{"aws:SourceArn":"{PROD}","aws:RequestTag/kubernetes-namespace":"payments"}}}}"#
                )),
                &allowing(&format!(
                    r#"{{"StringEquals":{{"aws:SourceArn":"{TEST}","aws:RequestTag/kubernetes-namespace":"web"}}}}"#
                )),
            ]),
            "+---+",
        ),
        (
            "under a condition, and without",
            policy(&[&allowing(&arn("ArnEquals", TEST)), MISSING_STATEMENT]),
            "+++++",
        ),
        // Operators.
        ("the cluster's ARN as a string", under(&arn("StringEquals", PROD)), "+-+++"),
        (
            "operators and keys in any case",
            under(&format!(
                r#"{{"stringEQUALS":{{"AWS:sourcearn":"{PROD}"}},"Null":{{"aws:requestTag/Kubernetes-Namespace":false}}}}"#
            )),
            "+-+-+",
        ),
        (
            "any of two",
            under(&format!(r#"{{"StringEquals":{{"aws:SourceArn":["{PROD}","{TEST}"]}}}}"#)),
            "+++++",
        ),
        ("all but one", under(&arn("StringNotEquals", PROD)), "-+--+"),
        (
            "none of two",
            under(&format!(r#"{{"StringNotEquals":{{"aws:SourceArn":["{PROD}","{TEST}"]}}}}"#)),
            "----+",
        ),
        (
            "ArnEquals takes patterns",
            under(&arn("ArnEquals", "arn:aws:eks:eu-?est-1:*:cluster/prod-*")),
            "+-+++",
        ),
        ("ArnNotLike", under(&arn("ArnNotLike", "arn:*:eks:*:*:cluster/prod-*")), "-+--+"),
        (
            "a pattern across an ARN's parts is in doubt",
            under(&arn("ArnLike", "arn:aws:eks:*/prod-eu")),
            "+-+++",
        ),
        ("StringLike", under(&tag("StringLike", "eks-cluster-arn", "arn:*:cluster/prod-??")), "+-+-+"),
        ("StringLike heeds case", under(&namespace("StringLike", "Pay*")), "----+"),
        ("StringNotLike", under(&namespace("StringNotLike", "pay*")), "--+++"),
        ("StringEquals takes no patterns", under(&namespace("StringEquals", "pay*")), "----+"),
        ("StringEqualsIgnoreCase", under(&namespace("StringEqualsIgnoreCase", "PAYMENTS")), "++--+"),
        ("StringNotEqualsIgnoreCase", under(&namespace("StringNotEqualsIgnoreCase", "Web")), "++-++"),
        ("...IfExists", under(&namespace("StringEqualsIfExists", "payments")), "++-++"),
        ("not equal, or not there", under(&namespace("StringNotEquals", "payments")), "--+++"),
        ("there", under(&namespace("Null", "false")), "+++-+"),
        ("not there", under(&namespace("Null", "true")), "---+-"),
        (
            "two operators: both",
            under(
                r#"{"StringEquals":{"aws:SourceAccount":"111122223333"},"StringLike":{"aws:RequestTag/kubernetes-namespace":"w*"}}"#,
            ),
            "--+-+",
        ),
        // Several values under a key.
        (
            "ForAllValues, and all are named",
            under(r#"{"ForAllValues:StringLike":{"aws:TagKeys":["eks-cluster-*","kubernetes-*"]}}"#),
            "+++++",
        ),
        (
            "ForAllValues, and some are not",
            under(r#"{"ForAllValues:StringEquals":{"aws:TagKeys":"eks-cluster-arn"}}"#),
            "---+-",
        ),
        (
            "ForAnyValue",
            under(r#"{"ForAnyValue:StringEquals":{"aws:TagKeys":["team","kubernetes-pod-uid"]}}"#),
            "+++-+",
        ),
        ("ForAnyValue of others", under(r#"{"ForAnyValue:StringEquals":{"aws:TagKeys":["team"]}}"#), "-----"),
        ("no qualifier is in doubt", under(r#"{"StringEquals":{"aws:TagKeys":["team"]}}"#), "+++-+"),
        // What EKS sends, and we do not know.
        ("a pod's name", under(&tag("StringLike", "kubernetes-pod-name", "api-*")), "+++-+"),
        ("any pod's", under(&tag("StringNotLike", "kubernetes-pod-uid", "*")), "---+-"),
        ("a policy variable", under(&namespace("StringEquals", "${aws:PrincipalTag/team}")), "+++-+"),
        ("a tag that EKS never sends", under(&tag("StringEquals", "team", "payments")), "-----"),
        ("the same, if it exists", under(&tag("StringEqualsIfExists", "team", "payments")), "+++++"),
        ("TLS", under(r#"{"Bool":{"aws:SecureTransport":"true"}}"#), "+++++"),
        ("a date", under(r#"{"DateLessThan":{"aws:CurrentTime":"2030-01-01T00:00:00Z"}}"#), "+++++"),
        ("a number in a tag", under(&tag("NumericLessThan", "kubernetes-namespace", "7")), "+++-+"),
        ("an operator that we do not know", under(&arn("StringSoundsLike", TEST)), "+++++"),
        ("a condition that is none", under(r#""x""#), "+++++"),
        ("an operator that holds no keys", under(r#"{"StringEquals":"x"}"#), "+++++"),
        ("no condition at all", under("{}"), "+++++"),
        // Deny wins where it surely applies.
        ("denied but on one cluster", denied(&arn("ArnNotEquals", PROD)), "+-+++"),
        ("denied for a namespace", denied(&namespace("StringEquals", "web")), "++-++"),
        ("denied without tags", denied(&namespace("Null", "true")), "+++-+"),
        (
            "denied to other accounts",
            denied(r#"{"StringNotEquals":{"aws:SourceAccount":"111122223333"}}"#),
            "+++++",
        ),
        ("denied to this one", denied(r#"{"StringEquals":{"aws:SourceAccount":"111122223333"}}"#), "-----"),
        (
            "denied to other organizations",
            denied(r#"{"StringNotEqualsIfExists":{"aws:PrincipalOrgID":"o-x"}}"#),
            "+++++",
        ),
        (
            "denied where both hold",
            denied(&format!(
                r#"{{"ArnEquals":{{"aws:SourceArn":"{PROD}"}},"StringEquals":{{"aws:RequestTag/kubernetes-namespace":"web"}}}}"#
            )),
            "++-++",
        ),
    ];
    for (name, policy, expected) in cases {
        let found = verdicts(&policy);
        let signs: String = found.iter().map(|verdict| if verdict.is_ok() { '+' } else { '-' }).collect();
        assert_eq!(signs, expected, "{name}: {policy}: {found:#?}");
    }
}

#[test]
fn a_refusal_says_what_is_wanted_and_what_is_there() {
    let sid = |condition: &str| {
        with(
            r#"{"Sid":"EksPods","Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}"#,
            condition,
        )
    };
    let prod = allowing(&format!(r#"{{"ArnLike":{{"aws:SourceArn":"{PROD}"}}}}"#));
    let one_account = r#"{"StringEquals":{"aws:RequestTag/kubernetes-namespace":"web","aws:RequestTag/kubernetes-service-account":["site","shop"],"aws:SourceAccount":"222233334444"}}"#;
    let namespace = r#"{"StringEquals":{"aws:RequestTag/kubernetes-namespace":"web"}}"#;
    let many: Vec<String> = ('a'..='g')
        .map(|c| allowing(&format!(r#"{{"ArnLike":{{"aws:SourceArn":"arn:aws:eks:*:*:cluster/{c}"}}}}"#)))
        .collect();
    let only_tags = with(
        r#"{"Effect":"Allow","Principal":"*","Action":"sts:TagSession"}"#,
        r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b","c","d","e","f"]}}"#,
    );
    let only_assume = r#"{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}"#;
    let but_prod = with(DENY, &format!(r#"{{"ArnNotLike":{{"aws:SourceArn":"{PROD}"}}}}"#));
    let shown: Vec<String> = [
        verdicts(&policy(&[OIDC, &prod]))[1].clone(),
        verdicts(&policy(&[&sid(one_account)]))[0].clone(),
        verdicts(&policy(&[&sid(one_account)]))[4].clone(),
        verdicts(&policy(&[&sid(namespace)]))[3].clone(),
        verdicts(&policy(&[&sid(r#"{"StringLike":{"aws:RequestTag/team":"*"}}"#)]))[0].clone(),
        verdicts(&policy(&[&sid(r#"{"Null":{"aws:RequestTag/kubernetes-pod-uid":"true"}}"#)]))[0].clone(),
        verdicts(&policy(&[&only_tags, only_assume]))[0].clone(),
        verdicts(&policy(&many.iter().map(String::as_str).collect::<Vec<_>>()))[0].clone(),
        verdicts(&policy(&[MISSING_STATEMENT, &but_prod]))[1].clone(),
    ]
    .map(Result::unwrap_err)
    .into();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com here: statement 2 wants aws:SourceArn ArnLike "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu" (it is "arn:aws:eks:eu-west-1:111122223333:cluster/test-eu"); mend the condition, or take the grant back
    the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com here: statement "EksPods" wants aws:RequestTag/kubernetes-namespace StringEquals "web" (it is "payments") and aws:RequestTag/kubernetes-service-account StringEquals "site" or "shop" (it is "api") and aws:SourceAccount StringEquals "222233334444" (it is "111122223333"); mend the condition, or take the grant back
    the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com: statement "EksPods" wants aws:SourceAccount StringEquals "222233334444" (it is "111122223333"); mend the condition, or take the grant back
    the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com here: statement "EksPods" wants aws:RequestTag/kubernetes-namespace StringEquals "web" (with session tags off EKS sends none: it can never hold); leave session tags on, or take the condition away
    the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com here: statement "EksPods" wants aws:RequestTag/team StringLike "*" (EKS sends only eks-cluster-arn, eks-cluster-name, kubernetes-namespace, kubernetes-service-account, kubernetes-pod-name, kubernetes-pod-uid); mend the condition, or take the grant back
    the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com here: statement "EksPods" wants aws:RequestTag/kubernetes-pod-uid Null "true" (it is always there); mend the condition, or take the grant back
    the trust policy does not allow sts:TagSession to pods.eks.amazonaws.com here: statement 1 wants aws:TagKeys ForAllValues:StringEquals "a" or "b" or "c" or "d" or 2 more (they are eks-cluster-arn, eks-cluster-name, kubernetes-namespace, kubernetes-service-account, kubernetes-pod-name, kubernetes-pod-uid); mend the condition, or take the grant back
    the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com here: statement 1 wants aws:SourceArn ArnLike "arn:aws:eks:*:*:cluster/a" (it is "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu"); statement 2 wants aws:SourceArn ArnLike "arn:aws:eks:*:*:cluster/b" (it is "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu"); statement 3 wants aws:SourceArn ArnLike "arn:aws:eks:*:*:cluster/c" (it is "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu"); statement 4 wants aws:SourceArn ArnLike "arn:aws:eks:*:*:cluster/d" (it is "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu"); 3 more; mend the condition, or take the grant back
    the trust policy denies sts:AssumeRole to pods.eks.amazonaws.com here: statement 2 applies where aws:SourceArn ArnNotLike "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu" (it is "arn:aws:eks:eu-west-1:111122223333:cluster/test-eu"); mend its conditions, or take it away
    "#);
}

/// JSON that looks like a policy here and there.
pub(super) fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "Statement",
        "Effect",
        "Allow",
        "Deny",
        "Principal",
        "NotPrincipal",
        "Service",
        "AWS",
        "*",
        "pods.eks.amazonaws.com",
        "Action",
        "NotAction",
        "sts:AssumeRole",
        "sts:TagSession",
        "sts:*",
        "Condition",
        "StringEquals",
        "StringLike",
        "ArnLike",
        "ForAllValues:StringNotLikeIfExists",
        "Null",
        "Bool",
        "aws:SourceArn",
        "aws:TagKeys",
        "aws:RequestTag/kubernetes-namespace",
        "Sid",
        "true",
        "${x",
        "?é",
        "",
    ])
    .prop_map(str::to_owned);
    let leaf = prop_oneof![
        4 => word.clone().prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(word.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_condition() -> impl Strategy<Value = Value> {
    let operator = prop::sample::select(vec![
        "StringEquals",
        "StringNotEquals",
        "StringLike",
        "StringNotLike",
        "StringEqualsIfExists",
        "ArnLike",
        "ArnNotEquals",
        "ForAnyValue:StringLike",
        "ForAllValues:StringEquals",
        "Null",
        "Bool",
    ]);
    let key = prop::sample::select(vec![
        "aws:SourceArn",
        "aws:SourceAccount",
        "aws:RequestTag/kubernetes-namespace",
        "aws:RequestTag/eks-cluster-name",
        "aws:RequestTag/kubernetes-pod-name",
        "aws:RequestTag/team",
        "aws:TagKeys",
        "aws:PrincipalOrgID",
    ]);
    let values = prop::sample::subsequence(
        vec![PROD, ACCOUNT, "payments", "web", "prod-eu", "*", "eks-cluster-arn", "true", "false", "${x}"],
        1..4,
    );
    prop::collection::btree_map(
        operator,
        prop::collection::btree_map(key, values.prop_map(|values| json!(values)), 1..3),
        0..3,
    )
    .prop_map(|condition| json!(condition))
}

pub(super) fn any_statement() -> impl Strategy<Value = Value> {
    let action =
        prop::sample::select(vec!["sts:AssumeRole", "sts:TagSession", "sts:*", "*", "sts:SetSourceIdentity"]);
    let principal = prop::sample::select(vec![
        json!("*"),
        json!({"Service": "pods.eks.amazonaws.com"}),
        json!({"Service": ["ec2.amazonaws.com", "pods.eks.amazonaws.com"]}),
        json!({"Service": "ec2.amazonaws.com"}),
    ]);
    (
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
        principal,
        prop::bool::weighted(0.1),
        prop::collection::vec(action, 1..3),
        prop::option::of(any_condition()),
    )
        .prop_map(|(denies, others, principal, not, actions, condition)| {
            let mut statement = json!({ "Effect": if denies { "Deny" } else { "Allow" } });
            statement[if others { "NotPrincipal" } else { "Principal" }] = principal;
            statement[if not { "NotAction" } else { "Action" }] = json!(actions);
            if let Some(condition) = condition {
                statement["Condition"] = condition;
            }
            statement
        })
}

fn allowed(statements: &[Value]) -> Vec<bool> {
    verdicts(&json!({ "Statement": statements }).to_string()).iter().map(Result::is_ok).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_it_panic(json in any_json(), statement in any_json(), text in any::<String>()) {
        let _ = verdicts(&json.to_string());
        let _ = verdicts(&json!({ "Statement": [statement] }).to_string());
        let _ = verdicts(&json!({ "Statement": { "Effect": "Deny", "Principal": "*", "Action": "*", "Condition": json } }).to_string());
        let _ = verdicts(&text);
    }

    #[test]
    fn another_statement_refuses_nothing_unless_it_denies(
        statements in prop::collection::vec(any_statement(), 1..5), another in any_statement(), at in any::<prop::sample::Index>(),
    ) {
        let before = allowed(&statements);
        let mut more = statements.clone();
        more.insert(at.index(statements.len() + 1), another.clone());
        let denies = another["Effect"] == "Deny";
        for (before, after) in before.into_iter().zip(allowed(&more)) {
            prop_assert!(if denies { before || !after } else { after || !before }, "{:?}", more);
        }
    }

    #[test]
    fn neither_order_nor_case_of_actions_matters(
        (statements, shuffled) in prop::collection::vec(any_statement(), 1..5)
            .prop_flat_map(|statements| (Just(statements.clone()), Just(statements).prop_shuffle()))
    ) {
        prop_assert_eq!(allowed(&statements), allowed(&shuffled));
        let mut shouted = statements.clone();
        for statement in &mut shouted {
            for key in ["Action", "NotAction"] {
                if let Some(actions) = statement.get_mut(key) {
                    *actions = serde_json::from_str(&actions.to_string().to_uppercase()).unwrap();
                }
            }
        }
        let text = |statements| json!({ "Statement": statements }).to_string();
        prop_assert_eq!(verdicts(&text(statements)), verdicts(&text(shouted)));
    }

    /// A role is refused as a whole only where each of its uses is.
    #[test]
    fn what_no_place_could_meet_no_place_meets(statements in prop::collection::vec(any_statement(), 1..5)) {
        let text = json!({ "Statement": statements }).to_string();
        let [here, there, other, off, anywhere] = verdicts(&text);
        prop_assert!(anywhere.is_ok() || (here.is_err() && there.is_err() && other.is_err()), "{}", text);
        let unsettled = Use { account: ACCOUNT, session_tags_off: None, place: None };
        let unsettled = TrustPolicy::read(&text).allows(&unsettled);
        prop_assert!(unsettled.is_ok() || (anywhere.is_err() && off.is_err()), "{}", text);
    }
}
