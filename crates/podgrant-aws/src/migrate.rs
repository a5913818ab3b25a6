//! What bears on whether service accounts with IRSA can move to Pod Identity, and the annotation that lets them.

use std::collections::{BTreeMap, BTreeSet};

use podgrant_core::explain::evidence::{Pod, Read, Times};
use podgrant_core::explain::{LinkKind, NamedCluster, State, Target};
use podgrant_core::migrate::{Annotated, Sight, elsewhere};
use podgrant_core::restart::account_of;
use podgrant_core::written::{Unwritten, Written};
use podgrant_core::{Association, Cluster, Role, RoleArn, Workload};

use crate::observe::side_by_side;
use crate::restart::LOOKS;
use crate::{Aws, AwsError, Meaning, Onlooker, Roller};

impl Aws {
    /// Every service account of a cluster that has IRSA's annotation or is known to have had it, or those of these that
    /// have.
    ///
    /// `now` is in seconds since 1970.
    ///
    /// # Errors
    /// The cluster does not tell its service accounts, and why.
    pub async fn annotated(
        &self,
        cluster: &Cluster,
        wanted: &BTreeSet<Workload>,
        known: &[Annotated],
        roller: &Roller,
        onlooker: Option<&Onlooker>,
        now: i64,
    ) -> Read<Vec<Sight>> {
        let way = self.way_into(cluster, now).await?;
        let accounts = (roller.annotated)(way.clone()).await?;
        let annotated: BTreeSet<Workload> = accounts.iter().map(|account| account.workload.clone()).collect();
        let without = known.iter().filter(|account| !annotated.contains(&account.workload)).cloned();
        let mut accounts: Vec<Annotated> = accounts.into_iter().chain(without).collect();
        accounts.retain(|account| wanted.is_empty() || wanted.contains(&account.workload));
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        let names = accounts.iter().map(|account| account.workload.to_string()).collect();
        let pods = (roller.pods)(way, names).await;
        let mut by_account: BTreeMap<String, Vec<Pod>> = BTreeMap::new();
        for pod in pods.iter().flatten() {
            by_account.entry(account_of(pod)).or_default().push(pod.clone());
        }
        let unread = pods.err();
        let annotated_now = &annotated;
        let seen = side_by_side(accounts, |annotated| {
            let pods = match &unread {
                Some(why) => Err(why.clone()),
                None => Ok(by_account.get(&annotated.workload.to_string()).cloned().unwrap_or_default()),
            };
            let is_annotated = annotated_now.contains(&annotated.workload);
            self.migrating(cluster, (annotated, is_annotated), pods, onlooker, now)
        });
        let mut seen = seen.await;
        seen.sort_by(|one, other| one.annotated.workload.cmp(&other.annotated.workload));
        Ok(seen)
    }

    async fn migrating(
        &self,
        cluster: &Cluster,
        (annotated, is_annotated): (Annotated, bool),
        pods: Read<Vec<Pod>>,
        onlooker: Option<&Onlooker>,
        now: i64,
    ) -> Sight {
        let role = self.annotated_role(cluster, &annotated).await;
        let standing = self.standing_at(cluster, &annotated.workload).await;
        let made_at = standing.iter().flatten().map(|(_, times)| times.created_at).next();
        let standing = standing.map(|standing| standing.map(|(association, _)| association));
        let named = NamedCluster::from(&cluster.id);
        let target = Target::ServiceAccount { workload: annotated.workload.clone(), cluster: named };
        let explained = self.explain(&target, onlooker, now).await;
        let (mut broken, mut unseen) = (Vec::new(), Vec::new());
        for link in explained.chains.into_iter().flat_map(|chain| chain.links) {
            match (link.state, link.kind) {
                (
                    State::Broken,
                    LinkKind::Cluster | LinkKind::Agent | LinkKind::Node | LinkKind::NodeRole,
                ) => broken.push(link.told),
                // Of many nodes EKS does not tell the role: that alone is no reason to stay.
                (State::Unknown, LinkKind::Cluster | LinkKind::Agent | LinkKind::Node) => {
                    unseen.push(link.told);
                }
                _ => {}
            }
        }
        Sight {
            annotated,
            is_annotated,
            role,
            standing,
            made_at,
            pods,
            broken,
            unseen,
            refused: Ok(Vec::new()),
        }
    }

    /// Gives a service account another role by annotation, or none, where it has `before`, or none.
    ///
    /// `now` is in seconds since 1970.
    ///
    /// # Errors
    /// Why it was not done, or that nobody knows whether it was.
    pub async fn annotate(
        &self,
        cluster: &Cluster,
        workload: &Workload,
        (before, after): (Option<&str>, Option<&str>),
        roller: &Roller,
        now: i64,
    ) -> Result<(), Unwritten> {
        let (before, after) = (before.map(str::to_owned), after.map(str::to_owned));
        for _ in 0..LOOKS {
            let way = self.way_into(cluster, now).await.map_err(Unwritten::NotSent)?;
            match (roller.annotate)(way, workload.clone(), before.clone(), after.clone()).await {
                Ok(Written::Done(_)) => return Ok(()),
                // It is looked at anew, and only what was meant is changed.
                Ok(Written::Changed) => {}
                Ok(Written::Gone) => {
                    return Err(Unwritten::Refused("the service account is gone".to_owned()));
                }
                Err(no @ (Unwritten::NotSent(_) | Unwritten::Refused(_))) => return Err(no),
                Err(Unwritten::Unsure(why)) => {
                    return self.annotated_so(cluster, workload, after, roller, (why, now)).await;
                }
            }
        }
        Err(Unwritten::Refused(format!("it changed {LOOKS} times while it was looked at")))
    }

    /// Whether a service account has this annotation, after an answer was lost.
    async fn annotated_so(
        &self,
        cluster: &Cluster,
        workload: &Workload,
        wanted: Option<String>,
        roller: &Roller,
        (why, now): (String, i64),
    ) -> Result<(), Unwritten> {
        let unsure = format!("whether its annotation was changed is not known: {why}");
        let unsure = Unwritten::Unsure(unsure);
        let Ok(way) = self.way_into(cluster, now).await else { return Err(unsure) };
        let Ok(accounts) = (roller.annotated)(way).await else { return Err(unsure) };
        let stands = accounts.into_iter().find(|account| account.workload == *workload);
        if stands.map(|account| account.role) == wanted { Ok(()) } else { Err(unsure) }
    }

    /// Whether the account has the OIDC provider of a cluster, without which IRSA lets nobody in.
    ///
    /// # Errors
    /// Why that is not known, in words.
    pub async fn has_oidc_provider(&self, cluster: &Cluster) -> Read<bool> {
        let Some(issuer) = &cluster.oidc_issuer else { return Ok(false) };
        let mut parts = cluster.arn.split(':');
        let (Some(partition), Some(account)) = (parts.nth(1), parts.nth(2)) else { return Ok(false) };
        let arn =
            format!("arn:{partition}:iam::{account}:oidc-provider/{}", issuer.trim_start_matches("https://"));
        let asked = self.iam.get_open_id_connect_provider().open_id_connect_provider_arn(&arn).send().await;
        match asked.map_err(|error| AwsError::of("iam:GetOpenIDConnectProvider", arn, error)) {
            Ok(_) => Ok(true),
            Err(error) if error.is(Meaning::NotFound) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    /// None where the account has no role of this very ARN.
    async fn annotated_role(&self, cluster: &Cluster, annotated: &Annotated) -> Read<Option<Role>> {
        let Ok(arn) = annotated.role.parse::<RoleArn>() else { return Ok(None) };
        if elsewhere(&annotated.role, cluster).is_some() {
            return Ok(None);
        }
        let found = self.role(arn.role_name()).await.map_err(|error| error.to_string())?;
        Ok(found.filter(|role| role.arn == arn))
    }

    async fn standing_at(
        &self,
        cluster: &Cluster,
        workload: &Workload,
    ) -> Read<Option<(Association, Times)>> {
        let listed = self.list_associations(&cluster.id, Some(workload)).await;
        let listed = listed.map_err(|error| error.to_string())?;
        match listed.first() {
            Some(association) => {
                let described = self.association_in_time(&cluster.id, &association.id).await;
                described.map_err(|error| error.to_string())
            }
            None => Ok(None),
        }
    }
}
