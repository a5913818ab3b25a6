//! The plan against a naive oracle, over a universe small enough to ask of each
//! place: who should hold it?

use proptest::prelude::*;

use super::*;
use crate::accounts::{Namespaces, SeenAccounts, ServiceAccounts};
use crate::model::AssociationRecord;
use crate::trust::manage::keeps_what_is_not_ours;
use crate::trust::{TrustPolicy, Use};
use crate::{Association, Limits, OnRefused, Powers, RoleArn, guard};

const ROLES: [&str; 3] = ["ann", "bob", "cyd"];
const CLUSTERS: [&str; 3] = ["eu-west-1/prod", "us-east-1/prod", "eu-west-1/test"];
const WORKLOADS: [&str; 3] = ["a/x", "a/y", "b/x"];
/// What a grant may say before the `@`: [`WORKLOADS`], and patterns.
const SUBJECTS: [&str; 6] = ["a/x", "a/y", "b/x", "a/_", "_/x", "b/x_"];
/// What a grant may say after the `@`, and which of [`CLUSTERS`] it means; `None`
/// where the name means two clusters and is refused.
const SELECTORS: [(&str, Option<&[usize]>); 6] = [
    ("_", Some(&[0, 1, 2])),
    ("prod", None),
    ("test", Some(&[2])),
    ("us-east-1/prod", Some(&[1])),
    ("env=live", Some(&[0, 1])),
    ("gone", Some(&[])),
];

/// Which of [`CLUSTERS`] it matches, whether it is ambiguous or not.
const MEANT: [&[usize]; 6] = [&[0, 1, 2], &[0, 1], &[2], &[1], &[0, 1], &[]];

/// Which of [`CLUSTERS`] a trust policy of ours allows for a selector: by their names, whether those are
/// ambiguous or not, and all of them where it names none.
const TRUSTED: [&[usize]; 6] = [&[0, 1, 2], &[0, 1], &[2], &[1], &[0, 1, 2], &[]];

#[derive(Debug, Clone)]
struct RoleDrawn {
    exists: bool,
    made_again: bool,
    /// For each of [`CLUSTERS`]: whether its trust policy holds there.
    trusting: [bool; 3],
    /// A place that a statement of ours trusts it for, from another day.
    once_trusted: Option<usize>,
    /// podgrant may amend its trust policy.
    manage: bool,
    /// And does not understand it.
    sealed: bool,
    adopt: bool,
    /// A part of `podgrant/grant` that does not parse.
    bad_grant: bool,
    bad_target: bool,
    session_tags_off: bool,
    born: i64,
    /// Indices of [`SUBJECTS`] and [`SELECTORS`].
    grants: Vec<(usize, usize)>,
    powers: Powers,
}

/// The guardrails, as far as they are drawn; [`REFUSED_NAMESPACE`] is one of them.
#[derive(Debug, Clone)]
struct GuardrailsDrawn {
    namespace_refused: bool,
    refuse_administrators: bool,
    max_service_accounts: usize,
    withdraw: bool,
}

/// Of the namespaces in [`WORKLOADS`].
const REFUSED_NAMESPACE: &str = "b";

#[derive(Debug, Clone, Copy, PartialEq)]
enum StandingDrawn {
    Nothing,
    /// By one of [`ROLES`], under the label of `podgrant/grant` or another; described or not.
    Ours {
        role: usize,
        labelled: bool,
        described: bool,
    },
    Theirs {
        grants: Option<usize>,
    },
    Owned {
        role: usize,
    },
}

#[derive(Debug, Clone)]
pub(super) struct World {
    roles: Vec<RoleDrawn>,
    /// For each cluster: ready and enrolled.
    open: Vec<bool>,
    /// For each cluster, for each workload.
    standing: Vec<StandingDrawn>,
    guardrails: GuardrailsDrawn,
    /// For each cluster: whether it was looked into.
    seen: Vec<bool>,
    /// For each place: whether its service account is there.
    there: Vec<bool>,
    /// For each place: whether an earlier look missed it.
    missed: Vec<bool>,
}

/// In place of a place: the last that the role has.
const WHAT_IT_HOLDS: usize = usize::MAX;

pub(super) fn world() -> impl Strategy<Value = World> {
    let subject = prop_oneof![3 => 0..3_usize, 2 => 3..SUBJECTS.len()];
    let role = (
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.2),
        (
            prop_oneof![3 => Just([true; 3]), 2 => Just([false; 3]), 2 => any::<[bool; 3]>()],
            prop_oneof![3 => Just(None), 1 => (0..9_usize).prop_map(Some), 2 => Just(Some(WHAT_IT_HOLDS))],
            any::<bool>(),
            prop::bool::weighted(0.15),
        ),
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
        any::<bool>(),
        0..2_i64,
        prop::collection::vec((subject, 0..SELECTORS.len()), 0..4),
        powers(),
    )
        .prop_map(
            |(
                exists,
                made_again,
                (trusting, once_trusted, manage, sealed),
                adopt,
                bad_grant,
                bad_target,
                session_tags_off,
                born,
                grants,
                powers,
            )| {
                RoleDrawn {
                    exists,
                    made_again,
                    trusting,
                    once_trusted,
                    manage,
                    sealed,
                    adopt,
                    bad_grant,
                    bad_target,
                    session_tags_off,
                    born,
                    grants,
                    powers,
                }
            },
        );
    let standing = prop_oneof![
        3 => Just(StandingDrawn::Nothing),
        5 => (0..3_usize, prop::bool::weighted(0.3), any::<bool>())
            .prop_map(|(role, labelled, described)| StandingDrawn::Ours { role, labelled, described }),
        2 => prop::option::of(0..3_usize).prop_map(|grants| StandingDrawn::Theirs { grants }),
        1 => (0..3_usize).prop_map(|role| StandingDrawn::Owned { role }),
    ];
    (
        prop::collection::vec(role, 3),
        prop::collection::vec(prop::bool::weighted(0.85), 3),
        prop::collection::vec(standing, 9),
        guardrails(),
        prop::collection::vec(prop::bool::weighted(0.8), 3),
        prop::collection::vec(prop::bool::weighted(0.7), 9),
        prop::collection::vec(any::<bool>(), 9),
    )
        .prop_map(|(mut roles, open, standing, guardrails, seen, there, missed)| {
            let held = |number: usize| {
                standing.iter().rposition(
                    |standing| matches!(standing, StandingDrawn::Ours { role, .. } if *role == number),
                )
            };
            for (number, drawn) in roles.iter_mut().enumerate() {
                if drawn.once_trusted == Some(WHAT_IT_HOLDS) {
                    drawn.once_trusted = held(number);
                }
            }
            World { roles, open, standing, guardrails, seen, there, missed }
        })
}

fn powers() -> impl Strategy<Value = Powers> {
    let (policy, problem) = ("p".to_owned(), "it has no Statement".to_owned());
    prop_oneof![
        8 => Just(Powers::Limited),
        2 => Just(Powers::Everything { policy: policy.clone() }),
        2 => Just(Powers::Unread),
        1 => Just(Powers::Unclear { policy, problem }),
    ]
}

fn guardrails() -> impl Strategy<Value = GuardrailsDrawn> {
    let max = prop_oneof![1 => Just(1), 1 => Just(2), 2 => Just(3), 2 => Just(4)];
    (any::<bool>(), prop::bool::weighted(0.8), max, any::<bool>()).prop_map(
        |(namespace_refused, refuse_administrators, max_service_accounts, withdraw)| GuardrailsDrawn {
            namespace_refused,
            refuse_administrators,
            max_service_accounts,
            withdraw,
        },
    )
}

fn grants_of(world: &World) -> Duty {
    Duty::Grants { guardrails: limits(world) }
}

fn limits(world: &World) -> Guardrails {
    let drawn = &world.guardrails;
    Guardrails {
        refused_namespaces: drawn
            .namespace_refused
            .then(|| REFUSED_NAMESPACE.parse().unwrap())
            .into_iter()
            .collect(),
        refuse_administrators: drawn.refuse_administrators,
        max_service_accounts: drawn.max_service_accounts,
        on_refused: if drawn.withdraw { OnRefused::Withdraw } else { OnRefused::Report },
        ..Guardrails::default()
    }
}

/// What guardrails say to a role in a place.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Word {
    Yes,
    /// Nobody knows yet.
    Later,
    /// No, and maybe wrongly so.
    Doubt,
    No,
}

impl World {
    /// What guardrails say to a role, wherever it asks.
    fn word_to(&self, role: usize) -> Word {
        let (drawn, limits) = (&self.roles[role], &self.guardrails);
        let named: BTreeSet<usize> = drawn.grants.iter().map(|(subject, _)| *subject).collect();
        match drawn.powers {
            _ if named.len() > limits.max_service_accounts => Word::No,
            _ if !limits.refuse_administrators => Word::Yes,
            Powers::Limited => Word::Yes,
            Powers::Everything { .. } => Word::No,
            Powers::Unread => Word::Later,
            Powers::Unclear { .. } => Word::Doubt,
        }
    }

    fn refuses(&self, workload: usize) -> bool {
        self.guardrails.namespace_refused && WORKLOADS[workload].starts_with(REFUSED_NAMESPACE)
    }

    /// What guardrails say to the best that a role has to say for a place.
    fn word(&self, role: usize, place: usize) -> Word {
        match self.word_to(role) {
            _ if self.refuses(place % 3) => Word::No,
            Word::Yes | Word::Later if !self.names(role, place) && self.crowds(role, place / 3) => {
                Word::Doubt
            }
            word => word,
        }
    }

    /// The places on a cluster that a grant means, by its name or by its pattern, whether anything is there or not.
    fn asked(&self, role: usize, patterned: bool) -> impl Iterator<Item = usize> {
        let drawn = &self.roles[role];
        let grants =
            drawn.grants.iter().filter(move |(subject, _)| drawn.exists && (*subject >= 3) == patterned);
        grants.flat_map(|(subject, selector)| {
            let clusters = SELECTORS[*selector].1.unwrap_or_default().iter();
            clusters.flat_map(|cluster| {
                (0..3)
                    .filter(|workload| means(*subject, *workload))
                    .map(move |workload| cluster * 3 + workload)
            })
        })
    }

    fn names(&self, role: usize, place: usize) -> bool {
        self.asked(role, false).any(|asked| asked == place)
    }

    /// Whether a pattern of a role means a place.
    fn matches(&self, role: usize, place: usize) -> bool {
        self.asked(role, true).any(|asked| asked == place)
    }

    fn has(&self, role: usize, place: usize) -> bool {
        matches!(self.standing[place], StandingDrawn::Ours { role: holder, .. } if holder == role)
    }

    /// Whether a role's pattern comes to claim a place.
    fn reaches(&self, role: usize, place: usize) -> bool {
        self.matches(role, place)
            && self.seen[place / 3]
            && self.there[place]
            && (!self.refuses(place % 3) || self.has(role, place))
    }

    /// Whether too many share a role on a cluster by its patterns.
    fn crowds(&self, role: usize, cluster: usize) -> bool {
        let named =
            self.roles[role].grants.iter().map(|(subject, _)| *subject).filter(|subject| *subject < 3);
        // Ambiguous or not.
        let meant = self.roles[role].grants.iter().flat_map(|(subject, selector)| {
            (0..3).filter(move |workload| {
                *subject >= 3 && MEANT[*selector].contains(&cluster) && means(*subject, *workload)
            })
        });
        let meant = meant.filter(|w| self.seen[cluster] && self.there[cluster * 3 + w] && !self.refuses(*w));
        named.chain(meant).collect::<BTreeSet<_>>().len() > self.guardrails.max_service_accounts
    }

    /// Whether it may well ask for a place that it has: where it can't be seen, or not for the first time.
    fn may_ask(&self, role: usize, place: usize) -> bool {
        self.matches(role, place) && (!self.seen[place / 3] || (!self.there[place] && !self.missed[place]))
    }

    fn asks(&self, role: usize, place: usize) -> bool {
        self.names(role, place) || self.reaches(role, place)
    }

    /// Of those that may have a place: a name goes before a pattern, then the older role.
    fn heir(&self, place: usize) -> Option<usize> {
        let able = (0..3).filter(|role| self.may_have(*role, place));
        able.min_by_key(|role| (!self.names(*role, place), self.roles[*role].born, *role))
    }

    /// Whether a role that asks for a place, and is or may yet be allowed to, is trusted there: now, after this
    /// pass, or when more is known.
    fn trusts(&self, role: usize, place: usize) -> bool {
        let drawn = &self.roles[role];
        drawn.trusting[place / 3]
            // Its conditions ask for session tags.
            || (drawn.once_trusted == Some(place) && !drawn.session_tags_off)
            || (drawn.manage && !drawn.sealed && !drawn.bad_target)
    }

    /// Asking, and nothing wrong with it.
    fn may_have(&self, role: usize, place: usize) -> bool {
        self.asks(role, place)
            && self.trusts(role, place)
            && !self.roles[role].bad_target
            && self.word(role, place) == Word::Yes
    }

    /// Whether what podgrant may write lets a role in here: one statement for each namespace, or pattern of them, with
    /// all the service accounts and all the clusters that are asked for in it.
    fn may_come_to_trust(&self, role: usize, place: usize) -> bool {
        let (cluster, workload, drawn) = (place / 3, place % 3, &self.roles[role]);
        let namespace = |subject: usize| SUBJECTS[subject].split('/').next().unwrap();
        let refused =
            |subject: usize| self.guardrails.namespace_refused && namespace(subject) == REFUSED_NAMESPACE;
        let grants = || drawn.grants.iter().filter(|(subject, _)| !refused(*subject));
        let lets_in = |named: &&(usize, usize)| {
            (drawn.session_tags_off || means(named.0, workload))
                && grants().any(|(beside, selector)| {
                    (drawn.session_tags_off || namespace(*beside) == namespace(named.0))
                        && TRUSTED[*selector].contains(&cluster)
                })
        };
        drawn.manage
            && !drawn.sealed
            && !drawn.bad_target
            && self.word_to(role) == Word::Yes
            && grants().any(|named| lets_in(&named))
    }
}

/// Whether what stands before the `@` means one of [`WORKLOADS`].
fn means(subject: usize, workload: usize) -> bool {
    match subject {
        0..3 => subject == workload,
        3 => workload < 2,
        4 => workload != 1,
        _ => workload == 2,
    }
}

/// As a role was when it made what stands: before it was made again.
fn old_role(index: usize) -> Role {
    role(ROLES[index])
}

pub(super) fn built(world: &World) -> Snapshot {
    let mut view = snapshot([], [], []);
    for (index, drawn) in world.roles.iter().enumerate().filter(|(_, drawn)| drawn.exists) {
        let mut built = old_role(index).born(drawn.born).with(drawn.powers.clone());
        let mut value: Vec<String> = drawn
            .grants
            .iter()
            .map(|(subject, selector)| format!("{}@{}", SUBJECTS[*subject], SELECTORS[*selector].0))
            .collect();
        if drawn.bad_grant {
            value.push("nonsense".to_owned());
        }
        if !value.is_empty() {
            built = built.grant(&value.join(" "));
        }
        if drawn.bad_target {
            built = built.tagged("podgrant/target-role", "nonsense");
        }
        if drawn.session_tags_off {
            built = built.tagged("podgrant/session-tags", "off");
        }
        built = if drawn.made_again { built.made_again() } else { built };
        let trusted: Vec<String> = CLUSTERS
            .iter()
            .zip(drawn.trusting)
            .filter(|(_, trusting)| *trusting)
            .map(|(name, _)| cluster(name).arn)
            .collect();
        built = match trusted.len() {
            0 => built.amendable(),
            3 => built.trusting(),
            _ => built.trusting_where(&format!(r#"{{"ArnLike":{{"aws:SourceArn":{trusted:?}}}}}"#)),
        };
        if let Some(place) = drawn.once_trusted {
            built.trust_policy = with_statement_of_ours(&built.trust_policy, place);
        }
        if drawn.sealed {
            built.trust_policy = built.trust_policy.replacen('{', r#"{"Unknown":1,"#, 1);
        }
        built.tags.remove("podgrant/trust");
        if drawn.manage {
            built = built.tagged("podgrant/trust", "manage");
        }
        if drawn.adopt {
            built = built.tagged("podgrant/adopt", "on");
        }
        view.roles.insert(built.arn.clone(), built);
    }
    for (name, open) in CLUSTERS.iter().zip(&world.open) {
        let mut built = cluster(name);
        if name.ends_with("/prod") {
            built = built.tagged("env", "live");
        }
        if !open {
            built = built.tagged("podgrant/enroll", "off");
        }
        view.clusters.insert(built.id.clone(), built);
    }
    for (number, name) in CLUSTERS.iter().enumerate().filter(|(number, _)| world.seen[*number]) {
        let there = (0..3).filter(|workload| world.there[number * 3 + workload]);
        let there = there.map(|workload| foreign(name, WORKLOADS[workload]).workload).collect();
        let seen = ServiceAccounts::Seen(SeenAccounts::new(Namespaces::All, there));
        view.service_accounts.insert(cluster_id(name), seen);
    }
    for place in (0..9).filter(|place| world.missed[*place]) {
        let missed = foreign(CLUSTERS[place / 3], WORKLOADS[place % 3]);
        view.accounts_missed.insert((missed.cluster, missed.workload));
    }
    for (place, drawn) in world.standing.iter().enumerate() {
        let (on, workload) = (CLUSTERS[place / 3], WORKLOADS[place % 3]);
        // By a tag that nobody has now: what it says must not matter.
        let by = |role: usize| ours(&old_role(role), on, &format!("{workload}@then=so"));
        view.associations.extend(match drawn {
            StandingDrawn::Nothing => None,
            StandingDrawn::Ours { role, labelled, described } => {
                let association = by(*role).labelled(if *labelled { "other" } else { "" });
                Some(if *described { association.granting(&old_role(*role)) } else { association })
            }
            StandingDrawn::Theirs { grants } => {
                let association = foreign(on, workload);
                Some(match grants {
                    Some(role) => association.granting(&old_role(*role)),
                    None => association,
                })
            }
            StandingDrawn::Owned { role } => Some(by(*role).owned_by("an add-on")),
        });
    }
    view
}

/// As podgrant wrote it when this was the one place that the role asked for.
fn with_statement_of_ours(policy: &str, place: usize) -> String {
    let mut policy: serde_json::Value = serde_json::from_str(policy).unwrap();
    let (namespace, service_account) = WORKLOADS[place % 3].split_once('/').unwrap();
    policy["Statement"].as_array_mut().unwrap().push(serde_json::json!({
        "Sid": "PodgrantManaged1",
        "Effect": "Allow",
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {
            "ArnLike": {"aws:SourceArn": cluster(CLUSTERS[place / 3]).arn},
            "StringEquals": {
                "aws:RequestTag/kubernetes-namespace": namespace,
                "aws:RequestTag/kubernetes-service-account": service_account,
                "aws:SourceAccount": "111122223333",
            },
        },
    }));
    policy.to_string()
}

/// Who should hold a place: `Some(None)` where nobody should, `None` where what
/// stands must stay as it is.
fn rightful(world: &World, place: usize) -> Option<Option<usize>> {
    let (cluster, workload) = (place / 3, place % 3);
    let heir = world.heir(place);
    let holder = match world.standing[place] {
        StandingDrawn::Nothing => None,
        StandingDrawn::Ours { role, labelled, .. } => Some((role, labelled)),
        // Adopted by the role that it has, and by no other.
        StandingDrawn::Theirs { grants } => {
            let named = heir.is_some_and(|heir| world.names(heir, place));
            let adopts = |role: &usize| {
                let first = world.names(*role, place) || !named;
                world.roles[*role].adopt && world.may_have(*role, place) && first
            };
            return grants.filter(adopts).filter(|_| world.open[cluster]).map(Some);
        }
        StandingDrawn::Owned { .. } => return None,
    };
    if !world.open[cluster] {
        return None;
    }
    if let Some((role, labelled)) = holder {
        let drawn = &world.roles[role];
        let trusted = world.trusts(role, place) || !drawn.made_again;
        let word = world.word(role, place);
        let goes = word == Word::No && world.guardrails.withdraw;
        // What names it goes before what means it by a pattern.
        let outranked = !world.names(role, place) && heir.is_some_and(|heir| world.names(heir, place));
        if world.asks(role, place) && trusted {
            match word {
                Word::Yes if !outranked => return Some(Some(role)),
                // As it stands, by whatever tag and with whatever setting.
                Word::Later if !outranked => return None,
                Word::Doubt | Word::No if !drawn.made_again && !goes && !outranked => return None,
                _ => {}
            }
        }
        let refused_as_ambiguous = drawn.grants.iter().any(|(subject, selector)| {
            means(*subject, workload) && SELECTORS[*selector].1.is_none() && cluster < 2
        });
        let bad_tag = drawn.bad_grant && !drawn.made_again && !labelled;
        if drawn.exists && (bad_tag || refused_as_ambiguous) && !goes {
            return None;
        }
        let goes_to_a_name = heir.is_some_and(|heir| world.names(heir, place));
        if world.may_ask(role, place) && !goes && !goes_to_a_name {
            return None;
        }
    }
    match (holder, heir) {
        // Left to clean-up-orphans.
        (Some((role, _)), None) if !world.roles[role].exists => None,
        _ => Some(heir),
    }
}

/// What AWS would do.
fn apply(changes: &[Change], view: &mut Snapshot) {
    for change in changes {
        match change {
            Change::Create { workload, mark } => {
                let made = foreign(&mark.cluster.to_string(), &workload.to_string());
                assert!(!view.associations.iter().any(|a| a.arn == made.arn), "already there: {change}");
                view.associations.push(Association { mark: Some(mark.clone()), ..made });
            }
            Change::Update { association, mark } => {
                let standing = view.associations.iter_mut().find(|a| *a == association);
                let standing = standing.unwrap_or_else(|| panic!("not there: {change}"));
                standing.record = standing.record.take().map(|_| AssociationRecord {
                    role_arn: mark.role_arn.to_string(),
                    session_tags_off: mark.session_tags_off,
                    target_role: mark.target_role.as_ref().map(ToString::to_string),
                });
                standing.mark = Some(mark.clone());
            }
            Change::Adopt { association, mark } => {
                let standing = view.associations.iter_mut().find(|a| *a == association);
                let standing = standing.unwrap_or_else(|| panic!("not there: {change}"));
                standing.record = Some(AssociationRecord {
                    // It takes over what it meets.
                    role_arn: standing.record.as_ref().unwrap().role_arn.clone(),
                    session_tags_off: mark.session_tags_off,
                    target_role: mark.target_role.as_ref().map(ToString::to_string),
                });
                standing.mark = Some(mark.clone());
            }
            Change::AmendTrust { role, role_id, policy_before, policy } => {
                let role = view.roles.get_mut(role).unwrap_or_else(|| panic!("not there: {change}"));
                assert_eq!((&role.id, &role.trust_policy), (role_id, policy_before));
                role.trust_policy = policy.clone();
            }
            Change::Revoke { association, .. } => {
                let count = view.associations.len();
                view.associations.retain(|a| a != association);
                assert_eq!(view.associations.len(), count - 1, "not there: {change}");
            }
            Change::MarkOrphan { .. }
            | Change::WithdrawTrust { .. }
            | Change::RemoveAccessEntry { .. }
            | Change::UnmarkOrphan { .. }
            | Change::DeleteRole { .. }
            | Change::InstallAgent { .. }
            | Change::UpdateAgent { .. }
            | Change::RemoveAgent { .. }
            | Change::OpenKubernetes { .. }
            | Change::AnnounceAgent { .. }
            | Change::AnnounceCluster { .. } => {
                panic!("not a grant: {change}")
            }
        }
    }
}

const NO_LIMITS: Limits = Limits {
    deletions: usize::MAX,
    role_deletions: usize::MAX,
    share: 1.0,
    share_from: usize::MAX,
    allow_by: crate::AllowBy::Invoke,
};

fn decide(duty: Duty, view: &Snapshot) -> crate::Approved {
    guard(plan(duty, view, &TagKeys::default()), view, &TagKeys::default(), &NO_LIMITS)
}

fn holder_of(view: &Snapshot, place: usize) -> Option<(RoleArn, crate::RoleId)> {
    let at = foreign(CLUSTERS[place / 3], WORKLOADS[place % 3]);
    let association = view.associations.iter().find(|a| a.arn == at.arn)?;
    association.mark.as_ref().map(|mark| (mark.role_arn.clone(), mark.role_id.clone()))
}

fn at(view: &Snapshot, place: usize) -> Option<&Association> {
    let at = foreign(CLUSTERS[place / 3], WORKLOADS[place % 3]);
    view.associations.iter().find(|a| a.arn == at.arn)
}

/// The same change. What an amended policy adds hangs on the role's tags; what it takes
/// out, on what is seen to stand.
fn same(one: &Change, other: &Change) -> bool {
    let amended = |change: &Change| match change {
        Change::AmendTrust { role, .. } => Some(role.clone()),
        _ => None,
    };
    one == other || amended(one).is_some_and(|role| amended(other) == Some(role))
}

/// Whether EKS Pod Identity may assume a role in a place.
fn is_trusted(role: &Role, place: usize, session_tags_off: bool) -> bool {
    let at = foreign(CLUSTERS[place / 3], WORKLOADS[place % 3]);
    let usage = Use {
        account: role.arn.account(),
        session_tags_off: Some(session_tags_off),
        place: Some((&cluster(CLUSTERS[place / 3]), &at.workload)),
    };
    TrustPolicy::read(&role.trust_policy).allows(&usage).is_ok()
}

fn index_of(arn: &RoleArn) -> usize {
    ROLES.iter().position(|name| role(name).arn == *arn).unwrap()
}

fn place_of(change: &Change) -> usize {
    let cluster = CLUSTERS.iter().position(|name| Some(&cluster_id(name)) == change.cluster()).unwrap();
    let workload = change.workload().unwrap().to_string();
    cluster * 3 + WORKLOADS.iter().position(|name| *name == workload).unwrap()
}

fn both(world: &World) -> [Duty; 2] {
    [
        grants_of(world),
        Duty::Orphans { settings: OrphanSettings { grace: 0, delete: false }, guardrails: limits(world) },
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 860, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_place_goes_to_whom_the_oracle_says(world in world()) {
        let before = built(&world);
        let mut after = before.clone();
        apply(decide(grants_of(&world), &before).changes(), &mut after);
        for place in 0..9 {
            match rightful(&world, place) {
                None => prop_assert_eq!(at(&after, place), at(&before, place), "place {}", place),
                Some(None) => prop_assert_eq!(at(&after, place), None, "place {}", place),
                Some(Some(role)) => {
                    let (number, drawn) = (role, &world.roles[role]);
                    let role = &after.roles[&old_role(role).arn];
                    let holder = Some((role.arn.clone(), role.id.clone()));
                    prop_assert_eq!(holder_of(&after, place), holder, "place {}", place);
                    // And by a grant and with the settings that its tags have now.
                    let association = at(&after, place).unwrap();
                    let mark = association.mark.as_ref().unwrap();
                    // Nobody is cut off by a setting that its trust policy can't stand.
                    let cut_off = matches!(world.standing[place], StandingDrawn::Ours { role, .. } if role == number)
                        && !drawn.made_again
                        && !world.trusts(number, place)
                        && drawn.once_trusted == Some(place);
                    prop_assert_eq!(mark.session_tags_off, drawn.session_tags_off && !cut_off, "place {}", place);
                    prop_assert_ne!(mark.subject.clusters.to_string(), "then=so", "place {}", place);
                    prop_assert!(mark.label.is_empty(), "place {}", place);
                    prop_assert!(association.record.is_none() || association.agrees_with(mark), "place {}", place);
                    // And is trusted for it, if it has any say in that.
                    let trusted = is_trusted(role, place, drawn.session_tags_off);
                    prop_assert_eq!(trusted, world.trusts(number, place), "place {}: {}", place, role.trust_policy);
                }
            }
        }
    }

    #[test]
    fn once_applied_nothing_is_left_to_do(world in world()) {
        let mut view = built(&world);
        for duty in both(&world) {
            apply(decide(duty, &view).changes(), &mut view);
        }
        for duty in both(&world) {
            let again = decide(duty, &view);
            prop_assert_eq!(again.changes(), []);
        }
    }

    #[test]
    fn the_order_of_the_functions_does_not_matter_in_the_end(world in world()) {
        let (mut there, mut back) = (built(&world), built(&world));
        // The second round is for a place that the first function freed.
        let [grants, orphans] = both(&world);
        for duty in [&grants, &orphans, &grants].map(Clone::clone) {
            apply(decide(duty, &there).changes(), &mut there);
        }
        for duty in [&orphans, &grants, &grants].map(Clone::clone) {
            apply(decide(duty, &back).changes(), &mut back);
        }
        for place in 0..9 {
            prop_assert_eq!(holder_of(&there, place), holder_of(&back, place), "place {}", place);
        }
    }

    #[test]
    fn the_order_of_associations_does_not_matter(
        world in world(), order in Just((0..9).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let view = built(&world);
        let mut shuffled = view.clone();
        shuffled.associations = order.iter().filter_map(|i| view.associations.get(*i).cloned()).collect();
        for duty in both(&world) {
            let keys = TagKeys::default();
            prop_assert_eq!(plan(duty.clone(), &view, &keys), plan(duty, &shuffled, &keys));
        }
    }

    #[test]
    fn what_is_not_ours_stays_as_it_is(world in world()) {
        let before = built(&world);
        let mut after = before.clone();
        for duty in both(&world) {
            apply(decide(duty.clone(), &after).changes(), &mut after);
        }
        for place in 0..9 {
            let Some(standing) = at(&before, place).filter(|standing| standing.managed().is_none()) else { continue };
            let adopted = rightful(&world, place).is_some();
            prop_assert!(adopted || at(&after, place) == Some(standing), "place {}", place);
        }
        for role in before.roles.values() {
            let (was, is) = (&role.trust_policy, &after.roles[&role.arn].trust_policy);
            prop_assert!(was == is || (role.tags.contains_key("podgrant/trust") && keeps_what_is_not_ours(was, is)), "{}", is);
        }
    }

    #[test]
    fn a_gap_takes_nothing_away_and_gives_what_a_whole_view_would(world in world(), gap in 0..4_usize) {
        let whole = built(&world);
        let partial = whole.clone().with_gap(CLUSTERS.get(gap).copied());
        for duty in both(&world) {
            let approved = decide(duty.clone(), &partial);
            let taken: Vec<_> = approved.changes().iter().filter(|c| c.takes_away()).collect();
            prop_assert!(taken.is_empty(), "{:?}", taken);
            // Nothing is invented for the lack of a view.
            let full = decide(duty.clone(), &whole);
            for change in approved.changes() {
                prop_assert!(full.changes().iter().any(|other| same(change, other)), "{}", change);
            }
        }
    }

    #[test]
    fn a_pass_over_a_part_does_nothing_that_the_whole_would_not(
        world in world(), cluster in 0..3_usize, role in 0..3_usize,
    ) {
        let whole = built(&world);
        let full = decide(grants_of(&world), &whole);
        let by_cluster = decide(grants_of(&world), &whole.clone().scoped_to_cluster(CLUSTERS[cluster]));
        // A role is of no cluster: its trust policy is amended as the whole would.
        let (trust, by_cluster): (Vec<_>, Vec<_>) =
            by_cluster.changes().iter().partition(|change| matches!(change, Change::AmendTrust { .. }));
        for change in trust {
            prop_assert!(full.changes().iter().any(|other| same(change, other)), "{}", change);
        }
        for change in &by_cluster {
            prop_assert_eq!(change.cluster(), Some(&cluster_id(CLUSTERS[cluster])));
        }
        let here: Vec<_> = full.changes().iter().filter(|c| c.cluster() == Some(&cluster_id(CLUSTERS[cluster]))).collect();
        prop_assert_eq!(by_cluster, here);

        // One role's pass sees no other role: it takes from nobody else.
        let arn = old_role(role).arn;
        let mut one = whole.scoped_to_role(&old_role(role));
        one.roles.retain(|other, _| *other == arn);
        for change in decide(grants_of(&world), &one).changes() {
            prop_assert_eq!(change.role(), Some(&arn));
            let held_by = change.existing().and_then(|a| a.mark.as_ref()).map(|mark| &mark.role_arn);
            prop_assert!(held_by.is_none_or(|holder| *holder == arn), "{}", change);
        }
    }

    #[test]
    fn no_place_is_taken_from_a_role_whose_grant_stands(world in world()) {
        let before = built(&world);
        for duty in both(&world) {
            for change in decide(duty, &before).changes().iter().filter(|c| c.takes_away()) {
                let role = index_of(&change.existing().unwrap().mark.as_ref().unwrap().role_arn);
                let (place, drawn) = (place_of(change), &world.roles[role]);
                let word = world.word(role, place);
                let outranked = !world.names(role, place)
                    && world.heir(place).is_some_and(|heir| world.names(heir, place));
                let expelled = word == Word::No && world.guardrails.withdraw;
                let unheard = drawn.made_again && matches!(word, Word::No | Word::Doubt);
                let distrusted = drawn.made_again && !world.trusts(role, place);
                let asks = world.asks(role, place) || world.may_ask(role, place);
                prop_assert!(!asks || outranked || distrusted || unheard || expelled, "{}", change);
            }
        }
    }

    #[test]
    fn nobody_gains_by_what_a_guardrail_refuses(world in world()) {
        let view = built(&world);
        for change in decide(grants_of(&world), &view).changes() {
            let role = change.role().map(index_of);
            match change {
                Change::Create { .. } | Change::Update { .. } | Change::Adopt { .. } => {
                    prop_assert_eq!(world.word(role.unwrap(), place_of(change)), Word::Yes, "{}", change);
                }
                Change::AmendTrust { .. } => {
                    let (role, drawn) = (role.unwrap(), &world.roles[role.unwrap()]);
                    prop_assert_eq!(world.word_to(role), Word::Yes, "{}", change);
                    // And only where something that is allowed lacks it.
                    let lacks = |place: usize| {
                        let role = &view.roles[&old_role(role).arn];
                        world.open[place / 3] && !is_trusted(role, place, drawn.session_tags_off)
                    };
                    prop_assert!((0..9).any(|place| world.may_have(role, place) && lacks(place)), "{}", change);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn trust_is_written_for_no_more_than_is_asked_and_allowed(world in world()) {
        let before = built(&world);
        let mut after = before.clone();
        apply(decide(grants_of(&world), &before).changes(), &mut after);
        for was in before.roles.values() {
            let (role, is) = (index_of(&was.arn), &after.roles[&was.arn]);
            if was == is {
                continue;
            }
            for (place, off) in (0..9).flat_map(|place| [(place, false), (place, true)]) {
                let gained = is_trusted(is, place, off) && !is_trusted(was, place, off);
                prop_assert!(!gained || world.may_come_to_trust(role, place), "place {}: {}", place, is.trust_policy);
            }
        }
    }

    #[test]
    fn what_stands_and_stays_is_trusted_as_before(world in world()) {
        let before = built(&world);
        let mut after = before.clone();
        apply(decide(grants_of(&world), &before).changes(), &mut after);
        for place in 0..9 {
            let marks = [&before, &after].map(|view| at(view, place).and_then(Association::managed));
            let [Some(was), Some(is)] = marks else { continue };
            if (&was.role_arn, was.session_tags_off) != (&is.role_arn, is.session_tags_off) {
                continue;
            }
            let trusted = |view: &Snapshot| {
                view.roles.get(&was.role_arn).is_some_and(|role| is_trusted(role, place, was.session_tags_off))
            };
            prop_assert!(!trusted(&before) || trusted(&after), "place {}: {:?}", place, after.roles[&was.role_arn]);
        }
    }

    #[test]
    fn what_goes_is_confirmed_by_a_second_look_and_only_by_what_is_known_then(world in world()) {
        let view = built(&world);
        for change in decide(grants_of(&world), &view).changes().iter().filter(|c| c.takes_away()) {
            let standing = change.existing().unwrap();
            let role = view.roles.get(&standing.mark.as_ref().unwrap().role_arn);
            let keys = TagKeys::default();
            let yields = |role: &Option<Role>, limits: &Guardrails| match change {
                Change::Update { mark, .. } => {
                    // Who gets it was judged by the world's own guardrails.
                    let heir = view.roles[&mark.role_arn].clone().with(Powers::Limited);
                    yields_to(standing, role.clone(), &heir, &view, &keys, limits)
                }
                _ => false,
            };
            let looked = |role: Option<Role>, limits: &Guardrails| {
                yields(&role, limits) || still_goes(standing, role, &view, &keys, limits)
            };
            prop_assert!(looked(role.cloned(), &limits(&world)), "{}", change);
            // What goes for an administrator alone does not, where it is not seen to be one.
            let Some(drawn) = role else { continue };
            let lax = Guardrails { refuse_administrators: false, ..limits(&world) };
            let strict = Guardrails { refuse_administrators: true, ..limits(&world) };
            let goes_anyway = looked(Some(drawn.clone()), &lax);
            prop_assert_eq!(looked(Some(drawn.clone().with(Powers::Unread)), &strict), goes_anyway, "{}", change);
        }
    }
}
