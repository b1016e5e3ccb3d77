//! Asks the gateway that has opened the log for a checkpoint. The gateway makes the checkpoint
//! inside the data folder, and this process copies the files to the backup folder with the rights
//! of its user. The API never writes to a path from a request.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde::Deserialize;

use super::CommandError;
use crate::config::Config;
use crate::event_log::LogId;
use crate::event_log::backup::{Description, STAGING};
use crate::limits::{ANSWER_BYTES_MAX, BACKUP_TIMEOUT};
use crate::remote::Remote;

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
    let token = config.api.admin_token.clone();
    let gateway = Remote::new(format!("http://{address}"), token, BACKUP_TIMEOUT)?;
    let answer = gateway.call(Method::POST, "/api/backup", ANSWER_BYTES_MAX).await?;
    if answer.status.is_success() { answer.json() } else { Err(answer.failure()) }
}
