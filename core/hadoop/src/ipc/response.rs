//! A frame from the server to what it means: an answer, the failure of one call, or the end of the connection.

use super::messages::{
    ERROR_NO_SUCH_METHOD, ERROR_NO_SUCH_PROTOCOL, FATAL_UNAUTHORIZED, ResponseHeader, STATUS_ERROR,
    STATUS_SUCCESS,
};
use super::{IpcError, RemoteException};
use bytes::Bytes;
use prost::Message;

/// Begins a line of a Java stack trace, and so ends the message before it.
const STACK_LINE: &str = "\n\tat ";

/// What one frame says.
#[derive(Debug)]
pub(super) enum Response {
    /// A call succeeded; the body is the delimited answer.
    Answer {
        /// Which call; negative for the IPC layer's own messages.
        call_id: i32,
        /// What follows the header.
        body: Bytes,
    },
    /// A call failed, the connection goes on.
    Failed {
        /// Which call.
        call_id: i32,
        /// Why.
        failure: Failure,
    },
    /// The connection is over, whatever the call id says.
    Fatal(Failure),
}

/// An exception, and the server's code for it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exception: RemoteException,
    pub(super) code: Option<i32>,
}

impl Response {
    /// Reads a frame.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn parse(mut frame: Bytes, client_id: &[u8]) -> Result<Self, String> {
        let header = ResponseHeader::decode_length_delimited(&mut frame)
            .map_err(|e| format!("a response header does not decode: {e}"))?;
        let call_id = header.call_id as i32;
        if call_id >= 0 && header.client_id.as_ref().is_some_and(|id| !id.is_empty() && id != client_id) {
            return Err(format!("the answer to call {call_id} is for another client"));
        }
        if header.status == STATUS_SUCCESS {
            return Ok(Response::Answer { call_id, body: frame });
        }
        let text = header.error_message.unwrap_or_default();
        let (message, stack) = match text.find(STACK_LINE) {
            Some(at) => (text[..at].to_owned(), text[at + 1..].to_owned()),
            None => (text, String::new()),
        };
        let class = header.exception_class.unwrap_or_default();
        let failure =
            Failure { exception: RemoteException { class, message, stack }, code: header.error_code };
        Ok(match header.status {
            STATUS_ERROR => Response::Failed { call_id, failure },
            _ => Response::Fatal(failure),
        })
    }
}

impl Failure {
    /// What the failure of a call means.
    pub(super) fn of_call(self, address: &str, method: &'static str) -> IpcError {
        let (address, exception) = (address.to_owned(), self.exception);
        match (exception.short_class(), self.code) {
            ("StandbyException", _) => IpcError::Standby { address, exception },
            ("RetriableException", _) => IpcError::Retriable { address, exception },
            ("InvalidToken", _) => IpcError::InvalidToken { address, exception },
            ("RpcNoSuchMethodException" | "RpcNoSuchProtocolException", _)
            | (_, Some(ERROR_NO_SUCH_METHOD | ERROR_NO_SUCH_PROTOCOL)) => {
                IpcError::NoSuchMethod { address, method, exception }
            }
            // An AccessControlException lands here too: that is one file or queue, not the connection.
            _ => IpcError::Remote { address, method, exception },
        }
    }

    /// What the end of a connection means for every call on it.
    pub(super) fn of_connection(self, address: &str) -> IpcError {
        let (address, exception) = (address.to_owned(), self.exception);
        match (exception.short_class(), self.code) {
            ("StandbyException", _) => IpcError::Standby { address, exception },
            ("RetriableException", _) => IpcError::Retriable { address, exception },
            ("InvalidToken", _) => IpcError::InvalidToken { address, exception },
            ("AccessControlException" | "AuthorizationException" | "SaslException", _)
            | (_, Some(FATAL_UNAUTHORIZED)) => {
                IpcError::Unauthorized { address, message: exception.to_string() }
            }
            _ => IpcError::Protocol { address, message: exception.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::messages::CALL_ID_CONTEXT;

    fn frame(header: &ResponseHeader) -> Bytes {
        header.encode_length_delimited_to_vec().into()
    }

    fn failed(class: &str, text: &str) -> ResponseHeader {
        ResponseHeader {
            call_id: 3,
            status: STATUS_ERROR,
            exception_class: Some(class.into()),
            error_message: Some(text.into()),
            ..ResponseHeader::default()
        }
    }

    #[test]
    fn a_stack_trace_is_cut_from_the_message_and_kept() {
        let text = "no such file: /x\nline two\n\tat org.A.b(A.java:1)\n\tat org.C.d(C.java:2)";
        let header = failed("java.io.FileNotFoundException", text);
        let Ok(Response::Failed { call_id: 3, failure }) = Response::parse(frame(&header), b"") else {
            panic!()
        };
        assert_eq!(failure.exception.message, "no such file: /x\nline two");
        assert!(failure.exception.stack.starts_with("\tat org.A.b"));
        let error = failure.of_call("nn:8020", "getBlockLocations");
        assert_eq!(
            error.to_string(),
            "getBlockLocations failed at nn:8020: FileNotFoundException: no such file: /x\nline two"
        );
        assert!(
            error.is_exception("java.io.FileNotFoundException")
                && error.is_exception("FileNotFoundException")
        );
    }

    #[test]
    fn classes_and_codes_tell_the_reaction() {
        let of_call = |class: &str, code| {
            let header = ResponseHeader { error_code: code, ..failed(class, "text") };
            match Response::parse(frame(&header), b"") {
                Ok(Response::Failed { failure, .. }) => failure.of_call("a:1", "m"),
                other => panic!("{other:?}"),
            }
        };
        let ipc = "org.apache.hadoop.ipc.";
        assert!(matches!(of_call(&format!("{ipc}StandbyException"), Some(1)), IpcError::Standby { .. }));
        assert!(matches!(of_call(&format!("{ipc}RetriableException"), None), IpcError::Retriable { .. }));
        assert!(matches!(
            of_call("org.apache.hadoop.security.token.SecretManager$InvalidToken", None),
            IpcError::InvalidToken { .. }
        ));
        assert!(matches!(of_call("x.Y", Some(2)), IpcError::NoSuchMethod { .. }));
        let denied = "org.apache.hadoop.security.AccessControlException";
        assert!(matches!(of_call(denied, Some(1)), IpcError::Remote { .. }));
        let fatal = ResponseHeader { status: 2, call_id: CALL_ID_CONTEXT as u32, ..failed(denied, "SIMPLE") };
        let Ok(Response::Fatal(failure)) = Response::parse(frame(&fatal), b"") else { panic!() };
        assert!(matches!(failure.of_connection("a:1"), IpcError::Unauthorized { .. }));
    }

    #[test]
    fn answers_for_other_clients_and_garbage_are_refused() {
        let header = ResponseHeader { client_id: Some(vec![1; 16]), call_id: 4, ..ResponseHeader::default() };
        assert!(Response::parse(frame(&header), &[2; 16]).is_err_and(|e| e.contains("another client")));
        assert!(Response::parse(frame(&header), &[1; 16]).is_ok());
        assert!(Response::parse(Bytes::from_static(b"\xff\xff\xff\xff\xff"), b"").is_err());
        assert!(Response::parse(Bytes::new(), b"").is_err());
        assert!(Response::parse(Bytes::from_static(&[200, 1, 8]), b"").is_err());
    }
}
