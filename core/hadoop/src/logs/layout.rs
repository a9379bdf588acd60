//! Where log aggregation leaves its files: pure path arithmetic, tried from the newest layout to the oldest.
//!
//! Sources: `LogAggregationUtils`, `LogAggregationFileController` (Hadoop 3.3 to 3.5).

use crate::ids::ApplicationId;

/// Default of `yarn.nodemanager.remote-app-log-dir`.
const DEFAULT_ROOT: &str = "/tmp/logs";
/// Default of `yarn.nodemanager.remote-app-log-dir-suffix`.
const DEFAULT_SUFFIX: &str = "logs";
/// Name of the format that is read here, as configuration keys spell it.
const FORMAT: &str = "TFile";
/// Applications are spread over so many folders.
const BUCKETS: i32 = 10_000;
/// Ending of files that are still being written.
const UNFINISHED: &str = ".tmp";

/// Where aggregated logs are, by the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLayout {
    root: String,
    suffix: String,
    old_suffix: String,
}

impl LogLayout {
    /// The layout that configuration `get` describes.
    pub fn from_conf(get: impl Fn(&str) -> Option<String>) -> Self {
        let get = |key: &str| get(key).filter(|value| !value.trim().is_empty());
        let of_format = |what: &str| get(&format!("yarn.log-aggregation.{FORMAT}.{what}"));
        let root = of_format("remote-app-log-dir").or_else(|| get("yarn.nodemanager.remote-app-log-dir"));
        let old_suffix =
            get("yarn.nodemanager.remote-app-log-dir-suffix").unwrap_or_else(|| DEFAULT_SUFFIX.into());
        let suffix = of_format("remote-app-log-dir-suffix");
        LogLayout {
            root: root.unwrap_or_else(|| DEFAULT_ROOT.into()).trim_end_matches('/').to_owned(),
            suffix: suffix.unwrap_or_else(|| format!("{old_suffix}-{}", FORMAT.to_ascii_lowercase())),
            old_suffix,
        }
    }

    /// Folders that may hold the files of an application of `user`, the most likely one first. More than one may
    /// exist, on a cluster that was upgraded while it ran.
    pub fn folders(&self, user: &str, application: ApplicationId) -> Vec<String> {
        let LogLayout { root, suffix, old_suffix } = self;
        let bucket = application.id.rem_euclid(BUCKETS);
        vec![
            format!("{root}/{user}/bucket-{suffix}/{bucket:04}/{application}"),
            format!("{root}/{user}/{suffix}/{application}"),
            format!("{root}/{user}/{old_suffix}/{application}"),
        ]
    }
}

/// One file of such a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFile {
    /// Host of the NodeManager that wrote it.
    pub host: String,
    /// Port of that NodeManager.
    pub port: u16,
    /// When it was written, in milliseconds since 1970, of files written while the application ran.
    pub rolled_ms: Option<u64>,
    /// Still being written.
    pub unfinished: bool,
}

impl NodeFile {
    /// What a file's name says: `host_port`, `host_port_timestamp`, either with `.tmp`. `None`: not a node's.
    pub fn from_name(name: &str) -> Option<Self> {
        let (name, unfinished) = match name.strip_suffix(UNFINISHED) {
            Some(name) => (name, true),
            None => (name, false),
        };
        let (rest, last) = name.rsplit_once('_')?;
        let parts = match rest.rsplit_once('_').map(|(host, port)| (host, port.parse())) {
            // A host's name has no underscore (RFC 952), so two numbers are port and timestamp.
            Some((host, Ok(port))) => (host, port, Some(last.parse().ok()?)),
            _ => (rest, last.parse().ok()?, None),
        };
        let (host, port, rolled_ms) = parts;
        (!host.is_empty()).then(|| NodeFile { host: host.to_owned(), port, rolled_ms, unfinished })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: ApplicationId = ApplicationId { cluster_timestamp: 1_700_000_000_000, id: 12_345 };

    fn layout(conf: &[(&str, &str)]) -> LogLayout {
        let conf: Vec<(String, String)> = conf.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        LogLayout::from_conf(|key| conf.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()))
    }

    #[test]
    fn defaults_are_hadoops() {
        assert_eq!(
            layout(&[]).folders("alice", APP),
            [
                "/tmp/logs/alice/bucket-logs-tfile/2345/application_1700000000000_12345",
                "/tmp/logs/alice/logs-tfile/application_1700000000000_12345",
                "/tmp/logs/alice/logs/application_1700000000000_12345",
            ]
        );
    }

    #[test]
    fn what_is_configured_for_the_format_wins() {
        let general = [
            ("yarn.nodemanager.remote-app-log-dir", "hdfs://ns/app-logs/"),
            ("yarn.nodemanager.remote-app-log-dir-suffix", "x"),
        ];
        assert_eq!(
            layout(&general).folders("u", ApplicationId { id: 7, ..APP })[0],
            "hdfs://ns/app-logs/u/bucket-x-tfile/0007/application_1700000000000_0007"
        );
        let special = [
            ("yarn.log-aggregation.TFile.remote-app-log-dir", "/t"),
            ("yarn.log-aggregation.TFile.remote-app-log-dir-suffix", "s"),
        ];
        let both: Vec<_> = general.iter().chain(&special).copied().collect();
        assert_eq!(
            layout(&both).folders("u", APP),
            [
                "/t/u/bucket-s/2345/application_1700000000000_12345",
                "/t/u/s/application_1700000000000_12345",
                "/t/u/x/application_1700000000000_12345",
            ]
        );
    }

    #[test]
    fn names_of_files_tell_node_and_state() {
        let file = |host: &str, port, rolled_ms, unfinished| {
            Some(NodeFile { host: host.into(), port, rolled_ms, unfinished })
        };
        assert_eq!(NodeFile::from_name("nm1.example.org_45454"), file("nm1.example.org", 45454, None, false));
        assert_eq!(NodeFile::from_name("nm1_45454.tmp"), file("nm1", 45454, None, true));
        assert_eq!(
            NodeFile::from_name("nm1_45454_1700000000001"),
            file("nm1", 45454, Some(1_700_000_000_001), false)
        );
        for other in ["", "_SUCCESS", "x_", "_1", "nm1", "a_b_c", "nm1_99999", "nm1_1_x"] {
            assert_eq!(NodeFile::from_name(other), None, "{other}");
        }
    }
}
