//! The token file: `HDTS`, a version byte, then Writables (version 0) or one protobuf message (version 1).

use super::writable::{Reader, WritableError, write_bytes, write_vlong};
use super::{Credentials, Secret, Token};
use prost::Message;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// First bytes of every token file.
const MAGIC: &[u8; 4] = b"HDTS";
/// Largest token file read: a real one has a few KiB, and ContainerLaunchContexts carry it around.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Form of a token file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileVersion {
    /// Writables: what every version of Hadoop reads, and what its daemons write.
    #[default]
    Writable,
    /// Protobuf, since Hadoop 3.0.
    Protobuf,
}

/// Why a token file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It could not be read or written.
    #[error("token file {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Its content is no token file, or a broken one.
    #[error("token file {path}: {source}", path = .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: WritableError,
    },
}

/// `TokenProto`; other protocols carry it too.
#[derive(Clone, PartialEq, Message)]
struct TokenProto {
    #[prost(bytes = "vec", required, tag = "1")]
    identifier: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "2")]
    password: Vec<u8>,
    #[prost(string, required, tag = "3")]
    kind: String,
    #[prost(string, required, tag = "4")]
    service: String,
}

/// `CredentialsKVProto`.
#[derive(Clone, PartialEq, Message)]
struct CredentialsKvProto {
    #[prost(string, required, tag = "1")]
    alias: String,
    #[prost(message, optional, tag = "2")]
    token: Option<TokenProto>,
    #[prost(bytes = "vec", optional, tag = "3")]
    secret: Option<Vec<u8>>,
}

/// `CredentialsProto`.
#[derive(Clone, PartialEq, Message)]
struct CredentialsProto {
    #[prost(message, repeated, tag = "1")]
    tokens: Vec<CredentialsKvProto>,
    #[prost(message, repeated, tag = "2")]
    secrets: Vec<CredentialsKvProto>,
}

impl Credentials {
    /// Reads the bytes of a token file, or of the `tokens` field of a container's launch context. Like Java, it
    /// does not look at what may follow.
    ///
    /// # Errors
    /// Names the byte and what is wrong there.
    pub fn parse(bytes: &[u8]) -> Result<Credentials, WritableError> {
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(WritableError { at: 0, what: "it does not begin with \"HDTS\"".into() });
        }
        match reader.byte()? {
            0 => parse_writables(&mut reader),
            1 => parse_protobuf(&reader),
            version => {
                Err(WritableError { at: MAGIC.len(), what: format!("version {version}; 0 and 1 are known") })
            }
        }
    }

    /// The bytes of a token file.
    pub fn to_bytes(&self, version: FileVersion) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        match version {
            FileVersion::Writable => {
                out.push(0);
                self.write_writables(&mut out);
            }
            FileVersion::Protobuf => {
                out.push(1);
                out.extend(self.to_proto().encode_length_delimited_to_vec());
            }
        }
        out
    }

    /// Reads a token file.
    ///
    /// # Errors
    /// Names the file, and the byte when its content is wrong.
    pub fn read(path: &Path) -> Result<Credentials, CredentialsError> {
        let io_error = |source| CredentialsError::Io { path: path.to_owned(), source };
        let bytes = std::fs::metadata(path).map_err(io_error)?.len();
        if bytes > MAX_FILE_BYTES {
            let text = format!("{bytes} bytes; the limit is {MAX_FILE_BYTES}");
            return Err(io_error(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        let content = std::fs::read(path).map_err(io_error)?;
        Credentials::parse(&content)
            .map_err(|source| CredentialsError::Corrupt { path: path.to_owned(), source })
    }

    /// Writes a token file that only its owner can read, in one step: readers see the old file or the new one.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, path: &Path, version: FileVersion) -> Result<(), CredentialsError> {
        let io_error = |source| CredentialsError::Io { path: path.to_owned(), source };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let temporary = path.with_file_name(name);
        // A left-over of a crash may have another mode or owner: never write secrets into an existing file.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(error)),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(io_error)?;
        let written =
            file.write_all(&self.to_bytes(version)).and_then(|()| std::fs::rename(&temporary, path));
        written.map_err(|error| {
            let _ = std::fs::remove_file(&temporary);
            io_error(error)
        })
    }

    fn write_writables(&self, out: &mut Vec<u8>) {
        write_vlong(out, self.tokens.len() as i64);
        for (alias, token) in &self.tokens {
            write_bytes(out, alias.as_bytes());
            write_bytes(out, &token.identifier);
            write_bytes(out, &token.password);
            write_bytes(out, token.kind.as_bytes());
            write_bytes(out, token.service.as_bytes());
        }
        write_vlong(out, self.secrets.len() as i64);
        for (alias, secret) in &self.secrets {
            write_bytes(out, alias.as_bytes());
            write_bytes(out, &secret.0);
        }
    }

    fn to_proto(&self) -> CredentialsProto {
        let token = |(alias, token): (&String, &Token)| CredentialsKvProto {
            alias: alias.clone(),
            token: Some(TokenProto {
                identifier: token.identifier.clone(),
                password: token.password.clone(),
                kind: token.kind.clone(),
                service: token.service.clone(),
            }),
            secret: None,
        };
        let secret = |(alias, secret): (&String, &Secret)| CredentialsKvProto {
            alias: alias.clone(),
            token: None,
            secret: Some(secret.0.clone()),
        };
        CredentialsProto {
            tokens: self.tokens.iter().map(token).collect(),
            secrets: self.secrets.iter().map(secret).collect(),
        }
    }
}

fn parse_writables(reader: &mut Reader<'_>) -> Result<Credentials, WritableError> {
    let mut credentials = Credentials::default();
    for _ in 0..reader.length()? {
        let alias = reader.text()?.to_owned();
        let token = Token {
            identifier: reader.bytes()?.to_vec(),
            password: reader.bytes()?.to_vec(),
            kind: reader.text()?.to_owned(),
            service: reader.text()?.to_owned(),
        };
        credentials.tokens.insert(alias, token);
    }
    for _ in 0..reader.length()? {
        let alias = reader.text()?.to_owned();
        credentials.secrets.insert(alias, Secret(reader.bytes()?.to_vec()));
    }
    Ok(credentials)
}

fn parse_protobuf(reader: &Reader<'_>) -> Result<Credentials, WritableError> {
    let wrong = |what: String| WritableError { at: reader.at(), what };
    let proto = CredentialsProto::decode_length_delimited(reader.rest())
        .map_err(|error| wrong(format!("the credentials do not decode: {error}")))?;
    let mut credentials = Credentials::default();
    for CredentialsKvProto { alias, token, .. } in proto.tokens {
        let token = token.ok_or_else(|| wrong(format!("the token \"{alias}\" is empty")))?;
        let TokenProto { identifier, password, kind, service } = token;
        credentials.tokens.insert(alias, Token { kind, service, identifier, password });
    }
    for CredentialsKvProto { alias, secret, .. } in proto.secrets {
        let secret = secret.ok_or_else(|| wrong(format!("the secret \"{alias}\" is empty")))?;
        credentials.secrets.insert(alias, Secret(secret));
    }
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{HdfsTokenIdentifier, kind};
    use std::os::unix::fs::PermissionsExt as _;

    fn sample() -> Credentials {
        let mut credentials = Credentials::default();
        let token = |kind: &str, service: &str, bytes: usize| Token {
            kind: kind.into(),
            service: service.into(),
            identifier: vec![0xfe; bytes],
            password: vec![1; 20],
        };
        credentials.tokens.insert(String::new(), token(kind::AMRM, "", 26));
        credentials.tokens.insert("10.0.0.1:8020".into(), token(kind::HDFS, "10.0.0.1:8020", 127));
        credentials.tokens.insert("ha-hdfs:prod".into(), token(kind::HDFS, "ha-hdfs:prod", 300));
        credentials.secrets.insert("ringspin.job".into(), Secret(vec![7; 32]));
        credentials.secrets.insert("\u{e9}mpty".into(), Secret(Vec::new()));
        credentials
    }

    #[test]
    fn both_versions_round_trip_and_every_cut_is_an_error() {
        for version in [FileVersion::Writable, FileVersion::Protobuf] {
            for credentials in [sample(), Credentials::default()] {
                let bytes = credentials.to_bytes(version);
                assert_eq!(Credentials::parse(&bytes), Ok(credentials));
                for length in 0..bytes.len() {
                    let error = Credentials::parse(&bytes[..length]).expect_err("cut");
                    assert!(error.at <= length, "{error}");
                }
            }
        }
    }

    #[test]
    fn a_file_written_by_hand_is_read() {
        let bytes = b"HDTS\x00\x01\x01a\x02id\x02pw\x01K\x01S\x01\x01b\x03xyz";
        let credentials = Credentials::parse(bytes).unwrap();
        let token = &credentials.tokens["a"];
        assert_eq!((&token.identifier[..], &token.password[..]), (&b"id"[..], &b"pw"[..]));
        assert_eq!((token.kind.as_str(), token.service.as_str()), ("K", "S"));
        assert_eq!(credentials.secrets["b"], Secret(b"xyz".to_vec()));
        assert_eq!(credentials.to_bytes(FileVersion::Writable), bytes);
    }

    #[test]
    fn changed_bytes_never_panic_and_lengths_are_not_believed() {
        for version in [FileVersion::Writable, FileVersion::Protobuf] {
            let bytes = sample().to_bytes(version);
            for position in 0..bytes.len() {
                for value in [0x00, 0x7f, 0x80, 0x8c, 0xff] {
                    let mut changed = bytes.clone();
                    changed[position] = value;
                    let _ = Credentials::parse(&changed);
                }
            }
        }
        let error = Credentials::parse(b"HDTS\x00\x8c\x7f\xff\xff\xff").unwrap_err();
        assert_eq!(error.at, 10, "{error}");
        assert!(Credentials::parse(b"HDTS\x02").unwrap_err().what.contains("version 2"));
        assert!(Credentials::parse(b"PK\x03\x04....").unwrap_err().what.contains("HDTS"));
    }

    #[test]
    fn files_are_private_and_errors_name_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        for version in [FileVersion::Writable, FileVersion::Protobuf] {
            sample().write(&path, version).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(Credentials::read(&path).unwrap(), sample());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
        std::fs::write(&path, b"HDTS").unwrap();
        let text = Credentials::read(&path).unwrap_err().to_string();
        assert!(text.contains("tokens") && text.contains("byte 4"), "{text}");
        let text = Credentials::read(&folder.path().join("none")).unwrap_err().to_string();
        assert!(text.contains("none"), "{text}");
    }

    #[test]
    fn files_written_by_hadoop_are_read_and_written_alike() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokens");
        let files = [("writable", FileVersion::Writable), ("protobuf", FileVersion::Protobuf)];
        for (name, version) in files {
            let path = folder.join(format!("{name}.tokens"));
            let credentials = Credentials::read(&path).unwrap();
            assert_eq!((credentials.tokens.len(), credentials.secrets.len()), (2, 1));
            assert_eq!(credentials.secret("gr\u{fc}\u{df}"), Some(&b"secret"[..]));
            assert_eq!(credentials.tokens_of(kind::AMRM).next().unwrap().identifier, [0; 200]);
            let token = credentials.tokens_of(kind::HDFS).next().unwrap();
            assert_eq!((token.service.as_str(), &token.password[..]), ("10.0.0.1:8020", &[0x80; 20][..]));
            let id = HdfsTokenIdentifier::parse(&token.identifier).unwrap();
            assert_eq!((id.owner.as_str(), id.real_user.as_str()), ("alice@EXAMPLE.ORG", "oozie"));
            assert_eq!((id.max_ms, id.sequence, id.master_key), (1_700_604_800_000, 300, -5));
            // Java's maps have no order; ours are sorted. Compare what does not depend on it.
            assert_eq!(credentials.to_bytes(version).len(), std::fs::read(&path).unwrap().len());
        }
    }
}
