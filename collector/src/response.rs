//! Detect, decide, dispatch as one state machine: durable rows in, rows to store and commands to send out.
//!
//! [`Responder`] does no IO and reads no clock: whoever owns it passes the time in, writes [`Output::chunks`] to the WAL
//! and sends [`Output::commands`] down the nodes' sessions. Chunks are to be durable before the commands leave, so that
//! no host is ever changed by an action that history does not know.

use ed25519_dalek::SigningKey;
use skep_wire::envelope::Origin;
use skep_wire::v1;

use crate::decide::Policy;
use crate::decide::Refusal;

/// Everything the responder is made with.
#[derive(Debug)]
pub struct Setup {
    /// What may be done about which finding.
    pub policy: Policy,
    /// Signs commands; every executor trusts its public half.
    pub key: SigningKey,
    /// 32 bytes of the system's randomness; ids and nonces are drawn from it.
    pub seed: [u8; 32],
}

/// A command for one node's session.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Whose session.
    pub node: String,
    /// For [`Responder::undeliverable`].
    pub action: String,
    /// What to send.
    pub command: v1::SignedCommand,
}

/// What came of one call.
#[derive(Debug, Default)]
pub struct Output {
    /// Rows of `scores`, `findings`, `actions` and `audit`, for the collector's own stream.
    pub chunks: Vec<v1::Chunk>,
    /// To be sent once `chunks` are durable.
    pub commands: Vec<Outgoing>,
}

impl Output {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.commands.is_empty()
    }
}

/// Detection and response of one collector.
#[derive(Debug)]
pub struct Responder {
    setup: Setup,
}

impl Responder {
    /// A responder that has seen nothing yet.
    pub fn new(setup: Setup) -> Self {
        Self { setup }
    }

    /// Learns from a batch that was durable before this start; call it in order, before anything else. Raises nothing.
    pub fn restore(&mut self, origin: &Origin, batch: &v1::Batch, now_us: i64) {
        let _ = (origin, batch, now_us);
    }

    /// Takes a batch that has just become durable (and was not so before). Batches of the collector's own stream are
    /// let be.
    pub fn observe(&mut self, origin: &Origin, batch: &v1::Batch, now_us: i64) -> Output {
        let _ = (origin, batch, now_us);
        Output::default()
    }

    /// A node's session began.
    pub fn connected(&mut self, node: &str, boot: &str, now_us: i64) {
        let _ = (node, boot, now_us);
    }

    /// A node's session ended.
    pub fn disconnected(&mut self, node: &str) {
        let _ = node;
    }

    /// The command of this action could not be handed to its node's session.
    pub fn undeliverable(&mut self, action: &str, now_us: i64) -> Output {
        let _ = (action, now_us);
        Output::default()
    }

    /// An operator's word on an action. `operator` is the name in its certificate.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was changed; the text is for the operator.
    pub fn operator(
        &mut self,
        request: &v1::ActRequest,
        operator: &str,
        now_us: i64,
    ) -> Result<(v1::ActReply, Output), Refusal> {
        let _ = (operator, now_us, &self.setup);
        Err(Refusal::UnknownAction { action: request.action_id.clone() })
    }

    /// Call about once a second: lets pending actions expire and notices commands that were never answered.
    pub fn tick(&mut self, now_us: i64) -> Output {
        let _ = now_us;
        Output::default()
    }
}
