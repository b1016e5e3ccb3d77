//! Simulated Nostr relays and a consumer that checks what a gateway delivers.
//!
//! Everything is derived from one seed. [`plan`] decides which relay serves which item of the
//! [`corpus`], and when. [`faults`] describes how relays misbehave at random; a `policy`, how they
//! treat their clients: `caps`, `limits` and refusals, NIP-77 (`reconciliation`), NIP-11
//! (`information`), and TLS (`door`). A `relay` stores the events that have arrived (`stored` is
//! the index), a `handshake` accepts a client, a `session` implements NIP-01, NIP-42 and NIP-77 on
//! one `connection`, and `codec` writes the frames. [`Sim`] builds and controls the relays, and
//! [`stats`] counts what they do. On the other side of the gateway, a [`Consumer`] receives events
//! and a [`Checker`] checks them. [`wait`] has waits with a time limit.
//!
//! ```no_run
//! # async fn story() -> Result<(), Box<dyn std::error::Error>> {
//! use relay_sim::{Fault, Garbage, Sim, Who};
//!
//! let sim = Sim::builder().seed(7).relays(20).events(5_000).copies(10).forge(0.3)
//!     .fault(Fault::Garbage(Garbage::InvalidJson), Who::Share(0.33), 0.05)
//!     .start().await?;
//! println!("{:?}", sim.urls());
//! sim.wait_sent().await;
//! println!("{} forged", sim.stats().get(relay_sim::Count::Forged));
//! sim.stop().await;
//!
//! // Ten relays store 100,000 events and return at most 500 in an answer. The first relay refuses
//! // greater limits, does NIP-77, and has 2,000 events of one second. The last relay has an
//! // expired certificate.
//! use relay_sim::{Cap, Certificate, Limits, Negentropy};
//! let (first, last) = (Who::These(vec![0]), Who::These(vec![9]));
//! let sim = Sim::builder().relays(10).events(100_000).stored(1.0).tls()
//!     .caps(Who::All, Cap::clamping(500)).limits(Who::All, Limits::new().subscriptions(3))
//!     .caps(first.clone(), Cap::refusing(500)).negentropy(first, Negentropy::served())
//!     .burst_second(0, 900, 2_000).certificates(last, Certificate::Expired)
//!     .start().await?;
//! println!("trust {:?}", sim.ca_pem());
//! # Ok(()) }
//! ```

pub mod rng;

pub mod corpus;

pub mod faults;

mod door;

mod caps;

mod endings;

mod limits;

mod reconciliation;

mod information;

mod policy;

pub mod plan;

pub mod stats;

mod world;

mod stored;

mod relay;

mod codec;

mod http;

mod flood;

mod garbage;

mod session;

mod socket;

mod tls;

mod handshake;

mod connection;

mod sim;

pub mod consumer;

pub mod checker;

pub mod wait;

pub use caps::{Beyond, Cap, Order};
pub use checker::{Checker, Latency, Verdict, Wrong};
pub use consumer::{ConsumeError, Consumer, Delivery};
pub use corpus::{Forgery, Origin, Poison, Sizes, oversized, poison};
pub use door::Certificate;
pub use endings::{Doubt, Ending, EndingPlace};
pub use faults::{Fault, Flood, Garbage, Who};
pub use information::Information;
pub use limits::{Limits, RateLimit, Refusal, Saying, Scope};
pub use plan::Pace;
pub use reconciliation::{Negentropy, Reconciling};
pub use relay::Behaviour;
pub use sim::{Sim, SimBuilder, StartError};
pub use stats::{Count, Figures, Stats};
pub use tls::TlsError;
