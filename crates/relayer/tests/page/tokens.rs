//! Changes through the page need the admin token.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

use moltrade_relayer::config::Secret;
use moltrade_relayer::net::resolver::Resolver;
use serde_json::json;
use tempfile::TempDir;

use crate::browser::drive;
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
