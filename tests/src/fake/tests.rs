//! What is tricky in the fake itself: faults, gates, the lagging tag index, and that it stops.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_eks::Client;
use aws_sdk_eks::config::Credentials;
use aws_sdk_eks::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_eks::types::{AccessScope, AccessScopeType, AddonStatus, ResolveConflicts};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// An answer's status and body; `None` where the connection closed without one.
async fn ask(aws: &FakeAws, service: &str, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(aws.endpoint().trim_start_matches("http://")).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-amz-target: X.GetResources\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=K/20260101/eu-west-1/{service}/aws4_request, Signature=0\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len(),
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).unwrap()))
}

const ASSOCIATIONS: &str = "/clusters/prod-eu/pod-identity-associations";

async fn create(aws: &FakeAws, account: &str, token: &str) -> Option<(u16, Value)> {
    let role = Role::named("r").arn();
    let body = json!({
        "namespace": "n", "serviceAccount": account, "roleArn": role, "tags": {"m": "v"}, "clientRequestToken": token,
    });
    ask(aws, "eks", "POST", ASSOCIATIONS, &body).await
}

async fn list_status(aws: &FakeAws) -> Option<u16> {
    ask(aws, "eks", "GET", ASSOCIATIONS, &json!({})).await.map(|(status, _)| status)
}

async fn indexed(aws: &FakeAws) -> Vec<Value> {
    let body = json!({ "ResourceTypeFilters": ["eks:podidentityassociation"] });
    let (_, answer) = ask(aws, "tagging", "POST", "/", &body).await.unwrap();
    answer["ResourceTagMappingList"].as_array().unwrap().iter().map(|found| found["Tags"].clone()).collect()
}

async fn fake() -> FakeAws {
    let aws = FakeAws::start().await;
    aws.add_cluster(Cluster::named("prod-eu"));
    aws.add_role(Role::named("r").trusting_pods());
    aws
}

#[tokio::test]
async fn faults_strike_the_calls_they_are_about_and_no_others() {
    let aws = fake().await;
    aws.fault(Fault::on("eks", "ListPodIdentityAssociations").first(2).throttle());
    aws.fault(Fault::on("eks", ANY).nth(4).server_error());
    aws.fault(Fault::on_any().with("clusterName", "other").access_denied());
    aws.fault(Fault::on_any().region("us-east-1").access_denied());
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(list_status(&aws).await.unwrap());
    }
    assert_eq!(statuses, [429, 429, 200, 500, 200]);
    assert_eq!(
        aws.calls()[0].to_string(),
        "eks eu-west-1 ListPodIdentityAssociations prod-eu -> 429 ThrottlingException"
    );
}

#[tokio::test]
async fn a_lost_response_has_done_its_work_and_a_dropped_connection_has_not() {
    let aws = fake().await;
    aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").nth(1).drop_connection());
    aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").nth(2).lose_response());
    assert_eq!(create(&aws, "a", "t").await, None);
    assert!(aws.associations(REGION, "prod-eu").is_empty());
    assert_eq!(create(&aws, "a", "t").await, None);
    assert_eq!(aws.associations(REGION, "prod-eu").len(), 1);
    // The same token finds what was made; another one meets a conflict.
    assert_eq!(create(&aws, "a", "t").await.unwrap().0, 200);
    let (status, error) = create(&aws, "a", "u").await.unwrap();
    assert_eq!((status, &error["message"]), (409, &json!("Association already exists: a-000000000000001")));
    let errors: Vec<_> = aws.calls().iter().map(|call| (call.status, call.error.clone())).collect();
    let expected =
        [(0, "connection dropped"), (0, "response lost"), (200, ""), (409, "ResourceInUseException")];
    assert_eq!(errors, expected.map(|(status, error)| (status, error.to_owned())));
}

#[tokio::test]
async fn a_gate_holds_calls_back_and_the_world_goes_on_meanwhile() {
    let aws = fake().await;
    let gate = Gate::closed();
    aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").nth(1).wait_for(&gate));
    aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").nth(2).meanwhile(|aws| {
        aws.delete_role("r");
    }));
    let (held, other) = tokio::join!(create(&aws, "a", "t"), async {
        gate.reached_by(1).await;
        let other = create(&aws, "b", "u").await;
        aws.add_role(Role::named("r").trusting_pods());
        gate.open();
        other
    });
    assert_eq!((held.unwrap().0, other.unwrap().0), (200, 400));
    assert_eq!(aws.role("r").unwrap().id, "AROA00000000000000002");
}

#[tokio::test]
async fn a_call_that_hangs_stands_in_the_calls_and_holds_up_nobody() {
    let aws = fake().await;
    aws.fault(Fault::on("eks", "ListPodIdentityAssociations").nth(1).hang());
    assert!(tokio::time::timeout(Duration::from_millis(100), list_status(&aws)).await.is_err());
    assert_eq!(list_status(&aws).await, Some(200));
    assert_eq!(aws.calls()[0].error, "hang");
}

#[tokio::test]
async fn the_tag_index_lags_and_remembers() {
    let aws = fake().await;
    let tags = json!([{"Key": "m", "Value": "v"}]);
    aws.index_lags(2);
    aws.index_shows_ghosts(1, Ghost::WithTags);
    create(&aws, "a", "t").await;
    assert!(indexed(&aws).await.is_empty() && indexed(&aws).await.is_empty());
    assert_eq!(indexed(&aws).await, std::slice::from_ref(&tags));
    aws.delete_association(REGION, "prod-eu", "n", "a");
    assert_eq!(indexed(&aws).await, [tags]);
    assert!(indexed(&aws).await.is_empty());
}

#[tokio::test]
async fn frozen_and_hidden_reads_are_counted() {
    let aws = fake().await;
    let read = || {
        // XML, which `ask` does not read: through the state, as the server does.
        let mut params = params::Params::new(serde_json::Map::new(), "ValidationError");
        params.map.insert("RoleName".to_owned(), json!("r"));
        iam::handle(&mut aws.shared.lock(), "GetRole", &params).map(|found| found["Role"]["Tags"].clone())
    };
    aws.freeze_role("r", 1);
    aws.tag_role("r", "k", "v");
    aws.hide_role("r", 1);
    assert_eq!(read().unwrap_err().code, "NoSuchEntity");
    assert_eq!(read(), Ok(json!([])));
    assert_eq!(read(), Ok(json!([{"Key": "k", "Value": "v"}])));
}

/// EKS through the SDK, at a turnstile.
async fn at_turnstile(aws: &FakeAws) -> (Turnstile, Client) {
    let turnstile = Turnstile::of(aws);
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url("http://turnstile")
        .credentials_provider(Credentials::new("AKID", "no-secret", None, None, "tests"))
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .http_client(turnstile.client())
        .load()
        .await;
    (turnstile, Client::new(&config))
}

/// A call's answer, when it is let through like this.
async fn let_through<T>(turnstile: &Turnstile, how: Pass, call: impl Future<Output = T>) -> T {
    let (answer, ()) = tokio::join!(call, async {
        while turnstile.waiting().is_empty() {
            tokio::task::yield_now().await;
        }
        turnstile.pass(turnstile.waiting()[0].ticket, how);
    });
    answer
}

#[tokio::test]
async fn a_turnstile_lets_calls_through_as_it_is_told() {
    let aws = FakeAws::unserved();
    aws.add_cluster(Cluster::named("prod-eu"));
    aws.add_role(Role::named("r").trusting_pods());
    let (turnstile, eks) = at_turnstile(&aws).await;
    let create = || {
        let create = eks.create_pod_identity_association().cluster_name("prod-eu").namespace("n");
        create.service_account("a").role_arn(Role::named("r").arn()).send()
    };
    let list = || eks.list_pod_identity_associations().cluster_name("prod-eu").send();
    assert!(no(let_through(&turnstile, Pass::Throttled, create()).await).starts_with("ThrottlingException"));
    assert!(no(let_through(&turnstile, Pass::Broken, create()).await).starts_with("ServerException"));
    let_through(&turnstile, Pass::NotReached, create()).await.unwrap_err();
    assert!(aws.associations(REGION, "prod-eu").is_empty());
    let_through(&turnstile, Pass::Lost, create()).await.unwrap_err();
    assert_eq!(aws.associations(REGION, "prod-eu").len(), 1);
    let seen = let_through(&turnstile, Pass::Through, list()).await.unwrap();
    assert_eq!(seen.associations().len(), 1);
    let ended: Vec<String> = aws.calls().iter().map(|call| call.error.clone()).collect();
    assert_eq!(ended, ["ThrottlingException", "ServerException", "connection dropped", "response lost", ""]);
}

#[tokio::test]
async fn a_stale_read_at_a_turnstile_sees_what_was_and_changes_nothing() {
    let aws = FakeAws::unserved();
    aws.add_cluster(Cluster::named("prod-eu"));
    let (turnstile, eks) = at_turnstile(&aws).await;
    let list = async |changes: usize| {
        let call = eks.list_pod_identity_associations().cluster_name("prod-eu").send();
        let_through(&turnstile, Pass::Stale(changes), call).await.unwrap().associations().len()
    };
    for account in ["a", "b"] {
        turnstile.meanwhile(|aws| drop(aws.add_association(Association::of("prod-eu", "n", account))));
    }
    // Further back than anything is known of, it is the oldest that is.
    let seen = [list(0).await, list(1).await, list(2).await, list(9).await];
    assert_eq!((seen, aws.associations(REGION, "prod-eu").len()), ([2, 1, 0, 0], 2));
    turnstile.forget_the_past();
    assert_eq!(list(2).await, 2);

    // A change is made to what is; what lags is its look at the role.
    turnstile.meanwhile(|aws| drop(aws.add_role(Role::named("r").trusting_pods())));
    let create = || {
        let create = eks.create_pod_identity_association().cluster_name("prod-eu").namespace("n");
        create.service_account("c").role_arn(Role::named("r").arn()).send()
    };
    let unseen = "InvalidParameterException: Role provided in the request does not exist.";
    assert_eq!(no(let_through(&turnstile, Pass::Stale(1), create()).await), unseen);
    let_through(&turnstile, Pass::Through, create()).await.unwrap();
    assert_eq!(aws.associations(REGION, "prod-eu").len(), 3);
}

#[tokio::test]
async fn who_gives_up_no_longer_waits_at_a_turnstile() {
    let aws = FakeAws::unserved();
    let (turnstile, eks) = at_turnstile(&aws).await;
    turnstile.polling(7);
    let mut call = Box::pin(eks.list_clusters().send());
    let waker = std::task::Waker::noop();
    assert!(call.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    let waiting = turnstile.waiting();
    assert_eq!((waiting[0].who, waiting[0].call.operation.as_str()), (7, "ListClusters"));
    drop(call);
    assert!(turnstile.waiting().is_empty());
    turnstile.pass(waiting[0].ticket, Pass::Through);
    assert!(aws.calls().is_empty());
}

#[tokio::test]
async fn it_stops_with_its_last_handle() {
    let aws = fake().await;
    let address = aws.endpoint().trim_start_matches("http://").to_owned();
    let clone = aws.clone();
    drop(aws);
    assert_eq!(list_status(&clone).await, Some(200));
    drop(clone);
    // Its thread needs a moment; a connection may still be taken, but is then closed.
    while TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

/// EKS through the real SDK: the operations whose ways of speaking are not the ones tested above.
async fn eks(aws: &FakeAws) -> Client {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(aws.endpoint())
        .credentials_provider(Credentials::new("AKID", "no-secret", None, None, "tests"))
        .load()
        .await;
    Client::new(&config)
}

/// Code and message of a no.
fn no<T: std::fmt::Debug>(answer: Result<T, impl ProvideErrorMetadata>) -> String {
    let error = answer.unwrap_err();
    format!("{}: {}", error.code().unwrap_or_default(), error.message().unwrap_or_default())
}

const READER: &str = "arn:aws:iam::111122223333:role/podgrant/reader";
const VIEW: &str = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy";

fn scope(namespaces: &[&str]) -> AccessScope {
    let kind = if namespaces.is_empty() { AccessScopeType::Cluster } else { AccessScopeType::Namespace };
    let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
    AccessScope::builder().r#type(kind).set_namespaces(Some(namespaces)).build()
}

#[tokio::test]
async fn an_access_entry_is_made_shown_tagged_and_deleted() {
    let aws = fake().await;
    let eks = eks(&aws).await;
    let create = || eks.create_access_entry().cluster_name("prod-eu").principal_arn(READER);
    let made = create().kubernetes_groups("viewers").tags("a", "1").send().await.unwrap();
    let made = made.access_entry.unwrap();
    let arn = "arn:aws:eks:eu-west-1:111122223333:access-entry/prod-eu/role/111122223333/reader/\
               00000000-0000-4000-8000-000000000001";
    assert_eq!(made.access_entry_arn(), Some(arn));
    assert_eq!((made.r#type(), made.kubernetes_groups()), (Some("STANDARD"), &["viewers".to_owned()][..]));
    assert_eq!(made.username(), Some("arn:aws:sts::111122223333:assumed-role/reader/{{SessionName}}"));
    assert_eq!(
        no(create().send().await),
        "ResourceInUseException: The specified access entry resource is already in use on this cluster."
    );

    eks.tag_resource().resource_arn(arn).tags("b", "2").send().await.unwrap();
    eks.untag_resource().resource_arn(arn).tag_keys("a").send().await.unwrap();
    let describe = || eks.describe_access_entry().cluster_name("prod-eu").principal_arn(READER);
    let shown = describe().send().await.unwrap().access_entry.unwrap();
    assert_eq!(shown.tags().unwrap().iter().collect::<Vec<_>>(), [(&"b".to_owned(), &"2".to_owned())]);
    assert_eq!(aws.access_entry(REGION, "prod-eu", READER).unwrap().tags["b"], "2");

    eks.delete_access_entry().cluster_name("prod-eu").principal_arn(READER).send().await.unwrap();
    let gone = "ResourceNotFoundException: The specified principalArn could not be found. \
                You can view your available access entries with 'list-access-entries'.";
    assert_eq!(no(describe().send().await), gone);
    aws.add_access_entry(REGION, "prod-eu", AccessEntry::of(READER).policy("AmazonEKSViewPolicy", &[]));
    aws.delete_cluster(REGION, "prod-eu");
    assert_eq!(aws.access_entry(REGION, "prod-eu", READER), None);
    assert_eq!(no(describe().send().await), "ResourceNotFoundException: No cluster found for name: prod-eu.");
    assert_eq!(aws.calls()[0].to_string(), "eks eu-west-1 CreateAccessEntry prod-eu reader");
}

#[tokio::test]
async fn what_can_not_be_an_access_entry_is_refused() {
    let aws = fake().await;
    aws.add_cluster(Cluster::named("old").authentication_mode("CONFIG_MAP"));
    aws.add_cluster(Cluster::named("unborn").status("CREATING"));
    let eks = eks(&aws).await;
    let create = |cluster: &str, principal: &str| {
        eks.create_access_entry().cluster_name(cluster).principal_arn(principal)
    };
    let session = "arn:aws:sts::111122223333:assumed-role/reader/session";
    assert_eq!(
        no(create("old", READER).send().await),
        "InvalidRequestException: The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] \
         to perform this operation."
    );
    assert_eq!(
        no(create("prod-eu", READER).kubernetes_groups("system:masters").send().await),
        "InvalidParameterException: The kubernetes group name system:masters is invalid, it cannot start with system:"
    );
    let mut codes = vec![
        no(create("unborn", READER).send().await),
        no(create("nowhere", READER).send().await),
        no(create("prod-eu", READER).username("eks:me").send().await),
        no(create("prod-eu", READER).r#type("EC2_LINUX").kubernetes_groups("viewers").send().await),
    ];
    for principal in [session, "arn:aws:iam::1234:role/reader", "arn:aws:iam::111122223333:role/", "reader"] {
        codes.push(no(create("prod-eu", principal).send().await));
    }
    let codes: Vec<&str> = codes.iter().filter_map(|error| error.split(':').next()).collect();
    let mut expected = vec!["InvalidRequestException", "ResourceNotFoundException"];
    expected.extend(["InvalidParameterException"; 6]);
    assert_eq!(codes, expected);
}

#[tokio::test]
async fn access_policies_have_one_scope_each_and_come_in_pages() {
    let aws = fake().await;
    let eks = eks(&aws).await;
    let associate = |policy: &str, namespaces: &[&str]| {
        let call = eks.associate_access_policy().cluster_name("prod-eu").principal_arn(READER);
        call.policy_arn(policy).access_scope(scope(namespaces)).send()
    };
    assert!(no(associate(VIEW, &[]).await).starts_with("ResourceNotFoundException"));
    aws.add_access_entry(REGION, "prod-eu", AccessEntry::of(READER));
    for principal in ["user/ann", "role/nodes"] {
        let arn = format!("arn:aws:iam::{ACCOUNT}:{principal}");
        aws.add_access_entry(REGION, "prod-eu", AccessEntry::of(arn).kind("EC2_LINUX"));
    }
    associate(VIEW, &["payments"]).await.unwrap();
    let again = associate(VIEW, &["payments", "web"]).await.unwrap().associated_access_policy.unwrap();
    assert_eq!(again.access_scope.unwrap(), scope(&["payments", "web"]));
    associate("arn:aws:eks::aws:cluster-access-policy/AmazonEKSAdminViewPolicy", &[]).await.unwrap();
    assert!(
        no(associate("arn:aws:iam::aws:policy/ReadOnlyAccess", &[]).await).starts_with("InvalidParameter")
    );

    aws.page_size(1);
    let list = || eks.list_associated_access_policies().cluster_name("prod-eu").principal_arn(READER);
    let pages: Vec<_> = list().into_paginator().send().try_collect().await.unwrap();
    let scopes: Vec<_> = pages
        .iter()
        .map(|page| {
            let [policy] = page.associated_access_policies() else { panic!("{page:?}") };
            (policy.policy_arn().unwrap().rsplit('/').next().unwrap(), policy.access_scope().unwrap().clone())
        })
        .collect();
    let expected =
        [("AmazonEKSAdminViewPolicy", scope(&[])), ("AmazonEKSViewPolicy", scope(&["payments", "web"]))];
    assert_eq!(scopes, expected);

    let list = || eks.list_access_entries().cluster_name("prod-eu");
    let pages: Vec<_> = list().into_paginator().send().try_collect().await.unwrap();
    assert_eq!(pages.len(), 3);
    let with_view = list().associated_policy_arn(VIEW).send().await.unwrap();
    assert_eq!(with_view.access_entries(), [READER]);
}

#[tokio::test]
async fn a_configuration_must_fit_the_add_ons_schema() {
    let aws = fake().await;
    let eks = eks(&aws).await;
    let schema =
        |version: &str| eks.describe_addon_configuration().addon_name(AGENT).addon_version(version).send();
    let found = schema("v1.3.10-eksbuild.2").await.unwrap();
    assert!(found.configuration_schema().unwrap().contains("draft-06"));
    assert!(no(schema("v9").await).starts_with("ResourceNotFoundException"));

    let create = |values: &str| {
        eks.create_addon().cluster_name("prod-eu").addon_name(AGENT).configuration_values(values).send()
    };
    let refused = "InvalidParameterException: ConfigurationValue provided in request is not supported: \
                   Json schema validation failed with error: ";
    for (values, errors) in [
        (
            r#"{"nodeSelectors":{}}"#,
            "[$.nodeSelectors: is not defined in the schema and the schema does not allow additional properties]",
        ),
        (r#"{"tolerations":[1]}"#, "[$.tolerations[0]: integer found, object expected]"),
        (
            r#"{"agent":{"additionalArgs":{"-b":true}}}"#,
            "[$.agent.additionalArgs.-b: boolean found, string expected]",
        ),
        ("null", "[$: null found, object expected]"),
    ] {
        assert_eq!(no(create(values).await), format!("{refused}{errors}"));
    }
    assert!(no(create("{").await).contains("not in valid JSON or YAML"));
    let fits = r#"{"affinity":null,"agent":{"additionalArgs":{"-b":"169.254.170.23"}},"resources":{"limits":{"cpu":"1"}}}"#;
    create(fits).await.unwrap();
    let described = || eks.describe_addon().cluster_name("prod-eu").addon_name(AGENT).send();
    assert_eq!(described().await.unwrap().addon.unwrap().configuration_values(), Some(fits));

    aws.set_addon_schema(AGENT, "v1.3.10-eksbuild.2", r#"{"properties": {"port": {"type": "integer"}}}"#);
    aws.set_addon_schema("coredns", ANY, "no schema");
    let update = |values: &str| {
        eks.update_addon().cluster_name("prod-eu").addon_name(AGENT).configuration_values(values).send()
    };
    assert!(no(update(r#"{"port":"80"}"#).await).ends_with("[$.port: string found, integer expected]"));
    update(r#"{"port":80}"#).await.unwrap();
    let dns = eks.create_addon().cluster_name("prod-eu").addon_name("coredns").configuration_values("[]");
    dns.send().await.unwrap();
}

#[tokio::test]
async fn a_self_managed_agent_is_in_the_way_until_it_is_overwritten() {
    let aws = fake().await;
    aws.add_cluster(Cluster::named("prod-eu").self_managed_agent());
    aws.settle_after(1);
    let eks = eks(&aws).await;
    let status = async || {
        let described = eks.describe_addon().cluster_name("prod-eu").addon_name(AGENT).send().await.unwrap();
        let addon = described.addon.unwrap();
        let codes: Vec<String> = addon
            .health()
            .map(|health| health.issues())
            .into_iter()
            .flatten()
            .filter_map(|issue| issue.code().map(|code| code.as_str().to_owned()))
            .collect();
        (addon.status().unwrap().clone(), codes.join(" "))
    };
    let create = eks.create_addon().cluster_name("prod-eu").addon_name(AGENT);
    create.resolve_conflicts(ResolveConflicts::None).send().await.unwrap();
    assert_eq!(aws.addon(REGION, "prod-eu", AGENT).unwrap().resolve_conflicts, "NONE");
    assert_eq!(status().await, (AddonStatus::Creating, String::new()));
    assert_eq!(status().await, (AddonStatus::CreateFailed, "ConfigurationConflict".to_owned()));
    let update = eks.update_addon().cluster_name("prod-eu").addon_name(AGENT);
    update.resolve_conflicts(ResolveConflicts::Overwrite).send().await.unwrap();
    assert_eq!(status().await.0, AddonStatus::Updating);
    assert_eq!(status().await, (AddonStatus::Active, String::new()));
    assert!(!aws.cluster(REGION, "prod-eu").unwrap().self_managed_agent);

    let delete = eks.delete_addon().cluster_name("prod-eu").addon_name(AGENT).preserve(true);
    delete.send().await.unwrap_or_else(|error| panic!("{}", DisplayErrorContext(error)));
    assert!(aws.addon(REGION, "prod-eu", AGENT).unwrap().preserve);
    assert_eq!(
        aws.calls().of("DeleteAddon").lines(),
        ["eks eu-west-1 DeleteAddon prod-eu eks-pod-identity-agent preserve"]
    );
}

#[tokio::test]
async fn a_cluster_tells_how_it_is_reached() {
    let aws = fake().await;
    let hidden = Cluster::named("hidden").authentication_mode("API").private_endpoint();
    aws.add_cluster(hidden.endpoint("https://127.0.0.1:1", "Q0E="));
    let eks = eks(&aws).await;
    let reached = async |name: &str| {
        let cluster = eks.describe_cluster().name(name).send().await.unwrap().cluster.unwrap();
        let vpc = cluster.resources_vpc_config().unwrap();
        let access = (vpc.endpoint_public_access(), vpc.endpoint_private_access());
        let mode = cluster.access_config().unwrap().authentication_mode().unwrap().as_str().to_owned();
        (mode, access, cluster.endpoint.unwrap(), cluster.certificate_authority.unwrap().data.unwrap())
    };
    let own = "https://prod-eu.eu-west-1.eks.example".to_owned();
    let mixed = "API_AND_CONFIG_MAP".to_owned();
    assert_eq!(reached("prod-eu").await, (mixed, (true, false), own, "ZmFrZQ==".to_owned()));
    let own = "https://127.0.0.1:1".to_owned();
    assert_eq!(reached("hidden").await, ("API".to_owned(), (false, true), own, "Q0E=".to_owned()));
}
