//! From a connection to an answer, with what goes wrong on the way.

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::fault::Action;
use super::params::Refusal;
use super::wire::{self, Asked, Service};
use super::{FakeAws, Shared, record};

/// The largest request taken: more than any AWS service here takes.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// No answer: hyper closes the connection.
#[derive(Debug)]
pub(super) struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection dropped on purpose")
    }
}

impl std::error::Error for Dropped {}

/// Answers until it is dropped, and its connections with it.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // The client's trouble, or too many open files: in that case others must get on with theirs.
                    tokio::task::yield_now().await;
                    continue;
                };
                // Answers are small: waiting to fill a packet would cost 40 ms each.
                let _ = stream.set_nodelay(true);
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Dropped> {
    let (parts, body) = request.into_parts();
    let (region, service) = match wire::scope(&parts) {
        Ok(scope) => scope,
        Err(refusal) => return Ok(wire::write(Service::Eks, "", &Err(refusal), 0)),
    };
    let asked = match Limited::new(body, MOST_BYTES).collect().await {
        Ok(body) => wire::read(&parts, &body.to_bytes(), region, service),
        Err(_) => Err(Refusal::new(400, "SerializationException", "The body is too long or broke off")),
    };
    match asked {
        Ok(asked) => {
            let call = asked.call();
            record::note(&wire::access_key(&parts), &call.service, &call.operation);
            work(shared, asked).await
        }
        Err(refusal) => Ok(wire::write(service, "", &Err(refusal), 0)),
    }
}

/// Does what was asked, unless something goes wrong.
pub(super) async fn work(shared: Arc<Shared>, mut asked: Asked) -> Result<Response<Full<Bytes>>, Dropped> {
    let call = asked.call();
    let (number, actions, latency) = {
        let mut state = shared.lock();
        let (number, actions) = state.begin(call);
        (number, actions, shared.latency())
    };
    if latency > Duration::ZERO {
        #[expect(clippy::disallowed_methods, reason = "AWS takes its time; no function is waiting here")]
        tokio::time::sleep(latency).await;
    }
    let (mut refused, mut lose) = (None, false);
    if !shared.limits().admits(&asked.call()) {
        refused = Some(asked.service.throttle());
    }
    for action in actions {
        let end = |error: &str| shared.lock().end(number, 0, error);
        match action {
            Action::Meanwhile(happens) => happens(&FakeAws::without_server(Arc::clone(&shared))),
            Action::Wait(gate) => gate.pass().await,
            Action::FailEntries { count, code } => asked.params.failing = Some((count, code)),
            Action::LoseResponse => lose = true,
            Action::Hang => {
                end("hang");
                pending::<()>().await;
            }
            Action::DropConnection => {
                end("connection dropped");
                return Err(Dropped);
            }
            // Where several faults strike, the first one is what the client sees.
            Action::Throttle => drop(refused.get_or_insert(asked.service.throttle())),
            Action::ServerError => drop(refused.get_or_insert(asked.service.server_error())),
            Action::AccessDenied => {
                refused.get_or_insert(asked.service.access_denied(&asked.operation));
            }
            Action::Error { code, status, message } => {
                refused.get_or_insert(Refusal::new(status, code, message));
            }
        }
    }
    let mut state = shared.lock();
    let answer = match refused {
        Some(refusal) => Err(refusal),
        None => asked.run(&mut state),
    };
    if lose {
        state.end(number, 0, "response lost");
        return Err(Dropped);
    }
    let response = wire::write(asked.service, &asked.operation, &answer, number);
    let code = answer.as_ref().err().map_or("", |refusal| refusal.code.as_str());
    state.end(number, response.status().as_u16(), code);
    Ok(response)
}

impl Shared {
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, super::state::State> {
        // A test that panicked while it held the lock has failed already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
