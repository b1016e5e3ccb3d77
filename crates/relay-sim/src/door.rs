//! Where a relay's clients come in: what of TCP and TLS they meet before anybody speaks HTTP.

/// A relay's way in. Each kind that is in use has a port of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Door {
    /// The one of all relays that have no other.
    #[default]
    Open,
    /// One where nobody reads what clients say.
    Deaf,
}
