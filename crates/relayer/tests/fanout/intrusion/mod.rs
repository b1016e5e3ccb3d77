//! Attacks: every attempt is refused with a reason and a status or close code.

mod challenges;
mod input;
mod limits;
mod rights;
mod tokens;

use relay_sim::Sim;
use relay_sim::wait::within;
use wire::PublicKey;

use crate::bots::{Bot, relays};
use crate::client::Api;
use crate::connection::{Connection, Follower};
use crate::program::{Running, Site};

const ADMIN_TOKEN: &str = "an-admin-token-of-the-tests";

/// A gateway with one bot and one follower of this bot.
struct Scene {
    sim: Sim,
    _running: Running,
    api: Api,
    gateway: PublicKey,
    bot: Bot,
    follower: Follower,
}

impl Scene {
    async fn start() -> Self {
        Self::with(|site| site).await
    }

    async fn with(settings: impl FnOnce(Site) -> Site) -> Self {
        let sim = relays(2).await;
        let site = settings(Site::on(&sim).set("RELAYER_API__ADMIN_TOKEN", ADMIN_TOKEN));
        let running = site.start().await;
        let api = Api::of(&site);
        let gateway = api.identity().await;
        let bot = Bot::registered(1, &api).await;
        let follower = Follower::new(2);
        follower.follow(&api, bot.key.pubkey()).await;
        within("the relays are asked", sim.wait_subscribed(2)).await;
        Self { sim, _running: running, api, gateway, bot, follower }
    }

    /// Asserts that the attempts did no harm: the follower still gets the bot's signals.
    async fn assert_unharmed(&self) {
        let mut connection = self.follower.connect(&self.api, "").await;
        let signal = self.bot.publish(&self.sim);
        assert_eq!(self.follower.opener(&self.gateway).open(&connection.next().await), signal);
        let own = self.follower.key.pubkey().to_string();
        assert!(self.api.followers(&self.bot.key).await.contains(&own));
    }

    async fn open(&self) -> Connection {
        Connection::open(&self.api, "").await
    }
}
