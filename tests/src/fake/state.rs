//! All that the fake knows.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::Ghost;
use super::addons::{default_schemas, default_versions};
use super::calls::{Call, Calls};
use super::fault::{Action, Fault};
use super::messages::{Event, MOST_BYTES, Message};
use super::params::{Refusal, Tags};
use super::things::{AccessEntry, Addon, AddonVersion, Association, Cluster, Role};

/// A cluster by region and name.
pub(super) type Place = (String, String);

/// A cluster's associations: by id, and by namespace and service account.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf {
    pub by_id: BTreeMap<String, Association>,
    pub by_workload: BTreeMap<(String, String), String>,
    /// Deleted, but still in the way of this many creations: the id that was.
    pub lingering: BTreeMap<(String, String), (String, u32)>,
}

/// What the tag index says of a resource.
#[derive(Debug, Clone)]
pub(super) struct Indexed {
    /// `None`: nothing.
    now: Option<Tags>,
    /// Up to this listing, what it said before.
    before: Option<(u64, Option<Tags>)>,
}

/// The tag index of one region.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    pub entries: BTreeMap<String, Indexed>,
    /// How many listings have begun.
    pub listings: u64,
}

impl Indexed {
    pub fn shown(&self, listing: u64) -> Option<&Tags> {
        match &self.before {
            Some((until, before)) if listing <= *until => before.as_ref(),
            _ => self.now.as_ref(),
        }
    }
}

pub(super) struct State {
    pub clusters: BTreeMap<Place, Cluster>,
    pub addons: BTreeMap<(Place, String), Addon>,
    /// By principal.
    pub access_entries: BTreeMap<(Place, String), AccessEntry>,
    pub shelves: BTreeMap<Place, Shelf>,
    pub addon_versions: BTreeMap<String, Vec<AddonVersion>>,
    /// Texts of JSON schemas, by add-on and version.
    pub addon_schemas: BTreeMap<(String, String), String>,
    pub roles: BTreeMap<String, Role>,
    /// Associations that somebody deleted, and when.
    pub deleted: Vec<(Association, i64)>,
    /// ARNs of OIDC providers that were taken away; all others that are asked for are there.
    pub gone_providers: BTreeSet<String>,
    /// Documents of the account's own managed policies, by ARN.
    pub policies: BTreeMap<String, String>,
    pub indexes: BTreeMap<String, Index>,
    pub events: Vec<Event>,
    pub messages: Vec<Message>,
    /// Requests by their clientRequestToken: what was asked, and the id of what was made.
    pub tokens: HashMap<String, (Map<String, Value>, String)>,
    /// Calls, each with its number.
    calls: Vec<(u64, Call)>,
    requests: u64,
    pub faults: Vec<Fault>,
    /// The time, in seconds since 1970.
    pub now: i64,
    pub page_size: usize,
    pub association_limit: usize,
    pub most_message_bytes: usize,
    pub settle_after: u32,
    pub deletes_linger: u32,
    pub index_lag: u64,
    pub ghosts: Option<(u64, Ghost)>,
    counters: BTreeMap<&'static str, u64>,
}

impl State {
    pub fn new() -> Self {
        Self {
            clusters: BTreeMap::new(),
            addons: BTreeMap::new(),
            access_entries: BTreeMap::new(),
            shelves: BTreeMap::new(),
            addon_versions: default_versions(),
            addon_schemas: default_schemas(),
            roles: BTreeMap::new(),
            deleted: Vec::new(),
            gone_providers: BTreeSet::new(),
            policies: BTreeMap::new(),
            indexes: BTreeMap::new(),
            events: Vec::new(),
            messages: Vec::new(),
            tokens: HashMap::new(),
            calls: Vec::new(),
            requests: 0,
            faults: Vec::new(),
            now: 1_750_000_000,
            page_size: usize::MAX,
            association_limit: 5_000,
            most_message_bytes: MOST_BYTES,
            settle_after: 0,
            deletes_linger: 0,
            index_lag: 0,
            ghosts: None,
            counters: BTreeMap::new(),
        }
    }

    /// The next number of this kind, from 1.
    pub fn next(&mut self, kind: &'static str) -> u64 {
        let counter = self.counters.entry(kind).or_default();
        *counter += 1;
        *counter
    }

    /// A text in the form of a UUID, of the next number of this kind.
    pub fn uuid(&mut self, kind: &'static str) -> String {
        uuid(self.next(kind))
    }

    /// Notes a call, and tells its number and what goes wrong with it.
    pub fn begin(&mut self, call: Call) -> (u64, Vec<Action>) {
        self.requests += 1;
        let struck =
            self.faults.iter_mut().filter_map(|fault| fault.strikes(&call).then(|| fault.action.clone()));
        let actions = struck.collect();
        self.calls.push((self.requests, call));
        (self.requests, actions)
    }

    /// Notes how a call ended.
    pub fn end(&mut self, number: u64, status: u16, error: &str) {
        // By number and not by place: a test may have cleared the calls in between.
        if let Ok(place) = self.calls.binary_search_by_key(&number, |(number, _)| *number) {
            let call = &mut self.calls[place].1;
            call.status = status;
            error.clone_into(&mut call.error);
        }
    }

    pub fn calls(&self) -> Calls {
        Calls(self.calls.iter().map(|(_, call)| call.clone()).collect())
    }

    pub fn tally(&self) -> BTreeMap<[String; 3], usize> {
        let mut tally = BTreeMap::new();
        for (_, call) in &self.calls {
            let kind = [call.service.clone(), call.operation.clone(), call.error.clone()];
            *tally.entry(kind).or_default() += 1;
        }
        tally
    }

    pub fn clear_calls(&mut self) {
        self.calls.clear();
    }

    /// Tells the tag index what a resource's tags are now; `None` when it is gone.
    pub fn index(&mut self, region: &str, arn: &str, tags: Option<&Tags>) {
        let index = self.indexes.entry(region.to_owned()).or_default();
        let known = index.entries.remove(arn);
        let shown = known.as_ref().and_then(|known| known.shown(index.listings + 1)).cloned();
        let entry = match (tags, known) {
            // Never tagged: the index does not know it. Formerly tagged: it shows no tags.
            (Some(tags), None) if tags.is_empty() => return,
            (Some(tags), _) => {
                let before = (self.index_lag > 0).then(|| (index.listings + self.index_lag, shown));
                Indexed { now: Some(tags.clone()), before }
            }
            (None, _) => match (&self.ghosts, shown) {
                (Some((listings, ghost)), Some(shown)) => {
                    let tags = match ghost {
                        Ghost::WithTags => shown,
                        Ghost::WithoutTags => Tags::new(),
                    };
                    Indexed { now: None, before: Some((index.listings + listings, Some(tags))) }
                }
                _ => return,
            },
        };
        index.entries.insert(arn.to_owned(), entry);
    }

    /// Tells the tag index nothing of a resource for the next listings.
    pub fn hide_from_index(&mut self, region: &str, arn: &str, listings: u64) {
        if let Some(index) = self.indexes.get_mut(region)
            && let Some(entry) = index.entries.get_mut(arn)
        {
            entry.before = Some((index.listings + listings, None));
        }
    }

    /// A request's clientRequestToken: the id of what the same request made before, if it did.
    pub fn seen_token(
        &self,
        scope: &str,
        token: Option<&str>,
        request: &Map<String, Value>,
    ) -> Result<Option<String>, Refusal> {
        let Some((before, id)) = token.and_then(|token| self.tokens.get(&format!("{scope} {token}"))) else {
            return Ok(None);
        };
        if before != request {
            // The code is not documented. What matters is that it is refused, and not as a conflict.
            return Err(Refusal::invalid_parameter(
                "The clientRequestToken was used before, with other parameters",
            ));
        }
        Ok(Some(id.clone()))
    }

    /// Remembers what a request with a clientRequestToken made.
    pub fn keep_token(&mut self, scope: &str, token: Option<String>, request: Map<String, Value>, id: &str) {
        if let Some(token) = token {
            self.tokens.insert(format!("{scope} {token}"), (request, id.to_owned()));
        }
    }
}

/// A text in the form of a UUID.
pub(super) fn uuid(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}
