use super::*;

/// A document with one statement that allows.
fn allow(rest: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",{rest}}}]}}"#)
}

fn words(powers: &Powers) -> String {
    match powers {
        Powers::Unread => "unread".to_owned(),
        Powers::Limited => "limited".to_owned(),
        Powers::Everything { policy } => format!("everything by {policy}"),
        Powers::Unclear { policy, problem } => format!("unclear by {policy}: {problem}"),
    }
}

fn by_document(document: &str) -> String {
    words(&Powers::of([], [("inline", document)]))
}

#[test]
fn statements_are_judged_by_what_they_leave_out() {
    let all = "everything by inline";
    let limited = "limited";
    let cases = [
        // Actions and resources that are all there are.
        (r#""Action":"*","Resource":"*""#, all),
        (r#""Action":["*"],"Resource":["*"]"#, all),
        (r#""Action":"*:*","Resource":"*""#, all),
        (r#""Action":"**","Resource":"**""#, all),
        (r#""Action":"*:**","Resource":"*""#, all),
        (r#""Action":"***:*","Resource":"*""#, all),
        (r#""Action":"?*:*","Resource":"*""#, all),
        (r#""Action":["s3:GetObject","*"],"Resource":["arn:aws:s3:::b/*","*"]"#, all),
        (r#""Action":"*","Resource":"arn:*""#, all),
        (r#""Action":"*","Resource":"arn:aws:*""#, all),
        (r#""Action":"*","Resource":"arn:*:*:*:*:*""#, all),
        (r#""Action":"*","Resource":"arn:aws-cn:*:*:*:*""#, all),
        (r#""Action":"*","Resource":"arn:aws:*:*:111122223333:*""#, all),
        (r#""Action":"*","Resource":"arn:*:111122223333:*""#, all),
        (r#""Action":"*","Resource":"arn:aws:*::111122223333:*/*""#, all),
        (r#""Action":"*","Resource":"a*""#, all),
        // Some of them.
        (r#""Action":"s3:*","Resource":"*""#, limited),
        (r#""Action":"iam:*","Resource":"*""#, limited),
        (r#""Action":"*:Get*","Resource":"*""#, limited),
        (r#""Action":["s3:*","ec2:*","iam:*"],"Resource":"*""#, limited),
        (r#""Action":[],"Resource":"*""#, limited),
        (r#""Action":"??:?","Resource":"*""#, limited),
        (r#""Action":"sts:GetCallerIdentity","Resource":"*""#, limited),
        (r#""Action":"*","Resource":"arn:aws:s3:::bucket/*""#, limited),
        (r#""Action":"*","Resource":"arn:aws:s3:::*""#, limited),
        (r#""Action":"*","Resource":"arn:aws:iam::*:*""#, limited),
        (r#""Action":"*","Resource":"arn:aws:*:eu-west-1:*:*""#, limited),
        (r#""Action":"*","Resource":"arn:*s3*""#, limited),
        (r#""Action":"*","Resource":"arn:aws:*:*:*:role/app""#, limited),
        (r#""Action":"*","Resource":"arn:aws:s3:::${*}""#, limited),
        (r#""Action":"*","Resource":[]"#, limited),
        // A condition does not make it harmless.
        (r#""Action":"*","Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"}}"#, all),
        (
            r#""Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"payments"}}"#,
            all,
        ),
        // All but what is named.
        (r#""NotAction":"iam:*","Resource":"*""#, all),
        (r#""NotAction":["iam:*","organizations:*","account:*"],"Resource":"*""#, all),
        (r#""NotAction":[],"Resource":"*""#, all),
        (r#""Action":"*","NotResource":"arn:aws:s3:::secret/*""#, all),
        (r#""NotAction":"iam:*","NotResource":"arn:aws:s3:::secret/*""#, all),
        (r#""NotAction":"s3:DeleteBucket","Resource":"arn:aws:s3:::*""#, limited),
        (r#""NotAction":["s3:*","*"],"Resource":"*""#, limited),
        (r#""Action":"*","NotResource":"*""#, limited),
        (r#""Action":"ec2:CreateVpcEndpoint","NotResource":"arn:aws:ec2:*:*:vpc-endpoint/*""#, limited),
    ];
    for (statement, expected) in cases {
        assert_eq!(by_document(&allow(statement)), expected, "{statement}");
    }
}

#[test]
fn a_document_is_judged_by_its_strongest_statement() {
    let s3 = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#;
    let all = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
    let deny_iam = r#"{"Effect":"Deny","Action":"iam:*","Resource":"*"}"#;
    let deny_others = r#"{"Effect":"Deny","NotAction":"s3:*","Resource":"*"}"#;
    let senseless = r#"{"Effect":"allow","Action":"*","Resource":"*"}"#;
    let cases = [
        (format!("[{s3},{all}]"), "everything by inline"),
        (all.to_owned(), "everything by inline"),
        (format!("[{s3}]"), "limited"),
        ("[]".to_owned(), "limited"),
        // What a Deny takes away may come back.
        (format!("[{all},{deny_iam}]"), "everything by inline"),
        (format!("[{deny_iam},{deny_others}]"), "limited"),
        // What makes no sense hides nothing that does.
        (format!("[{senseless},{all}]"), "everything by inline"),
        (format!("[{s3},{senseless}]"), "unclear by inline: a statement lacks the Effect Allow or Deny"),
    ];
    for (statements, expected) in cases {
        assert_eq!(by_document(&format!(r#"{{"Statement":{statements}}}"#)), expected, "{statements}");
    }
}

#[test]
fn what_makes_no_sense_is_not_called_limited() {
    let cases = [
        ("", "it is not JSON: EOF while parsing a value at line 1 column 0"),
        // Percent-encoded, as IAM sends it.
        ("%7B%22Statement%22%3A%5B%5D%7D", "it is not JSON: expected value at line 1 column 1"),
        ("{}", "it has no Statement"),
        ("[]", "it has no Statement"),
        (r#"{"Statement":"*"}"#, "it has no Statement"),
        (r#"{"Statement":["*"]}"#, "a statement lacks the Effect Allow or Deny"),
    ];
    for (document, problem) in cases {
        assert_eq!(by_document(document), format!("unclear by inline: {problem}"), "{document}");
    }
    let cases = [
        (r#""Resource":"*""#, "a statement has neither Action nor NotAction"),
        (r#""Action":"*""#, "a statement has neither Resource nor NotResource"),
        (r#""Action":"s3:*","NotAction":"*","Resource":"*""#, "a statement has both Action and NotAction"),
        (r#""Action":1,"Resource":"*""#, "Action is neither text nor list"),
        (r#""Action":"*","Resource":[{}]"#, "Resource holds what is no text"),
    ];
    for (statement, problem) in cases {
        assert_eq!(by_document(&allow(statement)), format!("unclear by inline: {problem}"), "{statement}");
    }
}

#[test]
fn a_role_has_what_any_of_its_policies_gives() {
    let all = allow(r#""Action":"*","Resource":"*""#);
    let s3 = allow(r#""Action":"s3:*","Resource":"*""#);
    const MINE: &str = "arn:aws:iam::111122223333:policy/teams/mine";
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 17] = [
        (&[], &[], "limited"),
        (&["arn:aws:iam::aws:policy/AdministratorAccess"], &[], "everything by AdministratorAccess"),
        (&["arn:aws-cn:iam::aws:policy/AdministratorAccess"], &[], "everything by AdministratorAccess"),
        (&["arn:aws-us-gov:iam::aws:policy/AdministratorAccess"], &[], "everything by AdministratorAccess"),
        (&["arn:aws:iam::aws:policy/PowerUserAccess"], &[], "everything by PowerUserAccess"),
        (&["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"], &[], "limited"),
        (&["arn:aws:iam::aws:policy/AdministratorAccess-Amplify"], &[], "limited"),
        (&["arn:aws:iam::aws:policy/job-function/SystemAdministrator"], &[], "limited"),
        (
            &[
                "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess",
                "arn:aws:iam::aws:policy/AdministratorAccess",
            ],
            &[],
            "everything by AdministratorAccess",
        ),
        // One's own policy, by whatever name, is what its document says.
        (&["arn:aws:iam::111122223333:policy/AdministratorAccess"], &[], "unread"),
        (&[MINE], &[], "unread"),
        (&[MINE], &[(MINE, &s3)], "limited"),
        (&[MINE], &[(MINE, &all)], "everything by mine"),
        (&[MINE], &[("mine", &s3)], "unread"),
        // What is known for the worst is not unread, and what makes no sense is told.
        (&[MINE], &[("inline", &all)], "everything by inline"),
        (&[MINE], &[("inline", "{}")], "unclear by inline: it has no Statement"),
        (&[], &[("broken", "{}"), ("inline", &all)], "everything by inline"),
    ];
    for (attached, documents, expected) in cases {
        let powers = Powers::of(attached.iter().copied(), documents.iter().copied());
        assert_eq!(words(&powers), expected, "{attached:?} {documents:?}");
    }
}

#[test]
fn no_document_makes_it_panic() {
    use proptest::prelude::*;
    let piece = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\"*\""),
        Just("\"Statement\""),
        Just("\"Effect\""),
        Just("\"Allow\""),
        Just("\"Action\""),
        Just("\"Resource\""),
        Just("1"),
    ];
    proptest!(|(pieces in prop::collection::vec(piece, 0..20), text in ".*", pattern in "[arn:*?/0-9ws]*")| {
        let _ = by_document(&pieces.concat());
        let _ = by_document(&text);
        let _ = (is_every_action(&pattern), is_every_resource(&pattern), aws_managed(&text));
    });
}

#[test]
fn an_action_is_allowed_by_name_by_pattern_or_by_what_is_left_out() {
    let rows = [
        (
            r#"{"Statement":{"Effect":"Allow","Action":"eks-auth:AssumeRoleForPodIdentity","Resource":"*"}}"#,
            true,
        ),
        (r#"{"Statement":[{"Effect":"Allow","Action":["s3:*","eks-auth:*"],"Resource":"*"}]}"#, true),
        (r#"{"Statement":[{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}]}"#, true),
        (r#"{"Statement":[{"Effect":"Allow","Action":"eks:*","Resource":"*"}]}"#, false),
        (r#"{"Statement":[{"Effect":"Deny","Action":"eks-auth:*","Resource":"*"}]}"#, false),
        (r#"{"Statement":[{"Effect":"Allow","NotAction":"eks-auth:*","Resource":"*"}]}"#, false),
        ("no JSON", false),
        ("{}", false),
    ];
    for (document, allowed) in rows {
        assert_eq!(may_allow(document, "eks-auth:AssumeRoleForPodIdentity"), allowed, "{document}");
    }
}
