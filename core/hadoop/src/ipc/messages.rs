//! Messages of the IPC layer itself (`RpcHeader.proto`, `IpcConnectionContext.proto`,
//! `ProtobufRpcEngine.proto`). Fields that we neither send nor read are left out; protobuf skips them.

use prost::Message;

/// `RpcKindProto.RPC_PROTOCOL_BUFFER`.
pub(crate) const RPC_KIND_PROTOBUF: i32 = 2;
/// `OperationProto.RPC_FINAL_PACKET`.
pub(crate) const RPC_FINAL_PACKET: i32 = 0;

/// Call id of SASL messages.
pub(crate) const CALL_ID_SASL: i32 = -33;
/// Call id of the connection context.
pub(crate) const CALL_ID_CONTEXT: i32 = -3;
/// Call id of pings.
pub(crate) const CALL_ID_PING: i32 = -4;

/// `RpcRequestHeaderProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RequestHeader {
    #[prost(int32, optional, tag = "1")]
    pub(crate) rpc_kind: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) rpc_op: Option<i32>,
    #[prost(sint32, required, tag = "3")]
    pub(crate) call_id: i32,
    #[prost(bytes = "vec", required, tag = "4")]
    pub(crate) client_id: Vec<u8>,
    #[prost(sint32, optional, tag = "5")]
    pub(crate) retry_count: Option<i32>,
}

/// `RpcStatusProto.SUCCESS`: the answer follows.
pub(crate) const STATUS_SUCCESS: i32 = 0;
/// `RpcStatusProto.ERROR`: this call failed, the connection goes on.
pub(crate) const STATUS_ERROR: i32 = 1;

/// `RpcErrorCodeProto.ERROR_NO_SUCH_METHOD`.
pub(crate) const ERROR_NO_SUCH_METHOD: i32 = 2;
/// `RpcErrorCodeProto.ERROR_NO_SUCH_PROTOCOL`.
pub(crate) const ERROR_NO_SUCH_PROTOCOL: i32 = 3;
/// `RpcErrorCodeProto.FATAL_UNAUTHORIZED`.
pub(crate) const FATAL_UNAUTHORIZED: i32 = 15;

/// `RpcResponseHeaderProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ResponseHeader {
    /// A negative id in 32 bits: cast it to `i32`.
    #[prost(uint32, required, tag = "1")]
    pub(crate) call_id: u32,
    #[prost(int32, required, tag = "2")]
    pub(crate) status: i32,
    #[prost(uint32, optional, tag = "3")]
    pub(crate) server_version: Option<u32>,
    #[prost(string, optional, tag = "4")]
    pub(crate) exception_class: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub(crate) error_message: Option<String>,
    #[prost(int32, optional, tag = "6")]
    pub(crate) error_code: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub(crate) client_id: Option<Vec<u8>>,
}

/// `RpcSaslProto.SaslState`: the exchange is over; of a server that wants no SASL, the first answer.
pub(crate) const SASL_SUCCESS: i32 = 0;
/// The first message of each side.
pub(crate) const SASL_NEGOTIATE: i32 = 1;
/// The client's choice of a mechanism.
pub(crate) const SASL_INITIATE: i32 = 2;
/// From the server, until it is satisfied.
pub(crate) const SASL_CHALLENGE: i32 = 3;
/// The client's answer to a challenge.
pub(crate) const SASL_RESPONSE: i32 = 4;
/// A piece of the inner stream, signed or encrypted.
pub(crate) const SASL_WRAP: i32 = 5;

/// `RpcSaslProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SaslMessage {
    #[prost(uint32, optional, tag = "1")]
    pub(crate) version: Option<u32>,
    #[prost(int32, required, tag = "2")]
    pub(crate) state: i32,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) token: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) auths: Vec<SaslAuth>,
}

/// `RpcSaslProto.SaslAuth`: one way to authenticate. The client must send back the one it chose, byte for
/// byte, without the challenge.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SaslAuth {
    #[prost(string, required, tag = "1")]
    pub(crate) method: String,
    #[prost(string, required, tag = "2")]
    pub(crate) mechanism: String,
    #[prost(string, optional, tag = "3")]
    pub(crate) protocol: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(crate) server_id: Option<String>,
    #[prost(bytes = "vec", optional, tag = "5")]
    pub(crate) challenge: Option<Vec<u8>>,
}

/// `UserInformationProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UserInformation {
    #[prost(string, optional, tag = "1")]
    pub(crate) effective_user: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) real_user: Option<String>,
}

/// `IpcConnectionContextProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConnectionContext {
    #[prost(message, optional, tag = "2")]
    pub(crate) user: Option<UserInformation>,
    #[prost(string, optional, tag = "3")]
    pub(crate) protocol: Option<String>,
}

/// `RequestHeaderProto`: which method of which protocol.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MethodHeader {
    #[prost(string, required, tag = "1")]
    pub(crate) method: String,
    #[prost(string, required, tag = "2")]
    pub(crate) protocol: String,
    #[prost(uint64, required, tag = "3")]
    pub(crate) version: u64,
}
