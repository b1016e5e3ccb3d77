//! A graceful stop with connected followers. Each follower gets a close frame, and no task of the
//! fan-out outlives the stop.

use crate::bots::{Bot, relays};
use crate::client::Api;
use crate::connection::{Closed, Connection, Follower};
use crate::program::Site;

/// A task that still used the database at exit would abort the process, but only about once in
/// dozens of runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_followers_stops_in_order_every_time() {
    const STOPS: usize = 30;
    let sim = relays(2).await;
    let site = Site::on(&sim);
    let api = Api::of(&site);
    let follower = Follower::new(2);
    for stop in 0..STOPS {
        let mut running = site.start().await;
        let bot = Bot::registered(1, &api).await;
        follower.follow(&api, bot.key.pubkey()).await;
        let mut connections = Vec::new();
        for query in ["", "?cursor=0", "?consumer=desk"] {
            connections.push(follower.connect(&api, query).await);
        }
        let mut unproved = Connection::open(&api, "").await;
        unproved.challenge().await;
        bot.publish(&sim);
        running.signal("TERM");
        for mut connection in connections {
            let closed = loop {
                if let Err(closed) = connection.text().await {
                    break closed;
                }
            };
            assert_eq!(closed, Closed { code: 1001, reason: "the gateway is stopping".to_owned() });
        }
        assert_eq!(unproved.text().await.unwrap_err().reason, "the gateway is stopping");
        drop(unproved);
        let status = running.ended().await;
        assert!(status.success(), "{status} at stop {stop}: {}", running.stderr());
    }
}
