//! From what a user wrote (`/data`, `hdfs://prod/data`, `viewfs://all/data`) to a NameNode and a path there.
//!
//! `hdfs` and `viewfs` are known. Mount tables of links, `linkFallback` and `linkMergeSlash` are resolved;
//! `linkMerge`, `linkNfly` and `linkRegex` are refused.

use super::{ConfError, Configuration};

/// Mount tables that lead to mount tables: more than this is a circle.
const MAX_MOUNTS: usize = 4;
/// Prefix of all mount table keys.
const MOUNT_TABLE: &str = "fs.viewfs.mounttable";
/// Mount table of `viewfs:///`, unless [`DEFAULT_TABLE_KEY`] names another.
const DEFAULT_TABLE: &str = "default";
const DEFAULT_TABLE_KEY: &str = "fs.viewfs.mounttable.default.name.key";

/// A file or directory in HDFS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HdfsLocation {
    /// Name of a nameservice with high availability, else always `host:port`: the HDFS client crate takes a
    /// host without a port for a nameservice.
    pub authority: String,
    /// RPC addresses of the NameNodes that may answer for it.
    pub namenodes: Vec<String>,
    /// Absolute path, without `.`, `..`, double or trailing slashes.
    pub path: String,
    /// Whether `authority` is a nameservice.
    pub is_nameservice: bool,
}

impl HdfsLocation {
    /// `hdfs://authority/path`.
    pub fn uri(&self) -> String {
        format!("hdfs://{}{}", self.authority, self.path)
    }
}

/// Scheme, authority and path of a URI.
struct Uri<'a> {
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
}

/// Takes a URI apart as Hadoop's `Path` does: nothing is percent-decoded. `None` when it has no scheme.
fn split_uri(text: &str) -> Option<Uri<'_>> {
    let (scheme, rest) = text.split_once(':').filter(|(scheme, _)| !scheme.contains('/'))?;
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    Some(Uri { scheme, authority, path })
}

/// An absolute path without empty parts, `.` and `..`.
fn normalized(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

impl Configuration {
    /// Finds the NameNodes and the path for a URI, or for an absolute path in the default file system.
    ///
    /// # Errors
    /// Relative paths, file systems other than HDFS, addresses and mount points that are not configured.
    pub fn locate(&self, uri_or_path: &str) -> Result<HdfsLocation, ConfError> {
        self.locate_within(uri_or_path, MAX_MOUNTS)
    }

    fn locate_within(&self, text: &str, mounts_left: usize) -> Result<HdfsLocation, ConfError> {
        let default = self.get("fs.defaultFS")?.unwrap_or_default();
        let default_fs = || {
            split_uri(&default).ok_or_else(|| {
                self.wrong("fs.defaultFS", &default, "it is no URI such as hdfs://host:8020".into())
            })
        };
        let mut uri = match split_uri(text) {
            Some(uri) => uri,
            None if text.starts_with('/') => Uri { path: text, ..default_fs()? },
            None => {
                let example = "write /data/x or hdfs://namenode/data/x";
                return Err(ConfError::Missing(format!("\"{text}\" is a relative path; {example}")));
            }
        };
        if uri.authority.is_empty() && uri.scheme == "hdfs" {
            let default = default_fs()?;
            if default.scheme != "hdfs" || default.authority.is_empty() {
                return Err(ConfError::Missing(format!(
                    "\"{text}\" names no NameNode, and neither does fs.defaultFS in {}",
                    self.where_looked()
                )));
            }
            uri.authority = default.authority;
        }
        match uri.scheme {
            "hdfs" => {
                let namenodes = self.namenodes(uri.authority)?;
                let is_nameservice = self.property(&format!("dfs.ha.namenodes.{}", uri.authority)).is_some();
                let authority = match (is_nameservice, namenodes.first()) {
                    (false, Some(address)) => address.clone(),
                    _ => uri.authority.to_owned(),
                };
                Ok(HdfsLocation { authority, namenodes, path: normalized(uri.path), is_nameservice })
            }
            "viewfs" => {
                let target = self.mounted(uri.authority, &normalized(uri.path))?;
                if mounts_left == 0 {
                    return Err(ConfError::Missing(format!("mount tables go in circles at {target}")));
                }
                self.locate_within(&target, mounts_left - 1)
            }
            scheme => Err(ConfError::Missing(format!(
                "\"{text}\" is not in HDFS (its file system is {scheme}); hdfs and viewfs are known here"
            ))),
        }
    }

    /// The URI behind a path of a mount table.
    fn mounted(&self, authority: &str, path: &str) -> Result<String, ConfError> {
        let named = self.get(DEFAULT_TABLE_KEY)?.unwrap_or_else(|| DEFAULT_TABLE.into());
        let table = if authority.is_empty() { named.as_str() } else { authority };
        let prefix = format!("{MOUNT_TABLE}.{table}.");
        let (mut best, mut fallback, mut above_a_link) = (None::<(usize, &str)>, None, false);
        for (key, _) in self.properties() {
            let Some(kind) = key.strip_prefix(&prefix) else { continue };
            if let Some(link) = kind.strip_prefix("link.") {
                let link = link.trim_end_matches('/');
                let is_below =
                    path == link || path.strip_prefix(link).is_some_and(|rest| rest.starts_with('/'));
                if is_below && best.is_none_or(|(length, _)| length <= link.len()) {
                    best = Some((link.len(), key));
                }
                above_a_link |=
                    path == "/" || link.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
            } else if kind == "linkFallback" || kind == "linkMergeSlash" {
                fallback = Some((0, key));
            } else if ["linkMerge", "linkNfly", "linkRegex"].iter().any(|other| kind.starts_with(other)) {
                let message = "this kind of mount is not supported; name the file system itself (hdfs://...)";
                return Err(self.wrong(key, &self.get(key)?.unwrap_or_default(), message.into()));
            }
        }
        let Some((length, key)) = best.or(fallback) else {
            let what =
                if above_a_link { "is a directory of the mount table itself" } else { "is not mounted" };
            return Err(ConfError::Missing(format!(
                "viewfs://{table}{path} {what}: {prefix}link.<path> in {}",
                self.where_looked()
            )));
        };
        let target = self.require(key)?;
        Ok(format!("{}{}", target.trim_end_matches('/'), &path[length..]))
    }
}
