//! The only code that changes the host.
//!
//! * [`kind`]: what every kind of action can do.
//! * [`host`]: the host as acts see it.
//! * [`hierarchy`]: where the cgroup hierarchies are mounted, and a cgroup in one.
//! * [`aim`]: the cgroup a command means, checked.
//! * [`gauge`]: what is read to know whether there is a reason, and whether it helped.
//! * [`usage`]: how much cpu a cgroup uses and wants.
//! * [`limit`]: a cgroup's interface files.
//! * [`throttle`], [`memory`], [`io`], [`freeze`]: what a cgroup may use.
//! * [`process`], [`kill`]: ending processes.
//! * [`unit`]: systemd's units.
//! * [`runtime`], [`container`]: containers.
//! * [`nft`], [`network`]: the packet filter's table of our own.
//! * [`clean`]: old files of a folder.
//! * [`run`]: commands of the configuration.

pub mod kind;

pub mod host;

pub mod hierarchy;

pub mod aim;

pub mod gauge;

pub mod usage;

pub mod limit;

pub mod throttle;

pub mod memory;

pub mod io;

pub mod freeze;

pub mod process;

pub mod kill;

pub mod unit;

pub mod runtime;

pub mod container;

pub mod nft;

pub mod network;

pub mod clean;

pub mod run;
