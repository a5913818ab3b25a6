//! Rolling updates of Deployments, StatefulSets and DaemonSets, and the disruption budgets beside them.

use std::collections::{BTreeMap, BTreeSet};

use super::{ObjectRef, Step, StepKind};

/// A Deployment, StatefulSet or DaemonSet, as far as rolling goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Another one for each change, of its status too.
    pub resource_version: String,
    /// Another one for each change of what it should be.
    pub generation: i64,
    /// The last one that Kubernetes acted on.
    pub observed: i64,
    pub strategy: Strategy,
    /// Of its pods, by its template.
    pub labels: BTreeMap<String, String>,
    /// Its template's annotation [`RESTARTED_AT`](super::RESTARTED_AT).
    pub restarted_at: Option<String>,
    pub counts: Counts,
    /// Its last rolling update made no progress for as long as it may (`progressDeadlineSeconds`).
    pub is_stuck: bool,
    /// A StatefulSet's `OrderedReady`: as long as one pod is not ready, Kubernetes makes no other anew, nor that one
    /// (Kubernetes, StatefulSets, "Forced rollback").
    pub is_ordered: bool,
}

/// How its pods are made anew when its template changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    Rolling,
    /// A Deployment's `Recreate`.
    AllAtOnce,
    /// By whoever deletes them.
    OnDelete,
    /// A StatefulSet's pods from this number on.
    From(i32),
    /// Not at all, until it is resumed.
    Paused,
}

/// Pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// That should be there.
    pub desired: i32,
    /// That are there, of whatever template.
    pub all: i32,
    /// Of the newest template.
    pub updated: i32,
    /// Of these, serving.
    pub available: i32,
}

/// How far a rolling update is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Done,
    Waiting(String),
    Stuck,
}

impl Controller {
    /// Whether pods are being made anew right now. Unlike [`progress`](Self::progress), whether they serve does not count: for want of
    /// credentials they may not.
    pub fn is_rolling(&self) -> bool {
        let Counts { desired, all, updated, .. } = self.counts;
        self.observed < self.generation || updated < desired || all > updated
    }

    /// How far the update of this generation is, as `kubectl rollout status` has it (kubectl, `rollout_status.go`).
    pub fn progress(&self, generation: i64) -> Progress {
        let Counts { desired, all, updated, available } = self.counts;
        if self.observed < generation.max(self.generation) {
            return Progress::Waiting("Kubernetes has not begun".to_owned());
        }
        if self.is_stuck {
            return Progress::Stuck;
        }
        if updated < desired {
            return Progress::Waiting(format!("{updated} of {desired} pods made anew"));
        }
        if all > updated {
            return Progress::Waiting(format!("{} former pods to end", all - updated));
        }
        if available < desired {
            return Progress::Waiting(format!("{available} of {desired} pods available"));
        }
        Progress::Done
    }

    /// Why it is not rolled now, for what itself says.
    pub(super) fn refusal(&self, object: &ObjectRef) -> Option<Step> {
        let ObjectRef { namespace, owner } = object;
        let kind = owner.kind.to_lowercase();
        let waits = self.is_ordered && self.counts.available < self.counts.all;
        let by_hand = |told: String, remedy: String| Some(Step::new(StepKind::ByHand, told, remedy));
        match self.strategy {
            // kubectl refuses it too.
            Strategy::Paused => by_hand(
                "it is paused".to_owned(),
                format!(
                    "kubectl --namespace {namespace} rollout resume {kind}/{}, and run it again",
                    owner.name
                ),
            ),
            Strategy::OnDelete => by_hand(
                "it leaves its pods to whoever deletes them (OnDelete)".to_owned(),
                format!("delete them one by one: kubectl --namespace {namespace} delete pod …"),
            ),
            Strategy::From(first) if first > 0 => by_hand(
                format!("it keeps its pods below number {first} as they are (partition)"),
                format!(
                    "set its partition to 0, or delete them one by one: kubectl --namespace {namespace} delete pod …"
                ),
            ),
            // Whatever its template says.
            _ if waits && self.counts.updated == self.counts.all && self.observed >= self.generation => {
                by_hand(
                    "a pod of it is not ready, and Kubernetes makes none anew before it is (OrderedReady)"
                        .to_owned(),
                    format!("delete the pod that is not ready: kubectl --namespace {namespace} delete pod …"),
                )
            }
            _ if self.is_rolling() => {
                let told = if self.is_stuck {
                    "its last rolling update is stuck"
                } else {
                    "it is being rolled already"
                };
                let see = format!("kubectl --namespace {namespace} rollout status {kind}/{}", owner.name);
                let stays = if waits {
                    format!(
                        "; a pod that stays not ready holds it up (OrderedReady): kubectl --namespace {namespace} delete pod …"
                    )
                } else {
                    String::new()
                };
                let remedy = format!("see {see}; run it again when that is over{stays}");
                Some(Step::new(StepKind::HeldBack, told, remedy))
            }
            _ => None,
        }
    }
}

/// A PodDisruptionBudget. Rolling updates do not ask it; podgrant does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Budget {
    pub name: String,
    /// None is about no pod.
    pub selector: Option<Selector>,
    /// `status.disruptionsAllowed`.
    pub allowed: i32,
    /// Whether that is about the budget as it is now.
    pub is_current: bool,
    pub healthy: i32,
    /// That must be healthy.
    pub wanted: i32,
}

impl Budget {
    pub fn lets_go(&self) -> bool {
        self.is_current && self.allowed > 0
    }

    pub fn is_about(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches(labels))
    }

    pub(super) fn holds_back(&self, object: &ObjectRef) -> Step {
        let ObjectRef { namespace, owner } = object;
        let told = if self.is_current {
            format!("{} healthy, and {} must be", self.healthy, self.wanted)
        } else {
            "it changed, and Kubernetes has not counted anew".to_owned()
        };
        Step::new(
            StepKind::HeldBack,
            format!("PodDisruptionBudget {} lets no pod go now: {told}", self.name),
            format!(
                "run it again when more pods are healthy; where it never lets one go, or they lack nothing but \
                 credentials: kubectl --namespace {namespace} rollout restart {}/{}",
                owner.kind.to_lowercase(),
                owner.name
            ),
        )
    }
}

/// A label selector; an empty one is about everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    pub labels: BTreeMap<String, String>,
    pub expressions: Vec<Expression>,
}

/// One of its `matchExpressions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    pub values: BTreeSet<String>,
}

impl Selector {
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|expression| {
                let value = labels.get(&expression.key);
                match expression.operator.as_str() {
                    "In" => value.is_some_and(|value| expression.values.contains(value)),
                    "NotIn" => value.is_none_or(|value| !expression.values.contains(value)),
                    "DoesNotExist" => value.is_none(),
                    "Exists" => value.is_some(),
                    // Kubernetes has no other. A budget holds back rather than not.
                    _ => true,
                }
            })
    }
}
