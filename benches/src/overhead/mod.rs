//! What the probes add to things a program does, against the floor and against the tool people use now.
//!
//! Every round measures every [configuration](configuration::Configuration) of a [workload](workload::Workload), in an
//! order that moves on from round to round, so that whatever else the machine does is spread over all of them. The
//! floor is two or more empty programs on the same hooks: nothing that watches them can be cheaper.

pub(crate) mod arguments;

mod workload;

mod domain;

mod floor;

mod stranger;

mod peer;

mod configuration;

mod measure;

mod report;

mod run;

pub(crate) use arguments::OverheadArguments;
pub(crate) use report::table;
pub(crate) use run::run;
