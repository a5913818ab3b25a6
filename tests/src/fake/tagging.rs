//! Resource Groups Tagging: the tag index, which is not the truth.

use serde_json::{Value, json};

use super::paging::Page;
use super::params::{Answer, Params, Refusal, Tags, listed};
use super::state::State;

pub(super) fn handle(state: &mut State, region: &str, operation: &str, params: &Params) -> Answer {
    if operation != "GetResources" {
        return Err(Refusal::new(
            400,
            "UnknownOperationException",
            format!("{operation} is not known to the fake"),
        ));
    }
    let filters = filters(params)?;
    let types = params.texts("ResourceTypeFilters")?;
    let arns = params.texts("ResourceARNList")?;
    let exclusive = ["TagFilters", "ResourceTypeFilters", "ResourcesPerPage", "PaginationToken"];
    if !arns.is_empty() && exclusive.iter().any(|name| params.map.contains_key(*name)) {
        return Err(params.refuse("ResourceARNList goes with no other parameter"));
    }
    // Not documented; other clients have seen 50.
    let size = params.page_size("ResourcesPerPage", 100, 50)?.min(state.page_size);
    let token = params.opt("PaginationToken")?.filter(|token| !token.is_empty());
    let listing = format!("GetResources {region} {filters:?} {types:?}");
    let page = Page::or_refuse(listing, token, size, params.invalid, "The PaginationToken is not valid")?;

    let index = state.indexes.entry(region.to_owned()).or_default();
    if token.is_none() {
        index.listings += 1;
    }
    let number = index.listings;
    let found = index.entries.range::<str, _>(page.start()).filter_map(|(arn, entry)| {
        let tags = entry.shown(number)?;
        let wanted = filters.iter().all(|filter| filter.takes(tags))
            && (types.is_empty() || types.iter().any(|kind| is_of(arn, kind)))
            && (arns.is_empty() || arns.contains(&arn.as_str()));
        wanted.then(|| (arn.as_str(), json!({ "ResourceARN": arn, "Tags": listed(tags) })))
    });
    let (items, token) = page.take(found);
    Ok(json!({ "ResourceTagMappingList": items, "PaginationToken": token.unwrap_or_default() }))
}

#[derive(Debug)]
struct Filter {
    key: String,
    values: Vec<String>,
}

impl Filter {
    /// Any of the values; any value at all where none is asked for.
    fn takes(&self, tags: &Tags) -> bool {
        tags.get(&self.key).is_some_and(|value| self.values.is_empty() || self.values.contains(value))
    }
}

fn filters(params: &Params) -> Result<Vec<Filter>, Refusal> {
    let found = params.list("TagFilters")?;
    if found.len() > 50 {
        return Err(params.refuse("TagFilters can be 50 at most"));
    }
    let wrong = || params.refuse("A TagFilter has a Key, and up to 20 Values");
    let read = |filter: &Value| {
        let key = filter.get("Key").and_then(Value::as_str).ok_or_else(wrong)?;
        let values = match filter.get("Values") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(values)) if values.len() <= 20 => values.clone(),
            Some(_) => return Err(wrong()),
        };
        let values: Option<Vec<String>> =
            values.iter().map(|value| value.as_str().map(str::to_owned)).collect();
        Ok(Filter { key: key.to_owned(), values: values.ok_or_else(wrong)? })
    };
    found.iter().map(read).collect()
}

/// Whether an ARN is of a type `service` or `service:type`, which are as in the ARN.
fn is_of(arn: &str, kind: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [_, _, service, _, _, resource] = parts.as_slice() else { return false };
    match kind.split_once(':') {
        None => kind == *service,
        Some((of, kind)) => of == *service && resource.split('/').next() == Some(kind),
    }
}
