//! A way in without a socket: calls take as long as they take, and find the limits that they find, on the clock of the
//! runtime that makes them. Where that clock is paused, hours of AWS pass in moments, and in the same way each time.

use std::fmt;
use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;

use super::server::work;
use super::turnstile::{understand, whole};
use super::{FakeAws, Shared};

struct Road {
    shared: Arc<Shared>,
}

impl FakeAws {
    /// The HTTP client for an SDK configuration that reaches this AWS on the caller's own runtime.
    pub fn road(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(Road { shared: Arc::clone(&self.shared) });
        http_client_fn(move |_, _| connector.clone())
    }
}

impl fmt::Debug for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Road")
    }
}

impl HttpConnector for Road {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let shared = Arc::clone(&self.shared);
        HttpConnectorFuture::new(async move {
            let asked = understand(request).map_err(|refusal| {
                ConnectorError::user(format!("{}: {}", refusal.code, refusal.message).into())
            })?;
            match work(shared, asked).await {
                Ok(response) => whole(response),
                Err(dropped) => Err(ConnectorError::io(Box::new(dropped))),
            }
        })
    }
}
