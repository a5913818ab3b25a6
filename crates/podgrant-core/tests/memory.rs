//! What a sweep's first invocation keeps in memory. In a process of its own: the most that it ever had is what counts.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;

use podgrant_core::plan::plan_sweep;
use podgrant_core::{Cluster, ClusterId, Guardrails, Powers, Role, Snapshot, TagKeys, part_bytes};

const ROLES: usize = 2_000;
const CLUSTERS: usize = 100;
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}]}"#;

/// With 128 MB a function plans 500,000 associations beside what it read, and writes the messages one by one.
#[test]
fn a_sweep_of_roles_that_mean_every_cluster_keeps_each_role_once() {
    let mut snapshot = Snapshot { regions: ["eu-west-1".parse().unwrap()].into(), ..Snapshot::default() };
    for number in 0..CLUSTERS {
        let id: ClusterId = format!("eu-west-1/cluster-{number}").parse().unwrap();
        snapshot.clusters.insert(id.clone(), Cluster::in_short(id, BTreeMap::new()));
    }
    for number in 0..ROLES {
        let role = Role {
            arn: format!("arn:aws:iam::111122223333:role/service-{number}").parse().unwrap(),
            id: format!("AROA{number:017}").parse().unwrap(),
            created_at: 1_700_000_000,
            trust_policy: TRUST.to_owned(),
            tags: [("podgrant/grant".to_owned(), format!("team-{}/service-{number}@_", number % 40))].into(),
            permissions_boundary: None,
            powers: Powers::Limited,
        };
        snapshot.roles.insert(role.arn.clone(), role);
    }
    let before = kilobytes("VmRSS");
    let plan =
        plan_sweep(&snapshot, &TagKeys::default(), &Guardrails::default(), None, part_bytes(1_048_576));
    let bytes = (kilobytes("VmHWM") - before) * 1_024;
    assert_eq!(plan.waits.len(), CLUSTERS);
    let each = bytes / (ROLES * CLUSTERS);
    assert!(each < 100, "{each} bytes for each association");
}

fn kilobytes(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}
