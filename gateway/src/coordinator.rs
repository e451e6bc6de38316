//! Consumer groups: the rules are pure (`rules`), one actor per active group runs them in memory (`group_actor`), and what must
//! survive is saved by commands that the journal orders (`record`, `groups`).

pub mod error;
pub mod group_actor;
pub mod groups;
pub mod options;
pub mod record;
pub mod rules;
pub mod view;
