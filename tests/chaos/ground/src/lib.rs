//! What faults on purpose stand on, without the query engine: programs that torment others are quick to build.
//!
//! * [`dice`]: chance that can be repeated.
//! * [`rounds`]: how much of it, as options.
//! * [`figures`]: what happened, and whether it was right.
//! * [`place`]: a small disk for a collector, and certificates for everybody.
//! * [`collector`]: a collector that runs.
//! * [`proxy`]: a way to it that can be cut.

pub mod dice;

pub mod rounds;

pub mod figures;

pub mod place;

pub mod collector;

pub mod proxy;

pub use collector::{Collector, beside};
pub use dice::Dice;
pub use figures::Figures;
pub use place::Ground;
pub use proxy::Proxy;
pub use rounds::Rounds;
