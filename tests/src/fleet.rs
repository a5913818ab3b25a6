//! A fleet of any size on the fake, as podgrant would have left it.

use podgrant_core::names::RoleArn;
use podgrant_core::{ClusterId, Mark, TagKeys};

use crate::fake::{Addon, Association, Cluster, FakeAws, Role};

/// Every role is granted to a service account of its own on every cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    pub roles: usize,
    pub clusters: usize,
    pub regions: usize,
}

impl Size {
    /// What the figures of the whole are of: 500,000 associations.
    pub const WHOLE: Self = Self { roles: 5_000, clusters: 100, regions: 5 };

    /// A fleet with this share of the whole's associations, by fewer roles and fewer clusters alike.
    pub fn part(share: f64) -> Self {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let scaled = |whole: usize| (whole as f64 * share.sqrt()).round() as usize;
        Self { roles: scaled(Self::WHOLE.roles), clusters: scaled(Self::WHOLE.clusters), ..Self::WHOLE }
    }

    pub fn associations(self) -> usize {
        self.roles * self.clusters
    }
}

pub const HOME: &str = "eu-west-1";
const REGIONS: [&str; 5] = [HOME, "eu-central-1", "us-east-1", "us-west-2", "ap-southeast-2"];

pub fn regions(size: Size) -> Vec<&'static str> {
    REGIONS.into_iter().take(size.regions).collect()
}

pub fn cluster(size: Size, number: usize) -> ClusterId {
    let region = REGIONS[number % size.regions.clamp(1, REGIONS.len())];
    format!("{region}/cluster-{number:03}").parse().unwrap_or_else(|_| never())
}

pub fn role_name(number: usize) -> String {
    format!("team-{:02}-service-{number:04}", number % 40)
}

fn subject(number: usize) -> String {
    format!("team-{:02}/service-{number:04}@_", number % 40)
}

/// What the whole fleet should have.
pub fn build(aws: &FakeAws, size: Size) {
    for number in 0..size.clusters {
        let id = cluster(size, number);
        let mut found = Cluster::named(id.name.as_str()).tag("env", "prod");
        found.region = id.region.to_string();
        aws.add_cluster(found);
    }
    for number in 0..size.roles {
        aws.add_role(Role::named(role_name(number)).trusting_pods().tag("podgrant/grant", subject(number)));
    }
}

/// … and has.
pub fn grant_everything(aws: &FakeAws, size: Size) {
    let keys = TagKeys::default();
    let roles: Vec<(Role, RoleArn)> = aws
        .roles()
        .into_iter()
        .map(|role| (role.clone(), role.arn().parse().unwrap_or_else(|_| never())))
        .collect();
    for number in 0..size.clusters {
        let id = cluster(size, number);
        for (role, arn) in &roles {
            let subject = &role.tags["podgrant/grant"];
            let mark = Mark {
                role_arn: arn.clone(),
                role_id: role.id.parse().unwrap_or_else(|_| never()),
                cluster: id.clone(),
                subject: subject.parse().unwrap_or_else(|_| never()),
                label: String::new(),
                session_tags_off: false,
                target_role: None,
            };
            let (namespace, account) =
                subject.split('@').next().and_then(|w| w.split_once('/')).unwrap_or_default();
            let mut made = Association::of(id.name.as_str(), namespace, account).region(id.region.as_str());
            made.role_arn = role.arn();
            made.tags = mark.to_tags(&keys).into_iter().collect();
            aws.add_association(made);
        }
    }
}

/// An agent of podgrant's on every cluster, as it is to be.
pub fn install_agents(aws: &FakeAws, size: Size) {
    for number in 0..size.clusters {
        let id = cluster(size, number);
        let agent = Addon::agent().tag("podgrant/managed", "v1");
        aws.add_addon(id.region.as_str(), id.name.as_str(), agent);
    }
}

/// Every `step`-th association of the fleet goes behind podgrant's back.
pub fn lose(aws: &FakeAws, size: Size, step: usize) -> usize {
    let mut lost = 0;
    for number in 0..size.clusters {
        let id = cluster(size, number);
        for role in (0..size.roles).filter(|role| (number * size.roles + role).is_multiple_of(step)) {
            let subject = subject(role);
            let (namespace, account) =
                subject.split('@').next().and_then(|w| w.split_once('/')).unwrap_or_default();
            let gone = aws.delete_association(id.region.as_str(), id.name.as_str(), namespace, account);
            lost += usize::from(gone.is_some());
        }
    }
    lost
}

/// How many associations the fleet has.
pub fn count(aws: &FakeAws, size: Size) -> usize {
    (0..size.clusters)
        .map(|number| {
            let id = cluster(size, number);
            aws.count_associations(id.region.as_str(), id.name.as_str())
        })
        .sum()
}

fn never() -> ! {
    unreachable!("the fleet's names are names")
}
