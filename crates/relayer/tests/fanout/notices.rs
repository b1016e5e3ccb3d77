//! Notices to connected followers when their follows change.

use serde_json::{Value, json};

use crate::bots::{Bot, relays};
use crate::client::Api;
use crate::connection::Follower;
use crate::program::Site;

fn unsubscribed(follower: &Follower, bot: &Bot) -> Value {
    let target = follower.key.pubkey();
    json!({ "type": "unsubscribed", "target_pubkey": target, "bot_pubkey": bot.key.pubkey() })
}

fn secret_changed(follower: &Follower, bot: &Bot, encryption: &str) -> Value {
    let (target, bot) = (follower.key.pubkey(), bot.key.pubkey());
    json!({ "type": "secret_changed", "target_pubkey": target, "bot_pubkey": bot, "encryption": encryption })
}

/// The notice comes at once, although neither a signal nor a ping wakes the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_silent_bots_is_told_at_once() {
    let site = Site::empty().set("RELAYER_OUTPUT__PING_INTERVAL_SECS", "0");
    let _running = site.start().await;
    let api = Api::of(&site);
    let bot = Bot::registered(1, &api).await;
    let follower = Follower::new(11);
    follower.follow(&api, bot.key.pubkey()).await;
    let mut connection = follower.connect(&api, "").await;
    follower.clone().sharing("what the two agree upon").follow(&api, bot.key.pubkey()).await;
    assert_eq!(connection.notice().await, secret_changed(&follower, &bot, "nip44-v2-shared-secret"));
    api.unsubscribe(bot.key.pubkey(), &follower.key).await;
    assert_eq!(connection.notice().await, unsubscribed(&follower, &bot));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_comes_before_the_change_takes_effect() {
    let sim = relays(1).await;
    let site = Site::on(&sim);
    let _running = site.start().await;
    let api = Api::of(&site);
    let gateway = api.identity().await;
    let (bot, other) = (Bot::registered(1, &api).await, Bot::registered(2, &api).await);
    let follower = Follower::new(11);
    follower.follow(&api, bot.key.pubkey()).await;
    follower.follow(&api, other.key.pubkey()).await;
    let mut connections = [follower.connect(&api, "").await, follower.connect(&api, "?consumer=desk").await];

    let sharing = follower.clone().sharing("what the two agree upon");
    sharing.follow(&api, bot.key.pubkey()).await;
    let signal = bot.publish(&sim);
    for connection in &mut connections {
        let expected = secret_changed(&follower, &bot, "nip44-v2-shared-secret");
        assert_eq!(connection.notice().await, expected);
        assert_eq!(sharing.opener(&gateway).open(&connection.next().await), signal);
    }
    // Repeating a follow without a change causes no notice.
    sharing.follow(&api, bot.key.pubkey()).await;
    follower.follow(&api, bot.key.pubkey()).await;
    for connection in &mut connections {
        assert_eq!(connection.notice().await, secret_changed(&follower, &bot, "nip44-v2"));
    }
    // A new follow causes no notice either, but the bot's signals arrive.
    let third = Bot::registered(3, &api).await;
    follower.follow(&api, third.key.pubkey()).await;
    let signal = third.publish(&sim);
    for connection in &mut connections {
        assert_eq!(follower.opener(&gateway).open(&connection.next().await), signal);
    }
    // The notice that the follow has ended is the last message about the bot.
    api.unsubscribe(bot.key.pubkey(), &follower.key).await;
    bot.publish(&sim);
    api.until_head(3).await;
    let signal = other.publish(&sim);
    for connection in &mut connections {
        assert_eq!(connection.notice().await, unsubscribed(&follower, &bot));
        assert_eq!(follower.opener(&gateway).open(&connection.next().await), signal);
    }
}
