//! A failure at every step: nothing is left, and nothing of others is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use podgrant_core::verify::Thing;
use podgrant_tests::fake::{Association, Fault, Gate, Role};

use super::hands::{FakeHands, How};
use super::{VERIFY, verifier};
use crate::person::{EU, Person};

/// The run that the tests' clock makes: its names are known before it begins.
const RUN: &str = "mm90wfdc";

/// Things of others that have half of what makes a thing verify's.
fn add_foreign(person: &Person, hands: &FakeHands) {
    let mark = "mm8zzzzz eu-west-1/prod-eu default 2026-03-02T09:50:17Z";
    person.aws.add_role(Role::named("podgrant-verify-unmarked").path("/podgrant-verify/").trusting_pods());
    person.aws.add_role(Role::named("podgrant-verify-mm8zzzzz").tag("podgrant/verify", mark).trusting_pods());
    person.aws.add_role(Role::named("payments").path("/podgrant-verify/").tag("podgrant/verify", mark));
    person.aws.add_association(Association::of("prod-eu", "default", "api").tag("podgrant/verify", mark));
    person.aws.add_association(Association::of("prod-eu", "default", "podgrant-verify-mm8zzzzz"));
    let ours = ("app.kubernetes.io/managed-by", "podgrant");
    hands.add_foreign(Thing::Pod, "podgrant-verify-mm8zzzzz-1", &[ours]);
    hands.add_foreign(Thing::Pod, "api-1", &[ours, ("podgrant/verify", "mm8zzzzz")]);
    hands.add_foreign(Thing::ServiceAccount, "podgrant-verify-mm8zzzzz", &[("podgrant/verify", "mm8zzzzz")]);
}

/// All that stands anywhere.
fn standing(person: &Person, hands: &FakeHands) -> Vec<String> {
    let roles = person.aws.roles();
    let mut all: Vec<String> = roles
        .iter()
        .map(|role| format!("{} {:?} {:?}", role.arn(), role.tags, role.inline_policies))
        .collect();
    let associations = person.aws.associations(EU, "prod-eu");
    all.extend(associations.iter().map(|a| format!("{}/{} {:?}", a.namespace, a.service_account, a.tags)));
    all.extend(hands.left());
    all
}

/// A call: the service (`hands` for the cluster's), the operation, and which of its kind, from 1.
type Step = (String, String, usize);

/// The calls of a run that goes well, but those that every command begins with.
async fn steps() -> Vec<Step> {
    let (person, hands) = verifier().await;
    add_foreign(&person, &hands);
    hands.without_variables(1);
    assert_eq!(person.types(VERIFY, "").await.code, 0);
    let calls = person.aws.calls();
    let aws = calls.iter().map(|call| (call.service.clone(), call.operation.clone()));
    let hands = hands.calls().into_iter().map(|call| ("hands".to_owned(), call));
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut steps = Vec::new();
    for kind in aws.chain(hands) {
        let count = counts.entry(kind.clone()).or_default();
        *count += 1;
        steps.push((kind.0, kind.1, *count));
    }
    steps.retain(|(_, operation, _)| operation != "ListClusters");
    assert!(steps.len() > 20, "{steps:?}");
    steps
}

/// As many of the SDK's attempts as there are.
const ATTEMPTS: usize = 3;

fn strike(person: &Person, hands: &FakeHands, (service, operation, number): &Step, how: How) {
    if service == "hands" {
        return hands.strike(operation, *number, how);
    }
    let call = |number: usize| Fault::on(service, operation).nth(u64::try_from(number).unwrap());
    let attempts = *number..number + ATTEMPTS;
    match how {
        How::Refused => person.aws.fault(call(*number).access_denied()),
        How::Fails => attempts.for_each(|number| person.aws.fault(call(number).drop_connection())),
        How::Lost => attempts.for_each(|number| person.aws.fault(call(number).lose_response())),
        How::Hangs => person.aws.fault(call(*number).wait_for(&Gate::closed())),
    }
}

#[tokio::test]
async fn whatever_fails_nothing_is_left() {
    for step in steps().await {
        for how in [How::Refused, How::Fails, How::Lost] {
            let (person, hands) = verifier().await;
            add_foreign(&person, &hands);
            hands.without_variables(1);
            let before = standing(&person, &hands);
            strike(&person, &hands, &step, how);
            let said = person.types(VERIFY, "").await;
            let context = format!("{step:?} {how:?}\n{said}");
            let after = standing(&person, &hands);
            if after == before {
                assert!(!said.out.contains("LEFT"), "{context}");
                continue;
            }
            // Only whoever may not remove leaves something, says so, and how.
            assert!(how == How::Refused && said.code == 1 && said.out.contains("LEFT"), "{context}");
            assert!(said.out.contains("→ aws ") || said.out.contains("→ kubectl "), "{context}");
            person.aws.clear_faults();
            hands.mend();
            person.pass(30 * 60);
            let said = person.types("verify --clean --yes --cluster prod-eu", "").await;
            assert_eq!((standing(&person, &hands), said.code), (before, 0), "{context}\n{said}");
        }
    }
}

#[tokio::test]
async fn whenever_ctrl_c_comes_nothing_is_left() {
    let mut longest = 0;
    for patience in 2..60 {
        let (person, hands) = verifier().await;
        add_foreign(&person, &hands);
        hands.without_variables(1);
        let before = standing(&person, &hands);
        person.patience.set(patience);
        let said = person.types(VERIFY, "").await;
        assert_eq!(standing(&person, &hands), before, "{patience}: {said}");
        if said.code == 0 {
            break;
        }
        assert!(said.code == 1 && said.errors.contains("interrupted"), "{patience}: {said}");
        longest = patience;
    }
    assert!((10..59).contains(&longest), "{longest}");
}

#[tokio::test]
async fn wherever_it_crashes_cleaning_finds_it() {
    for step in steps().await {
        let (person, hands) = verifier().await;
        add_foreign(&person, &hands);
        hands.without_variables(1);
        let before = standing(&person, &hands);
        crash(&person, &hands, &step).await;
        person.aws.clear_faults();
        hands.mend();
        person.pass(30 * 60);
        let said = person.types("verify --clean --yes", "").await;
        assert_eq!((standing(&person, &hands), said.code), (before, 0), "{step:?}\n{said}");
        assert!(!said.out.contains("mm8zzzzz"), "{step:?}\n{said}");
    }
}

/// Begins a run, and drops it at this step.
async fn crash(person: &Person, hands: &Arc<FakeHands>, step: &Step) {
    let gate = Gate::closed();
    let (service, operation, number) = step;
    if service == "hands" {
        hands.strike(operation, *number, How::Hangs);
    } else {
        let call = Fault::on(service, operation).nth(u64::try_from(*number).unwrap());
        person.aws.fault(call.wait_for(&gate));
    }
    let mut hanging = hands.hanging.subscribe();
    tokio::select! {
        said = person.types(VERIFY, "") => panic!("{step:?} was not come to:\n{said}"),
        () = gate.reached_by(1) => {}
        hung = hanging.wait_for(|hanging| *hanging > 0) => drop(hung.unwrap()),
    }
}

/// The same at the first such call of the cluster's.
pub async fn crash_at(person: &Person, hands: &Arc<FakeHands>, call: &str) {
    crash(person, hands, &("hands".to_owned(), call.to_owned(), 1)).await;
    hands.mend();
}

#[tokio::test]
async fn what_stands_in_its_place_is_left_alone() {
    let (person, hands) = verifier().await;
    // As if somebody had known the names.
    let name = format!("podgrant-verify-{RUN}");
    person.aws.add_role(Role::named(&name).trusting_pods());
    let before = standing(&person, &hands);
    let said = person.types(VERIFY, "").await;
    assert_eq!(standing(&person, &hands), before);
    insta::assert_snapshot!(said, @"
    To be made for eu-west-1/prod-eu, and removed again
      role             podgrant-verify-mm90wfdc: for pods of this cluster only, and allowed nothing but sts:GetCallerIdentity
      association      default/podgrant-verify-mm90wfdc with that role
      service account  default/podgrant-verify-mm90wfdc
      pod              default/podgrant-verify-mm90wfdc-1, image amazon/aws-cli:2.31.29; 12 at most, one after the other


    Whether Pod Identity works on eu-west-1/prod-eu was not seen. Nothing was made. (0 s)
    ---- stderr
    podgrant: iam:CreateRole podgrant-verify-mm90wfdc: EntityAlreadyExists: Role with name podgrant-verify-mm90wfdc already exists.

    ---- exit 1
    ");

    let (person, hands) = verifier().await;
    person.aws.add_association(Association::of("prod-eu", "default", &name));
    let before = standing(&person, &hands);
    let said = person.types(VERIFY, "").await;
    assert_eq!(standing(&person, &hands), before);
    insta::assert_snapshot!(said, @"
    To be made for eu-west-1/prod-eu, and removed again
      role             podgrant-verify-mm90wfdc: for pods of this cluster only, and allowed nothing but sts:GetCallerIdentity
      association      default/podgrant-verify-mm90wfdc with that role
      service account  default/podgrant-verify-mm90wfdc
      pod              default/podgrant-verify-mm90wfdc-1, image amazon/aws-cli:2.31.29; 12 at most, one after the other

      ok      role        podgrant-verify-mm90wfdc is made
      removed role            podgrant-verify-mm90wfdc

    Whether Pod Identity works on eu-west-1/prod-eu was not seen. All that was made is removed again. (0 s)
    ---- stderr
    podgrant: eks:CreatePodIdentityAssociation eu-west-1/prod-eu default/podgrant-verify-mm90wfdc: ResourceInUseException: Association already exists: a-000000000000001

    ---- exit 1
    ");
}
