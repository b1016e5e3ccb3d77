//! Admits a follower and serves it until its connection ends.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::StreamExt;
use tokio::time::timeout;
use wire::PublicKey;

use super::auth::{AuthError, authenticate};
use super::follower::FollowerSource;
use super::metrics::FollowerRefusal;
use super::registry::directory::{Presence, TooManyConnections};
use super::service::Fanout;
use crate::event_log::Cursor;
use crate::limits::{CLIENT_CLOSE_MAX, FOLLOWER_CONSUMERS_MAX};
use crate::serve::{Client, ClientTask, ConsumerName, EnterError, Lease, Share, StartPosition, Taken};

/// Where delivery starts, and whether it has heartbeats.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// The start position if the client gives no consumer name.
    pub cursor: Cursor,
    /// The consumer's name, and the start position of a consumer that has no stored cursor yet.
    pub(crate) consumer: Option<(ConsumerName, StartPosition)>,
    /// The time without a message after which the follower gets a heartbeat.
    pub(crate) heartbeat: Option<Duration>,
}

/// Why a follower that has proved its key is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("restricted: this key has too many connections")]
    TooManyConnections,
    /// A key that follows no bot cannot be a consumer: only followers have stored cursors.
    #[error("restricted: this key follows no bot, so no cursor is stored for it; subscribe first")]
    NotFollowing,
    #[error(transparent)]
    Consumer(#[from] EnterError),
}

impl AdmitError {
    /// The label in the metrics; `None` if the gateway failed.
    const fn refusal(&self) -> Option<FollowerRefusal> {
        match self {
            Self::TooManyConnections => Some(FollowerRefusal::TooManyConnections),
            Self::NotFollowing => Some(FollowerRefusal::NotFollowing),
            Self::Consumer(EnterError::TooMany(_)) => Some(FollowerRefusal::TooManyConsumers),
            Self::Consumer(EnterError::TooManyShared(_)) => Some(FollowerRefusal::TooManyConsumersOfFollower),
            Self::Consumer(EnterError::Busy) => Some(FollowerRefusal::ConsumerBusy),
            Self::Consumer(_) => None,
        }
    }
}

impl From<TooManyConnections> for AdmitError {
    fn from(TooManyConnections: TooManyConnections) -> Self {
        Self::TooManyConnections
    }
}

/// A follower that was admitted.
#[derive(Debug)]
pub struct Admitted {
    presence: Presence,
    lease: Option<Lease>,
    cursor: Cursor,
    heartbeat: Option<Duration>,
    /// The head of the log when the follower connected.
    head: Cursor,
}

/// How a client of `/fanout` proves its key.
#[derive(Debug)]
pub enum ClientAuth {
    /// The client has proved its key with the request (NIP-98).
    Proved(Box<Admitted>),
    /// The client will prove its key on the socket (NIP-42).
    Pending(StartOptions),
}

impl Fanout {
    /// Prepares to serve a follower that has proved its key.
    pub(crate) async fn admit(
        &self,
        follower: PublicKey,
        options: StartOptions,
        head: Cursor,
    ) -> Result<Admitted, AdmitError> {
        let presence = self.registry.directory().connect(follower)?;
        let lease = match options.consumer {
            None => None,
            Some(_) if !presence.has_follows() => return Err(AdmitError::NotFollowing),
            Some((name, start)) => {
                let prefix = format!("{follower}/");
                let share = Share { prefix: &prefix, max: FOLLOWER_CONSUMERS_MAX };
                let key = format!("{prefix}{}", name.as_str());
                Some(self.consumers.acquire(&key, start, Some(share)).await?)
            }
        };
        let cursor = lease.as_ref().map_or(options.cursor, Lease::cursor);
        Ok(Admitted { presence, lease, cursor, heartbeat: options.heartbeat, head })
    }

    /// Serves a connected client on the fan-out's runtime: encrypting for many followers must not
    /// delay the tasks that read relays.
    pub async fn serve(self: Arc<Self>, socket: WebSocket, client: Client, taken: Taken, auth: ClientAuth) {
        let fanout = Arc::clone(&self);
        let served =
            self.runtime.spawn(async move { fanout.serve_on_runtime(socket, client, taken, auth).await });
        // If the task panics, the panic hook reports the panic and the connection is closed.
        drop(served.await);
    }

    async fn serve_on_runtime(
        &self,
        mut socket: WebSocket,
        mut client: Client,
        taken: Taken,
        auth: ClientAuth,
    ) {
        let admitted = match auth {
            ClientAuth::Proved(admitted) => *admitted,
            ClientAuth::Pending(options) => {
                let authenticated = tokio::select! {
                    authenticated = self.authenticate(&mut socket, options) => authenticated,
                    // A client that has not proved its key gets no remaining signals when the
                    // gateway stops.
                    () = client.stopping() => Err("the gateway is stopping".to_owned()),
                };
                match authenticated {
                    Ok(admitted) => admitted,
                    Err(reason) => return close(socket, reason).await,
                }
            }
        };
        let Admitted { presence, lease, cursor, heartbeat, head } = admitted;
        let (follower, consumer) = (presence.pubkey, lease.as_ref().map(|lease| lease.name().to_owned()));
        tracing::debug!(%cursor, %follower, consumer, origin = %client.origin(), "serving a follower");
        // The conversation key is derived now, so that many new connections do not all derive keys
        // at the first signal.
        drop(self.keys.with(&follower));
        let (signals, keys) = (Arc::clone(&self.signals), Arc::clone(&self.keys));
        let options = self.options();
        let source = FollowerSource::new(presence, signals, keys, cursor, options.max_age);
        let task = ClientTask::new(source, head, self.metrics.counts(), options.patience, taken)
            .with_heartbeat(heartbeat);
        let task = match lease {
            Some(lease) => task.with_lease(lease),
            None => task,
        };
        task.run(socket, client).await;
    }

    /// Authenticates the client by NIP-42 and admits the follower. The error is the close reason.
    async fn authenticate(&self, socket: &mut WebSocket, options: StartOptions) -> Result<Admitted, String> {
        let head = self.log.head();
        let follower = match authenticate(socket, &self.proofs).await {
            Ok(follower) => follower,
            Err(error) => {
                if let AuthError::BadProof(bad) = &error {
                    self.metrics.proofs_refused[bad.into()].inc();
                }
                if !matches!(error, AuthError::Disconnected) {
                    self.metrics.refused[FollowerRefusal::Unauthorized].inc();
                }
                return Err(error.to_string());
            }
        };
        let admitted = self.admit(follower, options, head).await;
        if let Some(refusal) = admitted.as_ref().err().and_then(AdmitError::refusal) {
            self.metrics.refused[refusal].inc();
        }
        admitted.map_err(|refused| match refused {
            AdmitError::Consumer(EnterError::Storage(error)) if error.is_full() => {
                "the disk is full: the cursor cannot be written".to_owned()
            }
            AdmitError::Consumer(EnterError::Storage(error)) => {
                tracing::error!(name: "storage_failure", %error, "cannot serve a follower");
                "the cursor cannot be written".to_owned()
            }
            refused => refused.to_string(),
        })
    }
}

/// Closes the socket with a reason, and waits briefly for the client to read the reason.
async fn close(mut socket: WebSocket, reason: String) {
    /// The longest close reason (RFC 6455, section 5.5).
    const REASON_BYTES_MAX: usize = 123;
    tracing::debug!(reason, "refused a client of /fanout");
    let reason =
        (0..=REASON_BYTES_MAX).rev().find_map(|end| reason.get(..end)).unwrap_or_default().to_owned();
    let frame = CloseFrame { code: close_code::POLICY, reason: reason.into() };
    let heard = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    drop(timeout(CLIENT_CLOSE_MAX, heard).await);
}
