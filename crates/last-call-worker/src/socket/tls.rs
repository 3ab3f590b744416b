//! TLS: rustls with ring, the system's roots, and Mozilla's where the system has none.
//!
//! Owns trust. Refuses the process-wide default provider, of which a user's tree may hold two.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::DialError;

/// What is trusted, read once.
#[derive(Clone)]
pub(super) struct Config(Arc<ClientConfig>);

impl Config {
    /// Reads the system's roots; `SSL_CERT_FILE` and `SSL_CERT_DIR` replace them, and nothing replaces
    /// those.
    pub(super) fn new() -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "trusted roots not read");
        }
        roots.add_parsable_certificates(found.certs);
        let chosen = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
        if roots.is_empty() && !chosen {
            tracing::debug!("the system has no trusted roots: those of Mozilla that are built in hold");
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(Arc::new(config))
    }

    pub(super) async fn wrap(&self, tcp: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, DialError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| DialError::Uri)?;
        TlsConnector::from(self.0.clone())
            .connect(name, tcp)
            .await
            .map_err(|error| DialError::Tls { host: host.to_owned(), error })
    }
}
