//! What is suspicious in an exec or a connection.
//!
//! ```text
//! event ──► analyse ──► table, baseline ──► engine ──► detector: alerts
//!           skep.* facts │ what memory adds │ all rules at once │ less below trusted programs
//! ```
//!
//! Pure: it reads rule files and nothing else, and knows neither the agent nor the collector.

pub mod event;

pub mod names;

pub mod words;

pub mod facts;

pub mod script;

pub mod analyse;

pub mod aging;

mod memo;

pub mod table;

pub mod baseline;

pub mod keep;

pub mod view;

pub mod rule;

pub mod date;

pub mod pack;

pub mod load;

mod literal;

mod outline;

mod demand;

pub mod engine;

pub mod detector;

pub mod replay;

pub mod score;

pub mod budget;
