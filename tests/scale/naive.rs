//! A sweep as one would write it first: every role's tags one by one, every association described.

use anyhow::Result;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region};
use podgrant_tests::fake::FakeAws;
use tokio::time::Instant;

use podgrant_tests::fleet::{self, HOME, Size};

/// How long it took, in seconds of the runtime's clock.
pub async fn sweep(aws: &FakeAws, size: Size) -> Result<u64> {
    let began = Instant::now();
    let credentials = aws_sdk_eks::config::Credentials::new("AKIDNAIVE", "no-secret", None, None, "naive");
    let sdk = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(HOME))
        .endpoint_url("http://aws.invalid")
        .http_client(aws.road())
        .credentials_provider(credentials)
        // It waits for as long as it takes, and never gives up.
        .retry_config(RetryConfig::standard().with_max_attempts(100))
        .load()
        .await;
    let iam = aws_sdk_iam::Client::new(&sdk);
    let mut roles = iam.list_roles().into_paginator().items().send();
    while let Some(role) = roles.next().await {
        let role = role?;
        iam.list_role_tags().role_name(role.role_name()).send().await?;
    }
    for region in fleet::regions(size) {
        let eks = aws_sdk_eks::Client::new(&sdk.to_builder().region(Region::new(region)).build());
        let mut clusters = eks.list_clusters().into_paginator().items().send();
        while let Some(cluster) = clusters.next().await {
            let cluster = cluster?;
            eks.describe_cluster().name(&cluster).send().await?;
            let mut listed =
                eks.list_pod_identity_associations().cluster_name(&cluster).into_paginator().items().send();
            while let Some(association) = listed.next().await {
                let id = association?.association_id.unwrap_or_default();
                eks.describe_pod_identity_association()
                    .cluster_name(&cluster)
                    .association_id(id)
                    .send()
                    .await?;
            }
        }
    }
    Ok(began.elapsed().as_secs())
}
