//! HDFS delegation tokens: what stands in them, and how the HDFS client crate finds them.
//!
//! The crate takes a token only when its service is literally the authority of the URL (`nn:8020`), or
//! `ha-hdfs:<nameservice>`; Hadoop by default writes `ip:port` there. It also panics on identifiers that it can
//! not read. So it gets a private token file, made by [`Credentials::for_hdfs_client`].

use super::writable::{Reader, WritableError};
use super::{Credentials, Token, kind};

/// Identifier of an HDFS delegation token (`AbstractDelegationTokenIdentifier`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HdfsTokenIdentifier {
    /// Whom the bearer acts for; a full principal on a Kerberos cluster.
    pub owner: String,
    /// Who may renew it.
    pub renewer: String,
    /// Who asked for it on the owner's behalf; empty when that was the owner.
    pub real_user: String,
    /// When it was given, in milliseconds since 1970.
    pub issue_ms: i64,
    /// When it ends for good, in milliseconds since 1970; without renewal it ends earlier.
    pub max_ms: i64,
    /// Number of the token.
    pub sequence: i32,
    /// Number of the key it was signed with.
    pub master_key: i32,
}

impl HdfsTokenIdentifier {
    /// Reads an identifier.
    ///
    /// # Errors
    /// Names the byte and what is wrong there.
    pub fn parse(bytes: &[u8]) -> Result<Self, WritableError> {
        let mut reader = Reader::new(bytes);
        match reader.byte()? {
            0 => {}
            version => return Err(WritableError { at: 0, what: format!("version {version}; 0 is known") }),
        }
        Ok(HdfsTokenIdentifier {
            owner: reader.text()?.to_owned(),
            renewer: reader.text()?.to_owned(),
            real_user: reader.text()?.to_owned(),
            issue_ms: reader.vlong()?,
            max_ms: reader.vlong()?,
            sequence: reader.vint()?,
            master_key: reader.vint()?,
        })
    }
}

/// One file system as the URL names it, and the services that its tokens may carry instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HdfsService {
    /// The literal authority of the URL: `nn.example.org:8020`, or the name of a nameservice.
    pub authority: String,
    /// Services under which Hadoop may have stored the token: `10.0.0.1:8020` for every address of the host,
    /// `nn.example.org:8020`, `ha-hdfs:<nameservice>`.
    pub aliases: Vec<String>,
}

impl HdfsService {
    /// Whether `token` opens this file system.
    fn takes(&self, token: &Token) -> bool {
        let is = |name: &str| name.eq_ignore_ascii_case(&token.service);
        token.kind == kind::HDFS && (is(&self.authority) || self.aliases.iter().any(|alias| is(alias)))
    }
}

impl Credentials {
    /// The tokens for `services`, each with the service that the HDFS client crate looks for, and nothing else:
    /// no token of another kind, no secret, no identifier that cannot be read.
    ///
    /// Of several tokens for one service the one that lives longest is taken.
    pub fn for_hdfs_client(&self, services: &[HdfsService]) -> Credentials {
        let mut out = Credentials::default();
        for service in services {
            let best = self
                .tokens
                .values()
                .filter(|token| service.takes(token))
                .filter_map(|token| Some((HdfsTokenIdentifier::parse(&token.identifier).ok()?.max_ms, token)))
                .max_by_key(|(max_ms, _)| *max_ms);
            let Some((_, token)) = best else { continue };
            // A nameservice is looked up under the name that Hadoop gives it, a host under the URL's own text.
            let logical = token.service.strip_prefix("ha-hdfs:").is_some_and(|ns| ns == service.authority);
            let name = if logical { token.service.clone() } else { service.authority.clone() };
            out.tokens.insert(name.clone(), Token { service: name, ..token.clone() });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;
    use crate::credentials::writable::{write_bytes, write_vlong};

    fn identifier(max_ms: i64) -> Vec<u8> {
        let mut bytes = vec![0];
        for text in ["alice@EXAMPLE.ORG", "rm", ""] {
            write_bytes(&mut bytes, text.as_bytes());
        }
        for number in [1_700_000_000_000, max_ms, 42, 3] {
            write_vlong(&mut bytes, number);
        }
        bytes
    }

    fn token(service: &str, identifier: Vec<u8>) -> Token {
        Token { kind: kind::HDFS.into(), service: service.into(), identifier, password: vec![1; 20] }
    }

    #[test]
    fn an_identifier_is_read_and_every_cut_is_an_error() {
        let bytes = identifier(1_700_604_800_000);
        let read = HdfsTokenIdentifier::parse(&bytes).unwrap();
        assert_eq!((read.owner.as_str(), read.renewer.as_str()), ("alice@EXAMPLE.ORG", "rm"));
        assert_eq!((read.max_ms, read.sequence, read.master_key), (1_700_604_800_000, 42, 3));
        for length in 0..bytes.len() {
            assert!(HdfsTokenIdentifier::parse(&bytes[..length]).is_err());
        }
        assert!(HdfsTokenIdentifier::parse(&[1]).unwrap_err().what.contains("version 1"));
    }

    #[test]
    fn the_client_crate_gets_what_it_looks_for_and_nothing_else() {
        let mut all = Credentials::default();
        all.tokens.insert("old".into(), token("10.0.0.1:8020", identifier(1)));
        all.tokens.insert("new".into(), token("10.0.0.1:8020", identifier(2)));
        all.tokens.insert("ha".into(), token("ha-hdfs:prod", identifier(3)));
        all.tokens.insert("bad".into(), token("other:8020", vec![9, 9]));
        all.tokens.insert("am".into(), Token { kind: kind::AMRM.into(), ..Token::default() });
        all.secrets.insert("secret".into(), Secret(vec![1]));
        let service = |authority: &str, aliases: &[&str]| HdfsService {
            authority: authority.into(),
            aliases: aliases.iter().map(|a| a.to_string()).collect(),
        };
        let out = all.for_hdfs_client(&[
            service("NN.example.org:8020", &["nn.example.org:8020", "10.0.0.1:8020"]),
            service("prod", &["ha-hdfs:prod"]),
            service("other:8020", &[]),
            service("unknown:8020", &[]),
        ]);
        let names: Vec<_> =
            out.tokens.iter().map(|(alias, t)| (alias.as_str(), t.service.as_str())).collect();
        assert_eq!(names, [("NN.example.org:8020", "NN.example.org:8020"), ("ha-hdfs:prod", "ha-hdfs:prod")]);
        assert_eq!(out.tokens["NN.example.org:8020"].identifier, identifier(2));
        assert!(out.secrets.is_empty());
    }
}
