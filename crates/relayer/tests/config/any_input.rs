//! No input causes a panic.

use moltrade_relayer::config;
use proptest::prelude::*;

use super::{accepted, parse};

proptest! {
    /// No file and no variable causes a panic. Printing an accepted configuration and parsing the
    /// text again gives the same configuration.
    #[test]
    fn no_input_panics(
        text in "([a-z_\\[\\]={}\"'.,#0-9 \\n-]|\\PC|\\[(relay|output|filters|storage|postgres)\\]\n|\
                 (bootstrap_relays|batch_size|allowed_kinds|fsync|dsn) = ){0,40}",
        name in "(RELAYER_(OUTPUT|RELAY|FILTERS)__(BATCH_SIZE|BOOTSTRAP_RELAYS|ALLOWED_KINDS)|RELAY_URLS|RELAYER_\\PC*)",
        value in "\\PC*",
    ) {
        for environment in [&[][..], &[(name.as_str(), value.as_str())]] {
            match parse(&text, environment) {
                Ok(loaded) => {
                    let shown = loaded.to_toml();
                    if loaded.config.postgres.dsn.is_none() {
                        prop_assert_eq!(accepted(&shown, &[]), loaded.config);
                    }
                }
                Err(errors) => prop_assert!(!errors.problems().is_empty()),
            }
        }
    }

    /// A relay URL's normal form parses to the same URL.
    #[test]
    fn a_relay_url_is_its_own_normal_form(text in "(WSS?|wss?|ws):/{0,3}[\\PC]{0,20}(:[0-9]{1,5})?/?\\PC{0,10}") {
        if let Ok(url) = text.parse::<config::RelayUrl>() {
            prop_assert_eq!(url.as_str().parse::<config::RelayUrl>().unwrap(), url);
        }
    }
}
