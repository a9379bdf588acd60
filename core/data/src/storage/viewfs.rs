//! ViewFs: what a path of a mount table is. Links are resolved by [`ringspin_hadoop::conf`]; here are the folders
//! that exist only because mount points lie below them. hdfs-native knows neither them nor tables without a
//! `linkFallback`, so it never sees a `viewfs://` path.

use super::{Location, Scheme};
use ringspin_hadoop::conf::Configuration;
use std::collections::BTreeSet;

/// What a path is.
#[derive(Debug, PartialEq)]
pub(super) enum Resolved {
    /// Below a mount point, or below the fallback.
    Hdfs(Location),
    /// Mount points lie below it: its children, and the folder of the same path behind the fallback (or behind
    /// a mount point right here), where there is one.
    Inner { children: BTreeSet<String>, behind: Option<Location> },
}

/// Looks through mount tables; locations that are not `viewfs://` stay as they are.
///
/// # Errors
/// No mount point covers the path, or the table has links that are not supported.
pub(super) fn resolve(conf: &Configuration, at: &Location) -> Result<Resolved, String> {
    if at.scheme() != Scheme::Viewfs {
        return Ok(Resolved::Hdfs(at.clone()));
    }
    let children = children(conf, at);
    let behind = conf.locate(&at.to_string()).map_err(|error| error.to_string()).and_then(|found| {
        // The text has a scheme and an authority: nothing is taken from the base.
        Location::parse(&found.uri(), at)
    });
    match (children.is_empty(), behind) {
        (true, behind) => behind.map(Resolved::Hdfs),
        (false, behind) => Ok(Resolved::Inner { children, behind: behind.ok() }),
    }
}

/// Names of the folders right below `at` that mount points make.
fn children(conf: &Configuration, at: &Location) -> BTreeSet<String> {
    let links = format!("fs.viewfs.mounttable.{}.link.", at.authority());
    let folder = format!("{}/", at.path().trim_end_matches('/'));
    conf.properties()
        .filter_map(|(key, _)| key.strip_prefix(&links)?.strip_prefix(&folder)?.split('/').next())
        .filter(|name| !name.is_empty())
        .map(String::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringspin_hadoop::conf::Environment;

    fn conf(pairs: &[(&str, &str)]) -> Configuration {
        let mut conf = Configuration::defaults(Environment::default());
        for (key, value) in pairs {
            conf.set(&format!("fs.viewfs.mounttable.{key}"), value, "test");
        }
        conf
    }

    fn at(uri: &str) -> Location {
        Location::parse(uri, &Location::local("/".as_ref()).unwrap()).unwrap()
    }

    fn hdfs(uri: &str) -> Result<Resolved, String> {
        Ok(Resolved::Hdfs(at(uri)))
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn longest_mount_wins_and_inner_folders_list_mounts() {
        let conf = conf(&[
            ("cl.link./data", "hdfs://a:1/warehouse"),
            ("cl.link./deep/hot", "hdfs://b:2/hot"),
            ("other.link./x", "hdfs://c:3/x"),
        ]);
        assert_eq!(resolve(&conf, &at("viewfs://cl/data/x/y")), hdfs("hdfs://a:1/warehouse/x/y"));
        assert_eq!(resolve(&conf, &at("viewfs://cl/data")), hdfs("hdfs://a:1/warehouse"));
        assert_eq!(resolve(&conf, &at("viewfs://cl/deep/hot/1")), hdfs("hdfs://b:2/hot/1"));
        assert_eq!(resolve(&conf, &at("hdfs://z:9/data")), hdfs("hdfs://z:9/data"));
        assert!(resolve(&conf, &at("viewfs://cl/database")).unwrap_err().contains("not mounted"));
        let inner = |children: &[&str]| Ok(Resolved::Inner { children: names(children), behind: None });
        assert_eq!(resolve(&conf, &at("viewfs://cl/")), inner(&["data", "deep"]));
        assert_eq!(resolve(&conf, &at("viewfs://cl/deep")), inner(&["hot"]));
    }

    #[test]
    fn fallback_takes_the_rest() {
        let conf = conf(&[("cl.link./data", "hdfs://a:1/d"), ("cl.linkFallback", "hdfs://a:1/rest")]);
        assert_eq!(resolve(&conf, &at("viewfs://cl/tmp/x")), hdfs("hdfs://a:1/rest/tmp/x"));
        let root = Resolved::Inner { children: names(&["data"]), behind: Some(at("hdfs://a:1/rest")) };
        assert_eq!(resolve(&conf, &at("viewfs://cl/")), Ok(root));
        assert!(resolve(&conf, &at("viewfs://none/x")).is_err());
    }
}
