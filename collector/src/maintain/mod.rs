//! What is done to the history in the background, so that it stays small and quick to read.
//!
//! * [`settings`]: how much of it, and when.
//! * [`plan`]: which files of an hour become one.
//! * [`merge`]: sorted files to one sorted file.
//! * [`coarsen`]: rows of short windows to rows of longer ones.
//! * [`alive`]: which collectors are gone, and who keeps their files in order.
//! * [`seek`]: hours in which a batch is twice.
//! * [`twice`]: what is left out because another collector's files have it.
//! * [`rewrite`]: files of an hour to one file, as they are or changed on the way.
//! * [`retention`]: which hours go.
//! * [`forget`]: everything of one node, from a folder nobody runs on.
//! * [`keeper`]: the thread that does it, one table after the other.
//!
//! Whatever it does is one commit at a time, so a kill leaves the table as it was before or after.
//! A collector changes and removes only files it wrote itself, or one that is gone: others may append to the same tables.

pub mod settings;

pub mod plan;

pub mod merge;

pub mod coarsen;

pub mod alive;

pub mod seek;

pub mod twice;

pub mod rewrite;

pub mod retention;

pub mod forget;

pub mod keeper;

pub use keeper::Keeper;
pub use settings::Settings;
