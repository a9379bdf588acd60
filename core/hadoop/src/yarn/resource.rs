//! Resources, nodes and tokens as plain values.

use super::proto;
use std::collections::BTreeMap;
use std::fmt;

/// Name of the memory entry in a resource map; the field `memory` of the message says the same.
const MEMORY: &str = "memory-mb";
/// Name of the cores entry in a resource map; the field `virtual_cores` of the message says the same.
const VCORES: &str = "vcores";

/// Memory, virtual cores, and whatever else a cluster counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// MiB (YARN calls the unit `mb`).
    pub memory_mib: u64,
    /// Virtual cores. A scheduler that counts memory only reports 1, whatever was asked: never compare.
    pub vcores: u32,
    /// Other countable resources by name, such as `yarn.io/gpu`.
    pub other: BTreeMap<String, u64>,
}

impl Resource {
    /// Memory and cores, nothing else.
    pub fn new(memory_mib: u64, vcores: u32) -> Self {
        Resource { memory_mib, vcores, other: BTreeMap::new() }
    }

    /// Why a container of this size can never come from a cluster whose largest is `maximum`, if so.
    pub fn exceeds(&self, maximum: &Resource) -> Option<String> {
        if self.memory_mib > maximum.memory_mib {
            return Some(format!(
                "{} MiB memory, the maximum is {} MiB",
                self.memory_mib, maximum.memory_mib
            ));
        }
        if self.vcores > maximum.vcores {
            return Some(format!("{} vcores, the maximum is {}", self.vcores, maximum.vcores));
        }
        self.other.iter().find_map(|(name, &n)| {
            let most = maximum.other.get(name).copied().unwrap_or(0);
            (n > most).then(|| format!("{n} of {name}, the maximum is {most}"))
        })
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB, {} vcores", self.memory_mib, self.vcores)?;
        self.other.iter().try_for_each(|(name, n)| write!(f, ", {n} {name}"))
    }
}

impl From<&proto::Resource> for Resource {
    fn from(message: &proto::Resource) -> Self {
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        Resource {
            memory_mib: count(message.memory.unwrap_or(0)),
            vcores: u32::try_from(message.virtual_cores.unwrap_or(0)).unwrap_or(0),
            other: message
                .resource_value_map
                .iter()
                .filter(|r| r.key != MEMORY && r.key != VCORES)
                .map(|r| (r.key.clone(), count(r.value.unwrap_or(0))))
                .collect(),
        }
    }
}

impl From<&Resource> for proto::Resource {
    fn from(resource: &Resource) -> Self {
        proto::Resource {
            memory: Some(i64::try_from(resource.memory_mib).unwrap_or(i64::MAX)),
            virtual_cores: Some(i32::try_from(resource.vcores).unwrap_or(i32::MAX)),
            resource_value_map: resource
                .other
                .iter()
                .map(|(name, &n)| proto::ResourceInformation {
                    key: name.clone(),
                    value: Some(i64::try_from(n).unwrap_or(i64::MAX)),
                    units: Some(String::new()),
                    kind: Some(0),
                    ..Default::default()
                })
                .collect(),
        }
    }
}

/// A NodeManager: the host name under which it is registered, and its RPC port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    /// Host name, the same that HDFS uses for locality.
    pub host: String,
    /// Port of ContainerManagementProtocol.
    pub port: u16,
}

impl NodeId {
    /// Node from its parts.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        NodeId { host: host.into(), port }
    }

    /// The node of a message, when host and port are there and make sense.
    pub fn from_proto(message: Option<&proto::NodeId>) -> Option<Self> {
        let message = message?;
        let port = u16::try_from(message.port?).ok()?;
        Some(NodeId { host: message.host.clone().filter(|host| !host.is_empty())?, port })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_keeps_its_parts_and_forgets_doubled_ones() {
        let mut gpu = Resource::new(512, 2);
        gpu.other.insert("yarn.io/gpu".into(), 1);
        let mut message = proto::Resource::from(&gpu);
        for (key, value) in [(MEMORY, 512), (VCORES, 2)] {
            message.resource_value_map.push(proto::ResourceInformation {
                key: key.into(),
                value: Some(value),
                ..Default::default()
            });
        }
        assert_eq!(Resource::from(&message), gpu);
        assert_eq!(gpu.to_string(), "512 MiB, 2 vcores, 1 yarn.io/gpu");
    }

    #[test]
    fn negative_numbers_become_zero() {
        let message = proto::Resource { memory: Some(-5), virtual_cores: Some(-1), ..Default::default() };
        assert_eq!(Resource::from(&message), Resource::new(0, 0));
    }

    #[test]
    fn too_large_says_what_is_too_large() {
        let maximum = Resource::new(1024, 4);
        assert_eq!(Resource::new(1024, 4).exceeds(&maximum), None);
        assert_eq!(
            Resource::new(2048, 4).exceeds(&maximum).unwrap(),
            "2048 MiB memory, the maximum is 1024 MiB"
        );
        assert_eq!(Resource::new(1, 5).exceeds(&maximum).unwrap(), "5 vcores, the maximum is 4");
        let mut gpu = Resource::new(1, 1);
        gpu.other.insert("yarn.io/gpu".into(), 2);
        assert_eq!(gpu.exceeds(&maximum).unwrap(), "2 of yarn.io/gpu, the maximum is 0");
    }

    #[test]
    fn a_node_needs_host_and_port() {
        let node = |host: Option<&str>, port| proto::NodeId { host: host.map(Into::into), port };
        assert_eq!(NodeId::from_proto(Some(&node(Some("h"), Some(1)))), Some(NodeId::new("h", 1)));
        for bad in
            [node(None, Some(1)), node(Some(""), Some(1)), node(Some("h"), None), node(Some("h"), Some(-1))]
        {
            assert_eq!(NodeId::from_proto(Some(&bad)), None);
        }
        assert_eq!(NodeId::from_proto(None), None);
    }
}
