//! How all of it goes again, in the opposite order.

use podgrant_aws::Meaning;
use podgrant_core::agent::pods::KubernetesAccess;
use podgrant_core::verify::{Object, PAUSE, Removal, Run, TRIES, Thing, Trouble};
use serde::Serialize;

use super::trial::{Known, Trial};
use crate::session::Session;
use crate::ui::Look;

/// What became of one thing.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    thing: Thing,
    name: String,
    /// Whether it is gone.
    removed: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The command that removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_hand: Option<String>,
    /// Nothing was there, and nothing is to be said.
    #[serde(skip)]
    was_absent: bool,
    /// It is left on purpose, for what is left besides.
    #[serde(skip)]
    is_kept: bool,
}

/// Why one try did not do it.
enum Not {
    /// Another try would not help.
    Ever(String),
    Now(String),
}

impl Removed {
    pub fn is_gone(&self) -> bool {
        self.removed
    }

    /// Whether it is gone, or left on purpose.
    pub fn is_as_wanted(&self) -> bool {
        self.removed || self.is_kept
    }

    /// Whether another run of `--clean` may remove it: what is somebody else's none does.
    pub fn may_go_later(&self) -> bool {
        !self.removed && self.by_hand.is_some()
    }

    /// The role of a run of which something is left, or may be: by its mark that is found again.
    pub fn kept(name: &str, run: &Run) -> Self {
        let why = "kept, for by it what else is left is found again";
        Self { is_kept: true, ..Self::unseen(Thing::Role, name, run, why) }
    }

    /// One that can't be looked at.
    pub fn unseen(thing: Thing, name: &str, run: &Run, why: &str) -> Self {
        Self {
            thing,
            name: name.to_owned(),
            removed: false,
            reason: Some(why.to_owned()),
            by_hand: Some(thing.by_hand(run, name)),
            was_absent: false,
            is_kept: false,
        }
    }

    pub fn show(&self, session: &mut Session<'_>) {
        if self.was_absent {
            return;
        }
        let (thing, name) = (self.thing, &self.name);
        let Some(reason) = &self.reason else {
            let removed = session.ui.look(Look::Dim, "removed");
            session.ui.show(&format!("  {removed} {thing:<15} {name}"));
            return;
        };
        let left = session.ui.look(Look::Red, "LEFT   ");
        session.ui.show(&format!("  {left} {thing:<15} {name}: {reason}"));
        if let Some(by_hand) = &self.by_hand {
            session.ui.show(&format!("          {:<15} → {by_hand}", ""));
        }
    }
}

impl Trial<'_> {
    /// Removes what was made, and what may have been, whatever comes in between.
    pub async fn remove(&self, session: &mut Session<'_>) -> Vec<Removed> {
        let mut all = Vec::new();
        let id = self.run.id;
        let pods = self.pods.iter().map(|(&number, &known)| (Thing::Pod, id.pod_name(number), known));
        let others = self.begun.iter().rev().map(|(&thing, &known)| (thing, id.name(), known));
        for (thing, name, known) in pods.chain(others) {
            let removed = remove_next(session, &self.run, (thing, &name, known), &all).await;
            removed.show(session);
            all.push(removed);
        }
        all.retain(|removed| !removed.was_absent);
        all
    }
}

/// Removes the next thing of a run; its role only where nothing before it was left that can be removed later.
pub async fn remove_next(
    session: &mut Session<'_>,
    run: &Run,
    (thing, name, known): (Thing, &str, Known),
    before: &[Removed],
) -> Removed {
    if thing == Thing::Role && before.iter().any(Removed::may_go_later) {
        return Removed::kept(name, run);
    }
    session.ui.progress(&format!("removing the {thing} …"));
    remove(session, run, thing, name, known).await
}

/// Removes one thing of a run.
async fn remove(session: &Session<'_>, run: &Run, thing: Thing, name: &str, known: Known) -> Removed {
    let gone = |was_absent| Removed {
        thing,
        name: name.to_owned(),
        removed: true,
        reason: None,
        by_hand: None,
        was_absent,
        is_kept: false,
    };
    let (mut reason, mut was_there) = (String::new(), false);
    for number in 1..=TRIES {
        match one_try(session, run, thing, name).await {
            Ok(Removal::Removed) => return gone(false),
            Ok(Removal::Absent) if was_there => return gone(false),
            Ok(Removal::Absent) if !known.may_show_later(thing) || number == TRIES => return gone(true),
            Ok(Removal::Absent) => {}
            Ok(Removal::Going) => {
                was_there = true;
                "it is still being deleted".clone_into(&mut reason);
            }
            // It stood in the way, and nothing was made.
            Ok(Removal::Foreign) if known != Known::Made => return gone(true),
            Ok(Removal::Foreign) => {
                let why = "what stands there lacks verify's mark, and is left alone";
                return Removed { by_hand: None, ..Removed::unseen(thing, name, run, why) };
            }
            Err(Not::Ever(why)) => {
                reason = why;
                break;
            }
            Err(Not::Now(why)) => reason = why,
        }
        if number < TRIES {
            session.pause(PAUSE).await;
        }
    }
    Removed::unseen(thing, name, run, &reason)
}

async fn one_try(session: &Session<'_>, run: &Run, thing: Thing, name: &str) -> Result<Removal, Not> {
    let removed = match thing {
        Thing::Role => session.aws.remove_verify_role(run).await,
        Thing::Association => session.aws.remove_verify_association(run).await,
        Thing::ServiceAccount | Thing::Pod => {
            let object = Object { thing, name: name.to_owned(), run: run.clone() };
            let Some(way) = way(session, run).await? else { return Ok(Removal::Absent) };
            return session.hands().remove(way, object).await.map_err(|trouble| match trouble {
                Trouble::Refused(why) => Not::Ever(why),
                other => Not::Now(other.to_string()),
            });
        }
    };
    removed.map_err(|error| match error.meaning {
        Meaning::AccessDenied | Meaning::NoCredentials | Meaning::BadCredentials | Meaning::Invalid => {
            Not::Ever(error.to_string())
        }
        _ => Not::Now(error.to_string()),
    })
}

/// The way into a run's cluster; `None` where there is no such cluster any more.
async fn way(session: &Session<'_>, run: &Run) -> Result<Option<KubernetesAccess>, Not> {
    let found = session.aws.cluster(&run.cluster).await;
    let found = found.map_err(|error| Not::Now(error.to_string()))?;
    let Some(cluster) = found else { return Ok(None) };
    session.aws.way_into(&cluster, session.now()).await.map(Some).map_err(Not::Now)
}
