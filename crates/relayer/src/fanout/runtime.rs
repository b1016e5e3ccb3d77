//! The fan-out's own Tokio runtime, at a lower priority than the threads that read relays and commit.

use std::io;
use std::num::NonZeroUsize;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::limits::{FANOUT_BLOCKING_THREADS_MAX, SHUTDOWN_MAX};

/// How nice the threads of the fan-out are: they get a quarter of a core that others want, too.
const NICENESS: i32 = 5;

/// The threads that encrypt and send. They are nicer than those that read relays and commit, so that these come first
/// when there is something to do, however many followers have a signal sent at once.
#[derive(Debug)]
pub(super) struct FanoutRuntime {
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
}

impl FanoutRuntime {
    pub fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(2, NonZeroUsize::get);
        let runtime = Builder::new_multi_thread()
            .worker_threads(cores)
            .max_blocking_threads(FANOUT_BLOCKING_THREADS_MAX)
            .thread_name("fanout")
            .on_thread_start(lower_thread_priority)
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Mutex::new(Some(runtime)) })
    }

    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.handle.spawn(task)
    }

    /// Ends what runs on them, and waits for that.
    pub async fn stop(&self) {
        let Some(runtime) = self.runtime.lock().take() else { return };
        drop(tokio::task::spawn_blocking(move || runtime.shutdown_timeout(SHUTDOWN_MAX)).await);
    }
}

/// Has the calling thread come after others. Elsewhere than on Linux a thread has no priority of its own.
fn lower_thread_priority() {
    #[cfg(target_os = "linux")]
    let set = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
    #[cfg(target_os = "linux")]
    if let Err(error) = set {
        tracing::debug!(%error, "a thread of the fan-out has the priority of all others");
    }
}

impl Drop for FanoutRuntime {
    /// It may be in a task, which must not wait.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}
