//! Simple tokens: who was let in, in this member's memory, until they have not been heard of for a while.
//!
//! Every member learns of a token by the applied entry that made it. Their times are each member's own and
//! nothing depends on them but who has to say the password again: as in etcd they do not outlive a restart.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::AuthCommand;

/// How long a token lasts after its last use, by default (etcd's).
pub(crate) const TOKEN_TTL: Duration = Duration::from_secs(300);
/// Tokens at once; the one that was used the longest ago goes first.
const TOKENS_MAX: usize = 100_000;
const TOKEN_LETTERS: usize = 16;

#[derive(Debug)]
struct Token {
    user: String,
    used: Instant,
}

/// The tokens that this member knows.
#[derive(Debug)]
pub(crate) struct Tokens {
    ttl: Duration,
    tokens: HashMap<String, Token>,
    /// When those that ran out were last removed.
    swept: Option<Instant>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            ttl: TOKEN_TTL,
            tokens: HashMap::new(),
            swept: None,
        }
    }
}

impl Tokens {
    pub(crate) fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = ttl;
    }

    pub(crate) fn add(&mut self, token: String, user: String, now: Instant) {
        self.sweep(now);
        if self.tokens.len() >= TOKENS_MAX {
            let oldest = self.tokens.iter().min_by_key(|(_, token)| token.used);
            if let Some(oldest) = oldest.map(|(token, _)| token.clone()) {
                self.tokens.remove(&oldest);
            }
        }
        self.tokens.insert(token, Token { user, used: now });
    }

    /// Whose token it is; its time starts anew.
    pub(crate) fn user(&mut self, token: &str, now: Instant) -> Option<&str> {
        let ttl = self.ttl;
        let found = self.tokens.get_mut(token)?;
        if now.saturating_duration_since(found.used) > ttl {
            self.tokens.remove(token);
            return None;
        }
        found.used = now;
        self.tokens.get(token).map(|token| &token.user[..])
    }

    /// What an applied command ends.
    pub(crate) fn after(&mut self, command: &AuthCommand) {
        match command {
            AuthCommand::Disable => self.tokens.clear(),
            AuthCommand::UserDelete { name } | AuthCommand::UserChangePassword { name, .. } => {
                self.tokens.retain(|_, token| token.user != *name);
            }
            _ => {}
        }
    }

    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
    }

    fn sweep(&mut self, now: Instant) {
        let ttl = self.ttl;
        if self
            .swept
            .is_some_and(|swept| now.saturating_duration_since(swept) < ttl / 10)
        {
            return;
        }
        self.swept = Some(now);
        self.tokens
            .retain(|_, token| now.saturating_duration_since(token.used) <= ttl);
    }
}

/// A new token: etcd's sixteen letters and, where etcd has the log's index, a number to tell tokens apart.
pub(crate) fn new_token() -> std::io::Result<String> {
    use std::io::Read;

    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let mut random = [0; TOKEN_LETTERS + 4];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let (letters, number) = random.split_at(TOKEN_LETTERS);
    // 16 letters of 52 by the rest of a byte: a little uneven, and still 90 bits.
    let mut token: String = letters
        .iter()
        .map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()]))
        .collect();
    let number = number
        .iter()
        .fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    token.push_str(&format!(".{number}"));
    Ok(token)
}
