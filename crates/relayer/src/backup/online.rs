//! Asks the gateway that has opened the log for a checkpoint. The gateway makes the checkpoint
//! inside the data folder, and this process copies the files to the backup folder with the rights
//! of its user. The API never writes to a path from a request.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::http::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use rustls::RootCertStore;
use serde::Deserialize;

use super::CommandError;
use crate::config::Config;
use crate::event_log::LogId;
use crate::event_log::backup::{Description, STAGING};
use crate::limits::{ANSWER_BYTES_MAX, BACKUP_TIMEOUT, DIAL_STEP_TIMEOUT};
use crate::net::tls;

/// The response of `POST /api/backup`.
#[derive(Debug, Deserialize)]
struct CheckpointResponse {
    folder: PathBuf,
    log: LogId,
    made_at: u64,
}

/// Asks the gateway for a checkpoint of its log at `path`.
pub(super) async fn checkpoint(
    config: &Config,
    path: PathBuf,
) -> Result<(PathBuf, Description), CommandError> {
    let Some(address) = config.local_api_address() else { return Err(CommandError::PortUnknown(path)) };
    let made = match ask(config, address).await {
        Ok(made) => made,
        Err(why) => return Err(CommandError::Refused { path, address, why }),
    };
    // The folder in the response is only compared: another process may listen on the port, and that
    // process must not choose what we copy.
    let folder = path.join(STAGING).join("backup");
    let description = match is_same(&folder, &made.folder).then(|| Description::read(&folder)) {
        Some(read) => read?,
        None => {
            let why = format!("its log is in another folder, {}", made.folder.display());
            return Err(CommandError::Refused { path, address, why });
        }
    };
    if (description.log, description.made_at_ms) != (made.log, made.made_at) {
        let why = "another backup replaced this one; try again".to_owned();
        return Err(CommandError::Refused { path, address, why });
    }
    Ok((folder, description))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let canonical = |path: &Path| path.canonicalize().ok();
    canonical(one).is_some_and(|one| canonical(other) == Some(one))
}

async fn ask(config: &Config, address: SocketAddr) -> Result<CheckpointResponse, String> {
    let text = |error: &dyn ToString| error.to_string();
    let tls = tls::config_of(RootCertStore::empty()).map_err(|error| text(&error))?;
    let client =
        reqwest::Client::builder().tls_backend_preconfigured(tls).redirect(Policy::none()).no_proxy();
    let client = client.connect_timeout(DIAL_STEP_TIMEOUT).timeout(BACKUP_TIMEOUT);
    let client = client.build().map_err(|error| text(&error))?;
    let mut request =
        client.post(format!("http://{address}/api/backup")).header(CONTENT_TYPE, "application/json");
    if let Some(token) = &config.api.admin_token {
        request = request.bearer_auth(token.reveal());
    }
    let mut response = request.send().await.map_err(|error| {
        let why = if error.is_connect() { "cannot connect" } else { "the request failed" };
        format!("{why}: {}", error.without_url())
    })?;
    let (status, mut body) = (response.status(), Vec::new());
    while body.len() < ANSWER_BYTES_MAX
        && let Some(bytes) = response.chunk().await.map_err(|error| text(&error))?
    {
        body.extend_from_slice(&bytes);
    }
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|error| format!("its answer is invalid: {error}"));
    }
    let answer: Result<serde_json::Value, _> = serde_json::from_slice(&body);
    let message = answer.ok().and_then(|answer| Some(answer.get("message")?.as_str()?.to_owned()));
    Err(message.unwrap_or_else(|| format!("it answered {status}")))
}
