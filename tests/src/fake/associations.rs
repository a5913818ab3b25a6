//! EKS: pod identity associations.

use serde_json::{Value, json};

use super::eks::{check_tags, existing, listing, page};
use super::params::{Answer, Params, Refusal};
use super::state::{Place, State};
use super::things::{ACCOUNT, Association};

const POD_SERVICE: &str = "pods.eks.amazonaws.com";

pub(super) fn handle(state: &mut State, region: &str, operation: &str, params: &Params) -> Answer {
    let place = (region.to_owned(), params.text("clusterName")?.to_owned());
    existing(state, &place)?;
    match operation {
        "CreatePodIdentityAssociation" => create(state, &place, params),
        "ListPodIdentityAssociations" => list(state, &place, params),
        "DescribePodIdentityAssociation" => {
            let association = one(state, &place, params.text("associationId")?)?;
            Ok(json!({ "association": shown(association) }))
        }
        "UpdatePodIdentityAssociation" => update(state, &place, params),
        _ => delete(state, &place, params),
    }
}

fn one<'a>(state: &'a mut State, place: &Place, id: &str) -> Result<&'a mut Association, Refusal> {
    let found = state.shelves.get_mut(place).and_then(|shelf| shelf.by_id.get_mut(id));
    found.ok_or_else(|| {
        let message = format!("No association found for id: {id}.");
        Refusal::new(404, "ResourceNotFoundException", message).with("clusterName", &place.1)
    })
}

fn create(state: &mut State, place: &Place, params: &Params) -> Answer {
    let scope = format!("CreatePodIdentityAssociation {} {}", place.0, place.1);
    let mut asked = params.map.clone();
    let token = asked.remove("clientRequestToken").and_then(|token| token.as_str().map(str::to_owned));
    if let Some(id) = state.seen_token(&scope, token.as_deref(), &asked)?
        && let Ok(association) = one(state, place, &id)
    {
        return Ok(json!({ "association": shown(association) }));
    }
    let (namespace, account) = (params.text("namespace")?, params.text("serviceAccount")?);
    let mut association = Association::of(&place.1, namespace, account).region(&place.0);
    check_names(namespace, account, params)?;
    params.text("roleArn")?.clone_into(&mut association.role_arn);
    association.tags = params.tag_map("tags")?;
    check_tags(&association.tags, params.invalid)?;
    take_settings(&mut association, params)?;
    if state.clusters.get(place).is_some_and(|cluster| cluster.status == "DELETING") {
        let message = format!("The cluster {} is DELETING", place.1);
        return Err(Refusal::new(400, "InvalidRequestException", message).with("clusterName", &place.1));
    }
    check_role(state, &association.role_arn)?;

    let limit = state.association_limit;
    let shelf = state.shelves.entry(place.clone()).or_default();
    let workload = (namespace.to_owned(), account.to_owned());
    let in_the_way = match (shelf.by_workload.get(&workload), shelf.lingering.get_mut(&workload)) {
        (Some(id), _) => Some(id.clone()),
        (None, Some((id, times))) if *times > 0 => {
            *times -= 1;
            Some(id.clone())
        }
        _ => None,
    };
    if let Some(id) = in_the_way {
        let message = format!("Association already exists: {id}");
        return Err(Refusal::new(409, "ResourceInUseException", message).with("clusterName", &place.1));
    }
    if shelf.by_id.len() >= limit {
        let message = format!("The cluster has {limit} associations, as many as it may have");
        return Err(
            Refusal::new(400, "ResourceLimitExceededException", message).with("clusterName", &place.1)
        );
    }
    let id = state.put_association(association);
    state.keep_token(&scope, token, asked, &id);
    let association = one(state, place, &id)?;
    Ok(json!({ "association": shown(association) }))
}

fn check_names(namespace: &str, account: &str, params: &Params) -> Result<(), Refusal> {
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let is_label = |text: &str| {
        !text.is_empty()
            && text.as_bytes().iter().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    if namespace.len() > 63 || !is_label(namespace) {
        return Err(params.refuse(format!("The namespace {namespace} is not valid")));
    }
    if account.len() > 253 || !account.split('.').all(is_label) {
        return Err(params.refuse(format!("The service account {account} is not valid")));
    }
    Ok(())
}

/// Takes what both Create and Update can set. An empty text clears; what is left out stays.
fn take_settings(association: &mut Association, params: &Params) -> Result<(), Refusal> {
    if let Some(disable) = params.flag("disableSessionTags")? {
        association.disable_session_tags = disable;
    }
    if let Some(policy) = params.opt("policy")? {
        policy.clone_into(&mut association.policy);
    }
    if let Some(target) = params.opt("targetRoleArn")? {
        if !target.is_empty() && role_name(target).is_none() {
            return Err(params.refuse(format!("The targetRoleArn {target} is not the ARN of a role")));
        }
        target.clone_into(&mut association.target_role_arn);
    }
    if !association.policy.is_empty() && !association.disable_session_tags {
        return Err(params.refuse("A policy needs disableSessionTags"));
    }
    Ok(())
}

/// Account, path and name in the ARN of a role.
fn role_name(arn: &str) -> Option<(&str, &str)> {
    let (account, resource) = arn.strip_prefix("arn:aws:iam::")?.split_once(':')?;
    let name = resource.strip_prefix("role/")?.rsplit('/').next()?;
    (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty())
        .then_some((account, name))
}

/// Checks that EKS can see the role, and that its trust policy names the service of pod identity.
fn check_role(state: &mut State, arn: &str) -> Result<(), Refusal> {
    let (account, name) = role_name(arn)
        .ok_or_else(|| Refusal::invalid_parameter(format!("{arn} is not the ARN of a role")))?;
    let absent = Refusal::invalid_parameter("Role provided in the request does not exist.");
    let role = state.roles.get_mut(name).filter(|role| account == ACCOUNT && role.arn() == arn);
    let role = role.ok_or_else(|| absent.clone())?;
    if role.hidden_from_eks > 0 {
        role.hidden_from_eks -= 1;
        return Err(absent);
    }
    if trusts_pods(&role.trust_policy) {
        Ok(())
    } else {
        Err(Refusal::invalid_parameter("Trust policy of the role provided is invalid."))
    }
}

/// Whether a statement lets the service of pod identity assume the role. What EKS makes of a statement without
/// sts:TagSession is not known; the fake lets it pass, so that podgrant's own check is what a test sees.
fn trusts_pods(policy: &str) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else { return false };
    any(policy.get("Statement"), &|statement| {
        let principal = statement.get("Principal");
        let everybody = principal.and_then(Value::as_str) == Some("*");
        let service = principal.and_then(|principal| principal.get("Service"));
        statement.get("Effect").and_then(Value::as_str) == Some("Allow")
            && (everybody || any(service, &|service| service.as_str() == Some(POD_SERVICE)))
            && any(statement.get("Action"), &|action| {
                let action = action.as_str().unwrap_or_default().to_ascii_lowercase();
                ["sts:assumerole", "sts:*", "*"].contains(&action.as_str())
            })
    })
}

/// Whether a value, or one of the values of a list, is so.
fn any(value: Option<&Value>, is: &dyn Fn(&Value) -> bool) -> bool {
    match value {
        Some(Value::Array(items)) => items.iter().any(is),
        Some(value) => is(value),
        None => false,
    }
}

fn list(state: &State, place: &Place, params: &Params) -> Answer {
    let (namespace, account) = (params.opt("namespace")?, params.opt("serviceAccount")?);
    let page = page(state, format!("associations {place:?} {namespace:?} {account:?}"), params)?;
    let Some(shelf) = state.shelves.get(place) else { return Ok(json!({ "associations": [] })) };
    let (items, token) = match (namespace, account) {
        // By far the commonest, and a cluster may have thousands.
        (Some(namespace), Some(account)) => {
            let id = shelf.by_workload.get(&(namespace.to_owned(), account.to_owned()));
            let found = id.and_then(|id| shelf.by_id.get_key_value(id));
            page.take(found.map(|(id, association)| (id.as_str(), summary(association))))
        }
        _ => {
            let wanted = |association: &&Association| {
                namespace.is_none_or(|namespace| namespace == association.namespace)
                    && account.is_none_or(|account| account == association.service_account)
            };
            let rest =
                shelf.by_id.range::<str, _>(page.start()).filter(|(_, association)| wanted(association));
            page.take(rest.map(|(id, association)| (id.as_str(), summary(association))))
        }
    };
    Ok(listing("associations", items, token))
}

fn update(state: &mut State, place: &Place, params: &Params) -> Answer {
    let id = params.text("associationId")?;
    let now = state.now;
    let mut changed = one(state, place, id)?.clone();
    if let Some(arn) = params.opt("roleArn")?.filter(|arn| !arn.is_empty()) {
        check_role(state, arn)?;
        arn.clone_into(&mut changed.role_arn);
    }
    take_settings(&mut changed, params)?;
    changed.modified_at = now;
    state.give_external_id(&mut changed);
    let answer = json!({ "association": shown(&changed) });
    *one(state, place, id)? = changed;
    Ok(answer)
}

fn delete(state: &mut State, place: &Place, params: &Params) -> Answer {
    let id = params.text("associationId")?;
    let gone = one(state, place, id)?.clone();
    let answer = json!({ "association": shown(&gone) });
    state.remove_association(place, id);
    state.deleted.push((gone, state.now));
    Ok(answer)
}

/// An association as a listing shows it: without role, tags or times.
fn summary(association: &Association) -> Value {
    let mut shown = json!({
        "clusterName": association.cluster,
        "namespace": association.namespace,
        "serviceAccount": association.service_account,
        "associationArn": association.arn(),
        "associationId": association.id,
    });
    if !association.owner_arn.is_empty() {
        shown["ownerArn"] = association.owner_arn.as_str().into();
    }
    shown
}

/// An association as it is shown by itself.
fn shown(association: &Association) -> Value {
    let mut shown = summary(association);
    shown["roleArn"] = association.role_arn.as_str().into();
    shown["tags"] = json!(association.tags);
    shown["createdAt"] = association.created_at.into();
    shown["modifiedAt"] = association.modified_at.into();
    shown["disableSessionTags"] = association.disable_session_tags.into();
    let optional = [
        ("targetRoleArn", &association.target_role_arn),
        ("externalId", &association.external_id),
        ("policy", &association.policy),
    ];
    for (name, value) in optional.into_iter().filter(|(_, value)| !value.is_empty()) {
        shown[name] = value.as_str().into();
    }
    shown
}

impl State {
    fn give_external_id(&mut self, association: &mut Association) {
        if association.target_role_arn.is_empty() {
            association.external_id.clear();
        } else if association.external_id.is_empty() {
            association.external_id = self.uuid("external id");
        }
    }

    /// Adds an association, unchecked, and tells its id.
    pub fn put_association(&mut self, mut association: Association) -> String {
        if association.id.is_empty() {
            association.id = format!("a-{:015}", self.next("association"));
        }
        if association.created_at == 0 {
            association.created_at = self.now;
            association.modified_at = self.now;
        }
        self.give_external_id(&mut association);
        self.index(&association.region.clone(), &association.arn(), Some(&association.tags));
        let id = association.id.clone();
        let shelf =
            self.shelves.entry((association.region.clone(), association.cluster.clone())).or_default();
        let workload = (association.namespace.clone(), association.service_account.clone());
        shelf.lingering.remove(&workload);
        shelf.by_workload.insert(workload, id.clone());
        shelf.by_id.insert(id.clone(), association);
        id
    }

    /// Takes an association away.
    pub fn remove_association(&mut self, place: &Place, id: &str) -> Option<Association> {
        let linger = self.deletes_linger;
        let shelf = self.shelves.get_mut(place)?;
        let gone = shelf.by_id.remove(id)?;
        let workload = (gone.namespace.clone(), gone.service_account.clone());
        shelf.by_workload.remove(&workload);
        if linger > 0 {
            shelf.lingering.insert(workload, (id.to_owned(), linger));
        }
        self.index(&place.0, &gone.arn(), None);
        Some(gone)
    }
}
