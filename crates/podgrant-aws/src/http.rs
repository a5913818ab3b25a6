//! The way to AWS's endpoints: one HTTP client, and one pool of connections, for all services and regions.
//!
//! An SDK client by itself makes its own, and reads every root that the system trusts: a third of a start. AWS's
//! endpoints have certificates by Amazon's roots, so those are tried first, and the system's are read where they don't
//! do: behind a proxy that looks into TLS, or in a partition with other authorities. That trusts nobody more than the
//! system does, as long as the system trusts Amazon.

use std::env;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

mod pace;

pub use pace::paced;

/// Amazon Root CA 1 to 4 and Starfield Services Root Certificate Authority - G2 (Amazon Trust Services, "Root CAs"). The
/// first ends in 2037.
pub const AMAZON_ROOTS: &str = include_str!("amazon-roots.pem");

/// Who names other roots than the system's means those, and no others (as OpenSSL reads them).
const NAMED: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The client for AWS's endpoints.
pub(crate) fn client() -> SharedHttpClient {
    if NAMED.iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty())) {
        return trusting(Roots::System);
    }
    first_or_else(Roots::Pem(AMAZON_ROOTS), Roots::System)
}

/// Whom a client trusts.
#[derive(Debug, Clone, Copy)]
pub enum Roots<'a> {
    /// These, as PEM.
    Pem(&'a str),
    /// Those of the system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    System,
}

/// A client that trusts these roots, and where a certificate is not by them, those.
pub fn first_or_else(first: Roots<'_>, then: Roots<'_>) -> SharedHttpClient {
    let clients = Clients { first: trusting(first), then: trusting(then), first_fails: Arc::default() };
    SharedHttpClient::new(clients)
}

fn trusting(roots: Roots<'_>) -> SharedHttpClient {
    let provider = Provider::Rustls(CryptoMode::AwsLc);
    let store = match roots {
        Roots::Pem(pem) => TrustStore::empty().with_pem_certificate(pem),
        Roots::System => TrustStore::default(),
    };
    let context = TlsContext::builder().with_trust_store(store).build();
    // Roots that the SDK itself made can't fail to build.
    match context {
        Ok(context) => lazy(Builder::new().tls_provider(provider).tls_context(context).build_https()),
        Err(_) => lazy(Builder::new().tls_provider(provider).build_https()),
    }
}

/// Without a look at its roots before the first request: each SDK client that is made would have one.
fn lazy(client: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(Lazy(client))
}

#[derive(Debug)]
struct Lazy(SharedHttpClient);

impl HttpClient for Lazy {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        self.0.http_connector(settings, components)
    }
}

#[derive(Debug)]
struct Clients {
    first: SharedHttpClient,
    then: SharedHttpClient,
    /// A certificate was by other roots.
    first_fails: Arc<AtomicBool>,
}

impl HttpClient for Clients {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(FirstOrElse {
            first: self.first.http_connector(settings, components),
            then: self.then.clone(),
            settings: settings.clone(),
            components: components.clone(),
            first_fails: Arc::clone(&self.first_fails),
        })
    }
}

struct FirstOrElse {
    first: SharedHttpConnector,
    then: SharedHttpClient,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
    first_fails: Arc<AtomicBool>,
}

impl fmt::Debug for FirstOrElse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FirstOrElse")
    }
}

impl HttpConnector for FirstOrElse {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if self.first_fails.load(Ordering::Relaxed) {
            return self.then.http_connector(&self.settings, &self.components).call(request);
        }
        // A request that can't be sent again is one with a stream, and podgrant sends none.
        let again = request.try_clone();
        let first = self.first.call(request);
        let (then, settings, components) =
            (self.then.clone(), self.settings.clone(), self.components.clone());
        let first_fails = Arc::clone(&self.first_fails);
        HttpConnectorFuture::new(async move {
            match (first.await, again) {
                (Err(error), Some(again)) if is_about_a_certificate(&error) => {
                    if !first_fails.swap(true, Ordering::Relaxed) {
                        tracing::info!(
                            "an endpoint's certificate is not by Amazon's roots: the system's are used"
                        );
                    }
                    then.http_connector(&settings, &components).call(again).await
                }
                (answer, _) => answer,
            }
        })
    }
}

/// Whether a connection failed for who its other end said to be: nothing was sent over it then.
fn is_about_a_certificate(error: &ConnectorError) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        // An I/O error hides what it is made of from its source.
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match inside {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    false
}
