use proptest::prelude::*;

use super::*;

#[test]
fn subjects_read_and_print() {
    // (text, canonical text)
    let cases = [
        ("payments/api@prod-eu", "payments/api@prod-eu"),
        ("payments/api.v2@Prod_EU", "payments/api.v2@Prod_EU"),
        ("batch/job-_@env=prod", "batch/job-_@env=prod"),
        ("reports/_@eu-west-1/analytics", "reports/_@eu-west-1/analytics"),
        ("_/_@_", "_/_@_"),
        ("team-_/api_@_", "team-_/api_@_"),
        ("a/b._@tier=gold+env=prod", "a/b._@env=prod+tier=gold"),
        ("a/b@kubernetes.io/cluster/x=owned", "a/b@kubernetes.io/cluster/x=owned"),
        ("a/b@owner=a@b.c", "a/b@owner=a@b.c"),
        ("a/b@équipe=été", "a/b@équipe=été"),
    ];
    for (text, printed) in cases {
        let subject: Subject = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(subject.to_string(), printed);
        assert_eq!(printed.parse::<Subject>().unwrap(), subject);
    }
}

#[test]
fn errors_say_where_and_what_was_expected() {
    let cases = [
        "payments/api",
        "payments@prod-eu",
        "payments",
        "/api@prod-eu",
        "payments/@prod-eu",
        "Payments/api@prod-eu",
        "payments/api*@prod-eu",
        "pay_ments/api@prod-eu",
        "payments-/api@prod-eu",
        "-_/api@prod-eu",
        "payments/api..v2@prod-eu",
        "payments/a.-_@prod-eu",
        "payments/api@",
        "payments/api@-prod",
        "payments/api@prod.eu",
        "payments/api@europe/prod-eu",
        "payments/api@eu-west-1/",
        "payments/api@eu-west-1/_",
        "payments/api@env=",
        "payments/api@env=_",
        "payments/api@=prod",
        "payments/api@env=prod+tier",
        "payments/api@env=prod=x",
        "payments/api@env=prod+env=test",
        "payments/api@env=prod+",
        "été/api@prod-eu",
    ];
    let shown: Vec<String> =
        cases.iter().map(|text| format!("{text}\n    {}", text.parse::<Subject>().unwrap_err())).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn names_that_are_too_long_are_refused() {
    let at_most = |namespace: usize, account: usize| {
        format!("{}/{}@c", "n".repeat(namespace), "s".repeat(account)).parse::<Subject>()
    };
    assert!(at_most(63, 253 - 190).is_ok());
    assert!(at_most(64, 1).unwrap_err().to_string().contains("at most 63"));
    assert!(at_most(1, 254).unwrap_err().to_string().contains("at most 253"));
}

#[test]
fn columns_count_characters_from_the_beginning_of_the_value() {
    let subjects = parse_subjects("  payments/api@prod-eu   payments/Api@x é");
    let errors: Vec<String> = subjects.into_iter().filter_map(Result::err).map(|e| e.to_string()).collect();
    assert_eq!(errors.len(), 2);
    assert!(errors[0].starts_with("column 35: "), "{}", errors[0]);
    assert!(errors[1].starts_with("column 42: "), "{}", errors[1]);
}

#[test]
fn selectors_match_clusters() {
    let cluster = crate::fixtures::cluster("prod-eu").tagged("env", "prod").tagged("tier", "gold");
    let cases = [
        ("_", true),
        ("prod-eu", true),
        ("prod-e", false),
        ("prod-eu-2", false),
        ("eu-west-1/prod-eu", true),
        ("eu-west-2/prod-eu", false),
        ("env=prod", true),
        ("env=prod+tier=gold", true),
        ("env=prod+tier=silver", false),
        ("env=Prod", false),
        ("stage=prod", false),
    ];
    for (selector, expected) in cases {
        let subject: Subject = format!("a/b@{selector}").parse().unwrap();
        assert_eq!(subject.clusters.matches(&cluster), expected, "{selector}");
    }
}

const LABEL: &str = "[a-z0-9]([a-z0-9-]{0,12}[a-z0-9])?";

fn pattern(name: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        name,
        Just("_".to_owned()),
        name.prop_map(|name| format!("{name}_")),
        LABEL.prop_map(|name| format!("{name}-_")),
    ]
}

fn clusters() -> impl Strategy<Value = String> {
    const KEY: &str = "[a-zA-Zé][a-zA-Z0-9:/._@-]{0,10}";
    const VALUE: &str = "[a-zA-Z0-9:/.@-][a-zA-Z0-9:/._@-]{0,10}";
    prop_oneof![
        Just("_".to_owned()),
        "[a-zA-Z0-9][a-zA-Z0-9_-]{0,30}",
        ("(eu|us-gov|ap)-(west|northeast)-[1-9]", "[a-zA-Z0-9][a-zA-Z0-9_-]{0,30}")
            .prop_map(|(region, name)| format!("{region}/{name}")),
        prop::collection::btree_map(KEY, VALUE, 1..4).prop_map(|tags| {
            let pairs: Vec<String> = tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
            pairs.join("+")
        }),
    ]
}

proptest! {
    #[test]
    fn parsing_what_was_printed_gives_the_same(
        namespace in pattern(LABEL),
        account in pattern("[a-z0-9]{1,5}(\\.[a-z0-9]{1,5}){0,2}"),
        clusters in clusters(),
    ) {
        let text = format!("{namespace}/{account}@{clusters}");
        let subject: Subject = text.parse().map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(subject.to_string().parse::<Subject>().unwrap(), subject);
    }

    #[test]
    fn no_text_makes_the_parser_panic(value in "\\PC{0,80}") {
        for subject in parse_subjects(&value) {
            match subject {
                Ok(subject) => prop_assert_eq!(&subject.to_string().parse::<Subject>().unwrap(), &subject),
                Err(error) => prop_assert!(error.column >= 1 && error.column <= value.chars().count() + 1),
            }
        }
    }

    #[test]
    fn no_text_of_the_grammars_own_letters_makes_it_panic(value in "[ab_/@=+. 1-]{0,24}") {
        for subject in parse_subjects(&value).into_iter().flatten() {
            prop_assert_eq!(&subject.to_string().parse::<Subject>().unwrap(), &subject);
        }
    }
}
