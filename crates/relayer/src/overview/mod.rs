//! The gateway at a glance: figures a second, figures of the last hour, and warnings in words.
//!
//! A [`reading`] of the counters costs next to nothing. The [`recorder`] keeps one every ten
//! seconds for the [`history`]; everything else is computed only when somebody asks. [`figures`]
//! gathers the state of the gateway, from which [`warnings`] judges and [`view`] makes the JSON.

mod figures;
mod history;
mod reading;
mod recorder;
mod view;
mod warnings;

pub(crate) use figures::NotReady;
pub(crate) use history::Columns;
pub(crate) use recorder::Recorder;
pub(crate) use view::Overview;
