//! Hadoop's configuration, read as `org.apache.hadoop.conf.Configuration` reads it.
//!
//! Defaults, then `core-site.xml`, `hdfs-site.xml`, `yarn-site.xml`, `mapred-site.xml`: later values replace
//! earlier ones unless those are final. Every value knows the file and line it stands in. Variables
//! (`${other.key}`, `${user.name}`, `${env.HOME:-/root}`) are put in when a value is asked for, with what the
//! caller gave as environment: nothing in here reads the process's own.
//!
//! More strict than Hadoop where Hadoop hides mistakes: a value that is no boolean is an error, not the default.

mod addresses;
mod defaults;
mod location;
mod substitute;
mod values;
mod xml;

pub use addresses::{RmAddress, RmService};
pub use defaults::NAMENODE_PORT;
pub use location::HdfsLocation;
pub use values::TimeUnit;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The files of a configuration directory, in the order they are read.
const FILES: [&str; 4] = ["core-site.xml", "hdfs-site.xml", "yarn-site.xml", "mapred-site.xml"];

/// What values may refer to besides other values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Environment variables, for `${env.NAME}`.
    pub variables: BTreeMap<String, String>,
    /// What Java calls system properties: `user.name`, `user.home`, `java.io.tmpdir`. They win over keys of the
    /// same name.
    pub properties: BTreeMap<String, String>,
}

impl Environment {
    /// The usual properties, and variables.
    pub fn new(
        user: &str,
        home: &str,
        temporary: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Environment {
        let property = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let properties = [("user.name", user), ("user.home", home), ("java.io.tmpdir", temporary)];
        Environment {
            variables: variables.into_iter().collect(),
            properties: properties.into_iter().map(property).collect(),
        }
    }
}

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Hadoop's own default.
    Default,
    /// A file.
    File {
        /// The file, which may be an included one.
        path: PathBuf,
        /// Line of the property, from 1.
        line: usize,
        /// Whether later files can not replace it.
        is_final: bool,
        /// The old name under which it stands there.
        deprecated_name: Option<&'static str>,
    },
    /// The caller, such as a flag.
    Given {
        /// What it was, for messages: `--conf`.
        by: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("Hadoop's default"),
            Source::Given { by } => f.write_str(by),
            Source::File { path, line, is_final, deprecated_name } => {
                write!(f, "{}:{line}", path.display())?;
                if let Some(name) = deprecated_name {
                    write!(f, " (as {name})")?;
                }
                f.write_str(if *is_final { " (final)" } else { "" })
            }
        }
    }
}

/// A value as it stands in its source, variables and all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The text.
    pub raw: String,
    /// Where it stands.
    pub source: Source,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// A file or directory could not be read.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file is no configuration file.
    #[error("{path}:{line}: {message}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A value is not what its key needs.
    #[error("{source_}: {key} = \"{value}\": {message}", source_ = .at)]
    Value {
        /// The key.
        key: String,
        /// The value, variables put in as far as possible.
        value: String,
        /// Where it stands.
        at: Box<Source>,
        /// What is wrong with it, and what would be right.
        message: String,
    },
    /// A value is needed that stands nowhere, or an address that the configuration does not know.
    #[error("{0}")]
    Missing(String),
}

/// A cluster's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    properties: BTreeMap<String, Property>,
    /// Keys that later files can not set.
    finals: BTreeSet<String>,
    environment: Environment,
    files: Vec<PathBuf>,
}

impl Configuration {
    /// Hadoop's defaults of the keys that concern us, and nothing else.
    pub fn defaults(environment: Environment) -> Configuration {
        let property = |(key, raw): &(&str, &str)| {
            ((*key).to_owned(), Property { raw: (*raw).into(), source: Source::Default })
        };
        let properties = defaults::DEFAULTS.iter().map(property).collect();
        Configuration { properties, finals: BTreeSet::new(), environment, files: Vec::new() }
    }

    /// Reads the files of `directories`: each file from the first directory that has it, as Java's class path
    /// does. Give `YARN_CONF_DIR` first, `HADOOP_CONF_DIR` second.
    ///
    /// # Errors
    /// A directory that does not exist, a file that cannot be read or is no configuration file.
    pub fn load(directories: &[PathBuf], environment: Environment) -> Result<Configuration, ConfError> {
        let mut conf = Configuration::defaults(environment);
        for directory in directories {
            std::fs::read_dir(directory)
                .map_err(|source| ConfError::Io { path: directory.clone(), source })?;
        }
        for name in FILES {
            let candidates = directories.iter().map(|directory| directory.join(name));
            if let Some(path) = candidates.into_iter().find(|path| path.exists()) {
                conf.add_file(&path, directories)?;
            }
        }
        Ok(conf)
    }

    /// Reads one more file over what is there. What it includes is looked for beside it and in `directories`.
    ///
    /// # Errors
    /// As [`Configuration::load`].
    pub fn add_file(&mut self, path: &Path, directories: &[PathBuf]) -> Result<(), ConfError> {
        for item in xml::read(path, directories)? {
            let xml::Item { name, value, is_final, path, line } = item;
            let (key, deprecated_name) = defaults::current_name(&name);
            if self.finals.contains(key) {
                continue;
            }
            if let Some(raw) = value {
                let source = Source::File { path, line, is_final, deprecated_name };
                self.properties.insert(key.to_owned(), Property { raw, source });
            } else if let Some(Property { source: Source::File { is_final: closed, .. }, .. }) =
                // A property without a value can still close the door behind an earlier one.
                self.properties.get_mut(key)
            {
                *closed |= is_final;
            }
            if is_final {
                self.finals.insert(key.to_owned());
            }
        }
        self.files.push(path.to_owned());
        Ok(())
    }

    /// Sets a value over everything else, final or not.
    pub fn set(&mut self, key: &str, value: &str, by: &str) {
        let property = Property { raw: value.to_owned(), source: Source::Given { by: by.to_owned() } };
        self.properties.insert(defaults::current_name(key).0.to_owned(), property);
    }

    /// The files that were read, in this order; included ones are not listed.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// A property as it stands in its source; old names are understood.
    pub fn property(&self, key: &str) -> Option<&Property> {
        self.properties.get(defaults::current_name(key).0)
    }

    /// All properties by key, defaults included.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &Property)> {
        self.properties.iter().map(|(key, property)| (key.as_str(), property))
    }

    /// Everything that was configured, variables put in, for the HDFS client crate, which knows neither
    /// variables nor blanks. Hadoop's defaults stay out: to that crate some keys mean something by being there.
    pub fn resolved(&self) -> BTreeMap<String, String> {
        let configured = self.properties.iter().filter(|(_, p)| p.source != Source::Default);
        configured
            .map(|(key, property)| {
                // A value that cannot be resolved harms nobody before it is asked for.
                let value = self.get(key).ok().flatten().unwrap_or_else(|| property.raw.trim().to_owned());
                let value = if key.starts_with("dfs.ha.namenodes.") || key == "dfs.nameservices" {
                    value.split(',').map(str::trim).collect::<Vec<_>>().join(",")
                } else if key == "hadoop.security.authentication" {
                    value.to_ascii_lowercase()
                } else {
                    value
                };
                (key.clone(), value)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
