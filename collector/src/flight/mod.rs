//! Flight SQL: the history for ADBC, JDBC and whatever else speaks it, on the listener there is and for the same
//! operators.
//!
//! Nothing is kept between calls: a ticket and the handle of a prepared statement are the statement itself, so that
//! there is nothing to expire, and one collector can answer what was prepared at another.
//!
//! * [`endpoint`]: who may call, and what arrow-flight leaves out.
//! * [`service`]: the calls.
//! * [`statement`]: what a ticket holds.
//! * [`rows`]: answers on their way out.
//! * [`lists`]: catalogs, schemas and tables.
//! * [`facts`]: what a client may want to know beforehand.

pub mod endpoint;

pub mod service;

pub mod statement;

pub mod rows;

pub mod lists;

pub mod facts;

pub use service::FlightSql;
