//! Requests and responses of ContainerManagementProtocol.

use super::*;
use prost::Message;

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct StartContainerRequest {
    #[prost(message, optional, tag = "1")]
    pub container_launch_context: Option<ContainerLaunchContext>,
    #[prost(message, optional, tag = "2")]
    pub container_token: Option<Token>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct StartContainersRequest {
    #[prost(message, repeated, tag = "1")]
    pub start_container_request: Vec<StartContainerRequest>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ContainerException {
    #[prost(message, optional, tag = "1")]
    pub container_id: Option<ContainerId>,
    #[prost(message, optional, tag = "2")]
    pub exception: Option<SerializedException>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct StartContainersResponse {
    #[prost(message, repeated, tag = "1")]
    pub services_meta_data: Vec<StringBytes>,
    #[prost(message, repeated, tag = "2")]
    pub succeeded_requests: Vec<ContainerId>,
    #[prost(message, repeated, tag = "3")]
    pub failed_requests: Vec<ContainerException>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct StopContainersRequest {
    #[prost(message, repeated, tag = "1")]
    pub container_id: Vec<ContainerId>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct StopContainersResponse {
    #[prost(message, repeated, tag = "1")]
    pub succeeded_requests: Vec<ContainerId>,
    #[prost(message, repeated, tag = "2")]
    pub failed_requests: Vec<ContainerException>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetContainerStatusesRequest {
    #[prost(message, repeated, tag = "1")]
    pub container_id: Vec<ContainerId>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetContainerStatusesResponse {
    #[prost(message, repeated, tag = "1")]
    pub status: Vec<ContainerStatus>,
    #[prost(message, repeated, tag = "2")]
    pub failed_requests: Vec<ContainerException>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct SignalContainerRequest {
    #[prost(message, required, tag = "1")]
    pub container_id: ContainerId,
    #[prost(int32, required, tag = "2")]
    pub command: i32,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct SignalContainerResponse {}
