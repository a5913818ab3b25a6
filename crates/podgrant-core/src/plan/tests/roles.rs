//! What becomes of roles all of whose clusters are gone.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::fixtures::{NOW, inventory};
use crate::orphan::RoleInventory;
use crate::trust::MISSING_STATEMENT;
use crate::{Association, FindingKind, Limits, guard};

const GRACE: i64 = 86_400;

/// A view in which a role is an orphan, was marked a grace period ago, asks to be deleted, and goes.
#[derive(Debug, Clone)]
struct World {
    role: Role,
    inventory: Option<RoleInventory>,
    /// All but the role.
    view: Snapshot,
    settings: OrphanSettings,
}

fn world() -> World {
    World {
        role: payments().tagged("podgrant/on-orphan", "delete").orphaned_since(NOW - GRACE),
        inventory: Some(inventory()),
        view: Snapshot {
            holders_whole: true,
            ..snapshot([], [cluster("other"), cluster("us-east-1/prod")], [])
        },
        settings: OrphanSettings { grace: GRACE, delete: true },
    }
}

impl World {
    fn seen(&self) -> Snapshot {
        let mut view = self.view.clone();
        view.roles.insert(self.role.arn.clone(), self.role.clone());
        view.inventories.extend(self.inventory.clone().map(|inventory| (self.role.arn.clone(), inventory)));
        view
    }

    fn plan(&self) -> Plan {
        let duty = Duty::Orphans { settings: self.settings, guardrails: Guardrails::default() };
        plan(duty, &self.seen(), &TagKeys::default())
    }

    fn untag(&mut self, key: &str) {
        self.role.tags.remove(&format!("podgrant/{key}"));
    }

    fn tag(&mut self, key: &str, value: &str) {
        self.role.tags.insert(format!("podgrant/{key}"), value.to_owned());
    }

    fn mark(&mut self, since: i64) {
        self.role = self.role.clone().orphaned_since(since);
    }

    fn inventory(&mut self) -> &mut RoleInventory {
        self.inventory.as_mut().unwrap()
    }

    fn moved(&mut self, path: &str) {
        self.role.arn = format!("arn:aws:iam::111122223333:role{path}payments").parse().unwrap();
    }

    /// Another statement in its trust policy, beside the one for pods.
    fn trusts(&mut self, statement: &str) {
        self.role.trust_policy = format!(r#"{{"Statement":[{MISSING_STATEMENT},{statement}]}}"#);
    }

    fn associate(&mut self, association: Association) {
        self.view.associations.push(association);
    }

    fn fate(&self) -> RoleFate {
        let seen = self.seen();
        let judged = judge_roles(&seen, &TagKeys::default(), &self.settings);
        judged.into_iter().find(|judged| *judged.role == self.role).unwrap().fate
    }

    /// What a pass does about it, and why.
    fn verdict(&self) -> (&'static str, String) {
        let plan = self.plan();
        let fate = self.fate();
        let half = plan.findings.iter().any(|finding| finding.kind == FindingKind::HalfDeletedRole);
        let word = match (plan.changes.as_slice(), &fate) {
            ([Change::DeleteRole { .. }], RoleFate::Goes(_)) => DELETED,
            ([Change::MarkOrphan { .. }], RoleFate::Marked { .. }) => MARKED,
            ([Change::UnmarkOrphan { .. }], _) => UNMARKED,
            ([], _) if half => HALF,
            ([], RoleFate::Lives(_)) => LIVES,
            ([], RoleFate::Protected(_)) => KEPT,
            ([], RoleFate::Reported(_)) => REPORTED,
            ([], RoleFate::Waits { .. }) => WAITS,
            ([], RoleFate::Unknown { .. }) => UNKNOWN,
            other => panic!("{other:?}"),
        };
        (word, fate.to_string())
    }
}

const DELETED: &str = "deleted";
const MARKED: &str = "marked";
/// It stays, and if it is an orphan again, the grace period begins anew.
const UNMARKED: &str = "unmarked";
const LIVES: &str = "lives";
const KEPT: &str = "kept";
const REPORTED: &str = "reported";
const WAITS: &str = "waits";
const UNKNOWN: &str = "unknown";
const HALF: &str = "half-deleted";

/// What is so, how it comes to be so, and the verdict: the word, and a part of the reason.
type Row = (&'static str, fn(&mut World), &'static str, &'static str);

/// Each of them differs from what is deleted in the one thing that it says: without the rule that it is about, the
/// role would go.
const TABLE: &[Row] = &[
    // What goes.
    ("marked a grace period ago, asking, protected by nothing", |_| {}, DELETED, "it goes"),
    ("marked long ago", |w| w.mark(2_000), DELETED, "it goes"),
    ("naming the region too", |w| w.tag("grant", "a/b@eu-west-1/prod-eu"), DELETED, "it goes"),
    (
        "naming several that are gone",
        |w| w.tag("grant", "a/b@prod-eu c/d@us-east-1/prod-us"),
        DELETED,
        "it goes",
    ),
    ("with a pattern on a cluster that is gone", |w| w.tag("grant", "a/job-_@prod-eu"), DELETED, "it goes"),
    (
        "naming a region that is looked at",
        |w| {
            w.tag("grant", "a/b@eu-west-1/prod-eu");
            w.view.regions.insert("eu-west-1".parse().unwrap());
        },
        DELETED,
        "it goes",
    ),
    ("last used a grace period ago", |w| w.inventory().last_used = Some(NOW - GRACE), DELETED, "it goes"),
    (
        "just old enough",
        |w| {
            w.role.created_at = NOW - GRACE;
        },
        DELETED,
        "it goes",
    ),
    ("under a path of its own", |w| w.moved("/teams/aws-reserved/"), DELETED, "it goes"),
    (
        "denying somebody in its trust policy",
        |w| {
            w.trusts(r#"{"Effect":"Deny","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}"#);
        },
        DELETED,
        "it goes",
    ),
    (
        "beside an association of another role",
        |w| {
            w.associate(foreign("other", "a/b").granting(&role("another")));
        },
        DELETED,
        "it goes",
    ),
    (
        "beside an association of podgrant's for another role",
        |w| {
            w.associate(ours(&role("another"), "other", "a/b@other"));
            w.view.roles.insert(role("another").arn, role("another"));
        },
        DELETED,
        "it goes",
    ),
    (
        "whose deletion was begun",
        |w| {
            let mark = OrphanMark::new(&w.role, NOW - GRACE).with_deletion_begun();
            w.tag("orphaned-since", &mark.to_string());
        },
        DELETED,
        "it goes",
    ),
    (
        "without policies",
        |w| {
            w.inventory().attached_policies.clear();
            w.inventory().inline_policies.clear();
        },
        DELETED,
        "it goes",
    ),
    // The two looks.
    (
        "not marked",
        |w| w.untag("orphaned-since"),
        MARKED,
        "it is to be marked, and goes after 1970-01-13T13:46:40Z",
    ),
    (
        "marked less than a grace period ago",
        |w| w.mark(NOW - GRACE + 1),
        WAITS,
        "goes after 1970-01-12T13:46:41Z",
    ),
    ("marked just now", |w| w.mark(NOW), WAITS, "goes after 1970-01-13T13:46:40Z"),
    ("marked in times to come", |w| w.mark(NOW + 1), MARKED, ""),
    (
        "marked before it was made",
        |w| {
            w.role.created_at = 50_000;
            w.mark(49_999);
        },
        MARKED,
        "",
    ),
    (
        "with the mark of another role",
        |w| {
            let copied = OrphanMark::new(&role("another"), NOW - GRACE).to_string();
            w.tag("orphaned-since", &copied);
        },
        MARKED,
        "",
    ),
    ("deleted and made again since it was marked", |w| w.role = w.role.clone().made_again(), MARKED, ""),
    ("with a damaged mark", |w| w.tag("orphaned-since", "1970-01-01T13:46:40Z"), MARKED, ""),
    ("whose mark lacks the moment", |w| w.tag("orphaned-since", "AROAPAYMENTS"), MARKED, ""),
    (
        "not marked, with no room for one tag more",
        |w| {
            w.untag("orphaned-since");
            (w.role.tags.len()..50).for_each(|n| drop(w.role.tags.insert(format!("tag{n}"), String::new())));
        },
        REPORTED,
        "no room for one tag more",
    ),
    (
        "with a damaged mark, and as many tags as a role may have",
        |w| {
            w.tag("orphaned-since", "");
            (w.role.tags.len()..50).for_each(|n| drop(w.role.tags.insert(format!("tag{n}"), String::new())));
        },
        MARKED,
        "",
    ),
    ("not read whole", |w| w.inventory().settings = None, REPORTED, "not all of it was read"),
    // The switches.
    ("not asking", |w| w.untag("on-orphan"), UNMARKED, "its tags do not ask for more"),
    ("asking to be kept", |w| w.tag("on-orphan", "keep"), UNMARKED, "its tags do not ask for more"),
    (
        "not asking, and not marked",
        |w| {
            w.untag("on-orphan");
            w.untag("orphaned-since");
        },
        REPORTED,
        "its tags do not ask for more",
    ),
    (
        "where podgrant deletes no roles",
        |w| w.settings.delete = false,
        REPORTED,
        "not configured to delete roles",
    ),
    (
        "not marked, where podgrant deletes no roles",
        |w| {
            w.settings.delete = false;
            w.untag("orphaned-since");
        },
        REPORTED,
        "not configured to delete roles",
    ),
    ("under a longer grace period", |w| w.settings.grace = GRACE + 1, WAITS, ""),
    // No orphans.
    ("without a grant", |w| w.untag("grant"), UNMARKED, "it has no grant"),
    (
        "of a cluster that is there",
        |w| w.view.clusters.extend(one("prod-eu")),
        UNMARKED,
        "cluster eu-west-1/prod-eu is there",
    ),
    (
        "of a cluster that is there in another region",
        |w| {
            w.view.clusters.extend(one("ap-south-1/prod-eu"));
        },
        UNMARKED,
        "cluster ap-south-1/prod-eu is there",
    ),
    (
        "of one cluster that is there and one that is not",
        |w| {
            w.tag("grant", "payments/api@prod-eu payments/api@other");
        },
        UNMARKED,
        "cluster eu-west-1/other is there",
    ),
    (
        "of a cluster that is there, under another label",
        |w| w.tag("grant/b", "a/b@other"),
        UNMARKED,
        "eu-west-1/other",
    ),
    (
        "of a cluster that is being made",
        |w| {
            let id = cluster_id("prod-eu");
            w.view.clusters.insert(id, cluster("prod-eu").status("CREATING"));
        },
        UNMARKED,
        "cluster eu-west-1/prod-eu is there",
    ),
    (
        "of a cluster that is being deleted",
        |w| {
            let id = cluster_id("prod-eu");
            w.view.clusters.insert(id, cluster("prod-eu").status("DELETING"));
        },
        UNMARKED,
        "cluster eu-west-1/prod-eu is there",
    ),
    (
        "of a cluster that opted out",
        |w| {
            let id = cluster_id("prod-eu");
            w.view.clusters.insert(id, cluster("prod-eu").tagged("podgrant/enroll", "off"));
        },
        UNMARKED,
        "cluster eu-west-1/prod-eu is there",
    ),
    (
        "with a selector that matches nothing today",
        |w| w.tag("grant", "a/b@env=prod"),
        UNMARKED,
        "a/b@env=prod names no cluster",
    ),
    (
        "with a selector beside a name",
        |w| w.tag("grant", "a/b@prod-eu a/b@env=prod"),
        UNMARKED,
        "a/b@env=prod names no cluster",
    ),
    ("for the whole fleet", |w| w.tag("grant", "a/b@prod-eu c/d@_"), UNMARKED, "c/d@_ names no cluster"),
    (
        "naming a region that is not looked at",
        |w| {
            w.tag("grant", "a/b@prod-eu a/b@ap-south-1/far");
            w.view.regions.insert("eu-west-1".parse().unwrap());
        },
        UNMARKED,
        "the region ap-south-1, which podgrant does not look at",
    ),
    (
        "with a grant that does not parse",
        |w| w.tag("grant", "payments/api@prod-eu nonsense"),
        UNMARKED,
        "can't be told",
    ),
    ("with another tag that does not parse", |w| w.tag("session-tags", "never"), UNMARKED, "can't be told"),
    ("with a misspelt tag", |w| w.tag("grnat", "a/b@other"), UNMARKED, "can't be told"),
    (
        "with a tag in other letters",
        |w| drop(w.role.tags.insert("Podgrant/grant".to_owned(), "a/b@other".to_owned())),
        UNMARKED,
        "can't be told",
    ),
    (
        "younger than the grace period",
        |w| {
            w.role.created_at = NOW - GRACE + 1;
            w.mark(NOW - GRACE + 1);
        },
        UNMARKED,
        "younger than the grace period, until 1970-01-12T13:46:41Z",
    ),
    (
        "younger than the grace period, and not marked",
        |w| {
            w.role.created_at = NOW - GRACE + 1;
            w.untag("orphaned-since");
        },
        LIVES,
        "younger than the grace period",
    ),
    (
        "without a grant, and not marked",
        |w| {
            w.untag("grant");
            w.untag("orphaned-since");
        },
        LIVES,
        "it has no grant",
    ),
    // What protects.
    (
        "linked to a service",
        |w| w.moved("/aws-service-role/eks.amazonaws.com/"),
        UNMARKED,
        "its path /aws-service-role/ is AWS's own",
    ),
    (
        "of a reserved path",
        |w| w.moved("/aws-reserved/sso.amazonaws.com/"),
        UNMARKED,
        "its path /aws-reserved/ is AWS's own",
    ),
    (
        "used within the grace period",
        |w| {
            w.inventory().last_used = Some(NOW - GRACE + 1);
        },
        UNMARKED,
        "it was used at 1970-01-11T13:46:41Z, within the grace period",
    ),
    (
        "used since it was marked, but not within the grace period",
        |w| {
            w.mark(NOW - 3 * GRACE);
            w.inventory().last_used = Some(NOW - 2 * GRACE);
        },
        MARKED,
        "goes after 1970-01-13T13:46:40Z",
    ),
    (
        "used since it was marked, whose deletion was begun",
        |w| {
            let mark = OrphanMark::new(&w.role, NOW - 3 * GRACE).with_deletion_begun();
            w.tag("orphaned-since", &mark.to_string());
            w.inventory().last_used = Some(NOW - 2 * GRACE);
        },
        HALF,
        "it was used at",
    ),
    ("used in times to come", |w| w.inventory().last_used = Some(NOW + 5), UNMARKED, "it was used at"),
    (
        "used within the grace period, and not marked",
        |w| {
            w.inventory().last_used = Some(NOW - 1);
            w.untag("orphaned-since");
        },
        KEPT,
        "it was used at",
    ),
    (
        "in an instance profile",
        |w| {
            w.inventory().instance_profiles.insert("nodes".to_owned());
        },
        UNMARKED,
        "it is in instance profiles (nodes)",
    ),
    (
        "trusting another service",
        |w| {
            w.trusts(
                r#"{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}"#,
            );
        },
        UNMARKED,
        "lets in others than pods (ec2.amazonaws.com)",
    ),
    (
        "trusting an account",
        |w| {
            w.trusts(r#"{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::222233334444:root"},"Action":"sts:AssumeRole"}"#);
        },
        UNMARKED,
        "(arn:aws:iam::222233334444:root)",
    ),
    (
        "trusting service accounts by OIDC",
        |w| {
            w.trusts(r#"{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::111122223333:oidc-provider/x"},"Action":"sts:AssumeRoleWithWebIdentity"}"#);
        },
        UNMARKED,
        "(arn:aws:iam::111122223333:oidc-provider/x)",
    ),
    (
        "trusting anyone",
        |w| w.trusts(r#"{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}"#),
        UNMARKED,
        "(*)",
    ),
    (
        "trusting all but one",
        |w| {
            w.trusts(r#"{"Effect":"Allow","NotPrincipal":{"AWS":"x"},"Action":"sts:AssumeRole"}"#);
        },
        UNMARKED,
        "whom its trust policy lets in can't be told",
    ),
    (
        "with a trust policy that makes no sense",
        |w| w.role.trust_policy = "{".to_owned(),
        UNMARKED,
        "whom its trust policy lets in can't be told",
    ),
    (
        "held by an association of somebody else's",
        |w| {
            w.associate(foreign("other", "a/b").granting(&w.role));
        },
        UNMARKED,
        "pods have it: eu-west-1/other a/b (association a-otherab, not podgrant's)",
    ),
    (
        "held in another region",
        |w| {
            w.associate(foreign("us-east-1/prod", "a/b").granting(&w.role));
        },
        UNMARKED,
        "us-east-1/prod a/b",
    ),
    (
        "held on a cluster that opted out",
        |w| {
            w.view.clusters.insert(cluster_id("out"), cluster("out").tagged("podgrant/enroll", "off"));
            w.associate(foreign("out", "a/b").granting(&w.role));
        },
        UNMARKED,
        "eu-west-1/out a/b",
    ),
    (
        "held by an add-on's association",
        |w| {
            w.associate(foreign("other", "a/b").granting(&w.role).owned_by("vpc-cni"));
        },
        UNMARKED,
        "not podgrant's",
    ),
    (
        "held by an association of podgrant's",
        |w| {
            w.associate(ours(&w.role, "other", "a/b@other"));
        },
        UNMARKED,
        "(association a-otherab, podgrant's)",
    ),
    (
        "held where podgrant's mark says another role",
        |w| {
            w.view.roles.insert(role("another").arn, role("another"));
            w.associate(ours(&role("another"), "other", "a/b@other").granting(&w.role));
        },
        UNMARKED,
        "pods have it",
    ),
    (
        "the target of an association",
        |w| {
            let mut chained = foreign("other", "a/b").granting(&role("another"));
            chained.record.as_mut().unwrap().target_role = Some(w.role.arn.to_string());
            w.associate(chained);
        },
        UNMARKED,
        "pods have it",
    ),
    (
        "the target of an association of podgrant's",
        |w| {
            w.view.roles.insert(role("another").arn, role("another"));
            let mut chained = ours(&role("another"), "other", "a/b@other");
            chained.mark.as_mut().unwrap().target_role = Some(w.role.arn.clone());
            w.associate(chained);
        },
        UNMARKED,
        "pods have it",
    ),
    (
        "held twice",
        |w| {
            w.associate(foreign("other", "c/d").granting(&w.role));
            w.associate(foreign("other", "a/b").granting(&w.role));
        },
        UNMARKED,
        "a/b (association a-otherab, not podgrant's), and 1 more",
    ),
    (
        "held, and not marked",
        |w| {
            w.untag("orphaned-since");
            w.associate(foreign("other", "a/b").granting(&w.role));
        },
        KEPT,
        "pods have it",
    ),
    // What is not known.
    (
        "where something could not be read",
        |w| w.view = w.view.clone().with_gap(Some("us-east-1/prod")),
        UNKNOWN,
        "the view is partial: eks:ListPodIdentityAssociations was throttled",
    ),
    (
        "not marked, where something could not be read",
        |w| {
            w.untag("orphaned-since");
            w.view = w.view.clone().with_gap(None);
        },
        UNKNOWN,
        "the view is partial",
    ),
    (
        "in a pass over one cluster",
        |w| w.view = w.view.clone().scoped_to_cluster("other"),
        UNKNOWN,
        "not every role and cluster was looked at",
    ),
    (
        "in a pass over its cluster, which is gone",
        |w| {
            w.view = w.view.clone().scoped_to_cluster("prod-eu");
            w.view.clusters_gone.insert(cluster_id("prod-eu"));
        },
        REPORTED,
        "what may protect it was not looked for",
    ),
    (
        "in a pass over its cluster, which is gone, where something could not be read",
        |w| {
            w.view = w.view.clone().scoped_to_cluster("prod-eu").with_gap(None);
            w.view.clusters_gone.insert(cluster_id("prod-eu"));
        },
        UNKNOWN,
        "the view is partial: eks:ListPodIdentityAssociations was throttled",
    ),
    (
        "in a pass over one role",
        |w| w.view = w.view.clone().scoped_to_role(&w.role),
        UNKNOWN,
        "not every role and cluster was looked at",
    ),
    (
        "of which nothing more is known",
        |w| w.inventory = None,
        REPORTED,
        "what may protect it was not looked for",
    ),
    (
        "where not every association was looked at",
        |w| w.view.holders_whole = false,
        REPORTED,
        "what may protect it was not looked for",
    ),
    (
        "where an association could not be looked at",
        |w| {
            w.view.holders_whole = false;
            w.view.holders_unseen = Some("eks:ListPodIdentityAssociations was denied".to_owned());
        },
        REPORTED,
        "was not looked for: eks:ListPodIdentityAssociations was denied",
    ),
    (
        "not marked, where not every association was looked at",
        |w| {
            w.view.holders_whole = false;
            w.untag("orphaned-since");
        },
        REPORTED,
        "what may protect it was not looked for",
    ),
    (
        "marked less than a grace period ago, where not every association was looked at",
        |w| {
            w.view.holders_whole = false;
            w.mark(NOW - GRACE + 1);
        },
        WAITS,
        "goes after 1970-01-12T13:46:41Z",
    ),
    (
        "not asking, where not every association was looked at",
        |w| {
            w.view.holders_whole = false;
            w.untag("on-orphan");
        },
        UNMARKED,
        "its tags do not ask for more",
    ),
    (
        "used of late, where not every association was looked at",
        |w| {
            w.view.holders_whole = false;
            w.inventory().last_used = Some(NOW);
        },
        UNMARKED,
        "it was used",
    ),
    (
        "beside an association that was not described",
        |w| w.associate(foreign("other", "a/b")),
        REPORTED,
        "what may protect it was not looked for",
    ),
    (
        "of a cluster that is there, where something could not be read",
        |w| {
            w.view.clusters.extend(one("prod-eu"));
            w.view = w.view.clone().with_gap(None);
        },
        UNMARKED,
        "cluster eu-west-1/prod-eu is there",
    ),
    // Deletions that were begun.
    (
        "whose deletion was begun, and whose cluster came back",
        |w| {
            begun(w);
            w.view.clusters.extend(one("prod-eu"));
        },
        HALF,
        "cluster eu-west-1/prod-eu is there",
    ),
    (
        "whose deletion was begun, and that no longer asks for it",
        |w| {
            begun(w);
            w.untag("on-orphan");
        },
        HALF,
        "its tags do not ask for more",
    ),
    (
        "whose deletion was begun, and that was used since",
        |w| {
            begun(w);
            w.inventory().last_used = Some(NOW - 1);
        },
        HALF,
        "it was used at",
    ),
    (
        "whose deletion was begun, where podgrant deletes no roles",
        |w| {
            begun(w);
            w.settings.delete = false;
        },
        HALF,
        "not configured to delete roles",
    ),
    (
        "whose deletion was begun, where something could not be read",
        |w| {
            begun(w);
            w.view = w.view.clone().with_gap(None);
        },
        HALF,
        "the view is partial",
    ),
];

fn one(name: &str) -> Option<(crate::ClusterId, crate::Cluster)> {
    Some((cluster_id(name), cluster(name)))
}

fn begun(world: &mut World) {
    let mark = OrphanMark::new(&world.role, NOW - GRACE).with_deletion_begun();
    world.tag("orphaned-since", &mark.to_string());
}

fn changed(change: fn(&mut World)) -> World {
    let mut world = world();
    change(&mut world);
    world
}

#[test]
fn each_situation_has_its_verdict() {
    assert!(TABLE.len() >= 40);
    for (what, change, word, reason) in TABLE {
        let (found, why) = changed(*change).verdict();
        assert!(found == *word && why.contains(reason), "a role {what}: {found}, for {why}");
    }
}

/// The change that the unchanged world leads to.
fn deletion() -> (Box<crate::RoleRecord>, OrphanMark) {
    match world().plan().changes.as_slice() {
        [Change::DeleteRole { record, mark }] => (record.clone(), mark.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_look_finds_whatever_changed_since() {
    let (planned, _) = deletion();
    let again =
        |world: &World| role_still_goes(&planned, &world.seen(), &TagKeys::default(), &world.settings);
    assert_eq!(again(&world()), Ok(()));
    let mut passed = Vec::new();
    for (what, change, word, _) in TABLE {
        let world = changed(*change);
        // Those that go are other roles, unless the role itself is the same.
        let same = world.role == self::world().role && world.inventory == self::world().inventory;
        let expected = *word == DELETED && same;
        assert_eq!(again(&world).is_ok(), expected, "a role {what}: {:?}", again(&world));
        passed.extend(expected.then_some(*what));
    }
    assert_eq!(
        passed,
        [
            "marked a grace period ago, asking, protected by nothing",
            "beside an association of another role",
            "beside an association of podgrant's for another role",
        ]
    );
    let why = |change: fn(&mut World)| again(&changed(change)).unwrap_err();
    assert_snapshot!(why(|w| w.inventory().attached_policies.extend(["new".to_owned()])), @"the role was changed meanwhile; the next pass judges it anew");
    assert_snapshot!(why(|w| drop(w.role.tags.insert("team".to_owned(), "new".to_owned()))), @"the role was changed meanwhile; the next pass judges it anew");
    assert_snapshot!(why(|w| w.role = w.role.clone().made_again()), @"the role was deleted and made again");
    let mut gone = world().seen();
    gone.roles.clear();
    let why = role_still_goes(&planned, &gone, &TagKeys::default(), &world().settings).unwrap_err();
    assert_snapshot!(why, @"the role is gone");
}

#[test]
fn the_guard_lets_no_role_go_that_is_protected_whatever_the_plan_says() {
    let unlimited = Limits { role_deletions: usize::MAX, share: 1.0, ..Limits::default() };
    let mut passed = Vec::new();
    for (what, change, word, _) in TABLE {
        let world = changed(*change);
        let mut seen = world.seen();
        // As if the plan had forgotten every rule.
        let inventory = world.inventory.clone().unwrap_or_else(inventory);
        let Some(record) = crate::RoleRecord::of(&world.role, &inventory) else { continue };
        let (tags, _) = crate::RoleTags::parse(&TagKeys::default(), &world.role.tags);
        let mark = tags.orphaned_since.unwrap_or_else(|| OrphanMark::new(&world.role, NOW - GRACE));
        let change = Change::DeleteRole { record: Box::new(record), mark };
        let plan = Plan { changes: vec![change], ..Plan::default() };
        seen.managed_elsewhere = 100;
        let approved = guard(plan, &seen, &TagKeys::default(), &unlimited);
        if approved.changes().is_empty() {
            assert_eq!(approved.findings()[0].kind, FindingKind::Withheld, "a role {what}");
            assert_ne!(*word, DELETED, "a role {what}: {}", approved.findings()[0]);
        } else if *word != DELETED {
            passed.push(*what);
        }
    }
    // What only the settings and the hour tell, and what the role was used for.
    insta::assert_debug_snapshot!(passed, @r#"
    [
        "marked less than a grace period ago",
        "marked just now",
        "where podgrant deletes no roles",
        "under a longer grace period",
        "younger than the grace period",
        "whose deletion was begun, where podgrant deletes no roles",
    ]
    "#);
}

/// What a deletion does, call by call; the last one would delete the role.
const STEPS: [fn(&mut World); 3] =
    [begun, |w| w.inventory().attached_policies.clear(), |w| w.inventory().inline_policies.clear()];

#[test]
fn a_deletion_that_failed_anywhere_is_brought_to_its_end_or_told() {
    for done in 0..=STEPS.len() {
        let mut world = world();
        STEPS.iter().take(done).for_each(|step| step(&mut world));
        // The next pass goes on with what is left.
        let changes = world.plan().changes;
        let [Change::DeleteRole { record, mark }] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!(mark.begun, done > 0);
        assert_eq!(record.attached_policies.is_empty(), done > 1);
        assert_eq!(role_still_goes(record, &world.seen(), &TagKeys::default(), &world.settings), Ok(()));
        // If it may not, nobody is told that the role is as it was.
        world.view.clusters.extend(one("prod-eu"));
        assert_eq!(world.verdict().0, if done > 0 { HALF } else { UNMARKED });
        let standings: Vec<Standing> = world.plan().orphans.iter().map(|orphan| orphan.standing).collect();
        assert_eq!(standings, if done > 0 { vec![Standing::HalfDeleted] } else { vec![] });
        // Nor if something protects it.
        world.view.clusters.remove(&cluster_id("prod-eu"));
        world.inventory().instance_profiles.insert("nodes".to_owned());
        let told = world.plan().orphans[0].clone();
        let expected = if done > 0 { Standing::HalfDeleted } else { Standing::Kept };
        assert_eq!(told.standing, expected, "{}", told.text);
        assert_eq!(told.text.contains("policies of it may be missing"), done > 0, "{}", told.text);
        world.inventory().instance_profiles.clear();
    }
}

#[test]
fn each_role_can_be_told_by_itself() {
    let told = |world: World| {
        let seen = world.seen();
        let judged = judge_roles(&seen, &TagKeys::default(), &world.settings);
        judged.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let mut several = changed(|w| w.inventory().last_used = Some(NOW - 60));
    several.view.roles.extend([role("a"), role("b").grant("a/b@_")].map(|role| (role.arn.clone(), role)));
    assert_snapshot!(told(several), @"
    role a: it is no orphan: it has no grant
    role b: it is no orphan: a/b@_ names no cluster, and may match one tomorrow
    role payments: every cluster that its grants name is gone (prod-eu); it is kept: it was used at 1970-01-12T13:45:40Z, within the grace period  (orphaned since 1970-01-11T13:46:40Z)
    ");
    assert_snapshot!(told(changed(|w| w.mark(NOW - 1))), @"role payments: every cluster that its grants name is gone (prod-eu); it is marked, and goes after 1970-01-13T13:46:39Z  (orphaned since 1970-01-12T13:46:39Z)");
}

fn told(world: &World) -> String {
    world.plan().to_string()
}

#[test]
fn it_is_told_what_goes_and_why_and_what_protects_the_rest() {
    assert_snapshot!(told(&world()), @"
    - role payments  policies ReadOnlyAccess  inline policies queue  (orphaned since 1970-01-11T13:46:40Z, no use known)
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    assert_snapshot!(told(&changed(|w| w.untag("orphaned-since"))), @"
    ~ role payments  + orphaned since 1970-01-12T13:46:40Z
    ! orphan role: role payments: every cluster that its grants name is gone (prod-eu); its tags say podgrant/on-orphan = delete: it is marked, and deleted after 1970-01-13T13:46:40Z
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    assert_snapshot!(told(&changed(|w| w.tag("orphaned-since", "soon"))), @"
    ~ role payments  + orphaned since 1970-01-12T13:46:40Z
    ! orphan role: role payments: every cluster that its grants name is gone (prod-eu); its tags say podgrant/on-orphan = delete: it is marked, and deleted after 1970-01-13T13:46:40Z
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    assert_snapshot!(told(&changed(|w| w.mark(NOW - 1))), @"
    ! orphan role: role payments: every cluster that its grants name is gone (prod-eu); its tags say podgrant/on-orphan = delete: orphaned since 1970-01-12T13:46:39Z, it is deleted after 1970-01-13T13:46:39Z
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    assert_snapshot!(told(&changed(|w| w.untag("on-orphan"))), @"
    ~ role payments  - orphaned since 1970-01-11T13:46:40Z  (it is only reported: its tags do not ask for more)
    ! orphan role: role payments: every cluster that its grants name is gone (prod-eu); take its tags away, or delete the role, if nothing else uses it; podgrant deletes it where its tags say podgrant/on-orphan = delete
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    assert_snapshot!(told(&changed(|w| w.settings.delete = false)), @"
    ! orphan role: role payments: every cluster that its grants name is gone (prod-eu); take its tags away, or delete the role, if nothing else uses it; its tags say podgrant/on-orphan = delete, and podgrant is not configured to delete roles
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    assert_snapshot!(told(&changed(|w| w.view.clusters.extend(one("prod-eu")))), @"
    ~ role payments  - orphaned since 1970-01-11T13:46:40Z  (it is no orphan: cluster eu-west-1/prod-eu is there)
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    assert_snapshot!(told(&changed(|w| {
        w.untag("orphaned-since");
        w.inventory().last_used = Some(NOW - 60);
        w.inventory().instance_profiles.insert("nodes".to_owned());
    })), @"
    ! orphan kept: role payments: every cluster that its grants name is gone (prod-eu); it is kept: it was used at 1970-01-12T13:45:40Z, within the grace period; it is in instance profiles (nodes)
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    assert_snapshot!(told(&changed(|w| {
        w.moved("/teams/a/");
        w.inventory().last_used = Some(2_000);
        begun(w);
    })), @"
    - role /teams/a/payments  policies ReadOnlyAccess  inline policies queue  (orphaned since 1970-01-11T13:46:40Z, last used 1970-01-01T00:33:20Z; its deletion was begun)
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    assert_snapshot!(told(&changed(|w| {
        begun(w);
        w.view.clusters.extend(one("prod-eu"));
    })), @"
    ! half-deleted role: role payments: its deletion was begun and did not end (orphaned since 1970-01-11T13:46:40Z), so policies of it may be missing; now it is no orphan: cluster eu-west-1/prod-eu is there; what it had is in the log and in podgrant's event: give that back and take the tag podgrant/orphaned-since away, or delete the role
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    assert_snapshot!(told(&changed(|w| {
        begun(w);
        w.view = w.view.clone().with_gap(None);
    })), @"
    ! half-deleted role: role payments: its deletion was begun and did not end (orphaned since 1970-01-11T13:46:40Z), so policies of it may be missing; now it is not judged: the view is partial: eks:ListPodIdentityAssociations was throttled; a sweep that sees everything goes on
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    assert_snapshot!(told(&changed(|w| {
        w.tag("orphaned-since", "1970-01-02T00:00:00Z AROAANOTHER");
        w.view.clusters.extend(one("prod-eu"));
    })), @"
    ! false orphan mark: role payments: tag podgrant/orphaned-since: 1970-01-02T00:00:00Z AROAANOTHER is not this role's own: its unique id is AROAPAYMENTS; nothing follows from it, take it away
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    // The whole record is for the log and the event.
    let (record, _) = deletion();
    assert_eq!(record.tags, world().role.tags);
    assert_eq!(record.trust_policy, world().role.trust_policy);
}

#[test]
fn only_a_look_at_everything_follows_a_change_of_an_orphan() {
    let (record, mark) = deletion();
    let changes = [
        Change::DeleteRole { record, mark: mark.clone() },
        Change::MarkOrphan { role: payments().arn, mark: mark.clone() },
        Change::UnmarkOrphan { role: payments().arn, mark, reason: UnmarkReason::SpokenFor(String::new()) },
    ];
    for change in &changes {
        assert_eq!(change.role(), Some(&payments().arn));
        assert_eq!(
            (change.cluster(), change.workload(), change.mark(), change.existing()),
            (None, None, None, None)
        );
        assert_eq!(change.follow_up(), FollowUp::Orphans { roles_missed: BTreeSet::new() });
        assert_eq!(change.takes_away(), matches!(change, Change::DeleteRole { .. }));
    }
}

#[test]
fn changes_of_roles_are_sorted_by_what_is_done_and_by_arn() {
    let named = |name: &str| role(name).grant(PROD).trusting().tagged("podgrant/on-orphan", "delete");
    let roles = [
        named("a").orphaned_since(NOW - GRACE),
        named("b"),
        named("c").grant("a/b@other").orphaned_since(NOW - GRACE),
        named("d").orphaned_since(NOW - GRACE),
        named("e"),
    ];
    let mut view = world().view;
    for role in roles {
        view.inventories.insert(role.arn.clone(), inventory());
        view.roles.insert(role.arn.clone(), role);
    }
    let duty = Duty::Orphans { settings: world().settings, guardrails: Guardrails::default() };
    let planned = plan(duty, &view, &TagKeys::default());
    let shown: Vec<String> = planned.changes.iter().map(ToString::to_string).collect();
    assert_snapshot!(shown.join("\n"), @"
    ~ role c  - orphaned since 1970-01-11T13:46:40Z  (it is no orphan: cluster eu-west-1/other is there)
    ~ role b  + orphaned since 1970-01-12T13:46:40Z
    ~ role e  + orphaned since 1970-01-12T13:46:40Z
    - role a  policies ReadOnlyAccess  inline policies queue  (orphaned since 1970-01-11T13:46:40Z, no use known)
    - role d  policies ReadOnlyAccess  inline policies queue  (orphaned since 1970-01-11T13:46:40Z, no use known)
    ");
}

/// A role, and what is so of it: each is drawn so that mostly nothing is in its way.
#[derive(Debug, Clone)]
struct Drawn {
    grants: Vec<usize>,
    on_orphan: Option<&'static str>,
    bad_tag: bool,
    mark: Option<(i64, MarkDrawn)>,
    born: i64,
    last_used: Option<i64>,
    profile: bool,
    others: bool,
    reserved: bool,
    held: Option<HeldDrawn>,
    inventory: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum MarkDrawn {
    Own,
    Begun,
    Copied,
    Damaged,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum HeldDrawn {
    Ours,
    Theirs,
    Unknown,
}

#[derive(Debug, Clone)]
struct Fleet {
    roles: Vec<Drawn>,
    /// Which of [`NAMED`] are there.
    there: Vec<bool>,
    one_region: bool,
    gap: bool,
    scoped: bool,
    holders_whole: bool,
    delete: bool,
}

/// What grants say after the `@`; the first three are clusters.
const NAMED: [&str; 6] = ["prod-eu", "test-eu", "us-east-1/prod-us", "env=prod", "_", "ap-south-1/far"];
const ROLES: [&str; 3] = ["ann", "bob", "cyd"];

fn fleet() -> impl Strategy<Value = Fleet> {
    let moment =
        || prop_oneof![Just(NOW - GRACE), Just(NOW - GRACE + 1), Just(NOW - 3 * GRACE), Just(NOW + 1)];
    let mark = prop_oneof![6 => Just(MarkDrawn::Own), 2 => Just(MarkDrawn::Begun), 1 => Just(MarkDrawn::Copied), 1 => Just(MarkDrawn::Damaged)];
    let mark_at = prop_oneof![4 => Just(NOW - GRACE), 1 => moment()];
    let held = prop_oneof![Just(HeldDrawn::Ours), Just(HeldDrawn::Theirs), Just(HeldDrawn::Unknown)];
    let selector = prop_oneof![9 => 0..3_usize, 1 => 3..NAMED.len()];
    let drawn = (
        prop::collection::vec(selector, 0..3),
        prop_oneof![5 => Just(Some("delete")), 1 => Just(Some("keep")), 1 => Just(Some("perhaps")), 1 => Just(None)],
        prop::bool::weighted(0.05),
        prop::option::weighted(0.8, (mark_at, mark)),
        prop_oneof![6 => Just(1_000), 1 => moment()],
        prop::option::weighted(0.3, moment()),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::option::weighted(0.15, held),
        prop::option::weighted(0.9, prop::bool::weighted(0.9)),
    )
        .prop_map(
            |(grants, on_orphan, bad_tag, mark, born, last_used, profile, others, reserved, held, inventory)| Drawn {
                grants,
                on_orphan,
                bad_tag,
                mark,
                born,
                last_used,
                profile,
                others,
                reserved,
                held,
                inventory,
            },
        );
    (
        prop::collection::vec(drawn, 1..=3),
        prop::collection::vec(prop::bool::weighted(0.15), 3),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.8),
    )
        .prop_map(|(roles, there, one_region, gap, scoped, holders_whole, delete)| Fleet {
            roles,
            there,
            one_region,
            gap,
            scoped,
            holders_whole,
            delete,
        })
}

fn built(fleet: &Fleet) -> (Snapshot, OrphanSettings) {
    let mut view = snapshot([], [cluster("other")], []);
    view.clusters
        .extend(fleet.there.iter().zip(NAMED).filter(|(there, _)| **there).flat_map(|(_, name)| one(name)));
    if fleet.one_region {
        view.regions = ["eu-west-1", "us-east-1"].iter().map(|region| region.parse().unwrap()).collect();
    }
    if fleet.gap {
        view = view.with_gap(None);
    }
    if fleet.scoped {
        view = view.scoped_to_cluster("prod-eu");
    }
    view.holders_whole = fleet.holders_whole;
    for (drawn, name) in fleet.roles.iter().zip(ROLES) {
        let mut made = role(name).trusting().born(drawn.born);
        if drawn.reserved {
            made.arn = format!("arn:aws:iam::111122223333:role/aws-reserved/{name}").parse().unwrap();
        }
        if drawn.others {
            made = made.amendable();
        }
        let subjects: Vec<String> =
            drawn.grants.iter().map(|to| format!("a/{name}@{}", NAMED[*to])).collect();
        if !subjects.is_empty() {
            made = made.grant(&subjects.join(" "));
        }
        if let Some(value) = drawn.on_orphan {
            made = made.tagged("podgrant/on-orphan", value);
        }
        if drawn.bad_tag {
            made = made.tagged("podgrant/adopt", "perhaps");
        }
        if let Some((since, mark)) = drawn.mark {
            let own = OrphanMark::new(&made, since);
            let value = match mark {
                MarkDrawn::Own => own.to_string(),
                MarkDrawn::Begun => own.with_deletion_begun().to_string(),
                MarkDrawn::Copied => OrphanMark::new(&role("another"), since).to_string(),
                MarkDrawn::Damaged => own.to_string().to_lowercase(),
            };
            made = made.tagged("podgrant/orphaned-since", &value);
        }
        let workload = format!("x/{name}");
        view.associations.extend(drawn.held.map(|held| match held {
            HeldDrawn::Ours => ours(&made, "other", &format!("{workload}@other")),
            HeldDrawn::Theirs => foreign("other", &workload).granting(&made),
            HeldDrawn::Unknown => foreign("other", &workload),
        }));
        if let Some(whole) = drawn.inventory {
            let mut inventory = inventory();
            inventory.last_used = drawn.last_used;
            inventory.instance_profiles.extend(drawn.profile.then(|| "nodes".to_owned()));
            inventory.settings = inventory.settings.filter(|_| whole);
            view.inventories.insert(made.arn.clone(), inventory);
        }
        view.roles.insert(made.arn.clone(), made);
    }
    (view, OrphanSettings { grace: GRACE, delete: fleet.delete })
}

/// Whether a role may be deleted, by the issue's own words.
fn may_go(fleet: &Fleet, drawn: &Drawn) -> bool {
    let whole_view = !fleet.gap
        && !fleet.scoped
        && fleet.holders_whole
        && !fleet.roles.iter().any(|role| role.held == Some(HeldDrawn::Unknown));
    let all_gone = !drawn.grants.is_empty()
        && drawn.grants.iter().all(|to| match to {
            0..3 => !fleet.there[*to],
            // Of a region that is looked at, a cluster that is not there.
            5 => !fleet.one_region,
            _ => false,
        });
    let asked = drawn.on_orphan == Some("delete") && !drawn.bad_tag;
    let marked = drawn.mark.is_some_and(|(since, mark)| {
        matches!(mark, MarkDrawn::Own | MarkDrawn::Begun) && since <= NOW - GRACE && since >= drawn.born
    });
    let old = drawn.born <= NOW - GRACE;
    let since = drawn.mark.map_or(0, |(since, _)| since);
    let unused = drawn.last_used.is_none_or(|at| at <= NOW - GRACE && at <= since);
    let protected = drawn.profile || drawn.others || drawn.reserved || drawn.held.is_some();
    let read = drawn.inventory == Some(true);
    fleet.delete && whole_view && all_gone && asked && marked && old && unused && !protected && read
}

fn planned(view: &Snapshot, settings: OrphanSettings) -> Plan {
    plan(Duty::Orphans { settings, guardrails: Guardrails::default() }, view, &TagKeys::default())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_role_goes_if_it_was_marked_and_asks_and_nothing_protects_it(fleet in fleet()) {
        let (view, settings) = built(&fleet);
        let plan = planned(&view, settings);
        let goes: BTreeSet<&str> = plan.changes.iter()
            .filter(|change| matches!(change, Change::DeleteRole { .. }))
            .filter_map(|change| change.role().map(|role| role.role_name()))
            .collect();
        let expected: BTreeSet<&str> = fleet.roles.iter().zip(ROLES)
            .filter(|(drawn, _)| may_go(&fleet, drawn))
            .map(|(_, name)| name)
            .collect();
        prop_assert_eq!(goes, expected);
        // Nothing else is done to roles, and nothing to associations of roles that live.
        for change in &plan.changes {
            let of_a_role =
                matches!(change, Change::MarkOrphan { .. } | Change::UnmarkOrphan { .. } | Change::DeleteRole { .. });
            prop_assert!(of_a_role, "{}", change);
        }
        // Each is either changed once or not at all.
        let roles: Vec<_> = plan.changes.iter().filter_map(Change::role).collect();
        prop_assert_eq!(roles.len(), roles.iter().collect::<BTreeSet<_>>().len());
        // What the plan does right, the guard does not hold up.
        let limits = Limits { share: 1.0, ..Limits::default() };
        let approved = guard(plan.clone(), &view, &TagKeys::default(), &limits);
        prop_assert_eq!(approved.changes(), plan.changes.as_slice());
        for change in &plan.changes {
            if let Change::DeleteRole { record, .. } = change {
                prop_assert_eq!(role_still_goes(record, &view, &TagKeys::default(), &settings), Ok(()));
            }
        }
    }

    #[test]
    fn the_order_of_what_is_seen_makes_no_difference(fleet in fleet()) {
        let (view, settings) = built(&fleet);
        let mut other = view.clone();
        other.associations.reverse();
        prop_assert_eq!(planned(&view, settings), planned(&other, settings));
    }

    #[test]
    fn what_was_done_is_not_done_again(fleet in fleet()) {
        let (mut view, settings) = built(&fleet);
        let mut marked = BTreeSet::new();
        for change in planned(&view, settings).changes {
            match change {
                Change::MarkOrphan { role, mark } => {
                    let (key, value) = mark.to_tag(&TagKeys::default());
                    marked.insert(role.clone());
                    view.roles.get_mut(&role).unwrap().tags.insert(key, value);
                }
                Change::UnmarkOrphan { role, mark, .. } => {
                    let (key, _) = mark.to_tag(&TagKeys::default());
                    view.roles.get_mut(&role).unwrap().tags.remove(&key);
                }
                Change::DeleteRole { record, .. } => drop(view.roles.remove(&record.role_arn)),
                other => panic!("{other}"),
            }
        }
        let again = planned(&view, settings).changes;
        prop_assert!(again.is_empty(), "{:?}", again);
        // After the grace period, who was marked goes, for nothing changed meanwhile.
        view.observed_at += GRACE;
        marked.retain(|role| view.inventories[role].settings.is_some());
        let then = planned(&view, settings).changes;
        let going = then.iter().filter(|change| matches!(change, Change::DeleteRole { .. })).filter_map(Change::role);
        let going: BTreeSet<_> = going.cloned().collect();
        prop_assert!(marked.is_subset(&going));
    }
}
