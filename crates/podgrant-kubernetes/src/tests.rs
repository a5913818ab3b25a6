//! What becomes of answers that are no answers. The real ones are tested against a real API server, in `tests/`.

use std::net::SocketAddr;

use podgrant_core::model::KubernetesApi;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A server that answers each request with this text, whatever was asked; none: with silence.
async fn server(answer: Option<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut connection, _)) = listener.accept().await {
            let Some(answer) = &answer else {
                silent.push(connection);
                continue;
            };
            let mut request = [0; 8192];
            let _ = connection.read(&mut request).await;
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    address
}

fn http(status: &str, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"))
}

/// A certificate of nobody's, so that nobody is trusted by it.
const NOBODY: &str = include_str!("nobody.pem");

fn access(endpoint: String) -> KubernetesAccess {
    let api = KubernetesApi {
        endpoint,
        certificate_authority: STANDARD.encode(NOBODY),
        public: true,
        takes_access_entries: true,
    };
    KubernetesAccess { api, token: "k8s-aws-v1.token".to_owned() }
}

async fn told(access: KubernetesAccess) -> String {
    let asked = if access.api.endpoint.starts_with("http:") {
        // These servers speak no TLS.
        asked(&access, async |client| look(client, &access).await).await
    } else {
        agent_pods(access).await
    };
    match asked {
        Ok(pods) => format!("{pods:?}"),
        Err(Unseen::Refused(why)) => format!("refused: {why}"),
        Err(Unseen::Unreachable(why)) => format!("unreachable: {why}"),
    }
}

async fn answered(answer: Option<String>) -> String {
    let address = server(answer).await;
    told(access(format!("http://{address}"))).await.replace(&address.to_string(), "ADDRESS")
}

#[tokio::test]
async fn an_answer_that_is_none_is_said_in_words() {
    let status = |code: u16, reason: &str, message: &str| {
        format!(
            r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"{message}","reason":"{reason}","code":{code}}}"#
        )
    };
    let long = "x".repeat(1000);
    let rows = [
        ("unknown to it", http("401 Unauthorized", &status(401, "Unauthorized", "Unauthorized"))),
        (
            "not allowed",
            http("403 Forbidden", &status(403, "Forbidden", r#"daemonsets.apps \"x\" is forbidden"#)),
        ),
        ("a proxy's refusal", http("403 Forbidden", "<html>no</html>")),
        ("a proxy's long refusal", http("403 Forbidden", &"y".repeat(1000))),
        ("no such DaemonSet", http("404 Not Found", &status(404, "NotFound", "not found"))),
        ("a 404 of somebody else's", http("404 Not Found", "<html>nothing here</html>")),
        ("overloaded", http("429 Too Many Requests", &status(429, "TooManyRequests", "try later"))),
        ("a proxy's page", http("502 Bad Gateway", &long)),
        ("garbage", http("200 OK", "{]")),
        ("something else", http("200 OK", r#"{"kind":"List","items":7}"#)),
        ("not HTTP", Some("SSH-2.0-OpenSSH\r\n".to_owned())),
        ("hangs up", Some(String::new())),
    ];
    let mut shown = String::new();
    for (name, answer) in rows {
        shown.push_str(&format!("{name}\n    {}\n", answered(answer).await));
    }
    insta::assert_snapshot!(shown, @r#"
    unknown to it
        refused: the cluster's Kubernetes API refused podgrant (401: Unauthorized)
    not allowed
        refused: the cluster's Kubernetes API refused podgrant (403: daemonsets.apps "x" is forbidden)
    a proxy's refusal
        refused: the cluster's Kubernetes API refused podgrant (403: <html>no</html>)
    a proxy's long refusal
        refused: the cluster's Kubernetes API refused podgrant (403: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy…)
    no such DaemonSet
        None
    a 404 of somebody else's
        unreachable: the cluster's Kubernetes API answered 404: <html>nothing here</html>
    overloaded
        unreachable: the cluster's Kubernetes API answered 429: try later
    a proxy's page
        unreachable: the cluster's Kubernetes API answered 502: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
    garbage
        unreachable: the cluster's Kubernetes API answered what is not Kubernetes: key must be a string at line 1 column 2
    something else
        unreachable: the cluster's Kubernetes API answered what is not Kubernetes: invalid value: string "List", expected DaemonSet at line 1 column 14
    not HTTP
        unreachable: the cluster's Kubernetes API could not be reached: invalid HTTP version parsed
    hangs up
        unreachable: the cluster's Kubernetes API could not be reached: connection closed before message completed
    "#);
}

#[tokio::test]
async fn only_kubernetes_own_no_means_that_nothing_was_written() {
    let status = |code: u16, reason: &str| {
        let text = format!("{code} {reason}");
        http(
            &text,
            &format!(
                r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"so it is","reason":"{reason}","code":{code}}}"#
            ),
        )
    };
    let no = |code: u16, reason: &str, message: &str| {
        let text = format!("{code} {reason}");
        let status = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code,
        });
        http(&text, &status.to_string())
    };
    let webhook = r#"admission webhook "freeze.example.com" denied the request: no changes on Fridays"#;
    let policy = "deployments.apps \"api\" is forbidden: ValidatingAdmissionPolicy 'freeze' with binding 'all' denied request: no";
    let rows = [
        ("a webhook's no, without a code", no(400, "", webhook)),
        ("a webhook's no, with one", no(403, "Forbidden", webhook)),
        ("a webhook's no, with a strange one", no(500, "", webhook)),
        ("a policy's no", no(403, "Forbidden", policy)),
        (
            "a webhook that is not there",
            no(500, "InternalError", "failed calling webhook \"freeze.example.com\""),
        ),
        ("changed", status(409, "Conflict")),
        ("gone", status(404, "NotFound")),
        ("not allowed", status(403, "Forbidden")),
        ("not taken", status(422, "Invalid")),
        ("too many", status(429, "TooManyRequests")),
        ("its own trouble", status(500, "InternalError")),
        ("a 409 of somebody else's", http("409 Conflict", "<html>")),
        ("a 404 of somebody else's", http("404 Not Found", "<html>")),
        ("a proxy's page", http("502 Bad Gateway", "<html>")),
        ("garbage", http("200 OK", "{]")),
        ("hangs up", Some(String::new())),
        ("silence", None),
    ];
    let mut shown = String::new();
    for (name, answer) in rows {
        let address = server(answer).await;
        let client = client(&access(format!("http://{address}"))).unwrap();
        let api: Api<DaemonSet> = Api::namespaced(client, "payments");
        let written = rollout::write(api, "api", serde_json::json!({})).await;
        shown.push_str(&format!("{name}\n    {written:?}\n"));
    }
    insta::assert_snapshot!(shown);
}

#[tokio::test]
async fn silence_ends_in_words_too() {
    insta::assert_snapshot!(answered(None).await, @"unreachable: the cluster's Kubernetes API could not be reached: timed out");
}

#[tokio::test]
async fn a_token_is_sent_to_nobody_in_clear() {
    let address = server(http("200 OK", "{}")).await;
    match agent_pods(access(format!("http://{address}"))).await {
        Err(Unseen::Unreachable(why)) => assert!(why.contains("not https"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nobody_there_is_said() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut private = access(format!("https://{address}"));
    insta::assert_snapshot!(told(private.clone()).await, @"unreachable: the cluster's Kubernetes API could not be reached: Connection refused (os error 111)");
    private.api.public = false;
    insta::assert_snapshot!(told(private).await, @"unreachable: the cluster's Kubernetes API could not be reached (its endpoint is private): Connection refused (os error 111)");
}

#[tokio::test]
async fn what_eks_says_of_a_cluster_may_be_unusable() {
    let unusable = |change: fn(&mut KubernetesApi)| {
        let mut access = access("https://127.0.0.1:1".to_owned());
        change(&mut access.api);
        told(access)
    };
    let rows = [
        unusable(|api| api.endpoint = "not a URL".to_owned()),
        unusable(|api| api.certificate_authority = "not base64!".to_owned()),
        unusable(|api| api.certificate_authority = STANDARD.encode("no certificate")),
        unusable(|api| {
            api.certificate_authority =
                STANDARD.encode("-----BEGIN CERTIFICATE-----\nbG9jYWw=\n-----END CERTIFICATE-----\n");
        }),
    ];
    let mut shown = Vec::new();
    for told in rows {
        shown.push(told.await);
    }
    insta::assert_snapshot!(shown.join("\n"), @r#"
    unreachable: EKS gave the cluster's endpoint as "not a URL", which is not https
    unreachable: EKS gave the cluster's certificate authority in a form that can't be used: Invalid symbol 32, offset 3.
    unreachable: EKS gave the cluster's certificate authority in a form that can't be used: it holds no certificate
    unreachable: EKS gave the cluster's certificate authority in a form that can't be used: rustls tls error: failed to add a root certificate: invalid peer certificate: BadEncoding
    "#);
}
