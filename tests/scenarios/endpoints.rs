//! The way to AWS's endpoints: whom it trusts, and how fast it goes.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use futures_util::future::join_all;
use podgrant_aws::http::{AMAZON_ROOTS, Roots, first_or_else, paced};
use podgrant_aws::{Aws, SdkConfig};
use podgrant_core::TagKeys;
use podgrant_tests::endpoint::Endpoint;
use podgrant_tests::fake::{Cluster, FakeAws, RateLimit};
use podgrant_tests::virtual_time::VirtualTime;
use tokio::time::Instant;

async fn eks(url: String, client: SharedHttpClient) -> aws_sdk_eks::Client {
    aws_sdk_eks::Client::new(&sdk(url, client).await)
}

async fn sdk(url: String, client: SharedHttpClient) -> SdkConfig {
    let credentials = aws_sdk_eks::config::Credentials::new("AKIDENDPOINTS", "no-secret", None, None, "test");
    podgrant_aws::configured(aws_config::defaults(BehaviorVersion::latest()))
        .region(Region::new("eu-west-1"))
        .endpoint_url(url)
        .credentials_provider(credentials)
        .http_client(client)
        .time_source(VirtualTime::from(1_772_446_530))
        .load()
        .await
}

#[tokio::test]
async fn where_amazons_roots_do_not_do_the_systems_are_used() {
    let aws = FakeAws::start().await;
    aws.add_cluster(Cluster::named("prod-eu"));
    let endpoint = Endpoint::before(&aws.endpoint()).await.unwrap();
    let behind_a_proxy = first_or_else(Roots::Pem(AMAZON_ROOTS), Roots::Pem(endpoint.root().unwrap()));
    let eks = eks(endpoint.url(), behind_a_proxy).await;
    for _ in 0..2 {
        assert_eq!(eks.list_clusters().send().await.unwrap().clusters(), ["prod-eu"]);
    }
    // What was refused for its certificate was not sent.
    assert_eq!(aws.calls().len(), 2);
}

#[tokio::test]
async fn nobody_else_is_trusted() {
    let aws = FakeAws::start().await;
    let endpoint = Endpoint::before(&aws.endpoint()).await.unwrap();
    let eks = eks(endpoint.url(), first_or_else(Roots::Pem(AMAZON_ROOTS), Roots::Pem(AMAZON_ROOTS))).await;
    let error = eks.list_clusters().send().await.unwrap_err();
    assert!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");
    assert_eq!(aws.calls().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_makes_one_call_and_waits_for_its_answer() {
    let aws = FakeAws::unserved();
    let latency = Duration::from_millis(40);
    aws.set_latency(latency);
    let sdk = sdk("http://aws.invalid".to_owned(), aws.road()).await;
    let regions = ["eu-west-1", "us-east-1"].map(|region| region.parse().unwrap());
    let podgrant = Aws::new(&sdk, &regions, TagKeys::default());
    let began = Instant::now();
    podgrant.warm_up().await;
    assert!(began.elapsed() >= latency, "{:?}", began.elapsed());
    let calls: Vec<String> = aws.calls().iter().map(ToString::to_string).collect();
    assert_eq!(calls, ["eks eu-west-1 ListClusters"]);
}

/// 60 calls where EKS takes five a second: how many fail, how often it says no, and how many seconds they take.
async fn sixty_calls(way: fn(SharedHttpClient) -> SharedHttpClient) -> (usize, usize, u64) {
    let aws = FakeAws::unserved();
    aws.add_cluster(Cluster::named("prod-eu"));
    aws.limit_rate("eks", RateLimit { per_second: 5.0, burst: 5.0 });
    aws.set_latency(Duration::from_millis(40));
    let eks = eks("http://aws.invalid".to_owned(), way(aws.road())).await;
    let began = Instant::now();
    // Six at a time, as podgrant does.
    let lane = || async {
        let mut failed = 0;
        for _ in 0..10 {
            failed += usize::from(eks.describe_cluster().name("prod-eu").send().await.is_err());
        }
        failed
    };
    let failed = join_all((0..6).map(|_| lane())).await.into_iter().sum();
    let noes = aws.calls().iter().filter(|call| call.error.contains("Throttl")).count();
    (failed, noes, began.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn calls_keep_the_pace_that_aws_allows() {
    let (failed, noes, seconds) = sixty_calls(paced).await;
    assert_eq!(failed, 0, "in {seconds} s");
    // As fast as AWS allows, or nearly.
    assert!((11..30).contains(&seconds), "{seconds} s");
    let (_, without, _) = sixty_calls(|client| client).await;
    assert!(without > 2 * noes, "{noes} noes, and {without} without a pace");
}
