//! `moltrade-relayer status`: asks a running gateway how it is. [`figures`] reads its metrics, and
//! [`screen`] writes the answer.

mod figures;
mod screen;

use reqwest::Method;
use serde::Deserialize;
use tokio::time::timeout;

use crate::config::Secret;
use crate::event_log::LogId;
use crate::limits::{STATUS_ANSWER_BYTES_MAX, STATUS_CALL_TIMEOUT, STATUS_TIMEOUT};
use crate::remote::{Answer, Remote, Target, printable};
pub(crate) use figures::Figures;
pub(crate) use screen::{duration, notes, problems, relays as relays_in_words};

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

/// What the gateway answered.
#[derive(Debug)]
pub(crate) struct Answers {
    pub version: String,
    pub log: Option<LogId>,
    /// Why it does not admit events.
    pub not_ready: Option<String>,
    pub uptime_seconds: u64,
    pub figures: Figures,
    pub sinks: Vec<Sink>,
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
pub(crate) struct Sink {
    pub name: String,
    pub status: String,
    #[serde(default)]
    pub reason: String,
    pub lag: u64,
    pub lag_seconds: f64,
    pub dead_letters: u64,
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub delivered: u64,
}

/// Asks the gateway how it is. `token` is sent with each request.
pub async fn report(target: Target<'_>, token: Option<Secret>) -> Report {
    let url = match target.url() {
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

/// Asks the gateway for everything that the report needs.
///
/// # Errors
/// Why it does not answer as a gateway does.
pub(crate) async fn ask(gateway: &Remote) -> Result<Answers, String> {
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
