//! Sets up the transports of sinks, before the sinks start: everything that may fail because of the
//! configuration fails here.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use super::http::{Client, HttpTransport};
use super::tcp::TcpTransport;
use crate::config::{CommonOptions, Output, RestSink, SinkName, TcpSink};
use crate::event_log::StorageError;
use crate::net::Dialer;
use crate::net::resolver::Lookups;
use crate::net::tls::{self, TlsSetupError};

/// Why the sinks cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SinkSetupError {
    /// RocksDB failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A CA file cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The HTTP client refused its configuration.
    #[error("HTTP cannot be set up: {0}")]
    Http(#[from] reqwest::Error),
}

/// The configuration of a sink over either transport.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SinkSettings {
    Tcp(Box<TcpSink>),
    Rest(Box<RestSink>),
}

impl SinkSettings {
    /// The sinks in the order of the configuration, TCP sinks first.
    pub(super) fn all(output: &Output) -> impl Iterator<Item = Self> {
        let tcp = output.tcp_sinks().into_iter().map(|sink| Self::Tcp(Box::new(sink)));
        tcp.chain(output.rest_sinks().into_iter().map(|sink| Self::Rest(Box::new(sink))))
    }

    pub(super) const fn name(&self) -> &SinkName {
        match self {
            Self::Tcp(sink) => &sink.name,
            Self::Rest(sink) => &sink.name,
        }
    }

    pub(super) const fn common(&self) -> &CommonOptions {
        match self {
            Self::Tcp(sink) => &sink.common,
            Self::Rest(sink) => &sink.common,
        }
    }

    /// `tcp` or `http`.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Rest(_) => "http",
        }
    }

    /// The address without secrets.
    pub(super) fn shown_address(&self) -> &str {
        match self {
            Self::Tcp(sink) => sink.address.as_str(),
            Self::Rest(sink) => sink.address.without_query(),
        }
    }
}

#[derive(Debug)]
pub(super) enum AnyTransport {
    Tcp(TcpTransport),
    Http(HttpTransport),
}

/// Sets up transports one by one.
#[derive(Debug)]
pub(super) struct Setup {
    lookups: Arc<Lookups>,
    /// The system's certificate authorities, loaded on first use.
    authorities: Option<Arc<RootCertStore>>,
}

impl Setup {
    pub(super) const fn new(lookups: Arc<Lookups>) -> Self {
        Self { lookups, authorities: None }
    }

    /// Sets up the transport of a sink. May read files.
    ///
    /// # Errors
    /// When a CA file or an option of HTTP cannot be used.
    pub(super) fn transport(&mut self, settings: &SinkSettings) -> Result<AnyTransport, SinkSetupError> {
        let lookups = Arc::clone(&self.lookups);
        Ok(match settings.clone() {
            SinkSettings::Tcp(sink) => {
                let TcpSink { name, address, options, .. } = *sink;
                let tls = self.tls(&name, options.tls, options.ca_file.as_deref())?;
                let dialer = Dialer::new(lookups, Arc::new(tls));
                AnyTransport::Tcp(TcpTransport::new(address, options, dialer))
            }
            SinkSettings::Rest(sink) => {
                let RestSink { name, address, options, .. } = *sink;
                let tls = self.tls(&name, address.is_https(), options.ca_file.as_deref())?;
                let client = Client::new(address, options.clone(), tls, lookups)?;
                AnyTransport::Http(HttpTransport::new(client, options))
            }
        })
    }

    /// Returns the TLS configuration of a sink. A sink without TLS needs no authorities, so none
    /// are read.
    fn tls(
        &mut self,
        name: &SinkName,
        is_secure: bool,
        ca_file: Option<&Path>,
    ) -> Result<ClientConfig, TlsSetupError> {
        if !is_secure {
            return tls::config_of(RootCertStore::empty());
        }
        let authorities = self.authorities.get_or_insert_with(|| Arc::new(tls::system_authorities()));
        if ca_file.is_none() {
            return tls::config_of(Arc::clone(authorities)); // One copy for all sinks.
        }
        let authorities = RootCertStore::clone(authorities);
        let key = format!("ca_file of the sink {}", name.as_str());
        tls::config_of(tls::trusted(authorities, &key, ca_file)?)
    }
}
