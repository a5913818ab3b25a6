//! The things that AWS holds. Each is its own builder, and what the fake keeps and gives back.

use serde_json::{Value, json};

use super::params::Tags;

/// The account of everything.
pub const ACCOUNT: &str = "111122223333";
/// The region of a cluster that names none.
pub const REGION: &str = "eu-west-1";

/// Builder methods that set a text.
macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: impl Into<String>) -> Self {
            self.$name = $name.into();
            self
        }
    )+};
}

/// The builder method that adds a tag.
macro_rules! tag {
    () => {
        /// Adds a tag.
        #[must_use]
        pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
            self.tags.insert(key.into(), value.into());
            self
        }
    };
}

/// An EKS cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are EKS's own")]
pub struct Cluster {
    pub name: String,
    pub region: String,
    /// The Kubernetes version.
    pub version: String,
    pub status: String,
    pub tags: Tags,
    pub endpoint: String,
    pub certificate_authority: String,
    pub auto_mode: bool,
    pub outpost: bool,
    pub connected: bool,
    pub node_groups: Vec<String>,
    /// ARNs of the node groups' roles, by group; of others it is the role `nodes`.
    pub node_roles: Tags,
    pub fargate_profiles: Vec<String>,
    /// `API`, `API_AND_CONFIG_MAP` or `CONFIG_MAP`: only the first two know access entries.
    pub authentication_mode: String,
    pub endpoint_public_access: bool,
    pub endpoint_private_access: bool,
    /// Whether somebody installed the agent without EKS, with Helm say. EKS's API does not show it.
    pub self_managed_agent: bool,
    /// EKS's issues with the cluster: code and message.
    pub issues: Vec<(String, String)>,
    /// Seconds since 1970; 0 until it is added.
    pub created_at: i64,
    /// After this many more DescribeCluster the status becomes this; empty: the cluster is gone.
    pub(super) settles: Option<(u32, String)>,
}

impl Cluster {
    /// An ACTIVE cluster of Kubernetes 1.33 in eu-west-1, without tags.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            region: REGION.to_owned(),
            version: "1.33".to_owned(),
            status: "ACTIVE".to_owned(),
            tags: Tags::new(),
            endpoint: String::new(),
            // "fake" in base64.
            certificate_authority: "ZmFrZQ==".to_owned(),
            auto_mode: false,
            outpost: false,
            connected: false,
            node_groups: Vec::new(),
            node_roles: Tags::new(),
            fargate_profiles: Vec::new(),
            authentication_mode: "API_AND_CONFIG_MAP".to_owned(),
            endpoint_public_access: true,
            endpoint_private_access: false,
            self_managed_agent: false,
            issues: Vec::new(),
            created_at: 0,
            settles: None,
        }
    }

    texts! {
        /// The region it is in.
        region,
        /// Its Kubernetes version.
        version,
        /// `CREATING`, `ACTIVE`, `DELETING`, `FAILED`, `UPDATING` or `PENDING`.
        status,
        /// `API`, `API_AND_CONFIG_MAP` or `CONFIG_MAP`.
        authentication_mode,
    }
    tag!();

    /// Who vouches for its service accounts: EKS has sixteen bytes in hex where this has the name.
    pub fn issuer(&self) -> String {
        format!("https://oidc.eks.{}.amazonaws.com/id/{}", self.region, self.name.to_uppercase())
    }

    /// Its Kubernetes API, and the certificate authority of that in base64: shown only once it is ACTIVE.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>, ca_data: impl Into<String>) -> Self {
        self.endpoint = url.into();
        self.certificate_authority = ca_data.into();
        self
    }

    /// With a Kubernetes API that can be reached from its VPC only.
    #[must_use]
    pub fn private_endpoint(mut self) -> Self {
        self.endpoint_public_access = false;
        self.endpoint_private_access = true;
        self
    }

    /// With an agent that EKS did not install: the add-on is in conflict with it.
    #[must_use]
    pub fn self_managed_agent(mut self) -> Self {
        self.self_managed_agent = true;
        self
    }

    /// CREATING for the next `reads` DescribeCluster, ACTIVE from then on.
    #[must_use]
    pub fn creating_for(mut self, reads: u32) -> Self {
        self.status = "CREATING".to_owned();
        self.settles = Some((reads, "ACTIVE".to_owned()));
        self
    }

    /// With EKS Auto Mode.
    #[must_use]
    pub fn auto_mode(mut self) -> Self {
        self.auto_mode = true;
        self
    }

    /// A local cluster on an Outpost.
    #[must_use]
    pub fn on_outpost(mut self) -> Self {
        self.outpost = true;
        self
    }

    /// Only registered with EKS, and running elsewhere.
    #[must_use]
    pub fn connected(mut self) -> Self {
        self.connected = true;
        self
    }

    /// With one more managed node group.
    #[must_use]
    pub fn node_group(mut self, name: impl Into<String>) -> Self {
        self.node_groups.push(name.into());
        self
    }

    /// With one more managed node group, whose nodes have this role.
    #[must_use]
    pub fn node_group_of(mut self, name: impl Into<String>, role_arn: impl Into<String>) -> Self {
        let name = name.into();
        self.node_roles.insert(name.clone(), role_arn.into());
        self.node_group(name)
    }

    /// With one more Fargate profile.
    #[must_use]
    pub fn fargate_profile(mut self, name: impl Into<String>) -> Self {
        self.fargate_profiles.push(name.into());
        self
    }

    /// With one more health issue.
    #[must_use]
    pub fn issue(mut self, code: impl Into<String>, message: impl Into<String>) -> Self {
        self.issues.push((code.into(), message.into()));
        self
    }

    /// Its ARN.
    pub fn arn(&self) -> String {
        format!("arn:aws:eks:{}:{ACCOUNT}:cluster/{}", self.region, self.name)
    }
}

/// A pod identity association.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are EKS's own")]
pub struct Association {
    pub cluster: String,
    /// Empty until it is added, unless set: then that of the cluster of that name.
    pub region: String,
    pub namespace: String,
    pub service_account: String,
    pub role_arn: String,
    pub tags: Tags,
    pub owner_arn: String,
    pub target_role_arn: String,
    pub external_id: String,
    pub disable_session_tags: bool,
    pub policy: String,
    /// `a-…`; given when it is added, unless set.
    pub id: String,
    pub created_at: i64,
    pub modified_at: i64,
}

impl Association {
    /// An association on a cluster, of the role `some-role` unless set.
    pub fn of(
        cluster: impl Into<String>,
        namespace: impl Into<String>,
        service_account: impl Into<String>,
    ) -> Self {
        Self {
            cluster: cluster.into(),
            region: String::new(),
            namespace: namespace.into(),
            service_account: service_account.into(),
            role_arn: Role::named("some-role").arn(),
            tags: Tags::new(),
            owner_arn: String::new(),
            target_role_arn: String::new(),
            external_id: String::new(),
            disable_session_tags: false,
            policy: String::new(),
            id: String::new(),
            created_at: 0,
            modified_at: 0,
        }
    }

    texts! {
        /// The region it is in, where clusters of that name are in several.
        region,
        /// The role it gives. Not checked: a role that is gone is what tests need.
        role_arn,
        /// The role that the role goes on to assume.
        target_role_arn,
        /// The session policy.
        policy,
        /// Its id, `a-…`.
        id,
    }
    tag!();

    /// Owned by an add-on or another AWS service.
    #[must_use]
    pub fn owner(mut self, arn: impl Into<String>) -> Self {
        self.owner_arn = arn.into();
        self
    }

    /// Without session tags.
    #[must_use]
    pub fn without_session_tags(mut self) -> Self {
        self.disable_session_tags = true;
        self
    }

    /// Its ARN.
    pub fn arn(&self) -> String {
        format!("arn:aws:eks:{}:{ACCOUNT}:podidentityassociation/{}/{}", self.region, self.cluster, self.id)
    }
}

/// An add-on on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are EKS's own")]
pub struct Addon {
    pub name: String,
    pub version: String,
    pub status: String,
    /// Code and message of each issue.
    pub issues: Vec<(String, String)>,
    pub tags: Tags,
    pub configuration: String,
    /// What the last CreateAddon or UpdateAddon said of conflicts: `OVERWRITE`, `NONE`, `PRESERVE`, or nothing.
    pub resolve_conflicts: String,
    /// Whether the DeleteAddon that is under way leaves the software on the cluster.
    pub preserve: bool,
    /// Given when it is added.
    pub arn: String,
    pub created_at: i64,
    pub modified_at: i64,
    /// After this many more DescribeAddon the status becomes this; empty: the add-on is gone.
    pub(super) settles: Option<(u32, String)>,
}

impl Addon {
    /// An ACTIVE add-on.
    pub fn named(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            status: "ACTIVE".to_owned(),
            issues: Vec::new(),
            tags: Tags::new(),
            configuration: String::new(),
            resolve_conflicts: String::new(),
            preserve: false,
            arn: String::new(),
            created_at: 0,
            modified_at: 0,
            settles: None,
        }
    }

    /// The healthy agent, in the version that is the default for Kubernetes 1.33.
    pub fn agent() -> Self {
        Self::named(super::addons::AGENT, "v1.3.10-eksbuild.2")
    }

    texts! {
        /// Its version.
        version,
        /// `CREATING`, `ACTIVE`, `CREATE_FAILED`, `UPDATING`, `DELETING`, `DELETE_FAILED`, `DEGRADED` or `UPDATE_FAILED`.
        status,
        /// Its configuration values.
        configuration,
    }
    tag!();

    /// Adds a health issue, such as `InsufficientNumberOfReplicas`.
    #[must_use]
    pub fn issue(mut self, code: impl Into<String>, message: impl Into<String>) -> Self {
        self.issues.push((code.into(), message.into()));
        self
    }
}

/// A version of an add-on, and the Kubernetes versions that it goes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddonVersion {
    /// Such as `v1.3.10-eksbuild.2`.
    pub version: String,
    /// Kubernetes version, and whether this is the default for it.
    pub kubernetes: Vec<(String, bool)>,
}

impl AddonVersion {
    /// A version that goes with no Kubernetes version yet.
    pub fn new(version: impl Into<String>) -> Self {
        Self { version: version.into(), kubernetes: Vec::new() }
    }

    /// Goes with these Kubernetes versions.
    #[must_use]
    pub fn on(mut self, versions: &[&str]) -> Self {
        self.kubernetes.extend(versions.iter().map(|version| ((*version).to_owned(), false)));
        self
    }

    /// Goes with these Kubernetes versions, as their default.
    #[must_use]
    pub fn default_on(mut self, versions: &[&str]) -> Self {
        self.kubernetes.extend(versions.iter().map(|version| ((*version).to_owned(), true)));
        self
    }
}

/// What a principal may do in a cluster's Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are EKS's own")]
pub struct AccessEntry {
    pub principal_arn: String,
    pub kubernetes_groups: Vec<String>,
    /// Empty until it is added, unless set: then made of the principal.
    pub username: String,
    /// `STANDARD`, or one of the types for nodes.
    pub kind: String,
    pub tags: Tags,
    pub policies: Vec<AccessPolicy>,
    /// Given when it is added.
    pub arn: String,
    pub created_at: i64,
    pub modified_at: i64,
}

/// An access policy of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are EKS's own")]
pub struct AccessPolicy {
    pub arn: String,
    /// Empty: the whole cluster.
    pub namespaces: Vec<String>,
    pub associated_at: i64,
    pub modified_at: i64,
}

impl AccessEntry {
    /// A STANDARD entry without groups, policies or tags.
    pub fn of(principal_arn: impl Into<String>) -> Self {
        Self {
            principal_arn: principal_arn.into(),
            kubernetes_groups: Vec::new(),
            username: String::new(),
            kind: "STANDARD".to_owned(),
            tags: Tags::new(),
            policies: Vec::new(),
            arn: String::new(),
            created_at: 0,
            modified_at: 0,
        }
    }

    texts! {
        /// The name that Kubernetes knows it by.
        username,
        /// `STANDARD`, or one of the types for nodes.
        kind,
    }
    tag!();

    /// In one more Kubernetes group.
    #[must_use]
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.kubernetes_groups.push(name.into());
        self
    }

    /// With an access policy, such as `AmazonEKSViewPolicy`: in these namespaces, or in the whole cluster if there are none.
    #[must_use]
    pub fn policy(mut self, name: &str, namespaces: &[&str]) -> Self {
        self.policies.push(AccessPolicy {
            arn: format!("arn:aws:eks::aws:cluster-access-policy/{name}"),
            namespaces: namespaces.iter().map(|namespace| (*namespace).to_owned()).collect(),
            associated_at: 0,
            modified_at: 0,
        });
        self
    }
}

/// An IAM role.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are IAM's own")]
pub struct Role {
    pub name: String,
    pub path: String,
    /// `AROA…`; given when it is added, unless set.
    pub id: String,
    pub trust_policy: String,
    pub tags: Tags,
    pub description: String,
    /// Seconds since 1970; 0 until it is added, unless set.
    pub created_at: i64,
    /// When, and in which region.
    pub last_used: Option<(i64, String)>,
    /// ARNs of managed policies.
    pub attached_policies: Vec<String>,
    /// Names and documents.
    pub inline_policies: Vec<(String, String)>,
    pub instance_profiles: Vec<String>,
    pub permissions_boundary: String,
    /// In seconds.
    pub max_session_duration: i64,
    pub(super) hidden_reads: u32,
    pub(super) hidden_from_eks: u32,
    pub(super) stale: Option<(u32, Tags, String)>,
}

impl Role {
    /// A role that EC2 may assume, without tags or policies.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            path: "/".to_owned(),
            id: String::new(),
            trust_policy: trust("ec2.amazonaws.com", &json!("sts:AssumeRole")),
            tags: Tags::new(),
            description: String::new(),
            created_at: 0,
            last_used: None,
            attached_policies: Vec::new(),
            inline_policies: Vec::new(),
            instance_profiles: Vec::new(),
            permissions_boundary: String::new(),
            max_session_duration: 3600,
            hidden_reads: 0,
            hidden_from_eks: 0,
            stale: None,
        }
    }

    texts! {
        /// Its path, with a slash at both ends.
        path,
        /// Its unique id.
        id,
        /// Its trust policy, in JSON.
        trust_policy,
        /// The ARN of its permissions boundary.
        permissions_boundary,
        /// What it says of itself.
        description,
    }
    tag!();

    /// With the trust policy that pod identity needs, and no other statement.
    #[must_use]
    pub fn trusting_pods(self) -> Self {
        self.trust_policy(trust("pods.eks.amazonaws.com", &json!(["sts:AssumeRole", "sts:TagSession"])))
    }

    /// Made at this time.
    #[must_use]
    pub fn created_at(mut self, seconds: i64) -> Self {
        self.created_at = seconds;
        self
    }

    /// Last used at this time in eu-west-1.
    #[must_use]
    pub fn last_used(mut self, seconds: i64) -> Self {
        self.last_used = Some((seconds, REGION.to_owned()));
        self
    }

    /// With a managed policy.
    #[must_use]
    pub fn attached_policy(mut self, arn: impl Into<String>) -> Self {
        self.attached_policies.push(arn.into());
        self
    }

    /// With an inline policy.
    #[must_use]
    pub fn inline_policy(mut self, name: impl Into<String>, document: impl Into<String>) -> Self {
        self.inline_policies.push((name.into(), document.into()));
        self
    }

    /// In an instance profile.
    #[must_use]
    pub fn instance_profile(mut self, name: impl Into<String>) -> Self {
        self.instance_profiles.push(name.into());
        self
    }

    /// Not to be found by the next `reads` of IAM.
    #[must_use]
    pub fn hidden_for(mut self, reads: u32) -> Self {
        self.hidden_reads = reads;
        self
    }

    /// Not to be seen by EKS in the next `reads` creations or updates of associations.
    #[must_use]
    pub fn hidden_from_eks_for(mut self, reads: u32) -> Self {
        self.hidden_from_eks = reads;
        self
    }

    /// Its ARN.
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{ACCOUNT}:role{}{}", self.path, self.name)
    }
}

fn trust(service: &str, actions: &Value) -> String {
    json!({
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": actions}],
    })
    .to_string()
}
