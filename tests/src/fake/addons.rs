//! EKS: add-ons and their versions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::configuration;
use super::eks::{check_tags, existing, listing, page};
use super::fault::ANY;
use super::params::{Answer, Params, Refusal};
use super::state::{Place, State};
use super::things::{ACCOUNT, Addon, AddonVersion, Association, Cluster};

/// The add-on without which no association works.
pub const AGENT: &str = "eks-pod-identity-agent";

const CONFLICT: &str = "ConfigurationConflict";
const CONFLICT_FOUND: &str = "Conflicts found when trying to apply. \
    Will not continue due to resolve conflicts mode. Conflicts:\n\
    DaemonSet.apps eks-pod-identity-agent - .spec.template.spec.containers[name=\"eks-pod-identity-agent\"].image";

/// Made up, in the form that EKS has: the agent for the Kubernetes versions of the day, and another add-on.
pub(super) fn default_versions() -> BTreeMap<String, Vec<AddonVersion>> {
    let agent = vec![
        AddonVersion::new("v1.3.10-eksbuild.2").on(&["1.31", "1.32"]).default_on(&["1.33", "1.34", "1.35"]),
        AddonVersion::new("v1.3.8-eksbuild.2").on(&["1.30", "1.33", "1.34"]).default_on(&["1.31", "1.32"]),
        AddonVersion::new("v1.3.4-eksbuild.1").on(&["1.31", "1.32", "1.33"]).default_on(&["1.29", "1.30"]),
    ];
    let dns =
        vec![AddonVersion::new("v1.12.1-eksbuild.2").default_on(&["1.31", "1.32", "1.33", "1.34", "1.35"])];
    BTreeMap::from([(AGENT.to_owned(), agent), ("coredns".to_owned(), dns)])
}

/// The agent's schema is in the form that EKS has, of values of its public chart; the local AWS has the same.
pub(super) fn default_schemas() -> BTreeMap<(String, String), String> {
    let agent = include_str!("../../local-aws/gaps/agent-configuration.schema.json");
    BTreeMap::from([((AGENT.to_owned(), ANY.to_owned()), agent.to_owned())])
}

pub(super) fn handle(state: &mut State, region: &str, operation: &str, params: &Params) -> Answer {
    match operation {
        "DescribeAddonVersions" => return versions(state, params),
        "DescribeAddonConfiguration" => return schema(state, params),
        _ => {}
    }
    let place = (region.to_owned(), params.text("clusterName")?.to_owned());
    existing(state, &place)?;
    match operation {
        "CreateAddon" => create(state, &place, params),
        "DescribeAddon" => describe(state, &place, params),
        "UpdateAddon" => update(state, &place, params),
        "DeleteAddon" => delete(state, &place, params),
        _ => list(state, &place, params),
    }
}

fn one<'a>(state: &'a mut State, place: &Place, name: &str) -> Result<&'a mut Addon, Refusal> {
    state.addons.get_mut(&(place.clone(), name.to_owned())).ok_or_else(|| {
        let message = format!("No addon: {name} found in cluster: {}", place.1);
        Refusal::new(404, "ResourceNotFoundException", message)
            .with("clusterName", &place.1)
            .with("addonName", name)
    })
}

/// The version asked for, or the default, if it goes with the cluster's Kubernetes version.
fn version_for(state: &mut State, place: &Place, name: &str, asked: Option<&str>) -> Result<String, Refusal> {
    let kubernetes = existing(state, place)?.version.clone();
    let versions = state.addon_versions.get(name).into_iter().flatten();
    let mut fitting = versions.flat_map(|version| {
        let fits = version.kubernetes.iter().filter(|(found, _)| *found == kubernetes);
        fits.map(|(_, default)| (&version.version, *default))
    });
    let found = match asked {
        Some(asked) => fitting.find(|(version, _)| *version == asked),
        None => fitting.find(|(_, default)| *default),
    };
    found.map(|(version, _)| version.clone()).ok_or_else(|| {
        let which = asked.unwrap_or("any version");
        let message =
            format!("Addon version specified is not supported: {name} {which} on Kubernetes {kubernetes}");
        Refusal::invalid_parameter(message).with("clusterName", &place.1).with("addonName", name)
    })
}

/// The configuration asked for, if it fits the schema of the add-on's version. An empty text is none.
fn configuration_for<'a>(
    state: &State,
    place: &Place,
    (name, version): (&str, &str),
    params: &'a Params,
) -> Result<Option<&'a str>, Refusal> {
    let configuration = params.opt("configurationValues")?;
    let some = configuration.filter(|text| !text.is_empty());
    match some.and_then(|text| configuration::problem(state.addon_schema(name, version), text)) {
        Some(problem) => Err(params.refuse(problem).with("clusterName", &place.1).with("addonName", name)),
        None => Ok(configuration),
    }
}

fn resolve_conflicts(params: &Params) -> Result<String, Refusal> {
    let resolve = params.opt("resolveConflicts")?.unwrap_or_default();
    if !["", "OVERWRITE", "NONE", "PRESERVE"].contains(&resolve) {
        return Err(params.refuse("The resolveConflicts is not valid"));
    }
    Ok(resolve.to_owned())
}

/// What becomes of an add-on: ACTIVE or, where it meets an agent that is not its own, `failed`. As AWS documents it,
/// PRESERVE keeps what others set in an update, and is like NONE in a creation; what EKS takes for none is not
/// documented, and NONE here. An overwritten agent is the add-on's from then on.
fn outcome(cluster: &mut Cluster, addon: &Addon, failed: &str) -> String {
    let meets_another = addon.name == AGENT && cluster.self_managed_agent;
    let ends = match addon.resolve_conflicts.as_str() {
        "OVERWRITE" => {
            cluster.self_managed_agent &= !meets_another;
            "ACTIVE"
        }
        "PRESERVE" if failed == "UPDATE_FAILED" => "ACTIVE",
        _ if meets_another => failed,
        _ => "ACTIVE",
    };
    ends.to_owned()
}

fn create(state: &mut State, place: &Place, params: &Params) -> Answer {
    let name = params.text("addonName")?;
    let scope = format!("CreateAddon {} {}", place.0, place.1);
    let mut asked = params.map.clone();
    let token = asked.remove("clientRequestToken").and_then(|token| token.as_str().map(str::to_owned));
    if state.seen_token(&scope, token.as_deref(), &asked)?.is_some()
        && let Ok(addon) = one(state, place, name)
    {
        let addon = addon.clone();
        return Ok(json!({ "addon": shown(state, place, &addon) }));
    }
    let status = existing(state, place)?.status.clone();
    if !["ACTIVE", "UPDATING"].contains(&status.as_str()) {
        let message = format!("The cluster {} is {status}: an add-on can't be created", place.1);
        return Err(Refusal::new(400, "InvalidRequestException", message).with("clusterName", &place.1));
    }
    if one(state, place, name).is_ok() {
        let refusal = Refusal::new(409, "ResourceInUseException", "Addon already exists.");
        return Err(refusal.with("clusterName", &place.1).with("addonName", name));
    }
    let tags = params.tag_map("tags")?;
    check_tags(&tags, params.invalid)?;
    let version = version_for(state, place, name, params.opt("addonVersion")?)?;
    let configuration = configuration_for(state, place, (name, &version), params)?.unwrap_or_default();
    let mut addon = Addon::named(name, version).status("CREATING").configuration(configuration);
    addon.tags = tags;
    addon.resolve_conflicts = resolve_conflicts(params)?;
    let ends = outcome(existing(state, place)?, &addon, "CREATE_FAILED");
    addon.settles = Some((state.settle_after, ends));
    state.put_addon(place, addon);
    own_associations(state, place, name, params)?;
    let addon = one(state, place, name)?.clone();
    state.keep_token(&scope, token, asked, &addon.arn);
    Ok(json!({ "addon": shown(state, place, &addon) }))
}

/// The associations that come with an add-on are the add-on's own. An empty list takes them away; none leaves them.
fn own_associations(state: &mut State, place: &Place, name: &str, params: &Params) -> Result<(), Refusal> {
    if !params.map.contains_key("podIdentityAssociations") {
        return Ok(());
    }
    let arn = one(state, place, name)?.arn.clone();
    for id in state.owned_by(place, &arn) {
        state.remove_association(place, &id);
    }
    for wanted in params.list("podIdentityAssociations")? {
        let text = |member: &str| wanted.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
        let association = Association::of(&place.1, "kube-system", text("serviceAccount"));
        state.put_association(association.region(&place.0).role_arn(text("roleArn")).owner(&arn));
    }
    Ok(())
}

fn describe(state: &mut State, place: &Place, params: &Params) -> Answer {
    let name = params.text("addonName")?;
    let addon = one(state, place, name)?;
    match addon.settles.take() {
        Some((0, status)) if status.is_empty() => state.remove_addon(place, name),
        Some((0, status)) => {
            if status.ends_with("_FAILED") {
                addon.issues.push((CONFLICT.to_owned(), CONFLICT_FOUND.to_owned()));
            }
            addon.status = status;
        }
        Some((reads, status)) => addon.settles = Some((reads - 1, status)),
        None => {}
    }
    let addon = one(state, place, name)?.clone();
    Ok(json!({ "addon": shown(state, place, &addon) }))
}

fn update(state: &mut State, place: &Place, params: &Params) -> Answer {
    let name = params.text("addonName")?;
    let (now, settle_after) = (state.now, state.settle_after);
    let before = one(state, place, name)?.clone();
    if ["CREATING", "UPDATING", "DELETING"].contains(&before.status.as_str()) {
        let message = format!("Addon {name} cannot be updated as it is currently in {} state", before.status);
        let refusal = Refusal::new(409, "ResourceInUseException", message);
        return Err(refusal.with("clusterName", &place.1).with("addonName", name));
    }
    let version = match params.opt("addonVersion")? {
        Some(asked) => version_for(state, place, name, Some(asked))?,
        None => before.version.clone(),
    };
    let configuration = configuration_for(state, place, (name, &version), params)?.map(str::to_owned);
    let mut changed = before;
    changed.resolve_conflicts = resolve_conflicts(params)?;
    changed.issues.retain(|(code, _)| code != CONFLICT);
    own_associations(state, place, name, params)?;
    changed.version = version;
    changed.configuration = configuration.unwrap_or(changed.configuration);
    changed.modified_at = now;
    let ends = outcome(existing(state, place)?, &changed, "UPDATE_FAILED");
    changed.settles = Some((settle_after, ends));
    "UPDATING".clone_into(&mut changed.status);
    let parameters = json!([{"type": "AddonVersion", "value": changed.version}]);
    *one(state, place, name)? = changed;
    let id = state.uuid("update");
    Ok(json!({ "update": {
        "id": id, "status": "InProgress", "type": "AddonUpdate", "params": parameters, "createdAt": now, "errors": [],
    }}))
}

fn delete(state: &mut State, place: &Place, params: &Params) -> Answer {
    let name = params.text("addonName")?;
    let settle_after = state.settle_after;
    let preserve = params.flag("preserve")?.unwrap_or_default();
    let addon = one(state, place, name)?;
    addon.preserve = preserve;
    "DELETING".clone_into(&mut addon.status);
    addon.settles = Some((settle_after, String::new()));
    let addon = addon.clone();
    let answer = json!({ "addon": shown(state, place, &addon) });
    if settle_after == 0 {
        state.remove_addon(place, name);
    }
    Ok(answer)
}

fn list(state: &State, place: &Place, params: &Params) -> Answer {
    let page = page(state, format!("ListAddons {place:?}"), params)?;
    let on_cluster = state.addons.keys().filter(|(on, _)| on == place);
    let (items, token) = page.take(on_cluster.map(|(_, name)| (name.as_str(), json!(name))));
    Ok(listing("addons", items, token))
}

fn versions(state: &State, params: &Params) -> Answer {
    let (wanted, kubernetes) = (params.opt("addonName")?, params.opt("kubernetesVersion")?);
    let page = page(state, format!("DescribeAddonVersions {wanted:?} {kubernetes:?}"), params)?;
    let addons = state.addon_versions.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
    let found = addons.filter_map(|(name, versions)| {
        let versions: Vec<Value> = versions.iter().filter_map(|version| shown_version(version, kubernetes)).collect();
        let shown = json!({
            "addonName": name, "type": "security", "addonVersions": versions, "publisher": "eks", "owner": "aws",
        });
        (!versions.is_empty()).then_some((name.as_str(), shown))
    });
    let (items, token) = page.take(found);
    Ok(listing("addons", items, token))
}

fn schema(state: &State, params: &Params) -> Answer {
    let (name, version) = (params.text("addonName")?, params.text("addonVersion")?);
    let mut known = state.addon_versions.get(name).into_iter().flatten();
    if !known.any(|known| known.version == version) {
        // The text is ours; the code is one of the two that the operation has.
        let message = format!("No configuration found for add-on {name} version {version}");
        return Err(Refusal::new(404, "ResourceNotFoundException", message).with("addonName", name));
    }
    Ok(json!({
        "addonName": name,
        "addonVersion": version,
        "configurationSchema": state.addon_schema(name, version),
        "podIdentityConfiguration": [],
    }))
}

/// A version, if it goes with the Kubernetes version asked for.
fn shown_version(version: &AddonVersion, kubernetes: Option<&str>) -> Option<Value> {
    let fitting =
        version.kubernetes.iter().filter(|(found, _)| kubernetes.is_none_or(|wanted| wanted == found));
    let compatibilities: Vec<Value> = fitting
        .map(|(found, default)| json!({"clusterVersion": found, "platformVersions": ["*"], "defaultVersion": default}))
        .collect();
    (!compatibilities.is_empty()).then(|| {
        json!({
            "addonVersion": version.version,
            "architecture": ["amd64", "arm64"],
            "computeTypes": ["ec2", "hybrid"],
            "compatibilities": compatibilities,
            "requiresConfiguration": false,
            "requiresIamPermissions": false,
        })
    })
}

fn shown(state: &State, place: &Place, addon: &Addon) -> Value {
    let issue =
        |(code, message): &(String, String)| json!({"code": code, "message": message, "resourceIds": []});
    let mut shown = json!({
        "addonName": addon.name,
        "clusterName": place.1,
        "status": addon.status,
        "addonVersion": addon.version,
        "health": {"issues": addon.issues.iter().map(issue).collect::<Value>()},
        "addonArn": addon.arn,
        "createdAt": addon.created_at,
        "modifiedAt": addon.modified_at,
        "tags": addon.tags,
    });
    if !addon.configuration.is_empty() {
        shown["configurationValues"] = addon.configuration.as_str().into();
    }
    let owned = state.owned_by(place, &addon.arn);
    if !owned.is_empty() {
        let arn = |id: &String| {
            format!("arn:aws:eks:{}:{ACCOUNT}:podidentityassociation/{}/{id}", place.0, place.1)
        };
        shown["podIdentityAssociations"] = owned.iter().map(arn).collect();
    }
    shown
}

impl State {
    /// The schema of an add-on's configuration, as a text.
    fn addon_schema(&self, name: &str, version: &str) -> &str {
        let of = |version: &str| self.addon_schemas.get(&(name.to_owned(), version.to_owned()));
        of(version).or_else(|| of(ANY)).map_or(r#"{"type": "object"}"#, String::as_str)
    }

    /// Adds an add-on, unchecked.
    pub fn put_addon(&mut self, place: &Place, mut addon: Addon) {
        if addon.arn.is_empty() {
            let id = self.uuid("addon");
            addon.arn = format!("arn:aws:eks:{}:{ACCOUNT}:addon/{}/{}/{id}", place.0, place.1, addon.name);
        }
        if addon.created_at == 0 {
            addon.created_at = self.now;
            addon.modified_at = self.now;
        }
        self.index(&place.0, &addon.arn, Some(&addon.tags));
        self.addons.insert((place.clone(), addon.name.clone()), addon);
    }

    /// Takes an add-on away, and the associations that it owns.
    pub fn remove_addon(&mut self, place: &Place, name: &str) {
        let Some(gone) = self.addons.remove(&(place.clone(), name.to_owned())) else { return };
        for id in self.owned_by(place, &gone.arn) {
            self.remove_association(place, &id);
        }
        self.index(&place.0, &gone.arn, None);
    }

    /// The ids of the associations that have this owner.
    fn owned_by(&self, place: &Place, owner: &str) -> Vec<String> {
        let shelf = self.shelves.get(place).into_iter();
        let owned = shelf.flat_map(|shelf| shelf.by_id.values()).filter(|found| found.owner_arn == owner);
        owned.map(|association| association.id.clone()).collect()
    }
}
