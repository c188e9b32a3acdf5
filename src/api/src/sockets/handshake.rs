//! The handshake of the forward protocol: `HELO`, `PING`, `PONG`.
//!
//! Both sides prove that they have the shared key by digests over salts of both; users prove their passwords likewise.

use ring::digest::{Context, SHA512};
use ring::rand::{SecureRandom, SystemRandom};
use trefoil_ingest::forward::Ping;

use super::forward::ForwardSettings;

/// Bytes of a salt.
const SALT_BYTES: usize = 16;

/// What this side said.
pub(super) struct Handshake {
    nonce: [u8; SALT_BYTES],
    auth: [u8; SALT_BYTES],
}

impl Handshake {
    /// New salts; `None` when the system has none.
    pub(super) fn new() -> Option<Self> {
        let random = SystemRandom::new();
        let mut out = Self { nonce: [0; SALT_BYTES], auth: [0; SALT_BYTES] };
        random.fill(&mut out.nonce).ok()?;
        random.fill(&mut out.auth).ok()?;
        Some(out)
    }

    /// `["HELO", {"nonce": ..., "auth": ..., "keepalive": true}]`; `auth` is empty when there are no users.
    pub(super) fn helo(&self, settings: &ForwardSettings) -> Vec<u8> {
        let mut out = vec![0x92];
        text(&mut out, b"HELO");
        out.push(0x83);
        text(&mut out, b"nonce");
        binary(&mut out, &self.nonce);
        text(&mut out, b"auth");
        binary(&mut out, if settings.users.is_empty() { &[] } else { &self.auth });
        text(&mut out, b"keepalive");
        out.push(0xc3);
        out
    }

    /// Checks an answer. Errors: the reason, which the client is told.
    pub(super) fn check(&self, ping: &Ping, settings: &ForwardSettings) -> Result<(), &'static str> {
        let key = settings.shared_key.as_deref().unwrap_or_default();
        if ping.hostname == settings.hostname.as_bytes() {
            return Err("same hostname between input and output: invalid configuration");
        }
        let want = digest(&[&ping.salt, &ping.hostname, &self.nonce, key]);
        if !is_same(want.as_bytes(), &ping.digest) {
            return Err("shared_key mismatch");
        }
        if settings.users.is_empty() {
            return Ok(());
        }
        let user = std::str::from_utf8(&ping.user).unwrap_or_default();
        // An unknown user takes as long as a known one.
        let known = settings.users.get(user);
        let password = known.map_or("", String::as_str).as_bytes();
        let want = digest(&[&self.auth, &ping.user, password]);
        if is_same(want.as_bytes(), &ping.password_digest) && known.is_some() {
            Ok(())
        } else {
            Err("username/password mismatch")
        }
    }

    /// `["PONG", ok, reason, hostname, digest]`.
    pub(super) fn pong(&self, ping: &Ping, settings: &ForwardSettings, checked: Result<(), &str>) -> Vec<u8> {
        let key = settings.shared_key.as_deref().unwrap_or_default();
        let (hostname, digest) = match checked {
            Ok(()) => {
                let hostname = settings.hostname.as_bytes();
                (hostname, digest(&[&ping.salt, hostname, &self.nonce, key]))
            }
            Err(_) => (&b""[..], String::new()),
        };
        let mut out = vec![0x95];
        text(&mut out, b"PONG");
        out.push(if checked.is_ok() { 0xc3 } else { 0xc2 });
        text(&mut out, checked.err().unwrap_or("").as_bytes());
        text(&mut out, hostname);
        text(&mut out, digest.as_bytes());
        out
    }
}

fn digest(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA512);
    for part in parts {
        context.update(part);
    }
    hex::encode(context.finish())
}

/// Compares digests of these: how long it takes says nothing about them.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    digest(&[a]) == digest(&[b])
}

/// Writes a MessagePack string.
pub(super) fn text(out: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(length @ 0..=31) => out.push(0xa0 | length),
        Ok(length) => out.extend([0xd9, length]),
        Err(_) => {
            out.push(0xdb);
            out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out.extend(text);
}

fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend([0xc4, u8::try_from(bytes.len()).unwrap_or(u8::MAX)]);
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(users: &[(&str, &str)]) -> ForwardSettings {
        ForwardSettings {
            labels: trefoil_model::Labels::empty(),
            shared_key: Some(b"key".to_vec()),
            users: users.iter().map(|(n, p)| ((*n).to_owned(), (*p).to_owned())).collect(),
            hostname: "server".to_owned(),
        }
    }

    #[test]
    fn keys_and_passwords_are_proved() {
        let shake = Handshake { nonce: [1; SALT_BYTES], auth: [2; SALT_BYTES] };
        let ping = |key: &[u8], user: &str, password: &str| Ping {
            hostname: b"client".to_vec(),
            salt: b"salt".to_vec(),
            digest: digest(&[b"salt", b"client", &[1; SALT_BYTES], key]).into_bytes(),
            user: user.as_bytes().to_vec(),
            password_digest: digest(&[&[2; SALT_BYTES], user.as_bytes(), password.as_bytes()]).into_bytes(),
        };
        let (open, closed) = (settings(&[]), settings(&[("ann", "pw")]));
        assert!(shake.check(&ping(b"key", "", ""), &open).is_ok());
        assert!(shake.check(&ping(b"no", "", ""), &open).is_err());
        assert!(shake.check(&ping(b"key", "ann", "pw"), &closed).is_ok());
        for (user, password) in [("ann", "x"), ("bob", "pw"), ("", ""), ("bob", "")] {
            assert!(shake.check(&ping(b"key", user, password), &closed).is_err(), "{user} {password}");
        }
        let pong = shake.pong(&ping(b"key", "", ""), &open, Ok(()));
        assert!(pong.starts_with(b"\x95\xa4PONG\xc3\xa0\xa6server\xd9\x80"), "{pong:?}");
        assert_eq!(shake.pong(&ping(b"no", "", ""), &open, Err("no")), b"\x95\xa4PONG\xc2\xa2no\xa0\xa0");
    }
}
