//! What operators ask: SQL, events, a word on an action, a flush, the nodes.

pub mod events;

pub mod service;

pub use service::ConsoleService;
