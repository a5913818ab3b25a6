//! Small worlds for tests: `role("payments").grant("payments/api@prod-eu").trusting()`.

use std::collections::BTreeMap;

use crate::model::{AssociationRecord, ClusterKind, Gap};
use crate::orphan::{OrphanMark, RoleInventory, RoleSettings};
use crate::trust::MISSING_STATEMENT;
use crate::{Association, Cluster, ClusterId, ClusterStatus, Mark, Powers, Role, Snapshot, TagKeys};

/// When every snapshot was taken, in seconds since 1970.
pub(crate) const NOW: i64 = 1_000_000;

/// A role without tags, that nobody is trusted by.
pub(crate) fn role(name: &str) -> Role {
    Role {
        arn: format!("arn:aws:iam::111122223333:role/{name}").parse().unwrap(),
        id: format!("AROA{}", letters(name).to_uppercase()).parse().unwrap(),
        created_at: 1_000,
        trust_policy: "{}".to_owned(),
        tags: BTreeMap::new(),
        permissions_boundary: None,
        powers: Powers::Limited,
    }
}

impl Role {
    pub(crate) fn with(mut self, powers: Powers) -> Self {
        self.powers = powers;
        self
    }

    pub(crate) fn tagged(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn grant(self, value: &str) -> Self {
        self.tagged("podgrant/grant", value)
    }

    pub(crate) fn trusting(mut self) -> Self {
        self.trust_policy = format!(r#"{{"Statement":[{MISSING_STATEMENT}]}}"#);
        self
    }

    /// Trusted by nodes alone, and by a policy that podgrant may amend.
    pub(crate) fn amendable(mut self) -> Self {
        self.trust_policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#.to_owned();
        self.tagged("podgrant/trust", "manage")
    }

    /// Trusting under a condition, by a statement with the Sid `EksPods`.
    pub(crate) fn trusting_where(mut self, condition: &str) -> Self {
        let statement = MISSING_STATEMENT.trim_start_matches('{').trim_end_matches('}');
        self.trust_policy =
            format!(r#"{{"Statement":[{{"Sid":"EksPods",{statement},"Condition":{condition}}}]}}"#);
        self
    }

    pub(crate) fn born(mut self, created_at: i64) -> Self {
        self.created_at = created_at;
        self
    }

    /// Found to be an orphan then.
    pub(crate) fn orphaned_since(self, since: i64) -> Self {
        let mark = OrphanMark::new(&self, since).to_string();
        self.tagged("podgrant/orphaned-since", &mark)
    }

    /// Deleted and made again under the same name.
    pub(crate) fn made_again(mut self) -> Self {
        self.id = format!("{}2", self.id).parse().unwrap();
        self
    }
}

/// What a role has that was never used, and is read whole.
pub(crate) fn inventory() -> RoleInventory {
    RoleInventory {
        attached_policies: ["arn:aws:iam::aws:policy/ReadOnlyAccess".to_owned()].into(),
        inline_policies: [("queue".to_owned(), r#"{"Statement":[]}"#.to_owned())].into(),
        settings: Some(RoleSettings { description: None, max_session_duration: 3600 }),
        ..RoleInventory::default()
    }
}

/// An active cluster: `prod-eu` in eu-west-1, or `us-east-1/prod-us`.
pub(crate) fn cluster(name: &str) -> Cluster {
    let id = cluster_id(name);
    Cluster {
        arn: format!("arn:aws:eks:{}:111122223333:cluster/{}", id.region, id.name),
        id,
        status: ClusterStatus::Active,
        version: "1.33".to_owned(),
        tags: BTreeMap::new(),
        kind: ClusterKind::default(),
        issues: Vec::new(),
        api: None,
        oidc_issuer: None,
    }
}

pub(crate) fn cluster_id(name: &str) -> ClusterId {
    let full = if name.contains('/') { name.to_owned() } else { format!("eu-west-1/{name}") };
    full.parse().unwrap()
}

impl Cluster {
    pub(crate) fn tagged(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn status(mut self, status: &str) -> Self {
        self.status = status.into();
        self
    }
}

/// An association that podgrant made for `subject`, as the role's tags say now.
pub(crate) fn ours(role: &Role, on: &str, subject: &str) -> Association {
    let (tags, _) = crate::RoleTags::parse(&TagKeys::default(), &role.tags);
    let workload = subject.split('@').next().unwrap();
    Association {
        mark: Some(Mark {
            role_arn: role.arn.clone(),
            role_id: role.id.clone(),
            cluster: cluster_id(on),
            subject: subject.parse().unwrap(),
            label: String::new(),
            session_tags_off: tags.session_tags_off,
            target_role: tags.target_role,
        }),
        ..foreign(on, workload)
    }
}

/// An association that somebody else made.
pub(crate) fn foreign(on: &str, workload: &str) -> Association {
    let cluster = cluster_id(on);
    let (namespace, service_account) = workload.split_once('/').unwrap();
    let id = format!("a-{}{}", letters(cluster.name.as_str()), letters(workload));
    Association {
        arn: format!(
            "arn:aws:eks:{}:111122223333:podidentityassociation/{}/{id}",
            cluster.region, cluster.name
        ),
        id: id.parse().unwrap(),
        cluster,
        workload: crate::Workload {
            namespace: namespace.parse().unwrap(),
            service_account: service_account.parse().unwrap(),
        },
        owner: None,
        mark: None,
        record: None,
    }
}

impl Association {
    pub(crate) fn labelled(mut self, label: &str) -> Self {
        self.mark.as_mut().unwrap().label = label.to_owned();
        self
    }

    pub(crate) fn owned_by(mut self, owner: &str) -> Self {
        self.owner = Some(owner.to_owned());
        self
    }

    /// Described: EKS says that it grants this role.
    pub(crate) fn granting(mut self, role: &Role) -> Self {
        self.record = Some(AssociationRecord {
            role_arn: role.arn.to_string(),
            session_tags_off: false,
            target_role: None,
        });
        self
    }
}

/// A view of everything there is.
pub(crate) fn snapshot<const R: usize, const C: usize, const A: usize>(
    roles: [Role; R],
    clusters: [Cluster; C],
    associations: [Association; A],
) -> Snapshot {
    Snapshot {
        observed_at: NOW,
        roles: roles.into_iter().map(|role| (role.arn.clone(), role)).collect(),
        clusters: clusters.into_iter().map(|cluster| (cluster.id.clone(), cluster)).collect(),
        associations: associations.into(),
        ..Snapshot::default()
    }
}

impl Snapshot {
    pub(crate) fn scoped_to_role(mut self, role: &Role) -> Self {
        self.scope.roles.get_or_insert_default().insert(role.arn.clone());
        self
    }

    pub(crate) fn scoped_to_cluster(mut self, name: &str) -> Self {
        self.scope.clusters.get_or_insert_default().insert(cluster_id(name));
        self
    }

    pub(crate) fn with_gap(mut self, cluster: Option<&str>) -> Self {
        self.gaps.push(Gap {
            cluster: cluster.map(cluster_id),
            why: "eks:ListPodIdentityAssociations was throttled".to_owned(),
            throttled: true,
        });
        self
    }
}

fn letters(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}
