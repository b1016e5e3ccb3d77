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
use crate::clock::{system_time, unix_secs};
use crate::config::{Compression, HttpUrl, RestOptions};
use crate::event_log::LogId;
use crate::limits::{
    ADDRESSES_TRIED_MAX, ANSWER_BYTES_MAX, ANSWER_SHOWN_MAX, DIAL_STEP_TIMEOUT, SECRET_BYTES_MIN,
};
use crate::relay::resolver::{LookupError, Lookups};

/// What sends posts to one sink.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    url: HttpUrl,
    options: RestOptions,
    /// What must not be shown, should an answer repeat it.
    secrets: Vec<String>,
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
            .retry(reqwest::retry::never())
            .connect_timeout(DIAL_STEP_TIMEOUT)
            .timeout(options.timeout)
            .pool_max_idle_per_host(options.concurrency.get())
            .tcp_nodelay(true)
            .build()?;
        let secrets = secrets(&url, &options);
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
        let said = self.shown(&said);
        Answer::of(response.status(), response.headers(), &said, system_time())
    }

    /// The beginning of what a sink said, unless it repeats what must not be shown.
    fn shown(&self, said: &[u8]) -> String {
        let said = String::from_utf8_lossy(said);
        if self.secrets.iter().any(|secret| said.contains(secret)) {
            return "(it repeats what is not shown)".to_owned();
        }
        let shown: String = said.chars().take(ANSWER_SHOWN_MAX).collect();
        shown.split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, "")
    }

    fn describe(&self, error: reqwest::Error) -> String {
        if error.is_timeout() && !error.is_connect() {
            return format!("it did not answer within {} s", self.options.timeout.as_secs());
        }
        let is_connect = error.is_connect();
        let error = error.without_url();
        let mut cause: &dyn Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        match is_connect {
            true => format!("it cannot be connected to: {cause}"),
            false => format!("the request failed: {cause}"),
        }
    }
}

/// Header values and queries, and the parts of them that sinks repeat: the key behind `Bearer`, the value of a
/// parameter. What is very short says nothing, and would hide half of all answers.
fn secrets(url: &HttpUrl, options: &RestOptions) -> Vec<String> {
    let mut secrets = Vec::new();
    for value in options.headers.map().values() {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        secrets.extend(value.split_whitespace().map(str::to_owned));
        secrets.push(value);
    }
    if let Some(query) = url.query() {
        secrets.push(query.to_owned());
        secrets.extend(query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1.to_owned())));
        let decoded = url::form_urlencoded::parse(query.as_bytes());
        secrets.extend(decoded.map(|(_, value)| value.into_owned()));
    }
    secrets.retain(|secret| secret.len() >= SECRET_BYTES_MIN);
    secrets
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
