use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::json;

use super::super::tests::{DENY, OIDC, any_json, any_statement, policy};
use super::*;
use crate::Workload;
use crate::fixtures::{cluster, role};
use crate::model::Cluster;
use crate::{RoleTags, TagKeys};

/// What a role of these tags wants, wherever its grants find a cluster.
#[derive(Debug)]
struct Asked {
    role: RoleArn,
    grants: Vec<Grant>,
    session_tags_off: bool,
    in_doubt: bool,
    places: Vec<(Cluster, Workload)>,
}

fn asked(value: &str) -> Asked {
    let role = role("payments").grant(value);
    let (tags, problems) = RoleTags::parse(&TagKeys::default(), &role.tags);
    let clusters = ["prod-eu", "test-eu", "us-east-1/prod-eu"].map(cluster);
    let places = tags.grants.iter().flat_map(|grant| {
        let matching = clusters.iter().filter(|cluster| grant.subject.clusters.matches(cluster));
        matching.filter_map(|cluster| Some((cluster.clone(), grant.subject.workload()?))).collect::<Vec<_>>()
    });
    Asked {
        places: places.collect(),
        role: role.arn,
        grants: tags.grants,
        session_tags_off: false,
        in_doubt: !problems.is_empty(),
    }
}

impl Asked {
    fn without_session_tags(self) -> Self {
        Self { session_tags_off: true, ..self }
    }

    fn wanted(&self) -> Wanted<'_> {
        let usage = |place| Use {
            account: self.role.account(),
            session_tags_off: Some(self.session_tags_off),
            place: Some(place),
        };
        Wanted {
            role: &self.role,
            session_tags_off: self.session_tags_off,
            grants: &self.grants,
            in_doubt: self.in_doubt,
            uses: self.places.iter().map(|(cluster, workload)| usage((cluster, workload))).collect(),
        }
    }

    fn amended(&self, policy: &str) -> Result<Option<String>, String> {
        amended(policy, &self.wanted())
    }

    /// The policy as it is after a pass.
    fn passed(&self, policy: &str) -> String {
        self.amended(policy).ok().flatten().unwrap_or_else(|| policy.to_owned())
    }

    fn refused(&self, policy: &str) -> Vec<bool> {
        let policy = TrustPolicy::read(policy);
        self.wanted().uses.iter().map(|usage| policy.allows(usage).is_err()).collect()
    }
}

fn statements(policy: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(policy).unwrap();
    one_or_many(document.get("Statement")).into_iter().cloned().collect()
}

fn ours(policy: &str) -> Vec<Value> {
    statements(policy).into_iter().filter(is_ours).collect()
}

/// Statements of ours, one a line.
fn shown(policy: &str) -> String {
    let ours: Vec<String> =
        ours(policy).iter().map(|ours| format!("{} {}\n", ours["Sid"], ours["Condition"])).collect();
    ours.concat()
}

const BARE: &str = r#"{"Version":"2012-10-17","Statement":[]}"#;

#[test]
fn the_document_is_as_people_write_it() {
    let grants = asked("payments/api@prod-eu");
    let policy = policy(&[OIDC]);
    let expected = r#"{"Version":"2012-10-17","Statement":[OIDC,{"Sid":"PodgrantManaged1","Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:eks:*:111122223333:cluster/prod-eu"},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":"api","aws:SourceAccount":"111122223333"}}}]}"#;
    assert_eq!(grants.amended(&policy).unwrap().unwrap(), expected.replace("OIDC", OIDC));
}

#[test]
fn there_is_a_statement_for_each_namespace() {
    let values = [
        "payments/api@prod-eu payments/worker@us-east-1/prod-eu web/site@_",
        // One selector by tags, and any cluster may match it tomorrow.
        "payments/api@prod-eu payments/worker@env=prod",
        "payments/api@prod-eu payments/api@test-eu",
        // Patterns as IAM writes them.
        "payments/api@prod-eu payments/job-_@prod-eu batch_/x@_ _/_@_",
    ];
    let lines: Vec<String> = values
        .iter()
        .map(|value| {
            let mut asked = asked(value);
            // Tags that no cluster here carries: as if one did.
            asked.places.push((cluster("prod-eu"), asked.grants[0].subject.workload().unwrap()));
            let policy = asked.passed(BARE);
            format!("{value}\n{}", shown(&policy))
        })
        .collect();
    assert_snapshot!(lines.concat(), @r#"
    payments/api@prod-eu payments/worker@us-east-1/prod-eu web/site@_
    "PodgrantManaged1" {"ArnLike":{"aws:SourceArn":["arn:aws:eks:*:111122223333:cluster/prod-eu","arn:aws:eks:us-east-1:111122223333:cluster/prod-eu"]},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":["api","worker"],"aws:SourceAccount":"111122223333"}}
    "PodgrantManaged2" {"StringEquals":{"aws:RequestTag/kubernetes-namespace":"web","aws:RequestTag/kubernetes-service-account":"site","aws:SourceAccount":"111122223333"}}
    payments/api@prod-eu payments/worker@env=prod
    "PodgrantManaged1" {"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":["api","worker"],"aws:SourceAccount":"111122223333"}}
    payments/api@prod-eu payments/api@test-eu
    "PodgrantManaged1" {"ArnLike":{"aws:SourceArn":["arn:aws:eks:*:111122223333:cluster/prod-eu","arn:aws:eks:*:111122223333:cluster/test-eu"]},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":"api","aws:SourceAccount":"111122223333"}}
    payments/api@prod-eu payments/job-_@prod-eu batch_/x@_ _/_@_
    "PodgrantManaged1" {"ArnLike":{"aws:SourceArn":"arn:aws:eks:*:111122223333:cluster/prod-eu"},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:SourceAccount":"111122223333"},"StringLike":{"aws:RequestTag/kubernetes-service-account":["api","job-*"]}}
    "PodgrantManaged2" {"StringEquals":{"aws:SourceAccount":"111122223333"},"StringLike":{"aws:RequestTag/kubernetes-namespace":"*","aws:RequestTag/kubernetes-service-account":"*"}}
    "PodgrantManaged3" {"StringEquals":{"aws:RequestTag/kubernetes-service-account":"x","aws:SourceAccount":"111122223333"},"StringLike":{"aws:RequestTag/kubernetes-namespace":"batch*"}}
    "#);
    // Nothing tells namespaces apart without session tags: one statement for all, and never twins.
    let off = |value: &str| shown(&asked(value).without_session_tags().passed(BARE));
    assert_snapshot!(off("payments/api@prod-eu web/site@test-eu"), @r#""PodgrantManaged1" {"ArnLike":{"aws:SourceArn":["arn:aws:eks:*:111122223333:cluster/prod-eu","arn:aws:eks:*:111122223333:cluster/test-eu"]},"StringEquals":{"aws:SourceAccount":"111122223333"}}"#);
    assert_snapshot!(off("payments/api@prod-eu web/site@_"), @r#""PodgrantManaged1" {"StringEquals":{"aws:SourceAccount":"111122223333"}}"#);
}

#[test]
fn the_partition_is_the_roles_own() {
    let mut china = asked("payments/api@cn-north-1/prod");
    china.role = "arn:aws-cn:iam::111122223333:role/payments".parse().unwrap();
    let mut there = cluster("cn-north-1/prod");
    there.arn = "arn:aws-cn:eks:cn-north-1:111122223333:cluster/prod".to_owned();
    china.places.push((there, china.grants[0].subject.workload().unwrap()));
    assert_snapshot!(shown(&china.passed(BARE)), @r#""PodgrantManaged1" {"ArnLike":{"aws:SourceArn":"arn:aws-cn:eks:cn-north-1:111122223333:cluster/prod"},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":"api","aws:SourceAccount":"111122223333"}}"#);
}

#[test]
fn what_is_allowed_already_is_left_alone() {
    let grants = asked("payments/api@prod-eu web/site@_");
    // By a statement of somebody else's; ours stay beside it, needed or not.
    let enough = policy(&[MISSING_STATEMENT]);
    assert_eq!(grants.amended(&enough), Ok(None));
    let ours = grants.passed(BARE);
    assert_eq!(grants.amended(&ours), Ok(None));
    let fewer = asked("payments/api@prod-eu");
    assert_eq!(fewer.amended(&ours), Ok(None));
    // As IAM may give it back: other order, other lists.
    let same = r#"{"Statement":{"Action":["sts:TagSession","sts:AssumeRole"],"Condition":{"StringEquals":{"aws:sourceaccount":["111122223333"]}},"Effect":"Allow","Principal":{"Service":["pods.eks.amazonaws.com"]},"Sid":"PodgrantManaged1"}}"#;
    assert_eq!(grants.amended(same), Ok(None));
    // Nobody asks for anything.
    assert_eq!(asked("payments/job-_@_").amended(&ours), Ok(None));
}

#[test]
fn ours_follow_the_grants_when_one_of_them_needs_it() {
    let before = asked("payments/api@prod-eu web/site@_").passed(&policy(&[OIDC]));
    let after = asked("payments/worker@prod-eu ops/x@test-eu").passed(&before);
    assert_snapshot!(shown(&before), @r#"
    "PodgrantManaged1" {"ArnLike":{"aws:SourceArn":"arn:aws:eks:*:111122223333:cluster/prod-eu"},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":"api","aws:SourceAccount":"111122223333"}}
    "PodgrantManaged2" {"StringEquals":{"aws:RequestTag/kubernetes-namespace":"web","aws:RequestTag/kubernetes-service-account":"site","aws:SourceAccount":"111122223333"}}
    "#);
    assert_snapshot!(shown(&after), @r#"
    "PodgrantManaged1" {"ArnLike":{"aws:SourceArn":"arn:aws:eks:*:111122223333:cluster/test-eu"},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"ops","aws:RequestTag/kubernetes-service-account":"x","aws:SourceAccount":"111122223333"}}
    "PodgrantManaged2" {"ArnLike":{"aws:SourceArn":"arn:aws:eks:*:111122223333:cluster/prod-eu"},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":"worker","aws:SourceAccount":"111122223333"}}
    "#);
    assert_eq!(statements(&after)[0], serde_json::from_str::<Value>(OIDC).unwrap());
    // Without session tags, conditions on them would hold nobody any more.
    let off = asked("payments/worker@prod-eu").without_session_tags().passed(&after);
    assert_snapshot!(shown(&off), @r#""PodgrantManaged1" {"ArnLike":{"aws:SourceArn":"arn:aws:eks:*:111122223333:cluster/prod-eu"},"StringEquals":{"aws:SourceAccount":"111122223333"}}"#);
}

#[test]
fn in_doubt_nothing_is_taken_out() {
    let before = asked("payments/api@prod-eu web/site@_").passed(BARE);
    // The first part lost its clusters: what it made stays, and so must its trust.
    let mistyped = asked("payments/api ops/x@test-eu").passed(&before);
    assert_snapshot!(shown(&mistyped), @r#"
    "PodgrantManaged1" {"ArnLike":{"aws:SourceArn":"arn:aws:eks:*:111122223333:cluster/prod-eu"},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":"api","aws:SourceAccount":"111122223333"}}
    "PodgrantManaged2" {"StringEquals":{"aws:RequestTag/kubernetes-namespace":"web","aws:RequestTag/kubernetes-service-account":"site","aws:SourceAccount":"111122223333"}}
    "PodgrantManaged3" {"ArnLike":{"aws:SourceArn":"arn:aws:eks:*:111122223333:cluster/test-eu"},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"ops","aws:RequestTag/kubernetes-service-account":"x","aws:SourceAccount":"111122223333"}}
    "#);
    // A pattern may mean what an exact grant made.
    let pattern = asked("web/si_@_ ops/x@test-eu").passed(&before);
    assert_eq!(ours(&pattern).len(), 4);
    // What the new ones allow as well is not kept beside them.
    let wider = asked("payments/job-_@_ payments/api@prod-eu payments/worker@test-eu").passed(&before);
    assert_snapshot!(shown(&wider), @r#"
    "PodgrantManaged1" {"ArnLike":{"aws:SourceArn":"arn:aws:eks:*:111122223333:cluster/prod-eu"},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":"api","aws:SourceAccount":"111122223333"}}
    "PodgrantManaged2" {"StringEquals":{"aws:RequestTag/kubernetes-namespace":"web","aws:RequestTag/kubernetes-service-account":"site","aws:SourceAccount":"111122223333"}}
    "PodgrantManaged3" {"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:SourceAccount":"111122223333"},"StringLike":{"aws:RequestTag/kubernetes-service-account":["api","job-*","worker"]}}
    "#);
    // Mended, and again in need: as the grants say.
    let mended = asked("payments/api@prod-eu ops/y@test-eu").passed(&mistyped);
    assert_snapshot!(shown(&mended), @r#"
    "PodgrantManaged1" {"ArnLike":{"aws:SourceArn":"arn:aws:eks:*:111122223333:cluster/test-eu"},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"ops","aws:RequestTag/kubernetes-service-account":"y","aws:SourceAccount":"111122223333"}}
    "PodgrantManaged2" {"ArnLike":{"aws:SourceArn":"arn:aws:eks:*:111122223333:cluster/prod-eu"},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":"api","aws:SourceAccount":"111122223333"}}
    "#);
}

#[test]
fn what_bears_our_name_and_is_not_ours_is_kept() {
    let deny = r#"{"Sid":"PodgrantManaged1","Effect":"Deny","Principal":"*","Action":"sts:*","Condition":{"StringEquals":{"aws:RequestTag/kubernetes-namespace":"ops"}}}"#;
    let others = r#"{"Sid":"PodgrantManaged2","Effect":"Allow","Principal":{"Service":["pods.eks.amazonaws.com","ec2.amazonaws.com"]},"Action":"sts:AssumeRole"}"#;
    let after = asked("payments/api@prod-eu web/site@_").passed(&policy(&[deny, others]));
    let sids: Vec<String> = statements(&after).iter().map(|value| value["Sid"].to_string()).collect();
    assert_eq!(sids, [1, 2, 3, 4].map(|number| format!("\"PodgrantManaged{number}\"")));
    assert!(after.contains(deny) && after.contains(others));
}

#[test]
fn what_is_not_ours_stays_to_the_letter() {
    let odd = "{ \"Sid\" : \"\\u0050odgrant \\\" ] } , \",\n\t\"Condition\":{\"NumericEquals\":{\"x\":[1.0,1E2,123456789012345678901234567890, true ,null]}}, \"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"é\"},\"Action\":[ ] }";
    let ours = r#"{"Sid":"PodgrantManaged7","Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":"sts:AssumeRole"}"#;
    let before = format!(
        "\n{{ \"Statement\" :\n[ {odd} , {ours},{OIDC}]\n, \"Id\":\"x\",\"Version\":\"2008-10-17\" }} "
    );
    let after = asked("payments/api@prod-eu").passed(&before);
    let mine = &ours_text(&after);
    assert_eq!(
        after,
        format!("\n{{ \"Statement\" :\n[{odd},{OIDC},{mine}]\n, \"Id\":\"x\",\"Version\":\"2008-10-17\" }} ")
    );
    assert!(keeps_what_is_not_ours(&before, &after));
    // One statement, not in a list.
    let after = asked("payments/api@prod-eu").passed(&format!("{{\"Statement\":{odd}}}"));
    assert_eq!(after, format!("{{\"Statement\":[{odd},{mine}]}}"));
}

/// The last statement, as text.
fn ours_text(policy: &str) -> String {
    let start = policy.find("{\"Sid\":\"PodgrantManaged").unwrap();
    let end = policy.rfind(']').unwrap();
    policy[start..end].to_owned()
}

#[test]
fn what_is_not_understood_is_not_touched() {
    let long = policy(&[&format!(
        r#"{{"Effect":"Allow","Principal":{{"AWS":"{}"}},"Action":"sts:AssumeRole"}}"#,
        "x".repeat(1_700)
    )]);
    let cases = [
        "nonsense",
        "",
        "[]",
        "{}",
        r#"{"Version":"2012-10-17","Statement":[],}"#,
        r#"{"Version":"2030-01-01","Statement":[]}"#,
        r#"{"Version":2012,"Statement":[]}"#,
        r#"{"Version":"2012-10-17","statement":[]}"#,
        r#"{"Version":"2012-10-17","Statements":[],"Statement":[]}"#,
        r#"{"Statement":[],"Statement":[]}"#,
        r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:X","\u0041ction":"sts:Y"}]}"#,
        r#"{"Statement":[{"Effect":"Deny","Principal":"*","Action":"sts:X","Condition":{"Bool":{"a":"b","a":"c"}}}]}"#,
        r#"{"Statement":"x"}"#,
        r#"{"Statement":[[]]}"#,
        r#"{"Statement":null}"#,
        r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:X"},{"Effect":"allow"}]}"#,
        r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:X","Resource":"*"}]}"#,
        &policy(&[DENY]),
        &policy(&[OIDC, &format!("{},{}", MISSING_STATEMENT, DENY)]),
        &long,
    ];
    let grants = asked("payments/api@prod-eu");
    let lines: Vec<String> = cases
        .iter()
        .map(|policy| {
            let shown: String = policy.chars().take(90).collect();
            format!("{shown}\n    {}\n", grants.amended(policy).unwrap_err())
        })
        .collect();
    assert_snapshot!(lines.concat(), @r#"
    nonsense
        the policy is not JSON (expected ident at line 1 column 2)

        the policy is not JSON (EOF while parsing a value at line 1 column 0)
    []
        the policy is no JSON object
    {}
        it has no Statement
    {"Version":"2012-10-17","Statement":[],}
        the policy is not JSON (trailing comma at line 1 column 40)
    {"Version":"2030-01-01","Statement":[]}
        its Version is not 2012-10-17 or 2008-10-17
    {"Version":2012,"Statement":[]}
        its Version is not 2012-10-17 or 2008-10-17
    {"Version":"2012-10-17","statement":[]}
        it holds an element "statement" that podgrant does not know
    {"Version":"2012-10-17","Statements":[],"Statement":[]}
        it holds an element "Statements" that podgrant does not know
    {"Statement":[],"Statement":[]}
        it holds the key "Statement" twice in one place, and which counts is not known
    {"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:X","\u0041ction":"sts:Y"}]}
        it holds the key "Action" twice in one place, and which counts is not known
    {"Statement":[{"Effect":"Deny","Principal":"*","Action":"sts:X","Condition":{"Bool":{"a":"
        it holds the key "a" twice in one place, and which counts is not known
    {"Statement":"x"}
        its statement 1 is no JSON object
    {"Statement":[[]]}
        its statement 1 is no JSON object
    {"Statement":null}
        its statement 1 is no JSON object
    {"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:X"},{"Effect":"allow"}]}
        its statement 2 neither allows nor denies
    {"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:X","Resource":"*"}]}
        its statement 1 holds an element "Resource" that podgrant does not know in a trust policy
    {"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"sts:*"}]}
        a statement more would not help
    {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"arn:aws:i
        a statement more would not help
    {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"xxxxxxxxxxxxxxx
        with podgrant's statements it would have 2182 characters without white space, and IAM's quota is 2048 (it can be raised to 4096, and podgrant keeps to the default)
    "#);
}

#[test]
fn nesting_has_an_end() {
    let deep = format!(r#"{{"Statement":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(asked("payments/api@prod-eu").amended(&deep).unwrap_err().contains("recursion limit"));
}

#[test]
fn one_grant_that_is_denied_does_not_hold_up_the_others() {
    let not_ops = r#"{"Effect":"Deny","Principal":"*","Action":"sts:*","Condition":{"StringEquals":{"aws:RequestTag/kubernetes-namespace":"ops"}}}"#;
    let grants = asked("ops/x@test-eu payments/api@test-eu");
    let after = grants.amended(&policy(&[not_ops])).unwrap().unwrap();
    assert_eq!(grants.refused(&after), [true, false]);
    assert_eq!(grants.amended(&after), Err("a statement more would not help".to_owned()));
}

#[test]
fn subjects_are_told_in_the_words_of_grants() {
    let grants = asked("payments/api@prod-eu payments/api@eu-west-1/test-eu web/site@_");
    let told: Vec<String> = subjects(&grants.passed(BARE)).into_iter().collect();
    assert_eq!(told, ["payments/api@eu-west-1/test-eu", "payments/api@prod-eu", "web/site@_"]);
    let off: Vec<String> = subjects(&grants.without_session_tags().passed(BARE)).into_iter().collect();
    assert_eq!(off, ["_/_@_"]);
    assert!(subjects("nonsense").is_empty());
}

#[test]
fn anything_that_is_not_ours_is_missed() {
    let before = policy(&[OIDC, DENY]);
    assert!(keeps_what_is_not_ours(&before, &before));
    for after in [
        policy(&[OIDC]),
        policy(&[DENY, OIDC]),
        policy(&[OIDC, DENY, MISSING_STATEMENT]),
        before.replace("2012", "2008"),
        "{}".to_owned(),
        "nonsense".to_owned(),
    ] {
        assert!(!keeps_what_is_not_ours(&before, &after), "{after}");
    }
    assert!(!keeps_what_is_not_ours("nonsense", "nonsense"));
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let subject = (
        prop::sample::select(vec!["payments/api", "payments/worker", "web/site", "web/si_"]),
        prop::sample::select(vec!["prod-eu", "test-eu", "us-east-1/prod-eu", "_"]),
    )
        .prop_map(|(workload, clusters)| format!("{workload}@{clusters}"));
    let subject = prop_oneof![9 => subject, 1 => Just("nonsense".to_owned())];
    (prop::collection::vec(subject, 1..5), prop::bool::weighted(0.2))
        .prop_map(|(subjects, session_tags_off)| Asked { session_tags_off, ..asked(&subjects.join(" ")) })
}

/// Statements of all kinds, some of which bear our name. No Sid stands twice: IAM
/// would not have it.
fn any_policy() -> impl Strategy<Value = String> {
    let named = (any_statement(), any::<bool>(), any::<bool>()).prop_map(|(mut statement, named, pods)| {
        if named && pods {
            statement["Principal"] = json!({"Service": PODS_PRINCIPAL});
        }
        (statement, named)
    });
    prop::collection::vec(named, 0..4).prop_map(|statements| {
        let named = |(number, (mut statement, named)): (usize, (Value, bool))| {
            if named {
                statement["Sid"] = json!(format!("{SID}{number}"));
            }
            statement
        };
        let statements: Vec<Value> = statements.into_iter().enumerate().map(named).collect();
        json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_amended_policy_allows_what_is_wanted_and_keeps_what_is_not_ours(policy in any_policy(), asked in any_asked()) {
        let denies = statements(&policy).iter().any(|statement| statement["Effect"] == "Deny");
        match asked.amended(&policy) {
            Ok(None) => prop_assert!(!asked.refused(&policy).contains(&true)),
            Err(why) => {
                prop_assert!(asked.refused(&policy).contains(&true));
                prop_assert!(denies || why.contains("characters"), "{}: {}", why, policy);
            }
            Ok(Some(after)) => {
                prop_assert!(keeps_what_is_not_ours(&policy, &after), "{}", after);
                prop_assert!(after.len() <= LONGEST);
                let (before, now) = (asked.refused(&policy), asked.refused(&after));
                prop_assert!(before.iter().zip(&now).all(|(before, now)| *before || !now), "{}", after);
                prop_assert!(denies || !now.contains(&true), "{}", after);
                // Never twice.
                let again = asked.amended(&after);
                prop_assert!(if denies { !matches!(again, Ok(Some(_))) } else { again == Ok(None) }, "{:?}", again);
                let taken: Vec<Value> = ours(&after).into_iter().map(|statement| statement["Sid"].clone()).collect();
                let foreign = statements(&after).into_iter().filter(|statement| !is_ours(statement));
                prop_assert!(foreign.map(|statement| statement["Sid"].clone()).all(|sid| !taken.contains(&sid)), "{}", after);
                // What is written is what stands, in podgrant's words.
                let told = subjects(&after);
                for grant in asked.grants.iter().filter(|grant| grant.subject.workload().is_some()) {
                    let [exact, anywhere] = [grant.subject.to_string(), format!("{}@_", grant.subject.workload().unwrap())];
                    prop_assert!(asked.session_tags_off || told.contains(&exact) || told.contains(&anywhere) || asked.in_doubt, "{:?}", told);
                }
            }
        }
    }

    #[test]
    fn however_often_and_in_whatever_order_ours_never_pile_up(
        policy in any_policy(), passes in prop::collection::vec(any_asked(), 1..6),
    ) {
        let mut now = policy.clone();
        for asked in &passes {
            let before = now.clone();
            now = asked.passed(&before);
            prop_assert_eq!(&asked.passed(&now), &now);
            prop_assert!(keeps_what_is_not_ours(&policy, &now));
            if now != before && !asked.wanted().in_doubt() {
                prop_assert_eq!(ours(&now).len(), asked.wanted().statements().len());
            }
            let mine: Vec<String> = ours(&now).iter().map(|statement| statement["Condition"].to_string()).collect();
            let unlike: BTreeSet<&String> = mine.iter().collect();
            // Twins that somebody wrote in our name are not ours to answer for.
            prop_assert!(unlike.len() == mine.len() || ours(&now).iter().any(|statement| ours(&policy).contains(statement)), "{}", now);
        }
    }

    #[test]
    fn nothing_makes_it_panic(json in any_json(), statement in any_json(), text in any::<String>(), asked in any_asked()) {
        for policy in [
            json.to_string(),
            serde_json::to_string_pretty(&json!({ "Statement": [statement, json] })).unwrap(),
            json!({ "Version": "2012-10-17", "Statement": { "Sid": SID, "Effect": "Allow", "Principal": {"Service": PODS_PRINCIPAL}, "Action": json, "Condition": statement } }).to_string(),
            text,
        ] {
            if let Ok(Some(after)) = asked.amended(&policy) {
                prop_assert!(keeps_what_is_not_ours(&policy, &after));
            }
            let _ = subjects(&policy);
            if let Ok(Some(after)) = withdrawn(&policy) {
                prop_assert!(keeps_what_is_not_ours(&policy, &after));
                prop_assert_eq!(withdrawn(&after), Ok(None));
            }
        }
    }

    /// The places that the reader finds are those that serde_json reads.
    #[test]
    fn places_hold_what_they_are_said_to(json in any_json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) }.unwrap();
        let mut reader = Reader { text: &text, at: 0, twice: None };
        let mut open = vec![(reader.node().unwrap(), json)];
        prop_assert_eq!(reader.twice, None);
        while let Some((node, value)) = open.pop() {
            prop_assert_eq!(&serde_json::from_str::<Value>(&text[node.place]).unwrap(), &value);
            match node.inside {
                Inside::Members(members) => open.extend(members.into_iter().map(|(key, node)| (node, value[&key].clone()))),
                Inside::Elements(nodes) => open.extend(nodes.into_iter().zip(value.as_array().unwrap().clone())),
                Inside::Nothing => {}
            }
        }
    }
}

#[test]
fn whoever_else_is_let_in_is_told() {
    let allow = |principal: &str| {
        format!(r#"{{"Statement":{{"Effect":"Allow","Principal":{principal},"Action":"sts:AssumeRole"}}}}"#)
    };
    let pods = r#"{"Service":"pods.eks.amazonaws.com"}"#;
    let beside = |statement: &str| {
        format!(r#"{{"Statement":[{{"Effect":"Allow","Principal":{pods},"Action":"sts:*"}},{statement}]}}"#)
    };
    let let_in = |policy: &str| match others_let_in(policy) {
        Ok(others) => others.into_iter().collect::<Vec<_>>().join(" "),
        Err(why) => format!("? {why}"),
    };
    let cases = [
        (allow(pods), ""),
        (allow(r#"{"Service":["pods.eks.amazonaws.com"]}"#), ""),
        (allow(r#"{"Service":["pods.eks.amazonaws.com","ec2.amazonaws.com"]}"#), "ec2.amazonaws.com"),
        (allow(r#"{"Service":"PODS.eks.amazonaws.com"}"#), "PODS.eks.amazonaws.com"),
        (allow(r#"{"AWS":"pods.eks.amazonaws.com"}"#), "pods.eks.amazonaws.com"),
        (allow(r#""*""#), "*"),
        (allow(r#"{"AWS":"*"}"#), "*"),
        (allow(r#"{"AWS":["111122223333"],"Federated":"saml"}"#), "111122223333 saml"),
        (beside(r#"{"Effect":"Deny","Principal":{"AWS":"*"},"Action":"sts:*"}"#), ""),
        (
            beside(
                r#"{"Effect":"Allow","Principal":{"AWS":"x"},"Action":"sts:*","Condition":{"Bool":{"a":"b"}}}"#,
            ),
            "x",
        ),
        (allow(r#"{"AWS":[1]}"#), "? a statement of it names a principal that is no text"),
        (
            r#"{"Statement":[{"Effect":"Allow","NotPrincipal":{"AWS":"x"},"Action":"sts:*"}]}"#.to_owned(),
            "? a statement of it does not say plainly whom it lets in",
        ),
        (
            r#"{"Statement":[{"Effect":"Allow","Action":"sts:*"}]}"#.to_owned(),
            "? a statement of it does not say plainly whom it lets in",
        ),
        (
            allow(r#"{"AWS":"x"},"Principal":{"Service":"pods.eks.amazonaws.com"}"#),
            "? it holds the key \"Principal\" twice in one place, and which counts is not known",
        ),
        ("{}".to_owned(), "? it has no Statement"),
    ];
    for (policy, expected) in cases {
        assert_eq!(let_in(&policy), expected, "{policy}");
    }
    assert!(others_let_in("").is_err());
}

#[test]
fn ours_are_withdrawn_and_all_else_stays_to_the_letter() {
    let foreign = r#"{ "Sid" : "Nodes\u0041", "Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole" }"#;
    let denied = r#"{"Sid":"PodgrantManagedNot","Effect":"Deny","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":"sts:AssumeRole"}"#;
    let ours = |number: usize| {
        format!(
            r#"{{"Sid":"PodgrantManaged{number}","Effect":"Allow","Principal":{{"Service":"pods.eks.amazonaws.com"}},"Action":["sts:AssumeRole","sts:TagSession"]}}"#
        )
    };
    let (one, two) = (ours(1), ours(2));
    let cases = [
        (format!("{{\"Statement\":[{foreign},{one}]}}"), format!("{{\"Statement\":[{foreign}]}}")),
        (
            format!("{{\n \"Version\" : \"2012-10-17\",\n\"Statement\": [\n  {one} ,\n  {foreign}\n] }} "),
            format!("{{\n \"Version\" : \"2012-10-17\",\n\"Statement\": [\n  {foreign}\n] }} "),
        ),
        (
            format!("{{\"Statement\":[ {one},{foreign} ,\t{two}, {denied}]}}"),
            format!("{{\"Statement\":[ {foreign}, {denied}]}}"),
        ),
        (
            format!("{{\"Statement\":[{foreign},{one} , {two},\n{denied} ],\"Id\":\"x\"}}"),
            format!("{{\"Statement\":[{foreign},\n{denied} ],\"Id\":\"x\"}}"),
        ),
    ];
    for (policy, left) in cases {
        assert_eq!(withdrawn(&policy), Ok(Some(left.clone())), "{policy}");
        assert!(keeps_what_is_not_ours(&policy, &left));
        assert_eq!(withdrawn(&left), Ok(None));
    }
    for none in [
        format!("{{\"Statement\":{foreign}}}"),
        format!("{{\"Statement\":[{denied}]}}"),
        String::new(),
        "{}".to_owned(),
    ] {
        assert_eq!(withdrawn(&none), Ok(None), "{none}");
    }
    for (stays, why) in [
        (format!("{{\"Statement\":{one}}}"), "no other statement"),
        (format!("{{\"Statement\":[{one}, {two}]}}"), "no other statement"),
        (format!("{{\"Unknown\":1,\"Statement\":[{foreign},{one}]}}"), "does not know"),
        (format!("{{\"Id\":\"a\",\"Id\":\"b\",\"Statement\":[{foreign},{one}]}}"), "twice"),
    ] {
        assert!(withdrawn(&stays).unwrap_err().contains(why), "{stays}");
    }
}
