//! The only code that changes the cluster.
//!
//! * [`pod`]: a pod is evicted or deleted.
//! * [`rollout`]: a template is started anew, or one of before put back.
//! * [`scale`]: how many pods there are.
//! * [`node`]: whether a node takes new pods.
//!
//! The engine calls an act's parts in the order check, capture, apply, follow, undo, and writes the journal between capture
//! and apply. Each may be the last: the next life knows only the command and the two texts of [`Captured`].

pub mod pod;

pub mod rollout;

pub mod scale;

pub mod node;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use skep_wire::v1::{self, ObjectVerb, Step};
use thiserror::Error;

use crate::cluster::{Cluster, ClusterError};
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::target::{self, Kind, Object};

/// The annotation that says whose change this is.
pub const ANNOTATION: &str = "skep-rs.github.io/action";

/// It, within a JSON pointer.
const ANNOTATION_POINTER: &str = "skep-rs.github.io~1action";

/// Why an act could not be carried out, or not taken back; to be tried again.
#[derive(Debug, Error)]
pub enum ActError {
    /// The API server does not do it.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The journal does not say how to go on.
    #[error("the journal does not say what was there before")]
    Journal,
    /// What was found is not what was looked at before.
    #[error("{0}")]
    Changed(String),
}

/// How it was before and how it is to be: in the journal before the act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Where: namespace, kind, name, uid.
    pub namespace: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// As it was.
    pub was: Value,
    /// As it will be.
    pub will: Value,
}

impl Captured {
    /// The object they are about.
    ///
    /// # Errors
    /// [`ActError::Journal`].
    pub fn object(&self) -> Result<Object, ActError> {
        let kind = Kind::parse(&self.kind).ok_or(ActError::Journal)?;
        let Self { namespace, name, uid, .. } = self.clone();
        Ok(Object { namespace, kind, name, uid })
    }
}

/// What came of an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Improved or failed; done for what cannot be undone.
    pub step: Step,
    /// One line for people.
    pub detail: String,
}

impl Outcome {
    fn of(step: Step, detail: impl Into<String>) -> Self {
        Self { step, detail: detail.into() }
    }
}

/// What a change has come to so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Not yet; how it looks.
    Under(String),
    /// It came about, or cannot any more.
    Over(Outcome),
}

/// One action on one object.
#[derive(Debug, Clone)]
pub struct Act {
    /// This very one.
    pub object: Object,
    /// As it was read last.
    value: Value,
    change: v1::ChangeObject,
    /// The command's id.
    action: String,
    lease_s: u32,
}

impl Act {
    /// The act a command asks for, once its object was found.
    ///
    /// # Errors
    /// It is none, or there is no such object.
    pub async fn of(cluster: &Cluster, command: &v1::Command) -> Result<Self, Refusal> {
        let Some(v1::command::Action::ChangeObject(change)) = command.action else {
            return Err(Refusal::Malformed { what: "it is for a host, not for a cluster" });
        };
        let target = command.target.as_ref().and_then(|target| target.object.as_ref());
        let target = target.ok_or(Refusal::Malformed { what: "it has no target object" })?;
        let rollout = matches!(change.verb(), ObjectVerb::Restart | ObjectVerb::Scale | ObjectVerb::UndoRollout);
        let (object, value) = target::resolve(cluster, target, rollout).await?;
        let fits = match change.verb() {
            ObjectVerb::Unspecified => false,
            ObjectVerb::Evict | ObjectVerb::Delete => object.kind == Kind::Pod,
            ObjectVerb::Cordon | ObjectVerb::Uncordon => object.kind == Kind::Node,
            ObjectVerb::Restart => matches!(object.kind, Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet),
            ObjectVerb::Scale => matches!(object.kind, Kind::Deployment | Kind::StatefulSet),
            ObjectVerb::UndoRollout => object.kind == Kind::Deployment,
        };
        if !fits {
            let verb = skep_wire::order::verb(command.action.as_ref());
            return Err(Refusal::Lacks {
                subject: object.subject(),
                lacks: format!("is nothing that {verb} can be done to"),
            });
        }
        Ok(Self { object, value, change, action: command.id.clone(), lease_s: command.lease_s })
    }

    /// What it acts on. Two actions with one subject exclude each other.
    pub fn subject(&self) -> String {
        self.object.subject()
    }

    /// Whether the settings and the object itself allow it; changes nothing.
    ///
    /// # Errors
    /// The first reason against it.
    pub async fn check(&self, cluster: &Cluster, settings: &Settings) -> Result<(), Refusal> {
        let subject = self.subject();
        if let Some(why) = settings.protects(&self.object, cluster.own_namespace.as_deref()) {
            return Err(Refusal::Protected { subject, why });
        }
        if !settings.allows(&self.object) {
            return Err(Refusal::Policy { why: format!("{} is not among allowed", self.object.path()) });
        }
        match self.change.verb() {
            ObjectVerb::Evict | ObjectVerb::Delete => pod::check(&self.object, &self.value),
            ObjectVerb::Scale => scale::check(cluster, settings, &self.object, self.change.replicas).await,
            ObjectVerb::Cordon => node::check(cluster, settings, &self.object, &self.value).await,
            _ => Ok(()),
        }
    }

    /// How it is now, and how it will be.
    ///
    /// # Errors
    /// There is no reason any more, or it cannot be done.
    pub async fn capture(&self, cluster: &Cluster) -> Result<Captured, Refusal> {
        let (was, will) = match self.change.verb() {
            ObjectVerb::Scale => scale::capture(&self.object, &self.value, self.change.replicas)?,
            ObjectVerb::UndoRollout => {
                rollout::capture(cluster, &self.object, &self.value, self.change.revision).await?
            }
            ObjectVerb::Cordon | ObjectVerb::Uncordon => {
                node::capture(&self.object, &self.value, self.change.verb() == ObjectVerb::Cordon)?
            }
            ObjectVerb::Evict | ObjectVerb::Delete => (pod::capture(&self.object, &self.value), Value::Null),
            _ => (Value::Null, Value::Null),
        };
        let Object { namespace, kind, name, uid } = self.object.clone();
        Ok(Captured { namespace, kind: kind.as_str().to_owned(), name, uid, was, will })
    }

    /// Changes the cluster. Names the uid it is for: one made again under the same name stays as it is.
    ///
    /// # Errors
    /// [`ActError`]; what was half done is taken back by [`undo`].
    pub async fn apply(&self, cluster: &Cluster, captured: &Captured) -> Result<(), ActError> {
        let Captured { was, will, .. } = captured;
        let done = match self.change.verb() {
            ObjectVerb::Scale => scale::set(cluster, &self.object, was, will).await?,
            ObjectVerb::UndoRollout => rollout::put_template(cluster, &self.object, was, will).await?,
            _ => true,
        };
        if !done {
            return Err(ActError::Changed(format!("somebody changed {} meanwhile; it is left alone", self.subject())));
        }
        match self.change.verb() {
            ObjectVerb::Evict => Ok(cluster.evict(&self.object).await?),
            ObjectVerb::Delete => Ok(cluster.delete(&self.object).await?),
            ObjectVerb::Restart => rollout::restart(cluster, &self.object, &self.action).await,
            ObjectVerb::Cordon => node::set(cluster, &self.object, Some(&self.action)).await,
            ObjectVerb::Uncordon => node::set(cluster, &self.object, None).await,
            ObjectVerb::Scale | ObjectVerb::UndoRollout => Ok(()),
            ObjectVerb::Unspecified => Err(ActError::Journal),
        }
    }

    /// One line about what was done, or what a dry run would do.
    pub fn told(&self, captured: &Captured) -> String {
        let (subject, lease_s) = (self.subject(), self.lease_s);
        match self.change.verb() {
            ObjectVerb::Evict => format!("{subject} is asked to go"),
            ObjectVerb::Delete => format!("{subject} is to go"),
            ObjectVerb::Restart => format!("{subject} begins to replace its pods"),
            ObjectVerb::Scale => format!("{subject} scaled from {} to {} for {lease_s} s", captured.was, captured.will),
            ObjectVerb::UndoRollout => format!(
                "{subject} goes back from revision {} to {}; it can be taken back for {lease_s} s",
                captured.was["revision"], captured.will["revision"]
            ),
            ObjectVerb::Cordon => format!("{subject} takes no new pods for {lease_s} s"),
            _ => format!("{subject} takes new pods again"),
        }
    }
}

/// How far a change has come; asked again until it is over. It needs nothing but the journal, so that the next life can ask.
///
/// # Errors
/// The API server does not say.
pub async fn progress(cluster: &Cluster, command: &v1::Command, captured: &Captured) -> Result<Progress, ActError> {
    let Some(v1::command::Action::ChangeObject(change)) = &command.action else { return Err(ActError::Journal) };
    let object = captured.object()?;
    match change.verb() {
        ObjectVerb::Evict | ObjectVerb::Delete => pod::progress(cluster, &object, &captured.was).await,
        ObjectVerb::Restart => rollout::progress(cluster, &object, Step::Done, Some(&command.id)).await,
        ObjectVerb::UndoRollout => rollout::progress(cluster, &object, Step::Improved, None).await,
        ObjectVerb::Scale => scale::progress(cluster, &object, &captured.will).await,
        ObjectVerb::Cordon => node::progress(cluster, &object, true).await,
        ObjectVerb::Uncordon => node::progress(cluster, &object, false).await,
        ObjectVerb::Unspecified => Err(ActError::Journal),
    }
}

/// Takes a change back and says how. Nothing of somebody else's is touched.
///
/// # Errors
/// [`ActError`]: it may still stand; try again.
pub async fn undo(cluster: &Cluster, command: &v1::Command, captured: &Captured) -> Result<String, ActError> {
    let Some(v1::command::Action::ChangeObject(change)) = &command.action else { return Err(ActError::Journal) };
    let object = captured.object()?;
    let value = match target::read(cluster, object.clone()).await {
        Ok((_, value)) => value,
        Err(Refusal::Gone { .. }) => return Ok(format!("{} is gone", object.subject())),
        Err(Refusal::Other { .. }) => {
            return Ok(format!("{} was made again since; it is left alone", object.subject()));
        }
        Err(Refusal::Cluster(error)) => return Err(error.into()),
        Err(_) => return Err(ActError::Journal),
    };
    match change.verb() {
        ObjectVerb::Scale => scale::undo(cluster, &object, &value, captured).await,
        ObjectVerb::UndoRollout => rollout::undo(cluster, &object, &value, captured).await,
        ObjectVerb::Cordon => node::undo(cluster, &object, &value, &command.id).await,
        _ => Err(ActError::Journal),
    }
}
