//! What a container is started with: files, environment, command, tokens, who may look.
//!
//! The same for AM and workers. Text is given literally; [`super::command`] quotes it. It refuses what
//! `launch_container.sh` cannot carry, before anything is sent: there a bad name fails long after the start was
//! accepted. Retries inside the NodeManager (`ContainerRetryContext`) do not exist here: on a relaunch it
//! deletes paths of the same name in its own working directory.

use super::command::{self, Command, QuoteError};
use super::proto;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Characters that bash expands or that end a word in the script's `ln -sf -- "file" "link"`.
const UNLINKABLE: [char; 6] = ['"', '\\', '$', '`', '\n', '\0'];

/// A launch context that a NodeManager could not use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LaunchError {
    /// A variable or an argument cannot be quoted.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// A link name leaves the working directory or would not survive the script.
    #[error(
        "{0:?} cannot be a name in the container's working directory: relative, without `..`, none of \" \\ $ `"
    )]
    Link(String),
    /// Not an absolute URL of a file.
    #[error(
        "{0:?} is not a file's URL: scheme://host:port/path, without `\"`, `\\`, `$` and `` ` `` in the last part"
    )]
    Url(String),
    /// Nothing to run.
    #[error("no command to run")]
    NoCommand,
}

/// Where a file to be localised lies. The path is taken literally, `%` included.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceUrl {
    /// `hdfs`, `viewfs`, ...
    pub scheme: String,
    /// Host or name service; empty where `fs.defaultFS` tells.
    pub host: String,
    /// Port, unless it is a name service or the default.
    pub port: Option<u16>,
    /// Absolute path.
    pub path: String,
}

impl FromStr for ResourceUrl {
    type Err = LaunchError;

    fn from_str(text: &str) -> Result<Self, LaunchError> {
        let parse = || {
            let (scheme, rest) = text.split_once("://")?;
            let (authority, path) = rest.split_at(rest.find('/')?);
            let (host, port) = match authority.rsplit_once(':') {
                Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
                _ => (authority, None),
            };
            let name = path.rsplit('/').next()?;
            let fine = !scheme.is_empty() && !name.is_empty() && !name.contains(UNLINKABLE);
            fine.then(|| ResourceUrl { scheme: scheme.into(), host: host.into(), port, path: path.into() })
        };
        parse().ok_or_else(|| LaunchError::Url(text.to_owned()))
    }
}

impl fmt::Display for ResourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
        f.write_str(&self.path)
    }
}

/// What the NodeManager does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResourceKind {
    /// Links it as it is, readable and executable.
    File,
    /// Unpacks it (zip, jar, tar, tgz, tar.gz) into a directory of the link's name.
    Archive,
}

/// With whom a node shares its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// With everybody on the node: the file must be readable, and all folders above it executable, for all.
    Public,
    /// With the user's other applications.
    Private,
    /// With this application's containers only.
    Application,
}

/// A file that the NodeManager fetches before the command runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalResource {
    /// Where it lies.
    pub url: ResourceUrl,
    /// Bytes; informative.
    pub size: u64,
    /// Modification time in milliseconds, as the file system reports it: a difference of 1 ms is fatal.
    pub modified_ms: u64,
    /// What is done with it.
    pub kind: ResourceKind,
    /// With whom it is shared.
    pub visibility: Visibility,
}

impl LocalResource {
    fn to_proto(&self) -> proto::LocalResource {
        proto::LocalResource {
            resource: Some(proto::Url {
                scheme: Some(self.url.scheme.clone()),
                host: Some(self.url.host.clone()).filter(|host| !host.is_empty()),
                port: Some(self.url.port.map_or(-1, i32::from)),
                file: Some(self.url.path.clone()),
                user_info: None,
            }),
            size: Some(i64::try_from(self.size).unwrap_or(i64::MAX)),
            timestamp: Some(i64::try_from(self.modified_ms).unwrap_or(i64::MAX)),
            kind: Some(match self.kind {
                ResourceKind::Archive => 1,
                ResourceKind::File => 2,
            }),
            visibility: Some(match self.visibility {
                Visibility::Public => 1,
                Visibility::Private => 2,
                Visibility::Application => 3,
            }),
            ..Default::default()
        }
    }
}

/// Who may look at an application and who may change it, beside its owner and the administrators: users and
/// groups as `user1,user2 group1,group2`, `*` for everybody, empty for nobody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acls {
    /// Reports and logs.
    pub view: String,
    /// Kill, priority, queue.
    pub modify: String,
}

/// What a container is started with.
///
/// Give every container of an application the HDFS token and the same ACLs: the first container that starts
/// on a node defines both for the whole application there, log aggregation included.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LaunchContext {
    resources: BTreeMap<String, LocalResource>,
    environment: BTreeMap<String, String>,
    command: Option<Command>,
    tokens: Vec<u8>,
    acls: Acls,
}

impl fmt::Debug for LaunchContext {
    /// Without tokens and without the values of variables: either may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaunchContext")
            .field("resources", &self.resources)
            .field("environment", &self.environment.keys().collect::<Vec<_>>())
            .field("command", &self.command)
            .field("token_bytes", &self.tokens.len())
            .field("acls", &self.acls)
            .finish()
    }
}

impl LaunchContext {
    /// Runs `command`.
    pub fn new(command: Command) -> Self {
        LaunchContext { command: Some(command), ..Default::default() }
    }

    /// The same with another command.
    pub fn command(mut self, command: Command) -> Self {
        self.command = Some(command);
        self
    }

    /// Has the NodeManager fetch `resource` and link it as `link` in the working directory.
    pub fn resource(mut self, link: impl Into<String>, resource: LocalResource) -> Self {
        self.resources.insert(link.into(), resource);
        self
    }

    /// Sets a variable; the process sees `value` as it is.
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Hands over credentials in the token file format (`HDTS`); never AMRM or NM tokens.
    pub fn tokens(mut self, bytes: Vec<u8>) -> Self {
        self.tokens = bytes;
        self
    }

    /// Lets others look or change.
    pub fn acls(mut self, acls: Acls) -> Self {
        self.acls = acls;
        self
    }

    /// The message.
    pub fn to_proto(&self) -> Result<proto::ContainerLaunchContext, LaunchError> {
        let command = self.command.as_ref().ok_or(LaunchError::NoCommand)?.to_line()?;
        let mut message = proto::ContainerLaunchContext {
            command: vec![command],
            tokens: Some(self.tokens.clone()).filter(|bytes| !bytes.is_empty()),
            ..Default::default()
        };
        for (link, resource) in &self.resources {
            check_link(link)?;
            let (key, value) = (Some(link.clone()), Some(resource.to_proto()));
            message.local_resources.push(proto::StringLocalResource { key, value });
        }
        for (name, value) in &self.environment {
            let value = command::environment_value(name, value)?;
            message.environment.push(proto::StringString { key: Some(name.clone()), value: Some(value) });
        }
        // An empty ACL means "nobody" in the message too, but only when it is a blank.
        for (access_type, acl) in [(1, &self.acls.view), (2, &self.acls.modify)] {
            let acl = if acl.is_empty() { " " } else { acl.as_str() };
            let (access_type, acl) = (Some(access_type), Some(acl.to_owned()));
            message.application_acls.push(proto::ApplicationAcl { access_type, acl });
        }
        Ok(message)
    }
}

fn check_link(link: &str) -> Result<(), LaunchError> {
    let parts_fine = link.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if parts_fine && !link.contains(UNLINKABLE) { Ok(()) } else { Err(LaunchError::Link(link.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(url: &str) -> LocalResource {
        LocalResource {
            url: url.parse().unwrap(),
            size: 10,
            modified_ms: 1_700_000_000_123,
            kind: ResourceKind::File,
            visibility: Visibility::Application,
        }
    }

    #[test]
    fn urls_are_read_literally() {
        let parts = |text: &str| {
            let url: ResourceUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), text);
            (url.scheme, url.host, url.port, url.path)
        };
        assert_eq!(
            parts("hdfs://nn:9000/a b%20c/d"),
            ("hdfs".into(), "nn".into(), Some(9000), "/a b%20c/d".into())
        );
        assert_eq!(parts("hdfs://ns1/x"), ("hdfs".into(), "ns1".into(), None, "/x".into()));
        assert_eq!(parts("viewfs:///x"), ("viewfs".into(), "".into(), None, "/x".into()));
        assert_eq!(parts("hdfs://[::1]:9000/x"), ("hdfs".into(), "[::1]".into(), Some(9000), "/x".into()));
        assert_eq!(parts("hdfs://[::1]/x"), ("hdfs".into(), "[::1]".into(), None, "/x".into()));
        for bad in [
            "/a/b",
            "hdfs:/a",
            "hdfs://nn",
            "hdfs://nn:x/a",
            "hdfs://nn:99999/a",
            "hdfs://nn/a/",
            "hdfs://nn/a$b",
        ] {
            assert_eq!(bad.parse::<ResourceUrl>(), Err(LaunchError::Url(bad.to_owned())));
        }
    }

    #[test]
    fn the_message_has_everything_quoted() {
        let context = LaunchContext::new(Command::new("./rt").arg("am"))
            .resource("rt", file("hdfs://nn:9000/stage/rt"))
            .resource("lib/data", LocalResource { kind: ResourceKind::Archive, ..file("hdfs://ns/x.zip") })
            .variable("GREETING", "say \"hi\"")
            .tokens(b"HDTS".to_vec())
            .acls(Acls { view: "*".into(), modify: String::new() });
        let message = context.to_proto().unwrap();
        assert_eq!(message.command, ["exec ./rt am 1><LOG_DIR>/stdout 2><LOG_DIR>/stderr"]);
        assert_eq!(message.environment[0].value.as_deref(), Some(r#"say \"hi\""#));
        assert_eq!(message.tokens.as_deref(), Some(&b"HDTS"[..]));
        let [archive, rt] = &message.local_resources[..] else { panic!("two resources") };
        assert_eq!((archive.key.as_deref(), rt.key.as_deref()), (Some("lib/data"), Some("rt")));
        let (archive, rt) = (archive.value.as_ref().unwrap(), rt.value.as_ref().unwrap());
        assert_eq!((archive.kind, rt.kind, rt.visibility), (Some(1), Some(2), Some(3)));
        assert_eq!(rt.timestamp, Some(1_700_000_000_123));
        assert_eq!(archive.resource.as_ref().unwrap().port, Some(-1));
        let acls: Vec<_> =
            message.application_acls.iter().map(|a| (a.access_type, a.acl.as_deref())).collect();
        assert_eq!(acls, [(Some(1), Some("*")), (Some(2), Some(" "))]);
    }

    #[test]
    fn names_that_the_script_cannot_carry_are_refused() {
        let with_link = |link: &str| {
            LaunchContext::new(Command::new("x")).resource(link, file("hdfs://ns/x")).to_proto().map(|_| ())
        };
        assert_eq!(with_link("a/b c.txt"), Ok(()));
        for bad in ["", "/etc/x", "../x", "a//b", "a/./b", "a$b", "a\"b", "a\nb"] {
            assert_eq!(with_link(bad), Err(LaunchError::Link(bad.to_owned())));
        }
        assert_eq!(LaunchContext::default().to_proto(), Err(LaunchError::NoCommand));
    }

    #[test]
    fn debug_output_keeps_secrets() {
        let context = LaunchContext::new(Command::new("x")).variable("K", "hush").tokens(b"hush".to_vec());
        assert!(!format!("{context:?}").contains("hush"), "{context:?}");
    }
}
