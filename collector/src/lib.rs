//! See ARCHITECTURE.md.

pub mod detect;

pub mod decide;

pub mod dispatch;

pub mod response;
