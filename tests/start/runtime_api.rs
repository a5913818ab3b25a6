//! Lambda's side of its runtime API: gives events, takes answers, and notes when.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use podgrant_tests::endpoint::now;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

pub struct RuntimeApi {
    address: String,
    give: UnboundedSender<String>,
    asked: UnboundedReceiver<u64>,
    answered: UnboundedReceiver<u64>,
    shared: Arc<Shared>,
    server: AbortHandle,
}

struct Shared {
    events: tokio::sync::Mutex<UnboundedReceiver<String>>,
    asked: UnboundedSender<u64>,
    answered: UnboundedSender<u64>,
    last_answer: Mutex<String>,
}

impl RuntimeApi {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port of the loopback")?;
        let address = listener.local_addr()?.to_string();
        let (give, events) = unbounded_channel();
        let (asked_sender, asked) = unbounded_channel();
        let (answered_sender, answered) = unbounded_channel();
        let shared = Arc::new(Shared {
            events: tokio::sync::Mutex::new(events),
            asked: asked_sender,
            answered: answered_sender,
            last_answer: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let shared = Arc::clone(&serving);
                let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(Self { address, give, asked, answered, shared, server: server.abort_handle() })
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// When the function next asked for work.
    pub async fn asked(&mut self) -> Result<u64> {
        self.asked.recv().await.context("the function is gone")
    }

    /// Gives it an event, and tells when.
    pub async fn give(&mut self, event: &Value) -> Result<u64> {
        let text = event.to_string();
        let given = now();
        self.give.send(text)?;
        Ok(given)
    }

    /// When it answered.
    pub async fn answered(&mut self) -> Result<u64> {
        self.answered.recv().await.context("the function is gone")
    }

    pub fn last_answer(&self) -> String {
        self.shared.last_answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    if request.uri().path().ends_with("/next") {
        let _ = shared.asked.send(now());
        let event = shared.events.lock().await.recv().await.unwrap_or_default();
        let mut response = Response::new(Full::new(Bytes::from(event)));
        let headers = response.headers_mut();
        let deadline = UNIX_EPOCH.elapsed().unwrap_or_default().as_millis() + 300_000;
        for (name, value) in [
            ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned()),
            ("lambda-runtime-deadline-ms", deadline.to_string()),
            (
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:eu-west-1:111122223333:function:bench".to_owned(),
            ),
            ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700".to_owned()),
        ] {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        }
        return Ok(response);
    }
    let body = request.into_body().collect().await?.to_bytes();
    *shared.last_answer.lock().unwrap_or_else(PoisonError::into_inner) =
        String::from_utf8_lossy(&body).into_owned();
    let _ = shared.answered.send(now());
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}
