//! Certificate authorities for tests.

use std::io::Write;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::TLS12;
use tempfile::NamedTempFile;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A file with the authority's certificate, for `extra_ca_file`.
    pub fn file(&self) -> NamedTempFile {
        file(&self.pem)
    }

    /// A server with a certificate for `host`.
    pub fn server(&self, host: &str) -> ServerConfig {
        self.certify(host, |_| {}, rustls::DEFAULT_VERSIONS)
    }

    /// A server that supports no TLS version above 1.2.
    pub fn old_server(&self, host: &str) -> ServerConfig {
        self.certify(host, |_| {}, &[&TLS12])
    }

    /// A server with an expired certificate.
    pub fn expired_server(&self, host: &str) -> ServerConfig {
        let expire = |params: &mut CertificateParams| params.not_after = date_time_ymd(2024, 1, 1);
        self.certify(host, expire, rustls::DEFAULT_VERSIONS)
    }

    fn certify(
        &self,
        host: &str,
        change: impl FnOnce(&mut CertificateParams),
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ServerConfig {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("known versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("they belong together");
        config.ticketer = rustls::crypto::ring::Ticketer::new().expect("tickets");
        config
    }
}

pub fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}
