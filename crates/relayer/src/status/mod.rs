//! `moltrade-relayer status`: asks a running gateway how it is. [`figures`] reads its metrics, and
//! [`screen`] writes the answer.

mod figures;
mod screen;

use reqwest::Method;
use serde::Deserialize;
use tokio::time::timeout;

use crate::config::{Config, Secret};
use crate::event_log::LogId;
use crate::limits::{STATUS_ANSWER_BYTES_MAX, STATUS_CALL_TIMEOUT, STATUS_TIMEOUT};
pub use crate::remote::TOKEN_VARIABLE;
use crate::remote::{self, Answer, Remote, printable};
use figures::Figures;

/// How a gateway is. The values are exit statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It does what it should.
    Healthy = 0,
    /// It runs, but an operator has to do something.
    Degraded = 1,
    /// It cannot be reached, or does not answer as a gateway does.
    Down = 2,
}

/// The result of the command.
#[derive(Debug)]
pub struct Report {
    pub health: Health,
    /// Lines for a terminal.
    pub text: String,
}

/// The gateway that is asked.
#[derive(Debug)]
pub enum Target<'a> {
    /// The one that this configuration describes.
    Configured(&'a Config),
    /// The one at this URL.
    Url(&'a str),
}

/// What the gateway answered.
#[derive(Debug)]
struct Answers {
    version: String,
    log: Option<LogId>,
    /// Why it does not admit events.
    not_ready: Option<String>,
    uptime_seconds: u64,
    figures: Figures,
    sinks: Vec<Sink>,
}

#[derive(Debug, Deserialize)]
struct Liveness {
    service: String,
    #[serde(default)]
    version: String,
}

#[derive(Debug, Deserialize)]
struct Summary {
    uptime_seconds: u64,
}

#[derive(Debug, Deserialize)]
struct Sinks {
    downstreams: Vec<Sink>,
}

#[derive(Debug, Deserialize)]
struct Sink {
    name: String,
    status: String,
    #[serde(default)]
    reason: String,
    lag: u64,
    lag_seconds: f64,
    dead_letters: u64,
}

/// Asks the gateway how it is. `token` is sent with each request.
pub async fn report(target: Target<'_>, token: Option<Secret>) -> Report {
    let url = match target {
        Target::Url(url) => remote::parse_url(url).map_err(|why| format!("--url: {why}")),
        Target::Configured(config) => match config.local_api_address() {
            Some(address) => Ok(format!("http://{address}")),
            None => Err("the port of the gateway is unknown because [output] websocket_port is 0; use --url"
                .to_owned()),
        },
    };
    let url = match url {
        Ok(url) => url,
        Err(why) => return Report { health: Health::Down, text: format!("{why}\n") },
    };
    let answers = async { ask(&Remote::new(url.clone(), token, STATUS_CALL_TIMEOUT)?).await };
    let answers = timeout(STATUS_TIMEOUT, answers).await;
    match answers.unwrap_or_else(|_| Err("it does not answer in time".to_owned())) {
        Ok(answers) => screen::of(&url, &answers),
        Err(why) => Report {
            health: Health::Down,
            text: format!("the gateway at {url} is down or cannot be reached\n  {why}\n"),
        },
    }
}

async fn ask(gateway: &Remote) -> Result<Answers, String> {
    let health = get(gateway, "/health").await?;
    let Liveness { service, version } = succeeded(&health)?.json()?;
    if service != env!("CARGO_PKG_NAME") {
        return Err(format!("`{}` answers there, not a gateway", printable(&service, 60)));
    }
    let ready = get(gateway, "/ready").await?;
    let not_ready = (!ready.status.is_success()).then(|| ready.failure());
    let summary: Summary = succeeded(&get(gateway, "/api/metrics/summary").await?)?.json()?;
    let metrics = get(gateway, "/metrics").await?;
    let figures = Figures::parse(&succeeded(&metrics)?.text());
    let sinks: Sinks = succeeded(&get(gateway, "/api/downstreams").await?)?.json()?;
    Ok(Answers {
        version: printable(&version, 20),
        log: health.log,
        not_ready,
        uptime_seconds: summary.uptime_seconds,
        figures,
        sinks: sinks.downstreams,
    })
}

async fn get(gateway: &Remote, path: &str) -> Result<Answer, String> {
    gateway.call(Method::GET, path, STATUS_ANSWER_BYTES_MAX).await
}

fn succeeded(answer: &Answer) -> Result<&Answer, String> {
    if answer.status.is_success() { Ok(answer) } else { Err(answer.refusal()) }
}
