//! Admits a follower and serves it until its connection ends.

use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::StreamExt;
use tokio::time::timeout;
use wire::PublicKey;

use super::auth::{AuthError, authenticate};
use super::follower::FollowerSource;
use super::metrics::FollowerRefusal;
use super::registry::directory::{Presence, TooManyConnections};
use super::service::Fanout;
use crate::config::SinkName;
use crate::downstream::clients::Client;
use crate::downstream::consumers::{Begin, EnterError, Share};
use crate::downstream::seat::Seat;
use crate::downstream::slow::Taken;
use crate::downstream::websocket::Session;
use crate::event_log::Cursor;
use crate::limits::{CLIENT_CLOSE_MAX, FOLLOWER_CONSUMERS_MAX};

/// Where a follower wants to go on.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// Where it begins without a name.
    pub cursor: Cursor,
    /// The name that its cursor is kept under, and where that begins.
    pub consumer: Option<(SinkName, Begin)>,
}

/// Why a follower that has proved its key is not served.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// It has too many connections.
    #[error("restricted: this key has as many connections as one may have")]
    TooManyConnections,
    /// Only of followers cursors are kept.
    #[error("restricted: this key follows no bot, so no cursor is kept of it; subscribe first")]
    NotFollowing,
    /// Its cursor is of no use.
    #[error(transparent)]
    Consumer(#[from] EnterError),
}

impl AdmitError {
    /// What it is counted under, if it is the client's doing or that of too many.
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

/// A follower that can be served.
#[derive(Debug)]
pub struct Admitted {
    presence: Presence,
    seat: Option<Seat>,
    cursor: Cursor,
    /// The end of the log as it found it.
    head: Cursor,
}

/// Who connects to `/fanout`.
#[derive(Debug)]
pub enum ClientAuth {
    /// Somebody who has proved its key with the request.
    Proved(Box<Admitted>),
    /// Somebody who will.
    Pending(StartOptions),
}

impl Fanout {
    /// Prepares to serve a follower that has proved its key.
    ///
    /// # Errors
    /// When it is not served.
    pub async fn admit(
        &self,
        follower: PublicKey,
        options: StartOptions,
        head: Cursor,
    ) -> Result<Admitted, AdmitError> {
        let presence = self.registry.directory().connect(follower)?;
        let seat = match options.consumer {
            None => None,
            Some(_) if !presence.has_follows() => return Err(AdmitError::NotFollowing),
            Some((name, begin)) => {
                let prefix = format!("{follower}/");
                let share = Share { prefix: &prefix, max: FOLLOWER_CONSUMERS_MAX };
                let key = format!("{prefix}{}", name.as_str());
                Some(self.consumers.enter(&key, begin, Some(share)).await?)
            }
        };
        let cursor = seat.as_ref().map_or(options.cursor, Seat::cursor);
        Ok(Admitted { presence, seat, cursor, head })
    }

    /// Serves a client that has connected, on threads of the fan-out: however many followers have a signal encrypted
    /// and sent at once, what reads relays does not stand in line behind them.
    pub async fn serve(self: Arc<Self>, socket: WebSocket, client: Client, taken: Taken, auth: ClientAuth) {
        let fanout = Arc::clone(&self);
        let served =
            self.runtime.spawn(async move { fanout.serve_on_runtime(socket, client, taken, auth).await });
        // A panic is reported by its thread; the connection is gone then.
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
                    // Nothing is owed to somebody who has not said who it is.
                    () = client.stopping() => Err("the gateway is stopping".to_owned()),
                };
                match authenticated {
                    Ok(admitted) => admitted,
                    Err(reason) => return close(socket, reason).await,
                }
            }
        };
        let Admitted { presence, seat, cursor, head } = admitted;
        let (follower, consumer) = (presence.pubkey, seat.as_ref().map(|seat| seat.name().to_owned()));
        tracing::debug!(%cursor, %follower, consumer, origin = %client.origin(), "a follower is served");
        // Derived now, so that not all who have just connected have it derived when the first signal comes.
        drop(self.keys.with(&follower));
        let (signals, keys) = (Arc::clone(&self.signals), Arc::clone(&self.keys));
        let source = FollowerSource::new(presence, signals, keys, cursor, self.max_age);
        let session = Session::new(source, head, self.metrics.counts(), self.patience, taken);
        let session = match seat {
            Some(seat) => session.of(seat),
            None => session,
        };
        session.run(socket, client).await;
    }

    /// Lets a client prove its key. What is wrong otherwise is the reason of the close.
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
                tracing::error!(%error, "a follower cannot be served");
                "the cursor cannot be written".to_owned()
            }
            refused => refused.to_string(),
        })
    }
}

/// Tells a client why it is not served, and waits a little for it to have heard that.
async fn close(mut socket: WebSocket, reason: String) {
    /// What a close has limits for (RFC 6455, section 5.5).
    const REASON_BYTES_MAX: usize = 123;
    tracing::debug!(reason, "a client of /fanout is not served");
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
