//! IAM: roles. Answers are values here; `wire` makes XML of them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::paging::Page;
use super::params::{Answer, Params, Refusal, Tags, is_tag_text, listed};
use super::state::State;
use super::things::{ACCOUNT, Role};

/// RFC 3986: all but letters, digits and `- _ . ~`.
const POLICY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Parameters that are lists, also where they came empty.
pub(super) const LISTS: [&str; 3] = ["Tags", "TagKeys", "Filter"];

pub(super) fn handle(state: &mut State, operation: &str, params: &Params) -> Answer {
    match operation {
        "GetRole" => get(state, params),
        "ListRoles" => list(state, params),
        "ListRoleTags" => list_tags(state, params),
        "GetAccountAuthorizationDetails" => details(state, params),
        "CreateRole" => create(state, params),
        "DeleteRole" => delete(state, params),
        "TagRole" => tag(state, params),
        "UntagRole" => {
            let keys = params.texts("TagKeys")?;
            let role = one(state, params)?;
            role.tags.retain(|key, _| !keys.iter().any(|gone| gone.eq_ignore_ascii_case(key)));
            Ok(Value::Null)
        }
        "UpdateAssumeRolePolicy" => {
            let policy = check_policy(params.text("PolicyDocument")?)?;
            one(state, params)?.trust_policy = policy;
            Ok(Value::Null)
        }
        "ListAttachedRolePolicies" | "ListRolePolicies" | "ListInstanceProfilesForRole" => {
            hangers_on(state, operation, params)
        }
        "GetOpenIDConnectProvider" => {
            let arn = params.text("OpenIDConnectProviderArn")?;
            if state.gone_providers.contains(arn) {
                let message = format!("OpenIDConnect Provider not found for arn {arn}");
                return Err(Refusal::new(404, "NoSuchEntity", message));
            }
            let url = arn.split_once("oidc-provider/").map(|(_, url)| url);
            Ok(json!({"Url": url, "ClientIDList": ["sts.amazonaws.com"], "ThumbprintList": []}))
        }
        "GetRolePolicy" => {
            let (role, name) = (read_one(state, params)?, params.text("PolicyName")?);
            let document = role.inline_policies.iter().find(|(found, _)| found == name);
            let (_, document) = document.ok_or_else(|| {
                let message = format!("The role policy with name {name} cannot be found.");
                Refusal::new(404, "NoSuchEntity", message)
            })?;
            Ok(json!({"RoleName": role.name, "PolicyName": name, "PolicyDocument": encoded(document)}))
        }
        "GetPolicy" => {
            let (arn, _) = policy(state, params)?;
            let name = &attached(&arn)["PolicyName"];
            Ok(json!({"Policy": {"Arn": arn, "PolicyName": name, "DefaultVersionId": VERSION}}))
        }
        "GetPolicyVersion" => {
            let (arn, document) = policy(state, params)?;
            if params.text("VersionId")? != VERSION {
                return Err(no_such_policy(&arn));
            }
            Ok(json!({"PolicyVersion": policy_version(&document)}))
        }
        "AttachRolePolicy" => {
            let arn = params.text("PolicyArn")?.to_owned();
            let role = one(state, params)?;
            role.attached_policies.retain(|attached| *attached != arn);
            role.attached_policies.push(arn);
            Ok(Value::Null)
        }
        "PutRolePolicy" => {
            let policy =
                (params.text("PolicyName")?.to_owned(), check_policy(params.text("PolicyDocument")?)?);
            let role = one(state, params)?;
            role.inline_policies.retain(|(name, _)| *name != policy.0);
            role.inline_policies.push(policy);
            Ok(Value::Null)
        }
        "DetachRolePolicy" | "DeleteRolePolicy" | "RemoveRoleFromInstanceProfile" => {
            take_off(state, operation, params)
        }
        _ => Err(Refusal::new(
            400,
            "InvalidAction",
            format!("Could not find operation {operation} for version 2010-05-08"),
        )),
    }
}

/// The one version that each managed policy has here.
const VERSION: &str = "v1";

fn no_such_policy(arn: &str) -> Refusal {
    Refusal::new(404, "NoSuchEntity", format!("Policy {arn} was not found."))
}

/// A managed policy of the account's own, and its document. AWS's own are known by name only.
fn policy(state: &State, params: &Params) -> Result<(String, String), Refusal> {
    let arn = params.text("PolicyArn")?;
    let document = state.policies.get(arn).ok_or_else(|| no_such_policy(arn))?;
    Ok((arn.to_owned(), document.clone()))
}

fn policy_version(document: &str) -> Value {
    json!({"Document": encoded(document), "VersionId": VERSION, "IsDefaultVersion": true})
}

fn no_such_role(name: &str) -> Refusal {
    Refusal::new(404, "NoSuchEntity", format!("The role with name {name} cannot be found."))
}

/// The role that a write is about: writes see what is.
fn one<'a>(state: &'a mut State, params: &Params) -> Result<&'a mut Role, Refusal> {
    let name = params.text("RoleName")?;
    let role = state.roles.get_mut(name).ok_or_else(|| no_such_role(name))?;
    if role.path.starts_with("/aws-service-role/") || role.path.starts_with("/aws-reserved/") {
        let message = format!("Cannot perform the operation on the protected role '{name}'");
        return Err(Refusal::new(400, "UnmodifiableEntity", message));
    }
    Ok(role)
}

/// A role as this read sees it: not at all, or as it was, if the role is made so.
fn read(role: &mut Role) -> Option<Role> {
    if role.hidden_reads > 0 {
        role.hidden_reads -= 1;
        return None;
    }
    let mut seen = role.clone();
    if let Some((reads, tags, policy)) = role.stale.take()
        && reads > 0
    {
        seen.tags.clone_from(&tags);
        seen.trust_policy.clone_from(&policy);
        role.stale = Some((reads - 1, tags, policy));
    }
    Some(seen)
}

fn read_one(state: &mut State, params: &Params) -> Result<Role, Refusal> {
    let name = params.text("RoleName")?;
    state.roles.get_mut(name).and_then(read).ok_or_else(|| no_such_role(name))
}

fn page(state: &State, listing: String, params: &Params) -> Result<Page, Refusal> {
    let size = params.page_size("MaxItems", 1000, 100)?.min(state.page_size);
    Page::or_refuse(listing, params.opt("Marker")?, size, params.invalid, "The Marker is not valid")
}

/// An answer with a list, and a marker if there is more.
fn listing(name: &str, items: Vec<Value>, marker: Option<String>) -> Value {
    let mut answer = json!({ name: items, "IsTruncated": marker.is_some() });
    if let Some(marker) = marker {
        answer["Marker"] = marker.into();
    }
    answer
}

fn get(state: &mut State, params: &Params) -> Answer {
    let role = read_one(state, params)?;
    let mut shown = brief(&role);
    shown["Tags"] = listed(&role.tags);
    add_details(&mut shown, &role);
    Ok(json!({ "Role": shown }))
}

fn list(state: &mut State, params: &Params) -> Answer {
    let prefix = params.opt("PathPrefix")?.unwrap_or("/").to_owned();
    let page = page(state, format!("ListRoles {prefix}"), params)?;
    let rest =
        state.roles.range_mut::<str, _>(page.start()).filter(|(_, role)| role.path.starts_with(&prefix));
    // Without tags, boundary and last use, as IAM has it.
    let (items, marker) =
        page.take(rest.filter_map(|(name, role)| Some((name.as_str(), brief(&read(role)?)))));
    Ok(listing("Roles", items, marker))
}

fn list_tags(state: &mut State, params: &Params) -> Answer {
    let role = read_one(state, params)?;
    let page = page(state, format!("ListRoleTags {}", role.name), params)?;
    let tags = role.tags.iter().map(|(key, value)| (key.as_str(), json!({"Key": key, "Value": value})));
    let (items, marker) = page.take(tags);
    Ok(listing("Tags", items, marker))
}

fn details(state: &mut State, params: &Params) -> Answer {
    let filter = params.texts("Filter")?;
    let page = page(state, format!("GetAccountAuthorizationDetails {filter:?}"), params)?;
    let asked = filter.is_empty() || filter.contains(&"Role");
    let rest = state.roles.range_mut::<str, _>(page.start()).filter(|_| asked);
    let found = rest.filter_map(|(name, role)| {
        let role = read(role)?;
        let mut shown = brief(&role);
        shown["Tags"] = listed(&role.tags);
        add_details(&mut shown, &role);
        shown["AttachedManagedPolicies"] = role.attached_policies.iter().map(|arn| attached(arn)).collect();
        let inline =
            |(name, document): &(String, String)| json!({"PolicyName": name, "PolicyDocument": encoded(document)});
        shown["RolePolicyList"] = role.inline_policies.iter().map(inline).collect();
        let profiles = role.instance_profiles.iter();
        shown["InstanceProfileList"] = profiles.map(|profile| instance_profile(profile, &role)).collect();
        Some((name.as_str(), shown))
    });
    let (items, marker) = page.take(found);
    let mut answer = listing("RoleDetailList", items, marker);
    for empty in ["UserDetailList", "GroupDetailList", "Policies"] {
        answer[empty] = json!([]);
    }
    // Which page holds which kind is not documented: here all policies come with the last, after the roles.
    let with_policies = filter.is_empty() || filter.contains(&"LocalManagedPolicy");
    if with_policies && answer["IsTruncated"] != json!(true) {
        let shown = state.policies.iter().map(|(arn, document)| {
            json!({
                "Arn": arn, "PolicyName": attached(arn)["PolicyName"], "DefaultVersionId": VERSION,
                "PolicyVersionList": [policy_version(document)],
            })
        });
        answer["Policies"] = shown.collect();
    }
    Ok(answer)
}

fn create(state: &mut State, params: &Params) -> Answer {
    let name = params.text("RoleName")?;
    let valid = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    if name.len() > 64 || !name.chars().all(valid) {
        return Err(params.refuse(format!("The role name {name} is not valid")));
    }
    let path = params.opt("Path")?.unwrap_or("/");
    if !path.starts_with('/') || !path.ends_with('/') {
        return Err(params.refuse(format!("The path {path} does not begin and end with /")));
    }
    let policy = check_policy(params.text("AssumeRolePolicyDocument")?)?;
    let mut tags = Tags::new();
    add_tags(&mut tags, params)?;
    if state.roles.keys().any(|found| found.eq_ignore_ascii_case(name)) {
        return Err(Refusal::new(
            409,
            "EntityAlreadyExists",
            format!("Role with name {name} already exists."),
        ));
    }
    let mut role = Role::named(name).path(path).trust_policy(policy);
    role.permissions_boundary = params.opt("PermissionsBoundary")?.unwrap_or_default().to_owned();
    role.description = params.opt("Description")?.unwrap_or_default().to_owned();
    if let Some(seconds) = params.opt("MaxSessionDuration")? {
        let seconds = seconds.parse().ok().filter(|seconds| (3600..=43_200).contains(seconds));
        role.max_session_duration =
            seconds.ok_or_else(|| params.refuse("MaxSessionDuration is 3600 to 43200".to_owned()))?;
    }
    role.tags = tags;
    let role = state.put_role(role);
    let mut shown = brief(role);
    shown["Tags"] = listed(&role.tags);
    Ok(json!({ "Role": shown }))
}

fn delete(state: &mut State, params: &Params) -> Answer {
    let role = one(state, params)?;
    let conflicts = [
        (!role.instance_profiles.is_empty(), "must remove roles from instance profile first."),
        (!role.attached_policies.is_empty(), "must detach all policies first."),
        (!role.inline_policies.is_empty(), "must delete policies first."),
    ];
    if let Some((_, message)) = conflicts.into_iter().find(|(stands, _)| *stands) {
        return Err(Refusal::new(409, "DeleteConflict", format!("Cannot delete entity, {message}")));
    }
    let name = role.name.clone();
    state.roles.remove(&name);
    Ok(Value::Null)
}

fn tag(state: &mut State, params: &Params) -> Answer {
    let mut after = one(state, params)?.tags.clone();
    add_tags(&mut after, params)?;
    one(state, params)?.tags = after;
    Ok(Value::Null)
}

/// Adds the tags asked for. Keys differ by more than case.
fn add_tags(tags: &mut Tags, params: &Params) -> Result<(), Refusal> {
    let wanted = params.tag_list("Tags")?;
    for (number, (key, value)) in wanted.iter().enumerate() {
        if !(1..=128).contains(&key.chars().count()) || !is_tag_text(key) {
            return Err(
                params.refuse(format!("The tag key {key} has 1 to 128 letters, digits, spaces or _.:/=+-@"))
            );
        }
        if value.chars().count() > 256 || !is_tag_text(value) {
            return Err(params
                .refuse(format!("The tag value {value} has 0 to 256 letters, digits, spaces or _.:/=+-@")));
        }
        let refuse = |message: &str| Err(Refusal::new(400, "InvalidInput", message));
        if key.to_lowercase().starts_with("aws:") {
            return refuse("Tag keys that begin with aws: are reserved.");
        }
        if wanted[..number].iter().any(|(before, _)| before.eq_ignore_ascii_case(key)) {
            return refuse("Duplicate tag keys found. Please note that Tag keys are case insensitive.");
        }
        tags.retain(|before, _| !before.eq_ignore_ascii_case(key));
        tags.insert(key.clone(), value.clone());
    }
    if tags.len() > 50 {
        return Err(Refusal::new(409, "LimitExceeded", "Cannot exceed quota for TagsPerRole: 50"));
    }
    Ok(())
}

fn check_policy(policy: &str) -> Result<String, Refusal> {
    match serde_json::from_str::<Value>(policy) {
        Ok(Value::Object(document)) if document.contains_key("Statement") => Ok(policy.to_owned()),
        _ => Err(Refusal::new(400, "MalformedPolicyDocument", "Syntax errors in policy.")),
    }
}

/// What hangs on a role and stands in the way of its deletion.
fn hangers_on(state: &mut State, operation: &str, params: &Params) -> Answer {
    let role = read_one(state, params)?;
    let page = page(state, format!("{operation} {}", role.name), params)?;
    let (name, mut items): (&str, Vec<(&str, Value)>) = match operation {
        "ListAttachedRolePolicies" => (
            "AttachedPolicies",
            role.attached_policies.iter().map(|arn| (arn.as_str(), attached(arn))).collect(),
        ),
        "ListRolePolicies" => (
            "PolicyNames",
            role.inline_policies.iter().map(|(name, _)| (name.as_str(), json!(name))).collect(),
        ),
        _ => {
            let profiles = role.instance_profiles.iter();
            (
                "InstanceProfiles",
                profiles.map(|name| (name.as_str(), instance_profile(name, &role))).collect(),
            )
        }
    };
    items.sort_by_key(|(key, _)| *key);
    let (items, marker) = page.take(items);
    Ok(listing(name, items, marker))
}

fn take_off(state: &mut State, operation: &str, params: &Params) -> Answer {
    let parameter = match operation {
        "DetachRolePolicy" => "PolicyArn",
        "DeleteRolePolicy" => "PolicyName",
        _ => "InstanceProfileName",
    };
    let gone = params.text(parameter)?;
    let role = one(state, params)?;
    let count = |role: &Role| {
        role.attached_policies.len() + role.inline_policies.len() + role.instance_profiles.len()
    };
    let before = count(role);
    match operation {
        "DetachRolePolicy" => role.attached_policies.retain(|arn| arn != gone),
        "DeleteRolePolicy" => role.inline_policies.retain(|(name, _)| name != gone),
        _ => role.instance_profiles.retain(|name| name != gone),
    }
    if count(role) == before {
        return Err(Refusal::new(
            404,
            "NoSuchEntity",
            format!("{gone} was not found on the role {}.", role.name),
        ));
    }
    Ok(Value::Null)
}

fn encoded(policy: &str) -> String {
    utf8_percent_encode(policy, POLICY).to_string()
}

fn attached(arn: &str) -> Value {
    json!({"PolicyName": arn.rsplit('/').next(), "PolicyArn": arn})
}

fn instance_profile(name: &str, role: &Role) -> Value {
    json!({
        "Path": "/",
        "InstanceProfileName": name,
        "InstanceProfileId": "AIPA00000000000000001",
        "Arn": format!("arn:aws:iam::{ACCOUNT}:instance-profile/{name}"),
        "CreateDate": date(role.created_at),
        "Roles": [brief(role)],
    })
}

/// What every operation shows of a role.
fn brief(role: &Role) -> Value {
    let mut shown = json!({
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.id,
        "Arn": role.arn(),
        "CreateDate": date(role.created_at),
        "AssumeRolePolicyDocument": encoded(&role.trust_policy),
        "MaxSessionDuration": role.max_session_duration,
    });
    if !role.description.is_empty() {
        shown["Description"] = role.description.as_str().into();
    }
    shown
}

/// What GetRole and GetAccountAuthorizationDetails show, and ListRoles does not.
fn add_details(shown: &mut Value, role: &Role) {
    shown["RoleLastUsed"] = match &role.last_used {
        Some((seconds, region)) => json!({"LastUsedDate": date(*seconds), "Region": region}),
        None => json!({}),
    };
    if !role.permissions_boundary.is_empty() {
        shown["PermissionsBoundary"] = json!({
            "PermissionsBoundaryType": "Policy",
            "PermissionsBoundaryArn": role.permissions_boundary,
        });
    }
}

/// Seconds since 1970 as IAM writes a time.
fn date(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant's civil_from_days: years begin in March, so that a leap day comes last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

impl State {
    /// Adds a role, unchecked.
    pub fn put_role(&mut self, mut role: Role) -> &Role {
        if role.id.is_empty() {
            role.id = format!("AROA{:017}", self.next("role"));
        }
        if role.created_at == 0 {
            role.created_at = self.now;
        }
        self.roles.entry(role.name.clone()).insert_entry(role).into_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_right_around_leap_days() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_750_000_000, "2025-06-15T15:06:40Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(date(seconds), expected);
        }
    }
}
