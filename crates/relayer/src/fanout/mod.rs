//! Trade signals, encrypted for each follower of a bot.
//!
//! The [`registry`] knows who follows whom; what it knows is in memory, in the [`directory`]. The gateway's
//! [`identity`] is the key that followers know it by, and [`keys`] are what signals are encrypted with.

pub mod directory;
pub mod identity;
pub mod keys;
pub mod proof;
pub mod registry;
