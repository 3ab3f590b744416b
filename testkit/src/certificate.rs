//! Owns the certificates of test servers, good and bad. Refuses a chain: each signs itself, and a client that is to trust one trusts it alone.

use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A self-signed certificate and its key.
#[derive(Clone)]
pub struct Certificate {
    certificate: String,
    key: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Valid now, for `localhost` and 127.0.0.1.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn localhost() -> Result<Self> {
        Self::make(&["localhost", "127.0.0.1"], |_| {})
    }

    /// For `localhost` and 127.0.0.1, but of the past.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn expired() -> Result<Self> {
        Self::make(&["localhost", "127.0.0.1"], |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// Valid now, but for `host` only.
    ///
    /// # Errors
    /// When `host` is no name, or no key can be made.
    pub fn for_host(host: &str) -> Result<Self> {
        Self::make(&[host], |_| {})
    }

    fn make(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Result<Self> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).context("no certificate can bear this name")?;
        change(&mut params);
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = params.self_signed(&key).context("cannot sign a certificate")?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// The certificate as PEM, for a client that is to trust it.
    pub fn pem(&self) -> &str {
        &self.certificate
    }

    /// The private key as PEM, for a server of another program.
    pub fn key_pem(&self) -> &str {
        &self.key
    }

    /// What a TLS server needs to show this certificate.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>> {
        let certificate =
            CertificateDer::from_pem_slice(self.certificate.as_bytes()).context("not a certificate")?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).context("not a key")?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("ring speaks no TLS")?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .context("the key does not fit its certificate")?;
        Ok(Arc::new(config))
    }
}
