//! Places: who stands there, and who wants them. Each is found by its names once and is a number from then on; the names
//! of a fleet begin alike, and are long to compare.

use foldhash::{HashMap, HashMapExt as _};

use super::Claim;
use crate::model::{Association, Snapshot};
use crate::names::{AssociationId, ClusterId, Workload};

/// A place that somebody has, or claims.
pub(in crate::plan) struct Known<'a> {
    pub cluster: &'a ClusterId,
    pub workload: &'a Workload,
    /// EKS holds one association for each service account. Two are seen where one was replaced while we looked. Then the
    /// one that is not ours is believed, whatever the order: it is the one that must not be touched.
    pub standing: Option<&'a Association>,
    pub claims: Vec<Claim<'a>>,
}

/// All of them, those that somebody has first.
pub(in crate::plan) struct Places<'a> {
    numbers: HashMap<(&'a ClusterId, &'a Workload), usize>,
    places: Vec<Known<'a>>,
    of_associations: Vec<usize>,
}

impl<'a> Places<'a> {
    /// What stands.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let count = snapshot.associations.len();
        let mut known = Self {
            numbers: HashMap::with_capacity(count),
            places: Vec::with_capacity(count),
            of_associations: Vec::with_capacity(count),
        };
        for association in &snapshot.associations {
            let number = known.number(&association.cluster, &association.workload);
            known.of_associations.push(number);
            if let Some(place) = known.places.get_mut(number)
                && place.standing.is_none_or(|standing| rank(association) < rank(standing))
            {
                place.standing = Some(association);
            }
        }
        known
    }

    /// The number of a place, which it has from now on.
    pub fn number(&mut self, cluster: &'a ClusterId, workload: &'a Workload) -> usize {
        *self.numbers.entry((cluster, workload)).or_insert_with(|| {
            self.places.push(Known { cluster, workload, standing: None, claims: Vec::new() });
            self.places.len() - 1
        })
    }

    pub fn standing(&self, number: usize) -> Option<&'a Association> {
        self.places.get(number)?.standing
    }

    /// What stands in a place.
    pub fn standing_at(&self, cluster: &ClusterId, workload: &Workload) -> Option<&'a Association> {
        self.standing(*self.numbers.get(&(cluster, workload))?)
    }

    pub fn claim(&mut self, number: usize, claim: Claim<'a>) {
        if let Some(place) = self.places.get_mut(number) {
            place.claims.push(claim);
        }
    }

    pub fn places(&self) -> &[Known<'a>] {
        &self.places
    }

    /// The number of each association's place, in the order of the snapshot.
    pub fn of_associations(&self) -> &[usize] {
        &self.of_associations
    }
}

/// Who is believed of two that stand in one place: the lesser.
fn rank(association: &Association) -> (bool, &AssociationId) {
    (association.managed().is_some(), &association.id)
}
