//! Sends posts to one sink, and reads no more of its answers than is worth reading.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use rustls::ClientConfig;

use super::answer::Answer;
use super::post::Post;
use super::secrets::Secrets;
use crate::clock::{system_time, unix_secs};
use crate::config::{Compression, HttpUrl, RestOptions};
use crate::event_log::LogId;
use crate::limits::{ADDRESSES_TRIED_MAX, ANSWER_BYTES_MAX, DIAL_STEP_TIMEOUT};
use crate::net::resolver::{LookupError, Lookups};

/// What sends posts to one sink.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    url: HttpUrl,
    options: RestOptions,
    secrets: Secrets,
}

impl Client {
    /// A client for a sink. It keeps as many connections as there are requests at once.
    ///
    /// # Errors
    /// When the library refuses the set-up.
    pub fn new(
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
            // Whoever keeps the order repeats.
            .retry(reqwest::retry::never())
            .connect_timeout(DIAL_STEP_TIMEOUT)
            .timeout(options.timeout)
            .pool_max_idle_per_host(options.concurrency.get())
            .tcp_nodelay(true)
            .build()?;
        let secrets = Secrets::of(&url, &options);
        Ok(Self { http, url, options, secrets })
    }

    /// Sends a post, and gives what became of it.
    pub async fn send(&self, post: &mut Post) -> Answer {
        let compression = self.options.compression;
        let body = match post.body(self.options.batch.is_some(), compression).await {
            Ok(body) => body,
            Err(error) => {
                return Answer::Later { reason: format!("its body cannot be made: {error}"), after: None };
            }
        };
        let mut request = self.http.post(self.url.as_str()).headers(self.options.headers.map().clone());
        request = request.header(CONTENT_TYPE, "application/json");
        if let Some(entry) = post.entries().first() {
            request = request.header(LogId::HEADER, entry.log.to_string());
        }
        if compression != Compression::None {
            request = request.header(CONTENT_ENCODING, compression.as_str());
        }
        if let Some(keys) = self.options.signing_keys() {
            let time = unix_secs();
            let id = post.id();
            let signature = keys.sign(&id, time, &body);
            request = request
                .header("webhook-id", id)
                .header("webhook-timestamp", time)
                .header("webhook-signature", signature);
        }
        match request.body(body).send().await {
            Ok(response) => self.judge(response).await,
            Err(error) if is_not_processed(&error) => Answer::NotProcessed { reason: self.describe(error) },
            Err(error) => Answer::Later { reason: self.describe(error), after: None },
        }
    }

    /// The status decides, whatever becomes of the body; but a body that was read to its end leaves the
    /// connection for the next request.
    async fn judge(&self, mut response: reqwest::Response) -> Answer {
        let mut said = Vec::new();
        while said.len() < ANSWER_BYTES_MAX
            && let Ok(Some(bytes)) = response.chunk().await
        {
            said.extend_from_slice(&bytes);
        }
        let said = String::from_utf8_lossy(&said);
        let answered = (response.status(), response.headers(), &*said);
        Answer::of(answered, (&self.url, &self.secrets), system_time())
    }

    fn describe(&self, error: reqwest::Error) -> String {
        if error.is_timeout() && !error.is_connect() {
            return format!("it did not answer within {} s", self.options.timeout.as_secs());
        }
        let is_connect = error.is_connect();
        let error = error.without_url();
        // HTTP/2 errors quote the server's words.
        let cause = causes(&error).last().map(|cause| self.secrets.shown(&cause.to_string()));
        let cause = cause.unwrap_or_default();
        match is_connect {
            true => format!("it cannot be connected to: {cause}"),
            false => format!("the request failed: {cause}"),
        }
    }
}

/// An error and what caused it, down to the first cause.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Whether the server is known not to have processed the request, and wants it on another
/// connection. A server says so of streams after the last one that its GOAWAY names, with NO_ERROR
/// if it is its normal operation, such as nginx's after `keepalive_requests`, and of streams that
/// it resets with REFUSED_STREAM. A canceled request was never sent.
fn is_not_processed(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            let is_refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            let is_going_away = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            return error.is_remote() && (is_refused || is_going_away);
        }
        let is_canceled = cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        // The pool cancels a request that waited for a connection of its own when another
        // connection turned out to speak HTTP/2. It has no accessor for that kind of error.
        let is_canceled_by_pool = cause
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(|error| error.to_string() == "client error (Canceled)");
        is_canceled || is_canceled_by_pool
    })
}

/// Names are looked up on threads of their own, so that DNS that does not answer keeps no others waiting.
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
