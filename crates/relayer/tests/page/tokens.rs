//! Changes through the page need the admin token, and reading may need a token.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use moltrade_relayer::config::{Config, Secret};
use moltrade_relayer::net::resolver::Resolver;
use relay_sim::wait::until;
use serde_json::json;
use tempfile::TempDir;

use crate::browser::drive;
use crate::gateway::start;
use crate::relays::with_relays;

#[tokio::test(flavor = "multi_thread")]
async fn relays_are_added_and_removed_with_the_right_token_alone() {
    let folder = TempDir::new().unwrap();
    let token = "0123456789abcdef0123456789abcdef";
    let gateway = with_relays(3, &folder, |setup| {
        setup.loaded.config.api.admin_token = Some(Secret::new(token));
        setup.dials = true;
        // The new relay has an address when it is added, and none when it is dialled.
        let is_known = AtomicBool::new(false);
        setup.resolver = Resolver::from_fn(move |host: &str| {
            let is_added = host.starts_with("new") && !is_known.swap(true, Ordering::Relaxed);
            if is_added { Ok(vec![[8, 8, 8, 8].into()]) } else { Err(ErrorKind::NotFound.into()) }
        });
    })
    .await;
    drive("tokens", gateway.address, json!({ "token": token })).await;
    assert_eq!(gateway.pool.peers().len(), 3, "the relay that was added is removed");
}

/// Configures one reader.
fn reader(token: &str) -> String {
    format!("[[api.readers]]\nname = 'desk'\ntoken = '{token}'")
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_asks_for_a_token_and_again_when_it_is_replaced() {
    let folder = TempDir::new().unwrap();
    let (first, second) = ("correct-horse-battery-staple", "another-correct-horse-battery");
    let gateway = start(&folder, &reader(first), |_| {}).await;
    let replace = async {
        // The second stream says that the script has seen the first.
        until("the log is followed", || gateway.clients.connected() == 2).await;
        let loaded = Config::parse(Some((Path::new("config.toml"), &reader(second))), []).unwrap();
        gateway.readers.replace(&loaded.config.api.readers);
    };
    tokio::join!(drive("reading", gateway.address, json!({ "first": first, "second": second })), replace);
}
