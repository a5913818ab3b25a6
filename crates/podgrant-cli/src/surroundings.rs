//! All that a command meets outside itself, so that tests can be it.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use podgrant_aws::{Lookout, Onlooker, Roller, SdkConfig};
use podgrant_core::agent::pods::KubernetesAccess;
use podgrant_core::verify::{Object, PodWish, Removal, Run, SeenPod, Trouble};
use podgrant_core::{ClusterId, Namespace};
use podgrant_runtime::Clock;

/// Where a command runs.
pub struct Surroundings<'a> {
    pub streams: Streams<'a>,
    pub outside: Outside<'a>,
}

/// The standard streams.
pub struct Streams<'a> {
    pub out: &'a mut dyn Write,
    pub errors: &'a mut dyn Write,
    /// What a person types.
    pub answers: &'a mut dyn BufRead,
    pub terminal: Terminal,
}

/// Which of the standard streams a person sits at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terminal {
    pub input: bool,
    pub out: bool,
    pub errors: bool,
}

/// All else.
pub struct Outside<'a> {
    /// The environment's variables.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    pub clock: Clock,
    /// The SDK's configuration, of a profile where one is named.
    pub sdk: &'a dyn Fn(Option<String>) -> BoxFuture<'static, SdkConfig>,
    /// The way into clusters' Kubernetes APIs, if there is one.
    pub lookout: Option<Lookout>,
    /// The way to look at pods and service accounts there, with this person's rights, if there is one.
    pub onlooker: Option<Onlooker>,
    /// What `verify` makes and removes clusters' objects with.
    pub hands: Arc<dyn Hands>,
    /// The way to have pods made anew there, with this person's rights, if there is one.
    pub roller: Option<Roller>,
    /// Whether the person wants it to end.
    pub interrupted: &'a dyn Fn() -> bool,
    /// Waits.
    pub pause: &'a dyn Fn(Duration) -> BoxFuture<'static, ()>,
}

/// What can't be had at once.
type Done<T> = BoxFuture<'static, Result<T, Trouble>>;

/// Makes and removes what `verify` needs in a cluster, with this person's rights.
pub trait Hands: Send + Sync {
    /// What keeps a run from being made in a namespace, in words.
    fn obstacles(&self, way: KubernetesAccess, namespace: Namespace) -> Done<Vec<String>>;
    fn make_account(&self, way: KubernetesAccess, run: Run) -> Done<()>;
    fn make_pod(&self, way: KubernetesAccess, wish: PodWish) -> Done<SeenPod>;
    /// A pod as it is now.
    fn pod(&self, way: KubernetesAccess, namespace: Namespace, name: String) -> Done<Option<SeenPod>>;
    /// Removes what carries a run's mark, and nothing else.
    fn remove(&self, way: KubernetesAccess, object: Object) -> Done<Removal>;
    /// What runs left in a namespace, or on the whole cluster.
    fn objects(
        &self,
        way: KubernetesAccess,
        cluster: ClusterId,
        namespace: Option<Namespace>,
    ) -> Done<Vec<Object>>;
}

/// By the clusters' own Kubernetes APIs.
#[derive(Debug, Clone, Copy)]
pub struct KubernetesHands;

impl Hands for KubernetesHands {
    fn obstacles(&self, way: KubernetesAccess, namespace: Namespace) -> Done<Vec<String>> {
        podgrant_kubernetes::verify_obstacles(way, namespace)
    }

    fn make_account(&self, way: KubernetesAccess, run: Run) -> Done<()> {
        podgrant_kubernetes::make_verify_account(way, run)
    }

    fn make_pod(&self, way: KubernetesAccess, wish: PodWish) -> Done<SeenPod> {
        podgrant_kubernetes::make_verify_pod(way, wish)
    }

    fn pod(&self, way: KubernetesAccess, namespace: Namespace, name: String) -> Done<Option<SeenPod>> {
        podgrant_kubernetes::verify_pod(way, namespace, name)
    }

    fn remove(&self, way: KubernetesAccess, object: Object) -> Done<Removal> {
        podgrant_kubernetes::remove_verify_object(way, object)
    }

    fn objects(
        &self,
        way: KubernetesAccess,
        cluster: ClusterId,
        namespace: Option<Namespace>,
    ) -> Done<Vec<Object>> {
        podgrant_kubernetes::verify_objects(way, cluster, namespace)
    }
}
