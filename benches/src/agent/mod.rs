//! What the agent itself takes: the real program, sending to a collector that acknowledges at once.
//!
//! Its CPU time and memory are read from /proc, where the kernel keeps them. What its probes cost those who are watched
//! is another question: `bench overhead`.

mod collector;

mod subject;

mod load;

mod phase;

mod run;

pub(crate) use run::{AgentArguments, run};
