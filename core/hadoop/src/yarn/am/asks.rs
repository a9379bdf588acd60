//! What we have asked for: a table of absolute numbers, kept equal to the ResourceManager's.
//!
//! Each ask has an `allocation_request_id` of its own, never used again: the ResourceManager keys its table by
//! (priority, allocation_request_id), wants one shape per key, and names the id in each container. An ask is
//! sent as rows: each wanted host, each wanted host's rack, and always `*`, which carries the number; without
//! rack rows hosts are ignored, without `*` nothing is ever allocated. The ResourceManager counts rows down
//! itself when it allocates, except those of hosts and racks it passed over: so a satisfied key is sent once
//! more, with zeros. Rows that are on their way are told apart from rows that are known to be taken.

use crate::ids::ApplicationAttemptId;
use crate::yarn::proto;
use crate::yarn::resource::Resource;
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Rack of a cluster without topology script.
pub const DEFAULT_RACK: &str = "/default-rack";
/// Name of the row that means anywhere.
const ANYWHERE: &str = "*";
/// Most containers in one ask: far above any cluster, far below where sums overflow.
const MAX_COUNT: u32 = 1 << 20;

/// Asks that one attempt may make. The numbers of attempt n start at n times this, so that a recovered
/// container's ask is never mistaken for one of ours.
const ASKS_PER_ATTEMPT: i64 = 1 << 32;

/// An ask's number, the `allocation_request_id` of its rows and containers. The AM counts them upwards, from
/// [`AskId::first`] on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AskId(pub i64);

impl AskId {
    /// The first number of an attempt.
    pub fn first(attempt: ApplicationAttemptId) -> Self {
        AskId(i64::from(attempt.attempt.max(0)) * ASKS_PER_ATTEMPT + 1)
    }

    /// The number after this one.
    pub fn following(self) -> Self {
        AskId(self.0.wrapping_add(1))
    }
}

/// A host that has the data, and its rack.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Host name, as its NodeManager registers it.
    pub host: String,
    /// Rack, [`DEFAULT_RACK`] unless something better is known.
    pub rack: String,
}

/// How much the places matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Locality {
    /// Tried first; after some scheduling opportunities any node will do.
    Preferred,
    /// Only on these hosts, however long it takes. (Only in these racks does not exist: such asks starve.)
    Required,
}

/// Containers of one shape, wanted for one purpose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// Lower numbers are served first.
    pub priority: u32,
    /// Size of each.
    pub resource: Resource,
    /// How many.
    pub count: u32,
    /// Where, best first; empty: anywhere.
    pub places: Vec<Place>,
    /// How much `places` matter.
    pub locality: Locality,
    /// One node label; `None`: the application's default.
    pub node_label: Option<String>,
}

impl Ask {
    /// Containers anywhere.
    pub fn anywhere(priority: u32, resource: Resource, count: u32) -> Self {
        Ask { priority, resource, count, places: Vec::new(), locality: Locality::Preferred, node_label: None }
    }
}

/// An ask that can not be met.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AskError {
    /// No container of this cluster is that large.
    #[error("a container of {0}, and that for ever: this cluster has none")]
    TooLarge(String),
    /// Zero or absurdly many containers.
    #[error("{0} containers in one ask, accepted are 1 to {MAX_COUNT}")]
    Count(u32),
    /// A host or rack that is no name of one.
    #[error("{0:?} is not the name of a host or rack")]
    Place(String),
    /// Only on no host.
    #[error("containers are required on hosts, but no host is named")]
    NoPlace,
    /// A number that was used before: the ResourceManager would take the ask for a change of the old one.
    #[error("ask {} was made before", .0.0)]
    Reused(AskId),
    /// The ResourceManager does not take it.
    #[error("the ResourceManager refuses it: {0}")]
    Refused(String),
}

struct Entry {
    ask: Ask,
    /// Containers still to come.
    outstanding: u32,
}

/// The table.
pub(super) struct AskTable {
    /// Numbers below this one are used.
    next: i64,
    entries: BTreeMap<i64, Entry>,
    /// Keys whose rows the ResourceManager does not have as they are now.
    dirty: BTreeSet<i64>,
    /// Keys whose rows are in the request on its way.
    sent: BTreeSet<i64>,
    /// A request was refused for one of the dirty keys: they go out one by one, to find which.
    one_by_one: bool,
}

impl AskTable {
    /// An empty table whose first ask gets the number `first` or a later one.
    pub(super) fn new(first: AskId) -> Self {
        let (dirty, sent) = (BTreeSet::new(), BTreeSet::new());
        AskTable { next: first.0, entries: BTreeMap::new(), dirty, sent, one_by_one: false }
    }

    /// Adds an ask.
    pub(super) fn add(&mut self, id: AskId, ask: Ask, maximum: Option<&Resource>) -> Result<(), AskError> {
        if id.0 < self.next {
            return Err(AskError::Reused(id));
        }
        if ask.count == 0 || ask.count > MAX_COUNT {
            return Err(AskError::Count(ask.count));
        }
        if let Some(too_large) = maximum.and_then(|maximum| ask.resource.exceeds(maximum)) {
            return Err(AskError::TooLarge(too_large));
        }
        if ask.locality == Locality::Required && ask.places.is_empty() {
            return Err(AskError::NoPlace);
        }
        for place in &ask.places {
            if place.host.is_empty() || place.host == ANYWHERE || place.host.starts_with('/') {
                return Err(AskError::Place(place.host.clone()));
            }
            if !place.rack.starts_with('/') {
                return Err(AskError::Place(place.rack.clone()));
            }
        }
        self.next = id.following().0;
        self.entries.insert(id.0, Entry { outstanding: ask.count, ask });
        self.dirty.insert(id.0);
        Ok(())
    }

    /// Wants `count` containers less; tells how many less it has become.
    pub(super) fn withdraw(&mut self, id: AskId, count: u32) -> u32 {
        let Some(entry) = self.entries.get_mut(&id.0) else { return 0 };
        let less = count.min(entry.outstanding);
        entry.outstanding -= less;
        if less > 0 {
            self.dirty.insert(id.0);
        }
        less
    }

    /// A container for `id` has come: whether anybody waits for it.
    pub(super) fn allocated(&mut self, id: AskId) -> bool {
        let Some(entry) = self.entries.get_mut(&id.0).filter(|entry| entry.outstanding > 0) else {
            return false;
        };
        entry.outstanding -= 1;
        if entry.outstanding == 0 {
            if entry.ask.places.is_empty() && !self.dirty.contains(&id.0) && !self.sent.contains(&id.0) {
                // `*` is the only row, and the ResourceManager has counted it down itself.
                self.entries.remove(&id.0);
            } else {
                self.dirty.insert(id.0);
            }
        }
        true
    }

    /// Containers still to come for `id`.
    pub(super) fn outstanding(&self, id: AskId) -> u32 {
        self.entries.get(&id.0).map_or(0, |entry| entry.outstanding)
    }

    /// Containers still to come in all.
    pub(super) fn waiting(&self) -> u64 {
        self.entries.values().map(|entry| u64::from(entry.outstanding)).sum()
    }

    /// Whether there is something to send.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Rows for the next request, which count as on their way from now on.
    pub(super) fn take_rows(&mut self) -> Vec<proto::ResourceRequest> {
        let first_only = self.dirty.iter().next().map_or(i64::MAX, |first| first + 1);
        let later = if self.one_by_one { self.dirty.split_off(&first_only) } else { BTreeSet::new() };
        let dirty = std::mem::replace(&mut self.dirty, later);
        let rows =
            dirty.iter().filter_map(|id| Some((*id, self.entries.get(id)?))).flat_map(|(id, e)| rows(id, e));
        let rows = rows.collect();
        self.sent.extend(dirty);
        rows
    }

    /// The request on its way has been taken.
    pub(super) fn taken(&mut self) {
        for id in std::mem::take(&mut self.sent) {
            if !self.dirty.contains(&id) && self.outstanding(AskId(id)) == 0 {
                self.entries.remove(&id);
            }
        }
        self.one_by_one &= !self.dirty.is_empty();
    }

    /// The request on its way has been refused, perhaps for one of its asks: that ask, once it is known, is
    /// dropped and returned.
    pub(super) fn refused(&mut self) -> Option<AskId> {
        if self.sent.len() == 1 {
            let id = self.sent.pop_first()?;
            self.entries.remove(&id);
            return Some(AskId(id));
        }
        self.one_by_one = self.sent.len() > 1;
        self.lost();
        None
    }

    /// The request on its way has not been taken, or nobody knows.
    pub(super) fn lost(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        self.dirty.extend(sent);
    }

    /// The ResourceManager has forgotten everything.
    pub(super) fn forgotten(&mut self) {
        self.sent.clear();
        self.entries.retain(|_, entry| entry.outstanding > 0);
        self.dirty = self.entries.keys().copied().collect();
    }
}

/// The rows of one key: hosts, their racks, anywhere.
fn rows(id: i64, entry: &Entry) -> Vec<proto::ResourceRequest> {
    let Entry { ask, outstanding } = entry;
    let row = |name: &str, relax: bool, label: Option<&String>| proto::ResourceRequest {
        priority: Some(proto::Priority { priority: Some(i32::try_from(ask.priority).unwrap_or(i32::MAX)) }),
        resource_name: Some(name.to_owned()),
        capability: Some((&ask.resource).into()),
        num_containers: Some(i32::try_from(*outstanding).unwrap_or(i32::MAX)),
        relax_locality: Some(relax),
        node_label_expression: label.cloned(),
        execution_type_request: None,
        allocation_request_id: Some(id),
    };
    let hosts: BTreeSet<&str> = ask.places.iter().map(|place| place.host.as_str()).collect();
    let racks: BTreeSet<&str> = ask.places.iter().map(|place| place.rack.as_str()).collect();
    // A row's flag says whether the scheduler may come down to it from the hosts.
    let relax = ask.locality == Locality::Preferred;
    let mut rows: Vec<_> = hosts.into_iter().map(|host| row(host, true, None)).collect();
    rows.extend(racks.into_iter().map(|rack| row(rack, relax, None)));
    rows.push(row(ANYWHERE, relax, ask.node_label.as_ref()));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str, rack: &str) -> Place {
        Place { host: host.into(), rack: rack.into() }
    }

    fn table() -> AskTable {
        AskTable::new(AskId(1))
    }

    fn ask(count: u32, places: &[(&str, &str)]) -> Ask {
        let places = places.iter().map(|(host, rack)| place(host, rack)).collect();
        Ask { places, ..Ask::anywhere(5, Resource::new(128, 1), count) }
    }

    fn told(rows: &[proto::ResourceRequest]) -> Vec<(&str, i32, bool)> {
        rows.iter()
            .map(|r| {
                (r.resource_name.as_deref().unwrap(), r.num_containers.unwrap(), r.relax_locality.unwrap())
            })
            .collect()
    }

    #[test]
    fn rows_are_hosts_racks_and_anywhere() {
        let mut table = table();
        let places = [("h1", "/r1"), ("h2", "/r1"), ("h3", "/r2")];
        table.add(AskId(1), Ask { node_label: Some("fast".into()), ..ask(2, &places) }, None).unwrap();
        let rows = table.take_rows();
        let soft =
            [("h1", 2), ("h2", 2), ("h3", 2), ("/r1", 2), ("/r2", 2), ("*", 2)].map(|(n, c)| (n, c, true));
        assert_eq!(told(&rows), soft);
        for row in &rows {
            assert_eq!(row.allocation_request_id, Some(1));
            assert_eq!(row.priority, Some(proto::Priority { priority: Some(5) }));
            let label = (row.resource_name.as_deref() == Some("*")).then_some("fast");
            assert_eq!(row.node_label_expression.as_deref(), label);
        }
    }

    #[test]
    fn required_hosts_forbid_to_leave_them() {
        let mut table = table();
        let required = Ask { locality: Locality::Required, ..ask(1, &[("h1", DEFAULT_RACK)]) };
        table.add(AskId(1), required, None).unwrap();
        assert_eq!(told(&table.take_rows()), [("h1", 1, true), (DEFAULT_RACK, 1, false), ("*", 1, false)]);
    }

    #[test]
    fn a_satisfied_key_with_hosts_is_sent_once_more_with_zeros() {
        let mut table = table();
        table.add(AskId(1), ask(1, &[("h", "/r")]), None).unwrap();
        table.take_rows();
        table.taken();
        assert!(!table.is_dirty());
        assert!(table.allocated(AskId(1)));
        assert!(!table.allocated(AskId(1)), "nobody waits for a second one");
        assert_eq!(told(&table.take_rows()), [("h", 0, true), ("/r", 0, true), ("*", 0, true)]);
        table.lost();
        assert_eq!(table.take_rows().len(), 3, "zeros too are said until they are taken");
        table.taken();
        assert!(table.entries.is_empty() && !table.is_dirty());
    }

    #[test]
    fn a_satisfied_key_without_hosts_needs_nothing() {
        let mut table = table();
        table.add(AskId(1), ask(2, &[]), None).unwrap();
        table.take_rows();
        table.taken();
        assert!(table.allocated(AskId(1)) && table.allocated(AskId(1)));
        assert!(!table.is_dirty() && table.entries.is_empty());
    }

    #[test]
    fn a_partly_served_key_is_not_sent_again() {
        let mut table = table();
        table.add(AskId(1), ask(3, &[("h", "/r")]), None).unwrap();
        table.take_rows();
        table.taken();
        table.allocated(AskId(1));
        assert!(!table.is_dirty(), "the ResourceManager counts down itself");
        assert_eq!(table.withdraw(AskId(1), 1), 1);
        assert_eq!(told(&table.take_rows())[2], ("*", 1, true));
        assert_eq!(table.withdraw(AskId(1), 9), 1);
        assert_eq!(table.withdraw(AskId(1), 9), 0);
    }

    #[test]
    fn what_can_not_be_met_is_refused() {
        let mut table = table();
        let maximum = Resource::new(100, 4);
        let mut add = |id, ask: Ask| table.add(AskId(id), ask, Some(&maximum)).unwrap_err();
        assert!(matches!(add(1, ask(1, &[])), AskError::TooLarge(_)));
        let small = |ask: Ask| Ask { resource: Resource::new(10, 1), ..ask };
        assert_eq!(add(1, small(ask(0, &[]))), AskError::Count(0));
        assert_eq!(add(1, small(ask(1, &[("*", "/r")]))), AskError::Place("*".into()));
        assert_eq!(add(1, small(ask(1, &[("h", "r")]))), AskError::Place("r".into()));
        let required = Ask { locality: Locality::Required, ..small(ask(1, &[])) };
        assert_eq!(add(1, required), AskError::NoPlace);
        assert_eq!(add(0, small(ask(1, &[]))), AskError::Reused(AskId(0)));
        table.add(AskId(7), small(ask(1, &[])), None).unwrap();
        assert_eq!(table.add(AskId(7), small(ask(1, &[])), None), Err(AskError::Reused(AskId(7))));
    }

    #[test]
    fn a_refused_request_is_taken_apart_until_the_culprit_is_found() {
        let mut table = table();
        for id in 1..=3 {
            table.add(AskId(id), ask(1, &[]), None).unwrap();
        }
        assert_eq!(table.take_rows().len(), 3);
        assert_eq!(table.refused(), None);
        for id in 1..=3 {
            let rows = table.take_rows();
            assert_eq!(rows.iter().map(|r| r.allocation_request_id).collect::<Vec<_>>(), [Some(id)]);
            if id == 2 {
                assert_eq!(table.refused(), Some(AskId(2)));
            } else {
                table.taken();
            }
        }
        assert_eq!((table.waiting(), table.is_dirty(), table.one_by_one), (2, false, false));
        for id in 4..=5 {
            table.add(AskId(id), ask(1, &[]), None).unwrap();
        }
        assert_eq!(table.take_rows().len(), 2, "trust is back");
    }
}
