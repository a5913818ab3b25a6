//! Changes of a trust policy by what lets in one service account by IRSA, and by nothing else.

use std::collections::BTreeSet;

use super::{Reach, oidc_statements};
use crate::model::{Cluster, Role};
use crate::names::{RoleArn, RoleId, Workload};
use crate::trust::manage::{statements_of, with_also, without};

/// A trust policy in place of another, which differ in statements that let in one service account of one cluster by its
/// OIDC provider, and nobody else. Only what is here makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IrsaEdit {
    role: RoleArn,
    role_id: RoleId,
    before: String,
    after: String,
    statements: Vec<String>,
}

impl IrsaEdit {
    /// Takes them out; `None` where there is none.
    ///
    /// # Errors
    /// Why the policy is not to be touched.
    pub fn take(role: &Role, cluster: &Cluster, workload: &Workload) -> Result<Option<Self>, String> {
        let numbers = alone(&role.trust_policy, cluster, workload);
        if numbers.is_empty() {
            return Ok(None);
        }
        let statements = statements_of(&role.trust_policy, &numbers)?;
        let after = without(&role.trust_policy, &numbers)?;
        Ok(Some(Self::of(role, after, statements)))
    }

    /// Puts such statements back; `None` where the policy has one, however it is written.
    ///
    /// # Errors
    /// Why the policy is not to be touched, or that one of them lets in somebody else.
    pub fn put_back(
        role: &Role,
        cluster: &Cluster,
        workload: &Workload,
        statements: &[String],
    ) -> Result<Option<Self>, String> {
        for statement in statements {
            let policy = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
            if alone(&policy, cluster, workload).len() != 1 {
                return Err(format!("what is to be put back is not for {workload} alone: {statement}"));
            }
        }
        if !alone(&role.trust_policy, cluster, workload).is_empty() {
            return Ok(None);
        }
        let after = with_also(&role.trust_policy, statements)?;
        Ok(after.map(|after| Self::of(role, after, statements.to_vec())))
    }

    fn of(role: &Role, after: String, statements: Vec<String>) -> Self {
        let before = role.trust_policy.clone();
        Self { role: role.arn.clone(), role_id: role.id.clone(), before, after, statements }
    }

    pub fn role(&self) -> &RoleArn {
        &self.role
    }

    pub fn role_id(&self) -> &RoleId {
        &self.role_id
    }

    /// The policy that it was made from.
    pub fn before(&self) -> &str {
        &self.before
    }

    pub fn after(&self) -> &str {
        &self.after
    }

    /// The statements that go or come, as they are written.
    pub fn statements(&self) -> &[String] {
        &self.statements
    }
}

/// The numbers of the statements that let in this service account by IRSA, and nobody else.
fn alone(policy: &str, cluster: &Cluster, workload: &Workload) -> BTreeSet<usize> {
    let found = oidc_statements(policy, cluster.oidc_issuer.as_deref(), workload);
    found.iter().filter(|found| found.reach == Reach::Alone).map(|found| found.number).collect()
}
