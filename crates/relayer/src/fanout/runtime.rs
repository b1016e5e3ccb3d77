//! The fan-out's own Tokio runtime, with a lower priority than the threads that read relays and
//! commit.

use std::io;
use std::num::NonZeroUsize;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::limits::{FANOUT_BLOCKING_THREADS_MAX, SHUTDOWN_MAX};

/// On a shared core, a thread of this niceness gets a quarter of the time and a normal thread gets
/// the rest.
const NICENESS: i32 = 5;

/// The threads that encrypt and send signals. Threads that read relays and commit take precedence,
/// no matter how many followers get a signal at once.
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

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.handle.spawn(task)
    }

    /// Stops all tasks and waits for the threads to end.
    pub async fn stop(&self) {
        let Some(runtime) = self.runtime.lock().take() else { return };
        drop(tokio::task::spawn_blocking(move || runtime.shutdown_timeout(SHUTDOWN_MAX)).await);
    }
}

/// Lowers the priority of the calling thread. Only Linux has priorities per thread.
fn lower_thread_priority() {
    #[cfg(target_os = "linux")]
    let set = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
    #[cfg(target_os = "linux")]
    if let Err(error) = set {
        tracing::debug!(%error, "cannot lower the priority of a fan-out thread");
    }
}

impl Drop for FanoutRuntime {
    /// Must not block, because it may run in a task.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.get_mut().take() {
            runtime.shutdown_background();
        }
    }
}
