//! TLS before the fake, as AWS's endpoints have it, and when what went through it.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Microseconds since 1970: the clock that other processes have, too.
pub fn now() -> u64 {
    u64::try_from(UNIX_EPOCH.elapsed().unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// A TLS server before a plain one.
pub struct Endpoint {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: AbortHandle,
}

/// A piece of what went through, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Asked(u64),
    Answered(u64),
}

/// A root made for this process, and a certificate of it for localhost.
struct Identity {
    root_pem: String,
    config: Arc<ServerConfig>,
}

fn identity() -> Result<&'static Identity> {
    static MADE: OnceLock<Identity> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made);
    }
    // As AWS's endpoints have them: RSA from the leaf to the root.
    let root_key = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "podgrant bench");
    let root = params.self_signed(&root_key)?;
    let issuer = Issuer::new(params, root_key);
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone(), root.der().clone()], key)?;
    Ok(MADE.get_or_init(|| Identity { root_pem: root.pem(), config: Arc::new(config) }))
}

impl Endpoint {
    /// Before this HTTP server.
    ///
    /// # Errors
    /// No port, or no certificate could be made.
    pub async fn before(server: &str) -> Result<Self> {
        let behind = server.strip_prefix("http://").context("a plain server")?.to_owned();
        let acceptor = TlsAcceptor::from(Arc::clone(&identity()?.config));
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port of the loopback")?;
        let url = format!("https://localhost:{}", listener.local_addr()?.port());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let noted = Arc::clone(&seen);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, behind, noted) = (acceptor.clone(), behind.clone(), Arc::clone(&noted));
                tokio::spawn(async move {
                    // A client that went is no trouble of ours.
                    let _ = carry(stream, &acceptor, &behind, &noted).await;
                });
            }
        });
        Ok(Self { url, seen, server: server.abort_handle() })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The root that its certificate is by, as PEM.
    ///
    /// # Errors
    /// None could be made.
    pub fn root(&self) -> Result<&'static str> {
        Ok(&identity()?.root_pem)
    }

    /// A file with the endpoint's own root and Amazon's. Podgrant has the latter in it and reads no file: a file of so
    /// few is what comes closest, for nobody but Amazon makes certificates of its roots.
    ///
    /// # Errors
    /// It can't be written.
    pub fn bundle(&self) -> Result<String> {
        static WRITTEN: OnceLock<PathBuf> = OnceLock::new();
        if let Some(path) = WRITTEN.get() {
            return Ok(path.display().to_string());
        }
        let amazon = podgrant_aws::http::AMAZON_ROOTS;
        let path = std::env::temp_dir().join(format!("podgrant-bench-{}.pem", std::process::id()));
        fs::write(&path, format!("{amazon}\n{}", identity()?.root_pem))?;
        Ok(WRITTEN.get_or_init(|| path).display().to_string())
    }

    /// Forgets what went through.
    pub fn forget(&self) {
        self.lock().clear();
    }

    /// When the first request came since.
    pub fn first_request(&self) -> Option<u64> {
        self.lock().iter().find_map(|seen| match seen {
            Seen::Asked(at) => Some(*at),
            Seen::Answered(_) => None,
        })
    }

    /// Microseconds from the end of each answer to the next request, the longest first.
    pub fn gaps(&self, count: usize) -> Vec<u64> {
        let seen = self.lock().clone();
        let mut gaps: Vec<u64> = seen
            .windows(2)
            .filter_map(|pair| match pair {
                [Seen::Answered(answered), Seen::Asked(asked)] => Some(asked - answered),
                _ => None,
            })
            .collect();
        gaps.sort_unstable_by(|a, b| b.cmp(a));
        gaps.truncate(count);
        gaps
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn carry(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    behind: &str,
    noted: &Mutex<Vec<Seen>>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let (mut from_client, mut to_client) = tokio::io::split(acceptor.accept(stream).await?);
    let server = TcpStream::connect(behind).await?;
    server.set_nodelay(true)?;
    let (mut from_server, mut to_server) = server.into_split();
    let note = |seen| noted.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    let forth = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_client.read(&mut buffer).await?;
            if length == 0 {
                return to_server.shutdown().await;
            }
            note(Seen::Asked(now()));
            to_server.write_all(&buffer[..length]).await?;
        }
    };
    let back = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_server.read(&mut buffer).await?;
            if length == 0 {
                return to_client.shutdown().await;
            }
            to_client.write_all(&buffer[..length]).await?;
            to_client.flush().await?;
            note(Seen::Answered(now()));
        }
    };
    tokio::try_join!(forth, back)?;
    Ok(())
}
