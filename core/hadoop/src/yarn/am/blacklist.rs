//! Nodes on which we want no containers. The ResourceManager keeps the list; we send what changes.

use std::collections::BTreeSet;

/// One node in so many may be blacklisted; beyond that the newest entries count. A third, as in MapReduce,
/// which gives the blacklist up there: when most nodes look bad, the job is to blame and not the nodes.
const ONE_IN: usize = 3;

/// Wanted, allowed and sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Blacklist {
    /// Host names, oldest first.
    wanted: Vec<String>,
    /// What the ResourceManager has, once the request on its way is taken.
    sent: BTreeSet<String>,
}

/// Changes to tell the ResourceManager.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) add: Vec<String>,
    pub(super) remove: Vec<String>,
}

impl Blacklist {
    /// Wants no containers on `host`.
    pub(super) fn add(&mut self, host: &str) {
        self.remove(host);
        self.wanted.push(host.to_owned());
    }

    /// Takes containers on `host` again.
    pub(super) fn remove(&mut self, host: &str) {
        self.wanted.retain(|known| known != host);
    }

    /// What must be told in a cluster of `nodes`.
    pub(super) fn delta(&self, nodes: u32) -> Delta {
        let most = nodes as usize / ONE_IN;
        let allowed: BTreeSet<&String> = self.wanted.iter().rev().take(most).collect();
        Delta {
            add: allowed
                .iter()
                .filter(|host| !self.sent.contains(**host))
                .map(|host| (*host).clone())
                .collect(),
            remove: self.sent.iter().filter(|host| !allowed.contains(host)).cloned().collect(),
        }
    }

    /// `delta` has been taken.
    pub(super) fn taken(&mut self, delta: &Delta) {
        self.sent.retain(|host| !delta.remove.contains(host));
        self.sent.extend(delta.add.iter().cloned());
    }

    /// The ResourceManager has forgotten everything.
    pub(super) fn forgotten(&mut self) {
        self.sent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(list: &mut Blacklist, nodes: u32) -> (Vec<String>, Vec<String>) {
        let delta = list.delta(nodes);
        list.taken(&delta);
        (delta.add, delta.remove)
    }

    #[test]
    fn only_changes_are_told() {
        let mut list = Blacklist::default();
        list.add("a");
        list.add("b");
        assert_eq!(tell(&mut list, 9), (vec!["a".into(), "b".into()], vec![]));
        assert_eq!(tell(&mut list, 9), (vec![], vec![]));
        list.remove("a");
        list.add("c");
        assert_eq!(tell(&mut list, 9), (vec!["c".into()], vec!["a".into()]));
        list.forgotten();
        assert_eq!(tell(&mut list, 9), (vec!["b".into(), "c".into()], vec![]));
    }

    #[test]
    fn at_most_a_third_of_the_nodes_newest_first() {
        let mut list = Blacklist::default();
        ["a", "b", "c"].iter().for_each(|host| list.add(host));
        assert_eq!(tell(&mut list, 0), (vec![], vec![]));
        assert_eq!(tell(&mut list, 2), (vec![], vec![]));
        assert_eq!(tell(&mut list, 3), (vec!["c".into()], vec![]));
        list.add("a");
        assert_eq!(tell(&mut list, 5), (vec!["a".into()], vec!["c".into()]));
        assert_eq!(tell(&mut list, 9), (vec!["b".into(), "c".into()], vec![]));
    }
}
