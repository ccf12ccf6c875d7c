//! The bytes of an entry: protobuf, in a frame of `skep-seglog`.
//!
//! Fields are only added. A program that meets a change it does not know refuses the journal: guessing what stands on
//! the host is not its business.

use skep_wire::v1;

use super::state::Now;

/// One indivisible step: all of its changes, or none.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub changes: Vec<Change>,
    /// Commands that were not to be begun later than this, wall clock in microseconds, are void: which of them were carried
    /// out is not remembered any more. 0 for none.
    #[prost(int64, tag = "2")]
    pub void_until_us: i64,
    /// When the journal was begun, in its first entry and in snapshots; 0 elsewhere.
    #[prost(int64, tag = "3")]
    pub journal_us: i64,
}

/// One change.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Change {
    /// What.
    #[prost(oneof = "What", tags = "1, 2, 3, 4, 5, 6")]
    pub what: Option<What>,
}

/// What changed.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum What {
    /// Forget everything: a snapshot follows in the same entry.
    #[prost(bool, tag = "1")]
    Clear(bool),
    /// A command was seen.
    #[prost(message, tag = "2")]
    Seen(Seen),
    /// An action is about to be applied, or stands.
    #[prost(message, tag = "3")]
    Standing(Standing),
    /// Nothing of this action stands on the host any more.
    #[prost(string, tag = "4")]
    Closed(String),
    /// A receipt, not acknowledged yet.
    #[prost(message, tag = "5")]
    Receipt(v1::Receipt),
    /// Receipts up to this number are acknowledged.
    #[prost(uint64, tag = "6")]
    Acknowledged(u64),
}

/// A command that was seen, so that it is not carried out twice.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Seen {
    /// Its nonce.
    #[prost(string, tag = "1")]
    pub nonce: String,
    /// Its id.
    #[prost(string, tag = "2")]
    pub command: String,
    /// Wall clock, microseconds: remembered until then.
    #[prost(int64, tag = "3")]
    pub until_us: i64,
    /// When it began to act; 0 when it was refused or only undid something. Counts towards the budget of the hour.
    #[prost(int64, tag = "4")]
    pub begun_us: i64,
    /// The same on the boot clock, which nobody sets.
    #[prost(uint64, tag = "5")]
    pub begun_boot_ns: u64,
    /// The boot that was in, as [`super::state::mark`] has it; 0 where an earlier version did not say.
    #[prost(fixed64, tag = "6")]
    pub begun_boot: u64,
}

/// What is needed to take an action back.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Standing {
    /// The command that asked for it.
    #[prost(message, optional, tag = "1")]
    pub command: Option<v1::Command>,
    /// Boot it was applied in.
    #[prost(string, tag = "2")]
    pub boot: String,
    /// The limit there was, as the kernel showed it.
    #[prost(string, tag = "3")]
    pub previous: String,
    /// The limit that was set, as the kernel shows it.
    #[prost(string, tag = "4")]
    pub ours: String,
    /// Wall clock, microseconds: when the lease ends.
    #[prost(int64, tag = "5")]
    pub lease_until_us: i64,
}

impl Seen {
    /// That a command was seen, to be remembered until then; `begins` if it begins to act now.
    pub fn of(command: &v1::Command, until_us: i64, begins: bool, now: Now) -> Self {
        let begun = if begins { now } else { Now::default() };
        Self {
            nonce: command.nonce.clone(),
            command: command.id.clone(),
            until_us,
            begun_us: begun.wall_us,
            begun_boot_ns: begun.boot_ns,
            begun_boot: begun.boot,
        }
    }
}

impl Entry {
    /// An entry of these changes.
    pub fn of(changes: impl IntoIterator<Item = What>) -> Self {
        Self { changes: changes.into_iter().map(|what| Change { what: Some(what) }).collect(), ..Self::default() }
    }
}

impl Standing {
    /// The action's id.
    pub fn action(&self) -> &str {
        self.command.as_ref().map_or("", |command| command.id.as_str())
    }

    /// The target's path and inode.
    pub fn target(&self) -> (&str, i64) {
        let target = self.command.as_ref().and_then(|command| command.target.as_ref());
        target.map_or(("", 0), |target| (target.cgroup.as_str(), target.cgroup_id))
    }
}
