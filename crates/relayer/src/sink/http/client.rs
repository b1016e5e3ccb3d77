//! Posts batches to one sink, and reads a bounded part of each response.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use rustls::ClientConfig;

use super::encode::Batch;
use super::response::Outcome;
use super::secrets::Secrets;
use crate::clock::{system_time, unix_secs};
use crate::config::{Compression, HttpUrl, RestOptions};
use crate::event_log::LogId;
use crate::limits::{ADDRESSES_TRIED_MAX, ANSWER_BYTES_MAX, DIAL_STEP_TIMEOUT};
use crate::net::resolver::{LookupError, Lookups};

#[derive(Debug)]
pub(in crate::sink) struct Client {
    http: reqwest::Client,
    url: HttpUrl,
    options: RestOptions,
    secrets: Secrets,
}

impl Client {
    /// Keeps up to `concurrency` idle connections.
    pub(in crate::sink) fn new(
        url: HttpUrl,
        options: RestOptions,
        mut tls: ClientConfig,
        lookups: Arc<Lookups>,
    ) -> Result<Self, reqwest::Error> {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let http = reqwest::Client::builder()
            .user_agent(concat!("moltrade-relayer/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(Names(lookups)))
            .redirect(Policy::none())
            .no_proxy()
            // The delivery repeats requests itself, to keep their order.
            .retry(reqwest::retry::never())
            .connect_timeout(DIAL_STEP_TIMEOUT)
            .timeout(options.timeout)
            .pool_max_idle_per_host(options.concurrency.get())
            .tcp_nodelay(true)
            .build()?;
        let secrets = Secrets::of(&url, &options);
        Ok(Self { http, url, options, secrets })
    }

    pub(super) async fn send(&self, batch: &mut Batch) -> Outcome {
        let compression = self.options.compression;
        let body = match batch.encode(self.options.batch.is_some(), compression).await {
            Ok(body) => body,
            Err(error) => {
                return Outcome::Retry {
                    reason: format!("the body cannot be encoded: {error}"),
                    after: None,
                };
            }
        };
        let mut request = self.http.post(self.url.as_str()).headers(self.options.headers.map().clone());
        request = request.header(CONTENT_TYPE, "application/json");
        if let Some(entry) = batch.entries().first() {
            request = request.header(LogId::HEADER, entry.log.to_string());
        }
        if compression != Compression::None {
            request = request.header(CONTENT_ENCODING, HeaderValue::from_static(compression.into()));
        }
        if let Some(keys) = self.options.signing_keys() {
            let time = unix_secs();
            let id = batch.id();
            let signature = keys.sign(&id, time, &body);
            request = request
                .header("webhook-id", id)
                .header("webhook-timestamp", time)
                .header("webhook-signature", signature);
        }
        match request.body(body).send().await {
            Ok(response) => self.judge(response).await,
            Err(error) if is_not_processed(&error) => Outcome::NotProcessed { reason: self.describe(error) },
            Err(error) => Outcome::Retry { reason: self.describe(error), after: None },
        }
    }

    /// The status decides, even if the body cannot be read. Reading the whole body keeps the
    /// connection open for the next request.
    async fn judge(&self, mut response: reqwest::Response) -> Outcome {
        let mut body = Vec::new();
        while body.len() < ANSWER_BYTES_MAX
            && let Ok(Some(bytes)) = response.chunk().await
        {
            body.extend_from_slice(&bytes);
        }
        let body = String::from_utf8_lossy(&body);
        Outcome::of(
            (response.status(), response.headers(), &*body),
            (&self.url, &self.secrets),
            system_time(),
        )
    }

    fn describe(&self, error: reqwest::Error) -> String {
        if error.is_timeout() && !error.is_connect() {
            return format!("it did not answer within {} s", self.options.timeout.as_secs());
        }
        let is_connect = error.is_connect();
        let error = error.without_url();
        // HTTP/2 errors quote text from the server.
        let cause = causes(&error).last().map(|cause| self.secrets.redact(&cause.to_string()));
        let cause = cause.unwrap_or_default();
        match is_connect {
            true => format!("it cannot be connected to: {cause}"),
            false => format!("the request failed: {cause}"),
        }
    }
}

/// The error and its chain of sources.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Whether the server certainly did not process the request, so that it can be sent again on
/// another connection. A server does not process streams that it reset with REFUSED_STREAM, or that
/// come after the last stream of a GOAWAY with NO_ERROR (nginx sends one after
/// `keepalive_requests`). A canceled request was never sent.
fn is_not_processed(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let is_going_away = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_remote() && (is_refused || is_going_away);
        }
        let is_canceled = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        // The pool cancels a request that waits for its own connection when another connection
        // turns out to use HTTP/2. The error type has no accessor for this case.
        let is_canceled_by_pool = cause
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(|error| error.to_string() == "client error (Canceled)");
        is_canceled || is_canceled_by_pool
    })
}

/// Resolves names on dedicated threads, so that slow DNS does not block other work.
#[derive(Debug)]
struct Names(Arc<Lookups>);

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let lookups = Arc::clone(&self.0);
        Box::pin(async move {
            let found = lookups.addresses(name.as_str()).await.map_err(|error| match error {
                LookupError::NoSuchName => format!("{} has no address", name.as_str()),
                LookupError::Timeout => "DNS does not answer".to_owned(),
                LookupError::Failed(error) => error.to_string(),
            })?;
            let addresses = found.into_iter().take(ADDRESSES_TRIED_MAX).map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}
