//! Explaining, by what AWS alone tells: the chains, and every call that they cost.

use std::fmt::Write as _;

use insta::assert_snapshot;
use podgrant_aws::Aws;
use podgrant_core::TagKeys;
use podgrant_core::explain::Target;
use podgrant_core::moment::parse_rfc3339;
use podgrant_tests::fake::{Addon, Association, Cluster, Fault, Role};

use crate::world::{EU, NOW, US, World, in_order, role};

/// podgrant as somebody's own command, with that person's credentials.
pub fn by_hand(w: &World) -> Aws {
    let regions = [EU, US].map(|region| region.parse().unwrap());
    Aws::new(w.sdk(), &regions, TagKeys::default())
}

/// Moments are real where Kubernetes is: any other of the same length.
pub fn timeless(text: &str) -> String {
    let mut timeless = text.to_owned();
    for (start, _) in text.char_indices() {
        if let Some(moment) = text.get(start..start + 20).filter(|moment| parse_rfc3339(moment).is_some()) {
            timeless = timeless.replace(moment, "2026-01-01T00:00:00Z");
        }
    }
    timeless
}

/// A world where payments/api has its association and the cluster its agent.
async fn granted() -> World {
    let w = World::new().await;
    w.aws.add_addon(EU, "prod-eu", Addon::agent());
    w.given(role("payments", "payments/api@prod-eu")).await;
    w
}

async fn explained(w: &World, target: Result<Target, String>) -> String {
    let explanation = by_hand(w).explain(&target.unwrap(), None, NOW + 600).await;
    let mut told = explanation.to_string();
    for call in in_order(&w.aws.calls()) {
        let _ = write!(told, "\n{call}");
    }
    w.forget();
    told
}

#[tokio::test]
async fn a_service_account_costs_a_few_calls() {
    let w = granted().await;
    assert_snapshot!(explained(&w, Target::service_account("payments/api@prod-eu")).await);
    assert_snapshot!(explained(&w, Target::service_account("payments/web@prod-eu")).await);
}

#[tokio::test]
async fn a_role_is_explained_for_each_place_that_it_asks_for() {
    let w = granted().await;
    w.aws.add_cluster(Cluster::named("prod-us").region(US).tag("env", "prod"));
    w.aws.add_role(role(
        "reports",
        "reports/nightly@env=prod reports/nightly@staging reports/job-_@prod-eu x/Y@z",
    ));
    assert_snapshot!(explained(&w, Target::role("reports")).await);
    assert_snapshot!(explained(&w, Target::role("nobody")).await);
    w.aws.add_role(Role::named("bare"));
    assert_snapshot!(explained(&w, Target::role("bare")).await);
}

#[tokio::test]
async fn somebody_elses_association_is_explained_too() {
    let w = granted().await;
    w.aws.add_role(Role::named("terraformed"));
    let arn = w.aws.role("terraformed").unwrap().arn();
    w.aws.add_association(Association::of("prod-eu", "web", "front").role_arn(arn));
    assert_snapshot!(explained(&w, Target::service_account("web/front@prod-eu")).await);
    // Once a tag asks for the same place, that is what was meant.
    w.aws.add_role(role("front", "web/front@prod-eu"));
    assert_snapshot!(explained(&w, Target::service_account("web/front@prod-eu")).await);
}

#[tokio::test]
async fn a_name_in_two_regions_and_a_cluster_that_is_not_there() {
    let w = granted().await;
    w.aws.add_cluster(Cluster::named("prod-eu").region(US));
    assert_snapshot!(explained(&w, Target::service_account("payments/api@prod-eu")).await);
    let clear = explained(&w, Target::service_account("payments/api@eu-west-1/prod-eu")).await;
    assert!(clear.contains("ok      association"), "{clear}");
    assert_snapshot!(explained(&w, Target::service_account("payments/api@nowhere")).await);
}

#[tokio::test]
async fn what_is_denied_is_unknown_and_no_error() {
    let operations = [
        ("iam", "GetRole"),
        ("iam", "GetAccountAuthorizationDetails"),
        ("eks", "DescribeCluster"),
        ("eks", "ListPodIdentityAssociations"),
        ("eks", "DescribePodIdentityAssociation"),
        ("eks", "DescribeAddon"),
    ];
    let mut shown = String::new();
    for (service, operation) in operations {
        let w = granted().await;
        w.aws.fault(Fault::on(service, operation).access_denied());
        for target in [Target::service_account("payments/api@prod-eu"), Target::role("payments")] {
            let explanation = by_hand(&w).explain(&target.unwrap(), None, NOW + 600).await;
            let unsure = explanation.chains.iter().flat_map(|chain| &chain.links);
            let unsure = unsure.filter(|link| link.state != podgrant_core::explain::State::Right);
            let _ = writeln!(shown, "{service}:{operation}, {}", explanation.target);
            for link in unsure {
                let _ = writeln!(shown, "    {} {}: {}", link.state, link.kind, link.told);
            }
        }
    }
    assert_snapshot!(shown);
}

#[tokio::test]
async fn a_diagnosis_names_the_cause_first() {
    let w = granted().await;
    w.aws.change_role("payments", |role| {
        role.trust_policy = role.trust_policy.replace("sts:TagSession", "sts:SetSourceIdentity");
    });
    w.aws.delete_association(EU, "prod-eu", "payments", "api");
    let target = Target::service_account("payments/api@prod-eu").unwrap();
    let diagnoses = by_hand(&w).diagnose(&target, None, NOW + 600).await;
    let told: Vec<String> = diagnoses.iter().map(ToString::to_string).collect();
    assert_snapshot!(told.join("\n\n"));
}

#[test]
fn moments_are_put_aside() {
    assert_eq!(timeless("made 1999-12-31T23:59:59Z (…)"), "made 2026-01-01T00:00:00Z (…)");
}
