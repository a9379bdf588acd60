//! DIGEST-MD5 (RFC 2831) as Hadoop uses it for tokens: `md5-sess`, one nonce count, no authorization id.
//!
//! User name and password are the Base64 of the token's identifier and password, and the digest URI is
//! `<protocol>/<server id>` of the offer (`/default`). The server must prove that it knows the password too.

use super::layer::{Direction, Keys, Layer, Protection};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use std::fmt::Write as _;

/// Longest challenge; RFC 2831, section 2.1.1.
const MAX_CHALLENGE_BYTES: usize = 2048;
/// What a server takes at once when it names no `maxbuf`; RFC 2831, section 2.1.1.
const DEFAULT_MAX_BUFFER: u32 = 65536;
/// Smallest `maxbuf` that makes sense: RFC 2831 wants more than 16, a wrapped block with its padding needs 26.
const MIN_MAX_BUFFER: u32 = 64;
/// RFC 2831, section 2.1.1: the field has 24 bits.
const MAX_MAX_BUFFER: u32 = (1 << 24) - 1;
/// Stands for the hash of the (absent) body when a protection is on.
const NO_BODY: &str = ":00000000000000000000000000000000";

/// Whom to log in, where.
#[derive(Clone)]
pub(crate) struct Login {
    /// User name, as hashed.
    pub(crate) user: String,
    /// Password, as hashed.
    pub(crate) password: String,
    /// `<protocol>/<server id>`.
    pub(crate) uri: String,
}

impl Login {
    /// The login of a token.
    pub(crate) fn of_token(identifier: &[u8], password: &[u8], protocol: &str, server_id: &str) -> Self {
        Login {
            user: BASE64.encode(identifier),
            password: BASE64.encode(password),
            uri: format!("{protocol}/{server_id}"),
        }
    }
}

/// What the client remembers between its response and the server's.
pub(crate) struct Sent {
    session: Session,
    max_buffer: u32,
}

/// What both sides know of the exchange.
#[derive(Clone)]
struct Session {
    /// `H(A1)`.
    key: [u8; 16],
    nonce: String,
    cnonce: String,
    uri: String,
    protection: Protection,
}

impl Session {
    fn new(login: &Login, realm: &str, nonce: &str, cnonce: &str, protection: Protection) -> Self {
        let secret = hash(&[&format!("{}:{realm}:{}", login.user, login.password)]);
        let mut a1 = Md5::new();
        a1.update(secret);
        a1.update(format!(":{nonce}:{cnonce}"));
        Session {
            key: a1.finalize().into(),
            nonce: nonce.to_owned(),
            cnonce: cnonce.to_owned(),
            uri: login.uri.clone(),
            protection,
        }
    }

    /// The digest of one side: the client's has the method `AUTHENTICATE`, the server's none.
    fn digest(&self, method: &str) -> String {
        let body = if self.protection == Protection::Authentication { "" } else { NO_BODY };
        let a2 = hex(&hash(&[method, ":", &self.uri, body]));
        let Session { nonce, cnonce, .. } = self;
        let qop = self.protection.name();
        hex(&hash(&[&format!("{}:{nonce}:00000001:{cnonce}:{qop}:{a2}", hex(&self.key))]))
    }
}

/// Answers the server's challenge. `cnonce` is random text of at least 64 bits.
///
/// The strongest protection that the server offers is taken, as servers offer just those they insist on.
///
/// # Errors
/// Says which part of the challenge cannot be used.
pub(crate) fn respond(login: &Login, challenge: &[u8], cnonce: &str) -> Result<(Vec<u8>, Sent), String> {
    if challenge.len() > MAX_CHALLENGE_BYTES {
        return Err(format!("a challenge of {} bytes; the limit is {MAX_CHALLENGE_BYTES}", challenge.len()));
    }
    let fields = Fields::parse(challenge)?;
    let nonce = fields.get("nonce").ok_or("the challenge has no nonce")?;
    match fields.get("algorithm") {
        Some("md5-sess") => {}
        other => return Err(format!("algorithm {other:?} where md5-sess is needed")),
    }
    let realm = fields.get("realm").unwrap_or("");
    let offered = fields.get("qop").unwrap_or("auth");
    let protection = Protection::strongest(offered)
        .ok_or_else(|| format!("none of the offered protections \"{offered}\" is known"))?;
    let max_buffer = match fields.get("maxbuf") {
        None => DEFAULT_MAX_BUFFER,
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| (MIN_MAX_BUFFER..=MAX_MAX_BUFFER).contains(n))
            .ok_or_else(|| format!("maxbuf \"{text}\" is no usable size"))?,
    };
    let session = Session::new(login, realm, nonce, cnonce, protection);
    let mut text = format!(
        "charset=utf-8,username=\"{}\",realm=\"{}\",nonce=\"{}\",nc=00000001,cnonce=\"{}\",\
         digest-uri=\"{}\",maxbuf={DEFAULT_MAX_BUFFER},response={},qop={}",
        quoted(&login.user),
        quoted(realm),
        quoted(nonce),
        quoted(cnonce),
        quoted(&login.uri),
        session.digest("AUTHENTICATE"),
        protection.name()
    );
    if protection == Protection::Privacy {
        let ciphers = fields.get("cipher").unwrap_or("");
        // The RC4 and single DES ciphers that servers also offer are broken.
        if !ciphers.split(',').any(|c| c.trim() == "3des") {
            return Err(format!("none of the offered ciphers \"{ciphers}\" is 3des"));
        }
        text.push_str(",cipher=\"3des\"");
    }
    Ok((text.into_bytes(), Sent { session, max_buffer }))
}

impl Sent {
    /// Checks that the server knows the password too; gives the layer that protects what follows, if any.
    ///
    /// # Errors
    /// Says so when the server's proof is missing or wrong.
    pub(crate) fn finish(self, proof: &[u8]) -> Result<Option<Layer>, String> {
        let fields = Fields::parse(proof)?;
        let expected = self.session.digest("");
        let given = fields.get("rspauth").ok_or("the server did not prove that it knows the token")?;
        // All digits are compared before the verdict, so that the time taken tells nothing.
        let differs = given.len() != expected.len()
            || given.bytes().zip(expected.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) != 0;
        if differs {
            return Err("the server's proof that it knows the token is wrong".into());
        }
        let Session { key, protection, .. } = &self.session;
        Ok(match protection {
            Protection::Authentication => None,
            _ => Some(Layer::new(
                &Keys::derive(key, Direction::ClientToServer, *protection),
                &Keys::derive(key, Direction::ServerToClient, *protection),
                self.max_buffer,
            )),
        })
    }
}

fn hash(parts: &[&str]) -> [u8; 16] {
    let mut md5 = Md5::new();
    parts.iter().for_each(|part| md5.update(part));
    md5.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

/// Escapes what may not stand plainly between quotes.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// `name=value, name="value", ...` of RFC 2831, section 7.1.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "a challenge that is not UTF-8")?;
        let mut fields = Vec::new();
        let mut rest = text.trim_start_matches([',', ' ', '\t', '\r', '\n']);
        while !rest.is_empty() {
            let (name, after) = rest.split_once('=').ok_or_else(|| format!("\"{rest}\" has no \"=\""))?;
            let (value, after) = match after.strip_prefix('"') {
                Some(inside) => unquote(inside)?,
                None => {
                    let end = after.find(',').unwrap_or(after.len());
                    (after[..end].trim_end().to_owned(), &after[end..])
                }
            };
            fields.push((name.trim().to_ascii_lowercase(), value));
            rest = after.trim_start_matches([',', ' ', '\t', '\r', '\n']);
        }
        Ok(Fields(fields))
    }

    /// The first value of `name`; only `realm` may stand there twice, and then any will do.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Reads up to the closing quote; gives the value and what follows.
fn unquote(inside: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &inside[at + 1..])),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    Err(format!("the quote of \"{inside}\" is never closed"))
}

#[cfg(test)]
pub(crate) mod server {
    //! The other side, for tests: what Hadoop's server does with a response.

    use super::*;

    /// A challenge as Hadoop's servers send it.
    pub(crate) fn challenge(nonce: &str, qop: &str) -> Vec<u8> {
        let cipher = if qop.contains("auth-conf") { ",cipher=\"3des,rc4,des,rc4-56,rc4-40\"" } else { "" };
        format!("realm=\"default\",nonce=\"{nonce}\",qop=\"{qop}\",charset=utf-8{cipher},algorithm=md5-sess")
            .into_bytes()
    }

    /// Checks a response; gives `rspauth=...` and the server's layer.
    pub(crate) fn accept(login: &Login, response: &[u8]) -> Result<(Vec<u8>, Option<Layer>), String> {
        let fields = Fields::parse(response)?;
        let get = |name: &str| fields.get(name).ok_or_else(|| format!("no {name}"));
        if get("username")? != login.user || get("digest-uri")? != login.uri || get("nc")? != "00000001" {
            return Err("wrong user, uri or nonce count".into());
        }
        let protection = Protection::strongest(get("qop")?).ok_or("qop")?;
        let session = Session::new(login, get("realm")?, get("nonce")?, get("cnonce")?, protection);
        if session.digest("AUTHENTICATE") != get("response")? {
            return Err("DIGEST-MD5: digest response format violation. Mismatched response.".into());
        }
        let keys = |direction| Keys::derive(&session.key, direction, protection);
        let layer = (protection != Protection::Authentication).then(|| {
            Layer::new(&keys(Direction::ServerToClient), &keys(Direction::ClientToServer), DEFAULT_MAX_BUFFER)
        });
        Ok((format!("rspauth={}", session.digest("")).into_bytes(), layer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chris(uri: &str) -> Login {
        Login { user: "chris".into(), password: "secret".into(), uri: uri.into() }
    }

    #[test]
    fn the_examples_of_rfc_2831() {
        for (uri, nonce, cnonce, response, rspauth) in [
            (
                "imap/elwood.innosoft.com",
                "OA6MG9tEQGm2hh",
                "OA6MHXh6VqTrRk",
                "d388dad90d4bbd760a152321f2143af7",
                "ea40f60335c427b5527b84dbabcdfffd",
            ),
            (
                "acap/elwood.innosoft.com",
                "OA9BSXrbuRhWay",
                "OA9BSuZWMSpW8m",
                "6084c6db3fede7352c551284490fd0fc",
                "2f0b3d7c3c2e486600ef710726aa2eae",
            ),
        ] {
            let challenge = format!(
                "realm=\"elwood.innosoft.com\",nonce=\"{nonce}\",qop=\"auth\",algorithm=md5-sess,charset=utf-8"
            );
            let (text, sent) = respond(&chris(uri), challenge.as_bytes(), cnonce).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains(&format!("response={response}")), "{text}");
            assert!(text.contains("nc=00000001") && text.contains("qop=auth"), "{text}");
            assert!(sent.finish(format!("rspauth={rspauth}").as_bytes()).unwrap().is_none());
        }
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_refused() {
        let login = Login::of_token(b"id", b"password", "", "default");
        let wrong = Login::of_token(b"id", b"passw0rd", "", "default");
        let challenge = server::challenge("abc", "auth");
        let (response, sent) = respond(&login, &challenge, "cnonce").unwrap();
        assert!(server::accept(&wrong, &response).is_err_and(|e| e.contains("Mismatched")));
        let (proof, _) = server::accept(&login, &response).unwrap();
        assert!(sent.finish(&proof).is_ok());
        let (_, sent) = respond(&login, &challenge, "cnonce").unwrap();
        let mut forged = proof.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert!(sent.finish(&forged).is_err_and(|e| e.contains("wrong")));
        let (_, sent) = respond(&login, &challenge, "cnonce").unwrap();
        assert!(sent.finish(b"").is_err_and(|e| e.contains("did not prove")));
    }

    #[test]
    fn every_protection_works_in_both_directions_over_several_messages() {
        let login = Login::of_token(b"identifier", &[7; 20], "", "default");
        for qop in ["auth-int", "auth-conf", "auth,auth-int", "auth,auth-int,auth-conf"] {
            let (response, sent) = respond(&login, &server::challenge("n0nce", qop), "cn0nce").unwrap();
            let (proof, theirs) = server::accept(&login, &response).unwrap();
            let (mut ours, mut theirs) = (sent.finish(&proof).unwrap().unwrap(), theirs.unwrap());
            for message in [&b"first"[..], b"", b"a third one, of more than one block", &[9; 1000]] {
                let sealed = ours.sealer.seal(message);
                assert_eq!(theirs.opener.open(&sealed).unwrap(), message, "{qop}");
                let sealed = theirs.sealer.seal(message);
                assert_eq!(ours.opener.open(&sealed).unwrap(), message, "{qop}");
            }
        }
    }

    #[test]
    fn challenges_that_cannot_be_used_say_why() {
        let login = Login::of_token(b"id", b"pw", "", "default");
        let long = format!("nonce=\"{}\"", "x".repeat(MAX_CHALLENGE_BYTES));
        for (challenge, part) in [
            (&b"\xff\xfe"[..], "UTF-8"),
            (b"", "no nonce"),
            (b"garbage", "\"=\""),
            (b"nonce=\"x", "never closed"),
            (b"nonce=x", "md5-sess"),
            (b"nonce=x,algorithm=md5", "md5-sess"),
            (b"nonce=x,algorithm=md5-sess,qop=\"auth-foo\"", "auth-foo"),
            (b"nonce=x,algorithm=md5-sess,qop=\"auth-conf\",cipher=\"rc4,des\"", "3des"),
            (b"nonce=x,algorithm=md5-sess,maxbuf=-1", "maxbuf"),
            (b"nonce=x,algorithm=md5-sess,maxbuf=20000000", "maxbuf"),
            (long.as_bytes(), "limit"),
        ] {
            let error = respond(&login, challenge, "c").err().expect("refused");
            assert!(error.contains(part), "{error} lacks {part}");
        }
    }

    #[test]
    fn quotes_and_escapes_are_read_and_written() {
        let fields = Fields::parse(b" realm=\"a \\\"b\\\\ c\" , NONCE = x ,,qop=\"auth\"").unwrap();
        assert_eq!(fields.get("realm"), Some("a \"b\\ c"));
        assert_eq!(fields.get("qop"), Some("auth"));
        assert_eq!(quoted("a \"b\\ c"), "a \\\"b\\\\ c");
    }

    proptest::proptest! {
        #[test]
        fn no_challenge_and_no_proof_makes_it_panic(text in "[a-z=\",\\\\ \u{e9}-]{0,80}", tail in "(,nonce=\"n\",algorithm=md5-sess)?") {
            let login = Login::of_token(b"id", b"pw", "", "default");
            if let Ok((_, sent)) = respond(&login, format!("{text}{tail}").as_bytes(), "c") {
                proptest::prop_assert!(sent.finish(text.as_bytes()).is_err());
            }
        }
    }
}
