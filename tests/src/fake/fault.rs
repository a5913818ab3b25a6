//! What goes wrong, when, and with which calls.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use super::FakeAws;
use super::calls::Call;

/// Any service or operation, in [`Fault::on`].
pub const ANY: &str = "*";

/// Something that goes wrong with some calls. Made by [`Fault::on`].
#[derive(Clone)]
pub struct Fault {
    calls: Matching,
    pub(super) action: Action,
    seen: u64,
}

impl Fault {
    /// Begins a fault: which service (`eks`, `iam`, `tagging`, `events`, `sqs`) and which of its operations.
    /// [`ANY`] stands for all.
    pub fn on(service: &str, operation: &str) -> Matching {
        Matching {
            service: service.to_owned(),
            operation: operation.to_owned(),
            region: None,
            with: Vec::new(),
            when: When::Every,
        }
    }

    /// Begins a fault of every operation of every service.
    pub fn on_any() -> Matching {
        Self::on(ANY, ANY)
    }

    /// Counts a call, and tells whether this is one that goes wrong.
    pub(super) fn strikes(&mut self, call: &Call) -> bool {
        if !self.calls.matches(call) {
            return false;
        }
        self.seen += 1;
        match self.calls.when {
            When::Every => true,
            When::First(count) => self.seen <= count,
            When::Nth(number) => self.seen == number,
            When::From(number) => self.seen >= number,
        }
    }
}

/// The calls that a fault is about: every one that matches, unless `first` or `nth` says otherwise.
/// What goes wrong makes it a [`Fault`].
#[derive(Debug, Clone)]
pub struct Matching {
    service: String,
    operation: String,
    region: Option<String>,
    with: Vec<(String, String)>,
    when: When,
}

#[derive(Debug, Clone, Copy)]
enum When {
    Every,
    First(u64),
    Nth(u64),
    From(u64),
}

#[derive(Clone)]
pub(super) enum Action {
    Throttle,
    ServerError,
    AccessDenied,
    Error { code: String, status: u16, message: String },
    Hang,
    DropConnection,
    LoseResponse,
    FailEntries { count: usize, code: String },
    Meanwhile(Arc<dyn Fn(&FakeAws) + Send + Sync>),
    Wait(Gate),
}

impl Matching {
    /// Only calls signed for this region.
    #[must_use]
    pub fn region(mut self, region: &str) -> Self {
        self.region = Some(region.to_owned());
        self
    }

    /// Only calls that have this text as a parameter, such as `clusterName` or `RoleName`.
    #[must_use]
    pub fn with(mut self, parameter: &str, text: &str) -> Self {
        self.with.push((parameter.to_owned(), text.to_owned()));
        self
    }

    /// Only the first `count` matching calls.
    #[must_use]
    pub fn first(mut self, count: u64) -> Self {
        self.when = When::First(count);
        self
    }

    /// Only the matching call of this number, from 1.
    #[must_use]
    pub fn nth(mut self, number: u64) -> Self {
        self.when = When::Nth(number);
        self
    }

    /// The matching call of this number, from 1, and all after it.
    #[must_use]
    pub fn from_nth(mut self, number: u64) -> Self {
        self.when = When::From(number);
        self
    }

    fn matches(&self, call: &Call) -> bool {
        let is = |wanted: &str, found: &str| wanted == ANY || wanted == found;
        is(&self.service, &call.service)
            && is(&self.operation, &call.operation)
            && self.region.as_ref().is_none_or(|region| *region == call.region)
            && self
                .with
                .iter()
                .all(|(name, text)| call.detail.get(name).and_then(Value::as_str) == Some(text))
    }

    fn then(self, action: Action) -> Fault {
        Fault { calls: self, action, seen: 0 }
    }

    /// Too many calls, as the service says it: EKS with 429 ThrottlingException, IAM with 400 Throttling.
    pub fn throttle(self) -> Fault {
        self.then(Action::Throttle)
    }

    /// A 500, as the service says it.
    pub fn server_error(self) -> Fault {
        self.then(Action::ServerError)
    }

    /// Not authorized, as the service says it.
    pub fn access_denied(self) -> Fault {
        self.then(Action::AccessDenied)
    }

    /// This error, in the service's own shape.
    pub fn error(self, code: &str, status: u16, message: &str) -> Fault {
        self.then(Action::Error { code: code.to_owned(), status, message: message.to_owned() })
    }

    /// No work, and no answer until the client gives up.
    pub fn hang(self) -> Fault {
        self.then(Action::Hang)
    }

    /// No work, and the connection closes without an answer.
    pub fn drop_connection(self) -> Fault {
        self.then(Action::DropConnection)
    }

    /// The work is done, and then the connection closes without an answer.
    pub fn lose_response(self) -> Fault {
        self.then(Action::LoseResponse)
    }

    /// PutEvents and SendMessageBatch answer 200, but their first `count` entries fail with this code.
    pub fn fail_entries(self, count: usize, code: &str) -> Fault {
        self.then(Action::FailEntries { count, code: code.to_owned() })
    }

    /// Not wrong in itself: just before the call is worked on, something else happens in the world.
    pub fn meanwhile(self, happens: impl Fn(&FakeAws) + Send + Sync + 'static) -> Fault {
        self.then(Action::Meanwhile(Arc::new(happens)))
    }

    /// Not wrong in itself: the call is worked on only once the gate is open.
    pub fn wait_for(self, gate: &Gate) -> Fault {
        self.then(Action::Wait(gate.clone()))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("calls", &self.calls).field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// Holds calls back until a test opens it: for two things at once, in a known order.
#[derive(Debug, Clone)]
pub struct Gate {
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self { open: watch::Sender::new(false), waiting: watch::Sender::new(0) }
    }

    /// Lets all calls through, now and later.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Returns once this many calls have come to the gate.
    pub async fn reached_by(&self, calls: usize) {
        // The sender is our own, so it can't be gone.
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting >= calls).await;
    }

    pub(super) async fn pass(&self) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}
