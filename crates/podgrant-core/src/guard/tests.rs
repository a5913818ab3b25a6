use insta::assert_snapshot;

use super::*;
use crate::fixtures::{NOW, cluster, foreign, inventory, ours, role, snapshot};
use crate::model::{Agent, ClusterAccess};
use crate::orphan::RoleInventory;
use crate::plan::RevokeReason;
use crate::{Association, Mark, Role, Workload};

fn guard(plan: Plan, snapshot: &Snapshot, limits: &Limits) -> Approved {
    super::guard(plan, snapshot, &TagKeys::default(), limits)
}

fn revoke(association: &Association) -> Change {
    Change::Revoke { association: association.clone(), reason: RevokeReason::GrantWithdrawn }
}

/// Hands the place over to another role, or renews the mark for the same one.
fn update(association: &Association, role: &Role) -> Change {
    let mark = Mark {
        role_arn: role.arn.clone(),
        role_id: role.id.clone(),
        ..ours(role, "prod-eu", "a/b@prod-eu").mark.unwrap()
    };
    Change::Update { association: association.clone(), mark }
}

fn create(subject: &str) -> Change {
    let Association { workload, mark, .. } = ours(&role("payments"), "prod-eu", subject);
    Change::Create { workload, mark: mark.unwrap() }
}

/// `count` managed associations, to be in view or to be deleted.
fn many(count: usize) -> Vec<Association> {
    (0..count).map(|i| ours(&role("payments"), "prod-eu", &format!("a/b{i}@prod-eu"))).collect()
}

fn view(associations: Vec<Association>) -> Snapshot {
    Snapshot { associations, ..snapshot([], [cluster("prod-eu")], []) }
}

fn plan_of(changes: impl IntoIterator<Item = Change>) -> Plan {
    Plan { changes: changes.into_iter().collect(), unchanged: 7, ..Plan::default() }
}

fn printed(approved: &Approved) -> String {
    let changes = approved.changes().iter().map(|change| format!("{change}\n"));
    let findings = approved.findings().iter().map(|finding| format!("! {finding}\n"));
    changes.chain(findings).collect()
}

#[test]
fn what_is_not_ours_is_not_touched_whatever_the_plan_says() {
    let mine = ours(&role("payments"), "prod-eu", "a/b@prod-eu");
    let owned = mine.clone().owned_by("vpc-cni");
    let mut copied = mine.clone();
    copied.workload = foreign("prod-eu", "x/y").workload;
    let theirs = foreign("prod-eu", "a/b");
    let plan = plan_of([
        revoke(&theirs),
        update(&theirs, &role("heir")),
        revoke(&owned),
        update(&owned, &role("payments")),
        revoke(&copied),
        revoke(&mine),
    ]);
    assert_snapshot!(printed(&guard(plan, &view(vec![mine]), &Limits::default())), @"
    - eu-west-1/prod-eu  a/b  role payments  (grant withdrawn)
    ! withheld: eu-west-1/prod-eu a/b: association a-prodeuab does not carry podgrant's mark
    ! withheld: eu-west-1/prod-eu a/b role heir (a/b@prod-eu): association a-prodeuab does not carry podgrant's mark
    ! withheld: eu-west-1/prod-eu a/b role payments (a/b@prod-eu): association a-prodeuab is owned by vpc-cni
    ! withheld: eu-west-1/prod-eu a/b role payments (a/b@prod-eu): association a-prodeuab is owned by vpc-cni
    ! withheld: eu-west-1/prod-eu x/y role payments (a/b@prod-eu): association a-prodeuab carries the mark of a/b@prod-eu on eu-west-1/prod-eu: it was copied, and is not podgrant's
    ");
}

fn adopt(association: &Association, role: &Role) -> Change {
    Change::Adopt {
        association: association.clone(),
        mark: ours(role, "prod-eu", "a/b@prod-eu").mark.unwrap(),
    }
}

#[test]
fn what_is_adopted_has_no_mark_no_owner_and_this_very_role() {
    let asking = role("payments");
    let theirs = foreign("prod-eu", "a/b");
    let granted = theirs.clone().granting(&asking);
    let mine = ours(&asking, "prod-eu", "a/b@prod-eu").granting(&asking);
    let mut copied = mine.clone();
    copied.mark = ours(&asking, "prod-eu", "x/y@prod-eu").mark;
    let plan = plan_of([
        adopt(&granted, &asking),
        // The role was deleted and made again: it is asking now, and has the ARN.
        adopt(&granted, &asking.clone().made_again()),
        adopt(&theirs, &asking),
        adopt(&granted, &role("heir")),
        adopt(&granted.clone().owned_by("vpc-cni"), &asking),
        adopt(&foreign("prod-eu", "x/y").granting(&asking), &asking),
        adopt(&foreign("test-eu", "a/b").granting(&asking), &asking),
        adopt(&copied, &asking),
        adopt(&mine, &asking),
        // Only in these words.
        update(&granted, &asking),
        revoke(&granted),
    ]);
    assert_snapshot!(printed(&guard(plan, &view(vec![granted]), &Limits::default())), @"
    * eu-west-1/prod-eu  a/b  role payments  adopted  (a/b@prod-eu)
    * eu-west-1/prod-eu  a/b  role payments  adopted  (a/b@prod-eu)
    ! withheld: eu-west-1/prod-eu a/b role payments (a/b@prod-eu): association a-prodeuab is not known to have the role that would adopt it in this place
    ! withheld: eu-west-1/prod-eu a/b role heir (a/b@prod-eu): association a-prodeuab is not known to have the role that would adopt it in this place
    ! withheld: eu-west-1/prod-eu a/b role payments (a/b@prod-eu): association a-prodeuab is owned by vpc-cni
    ! withheld: eu-west-1/prod-eu x/y role payments (a/b@prod-eu): association a-prodeuxy is not known to have the role that would adopt it in this place
    ! withheld: eu-west-1/test-eu a/b role payments (a/b@prod-eu): association a-testeuab is not known to have the role that would adopt it in this place
    ! withheld: eu-west-1/prod-eu a/b role payments (a/b@prod-eu): association a-prodeuab carries the mark of x/y@prod-eu on eu-west-1/prod-eu: it was copied, and is not podgrant's
    ! withheld: eu-west-1/prod-eu a/b role payments (a/b@prod-eu): association a-prodeuab is podgrant's already
    ! withheld: eu-west-1/prod-eu a/b role payments (a/b@prod-eu): association a-prodeuab does not carry podgrant's mark
    ! withheld: eu-west-1/prod-eu a/b: association a-prodeuab does not carry podgrant's mark
    ");
}

#[test]
fn a_trust_policy_is_amended_by_statements_of_ours_and_no_others() {
    let before = r#"{"Version":"2012-10-17","Statement":[{"Sid":"Mine","Effect":"Deny","Principal":"*","Action":"sts:*"}]}"#;
    let amend = |policy: &str| Change::AmendTrust {
        role: role("payments").arn,
        role_id: role("payments").id,
        policy_before: before.to_owned(),
        policy: policy.to_owned(),
    };
    let ours = r#"{"Sid":"PodgrantManaged1","Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":"sts:*"}"#;
    let plan = plan_of([
        amend(&before.replace("]}", &format!(",{ours}]}}"))),
        amend(&format!(r#"{{"Version":"2012-10-17","Statement":[{ours}]}}"#)),
        amend(&before.replace("]}", r#",{"Effect":"Allow","Principal":"*","Action":"sts:*"}]}"#)),
    ]);
    // It takes nothing away: neither a partial view nor a limit binds it.
    let limits = Limits { deletions: 0, share: 0.0, share_from: 0, ..Limits::default() };
    assert_snapshot!(printed(&guard(plan, &view(Vec::new()).with_gap(None), &limits)), @"
    ~ role payments  trust policy: + allows pods.eks.amazonaws.com for _/_@_
    ! withheld: role payments: it would change what is not podgrant's in the trust policy
    ! withheld: role payments: it would change what is not podgrant's in the trust policy
    ");
}

#[test]
fn a_partial_view_takes_nothing_away_and_lets_the_rest_pass() {
    let mine = ours(&role("payments"), "prod-eu", "a/b@prod-eu");
    // The gap may be anywhere: what is missing there may be what keeps this.
    let shown = [None, Some("prod-eu"), Some("test-eu")].map(|gap| {
        let plan = plan_of([
            create("c/d@prod-eu"),
            revoke(&mine),
            // A takeover takes from one role what it gives to another.
            update(&mine, &role("heir")),
            update(&mine, &role("payments").made_again()),
        ]);
        let view = view(vec![mine.clone()]).with_gap(gap);
        printed(&guard(plan, &view, &Limits::default()))
    });
    assert!(shown.iter().all(|same| *same == shown[0]), "{shown:#?}");
    assert_snapshot!(shown[0], @"
    + eu-west-1/prod-eu  c/d  role payments  (c/d@prod-eu)
    ~ eu-west-1/prod-eu  a/b  role payments  role id AROAPAYMENTS -> AROAPAYMENTS2
    ! withheld: eu-west-1/prod-eu a/b role payments (a/b@prod-eu): a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
    ! withheld: eu-west-1/prod-eu a/b role heir (a/b@prod-eu): a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
    ");
}

#[test]
fn at_most_so_many_are_deleted() {
    let limits = Limits { deletions: 2, share: 1.0, share_from: 0, ..Limits::default() };
    let associations = many(3);
    let all = || associations.iter().map(revoke).chain([create("c/d@prod-eu")]);
    let view = view(associations.clone());
    // Not the first two of three: none.
    assert_snapshot!(printed(&guard(plan_of(all()), &view, &limits)), @r#"
    + eu-west-1/prod-eu  c/d  role payments  (c/d@prod-eu)
    ! withheld: eu-west-1/prod-eu a/b0 role payments (a/b0@prod-eu): this pass would delete 3 associations, and at most 2 are allowed; if that is meant, allow it once by invoking this function with "allow": {"deletions": 3} beside the event, or raise PODGRANT_MAX_DELETIONS to 3
    ! withheld: eu-west-1/prod-eu a/b1 role payments (a/b1@prod-eu): this pass would delete 3 associations, and at most 2 are allowed; if that is meant, allow it once by invoking this function with "allow": {"deletions": 3} beside the event, or raise PODGRANT_MAX_DELETIONS to 3
    ! withheld: eu-west-1/prod-eu a/b2 role payments (a/b2@prod-eu): this pass would delete 3 associations, and at most 2 are allowed; if that is meant, allow it once by invoking this function with "allow": {"deletions": 3} beside the event, or raise PODGRANT_MAX_DELETIONS to 3
    "#);
    // The limit that the message names is one that lets it through.
    let raised = Limits { deletions: 3, ..limits };
    assert_eq!(guard(plan_of(all()), &view, &raised).changes().len(), 4);
    // An event's pass is bound, too.
    let scoped = view.scoped_to_cluster("prod-eu");
    assert_eq!(guard(plan_of(all()), &scoped, &limits).changes().len(), 1);
}

#[test]
fn a_takeover_counts_as_a_loss() {
    let limits = Limits { deletions: 0, ..Limits::default() };
    let mine = ours(&role("payments"), "prod-eu", "a/b@prod-eu");
    let plan = plan_of([update(&mine, &role("heir")), update(&mine, &role("payments").made_again())]);
    assert_snapshot!(printed(&guard(plan, &view(vec![mine]), &limits)), @r#"
    ~ eu-west-1/prod-eu  a/b  role payments  role id AROAPAYMENTS -> AROAPAYMENTS2
    ! withheld: eu-west-1/prod-eu a/b role heir (a/b@prod-eu): this pass would delete 1 associations, and at most 0 are allowed; if that is meant, allow it once by invoking this function with "allow": {"deletions": 1} beside the event, or raise PODGRANT_MAX_DELETIONS to 1
    "#);
}

#[test]
fn at_most_such_a_share_of_the_fleet_is_deleted() {
    let limits = Limits { deletions: 100, share: 0.2, share_from: 3, ..Limits::default() };
    let approved = |deletions: usize, managed: usize, limits: &Limits| {
        let associations = many(managed);
        let changes = associations.iter().take(deletions).map(revoke);
        guard(plan_of(changes), &view(associations.clone()), limits).changes().len()
    };
    // (deletions, of so many managed, approved)
    let cases = [
        (0, 0, 0),
        (2, 2, 2),  // below the floor, the share does not bind
        (3, 15, 3), // just the share
        (3, 14, 0),
        (14, 14, 0),
    ];
    for (deletions, managed, expected) in cases {
        assert_eq!(approved(deletions, managed, &limits), expected, "{deletions} of {managed}");
    }
    // What is not ours does not make the fleet larger.
    let mut associations = many(14);
    let plan = plan_of(associations.iter().take(3).map(revoke));
    associations.extend((0..100).map(|i| foreign("prod-eu", &format!("x/y{i}"))));
    let refused = guard(plan, &view(associations), &limits);
    assert_eq!(refused.changes(), []);
    assert_snapshot!(refused.findings()[0], @r#"withheld: eu-west-1/prod-eu a/b0 role payments (a/b0@prod-eu): this pass would delete 3 of 14 managed associations, and at most 20 % are allowed; if that is meant, allow it once by invoking this function with "allow": {"share": 0.22} beside the event, or raise PODGRANT_MAX_DELETION_SHARE to 0.22"#);
    // The share that the message names is one that lets it through.
    assert_eq!(approved(3, 14, &Limits { share: 0.22, ..limits }), 3);
}

#[test]
fn the_share_binds_passes_that_see_all_there_is_to_lose() {
    let limits = Limits { deletions: 100, share: 0.2, share_from: 1, ..Limits::default() };
    let associations = many(5);
    let all = || plan_of(associations.iter().map(revoke));
    let whole = view(associations.clone());
    assert_eq!(guard(all(), &whole, &limits).changes().len(), 0);
    let one_role = whole.clone().scoped_to_role(&role("payments"));
    assert_eq!(guard(all(), &one_role, &limits).changes().len(), 5);
    let one_cluster = whole.scoped_to_cluster("prod-eu");
    assert_eq!(guard(all(), &one_cluster, &limits).changes().len(), 0);
}

#[test]
fn what_is_held_back_anyway_does_not_use_up_the_limit() {
    let limits = Limits { deletions: 1, ..Limits::default() };
    let mine = ours(&role("payments"), "prod-eu", "a/b@prod-eu");
    let theirs = foreign("prod-eu", "c/d");
    let plan = plan_of([revoke(&theirs), revoke(&mine)]);
    assert_eq!(guard(plan, &view(vec![mine.clone()]), &limits).changes(), [revoke(&mine)]);
}

#[test]
fn the_rest_of_the_plan_goes_through_in_its_order() {
    let associations = many(3);
    let [first, second, third] = associations.as_slice() else { unreachable!() };
    let changes = [
        create("z/z@prod-eu"),
        revoke(third),
        create("a/a@prod-eu"),
        revoke(first),
        Change::InstallAgent {
            cluster: cluster("prod-eu").id,
            version: "v1".to_owned(),
            configuration: None,
            overwrite: false,
        },
        revoke(second),
    ];
    let finding = Finding {
        kind: FindingKind::BadTag,
        role: Some(role("payments").arn),
        cluster: None,
        workload: None::<Workload>,
        grant: None,
        reason: "told by the plan".to_owned(),
    };
    let wait = Wait {
        reason: "not yet".to_owned(),
        follow_up: crate::outcome::FollowUp::Role { name: "payments".to_owned() },
    };
    let plan =
        Plan { findings: vec![finding.clone()], waits: vec![wait.clone()], ..plan_of(changes.clone()) };
    let approved = guard(plan.clone(), &view(associations.clone()), &Limits::default());
    assert_eq!(approved.changes(), changes);
    assert_eq!(approved.findings(), std::slice::from_ref(&finding));
    assert_eq!(approved.waits(), [wait]);
    assert_eq!(approved.unchanged(), 7);

    let limits = Limits { deletions: 2, ..Limits::default() };
    let approved = guard(plan, &view(associations.clone()), &limits);
    assert_eq!(approved.changes(), [changes[0].clone(), changes[2].clone(), changes[4].clone()]);
    assert_eq!(approved.findings().len(), 4);
    assert_eq!(approved.findings()[0], finding);
}

/// A role that may be deleted, by all that the guard can tell.
fn orphan(name: &str) -> Role {
    let asking = role(name).grant("a/b@gone").trusting().tagged("podgrant/on-orphan", "delete");
    asking.orphaned_since(NOW - 5)
}

/// A view of these roles, each read whole.
fn view_of(roles: &[Role]) -> Snapshot {
    let mut view = view(Vec::new());
    view.holders_whole = true;
    for role in roles {
        view.inventories.insert(role.arn.clone(), inventory());
        view.roles.insert(role.arn.clone(), role.clone());
    }
    view
}

/// The deletion of a role as it is, under the mark that it has.
fn delete(role: &Role) -> Change {
    let (tags, _) = RoleTags::parse(&TagKeys::default(), &role.tags);
    let mark = tags.orphaned_since.unwrap_or_else(|| OrphanMark::new(role, NOW - 5));
    Change::DeleteRole { record: Box::new(RoleRecord::of(role, &inventory()).unwrap()), mark }
}

fn withheld(change: Change, view: &Snapshot) -> String {
    printed(&guard(plan_of([change]), view, &Limits::default()))
}

#[test]
fn a_role_goes_only_at_its_own_word_and_under_its_own_mark() {
    let gone = orphan("gone");
    let of = |role: &Role| withheld(delete(role), &view_of(std::slice::from_ref(role)));
    assert_snapshot!(of(&gone), @"- role gone  policies ReadOnlyAccess  inline policies queue  (orphaned since 1970-01-12T13:46:35Z, no use known)");
    let without = |key: &str| {
        let mut role = gone.clone();
        role.tags.remove(key);
        role
    };
    assert_snapshot!(of(&without("podgrant/on-orphan")), @"! withheld: role gone: the role does not carry podgrant/on-orphan = delete");
    assert_snapshot!(of(&gone.clone().tagged("podgrant/on-orphan", "keep")), @"! withheld: role gone: the role does not carry podgrant/on-orphan = delete");
    assert_snapshot!(of(&gone.clone().tagged("podgrant/adopt", "perhaps")), @r#"! withheld: role gone: what the role asks for can't be told: tag podgrant/adopt: expected on or off, found "perhaps""#);
    assert_snapshot!(of(&without("podgrant/orphaned-since")), @"! withheld: role gone: the role does not carry podgrant/orphaned-since = 1970-01-12T13:46:35Z AROAGONE, or it is not its own");
    assert_snapshot!(of(&gone.clone().made_again()), @"! withheld: role gone: the role does not carry podgrant/orphaned-since = 1970-01-12T13:46:35Z AROAGONE, or it is not its own");
    assert_snapshot!(of(&gone.clone().orphaned_since(NOW + 1)), @"! withheld: role gone: the role does not carry podgrant/orphaned-since = 1970-01-12T13:46:41Z AROAGONE, or it is not its own");
    assert_snapshot!(of(&without("podgrant/grant")), @"! withheld: role gone: its grants do not name clusters");
    assert_snapshot!(of(&gone.clone().grant("a/b@gone a/b@env=prod")), @"! withheld: role gone: its grants do not name clusters");
    assert_snapshot!(of(&gone.clone().grant("a/b@prod-eu")), @"! withheld: role gone: a cluster is there for its grant a/b@prod-eu");
    let far = gone.clone().grant("a/b@gone a/b@ap-south-1/gone");
    assert!(of(&far).starts_with("- role gone"));
    let mut one_region = view_of(std::slice::from_ref(&far));
    one_region.regions.insert(cluster("prod-eu").id.region);
    assert_snapshot!(withheld(delete(&far), &one_region), @"! withheld: role gone: its grant a/b@ap-south-1/gone names a region that is not looked at");
    assert_snapshot!(of(&gone.clone().amendable()), @"! withheld: role gone: its trust policy lets in others than pods, or can't be told");
    let reserved =
        Role { arn: "arn:aws:iam::111122223333:role/aws-reserved/x".parse().unwrap(), ..gone.clone() };
    assert_snapshot!(of(&reserved), @"! withheld: role x: its path /aws-reserved/ is AWS's own");

    // What is in view is not what is to go.
    let in_view = |change: fn(&mut Snapshot)| {
        let mut view = view_of(&[orphan("gone")]);
        change(&mut view);
        withheld(delete(&orphan("gone")), &view)
    };
    assert_snapshot!(in_view(|view| view.roles.clear()), @"! withheld: role gone: the role AROAGONE is not in view, or another has its name");
    assert_snapshot!(in_view(|view| view.roles.values_mut().for_each(|role| *role = role.clone().made_again())), @"! withheld: role gone: the role AROAGONE is not in view, or another has its name");
    assert_snapshot!(in_view(|view| view.inventories.clear()), @"! withheld: role gone: what is kept of the role is not what was read of it");
    assert_snapshot!(in_view(|view| {
        let policies = |inventory: &mut RoleInventory| inventory.attached_policies.clear();
        view.inventories.values_mut().for_each(policies);
    }), @"! withheld: role gone: what is kept of the role is not what was read of it");
    assert_snapshot!(in_view(|view| {
        let profile = |inventory: &mut RoleInventory| inventory.instance_profiles.extend(["nodes".to_owned()]);
        view.inventories.values_mut().for_each(profile);
    }), @"! withheld: role gone: it is in an instance profile");
    assert_snapshot!(in_view(|view| view.associations.push(foreign("prod-eu", "a/b").granting(&orphan("gone")))), @"! withheld: role gone: association a-prodeuab on eu-west-1/prod-eu has it");
    assert_snapshot!(in_view(|view| view.associations.push(foreign("prod-eu", "a/b"))), @"! withheld: role gone: not every association was looked at");
    let used = |at| {
        let inventory = RoleInventory { last_used: Some(at), ..inventory() };
        let mut view = view_of(std::slice::from_ref(&gone));
        let Change::DeleteRole { mark, .. } = delete(&gone) else { unreachable!() };
        let record = Box::new(RoleRecord::of(&gone, &inventory).unwrap());
        view.inventories.insert(gone.arn.clone(), inventory);
        withheld(Change::DeleteRole { record, mark }, &view)
    };
    assert_snapshot!(used(NOW - 5), @"- role gone  policies ReadOnlyAccess  inline policies queue  (orphaned since 1970-01-12T13:46:35Z, last used 1970-01-12T13:46:35Z)");
    assert_snapshot!(used(NOW - 4), @"! withheld: role gone: it was used since it was marked");
    assert_snapshot!(in_view(|view| view.holders_whole = false), @"! withheld: role gone: not every association was looked at");
    assert_snapshot!(in_view(|view| *view = view.clone().with_gap(None)), @"! withheld: role gone: a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole");
    assert_snapshot!(in_view(|view| *view = view.clone().scoped_to_cluster("prod-eu")), @"! withheld: role gone: a partial view deletes nothing: not every role and cluster was looked at; it is looked at again when the view is whole");
    assert_snapshot!(in_view(|view| *view = view.clone().scoped_to_role(&orphan("gone"))), @"! withheld: role gone: a partial view deletes nothing: not every role and cluster was looked at; it is looked at again when the view is whole");
}

#[test]
fn a_role_is_marked_as_of_now_in_a_whole_view_and_unmarked_in_any() {
    let (bare, marked) = (role("a").grant("a/b@gone"), orphan("b"));
    let view = view_of(&[bare.clone(), marked.clone()]);
    let mark = |role: &Role, mark| Change::MarkOrphan { role: role.arn.clone(), mark };
    let unmark = |role: &Role, mark| Change::UnmarkOrphan {
        role: role.arn.clone(),
        mark,
        reason: UnmarkReason::SpokenFor("it lives".to_owned()),
    };
    let since = |role: &Role, since| OrphanMark::new(role, since);
    let all = || {
        plan_of([
            mark(&bare, since(&bare, NOW)),
            mark(&bare, since(&bare, NOW - 1)),
            mark(&bare, since(&bare, NOW).with_deletion_begun()),
            mark(&bare, since(&marked, NOW)),
            mark(&role("unseen"), since(&role("unseen"), NOW)),
            unmark(&marked, since(&marked, NOW - 5)),
            unmark(&marked, since(&marked, NOW - 6)),
            unmark(&bare, since(&bare, NOW)),
            unmark(&role("unseen"), since(&role("unseen"), NOW)),
        ])
    };
    assert_snapshot!(printed(&guard(all(), &view, &Limits::default())), @"
    ~ role a  + orphaned since 1970-01-12T13:46:40Z
    ~ role b  - orphaned since 1970-01-12T13:46:35Z  (it lives)
    ! withheld: role a: podgrant/orphaned-since = 1970-01-12T13:46:39Z AROAA is not the mark of a role that is found to be an orphan now
    ! withheld: role a: podgrant/orphaned-since = 1970-01-12T13:46:40Z AROAA begun is not the mark of a role that is found to be an orphan now
    ! withheld: role a: the role AROAB is not in view, or another has its name
    ! withheld: role unseen: the role AROAUNSEEN is not in view, or another has its name
    ! withheld: role b: podgrant/orphaned-since = 1970-01-12T13:46:34Z AROAB is not a mark that the role has and may lose
    ! withheld: role a: podgrant/orphaned-since = 1970-01-12T13:46:40Z AROAA is not a mark that the role has and may lose
    ! withheld: role unseen: the role AROAUNSEEN is not in view, or another has its name
    ");
    // It takes nothing away, but what a partial view marks may be deleted for it.
    assert_eq!(
        guard(all(), &view.clone().with_gap(None), &Limits::default()).changes(),
        [unmark(&marked, since(&marked, NOW - 5))]
    );
    assert_eq!(
        guard(all(), &view.clone().scoped_to_cluster("prod-eu"), &Limits::default()).changes().len(),
        1
    );
    // A role whose deletion was begun is not made to look whole.
    let begun = since(&marked, NOW - 5).with_deletion_begun();
    let half = marked.tagged("podgrant/orphaned-since", &begun.to_string());
    let anew = mark(&half, since(&half, NOW));
    assert_snapshot!(withheld(anew, &view_of(std::slice::from_ref(&half))), @"! withheld: role b: the role's deletion was begun");
    assert_snapshot!(withheld(unmark(&half, begun), &view_of(std::slice::from_ref(&half))), @"! withheld: role b: podgrant/orphaned-since = 1970-01-12T13:46:35Z AROAB begun is not a mark that the role has and may lose");
}

#[test]
fn roles_and_associations_have_each_a_limit_of_their_own() {
    let roles: Vec<Role> = (0..6).map(|n| orphan(&format!("r{n}"))).collect();
    let mut view = view_of(&roles);
    let mine = ours(&role("payments"), "prod-eu", "a/b@prod-eu");
    view.associations.push(mine.clone());
    let losing = |count: usize| {
        plan_of(roles.iter().take(count).map(delete).chain([revoke(&mine), create("c/d@prod-eu")]))
    };
    let lenient = Limits { share: 1.0, ..Limits::default() };
    assert_eq!(guard(losing(5), &view, &lenient).changes().len(), 7);
    let refused = guard(losing(6), &view, &lenient);
    assert_eq!(refused.changes(), [revoke(&mine), create("c/d@prod-eu")]);
    assert_snapshot!(refused.findings()[0], @r#"withheld: role r0: this pass would delete 6 roles, and at most 5 are allowed; if that is meant, allow it once by invoking this function with "allow": {"roleDeletions": 6} beside the event, or raise PODGRANT_MAX_ROLE_DELETIONS to 6"#);
    assert_eq!(refused.findings().len(), 6);
    // The limit that the message names is one that lets it through.
    assert_eq!(guard(losing(6), &view, &Limits { role_deletions: 6, ..lenient }).changes().len(), 8);
    // Too many associations hold no role back.
    let refused = guard(losing(1), &view, &Limits { deletions: 0, ..lenient });
    assert_eq!(refused.changes(), [delete(&roles[0]), create("c/d@prod-eu")]);
    // None at all may be meant.
    assert_eq!(guard(losing(1), &view, &Limits { role_deletions: 0, ..lenient }).changes().len(), 2);

    // One whose deletion was begun was allowed before.
    let Change::DeleteRole { mut record, mark } = delete(&roles[0]) else { panic!() };
    let mark = mark.with_deletion_begun();
    let mut half = view.clone();
    let role_half_deleted = half.roles.get_mut(&roles[0].arn).unwrap();
    role_half_deleted.tags.insert("podgrant/orphaned-since".to_owned(), mark.to_string());
    record.tags = role_half_deleted.tags.clone();
    let begun = Change::DeleteRole { record, mark };
    let none = Limits { role_deletions: 0, ..lenient };
    assert_eq!(guard(plan_of([begun.clone()]), &half, &none).changes(), [begun]);

    // A share of the roles that ask for anything: those without a grant make it no smaller.
    view.roles.extend((0..94).map(|n| (role(&format!("x{n}")).arn, role(&format!("x{n}")))));
    view.managed_elsewhere = 100;
    let shared = Limits { share: 0.5, share_from: 4, ..Limits::default() };
    assert_eq!(guard(losing(3), &view, &shared).changes().len(), 5);
    let refused = guard(losing(4), &view, &shared);
    assert_eq!(refused.changes().len(), 2);
    assert_snapshot!(refused.findings()[0], @r#"withheld: role r0: this pass would delete 4 of 6 roles with grants, and at most 50 % are allowed; if that is meant, allow it once by invoking this function with "allow": {"share": 0.67} beside the event, or raise PODGRANT_MAX_DELETION_SHARE to 0.67"#);
    assert_eq!(guard(losing(4), &view, &Limits { share: 0.67, ..shared }).changes().len(), 6);
}

// ── All that podgrant made, taken away by a person ──

const FOREIGN: &str =
    r#"{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}"#;

fn statement_of_ours(number: usize) -> String {
    format!(
        r#"{{"Sid":"PodgrantManaged{number}","Effect":"Allow","Principal":{{"Service":"pods.eks.amazonaws.com"}},"Action":["sts:AssumeRole","sts:TagSession"]}}"#
    )
}

fn by_a_person(plan: Plan, snapshot: &Snapshot) -> Approved {
    // What is counted and confirmed is not held to a limit.
    let limits =
        Limits { deletions: 0, share: 0.0, share_from: 0, allow_by: AllowBy::Flag, ..Limits::default() };
    guard(plan, snapshot, &limits)
}

/// A role with two statements of ours and one of others.
fn trusted() -> Role {
    let mut role = orphan("payments");
    role.trust_policy =
        format!("{{\"Statement\":[{},{FOREIGN},{}]}}", statement_of_ours(1), statement_of_ours(2));
    role
}

/// What an uninstall would do to [`installed`], one of each kind.
fn everything() -> [Change; 5] {
    let role = trusted();
    let mark = OrphanMark::new(&role, NOW - 5);
    [
        Change::Revoke {
            association: ours(&role, "prod-eu", "payments/api@prod-eu"),
            reason: RevokeReason::Uninstalled,
        },
        Change::RemoveAgent {
            cluster: cluster("prod-eu").id,
            agent: agent(true),
            reason: AgentRemoval::Uninstalled,
        },
        Change::RemoveAccessEntry { entry: entry(true) },
        withdrawal(&format!("{{\"Statement\":[{FOREIGN}]}}")),
        Change::UnmarkOrphan { role: role.arn, mark, reason: UnmarkReason::Uninstalled },
    ]
}

fn installed() -> Snapshot {
    let role = trusted();
    let association = ours(&role, "prod-eu", "payments/api@prod-eu");
    snapshot([role], [cluster("prod-eu"), cluster("other")], [association])
}

fn agent(managed: bool) -> Agent {
    let (version, status) = ("v1".to_owned(), "ACTIVE".to_owned());
    Agent { version, status, issues: Vec::new(), configuration: None, managed }
}

fn entry(managed: bool) -> ClusterAccess {
    ClusterAccess { cluster: cluster("prod-eu").id, principal: "arn:somebody".to_owned(), managed }
}

fn withdrawal(policy: &str) -> Change {
    let role = trusted();
    Change::WithdrawTrust {
        role: role.arn,
        role_id: role.id,
        policy_before: role.trust_policy,
        policy: policy.to_owned(),
    }
}

#[test]
fn all_that_podgrant_made_goes_at_the_word_of_a_person_alone() {
    let approved = by_a_person(plan_of(everything()), &installed());
    assert_eq!((approved.changes(), approved.findings()), (everything().as_slice(), [].as_slice()));
    let limits = Limits { deletions: 100, share: 1.0, ..Limits::default() };
    let approved = guard(plan_of(everything()), &installed(), &limits);
    assert_eq!(approved.changes(), []);
    assert!(approved.findings().iter().all(|finding| finding.reason.starts_with("only a person")));
    // What else goes is held to the limits as ever.
    let other = ours(&role("b"), "other", "a/b@_");
    let mut view = installed();
    view.associations.push(other.clone());
    let agentless = everything().into_iter().filter(|change| !matches!(change, Change::RemoveAgent { .. }));
    let approved = by_a_person(plan_of(agentless.chain([revoke(&other)])), &view);
    assert_eq!(approved.changes().len(), 4);
    assert!(!approved.changes().contains(&revoke(&other)));
}

/// Each condition by itself: what is withheld, of [`everything`] or of other changes, in [`installed`] or another view.
#[test]
fn each_thing_that_podgrant_made_has_its_own_conditions() {
    type Case = (&'static str, fn(&mut Vec<Change>, &mut Snapshot));
    let cases: [Case; 16] = [
        ("as it is", |_, _| {}),
        ("an unmarked association", |changes, _| {
            let association = foreign("other", "x/y");
            changes.push(Change::Revoke { association, reason: RevokeReason::Uninstalled });
        }),
        ("somebody's agent", |changes, _| {
            changes[1] = Change::RemoveAgent {
                cluster: cluster("prod-eu").id,
                agent: agent(false),
                reason: AgentRemoval::Uninstalled,
            };
        }),
        ("somebody's access entry", |changes, _| {
            changes[2] = Change::RemoveAccessEntry { entry: entry(false) };
        }),
        ("a policy without what is not ours", |changes, _| {
            changes[3] = withdrawal(&format!("{{\"Statement\":[{}]}}", statement_of_ours(1)));
        }),
        ("a policy with one of ours left", |changes, _| {
            changes[3] = withdrawal(&format!("{{\"Statement\":[{FOREIGN},{}]}}", statement_of_ours(2)));
        }),
        ("a role that is not in view", |_, view| view.roles.clear()),
        ("a role made again", |_, view| {
            let again = trusted().made_again();
            view.roles.insert(again.arn.clone(), again);
        }),
        ("another trust policy", |_, view| {
            view.roles.values_mut().for_each(|role| role.trust_policy.push(' '));
        }),
        ("a deletion that was begun", |changes, view| {
            let mark = OrphanMark::new(&trusted(), NOW - 5).with_deletion_begun();
            let role = view.roles.values_mut().next().unwrap();
            role.tags.insert("podgrant/orphaned-since".to_owned(), mark.to_string());
            let (role, reason) = (role.arn.clone(), UnmarkReason::Uninstalled);
            changes[4] = Change::UnmarkOrphan { role, mark, reason };
        }),
        ("an association that stays", |changes, _| drop(changes.remove(0))),
        ("somebody's association with the role", |_, view| {
            view.associations.push(foreign("other", "x/y").granting(&trusted()));
        }),
        ("somebody's association beside", |_, view| {
            view.associations.push(foreign("prod-eu", "x/y").granting(&role("b")));
        }),
        ("a gap there", |_, view| *view = view.clone().with_gap(Some("prod-eu"))),
        ("a gap elsewhere", |_, view| *view = view.clone().with_gap(Some("other"))),
        ("one cluster looked at", |_, view| *view = view.clone().scoped_to_cluster("prod-eu")),
    ];
    let mut table = String::new();
    for (name, changed) in cases {
        let (mut changes, mut view) = (everything().to_vec(), installed());
        changed(&mut changes, &mut view);
        let approved = by_a_person(plan_of(changes), &view);
        table += &format!("{name}\n");
        for finding in approved.findings() {
            table += &format!("    {finding}\n");
        }
    }
    assert_snapshot!(table, @"
    as it is
    an unmarked association
        withheld: eu-west-1/other x/y: association a-otherxy does not carry podgrant's mark
    somebody's agent
        withheld: eu-west-1/prod-eu: podgrant did not install this agent
    somebody's access entry
        withheld: eu-west-1/prod-eu: podgrant did not make the access entry of arn:somebody
    a policy without what is not ours
        withheld: role payments: it would change what is not podgrant's in the trust policy
    a policy with one of ours left
        withheld: role payments: it would change what is not podgrant's in the trust policy
    a role that is not in view
        withheld: role payments: the role AROAPAYMENTS with this trust policy is not in view
        withheld: role payments: the role AROAPAYMENTS is not in view, or another has its name
    a role made again
        withheld: role payments: the role AROAPAYMENTS with this trust policy is not in view
        withheld: role payments: the role AROAPAYMENTS is not in view, or another has its name
    another trust policy
        withheld: role payments: the role AROAPAYMENTS with this trust policy is not in view
    a deletion that was begun
        withheld: role payments: podgrant/orphaned-since = 1970-01-12T13:46:35Z AROAPAYMENTS begun is not a mark that the role has and may lose
    an association that stays
        withheld: eu-west-1/prod-eu: podgrant installed it, and associations that stay need it: payments/api (a-prodeupaymentsapi)
        withheld: role payments: association a-prodeupaymentsapi on eu-west-1/prod-eu stays, and needs it
    somebody's association with the role
        withheld: role payments: association a-otherxy of x/y on eu-west-1/other, that podgrant did not make, needs them
    somebody's association beside
        withheld: eu-west-1/prod-eu: podgrant installed it, and associations that stay need it: x/y (a-prodeuxy)
    a gap there
        withheld: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
        withheld: eu-west-1/prod-eu: a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
        withheld: eu-west-1/prod-eu: a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
        withheld: role payments: a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
        withheld: role payments: a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
    a gap elsewhere
        withheld: role payments: a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
        withheld: role payments: a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
    one cluster looked at
        withheld: role payments: a partial view deletes nothing: not every role and cluster was looked at; it is looked at again when the view is whole
        withheld: role payments: a partial view deletes nothing: not every role and cluster was looked at; it is looked at again when the view is whole
    ");
}
