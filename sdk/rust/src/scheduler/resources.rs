//! Amounts of resources by node: one row a node, one entry a resource.
//!
//! Rows lie one after another in one array, wide enough for every resource seen; a new resource beyond
//! the width moves the rows apart once. Sums follow each pod that comes or goes.

use super::{Amount, NodeId, Pod, Symbol};
use crate::Fault;

/// How many different resources a cluster may have.
const RESOURCES_MAX: usize = 128;
/// Entries a row starts with: the original's resources and a few extended ones.
const WIDTH_FIRST: usize = 6;

/// What a node has of one resource, and what its pods ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// `status.allocatable`.
    pub allocatable: i64,
    /// Sum of its pods' effective requests.
    pub requested: i64,
    /// The same where containers that ask for none count with the original's defaults.
    pub requested_or_default: i64,
}

impl Amounts {
    /// What is left for requests.
    #[inline]
    pub fn free(&self) -> i64 {
        self.allocatable - self.requested
    }
}

#[derive(Debug, Default)]
pub(super) struct Resources {
    columns: Vec<Symbol>,
    width: usize,
    rows: Vec<Amounts>,
}

/// The two request lists of a pod.
pub(super) struct Sums<'a> {
    requests: &'a [Amount],
    or_default: &'a [Amount],
}

impl<'a> Sums<'a> {
    pub(super) fn of(pod: &'a Pod) -> Self {
        Self {
            requests: &pod.requests,
            or_default: &pod.requests_or_default,
        }
    }
}

impl Resources {
    pub(super) fn column(&self, resource: Symbol) -> Option<usize> {
        self.columns.iter().position(|&symbol| symbol == resource)
    }

    pub(super) fn columns_len(&self) -> usize {
        self.columns.len()
    }

    #[inline]
    pub(super) fn row(&self, node: NodeId) -> &[Amounts] {
        let start = node as usize * self.width;
        self.rows
            .get(start..start + self.columns.len())
            .unwrap_or_default()
    }

    pub(super) fn set_allocatable(&mut self, node: NodeId, amounts: &[Amount]) -> Result<(), Fault> {
        self.clear_allocatable(node);
        for amount in amounts {
            self.entry(node, amount.resource)?.allocatable = amount.value;
        }
        Ok(())
    }

    pub(super) fn clear_allocatable(&mut self, node: NodeId) {
        let start = node as usize * self.width;
        if let Some(row) = self.rows.get_mut(start..start + self.width) {
            row.iter_mut().for_each(|amounts| amounts.allocatable = 0);
        }
    }

    pub(super) fn count(&mut self, node: NodeId, sums: Sums<'_>, sign: i64) -> Result<(), Fault> {
        for amount in sums.requests {
            self.entry(node, amount.resource)?.requested += sign * amount.value;
        }
        for amount in sums.or_default {
            self.entry(node, amount.resource)?.requested_or_default += sign * amount.value;
        }
        Ok(())
    }

    fn entry(&mut self, node: NodeId, resource: Symbol) -> Result<&mut Amounts, Fault> {
        let column = match self.column(resource) {
            Some(column) => column,
            None => self.add_column(resource)?,
        };
        let end = (node as usize + 1) * self.width;
        if end > self.rows.len() {
            self.rows.resize(end, Amounts::default());
        }
        Ok(&mut self.rows[node as usize * self.width + column])
    }

    fn add_column(&mut self, resource: Symbol) -> Result<usize, Fault> {
        if self.columns.len() == RESOURCES_MAX {
            return Err(Fault::permanent(format!(
                "the cluster has more than {RESOURCES_MAX} different resources"
            )));
        }
        self.columns.push(resource);
        if self.columns.len() > self.width {
            let (old, width) = (self.width, (self.width * 2).max(WIDTH_FIRST));
            let nodes = self.rows.len().checked_div(old).unwrap_or(0);
            let mut rows = vec![Amounts::default(); nodes * width];
            for (to, from) in rows.chunks_mut(width).zip(self.rows.chunks(old.max(1))) {
                to[..old].copy_from_slice(from);
            }
            (self.rows, self.width) = (rows, width);
        }
        Ok(self.columns.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_survive_more_resources_than_a_row_was_made_for() {
        let mut resources = Resources::default();
        for resource in 0..20 {
            let amounts = [Amount {
                resource,
                value: i64::from(resource) + 1,
            }];
            resources.set_allocatable(3, &amounts).unwrap();
            resources
                .count(
                    3,
                    Sums {
                        requests: &amounts,
                        or_default: &[],
                    },
                    1,
                )
                .unwrap();
        }
        for resource in 0..20 {
            let column = resources.column(resource).unwrap();
            assert_eq!(resources.row(3)[column].requested, i64::from(resource) + 1);
        }
        assert_eq!(resources.row(3)[resources.column(19).unwrap()].free(), 0);
        assert_eq!(
            resources.row(3)[0].allocatable,
            0,
            "a later upsert replaces all amounts"
        );
    }
}
