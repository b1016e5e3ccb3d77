//! Waits with a time limit, for tests. A failure names the event that did not happen.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

/// Longer than any step of a test takes, even on a busy machine; exceeded only if an expected event
/// never comes.
pub const PATIENCE: Duration = Duration::from_secs(120);

const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Awaits a future for at most [`PATIENCE`].
///
/// # Panics
/// When the time is up.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => in_vain(what),
    }
}

/// Waits until a condition holds, for at most [`PATIENCE`].
///
/// # Panics
/// When the time is up.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    within(what, async {
        while !is_so() {
            sleep(LOOK_EVERY).await;
        }
    })
    .await;
}

/// Like [`until`], for an asynchronous condition.
///
/// # Panics
/// When the time is up.
pub async fn until_async(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !is_so().await {
            sleep(LOOK_EVERY).await;
        }
    })
    .await;
}

/// Waits until a condition holds, for at most [`PATIENCE`], on a thread without a runtime.
///
/// # Panics
/// When the time is up.
pub fn until_blocking(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > PATIENCE {
            in_vain(what);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until a value stays the same over a pause, for at most [`PATIENCE`], and returns the
/// value.
///
/// # Panics
/// When the time is up.
pub async fn settled<T: PartialEq + Debug>(
    what: &str,
    pause: Duration,
    mut value: impl AsyncFnMut() -> T,
) -> T {
    within(what, async {
        let mut before = value().await;
        loop {
            sleep(pause).await;
            let now = value().await;
            if now == before {
                return now;
            }
            before = now;
        }
    })
    .await
}

#[expect(clippy::panic, reason = "a test that waits in vain has failed")]
fn in_vain(what: &str) -> ! {
    panic!("waited {} s in vain: {what}", PATIENCE.as_secs())
}
