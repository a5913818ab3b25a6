//! An AWS in the test's own process, for adapter and scenario tests.
//!
//! [`FakeAws`] is an HTTP server on the loopback that speaks the protocols of EKS, IAM, Resource Groups Tagging,
//! EventBridge and SQS, so that the real SDK clients are what is tested. It has neither clock nor chance: ids come from
//! counters, and time stands still unless a test moves it. Where AWS's own behaviour is not verified, the comment on
//! the spot says so. Of EKS it has clusters, add-ons with their versions and configuration, associations, access entries
//! and their policies, and tags.
//!
//! ```no_run
//! # use podgrant_tests::fake::*;
//! # async fn test() {
//! let aws = FakeAws::start().await;
//! aws.add_cluster(Cluster::named("prod-eu").tag("env", "prod"));
//! aws.add_role(Role::named("payments-api").tag("podgrant/grant", "payments/api@prod-eu").trusting_pods());
//! aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").first(1).lose_response());
//! // … point the SDK at aws.endpoint() …
//! assert_eq!(aws.associations("eu-west-1", "prod-eu").len(), 1);
//! println!("{}", aws.calls());
//! # }
//! ```

mod access;
mod addons;
mod associations;
mod calls;
mod configuration;
mod eks;
mod fault;
mod iam;
mod limits;
mod messages;
mod paging;
mod params;
mod record;
mod road;
mod server;
mod state;
mod tagging;
#[cfg(test)]
mod tests;
mod things;
mod turnstile;
mod wire;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use limits::Limits;
use state::{Place, State};

pub use addons::AGENT;
pub use calls::{Call, Calls};
pub use fault::{ANY, Fault, Gate, Matching};
pub use limits::RateLimit;
pub use messages::{Event, Message};
pub use params::Tags;
pub use things::{
    ACCOUNT, AccessEntry, AccessPolicy, Addon, AddonVersion, Association, Cluster, REGION, Role,
};
pub use turnstile::{Pass, Turnstile, Waiting};

/// How the tag index shows a resource that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ghost {
    /// As it was.
    WithTags,
    /// Its ARN, and no tags.
    WithoutTags,
}

/// What the server and its handles share.
struct Shared {
    state: Mutex<State>,
    latency: Mutex<Duration>,
    limits: Mutex<Limits>,
}

/// A fake AWS. The server stops when the last clone is dropped.
#[derive(Clone)]
pub struct FakeAws {
    shared: Arc<Shared>,
    server: Option<Arc<Server>>,
}

struct Server {
    address: SocketAddr,
    /// Dropped, it stops the server.
    _running: oneshot::Sender<()>,
}

impl FakeAws {
    /// Starts an empty AWS on a free port of 127.0.0.1. It runs on a thread and a Tokio runtime of its own, so that a
    /// test may block, on a child process say, and still be answered.
    ///
    /// # Panics
    /// Where the loopback can't be had.
    pub async fn start() -> Self {
        Self::start_on(0).await
    }

    /// As [`FakeAws::start`], on this port.
    ///
    /// # Panics
    /// Where the port can't be had.
    #[expect(clippy::expect_used, reason = "without a server there is no test")]
    pub async fn start_on(port: u16) -> Self {
        let shared = Arc::new(Shared::empty());
        let served = Arc::clone(&shared);
        let (ready, address) = oneshot::channel();
        let (running, stopped) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener =
                    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a port of the loopback");
                // Refused only where nobody waits for it any more.
                let _ = ready.send(listener.local_addr().expect("the port's address"));
                tokio::select! {
                    never = server::serve(listener, served) => match never {},
                    _ = stopped => {}
                }
            });
        });
        let address = address.await.expect("the fake's thread to say its address");
        Self { shared, server: Some(Arc::new(Server { address, _running: running })) }
    }

    /// An empty AWS that nothing leads to but a [`Turnstile`], or its [`road`](FakeAws::road).
    pub fn unserved() -> Self {
        Self::without_server(Arc::new(Shared::empty()))
    }

    fn without_server(shared: Arc<Shared>) -> Self {
        Self { shared, server: None }
    }

    /// The URL of all services. Empty in the handle that [`Matching::meanwhile`] gives, and where there is no server.
    pub fn endpoint(&self) -> String {
        self.server.as_ref().map(|server| format!("http://{}", server.address)).unwrap_or_default()
    }

    // ── Clusters and add-ons ──

    /// Adds a cluster, in place of any of the same name and region.
    pub fn add_cluster(&self, cluster: Cluster) {
        self.shared.lock().put_cluster(cluster);
    }

    /// A cluster as it is.
    pub fn cluster(&self, region: &str, name: &str) -> Option<Cluster> {
        self.shared.lock().clusters.get(&place(region, name)).cloned()
    }

    /// All clusters, by region and name.
    pub fn clusters(&self) -> Vec<Cluster> {
        self.shared.lock().clusters.values().cloned().collect()
    }

    /// Sets a cluster's status; nothing where there is no such cluster.
    pub fn set_cluster_status(&self, region: &str, name: &str, status: &str) {
        if let Some(cluster) = self.shared.lock().clusters.get_mut(&place(region, name)) {
            status.clone_into(&mut cluster.status);
            cluster.settles = None;
        }
    }

    /// Takes a cluster away, with its add-ons, associations and access entries.
    pub fn delete_cluster(&self, region: &str, name: &str) {
        self.shared.lock().remove_cluster(&place(region, name));
    }

    /// Sets a cluster's tag.
    pub fn tag_cluster(&self, region: &str, name: &str, key: &str, value: &str) {
        let mut state = self.shared.lock();
        if let Some(cluster) = state.clusters.get_mut(&place(region, name)) {
            cluster.tags.insert(key.to_owned(), value.to_owned());
            let (arn, tags) = (cluster.arn(), cluster.tags.clone());
            state.index(region, &arn, Some(&tags));
        }
    }

    /// Adds an add-on to a cluster, in place of any of the same name.
    pub fn add_addon(&self, region: &str, cluster: &str, addon: Addon) {
        self.shared.lock().put_addon(&place(region, cluster), addon);
    }

    /// An add-on as it is.
    pub fn addon(&self, region: &str, cluster: &str, name: &str) -> Option<Addon> {
        self.shared.lock().addons.get(&(place(region, cluster), name.to_owned())).cloned()
    }

    /// Sets an add-on's status; nothing where there is no such add-on.
    pub fn set_addon_status(&self, region: &str, cluster: &str, name: &str, status: &str) {
        if let Some(addon) = self.shared.lock().addons.get_mut(&(place(region, cluster), name.to_owned())) {
            status.clone_into(&mut addon.status);
            addon.settles = None;
        }
    }

    /// What DescribeAddonVersions says of an add-on.
    pub fn set_addon_versions(&self, name: &str, versions: Vec<AddonVersion>) {
        self.shared.lock().addon_versions.insert(name.to_owned(), versions);
    }

    /// What DescribeAddonConfiguration says of an add-on, and what its configuration values must fit: of this version,
    /// or of every one without its own where it is [`ANY`]. Not checked: against a text that is no schema all values fit.
    pub fn set_addon_schema(&self, name: &str, version: &str, schema: &str) {
        let key = (name.to_owned(), version.to_owned());
        self.shared.lock().addon_schemas.insert(key, schema.to_owned());
    }

    /// Clusters and add-ons that are created, updated or deleted from now on stay CREATING, UPDATING or DELETING for
    /// this many Describes. At first 0: the very next read shows them settled.
    pub fn settle_after(&self, reads: u32) {
        self.shared.lock().settle_after = reads;
    }

    // ── Access entries ──

    /// Adds an access entry to a cluster, unchecked, in place of any of the same principal.
    pub fn add_access_entry(&self, region: &str, cluster: &str, entry: AccessEntry) {
        self.shared.lock().put_access_entry(&place(region, cluster), entry);
    }

    /// The access entry of a principal as it is.
    pub fn access_entry(&self, region: &str, cluster: &str, principal_arn: &str) -> Option<AccessEntry> {
        let key = (place(region, cluster), principal_arn.to_owned());
        self.shared.lock().access_entries.get(&key).cloned()
    }

    /// Takes an access entry away, as somebody else would.
    pub fn delete_access_entry(
        &self,
        region: &str,
        cluster: &str,
        principal_arn: &str,
    ) -> Option<AccessEntry> {
        self.shared.lock().remove_access_entry(&place(region, cluster), principal_arn)
    }

    // ── Associations ──

    /// Adds an association, unchecked, and tells its id. Without a region it goes to that of the cluster of its name.
    ///
    /// # Panics
    /// Where there is no cluster of that name, or several, and the association names no region.
    pub fn add_association(&self, mut association: Association) -> String {
        let mut state = self.shared.lock();
        if association.region.is_empty() {
            let regions: Vec<&str> = state
                .clusters
                .keys()
                .filter(|(_, name)| *name == association.cluster)
                .map(|(region, _)| region.as_str())
                .collect();
            assert!(
                regions.len() == 1,
                "{}: one cluster expected, found in {regions:?}",
                association.cluster
            );
            association.region = regions.concat();
        }
        state.put_association(association)
    }

    /// A cluster's associations, by namespace and service account.
    pub fn associations(&self, region: &str, cluster: &str) -> Vec<Association> {
        let state = self.shared.lock();
        let shelf = state.shelves.get(&place(region, cluster)).into_iter();
        shelf
            .flat_map(|shelf| shelf.by_workload.values().filter_map(|id| shelf.by_id.get(id)))
            .cloned()
            .collect()
    }

    /// How many associations a cluster has.
    pub fn count_associations(&self, region: &str, cluster: &str) -> usize {
        self.shared.lock().shelves.get(&place(region, cluster)).map_or(0, |shelf| shelf.by_id.len())
    }

    /// When an association of this service account was deleted last.
    pub fn deleted_at(&self, region: &str, cluster: &str, namespace: &str, account: &str) -> Option<i64> {
        let is_it = |gone: &Association| {
            (gone.region.as_str(), gone.cluster.as_str()) == (region, cluster)
                && (gone.namespace.as_str(), gone.service_account.as_str()) == (namespace, account)
        };
        let state = self.shared.lock();
        state.deleted.iter().filter(|(gone, _)| is_it(gone)).map(|(_, at)| *at).next_back()
    }

    /// One association.
    pub fn association(
        &self,
        region: &str,
        cluster: &str,
        namespace: &str,
        account: &str,
    ) -> Option<Association> {
        let found = |found: &Association| found.namespace == namespace && found.service_account == account;
        self.associations(region, cluster).into_iter().find(found)
    }

    /// Takes an association away, as somebody else would.
    pub fn delete_association(
        &self,
        region: &str,
        cluster: &str,
        namespace: &str,
        account: &str,
    ) -> Option<Association> {
        let found = self.association(region, cluster, namespace, account)?;
        self.shared.lock().remove_association(&place(region, cluster), &found.id)
    }

    /// How many associations a cluster may have; 5,000 at first.
    pub fn association_limit(&self, limit: usize) {
        self.shared.lock().association_limit = limit;
    }

    /// Associations that are deleted from now on stay in the way of this many creations in the same place.
    pub fn deletes_linger(&self, creations: u32) {
        self.shared.lock().deletes_linger = creations;
    }

    /// How large a message its queues take, in bytes; 1 MiB at first.
    pub fn queues_take(&self, bytes: usize) {
        self.shared.lock().most_message_bytes = bytes;
    }

    // ── The tag index ──

    /// Changes from now on (creations, tags) are not in the tag index for the next `listings` of it.
    /// A listing is a GetResources without a token; its further pages count as the same.
    pub fn index_lags(&self, listings: u64) {
        self.shared.lock().index_lag = listings;
    }

    /// What is deleted from now on is shown by the next `listings` of the tag index.
    pub fn index_shows_ghosts(&self, listings: u64, ghost: Ghost) {
        self.shared.lock().ghosts = Some((listings, ghost));
    }

    /// The next `listings` of the tag index leave this association out.
    pub fn hide_from_index(
        &self,
        region: &str,
        cluster: &str,
        namespace: &str,
        account: &str,
        listings: u64,
    ) {
        if let Some(found) = self.association(region, cluster, namespace, account) {
            self.shared.lock().hide_from_index(region, &found.arn(), listings);
        }
    }

    // ── Roles ──

    /// All roles, by name.
    pub fn roles(&self) -> Vec<Role> {
        self.shared.lock().roles.values().cloned().collect()
    }

    /// Adds a role, in place of any of the same name, and tells its unique id: a new one, unless the role has one.
    pub fn add_role(&self, role: Role) -> String {
        self.shared.lock().put_role(role).id.clone()
    }

    /// Adds a managed policy of the account's own, or another document of it.
    pub fn set_policy(&self, arn: &str, document: &str) {
        self.shared.lock().policies.insert(arn.to_owned(), document.to_owned());
    }

    /// A role as it is.
    pub fn role(&self, name: &str) -> Option<Role> {
        self.shared.lock().roles.get(name).cloned()
    }

    /// Takes an OIDC provider away.
    pub fn delete_oidc_provider(&self, arn: &str) {
        self.shared.lock().gone_providers.insert(arn.to_owned());
    }

    /// Takes a role away, whatever hangs on it.
    pub fn delete_role(&self, name: &str) -> Option<Role> {
        self.shared.lock().roles.remove(name)
    }

    /// Changes a role in any way; nothing where there is no such role.
    pub fn change_role(&self, name: &str, change: impl FnOnce(&mut Role)) {
        if let Some(role) = self.shared.lock().roles.get_mut(name) {
            change(role);
        }
    }

    /// Sets a role's tag.
    pub fn tag_role(&self, name: &str, key: &str, value: &str) {
        self.change_role(name, |role| drop(role.tags.insert(key.to_owned(), value.to_owned())));
    }

    /// Takes a role's tag away.
    pub fn untag_role(&self, name: &str, key: &str) {
        self.change_role(name, |role| drop(role.tags.remove(key)));
    }

    /// The next `reads` of IAM do not find the role. GetRole, the lists of what hangs on it and its place in each page
    /// of a listing are one read each.
    pub fn hide_role(&self, name: &str, reads: u32) {
        self.change_role(name, |role| role.hidden_reads = reads);
    }

    /// EKS does not see the role in the next `reads` creations or updates of associations.
    pub fn hide_role_from_eks(&self, name: &str, reads: u32) {
        self.change_role(name, |role| role.hidden_from_eks = reads);
    }

    /// The next `reads` of the role show tags and trust policy as they are at this moment, whatever happens to them.
    pub fn freeze_role(&self, name: &str, reads: u32) {
        self.change_role(name, |role| {
            role.stale = Some((reads, role.tags.clone(), role.trust_policy.clone()))
        });
    }

    // ── What was sent, what was asked ──

    /// The events that PutEvents took.
    pub fn events(&self) -> Vec<Event> {
        self.shared.lock().events.clone()
    }

    /// The messages that SQS took.
    pub fn messages(&self) -> Vec<Message> {
        self.shared.lock().messages.clone()
    }

    /// The messages that SQS took since it was last asked this.
    pub fn take_messages(&self) -> Vec<Message> {
        std::mem::take(&mut self.shared.lock().messages)
    }

    /// Forgets events and messages.
    pub fn clear_sent(&self) {
        let mut state = self.shared.lock();
        state.events.clear();
        state.messages.clear();
    }

    /// All calls, in the order in which they came.
    pub fn calls(&self) -> Calls {
        self.shared.lock().calls()
    }

    /// How many calls there were of each service and operation, by how they ended: an error's code, or nothing.
    pub fn tally(&self) -> BTreeMap<[String; 3], usize> {
        self.shared.lock().tally()
    }

    /// Forgets the calls so far.
    pub fn clear_calls(&self) {
        self.shared.lock().clear_calls();
    }

    // ── Time, pages, trouble ──

    /// The time, in seconds since 1970, of all that is made from now on. It stands still.
    pub fn set_time(&self, seconds: i64) {
        self.shared.lock().now = seconds;
    }

    /// Moves the time.
    pub fn advance(&self, seconds: i64) {
        self.shared.lock().now += seconds;
    }

    /// No page of any listing holds more than this, whatever the client asks for.
    pub fn page_size(&self, most: usize) {
        self.shared.lock().page_size = most;
    }

    /// How long each call takes. Nothing at first.
    pub fn set_latency(&self, latency: Duration) {
        *self.shared.latency.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = latency;
    }

    /// A service takes no more calls than this from now on, in each region by itself. Without, it takes all.
    pub fn limit_rate(&self, service: &str, limit: RateLimit) {
        self.shared.limits().set(service, limit);
    }

    /// Adds a fault. Each counts the calls that match it from now on; where several strike the same call, the first
    /// one added is what the client sees.
    pub fn fault(&self, fault: Fault) {
        self.shared.lock().faults.push(fault);
    }

    /// Takes all faults away.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }
}

impl Shared {
    fn empty() -> Self {
        Self { state: Mutex::new(State::new()), latency: Mutex::default(), limits: Mutex::default() }
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn latency(&self) -> Duration {
        *self.latency.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn place(region: &str, cluster: &str) -> Place {
    (region.to_owned(), cluster.to_owned())
}
