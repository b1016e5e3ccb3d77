//! Trade signals, encrypted for each follower of a bot.
//!
//! The [`registry`] knows who follows whom.

pub mod registry;
