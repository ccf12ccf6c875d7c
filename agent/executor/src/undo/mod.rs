//! Takes an action back: whether anything is left of it is decided here, the change itself is in [`crate::act`].

use crate::act::host::Host;
use crate::act::kind::{self, ActError, Captured};
use crate::journal::Standing;

/// Takes the action back and says how.
///
/// # Errors
/// [`ActError`]: it may still stand; try again.
pub fn undo(standing: &Standing, boot: &str, host: &Host) -> Result<String, ActError> {
    if standing.boot != boot {
        return Ok("the host has restarted since, and nothing of it survives that".to_owned());
    }
    let command = standing.command.clone().unwrap_or_default();
    // A command that was carried out can be understood.
    let Ok(act) = kind::of(&command) else { return Err(ActError::Journal) };
    let captured = Captured { previous: standing.previous.clone(), ours: standing.ours.clone(), held: None };
    act.undo(host, &captured)
}
