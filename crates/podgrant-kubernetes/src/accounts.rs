//! Which service accounts there are.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, ListParams};
use podgrant_core::accounts::{Namespaces, SeenAccounts};
use podgrant_core::agent::pods::{KubernetesAccess, Unseen};
use podgrant_core::{Namespace, Workload};

use crate::{unseen, within_time};

/// Service accounts a page: of each only its metadata is read, a kilobyte or so of JSON.
const PAGE: u32 = 500;

/// All service accounts of some namespaces: a request for each five hundred of a namespace, or of the cluster.
///
/// # Errors
/// The cluster's API refused us, could not be reached, did not answer in time or in sense, or ended amid a listing:
/// half a listing is none.
pub fn service_accounts(
    access: KubernetesAccess,
    namespaces: Namespaces,
) -> BoxFuture<'static, Result<SeenAccounts, Unseen>> {
    async move {
        let listed = within_time(&access, async |client| {
            let mut accounts = BTreeSet::new();
            match &namespaces {
                Namespaces::All => list(&Api::all(client), None, &access, &mut accounts).await?,
                Namespaces::Named(names) => {
                    for name in names {
                        let api = Api::namespaced(client.clone(), name.as_str());
                        list(&api, Some(name), &access, &mut accounts).await?;
                    }
                }
            }
            Ok(accounts)
        });
        Ok(SeenAccounts::new(namespaces.clone(), listed.await?))
    }
    .boxed()
}

/// Whether a service account is there.
///
/// # Errors
/// The cluster's API refused us, could not be reached, or did not answer in time or in sense.
pub fn service_account_exists(
    access: KubernetesAccess,
    workload: Workload,
) -> BoxFuture<'static, Result<bool, Unseen>> {
    async move {
        within_time(&access, async |client: Client| {
            let api: Api<ServiceAccount> = Api::namespaced(client, workload.namespace.as_str());
            match api.get_metadata(workload.service_account.as_str()).await {
                Ok(_) => Ok(true),
                // Anybody may answer 404; only Kubernetes says so of a service account.
                Err(kube::Error::Api(status)) if status.code == 404 && status.reason == "NotFound" => {
                    Ok(false)
                }
                Err(error) => Err(unseen(&error, &access)),
            }
        })
        .await
    }
    .boxed()
}

async fn list(
    api: &Api<ServiceAccount>,
    namespace: Option<&Namespace>,
    access: &KubernetesAccess,
    accounts: &mut BTreeSet<Workload>,
) -> Result<(), Unseen> {
    let mut asked = ListParams::default().limit(PAGE);
    loop {
        let page = api.list_metadata(&asked).await.map_err(|error| unseen(&error, access))?;
        for item in page.items {
            let (name, place) =
                (item.metadata.name.unwrap_or_default(), item.metadata.namespace.unwrap_or_default());
            let senseless = |error: podgrant_core::NameError| {
                Unseen::Unreachable(format!(
                    "the cluster's Kubernetes API listed a service account of which {error}"
                ))
            };
            let workload = Workload {
                namespace: place.parse().map_err(senseless)?,
                service_account: name.parse().map_err(senseless)?,
            };
            if namespace.is_some_and(|namespace| *namespace != workload.namespace) {
                return Err(Unseen::Unreachable(format!(
                    "the cluster's Kubernetes API listed {workload} in another namespace"
                )));
            }
            accounts.insert(workload);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => asked = asked.continue_token(&token),
            None => return Ok(()),
        }
    }
}
