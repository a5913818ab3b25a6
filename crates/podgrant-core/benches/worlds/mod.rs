//! Fleets of any size: every role has a service account of its own on each of ten clusters.

#![expect(clippy::unwrap_used, reason = "a bench with a broken world has nothing to measure")]

use std::collections::BTreeMap;
use std::hint::black_box;

use podgrant_core::plan::{Duty, Plan};
use podgrant_core::trust::TrustPolicy;
use podgrant_core::{
    Association, Cluster, ClusterId, Guardrails, Limits, Mark, Powers, Role, RoleTags, Snapshot, TagKeys,
    guard, plan,
};

/// Associations in view, in all benches.
pub const SIZES: [usize; 3] = [100, 5_000, 50_000];
const CLUSTERS: usize = 10;
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"StringEquals":{"aws:SourceAccount":"111122223333"}}}]}"#;

/// A piece of work on a world.
pub type Work = fn(&World);

/// What is measured, by name.
pub const WORK: [(&str, Work); 3] = [("parse", parse), ("plan", planned), ("guard", guarded)];

/// A snapshot in which one association of a hundred is missing, and what is planned for it.
pub struct World {
    snapshot: Snapshot,
    keys: TagKeys,
    plan: Plan,
}

impl World {
    /// With about so many associations.
    pub fn of(associations: usize) -> Self {
        let keys = TagKeys::default();
        let ids: Vec<ClusterId> =
            (0..CLUSTERS).map(|n| format!("eu-west-1/cluster-{n}").parse().unwrap()).collect();
        let mut snapshot = Snapshot { observed_at: 1_800_000_000, ..Snapshot::default() };
        snapshot.regions = ["eu-west-1".parse().unwrap()].into();
        for id in &ids {
            snapshot.clusters.insert(id.clone(), Cluster::in_short(id.clone(), BTreeMap::new()));
        }
        for number in 0..associations / CLUSTERS {
            let name = format!("service-{number:05}");
            let role = Role {
                arn: format!("arn:aws:iam::111122223333:role/{name}").parse().unwrap(),
                id: format!("AROA{number:017}").parse().unwrap(),
                created_at: 1_700_000_000,
                trust_policy: TRUST.to_owned(),
                tags: [("podgrant/grant".to_owned(), format!("team-{}/{name}@_", number % 40))].into(),
                permissions_boundary: None,
                powers: Powers::Limited,
            };
            let (tags, _) = RoleTags::parse(&keys, &role.tags);
            let subject = &tags.grants[0].subject;
            for (place, id) in ids.iter().enumerate() {
                if (number * CLUSTERS + place).is_multiple_of(100) {
                    continue;
                }
                snapshot.associations.push(Association {
                    cluster: id.clone(),
                    id: format!("a-{number:010}{place:07}").parse().unwrap(),
                    arn: String::new(),
                    workload: subject.workload().unwrap(),
                    owner: None,
                    mark: Some(Mark {
                        role_arn: role.arn.clone(),
                        role_id: role.id.clone(),
                        cluster: id.clone(),
                        subject: subject.clone(),
                        label: String::new(),
                        session_tags_off: false,
                        target_role: None,
                    }),
                    record: None,
                });
            }
            snapshot.roles.insert(role.arn.clone(), role);
        }
        let plan = plan(Duty::Grants { guardrails: Guardrails::default() }, &snapshot, &keys);
        assert_eq!(plan.changes.len(), associations / 100);
        Self { snapshot, keys, plan }
    }
}

/// All roles' tags and trust policies.
pub fn parse(world: &World) {
    for role in world.snapshot.roles.values() {
        black_box(RoleTags::parse(&world.keys, &role.tags));
        black_box(TrustPolicy::read(&role.trust_policy));
    }
}

pub fn planned(world: &World) {
    black_box(plan(Duty::Grants { guardrails: Guardrails::default() }, &world.snapshot, &world.keys));
}

pub fn guarded(world: &World) {
    black_box(guard(world.plan.clone(), &world.snapshot, &world.keys, &Limits::default()));
}
