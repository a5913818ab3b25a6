//! What should be, told as simply as can be, and from nothing that podgrant's own crates say.

use std::collections::BTreeMap;
use std::fmt;

use podgrant_tests::fake::{Association, Cluster, FakeAws, Role};

/// A service account on a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub region: String,
    pub cluster: String,
    pub namespace: String,
    pub account: String,
}

impl Spot {
    pub fn of(association: &Association) -> Self {
        Self {
            region: association.region.clone(),
            cluster: association.cluster.clone(),
            namespace: association.namespace.clone(),
            account: association.service_account.clone(),
        }
    }

    /// Namespace and service account.
    pub fn workload(&self) -> String {
        format!("{}/{}", self.namespace, self.account)
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}/{}", self.region, self.cluster, self.namespace, self.account)
    }
}

/// All that decides, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub roles: Vec<Role>,
    pub clusters: Vec<Cluster>,
    pub associations: BTreeMap<Spot, Association>,
}

impl Seen {
    pub fn of(aws: &FakeAws) -> Self {
        let clusters = aws.clusters();
        let on = |cluster: &Cluster| aws.associations(&cluster.region, &cluster.name);
        let associations = clusters.iter().flat_map(on).map(|found| (Spot::of(&found), found)).collect();
        Self { roles: aws.roles(), clusters, associations }
    }

    fn role_of_arn(&self, arn: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.arn() == arn)
    }

    /// Whether the role's tags ask for the spot.
    pub fn claims(&self, role: &Role, spot: &Spot) -> bool {
        let cluster = self.clusters.iter().find(|c| c.region == spot.region && c.name == spot.cluster);
        let place = format!("{}/{}", spot.namespace, spot.account);
        cluster.is_some_and(|cluster| {
            words(role).any(|(_, word)| {
                word.split_once('@').is_some_and(|(whose, which)| whose == place && means(which, cluster))
            })
        })
    }

    /// Every spot that anybody's tags could mean.
    pub fn spots(&self) -> Vec<Spot> {
        let mut spots: Vec<Spot> = self.associations.keys().cloned().collect();
        for (role, cluster) in self.roles.iter().flat_map(|r| self.clusters.iter().map(move |c| (r, c))) {
            for (_, word) in words(role) {
                let Some((namespace, account)) =
                    word.split_once('@').and_then(|(whose, _)| whose.split_once('/'))
                else {
                    continue;
                };
                spots.push(Spot {
                    region: cluster.region.clone(),
                    cluster: cluster.name.clone(),
                    namespace: namespace.to_owned(),
                    account: account.to_owned(),
                });
            }
        }
        spots.sort();
        spots.dedup();
        spots
    }

    /// Whether `after` is what one undisturbed sweep over this has to leave behind.
    ///
    /// `first_come`: EKS may refuse the older of two roles for a deletion that lingers, and then take the other, which
    /// asked later. Who of them has the place then is not determined.
    pub fn check(&self, after: &Seen, first_come: bool) -> Result<(), String> {
        for spot in self.spots().iter().chain(after.associations.keys()) {
            let found = after.associations.get(spot);
            let right = match self.right(spot) {
                Right::AsItIs => found == self.associations.get(spot),
                Right::Kept(kept) => found.is_some_and(|found| is_kept(found, kept)),
                Right::Nothing => found.is_none(),
                Right::Of(role) => found.is_some_and(|found| {
                    let others = self.roles.iter().filter(|other| first_come && self.claims(other, spot));
                    gives(found, role)
                        || others.filter(|other| trusts(other)).any(|other| gives(found, other))
                }),
            };
            if !right {
                let before = told(self.associations.get(spot));
                let now = told(found);
                return Err(format!(
                    "{spot}: expected {}, found {now}; before the sweep {before}",
                    self.right(spot)
                ));
            }
        }
        Ok(())
    }

    fn right(&self, spot: &Spot) -> Right<'_> {
        let standing = self.associations.get(spot);
        let cluster = self.clusters.iter().find(|c| c.region == spot.region && c.name == spot.cluster);
        let Some(cluster) = cluster else { return Right::Nothing };
        let opted_out = cluster.tags.get("podgrant/enroll").is_some_and(|enroll| enroll != "on");
        if opted_out || standing.is_some_and(|standing| !is_ours(standing)) {
            return Right::AsItIs;
        }
        let asks = |role: &&Role| self.claims(role, spot);
        if let Some(standing) = standing
            && let Some(holder) = self.role_of_arn(&standing.tags["podgrant/role"])
        {
            let same = holder.id == standing.tags["podgrant/role-id"];
            if asks(&holder) && trusts(holder) {
                return Right::Of(holder);
            }
            // Its trust policy broke, or the tag that made it: what stands keeps.
            if same && (asks(&holder) || is_bad(holder, &standing.tags["podgrant/label"])) {
                return Right::Kept(standing);
            }
        }
        let oldest = self.roles.iter().filter(|role| asks(role) && trusts(role));
        oldest.min_by_key(|role| (role.created_at, role.arn())).map_or(Right::Nothing, Right::Of)
    }
}

enum Right<'a> {
    /// To the letter.
    AsItIs,
    /// Its role and settings; the mark may tell of another tag by now.
    Kept(&'a Association),
    Nothing,
    Of(&'a Role),
}

impl fmt::Display for Right<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsItIs | Self::Kept(_) => f.write_str("what was there"),
            Self::Nothing => f.write_str("nothing"),
            Self::Of(role) => write!(f, "{} ({})", role.name, role.id),
        }
    }
}

/// One association for people.
pub fn told(association: Option<&Association>) -> String {
    let Some(found) = association else { return "nothing".to_owned() };
    let tag = |name: &str| found.tags.get(&format!("podgrant/{name}")).map_or("", String::as_str);
    let marked = tag("role").rsplit('/').next().unwrap_or_default();
    format!(
        "{} of {}, marked {marked} ({}) {}, session tags {} and marked {}",
        found.id,
        found.role_arn.rsplit('/').next().unwrap_or_default(),
        tag("role-id"),
        tag("subject"),
        if found.disable_session_tags { "off" } else { "on" },
        tag("session-tags"),
    )
}

/// Whether the mark is ours, and of this place.
pub fn is_ours(association: &Association) -> bool {
    let tag = |name: &str| association.tags.get(&format!("podgrant/{name}")).map_or("", String::as_str);
    association.owner_arn.is_empty()
        && tag("managed") == "v1"
        && tag("cluster") == format!("{}/{}", association.region, association.cluster)
        && tag("subject").starts_with(&format!("{}/{}@", association.namespace, association.service_account))
}

fn gives(found: &Association, role: &Role) -> bool {
    let off = role.tags.get("podgrant/session-tags").is_some_and(|value| value == "off");
    is_ours(found)
        && found.role_arn == role.arn()
        && found.tags["podgrant/role"] == role.arn()
        && found.tags["podgrant/role-id"] == role.id
        && found.disable_session_tags == off
}

pub fn is_kept(found: &Association, before: &Association) -> bool {
    let shown = |of: &Association| (of.id.clone(), of.role_arn.clone(), of.disable_session_tags);
    shown(found) == shown(before)
}

/// The words of a role's grant tags, each with its tag's label.
fn words(role: &Role) -> impl Iterator<Item = (&str, &str)> {
    role.tags.iter().flat_map(|(key, value)| {
        let label = match key.strip_prefix("podgrant/grant") {
            Some("") => Some(""),
            Some(rest) => rest.strip_prefix('/'),
            None => None,
        };
        label.into_iter().flat_map(move |label| value.split_whitespace().map(move |word| (label, word)))
    })
}

/// Whether the tag of this label has a word that is no grant.
fn is_bad(role: &Role, label: &str) -> bool {
    words(role).any(|(of, word)| of == label && !word.contains('@'))
}

fn means(which: &str, cluster: &Cluster) -> bool {
    if which == "_" {
        return true;
    }
    let pair = |pair: &str| {
        pair.split_once('=').is_some_and(|(key, value)| cluster.tags.get(key).is_some_and(|tag| tag == value))
    };
    match which.split_once('/') {
        _ if which.contains('=') => which.split('+').all(pair),
        Some((region, name)) => region == cluster.region && name == cluster.name,
        None => which == cluster.name,
    }
}

pub fn trusts(role: &Role) -> bool {
    role.trust_policy.contains("pods.eks.amazonaws.com")
}
