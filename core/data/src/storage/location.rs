//! Where a file is: scheme, authority and absolute path, read the way Hadoop's `Path` reads text.
//!
//! Paths are taken as they are: no percent-decoding, so a file may be called `50%.csv`. Schemes other than
//! `file`, `hdfs` and `viewfs` are refused here, once.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest path HDFS accepts (`FSConstants.MAX_PATH_LENGTH`).
const MAX_PATH_BYTES: usize = 8_000;

/// Which file system a location belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scheme {
    /// Files of this machine, or what is mounted on it.
    File,
    /// One NameNode, or an HA name service.
    Hdfs,
    /// A mount table over several name services.
    Viewfs,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::File => "file",
            Scheme::Hdfs => "hdfs",
            Scheme::Viewfs => "viewfs",
        }
    }
}

/// A file or folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    scheme: Scheme,
    authority: String,
    path: String,
}

impl Location {
    /// A file or folder of this machine.
    ///
    /// # Errors
    /// A path that is not absolute, not UTF-8 or has a zero byte.
    pub fn local(path: &std::path::Path) -> Result<Location, String> {
        let text = path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))?;
        if !text.starts_with('/') {
            return Err(format!("{text} is not an absolute path"));
        }
        Ok(Location { scheme: Scheme::File, authority: String::new(), path: normalise(text)? })
    }

    /// Reads a URI or a path; what the text leaves out (scheme, authority, the folder of a relative path) is
    /// taken from `base`.
    ///
    /// # Errors
    /// Says what is wrong with the text: unknown scheme, no authority, `..` above the root.
    pub fn parse(text: &str, base: &Location) -> Result<Location, String> {
        if text.is_empty() {
            return Err("the path is empty".into());
        }
        let Some((scheme, rest)) = split_scheme(text) else {
            let path = if text.starts_with('/') { text.into() } else { format!("{}/{text}", base.path) };
            return Ok(Location { path: normalise(&path)?, ..base.clone() });
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "file" => Scheme::File,
            "hdfs" => Scheme::Hdfs,
            "viewfs" => Scheme::Viewfs,
            other => return Err(format!("{text}: scheme {other} is not known; use hdfs, viewfs or file")),
        };
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        let authority = match (authority, scheme) {
            ("" | "localhost", Scheme::File) => String::new(),
            (host, Scheme::File) => {
                return Err(format!("{text}: file URIs have no host, but this has {host}"));
            }
            ("", _) if base.scheme == scheme => base.authority.clone(),
            ("", _) => {
                return Err(format!(
                    "{text}: no NameNode or name service given, and the default file system is {base}; set \
                     fs.defaultFS or write hdfs://host:port/…"
                ));
            }
            (authority, _) => authority.to_string(),
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Location { scheme, authority, path: normalise(path)? })
    }

    /// Whether a text starts with this location's scheme.
    pub(crate) fn is_scheme_of(&self, text: &str) -> bool {
        split_scheme(text).is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case(self.scheme.name()))
    }

    /// The file system.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `host:port`, name service or mount table; empty for local files.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Absolute path without a slash at its end.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Last part of the path; empty for the root.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or("")
    }

    /// Whether it lies in `folder`, at any depth.
    pub fn is_below(&self, folder: &Location) -> bool {
        let path = folder.path().trim_end_matches('/');
        (self.scheme(), self.authority()) == (folder.scheme(), folder.authority())
            && self.path().strip_prefix(path).is_some_and(|rest| rest.starts_with('/') && rest.len() > 1)
    }

    /// The folder this is in; none for the root.
    pub fn parent(&self) -> Option<Location> {
        let (parent, name) = self.path.rsplit_once('/')?;
        if name.is_empty() {
            return None;
        }
        let path = if parent.is_empty() { "/" } else { parent };
        Some(Location { path: path.into(), ..self.clone() })
    }

    /// `name` within this folder; `name` is a plain name or a relative path without `..`.
    pub fn join(&self, name: &str) -> Location {
        let path = if self.path == "/" { format!("/{name}") } else { format!("{}/{name}", self.path) };
        Location { path, ..self.clone() }
    }

    /// A file or folder beside this one.
    pub fn sibling(&self, name: &str) -> Location {
        match self.parent() {
            Some(parent) => parent.join(name),
            None => self.join(name),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority, self.path)
    }
}

/// Splits `scheme:/rest`; a colon that no slash follows belongs to a file name.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let plain = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    (plain && scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && rest.starts_with('/'))
        .then_some((scheme, rest))
}

/// Removes doubled slashes, `.` and `..`.
fn normalise(path: &str) -> Result<String, String> {
    if path.len() > MAX_PATH_BYTES {
        return Err(format!("a path of {} bytes is longer than {MAX_PATH_BYTES}", path.len()));
    }
    if path.contains('\0') {
        return Err("the path has a zero byte in it".into());
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(|| format!("{path} leads above the root"))?;
            }
            part => parts.push(part),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(uri: &str) -> Location {
        let root = Location { scheme: Scheme::File, authority: String::new(), path: "/".into() };
        Location::parse(uri, &root).unwrap()
    }

    #[test]
    fn text_is_completed_from_the_base() {
        let home = base("hdfs://nn:8020/user/alice");
        for (text, expected) in [
            ("mnist", "hdfs://nn:8020/user/alice/mnist"),
            ("/data//mnist/", "hdfs://nn:8020/data/mnist"),
            ("hdfs:///data", "hdfs://nn:8020/data"),
            ("hdfs:/data/./a/../b", "hdfs://nn:8020/data/b"),
            ("hdfs://other/x y%20", "hdfs://other/x y%20"),
            ("HDFS://other", "hdfs://other/"),
            ("viewfs://cl/data", "viewfs://cl/data"),
            ("file:/tmp/a", "file:///tmp/a"),
            ("a:b", "hdfs://nn:8020/user/alice/a:b"),
        ] {
            assert_eq!(Location::parse(text, &home).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let local = base("file:///home/alice");
        for (text, part) in [
            ("", "empty"),
            ("s3a://bucket/x", "scheme s3a is not known; use hdfs"),
            ("hdfs:///data", "default file system is file:///home/alice"),
            ("/../x", "above the root"),
            ("a\0b", "zero byte"),
            ("file://host/x", "no host"),
        ] {
            let error = Location::parse(text, &local).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn names_parents_and_siblings() {
        let file = base("hdfs://ns/models/lenet");
        assert_eq!(file.name(), "lenet");
        assert_eq!(file.parent().unwrap().to_string(), "hdfs://ns/models");
        assert_eq!(file.sibling("x").to_string(), "hdfs://ns/models/x");
        assert_eq!(file.join("a/b").path(), "/models/lenet/a/b");
        let root = base("hdfs://ns/");
        assert_eq!((root.name(), root.parent()), ("", None));
        assert_eq!(root.join("x").path(), "/x");
        assert_eq!(root.join("x").parent(), Some(root));
    }
}
