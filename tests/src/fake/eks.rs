//! EKS: which operation a path is, clusters and tags.

use serde_json::{Map, Value, json};

use super::paging::Page;
use super::params::{Answer, Params, Refusal, Tags};
use super::state::{Place, State};
use super::things::{ACCOUNT, Association, Cluster};
use super::{access, addons, associations};

/// The operation that a method and a decoded path ask for, and the parameters in the path.
pub(super) fn route(method: &str, path: &[String]) -> Option<(&'static str, Map<String, Value>)> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let mut found: Vec<(&str, &str)> = Vec::new();
    let operation = match (method, path.as_slice()) {
        ("POST", ["clusters"]) => "CreateCluster",
        ("GET", ["clusters"]) => "ListClusters",
        ("GET" | "DELETE", ["clusters", name]) => {
            found.push(("name", name));
            if method == "GET" { "DescribeCluster" } else { "DeleteCluster" }
        }
        ("POST" | "GET" | "DELETE", ["tags", arn @ ..]) if !arn.is_empty() => {
            // The ARN's slash may have come percent-encoded or not.
            let arn = Value::String(arn.join("/"));
            let operation = match method {
                "POST" => "TagResource",
                "GET" => "ListTagsForResource",
                _ => "UntagResource",
            };
            return Some((operation, Map::from_iter([("resourceArn".to_owned(), arn)])));
        }
        ("GET", ["addons", "supported-versions"]) => "DescribeAddonVersions",
        ("GET", ["addons", "configuration-schemas"]) => "DescribeAddonConfiguration",
        ("GET", ["clusters", name, kind @ ("node-groups" | "fargate-profiles")]) => {
            found.push(("clusterName", name));
            if *kind == "node-groups" { "ListNodegroups" } else { "ListFargateProfiles" }
        }
        ("GET", ["clusters", name, "node-groups", group]) => {
            found.extend([("clusterName", *name), ("nodegroupName", *group)]);
            "DescribeNodegroup"
        }
        ("GET" | "POST", ["clusters", name, kind @ ("addons" | "pod-identity-associations")]) => {
            found.push(("clusterName", name));
            match (method, *kind) {
                ("GET", "addons") => "ListAddons",
                (_, "addons") => "CreateAddon",
                ("GET", _) => "ListPodIdentityAssociations",
                _ => "CreatePodIdentityAssociation",
            }
        }
        ("GET" | "DELETE", ["clusters", name, "addons", addon])
        | ("POST", ["clusters", name, "addons", addon, "update"]) => {
            found.extend([("clusterName", *name), ("addonName", *addon)]);
            match method {
                "GET" => "DescribeAddon",
                "DELETE" => "DeleteAddon",
                _ => "UpdateAddon",
            }
        }
        ("GET" | "POST" | "DELETE", ["clusters", name, "pod-identity-associations", id]) => {
            found.extend([("clusterName", *name), ("associationId", *id)]);
            match method {
                "GET" => "DescribePodIdentityAssociation",
                "POST" => "UpdatePodIdentityAssociation",
                _ => "DeletePodIdentityAssociation",
            }
        }
        ("GET" | "POST", ["clusters", name, "access-entries"]) => {
            found.push(("clusterName", name));
            if method == "GET" { "ListAccessEntries" } else { "CreateAccessEntry" }
        }
        ("GET" | "DELETE", ["clusters", name, "access-entries", principal]) => {
            found.extend([("clusterName", *name), ("principalArn", *principal)]);
            if method == "GET" { "DescribeAccessEntry" } else { "DeleteAccessEntry" }
        }
        ("GET" | "POST", ["clusters", name, "access-entries", principal, "access-policies"]) => {
            found.extend([("clusterName", *name), ("principalArn", *principal)]);
            if method == "GET" { "ListAssociatedAccessPolicies" } else { "AssociateAccessPolicy" }
        }
        _ => return None,
    };
    Some((operation, found.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()))
}

/// Query parameters that are lists, even where one value came.
pub(super) const QUERY_LISTS: [&str; 5] = ["tagKeys", "include", "types", "publishers", "owners"];

pub(super) fn handle(state: &mut State, region: &str, operation: &str, params: &Params) -> Answer {
    match operation {
        "CreateCluster" => create(state, region, params),
        "DescribeCluster" => describe(state, region, params),
        "ListClusters" => list(state, region, params),
        "DeleteCluster" => delete(state, region, params),
        "ListNodegroups" | "ListFargateProfiles" => nodes(state, region, operation, params),
        "DescribeNodegroup" => node_group(state, region, params),
        "TagResource" | "UntagResource" | "ListTagsForResource" => tags(state, region, operation, params),
        _ if operation.contains("Addon") => addons::handle(state, region, operation, params),
        _ if operation.contains("Access") => access::handle(state, region, operation, params),
        _ => associations::handle(state, region, operation, params),
    }
}

/// The cluster of this name, or the no that EKS says.
pub(super) fn existing<'a>(state: &'a mut State, place: &Place) -> Result<&'a mut Cluster, Refusal> {
    state.clusters.get_mut(place).ok_or_else(|| {
        let message = format!("No cluster found for name: {}.", place.1);
        Refusal::new(404, "ResourceNotFoundException", message).with("clusterName", &place.1)
    })
}

/// The page of an EKS listing.
pub(super) fn page(state: &State, listing: String, params: &Params) -> Result<Page, Refusal> {
    let size = params.page_size("maxResults", 100, 100)?.min(state.page_size);
    let invalid = "InvalidParameterException";
    Page::or_refuse(listing, params.opt("nextToken")?, size, invalid, "The nextToken is not valid")
}

/// An answer with a list and, if there is more, a token.
pub(super) fn listing(name: &str, items: Vec<Value>, token: Option<String>) -> Value {
    let mut answer = json!({ name: items });
    if let Some(token) = token {
        answer["nextToken"] = token.into();
    }
    answer
}

/// Checks tags as EKS does. The code differs between operations.
pub(super) fn check_tags(tags: &Tags, code: &str) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(400, code, message));
    if tags.len() > 50 {
        return refuse(format!("{} tags are more than 50", tags.len()));
    }
    for (key, value) in tags {
        if !(1..=128).contains(&key.chars().count()) || value.chars().count() > 256 {
            return refuse(format!("The tag {key} is too long, or its key is empty"));
        }
        if key.to_lowercase().starts_with("aws:") {
            return refuse(format!("The tag {key} begins with aws:, which is reserved"));
        }
    }
    Ok(())
}

fn create(state: &mut State, region: &str, params: &Params) -> Answer {
    let name = params.text("name")?;
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.len() > 100 || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(valid)
    {
        return Err(params.refuse(format!("The cluster name {name} is not valid")));
    }
    params.text("roleArn")?;
    let tags = params.tag_map("tags")?;
    check_tags(&tags, params.invalid)?;
    let place = (region.to_owned(), name.to_owned());
    let scope = format!("CreateCluster {region}");
    let mut asked = params.map.clone();
    let token = asked.remove("clientRequestToken").and_then(|token| token.as_str().map(str::to_owned));
    if state.seen_token(&scope, token.as_deref(), &asked)?.is_some()
        && let Some(cluster) = state.clusters.get(&place)
    {
        return Ok(json!({ "cluster": shown(cluster) }));
    }
    if state.clusters.contains_key(&place) {
        let message = format!("Cluster already exists with name: {name}");
        return Err(Refusal::new(409, "ResourceInUseException", message).with("clusterName", name));
    }
    let mut cluster = Cluster::named(name).region(region).creating_for(state.settle_after);
    if let Some(version) = params.opt("version")? {
        cluster = cluster.version(version);
    }
    cluster.tags = tags;
    take_access(&mut cluster, params)?;
    let arn = state.put_cluster(cluster);
    state.keep_token(&scope, token, asked, &arn);
    let cluster = existing(state, &place)?;
    Ok(json!({ "cluster": shown(cluster) }))
}

/// Takes how the cluster's Kubernetes is reached, and by whom. AWS's default mode is CONFIG_MAP where the API makes a
/// cluster, and API_AND_CONFIG_MAP where its console does: the fake has the console's.
fn take_access(cluster: &mut Cluster, params: &Params) -> Result<(), Refusal> {
    let member = |of: &str, name: &str| params.map.get(of).and_then(|of| of.get(name));
    if let Some(mode) = member("accessConfig", "authenticationMode") {
        let mode = mode.as_str().filter(|mode| ["API", "API_AND_CONFIG_MAP", "CONFIG_MAP"].contains(mode));
        let mode = mode.ok_or_else(|| params.refuse("The authenticationMode is not valid"))?;
        mode.clone_into(&mut cluster.authentication_mode);
    }
    let flag = |name: &str| member("resourcesVpcConfig", name).and_then(Value::as_bool);
    cluster.endpoint_public_access = flag("endpointPublicAccess").unwrap_or(cluster.endpoint_public_access);
    cluster.endpoint_private_access =
        flag("endpointPrivateAccess").unwrap_or(cluster.endpoint_private_access);
    if !cluster.endpoint_public_access && !cluster.endpoint_private_access {
        return Err(params.refuse("Private and public endpoint access cannot be false"));
    }
    Ok(())
}

fn describe(state: &mut State, region: &str, params: &Params) -> Answer {
    let place = (region.to_owned(), params.text("name")?.to_owned());
    let cluster = existing(state, &place)?;
    match cluster.settles.take() {
        Some((0, status)) if status.is_empty() => state.remove_cluster(&place),
        Some((0, status)) => cluster.status = status,
        Some((reads, status)) => cluster.settles = Some((reads - 1, status)),
        None => {}
    }
    let cluster = existing(state, &place)?;
    Ok(json!({ "cluster": shown(cluster) }))
}

fn list(state: &State, region: &str, params: &Params) -> Answer {
    let page = page(state, format!("ListClusters {region}"), params)?;
    let of_region = state.clusters.keys().filter(|(found, _)| found == region);
    let (items, token) = page.take(of_region.map(|(_, name)| (name.as_str(), json!(name))));
    Ok(listing("clusters", items, token))
}

fn nodes(state: &mut State, region: &str, operation: &str, params: &Params) -> Answer {
    let place = (region.to_owned(), params.text("clusterName")?.to_owned());
    let cluster = existing(state, &place)?;
    let (key, names) = match operation {
        "ListNodegroups" => ("nodegroups", cluster.node_groups.clone()),
        _ => ("fargateProfileNames", cluster.fargate_profiles.clone()),
    };
    let page = page(state, format!("{operation} {place:?}"), params)?;
    let (items, token) = page.take(names.iter().map(|name| (name.as_str(), json!(name))));
    Ok(listing(key, items, token))
}

fn node_group(state: &mut State, region: &str, params: &Params) -> Answer {
    let place = (region.to_owned(), params.text("clusterName")?.to_owned());
    let (cluster, name) = (existing(state, &place)?, params.text("nodegroupName")?);
    if !cluster.node_groups.iter().any(|group| group == name) {
        let message = format!("No node group found for name: {name}.");
        return Err(Refusal::new(404, "ResourceNotFoundException", message).with("nodegroupName", name));
    }
    let default = || format!("arn:aws:iam::{ACCOUNT}:role/nodes");
    let role = cluster.node_roles.get(name).cloned().unwrap_or_else(default);
    Ok(
        json!({"nodegroup": {"nodegroupName": name, "clusterName": place.1, "nodeRole": role, "status": "ACTIVE"}}),
    )
}

fn delete(state: &mut State, region: &str, params: &Params) -> Answer {
    let place = (region.to_owned(), params.text("name")?.to_owned());
    let settle_after = state.settle_after;
    let cluster = existing(state, &place)?;
    "DELETING".clone_into(&mut cluster.status);
    cluster.settles = Some((settle_after, String::new()));
    let answer = json!({ "cluster": shown(cluster) });
    if settle_after == 0 {
        state.remove_cluster(&place);
    }
    Ok(answer)
}

fn tags(state: &mut State, region: &str, operation: &str, params: &Params) -> Answer {
    let arn = params.text("resourceArn")?.to_owned();
    let not_found = || Refusal::new(404, "NotFoundException", format!("The resource {arn} was not found"));
    let bad = |message: &str| Refusal::new(400, "BadRequestException", message);
    let rest = arn
        .strip_prefix(&format!("arn:aws:eks:{region}:{ACCOUNT}:"))
        .ok_or_else(|| bad("The ARN is not of a resource of this account and region"))?;
    let parts: Vec<&str> = rest.split('/').collect();
    let in_cluster = |name: &str| (region.to_owned(), name.to_owned());
    let tags = match parts.as_slice() {
        ["cluster", name] => state.clusters.get_mut(&in_cluster(name)).map(|cluster| &mut cluster.tags),
        ["podidentityassociation", name, id] => state
            .shelves
            .get_mut(&in_cluster(name))
            .and_then(|shelf| shelf.by_id.get_mut(*id))
            .map(|association| &mut association.tags),
        ["addon", name, addon, _] => state
            .addons
            .get_mut(&(in_cluster(name), (*addon).to_owned()))
            .filter(|found| found.arn == arn)
            .map(|addon| &mut addon.tags),
        ["access-entry", name, ..] => state
            .access_entries
            .iter_mut()
            .find(|((on, _), entry)| *on == in_cluster(name) && entry.arn == arn)
            .map(|(_, entry)| &mut entry.tags),
        _ => return Err(bad("Resources of this type are not known to the fake")),
    }
    .ok_or_else(not_found)?;
    match operation {
        "ListTagsForResource" => return Ok(json!({ "tags": tags })),
        "TagResource" => {
            let mut after = tags.clone();
            after.extend(params.tag_map("tags")?);
            check_tags(&after, "BadRequestException")?;
            *tags = after;
        }
        _ => {
            let keys = params.texts("tagKeys")?;
            if keys.is_empty() {
                return Err(bad("tagKeys is required"));
            }
            tags.retain(|key, _| !keys.contains(&key.as_str()));
        }
    }
    let after = tags.clone();
    state.index(region, &arn, Some(&after));
    Ok(json!({}))
}

/// A cluster as EKS shows it.
fn shown(cluster: &Cluster) -> Value {
    let issues: Vec<Value> =
        cluster.issues.iter().map(|(code, message)| json!({"code": code, "message": message})).collect();
    let mut shown = json!({
        "name": cluster.name,
        "arn": cluster.arn(),
        "createdAt": cluster.created_at,
        "version": cluster.version,
        "roleArn": format!("arn:aws:iam::{ACCOUNT}:role/eks-cluster"),
        "resourcesVpcConfig": {
            "endpointPublicAccess": cluster.endpoint_public_access,
            "endpointPrivateAccess": cluster.endpoint_private_access,
        },
        "accessConfig": {"authenticationMode": cluster.authentication_mode},
        "computeConfig": {"enabled": cluster.auto_mode},
        "health": {"issues": issues},
        "platformVersion": "eks.1",
        "status": cluster.status,
        "tags": cluster.tags,
    });
    if ["ACTIVE", "UPDATING"].contains(&cluster.status.as_str()) {
        shown["endpoint"] = cluster.endpoint.as_str().into();
        shown["certificateAuthority"] = json!({ "data": cluster.certificate_authority });
        shown["identity"] = json!({"oidc": {"issuer": cluster.issuer()}});
    }
    if cluster.outpost {
        shown["outpostConfig"] = json!({"outpostArns": [], "controlPlaneInstanceType": "m5.large"});
    }
    if cluster.connected {
        shown["connectorConfig"] = json!({"provider": "OTHER"});
    }
    shown
}

impl State {
    /// Adds a cluster, and tells its ARN.
    pub fn put_cluster(&mut self, mut cluster: Cluster) -> String {
        if cluster.created_at == 0 {
            cluster.created_at = self.now;
        }
        if cluster.endpoint.is_empty() {
            cluster.endpoint = format!("https://{}.{}.eks.example", cluster.name, cluster.region);
        }
        let arn = cluster.arn();
        self.index(&cluster.region.clone(), &arn, Some(&cluster.tags));
        self.clusters.insert((cluster.region.clone(), cluster.name.clone()), cluster);
        arn
    }

    /// Takes a cluster away, and all that was on it.
    pub fn remove_cluster(&mut self, place: &Place) {
        let mut arns: Vec<String> = self.clusters.remove(place).iter().map(Cluster::arn).collect();
        if let Some(shelf) = self.shelves.remove(place) {
            arns.extend(shelf.by_id.values().map(Association::arn));
        }
        let addons = self.addons.extract_if(.., |(on, _), _| on == place);
        arns.extend(addons.map(|(_, addon)| addon.arn));
        let entries = self.access_entries.extract_if(.., |(on, _), _| on == place);
        arns.extend(entries.map(|(_, entry)| entry.arn));
        for arn in arns {
            self.index(&place.0, &arn, None);
        }
    }
}
