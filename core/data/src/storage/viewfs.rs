//! ViewFs mount tables (`fs.viewfs.mounttable.<name>.…`), resolved here so that every other file sees only
//! `hdfs://`. hdfs-native resolves them too, but demands a `linkFallback` and hides mount points in listings.
//!
//! Refused: `linkMerge`, `linkNfly`, `linkRegx`, and targets that are not `hdfs://`.

use super::Location;
use std::collections::{BTreeMap, BTreeSet};

/// The mounts of one `viewfs://name`.
#[derive(Debug, PartialEq)]
pub(crate) struct MountTable {
    /// Mounted path and what is there, longest path first.
    links: Vec<(String, Location)>,
    fallback: Option<Location>,
}

/// What a path within a mount table is.
#[derive(Debug, PartialEq)]
pub(crate) enum Resolved {
    /// Below a mount point, or below the fallback.
    Hdfs(Location),
    /// A folder that exists only because mount points lie below it: its children, and the fallback's folder
    /// of the same path where there is one.
    Inner { children: BTreeSet<String>, fallback: Option<Location> },
    /// Neither.
    Missing,
}

impl MountTable {
    /// Reads the table `name` out of the Hadoop configuration.
    ///
    /// # Errors
    /// No such table, a kind of link we do not have, a target that is not `hdfs://`.
    pub(crate) fn new(name: &str, config: &BTreeMap<String, String>) -> Result<MountTable, String> {
        let prefix = format!("fs.viewfs.mounttable.{name}.");
        let root = Location::local("/".as_ref())?;
        let mut table = MountTable { links: Vec::new(), fallback: None };
        for (key, value) in config.range(prefix.clone()..) {
            let Some(kind) = key.strip_prefix(&prefix) else { break };
            let target = || {
                let target = Location::parse(value, &root).map_err(|error| format!("{key}: {error}"))?;
                if target.scheme() != super::Scheme::Hdfs {
                    return Err(format!("{key}: {value} is not an hdfs:// URI"));
                }
                Ok(target)
            };
            if let Some(path) = kind.strip_prefix("link.") {
                table.links.push((format!("/{}", path.trim_matches('/')), target()?));
            } else if kind == "linkFallback" || kind == "linkMergeSlash" {
                table.fallback = Some(target()?);
            } else if kind != "homedir" {
                return Err(format!("{key}: this kind of link is not supported; use link or linkFallback"));
            }
        }
        if table.links.is_empty() && table.fallback.is_none() {
            return Err(format!("no mount table {name}: no key starts with {prefix}link"));
        }
        table.links.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Ok(table)
    }

    /// What `path` is.
    pub(crate) fn resolve(&self, path: &str) -> Resolved {
        let below = |target: &Location, rest: &str| {
            if rest.is_empty() { target.clone() } else { target.join(rest.trim_start_matches('/')) }
        };
        for (mount, target) in &self.links {
            if let Some(rest) = path.strip_prefix(mount.as_str())
                && (rest.is_empty() || rest.starts_with('/'))
            {
                return Resolved::Hdfs(below(target, rest));
            }
        }
        let folder = if path == "/" { "/".to_string() } else { format!("{path}/") };
        let children: BTreeSet<String> = self
            .links
            .iter()
            .filter_map(|(mount, _)| mount.strip_prefix(&folder))
            .filter_map(|rest| rest.split('/').next())
            .map(String::from)
            .collect();
        let fallback = self.fallback.as_ref().map(|target| below(target, path.trim_start_matches('/')));
        match (children.is_empty(), fallback) {
            (false, fallback) => Resolved::Inner { children, fallback },
            (true, Some(fallback)) => Resolved::Hdfs(fallback),
            (true, None) => Resolved::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (format!("fs.viewfs.mounttable.{k}"), v.to_string())).collect()
    }

    fn hdfs(uri: &str) -> Resolved {
        Resolved::Hdfs(Location::parse(uri, &Location::local("/".as_ref()).unwrap()).unwrap())
    }

    #[test]
    fn longest_mount_wins_and_inner_folders_list_mounts() {
        let config = config(&[
            ("cl.link./data", "hdfs://ns1/warehouse"),
            ("cl.link./data/hot", "hdfs://ns2/hot"),
            ("cl.link./a/b", "hdfs://ns1:8020/"),
            ("other.link./x", "hdfs://ns9/x"),
        ]);
        let table = MountTable::new("cl", &config).unwrap();
        assert_eq!(table.resolve("/data/x/y"), hdfs("hdfs://ns1/warehouse/x/y"));
        assert_eq!(table.resolve("/data"), hdfs("hdfs://ns1/warehouse"));
        assert_eq!(table.resolve("/data/hot/1"), hdfs("hdfs://ns2/hot/1"));
        assert_eq!(table.resolve("/a/b/c"), hdfs("hdfs://ns1:8020/c"));
        assert_eq!(table.resolve("/database"), Resolved::Missing);
        let children = BTreeSet::from(["a".to_string(), "data".to_string()]);
        assert_eq!(table.resolve("/"), Resolved::Inner { children, fallback: None });
    }

    #[test]
    fn fallback_takes_the_rest() {
        let config = config(&[("cl.link./data", "hdfs://ns1/d"), ("cl.linkFallback", "hdfs://ns1/rest")]);
        let table = MountTable::new("cl", &config).unwrap();
        assert_eq!(table.resolve("/tmp/x"), hdfs("hdfs://ns1/rest/tmp/x"));
        assert!(matches!(table.resolve("/"), Resolved::Inner { fallback: Some(_), .. }));
    }

    #[test]
    fn unknown_tables_and_links_are_refused() {
        let table = config(&[("cl.linkNfly./x", "hdfs://a/,hdfs://b/")]);
        assert!(MountTable::new("cl", &table).unwrap_err().contains("not supported"));
        assert!(MountTable::new("zz", &table).unwrap_err().contains("no mount table zz"));
        let table = config(&[("cl.link./x", "s3a://b/")]);
        assert!(MountTable::new("cl", &table).unwrap_err().contains("s3a"));
    }
}
