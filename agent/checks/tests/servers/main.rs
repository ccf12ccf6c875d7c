//! Checks of real servers, broken in turn. PostgreSQL and Redis are Debian's (`cargo xtask setup`); PostgreSQL does not run
//! as root, so that tests run as root give it to its own user.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod command;

mod grpc;

mod http;

mod postgres;

mod real;

mod redis;

mod schedule;

mod support;
