//! Changes through the page need the admin token.

use std::io::ErrorKind;

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
        setup.resolver = Resolver::from_fn(|host: &str| match host.starts_with("new") {
            true => Ok(vec![[8, 8, 8, 8].into()]),
            false => Err(ErrorKind::NotFound.into()),
        });
    })
    .await;
    drive("tokens", gateway.address, json!({ "token": token })).await;
    assert_eq!(gateway.pool.peers().len(), 3, "the relay that was added is removed");
}
