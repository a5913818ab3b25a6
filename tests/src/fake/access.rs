//! EKS: access entries and their policies.

use serde_json::{Value, json};

use super::eks::{check_tags, existing, listing, page};
use super::params::{Answer, Params, Refusal};
use super::state::{Place, State};
use super::things::{ACCOUNT, AccessEntry, AccessPolicy};

/// What neither a username nor a group may begin with: Kubernetes and AWS keep it for themselves.
const RESERVED: [&str; 5] = ["system:", "eks:", "aws:", "amazon:", "iam:"];

const KINDS: [&str; 7] =
    ["STANDARD", "EC2", "EC2_LINUX", "EC2_WINDOWS", "FARGATE_LINUX", "HYBRID_LINUX", "HYPERPOD_LINUX"];

pub(super) fn handle(state: &mut State, region: &str, operation: &str, params: &Params) -> Answer {
    let place = (region.to_owned(), params.text("clusterName")?.to_owned());
    if existing(state, &place)?.authentication_mode == "CONFIG_MAP" {
        let message = "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] \
                       to perform this operation.";
        return Err(Refusal::new(400, "InvalidRequestException", message).with("clusterName", &place.1));
    }
    match operation {
        "CreateAccessEntry" => create(state, &place, params),
        "ListAccessEntries" => list(state, &place, params),
        "DescribeAccessEntry" => {
            let entry = one(state, &place, params)?;
            Ok(json!({ "accessEntry": shown(&place, entry) }))
        }
        "DeleteAccessEntry" => {
            one(state, &place, params)?;
            state.remove_access_entry(&place, params.text("principalArn")?);
            Ok(json!({}))
        }
        "AssociateAccessPolicy" => associate(state, &place, params),
        _ => policies(state, &place, params),
    }
}

fn one<'a>(state: &'a mut State, place: &Place, params: &Params) -> Result<&'a mut AccessEntry, Refusal> {
    let principal = params.text("principalArn")?.to_owned();
    state.access_entries.get_mut(&(place.clone(), principal)).ok_or_else(|| {
        let message = "The specified principalArn could not be found. \
                       You can view your available access entries with 'list-access-entries'.";
        Refusal::new(404, "ResourceNotFoundException", message).with("clusterName", &place.1)
    })
}

fn create(state: &mut State, place: &Place, params: &Params) -> Answer {
    let scope = format!("CreateAccessEntry {} {}", place.0, place.1);
    let mut asked = params.map.clone();
    let token = asked.remove("clientRequestToken").and_then(|token| token.as_str().map(str::to_owned));
    if state.seen_token(&scope, token.as_deref(), &asked)?.is_some()
        && let Ok(entry) = one(state, place, params)
    {
        return Ok(json!({ "accessEntry": shown(place, entry) }));
    }
    let mut entry = AccessEntry::of(params.text("principalArn")?);
    // AWS also refuses a principal that does not exist, in the same words; the fake does not look.
    if principal(&entry.principal_arn).is_none() {
        return Err(params.refuse("The specified principalArn is invalid: invalid principal."));
    }
    entry.kind = params.opt("type")?.unwrap_or("STANDARD").to_owned();
    if !KINDS.contains(&entry.kind.as_str()) {
        return Err(params.refuse(format!("The type {} is not valid", entry.kind)));
    }
    entry.kubernetes_groups = params.texts("kubernetesGroups")?.into_iter().map(str::to_owned).collect();
    params.opt("username")?.unwrap_or_default().clone_into(&mut entry.username);
    check_names(&entry, params)?;
    entry.tags = params.tag_map("tags")?;
    check_tags(&entry.tags, params.invalid)?;
    let status = existing(state, place)?.status.clone();
    if !["ACTIVE", "UPDATING"].contains(&status.as_str()) {
        // Guessed, by the code's documented meaning.
        let message = format!("The cluster {} is {status}: an access entry can't be created", place.1);
        return Err(Refusal::new(400, "InvalidRequestException", message).with("clusterName", &place.1));
    }
    if one(state, place, params).is_ok() {
        let message = "The specified access entry resource is already in use on this cluster.";
        return Err(Refusal::new(409, "ResourceInUseException", message).with("clusterName", &place.1));
    }
    state.put_access_entry(place, entry);
    let answer = json!({ "accessEntry": shown(place, one(state, place, params)?) });
    state.keep_token(&scope, token, asked, params.text("principalArn")?);
    Ok(answer)
}

/// Account, kind and name in the ARN of a user, a role or the account itself. A session of a role is no principal.
fn principal(arn: &str) -> Option<(&str, &str, &str)> {
    let (account, resource) = arn.strip_prefix("arn:aws:iam::")?.split_once(':')?;
    let (kind, name) = match resource.split_once('/') {
        Some((kind @ ("role" | "user"), name)) => (kind, name.rsplit('/').next()?),
        None if resource == "root" => ("root", "root"),
        _ => return None,
    };
    (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty())
        .then_some((account, kind, name))
}

fn check_names(entry: &AccessEntry, params: &Params) -> Result<(), Refusal> {
    let reserved = |name: &str| RESERVED.into_iter().find(|prefix| name.starts_with(prefix));
    if let Some(prefix) = reserved(&entry.username) {
        return Err(params.refuse(format!("The username must not begin with {prefix}")));
    }
    for group in &entry.kubernetes_groups {
        if let Some(prefix) = reserved(group) {
            let message =
                format!("The kubernetes group name {group} is invalid, it cannot start with {prefix}");
            return Err(params.refuse(message));
        }
    }
    // AWS documents it of EC2_LINUX and EC2_WINDOWS; of the other types for nodes it is a guess.
    if entry.kind != "STANDARD" && !entry.kubernetes_groups.is_empty() {
        return Err(params.refuse(format!("An access entry of type {} has no kubernetesGroups", entry.kind)));
    }
    Ok(())
}

fn list(state: &State, place: &Place, params: &Params) -> Answer {
    let policy = params.opt("associatedPolicyArn")?;
    let page = page(state, format!("ListAccessEntries {place:?} {policy:?}"), params)?;
    let on_cluster = state.access_entries.iter().filter(|((on, _), _)| on == place);
    let wanted = on_cluster.filter(|(_, entry)| {
        policy.is_none_or(|wanted| entry.policies.iter().any(|policy| policy.arn == wanted))
    });
    let (items, token) = page.take(wanted.map(|((_, arn), _)| (arn.as_str(), json!(arn))));
    Ok(listing("accessEntries", items, token))
}

fn associate(state: &mut State, place: &Place, params: &Params) -> Answer {
    let now = state.now;
    let entry = one(state, place, params)?;
    // Entries of type EC2, for the nodes of EKS Auto Mode, have a policy too.
    if !["STANDARD", "EC2"].contains(&entry.kind.as_str()) {
        return Err(params
            .refuse(r#"This operation can only be performed on Access Entries with a type of "STANDARD"."#));
    }
    let arn = params.text("policyArn")?;
    // Which policies there are is not checked.
    let name = arn.strip_prefix("arn:aws:eks::aws:cluster-access-policy/").unwrap_or_default();
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(params.refuse("The specified policyArn is invalid"));
    }
    let namespaces = namespaces(params)?;
    let before = entry.policies.extract_if(.., |policy| policy.arn == arn).next();
    let associated_at = before.map_or(now, |before| before.associated_at);
    let policy = AccessPolicy { arn: arn.to_owned(), namespaces, associated_at, modified_at: now };
    let answer = json!({
        "clusterName": place.1,
        "principalArn": entry.principal_arn,
        "associatedAccessPolicy": shown_policy(&policy),
    });
    entry.policies.push(policy);
    Ok(answer)
}

/// The namespaces of the scope asked for; none for the whole cluster.
fn namespaces(params: &Params) -> Result<Vec<String>, Refusal> {
    let scope = params.map.get("accessScope");
    let kind = scope.and_then(|scope| scope.get("type")).and_then(Value::as_str);
    let namespaces = scope.and_then(|scope| scope.get("namespaces")).and_then(Value::as_array);
    let namespaces: Option<Vec<String>> =
        namespaces.into_iter().flatten().map(|name| name.as_str().map(str::to_owned)).collect();
    match (kind, namespaces) {
        (Some("namespace"), Some(namespaces)) if !namespaces.is_empty() => Ok(namespaces),
        // What EKS makes of namespaces here is not documented.
        (Some("cluster"), Some(namespaces)) if namespaces.is_empty() => Ok(namespaces),
        _ => Err(params.refuse("The accessScope is not valid")),
    }
}

fn policies(state: &mut State, place: &Place, params: &Params) -> Answer {
    let entry = one(state, place, params)?.clone();
    let page = page(state, format!("access policies {place:?} {}", entry.principal_arn), params)?;
    let mut policies: Vec<&AccessPolicy> = entry.policies.iter().collect();
    policies.sort_by_key(|policy| &policy.arn);
    let (items, token) =
        page.take(policies.into_iter().map(|policy| (policy.arn.as_str(), shown_policy(policy))));
    let mut answer = listing("associatedAccessPolicies", items, token);
    answer["clusterName"] = place.1.as_str().into();
    answer["principalArn"] = entry.principal_arn.into();
    Ok(answer)
}

fn shown(place: &Place, entry: &AccessEntry) -> Value {
    json!({
        "clusterName": place.1,
        "principalArn": entry.principal_arn,
        "kubernetesGroups": entry.kubernetes_groups,
        "accessEntryArn": entry.arn,
        "createdAt": entry.created_at,
        "modifiedAt": entry.modified_at,
        "tags": entry.tags,
        "username": entry.username,
        "type": entry.kind,
    })
}

fn shown_policy(policy: &AccessPolicy) -> Value {
    let kind = if policy.namespaces.is_empty() { "cluster" } else { "namespace" };
    json!({
        "policyArn": policy.arn,
        "accessScope": {"type": kind, "namespaces": policy.namespaces},
        "associatedAt": policy.associated_at,
        "modifiedAt": policy.modified_at,
    })
}

impl State {
    /// Adds an access entry, unchecked.
    pub fn put_access_entry(&mut self, place: &Place, mut entry: AccessEntry) {
        let (account, kind, name) = principal(&entry.principal_arn).unwrap_or((ACCOUNT, "role", "unknown"));
        if entry.username.is_empty() {
            entry.username = match kind {
                "role" => format!("arn:aws:sts::{account}:assumed-role/{name}/{{{{SessionName}}}}"),
                _ => entry.principal_arn.clone(),
            };
        }
        if entry.arn.is_empty() {
            // Whether a role's path stands here is not known.
            let who = format!("{kind}/{account}/{name}/{}", self.uuid("access entry"));
            entry.arn = format!("arn:aws:eks:{}:{ACCOUNT}:access-entry/{}/{who}", place.0, place.1);
        }
        if entry.created_at == 0 {
            entry.created_at = self.now;
            entry.modified_at = self.now;
            for policy in &mut entry.policies {
                policy.associated_at = self.now;
                policy.modified_at = self.now;
            }
        }
        self.index(&place.0, &entry.arn, Some(&entry.tags));
        self.access_entries.insert((place.clone(), entry.principal_arn.clone()), entry);
    }

    /// Takes an access entry away, and its policies with it.
    pub fn remove_access_entry(&mut self, place: &Place, principal_arn: &str) -> Option<AccessEntry> {
        let gone = self.access_entries.remove(&(place.clone(), principal_arn.to_owned()))?;
        self.index(&place.0, &gone.arn, None);
        Some(gone)
    }
}
