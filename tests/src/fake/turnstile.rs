//! A way in without a socket, where each call waits until a test lets it through, and says how.
//!
//! The SDK's clients are the real ones, down to the bytes of requests and answers; what is missing is the network. So
//! a test that polls the clients' futures itself is the only one that moves, knows that nobody does when nothing is
//! woken, and has the same calls in the same order each time.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use tokio::sync::oneshot;

use super::FakeAws;
use super::calls::Call;
use super::params::{Answer, Refusal};
use super::server::Dropped;
use super::state::State;
use super::wire::{self, Asked};

/// How many changes back a stale read can look.
const MOST_PAST: usize = 8;

/// How a call is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It is worked on, and answered.
    Through,
    /// It is answered as it would have been before the last so many changes, those by [`Turnstile::meanwhile`] included.
    ///
    /// IAM and the tag index are eventually consistent, as documented. EKS is seen to be at times ("Association already
    /// exists" after a deletion), so its reads are let lag as well; what it changes it does to what is, and only its
    /// look at the role lags. Two reads need not be of one past, nor the later one of the later.
    Stale(usize),
    /// Too many calls.
    Throttled,
    /// A 500, and no work.
    Broken,
    /// No work, and no answer.
    NotReached,
    /// It is worked on, and the answer is lost.
    Lost,
}

/// A call at the turnstile.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// What [`Turnstile::pass`] knows it by. Later calls have higher ones.
    pub ticket: u64,
    /// Who made it: see [`Turnstile::polling`].
    pub who: usize,
    /// What it asks for.
    pub call: Call,
}

/// See the module. Faults that were added to the fake itself strike nobody here.
#[derive(Clone)]
pub struct Turnstile {
    aws: FakeAws,
    inside: Arc<Mutex<Inside>>,
}

#[derive(Default)]
struct Inside {
    who: usize,
    tickets: u64,
    held: BTreeMap<u64, Held>,
    /// What was before each of the last changes, the oldest first.
    past: VecDeque<Past>,
}

struct Held {
    who: usize,
    asked: Asked,
    /// Closed where the client has given up.
    answer: oneshot::Sender<Result<HttpResponse, ConnectorError>>,
}

impl Turnstile {
    /// The way into this AWS.
    pub fn of(aws: &FakeAws) -> Self {
        Self { aws: aws.clone(), inside: Arc::default() }
    }

    /// The HTTP client for an SDK configuration.
    pub fn client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(Connector { turnstile: self.clone() });
        http_client_fn(move |_, _| connector.clone())
    }

    /// Calls are `who`'s from now on: said before a future is polled that makes some.
    pub fn polling(&self, who: usize) {
        self.lock().who = who;
    }

    /// The calls that wait, in the order in which they came. Those of clients that were dropped are not among them.
    pub fn waiting(&self) -> Vec<Waiting> {
        let mut inside = self.lock();
        inside.held.retain(|_, held| !held.answer.is_closed());
        let held = inside.held.iter();
        held.map(|(ticket, held)| Waiting { ticket: *ticket, who: held.who, call: held.asked.call() })
            .collect()
    }

    /// Lets a call through; nothing where it does not wait any more.
    pub fn pass(&self, ticket: u64, how: Pass) {
        let mut inside = self.lock();
        let Some(held) = inside.held.remove(&ticket) else { return };
        let mut state = self.aws.shared.lock();
        let call = held.asked.call();
        let is_write = call.is_write();
        let past = match how {
            Pass::Stale(changes) => inside.past.get(inside.past.len().saturating_sub(changes)).cloned(),
            _ => None,
        };
        if is_write && !matches!(how, Pass::Throttled | Pass::Broken | Pass::NotReached) {
            inside.remember(&state);
        }
        let (number, _) = state.begin(call);
        let answered = match how {
            Pass::Throttled => Some(Err(held.asked.service.throttle())),
            Pass::Broken => Some(Err(held.asked.service.server_error())),
            Pass::NotReached => None,
            Pass::Through | Pass::Stale(_) => Some(run(&held.asked, past, is_write, &mut state)),
            Pass::Lost => {
                // Done, whatever it came to.
                let _ = held.asked.run(&mut state);
                None
            }
        };
        let answer = match answered {
            Some(answer) => {
                let response = wire::write(held.asked.service, &held.asked.operation, &answer, number);
                let code = answer.as_ref().err().map_or("", |refusal| refusal.code.as_str());
                state.end(number, response.status().as_u16(), code);
                whole(response)
            }
            None => {
                let error = if how == Pass::Lost { "response lost" } else { "connection dropped" };
                state.end(number, 0, error);
                Err(ConnectorError::io(Box::new(Dropped)))
            }
        };
        // Refused only where the client has given up.
        let _ = held.answer.send(answer);
    }

    /// Somebody else's change, which stale reads do not see yet.
    pub fn meanwhile(&self, happens: impl FnOnce(&FakeAws)) {
        self.lock().remember(&self.aws.shared.lock());
        happens(&self.aws);
    }

    /// No read is older than now.
    pub fn forget_the_past(&self) {
        self.lock().past.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // A test that panicked while it held the lock has failed already.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn remember(&mut self, state: &State) {
        if self.past.len() == MOST_PAST {
            self.past.pop_front();
        }
        self.past.push_back(Past::of(state));
    }
}

/// What stale reads see.
#[derive(Clone)]
struct Past {
    clusters: BTreeMap<super::state::Place, super::Cluster>,
    shelves: BTreeMap<super::state::Place, super::state::Shelf>,
    indexes: BTreeMap<String, super::state::Index>,
    roles: BTreeMap<String, super::Role>,
}

impl Past {
    fn of(state: &State) -> Self {
        Self {
            clusters: state.clusters.clone(),
            shelves: state.shelves.clone(),
            indexes: state.indexes.clone(),
            roles: state.roles.clone(),
        }
    }

    /// Changes places with what is.
    fn swap(&mut self, state: &mut State, all: bool) {
        std::mem::swap(&mut self.roles, &mut state.roles);
        if all {
            std::mem::swap(&mut self.clusters, &mut state.clusters);
            std::mem::swap(&mut self.shelves, &mut state.shelves);
            std::mem::swap(&mut self.indexes, &mut state.indexes);
        }
    }
}

/// Does what was asked; in the past, where there is one to do it in.
fn run(asked: &Asked, past: Option<Past>, is_write: bool, state: &mut State) -> Answer {
    let Some(mut past) = past else { return asked.run(state) };
    past.swap(state, !is_write);
    let answer = asked.run(state);
    past.swap(state, !is_write);
    answer
}

/// A response as the SDK takes it. Its body is in memory already.
pub(super) fn whole(response: Response<Full<Bytes>>) -> Result<HttpResponse, ConnectorError> {
    let (parts, body) = response.into_parts();
    let body = match pin!(body.collect()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(body)) => body.to_bytes(),
        Poll::Pending => Bytes::new(),
    };
    let response = Response::from_parts(parts, body.into());
    HttpResponse::try_from(response).map_err(|error| ConnectorError::other(error.into(), None))
}

struct Connector {
    turnstile: Turnstile,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let asked = match understand(request) {
            Ok(asked) => asked,
            Err(refusal) => {
                let error = format!("{}: {}", refusal.code, refusal.message);
                return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into())));
            }
        };
        let (answer, answered) = oneshot::channel();
        let mut inside = self.turnstile.lock();
        inside.tickets += 1;
        let ticket = inside.tickets;
        let who = inside.who;
        inside.held.insert(ticket, Held { who, asked, answer });
        HttpConnectorFuture::new(async move {
            answered.await.unwrap_or_else(|_| Err(ConnectorError::io(Box::new(Dropped))))
        })
    }
}

pub(super) fn understand(request: HttpRequest) -> Result<Asked, Refusal> {
    let broken = |what: &str| Refusal::new(400, "SerializationException", what);
    let request = request.try_into_http1x().map_err(|_| broken("The request is no HTTP/1.1"))?;
    let (parts, body) = request.into_parts();
    let body = body.bytes().map(Bytes::copy_from_slice).ok_or_else(|| broken("The body is a stream"))?;
    let (region, service) = wire::scope(&parts)?;
    wire::read(&parts, &body, region, service)
}
