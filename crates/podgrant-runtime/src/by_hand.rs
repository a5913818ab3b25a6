//! The same way through with a person in it: all is looked at and decided first, shown, and done only then.

use std::collections::VecDeque;

use podgrant_aws::{AwsError, View};
use podgrant_core::outcome::{FollowUp, Wait};
use podgrant_core::plan::{Confirmation, Duty, Left, left};
use podgrant_core::{Approved, ClusterId, Outcome, Snapshot};
use podgrant_events::{Trigger, Wake};

use crate::flow::{Flow, Origin, Pass, again};
use crate::report::Report;
use crate::scope::{Function, Task, scope};

/// A person has seen what would go, and is not told to wait for a second look.
const BY_HAND: Origin = Origin::Invoke { allowed: true };

/// All that a wake-up asks for, looked at and decided.
#[derive(Debug, Default)]
pub struct Prepared {
    pub passes: Vec<PreparedPass>,
    /// What could not be looked at at all.
    pub unread: Vec<AwsError>,
    /// Why there is nothing to do for the function that was asked.
    pub dropped: Vec<String>,
}

/// One pass of it. What was approved is what is carried out.
#[derive(Debug)]
pub struct PreparedPass {
    function: Function,
    wake: Wake,
    pass: Pass,
    /// What it leaves for later, and is prepared too.
    parts: Vec<FollowUp>,
}

impl PreparedPass {
    pub fn function(&self) -> Function {
        self.function
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.pass.snapshot
    }

    pub fn approved(&self) -> &Approved {
        &self.pass.approved
    }

    /// What can't be done yet.
    pub fn waits(&self) -> impl Iterator<Item = &Wait> {
        self.pass.approved.waits().iter().filter(|wait| !self.parts.contains(&wait.follow_up))
    }
}

/// All that podgrant made and a person may have taken away, on one cluster or everywhere.
#[derive(Debug)]
pub struct PreparedUninstall {
    pub pass: PreparedPass,
    /// What has to be typed for it.
    pub confirmation: Confirmation,
    /// What stays, for podgrant did not make it.
    pub left: Vec<Left>,
}

impl Flow {
    /// Looks for all that podgrant made. No wake-up asks for that: it is a person's alone, and where a person is not
    /// the one to raise limits `guard` withholds all of it.
    ///
    /// # Errors
    /// As of [`podgrant_aws::Aws::observe`].
    pub async fn prepare_uninstall(
        &self,
        cluster: Option<&ClusterId>,
        wake: &Wake,
    ) -> Result<PreparedUninstall, AwsError> {
        let task = Task { view: View::Uninstall { cluster: cluster.cloned() }, duty: Duty::Uninstall };
        let pass = self.prepared(task, wake).await?;
        let confirmation = Confirmation::of(cluster, pass.approved());
        let left = left(pass.snapshot(), self.aws.keys());
        Ok(PreparedUninstall { pass, confirmation, left })
    }

    /// Takes away what was listed, and nothing that turned up since. `None` where `typed` does not confirm it.
    pub async fn carry_out_uninstall(
        &self,
        prepared: &PreparedUninstall,
        typed: &str,
        time_is_up: impl Fn() -> bool,
    ) -> Option<(Report, Vec<Outcome>)> {
        if !prepared.confirmation.is_given_by(typed) {
            return None;
        }
        Some(self.carry_out_prepared(&prepared.pass, time_is_up).await)
    }

    /// Looks at all that a wake-up asks for, the parts of a sweep one by one, and decides it. Nothing is changed.
    ///
    /// `begins` is told what is looked at next.
    pub async fn prepare(&self, wake: &Wake, begins: &mut dyn FnMut(&Trigger)) -> Prepared {
        let mut prepared = Prepared::default();
        let mut wakes = VecDeque::from([wake.clone()]);
        while let Some(wake) = wakes.pop_front() {
            let task = match scope(self.function, &wake, &self.config, self.clock.seconds()) {
                Ok(task) => task,
                Err(reason) => {
                    prepared.dropped.push(reason);
                    continue;
                }
            };
            begins(&wake.trigger);
            let pass = match self.prepared(task, &wake).await {
                Ok(pass) => pass,
                Err(error) => {
                    prepared.unread.push(error);
                    continue;
                }
            };
            // A later look at all orphans is in place of the one before.
            if is_look_at_orphans(&pass) {
                prepared.passes.retain(|before| !is_look_at_orphans(before));
            }
            wakes.extend(
                pass.parts
                    .iter()
                    .map(|part| Wake { trigger: Trigger::FollowUp(part.clone()), ..wake.clone() }),
            );
            prepared.passes.push(pass);
        }
        prepared
    }

    /// Looks at what a pass was about once more.
    ///
    /// # Errors
    /// As of [`podgrant_aws::Aws::observe`].
    pub async fn prepare_again(&self, before: &PreparedPass) -> Result<PreparedPass, AwsError> {
        self.prepared(before.pass.task.clone(), &before.wake).await
    }

    /// What would come of a task that no wake-up asks for.
    ///
    /// # Errors
    /// As of [`podgrant_aws::Aws::observe`].
    pub async fn prepare_task(&self, task: Task, wake: &Wake) -> Result<PreparedPass, AwsError> {
        self.prepared(task, wake).await
    }

    /// Makes what was approved true, and reports it. What time does not suffice for is Unbegun.
    pub async fn carry_out_prepared(
        &self,
        prepared: &PreparedPass,
        time_is_up: impl Fn() -> bool,
    ) -> (Report, Vec<Outcome>) {
        let (mut report, outcomes) =
            self.carry_out(&prepared.pass, &prepared.wake, BY_HAND, time_is_up).await;
        let left = std::mem::take(&mut report.parts).into_iter();
        let left = left.filter(|wait| !prepared.parts.contains(&wait.follow_up));
        report.waiting.extend(left.map(|wait| wait.reason));
        (report, outcomes)
    }

    async fn prepared(&self, task: Task, wake: &Wake) -> Result<PreparedPass, AwsError> {
        let (snapshot, approved) = self.decide(&task, wake, BY_HAND, i64::MAX).await?;
        let parts = approved.waits().iter().filter(|wait| self.is_part(wait, BY_HAND));
        let parts = parts.map(|wait| wait.follow_up.clone()).filter(|part| !again(&wake.trigger, part));
        let parts = parts.collect();
        let pass = Pass { task, snapshot, approved };
        Ok(PreparedPass { function: self.function, wake: wake.clone(), pass, parts })
    }
}

fn is_look_at_orphans(pass: &PreparedPass) -> bool {
    matches!(pass.pass.task.view, View::FleetOrphans { .. })
}
