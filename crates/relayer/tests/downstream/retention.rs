//! Retention that overtakes a sink: what is lost is counted, and never silent.

use moltrade_relayer::config::Framing;
use moltrade_relayer::event_log::retention::Retention;
use tempfile::TempDir;

use crate::gateway::{Gateway, sink};
use crate::receiver::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_is_counted_and_delivery_goes_on_at_the_oldest() {
    for had in [0, 3] {
        let (folder, receiver) = (TempDir::new().unwrap(), Receiver::start().await);
        let config = sink("a", &receiver, "ack = true");
        let gateway = Gateway::start(&folder, std::slice::from_ref(&config));
        let mut session = receiver.accept(Framing::Length).await;
        if had > 0 {
            gateway.append(1..=had);
            session.seqs(had as usize).await;
            session.ack(had).await;
            gateway.until_delivered(0, had).await;
        }
        gateway.stop_with(session).await;
        let gateway = Gateway::start(&folder, &[]);
        gateway.append(had + 1..=20);
        gateway.running.log.trim(Retention { age_ms_max: 1, ..Retention::default() }, 15_001).unwrap();
        assert_eq!(gateway.running.log.floor().get(), 15);
        gateway.stop().await;
        let gateway = Gateway::start(&folder, &[config]);
        let mut session = receiver.accept(Framing::Length).await;
        assert_eq!(session.seqs(6).await, (15..=20).collect::<Vec<_>>());
        session.ack(20).await;
        gateway.until_delivered(0, 20).await;
        assert_eq!(gateway.sink(0).lost.get(), 14 - had, "after {had}");
        assert!(
            gateway
                .metrics
                .encode()
                .contains(&format!("downstream_lost_events_total{{sink=\"a\"}} {}", 14 - had))
        );
        gateway.stop_with(session).await;
    }
}
