//! What is tricky in the fake itself: faults, gates, the lagging tag index, and that it stops.

use std::time::Duration;

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
