use proptest::prelude::*;

use super::*;
use crate::RoleTags;

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn subjects(texts: &[&str]) -> BTreeSet<Subject> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn told(edit: &Edit) -> String {
    let shown =
        |value: &Option<String>| value.as_ref().map_or("none".to_owned(), |value| format!("{value:?}"));
    let changes = edit
        .changes
        .iter()
        .map(|change| format!("{}: {} -> {}", change.key, shown(&change.before), shown(&change.after)));
    let already = edit.already.iter().map(|subject| format!("already {subject}"));
    changes.chain(already).collect::<Vec<_>>().join("\n")
}

fn granting(pairs: &[(&str, &str)], label: Option<&str>, texts: &[&str]) -> String {
    match grant(&TagKeys::default(), &tags(pairs), label, &subjects(texts)) {
        Ok(edit) => told(&edit),
        Err(error) => error.to_string(),
    }
}

fn revoking(pairs: &[(&str, &str)], texts: &[&str]) -> String {
    told(&revoke(&TagKeys::default(), &tags(pairs), &subjects(texts)))
}

#[test]
fn a_subject_is_put_behind_what_stands() {
    insta::assert_snapshot!(granting(&[("team", "a")], None, &["a/b@c"]), @r#"podgrant/grant: none -> "a/b@c""#);
    insta::assert_snapshot!(granting(&[("podgrant/grant", "x/y@z")], None, &["a/b@c", "d/e@_"]), @r#"podgrant/grant: "x/y@z" -> "x/y@z a/b@c d/e@_""#);
    insta::assert_snapshot!(granting(&[("podgrant/grant", "x/y@z")], Some("batch"), &["a/b@c"]), @r#"podgrant/grant/batch: none -> "a/b@c""#);
    insta::assert_snapshot!(granting(&[("podgrant/grant", " ")], None, &["a/b@c"]), @r#"podgrant/grant: " " -> "a/b@c""#);
    insta::assert_snapshot!(granting(&[("podgrant/grant", "x/y@z  ")], None, &["a/b@c"]), @r#"podgrant/grant: "x/y@z  " -> "x/y@z  a/b@c""#);
}

#[test]
fn what_any_label_grants_is_granted() {
    insta::assert_snapshot!(granting(&[("podgrant/grant/a", "a/b@env=prod+tier=gold")], None, &["a/b@tier=gold+env=prod"]), @"already a/b@env=prod+tier=gold");
    insta::assert_snapshot!(granting(&[("podgrant/grant/a", "a/b@c")], Some("b"), &["a/b@c", "d/e@f"]), @r#"
    podgrant/grant/b: none -> "d/e@f"
    already a/b@c
    "#);
}

#[test]
fn neighbours_that_do_not_parse_stay_as_they_are() {
    insta::assert_snapshot!(granting(&[("podgrant/grant", "what is  this")], None, &["a/b@c"]), @r#"podgrant/grant: "what is  this" -> "what is  this a/b@c""#);
    insta::assert_snapshot!(revoking(&[("podgrant/grant", " what a/b@c is  this")], &["a/b@c"]), @r#"podgrant/grant: " what a/b@c is  this" -> "what is  this""#);
}

#[test]
fn a_value_that_is_full_goes_on_under_another_label() {
    let full = format!("{}/b@c", "a".repeat(251));
    let full = full.as_str();
    insta::assert_snapshot!(granting(&[("podgrant/grant", full)], None, &["a/b@c"]), @r#"podgrant/grant/2: none -> "a/b@c""#);
    insta::assert_snapshot!(granting(&[("podgrant/grant/x", full), ("podgrant/grant/x-2", "d/e@f")], Some("x"), &["a/b@c"]), @r#"podgrant/grant/x-2: "d/e@f" -> "d/e@f a/b@c""#);
}

#[test]
fn iam_keys_that_differ_only_in_case_are_the_same_key() {
    // podgrant reads the label Batch, and IAM would overwrite it.
    insta::assert_snapshot!(granting(&[("podgrant/grant/Batch", "x/y@z")], Some("batch"), &["a/b@c"]), @r#"podgrant/grant/Batch: "x/y@z" -> "x/y@z a/b@c""#);
    // This it does not read, and so it is not ours to overwrite.
    insta::assert_snapshot!(granting(&[("Podgrant/Grant", "x/y@z")], None, &["a/b@c"]), @r#"podgrant/grant/2: none -> "a/b@c""#);
}

#[test]
fn what_iam_would_not_take_is_refused_with_a_remedy() {
    let fifty: Vec<(String, String)> = (0..50).map(|n| (format!("tag-{n}"), String::new())).collect();
    let fifty: Vec<(&str, &str)> = fifty.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let long = format!("a/b@{}={}", "k".repeat(128), "v".repeat(128));
    insta::assert_snapshot!(granting(&fifty, None, &["a/b@c"]), @"the role would have 51 tags, and IAM allows 50: take tags away that nobody needs, or name clusters by a tag that they share (env=prod) instead of one by one");
    insta::assert_snapshot!(granting(&[], None, &["a/b@env=p,q"]), @"a/b@env=p,q: IAM takes letters, digits, spaces and _.:/=+-@ in a tag's value, and ',' is none of them");
    insta::assert_snapshot!(granting(&[], Some("a b"), &["a/b@c"]), @r#"the label "a b": expected letters, digits and _.:/=+-@, such as batch"#);
    insta::assert_snapshot!(granting(&[], Some(&"l".repeat(120)), &["a/b@c"]), @r#"the label "llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll": expected at most 110 characters"#);
    assert!(granting(&[], None, &[&long]).ends_with("has 261 characters, and a tag's value at most 256: select the clusters by fewer or shorter tags, or by name"));
}

#[test]
fn a_subject_is_taken_from_whatever_label_it_stands_under() {
    insta::assert_snapshot!(revoking(&[("podgrant/grant", "a/b@c"), ("podgrant/grant/x", "d/e@f a/b@c  g/h@i")], &["a/b@c"]), @r#"
    podgrant/grant: "a/b@c" -> none
    podgrant/grant/x: "d/e@f a/b@c  g/h@i" -> "d/e@f  g/h@i"
    "#);
    insta::assert_snapshot!(revoking(&[("podgrant/grant", "a/b@c")], &["a/b@d"]), @"already a/b@d");
    insta::assert_snapshot!(revoking(&[("Podgrant/grant", "a/b@c"), ("podgrant/trust", "a/b@c")], &["a/b@c"]), @"already a/b@c");
}

fn subject() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("a".to_owned()), Just("b".to_owned()), "[a-z]{40,60}"];
    let clusters = prop_oneof![Just("_".to_owned()), "[a-c]", "env=[a-c]", "env=[a-c]\\+tier=[a-z]{1,90}"];
    (name.clone(), name, clusters).prop_map(|(n, s, c)| format!("{n}/{s}@{c}"))
}

fn value() -> impl Strategy<Value = String> {
    let word = prop_oneof![4 => subject(), 1 => "[a-z@/=_]{1,8}"];
    (prop::collection::vec((word, " {1,2}"), 0..4), " {0,1}").prop_map(|(words, start)| {
        let text: String = words.into_iter().flat_map(|(word, space)| [word, space]).collect();
        format!("{start}{text}").chars().take(256).collect()
    })
}

fn all_tags() -> impl Strategy<Value = BTreeMap<String, String>> {
    let key = prop_oneof![
        Just("podgrant/grant"),
        Just("podgrant/grant/2"),
        Just("podgrant/grant/x"),
        Just("podgrant/grant/X-2"),
        Just("podgrant/grant/"),
        Just("Podgrant/grant/x-3"),
        Just("podgrant/trust"),
        Just("team"),
    ];
    prop::collection::btree_map(key.prop_map(str::to_owned), value(), 0..6)
}

/// What the grammar itself reads.
fn read(tags: &BTreeMap<String, String>) -> BTreeSet<Subject> {
    let (parsed, _) = RoleTags::parse(&TagKeys::default(), tags);
    parsed.grants.into_iter().map(|grant| grant.subject).collect()
}

/// Words that are no subjects, and all of the tags that are none of ours: nobody's to touch.
fn others(tags: &BTreeMap<String, String>) -> Vec<String> {
    let keys = TagKeys::default();
    let words = |(key, value): (&String, &String)| -> Vec<String> {
        if !is_grant(&keys, key) {
            return vec![format!("{key}={value}")];
        }
        let words = value.split_whitespace().filter(|word| word.parse::<Subject>().is_err());
        words.map(|word| format!("{key}: {word}")).collect()
    };
    tags.iter().flat_map(words).collect()
}

proptest! {
    #[test]
    fn an_edit_adds_and_takes_just_what_was_asked(
        before in all_tags(),
        asked in prop::collection::btree_set(subject(), 1..6),
        label in prop::option::of(Just("x")),
    ) {
        let keys = TagKeys::default();
        let asked: BTreeSet<Subject> = asked.iter().map(|text| text.parse().unwrap()).collect();

        let given = grant(&keys, &before, label, &asked).unwrap();
        prop_assert_eq!(read(&given.tags), read(&before).union(&asked).cloned().collect());
        prop_assert_eq!(others(&given.tags), others(&before));
        prop_assert!(given.tags.values().all(|value| value.chars().count() <= 256));
        let folded: BTreeSet<String> = given.tags.keys().map(|key| key.to_ascii_lowercase()).collect();
        let folded_before: BTreeSet<String> = before.keys().map(|key| key.to_ascii_lowercase()).collect();
        prop_assert_eq!(
            given.tags.len() - before.len(),
            folded.len() - folded_before.len(),
            "no key is set that IAM holds to be another's"
        );
        prop_assert_eq!(grant(&keys, &given.tags, label, &asked).unwrap().changes, vec![]);

        let taken = revoke(&keys, &before, &asked);
        prop_assert_eq!(read(&taken.tags), read(&before).difference(&asked).cloned().collect());
        prop_assert_eq!(others(&taken.tags), others(&before));
        for change in &taken.changes {
            let left = change.after.as_deref();
            prop_assert!(left.is_none_or(|left| !left.trim().is_empty()));
        }
        prop_assert_eq!(revoke(&keys, &taken.tags, &asked).changes, vec![]);
    }
}
