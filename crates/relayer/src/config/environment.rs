//! Finds our environment variables, and variables that were probably meant to be ours.

use super::error::{nearest, printable};
use super::secret::Secret;
use super::settings::{SETTINGS, Setting};

/// The prefix of our variables. An unknown variable with this prefix is an error, like an unknown
/// key of the file.
pub(super) const PREFIX: &str = "RELAYER_";

/// A short name of the variable for [`RELAY_URLS_KEY`].
pub(super) const RELAY_URLS: &str = "RELAY_URLS";
/// See [`RELAY_URLS`].
pub(super) const RELAY_URLS_KEY: &str = "relay.bootstrap_relays";

/// The key that hosting services mean by `PORT`.
const PORT_KEY: &str = "output.websocket_port";

/// The variables of this process. A value that is not Unicode is converted lossily, and then fails
/// its check.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Our variables in the order of their names, and a warning for each variable that was probably
/// meant to be ours. Such a variable is not an error, because other programs may use its name.
pub(super) fn ours_and_misspelt(
    environment: impl IntoIterator<Item = (String, String)>,
) -> (Vec<(String, Secret)>, Vec<String>) {
    let (mut ours, mut misspelt) = (Vec::new(), Vec::new());
    for (name, value) in environment {
        if is_service_link(&name, &value) {
            continue;
        }
        if name == RELAY_URLS || name.starts_with(PREFIX) {
            ours.push((name, Secret::new(value)));
        } else {
            misspelt
                .extend(meant_for_us(&name).map(|hint| {
                    format!("the environment variable {} is not used; {hint}", printable(&name))
                }));
        }
    }
    ours.sort_by(|(one, _), (other, _)| one.cmp(other));
    misspelt.sort();
    (ours, misspelt)
}

/// Whether Kubernetes set this variable. For a service named "relayer" or "relayer-…", Kubernetes
/// sets `RELAYER_SERVICE_HOST`, `RELAYER_PORT_8080_TCP` … in every pod.
fn is_service_link(name: &str, value: &str) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && value.contains("://"))
        || name.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
}

pub(super) fn unknown(name: &str) -> String {
    match nearest_variable(name) {
        Some(near) => format!("unknown variable; did you mean {near}?"),
        None => {
            format!("unknown variable; allowed: {PREFIX}<SECTION>__<KEY>, as in {PREFIX}OUTPUT__BATCH_SIZE")
        }
    }
}

fn nearest_variable(name: &str) -> Option<String> {
    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    nearest(name, known.iter().map(String::as_str)).map(str::to_owned)
}

/// The correction of a variable that was probably meant to be ours: a variable that begins like
/// ours, lacks only the prefix, or is the key of a port.
fn meant_for_us(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let variable_of = |is_meant: &dyn Fn(&Setting) -> bool| {
        SETTINGS.iter().find(|setting| is_meant(setting)).map(Setting::variable)
    };
    let without_prefix = variable_of(&|setting| {
        let key = setting.key.name.to_ascii_uppercase();
        setting.variable().strip_prefix(PREFIX) == Some(&*upper) || (key.ends_with("_PORT") && key == upper)
    });
    let meant = match &*upper {
        "PORT" => variable_of(&|setting| setting.path() == PORT_KEY),
        _ if without_prefix.is_some() => without_prefix,
        _ if !upper.starts_with("RELAY") => return None,
        _ if upper.contains("__") => nearest_variable(&upper),
        _ => nearest(&upper, [RELAY_URLS].into_iter()).map(str::to_owned),
    };
    Some(match meant {
        Some(variable) => format!("did you mean {variable}?"),
        None => format!("the gateway reads {RELAY_URLS} and {PREFIX}<SECTION>__<KEY>"),
    })
}
