//! Who may do what: users with a password and a role.
//!
//! Without any user in the configuration, everybody is the user `default` and may do everything, as
//! in Redis without a password. With users, a connection is nobody until AUTH or HELLO names one.
//! Passwords are kept as SHA-256 digests, so a file that is read by others does not give a long and
//! random password away; a short one it does.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Reads and writes; nothing that concerns other clients or the server.
    Write,
    /// Reads.
    Read,
}

impl Role {
    /// Whether the role may run a command with these flags of the command table.
    pub(crate) fn may(self, flags: &[&str]) -> bool {
        match self {
            Self::Admin => true,
            Self::Write => !flags.contains(&"admin"),
            Self::Read => !flags.contains(&"admin") && !flags.contains(&"write"),
        }
    }
}

/// A digest of a password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordDigest([u8; 32]);

impl fmt::Debug for PasswordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordDigest(..)")
    }
}

impl PasswordDigest {
    /// The digest of a password.
    pub fn of(password: &[u8]) -> Self {
        Self(Sha256::digest(password).into())
    }

    /// A digest as 64 hexadecimal digits, as `sha256sum` prints it.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = (digit(0)? << 4 | digit(1)?) as u8;
        }
        Some(Self(digest))
    }

    /// Compares without telling by its time where two digests differ.
    fn is(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

/// A user who has shown the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) role: Role,
}

/// All users of a node.
#[derive(Clone, Debug, Default)]
pub struct Users(BTreeMap<String, (PasswordDigest, Role)>);

impl Users {
    /// Users by name.
    pub fn new(users: BTreeMap<String, (PasswordDigest, Role)>) -> Self {
        Self(users)
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// Who a connection is when it begins.
    pub(crate) fn first(&self) -> Option<User> {
        let everybody = || User { name: "default".to_owned(), role: Role::Admin };
        self.is_open().then(everybody)
    }

    /// The user, if the password is right. It takes as long for a name that does not exist.
    pub(crate) fn check(&self, name: &[u8], password: &[u8]) -> Option<User> {
        let given = PasswordDigest::of(password);
        let name = std::str::from_utf8(name).unwrap_or_default();
        if self.is_open() {
            // As in Redis, any password will do where none is set.
            return self.first().filter(|user| user.name == name);
        }
        let nobody = (PasswordDigest([0; 32]), Role::Read);
        let (digest, role) = self.0.get(name).unwrap_or(&nobody);
        let right = digest.is(&given) && self.0.contains_key(name);
        right.then(|| User { name: name.to_owned(), role: *role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn a_digest_is_what_sha256sum_prints() {
        let digest = PasswordDigest::from_hex(SECRET).unwrap();
        assert!(digest.is(&PasswordDigest::of(b"secret")));
        assert!(!digest.is(&PasswordDigest::of(b"Secret")));
        assert_eq!(PasswordDigest::from_hex(&SECRET.to_uppercase()), Some(digest));
        for wrong in ["", "2bb8", &SECRET[1..], &SECRET.replace('2', "x")] {
            assert_eq!(PasswordDigest::from_hex(wrong), None, "{wrong}");
        }
        assert!(!format!("{digest:?}").contains("2b"), "it is not shown in logs");
    }

    #[test]
    fn only_the_right_password_of_the_right_user_is_taken() {
        let digest = PasswordDigest::of;
        let users = [("ann", (digest(b"a"), Role::Admin)), ("bob", (digest(b"b"), Role::Read))];
        let users = Users::new(users.map(|(name, user)| (name.to_owned(), user)).into());
        assert_eq!(users.first(), None);
        assert_eq!(users.check(b"ann", b"a").unwrap().role, Role::Admin);
        assert_eq!(users.check(b"bob", b"b").unwrap().role, Role::Read);
        for (name, password) in
            [("ann", "b"), ("bob", ""), ("default", "a"), ("", ""), ("\u{0}", "")]
        {
            assert_eq!(users.check(name.as_bytes(), password.as_bytes()), None, "{name}");
        }
        let open = Users::default();
        assert_eq!(open.first(), open.check(b"default", b"whatever"));
        assert_eq!(open.check(b"ann", b"a"), None);
    }

    #[test]
    fn roles_follow_the_flags_of_commands() {
        for (flags, admin, write, read) in [
            (&["readonly", "fast"][..], true, true, true),
            (&["write", "denyoom"], true, true, false),
            (&["admin", "noscript"], true, false, false),
            (&[], true, true, true),
        ] {
            let may = [Role::Admin, Role::Write, Role::Read].map(|role| role.may(flags));
            assert_eq!(may, [admin, write, read], "{flags:?}");
        }
    }
}
