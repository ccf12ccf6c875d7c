//! An operator's word on an action or an incident, and what came of it.

use skep_wire::v1::{self, Verb};

use super::actions::full_id;
use super::listing;
use crate::exit::Failure;
use crate::output::{ListFormat, print_line};
use crate::place::PlaceArgs;

/// What an operator says.
pub(super) struct Word {
    /// Start of the id of what it is about.
    pub(super) id: String,
    /// Why.
    pub(super) reason: String,
    /// How the result is printed.
    pub(super) format: ListFormat,
    /// Where to say it.
    pub(super) place: PlaceArgs,
}

/// Says it of one of `table`, whose ids are in its column `kind`; `what` names the command.
pub(super) async fn say(
    word: Word,
    (table, kind): (&'static str, &'static str),
    verb: Verb,
    what: &'static str,
) -> Result<(), Failure> {
    let source = super::open(&word.place).await?;
    let live = source.live(what)?.clone();
    let id = full_id(&source, table, kind, &word.id).await?;
    let request =
        v1::ActRequest { action_id: id.clone(), verb: verb.into(), reason: word.reason, ..Default::default() };
    let reply = live.act(request).await?;
    told(kind, id, reply, word.format)
}

/// What came of it.
pub(super) fn told(kind: &'static str, id: String, reply: v1::ActReply, format: ListFormat) -> Result<(), Failure> {
    match format {
        ListFormat::Table => {
            let detail = if reply.detail.is_empty() { String::new() } else { format!(": {}", reply.detail) };
            Ok(print_line(&format!("{kind} {id} is {}{detail}", reply.state))?)
        }
        format => {
            let batch = listing::batch([
                (kind, listing::texts([id])),
                ("state", listing::texts([reply.state])),
                ("detail", listing::texts([reply.detail])),
            ])?;
            listing::write(&batch.schema(), &[batch], format, "")
        }
    }
}
