//! The one table of commands: names, numbers of arguments, flags, where keys are, who handles them.
//!
//! A command is added here and nowhere else. COMMAND shows the table, so that clients and proxies can
//! find keys in commands; every fact in it is Redis's for the command of that name.

use bytes::Bytes;

use super::arguments::{shown, wrong_number};
use super::{
    Context, Handled, blocking, client, configuration, counters, expiry, feed, greeting, hashes,
    info, introspection, keys, lists, quota, repl, replication, sets, snapshot, sorted, strings,
    transaction,
};
use crate::resp::Value;

/// What reads the arguments of a command.
pub(super) type Handler = fn(&mut Context<'_>, &[Bytes]) -> Handled;

/// One command.
pub(super) struct Spec {
    /// Its name; a subcommand's is `client|id`.
    pub(super) name: &'static str,
    /// How many words it has, its name included; at least so many, if negative.
    pub(super) arity: i32,
    pub(super) flags: &'static [&'static str],
    pub(super) keys: &'static [KeySpec],
    pub(super) group: &'static str,
    /// Categories that do not follow from group and flags.
    pub(super) categories: &'static [&'static str],
    pub(super) tips: &'static [&'static str],
    pub(super) since: &'static str,
    pub(super) summary: &'static str,
    pub(super) handler: Option<Handler>,
    pub(super) family: &'static [Spec],
}

/// Where keys are among the words of a command, and what it does to them.
pub(super) struct KeySpec {
    pub(super) flags: &'static [&'static str],
    pub(super) notes: &'static str,
    /// The first key's place.
    pub(super) first: i32,
    /// The last one's, counted from the first; -1 is the last word.
    pub(super) last: i32,
    pub(super) step: i32,
    /// The first is a number of keys that follow it.
    pub(super) counted: bool,
}

/// Keys behind their number, which stands at `at`.
const fn counted(flags: &'static [&'static str], at: i32) -> KeySpec {
    KeySpec { flags, notes: "", first: at, last: 0, step: 1, counted: true }
}

const fn keyed(flags: &'static [&'static str], first: i32, last: i32, step: i32) -> KeySpec {
    KeySpec { flags, notes: "", first, last, step, counted: false }
}

impl Spec {
    const fn new(
        name: &'static str,
        arity: i32,
        flags: &'static [&'static str],
        group: &'static str,
        since: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            name,
            arity,
            flags,
            keys: &[],
            group,
            categories: &[],
            tips: &[],
            since,
            summary,
            handler: None,
            family: &[],
        }
    }

    const fn runs(self, handler: Handler) -> Self {
        Self { handler: Some(handler), ..self }
    }

    const fn keys(self, keys: &'static [KeySpec]) -> Self {
        Self { keys, ..self }
    }

    const fn tips(self, tips: &'static [&'static str]) -> Self {
        Self { tips, ..self }
    }

    const fn family(self, family: &'static [Self]) -> Self {
        Self { family, ..self }
    }

    const fn categories(self, categories: &'static [&'static str]) -> Self {
        Self { categories, ..self }
    }

    /// Whether a command of so many words is complete.
    pub(super) const fn takes(&self, words: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { words >= least } else { words == least }
    }

    /// The name without that of its family.
    pub(super) fn last_name(&self) -> &'static str {
        self.name.rsplit('|').next().unwrap_or(self.name)
    }
}

/// Finds the command and who handles it, or says what is wrong.
pub(super) fn find(words: &[Bytes]) -> Result<(&'static Spec, Handler), Value> {
    let spec = by_words(words)?;
    match spec.handler {
        Some(handler) if spec.takes(words.len()) => Ok((spec, handler)),
        _ => Err(wrong_number(spec.name)),
    }
}

/// Finds the command or subcommand, whatever its arguments are.
pub(super) fn by_words(words: &[Bytes]) -> Result<&'static Spec, Value> {
    let Some(spec) = by_name(&words[0], COMMANDS) else { return Err(unknown(words)) };
    match words.get(1) {
        Some(name) if !spec.family.is_empty() => by_name(name, spec.family).ok_or_else(|| {
            let family = spec.name.to_ascii_uppercase();
            let text = format!("'. Try {family} HELP.");
            super::arguments::quoting("ERR unknown subcommand '", name, &text)
        }),
        _ => Ok(spec),
    }
}

/// Finds a command of the table, or a subcommand of a family.
pub(super) fn by_name(name: &[u8], among: &'static [Spec]) -> Option<&'static Spec> {
    // Both tables are in the order of names: a test sees to it.
    let place = among.binary_search_by(|spec| {
        let lower = name.iter().map(u8::to_ascii_lowercase);
        spec.last_name().bytes().cmp(lower)
    });
    place.ok().map(|place| &among[place])
}

/// What Redis says of a command that it does not know: as many arguments as fit into 128 bytes.
fn unknown(words: &[Bytes]) -> Value {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend(shown(&words[0]));
    text.extend(b"', with args beginning with: ");
    let before = text.len();
    for word in &words[1..] {
        let used = text.len() - before;
        if used >= 128 {
            break;
        }
        let word = shown(word);
        text.push(b'\'');
        text.extend(&word[..word.len().min(128 - used)]);
        text.extend(b"' ");
    }
    Value::error(text)
}

const READ: &[&str] = &["readonly"];
const READ_FAST: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write"];
const WRITE_FAST: &[&str] = &["write", "fast"];
const GROW: &[&str] = &["write", "denyoom"];
const GROW_FAST: &[&str] = &["write", "denyoom", "fast"];
const COUNTED: &[&str] = &["write", "movablekeys"];
const BLOCKS: &[&str] = &["write", "noscript", "blocking"];
const BLOCKS_FAST: &[&str] = &["write", "noscript", "blocking", "fast"];
const BLOCKS_GROW: &[&str] = &["write", "denyoom", "noscript", "blocking"];
const BLOCKS_COUNTED: &[&str] = &["write", "blocking", "movablekeys"];
const UNBLOCKS: &[&str] = &["admin", "noscript", "loading", "stale"];
const ALWAYS: &[&str] = &["loading", "stale"];
const ALWAYS_FAST: &[&str] = &["loading", "stale", "fast"];
const ANYONE: &[&str] = &["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"];
const TALK: &[&str] = &["noscript", "loading", "stale"];
const ADMIN: &[&str] = &["admin", "noscript", "loading", "stale"];
const STEPS: &[&str] = &["noscript", "loading", "stale", "fast", "allow_busy"];

const RO: &[&str] = &["RO"];
const RO_ACCESS: &[&str] = &["RO", "access"];
const RW_UPDATE: &[&str] = &["RW", "update"];
const RW_ACCESS_UPDATE: &[&str] = &["RW", "access", "update"];
const RW_ACCESS_DELETE: &[&str] = &["RW", "access", "delete"];
const RW_DELETE: &[&str] = &["RW", "delete"];
const RW_INSERT: &[&str] = &["RW", "insert"];
const UNORDERED: &[&str] = &["nondeterministic_output_order"];
const OW_UPDATE: &[&str] = &["OW", "update"];
const OW_INSERT: &[&str] = &["OW", "insert"];

const ONE_READ: &[KeySpec] = &[keyed(RO_ACCESS, 1, 0, 1)];
const ONE_LOOKED_AT: &[KeySpec] = &[keyed(RO, 1, 0, 1)];
const ONE_UPDATED: &[KeySpec] = &[keyed(RW_UPDATE, 1, 0, 1)];
const ONE_CHANGED: &[KeySpec] = &[keyed(RW_ACCESS_UPDATE, 1, 0, 1)];
const ONE_REPLACED: &[KeySpec] = &[keyed(OW_UPDATE, 1, 0, 1)];
const ALL_READ: &[KeySpec] = &[keyed(RO_ACCESS, 1, -1, 1)];
const STORED: &[KeySpec] = &[keyed(OW_UPDATE, 1, 0, 1), keyed(RO_ACCESS, 2, -1, 1)];
const ALL_LOOKED_AT: &[KeySpec] = &[keyed(RO, 1, -1, 1)];
const ALL_REMOVED: &[KeySpec] = &[keyed(&["RM", "delete"], 1, -1, 1)];
const OBJECT: &[KeySpec] = &[keyed(RO, 2, 0, 1)];

const SOME_OUTPUT: &[&str] = &["nondeterministic_output"];
const SOME_ORDER: &[&str] = &["nondeterministic_output_order"];
const PER_SHARD: &[&str] = &["request_policy:multi_shard"];
const PER_SHARD_SUM: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];
const EVERY_SHARD: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

/// All commands, in the order of their names.
pub(super) static COMMANDS: &[Spec] = &[
    Spec::new("append", 3, GROW_FAST, "string", "2.0.0", "Adds to the end of a value")
        .keys(&[keyed(&["RW", "insert"], 1, 0, 1)])
        .runs(strings::append),
    Spec::new("auth", -2, ANYONE, "connection", "1.0.0", "Names a user with a password")
        .runs(greeting::auth),
    Spec::new("blmove", 6, BLOCKS_GROW, "list", "6.2.0", "Moves an element, or waits for one")
        .keys(&[keyed(RW_ACCESS_DELETE, 1, 0, 1), keyed(RW_INSERT, 2, 0, 1)])
        .categories(&["@blocking"])
        .runs(blocking::blmove),
    Spec::new("blmpop", -5, BLOCKS_COUNTED, "list", "7.0.0", "Removes elements, or waits for them")
        .keys(&[counted(RW_ACCESS_DELETE, 2)])
        .categories(&["@blocking"])
        .runs(blocking::blmpop),
    Spec::new("blpop", -3, BLOCKS, "list", "2.0.0", "Removes the first element, or waits for one")
        .keys(&[keyed(RW_ACCESS_DELETE, 1, -2, 1)])
        .categories(&["@blocking"])
        .runs(blocking::blpop),
    Spec::new("brpop", -3, BLOCKS, "list", "2.0.0", "Removes the last element, or waits for one")
        .keys(&[keyed(RW_ACCESS_DELETE, 1, -2, 1)])
        .categories(&["@blocking"])
        .runs(blocking::brpop),
    Spec::new("brpoplpush", 4, BLOCKS_GROW, "list", "2.2.0", "Moves an element, or waits for one")
        .keys(&[keyed(RW_ACCESS_DELETE, 1, 0, 1), keyed(RW_INSERT, 2, 0, 1)])
        .categories(&["@blocking"])
        .runs(blocking::brpoplpush),
    Spec::new(
        "bzmpop",
        -5,
        BLOCKS_COUNTED,
        "sorted-set",
        "7.0.0",
        "Removes members, or waits for them",
    )
    .keys(&[counted(RW_ACCESS_DELETE, 2)])
    .categories(&["@blocking"])
    .runs(blocking::bzmpop),
    Spec::new(
        "bzpopmax",
        -3,
        BLOCKS_FAST,
        "sorted-set",
        "5.0.0",
        "Removes a member with the highest score, or waits for one",
    )
    .keys(&[keyed(RW_ACCESS_DELETE, 1, -2, 1)])
    .categories(&["@blocking"])
    .runs(blocking::bzpopmax),
    Spec::new(
        "bzpopmin",
        -3,
        BLOCKS_FAST,
        "sorted-set",
        "5.0.0",
        "Removes a member with the lowest score, or waits for one",
    )
    .keys(&[keyed(RW_ACCESS_DELETE, 1, -2, 1)])
    .categories(&["@blocking"])
    .runs(blocking::bzpopmin),
    Spec::new("client", -2, &[], "connection", "2.4.0", "Commands about connections")
        .family(CLIENT),
    Spec::new("command", -1, ALWAYS, "server", "2.8.13", "Tells about all commands")
        .categories(&["@connection"])
        .tips(SOME_ORDER)
        .family(COMMAND)
        .runs(introspection::all),
    Spec::new("config", -2, &[], "server", "2.0.0", "Commands about settings").family(CONFIG),
    Spec::new("copy", -3, GROW, "generic", "6.2.0", "Makes another key equal to a key")
        .keys(&[keyed(RO_ACCESS, 1, 0, 1), keyed(OW_UPDATE, 2, 0, 1)])
        .runs(keys::copy),
    Spec::new("dbsize", 1, READ_FAST, "server", "1.0.0", "Counts the keys")
        .categories(&["@keyspace"])
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
        .runs(keys::dbsize),
    Spec::new("decr", 2, GROW_FAST, "string", "1.0.0", "Subtracts one from a number")
        .keys(ONE_CHANGED)
        .runs(counters::decr),
    Spec::new("decrby", 3, GROW_FAST, "string", "1.0.0", "Subtracts from a number")
        .keys(ONE_CHANGED)
        .runs(counters::decrby),
    Spec::new("del", -2, WRITE, "generic", "1.0.0", "Removes keys")
        .keys(ALL_REMOVED)
        .tips(PER_SHARD_SUM)
        .runs(keys::del),
    Spec::new("discard", 1, STEPS, "transactions", "2.0.0", "Forgets what was queued since MULTI")
        .runs(transaction::discard),
    Spec::new("echo", 2, ALWAYS_FAST, "connection", "1.0.0", "Answers the message")
        .runs(greeting::echo),
    Spec::new(
        "exec",
        1,
        &["noscript", "loading", "stale", "skip_slowlog"],
        "transactions",
        "1.2.0",
        "Does what was queued since MULTI, as one step",
    )
    .runs(transaction::exec),
    Spec::new("exists", -2, READ_FAST, "generic", "1.0.0", "Counts those of the keys that exist")
        .keys(ALL_LOOKED_AT)
        .tips(PER_SHARD_SUM)
        .runs(keys::exists),
    Spec::new("expire", -3, WRITE_FAST, "generic", "1.0.0", "Lets a key live so many seconds")
        .keys(ONE_UPDATED)
        .runs(expiry::expire),
    Spec::new("expireat", -3, WRITE_FAST, "generic", "1.2.0", "Lets a key live until a second")
        .keys(ONE_UPDATED)
        .runs(expiry::expireat),
    Spec::new("expiretime", 2, READ_FAST, "generic", "7.0.0", "Tells the second a key is gone")
        .keys(ONE_READ)
        .runs(expiry::expiretime),
    Spec::new("flushall", -1, WRITE, "server", "1.0.0", "Removes every key")
        .categories(&["@keyspace", "@dangerous"])
        .tips(EVERY_SHARD)
        .runs(keys::flush),
    Spec::new("flushdb", -1, WRITE, "server", "1.0.0", "Removes every key")
        .categories(&["@keyspace", "@dangerous"])
        .tips(EVERY_SHARD)
        .runs(keys::flush),
    Spec::new("get", 2, READ_FAST, "string", "1.0.0", "Reads a value")
        .keys(ONE_READ)
        .runs(strings::get),
    Spec::new("getdel", 2, WRITE_FAST, "string", "6.2.0", "Reads a value and removes the key")
        .keys(&[keyed(RW_ACCESS_DELETE, 1, 0, 1)])
        .runs(strings::getdel),
    Spec::new("getex", -2, WRITE_FAST, "string", "6.2.0", "Reads a value, sets its deadline")
        .keys(&[KeySpec {
            notes: "RW and UPDATE because it changes the TTL",
            ..keyed(RW_ACCESS_UPDATE, 1, 0, 1)
        }])
        .runs(strings::getex),
    Spec::new("getrange", 4, READ, "string", "2.4.0", "Reads a part of a value")
        .keys(ONE_READ)
        .runs(strings::getrange),
    Spec::new("getset", 3, GROW_FAST, "string", "1.0.0", "Sets a value, answers the former one")
        .keys(ONE_CHANGED)
        .runs(strings::getset),
    Spec::new("hdel", -3, WRITE_FAST, "hash", "2.0.0", "Removes fields of a hash")
        .keys(&[keyed(RW_DELETE, 1, 0, 1)])
        .runs(hashes::hdel),
    Spec::new("hello", -1, ANYONE, "connection", "6.0.0", "Chooses the protocol's version")
        .runs(greeting::hello),
    Spec::new("hexists", 3, READ_FAST, "hash", "2.0.0", "Tells whether a field of a hash exists")
        .keys(ONE_LOOKED_AT)
        .runs(hashes::hexists),
    Spec::new("hget", 3, READ_FAST, "hash", "2.0.0", "Reads a field of a hash")
        .keys(ONE_READ)
        .runs(hashes::hget),
    Spec::new("hgetall", 2, READ, "hash", "2.0.0", "Reads all fields of a hash")
        .keys(ONE_READ)
        .tips(UNORDERED)
        .runs(hashes::hgetall),
    Spec::new("hincrby", 4, GROW_FAST, "hash", "2.0.0", "Adds to a number in a field of a hash")
        .keys(ONE_CHANGED)
        .runs(hashes::hincrby),
    Spec::new(
        "hincrbyfloat",
        4,
        GROW_FAST,
        "hash",
        "2.6.0",
        "Adds to a number with a fraction in a field of a hash",
    )
    .keys(ONE_CHANGED)
    .runs(hashes::hincrbyfloat),
    Spec::new("hkeys", 2, READ, "hash", "2.0.0", "Lists the fields of a hash")
        .keys(ONE_READ)
        .tips(UNORDERED)
        .runs(hashes::hkeys),
    Spec::new("hlen", 2, READ_FAST, "hash", "2.0.0", "Counts the fields of a hash")
        .keys(ONE_LOOKED_AT)
        .runs(hashes::hlen),
    Spec::new("hmget", -3, READ_FAST, "hash", "2.0.0", "Reads fields of a hash")
        .keys(ONE_READ)
        .runs(hashes::hmget),
    Spec::new("hmset", -4, GROW_FAST, "hash", "2.0.0", "Sets fields of a hash")
        .keys(ONE_UPDATED)
        .runs(hashes::hmset),
    Spec::new("hscan", -3, READ, "hash", "2.8.0", "Lists fields of a hash step by step")
        .keys(ONE_READ)
        .tips(SOME_OUTPUT)
        .runs(hashes::hscan),
    Spec::new("hset", -4, GROW_FAST, "hash", "2.0.0", "Sets fields of a hash")
        .keys(ONE_UPDATED)
        .runs(hashes::hset),
    Spec::new("hsetnx", 4, GROW_FAST, "hash", "2.0.0", "Sets a field of a hash if it is free")
        .keys(&[keyed(RW_INSERT, 1, 0, 1)])
        .runs(hashes::hsetnx),
    Spec::new("hstrlen", 3, READ_FAST, "hash", "3.2.0", "Tells the length of a field of a hash")
        .keys(ONE_LOOKED_AT)
        .runs(hashes::hstrlen),
    Spec::new("hvals", 2, READ, "hash", "2.0.0", "Lists the values of a hash")
        .keys(ONE_READ)
        .tips(UNORDERED)
        .runs(hashes::hvals),
    Spec::new("incr", 2, GROW_FAST, "string", "1.0.0", "Adds one to a number")
        .keys(ONE_CHANGED)
        .runs(counters::incr),
    Spec::new("incrby", 3, GROW_FAST, "string", "1.0.0", "Adds to a number")
        .keys(ONE_CHANGED)
        .runs(counters::incrby),
    Spec::new("incrbyfloat", 3, GROW_FAST, "string", "2.6.0", "Adds to a number with a fraction")
        .keys(ONE_CHANGED)
        .runs(counters::incrbyfloat),
    Spec::new("info", -1, ALWAYS, "server", "1.0.0", "Tells about the node")
        .categories(&["@dangerous"])
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .runs(info::info),
    Spec::new("keys", 2, READ, "generic", "1.0.0", "Lists the keys that match a pattern")
        .categories(&["@dangerous"])
        .tips(&["request_policy:all_shards", "nondeterministic_output_order"])
        .runs(keys::keys),
    Spec::new("lindex", 3, READ, "list", "1.0.0", "Reads an element of a list")
        .keys(ONE_READ)
        .runs(lists::lindex),
    Spec::new("linsert", 5, GROW, "list", "2.2.0", "Adds an element beside another")
        .keys(&[keyed(RW_INSERT, 1, 0, 1)])
        .runs(lists::linsert),
    Spec::new("llen", 2, READ_FAST, "list", "1.0.0", "Counts the elements of a list")
        .keys(ONE_LOOKED_AT)
        .runs(lists::llen),
    Spec::new("lmove", 5, GROW, "list", "6.2.0", "Moves an element to another list")
        .keys(&[keyed(RW_ACCESS_DELETE, 1, 0, 1), keyed(RW_INSERT, 2, 0, 1)])
        .runs(lists::lmove),
    Spec::new("lmpop", -4, COUNTED, "list", "7.0.0", "Removes elements of the first list there is")
        .keys(&[counted(RW_ACCESS_DELETE, 1)])
        .runs(blocking::lmpop),
    Spec::new("lpop", -2, WRITE_FAST, "list", "1.0.0", "Removes elements at the front")
        .keys(&[keyed(RW_ACCESS_DELETE, 1, 0, 1)])
        .runs(lists::lpop),
    Spec::new("lpos", -3, READ, "list", "6.0.6", "Tells where elements are")
        .keys(ONE_READ)
        .runs(lists::lpos),
    Spec::new(
        "lpush",
        -3,
        &["write", "denyoom", "fast"],
        "list",
        "1.0.0",
        "Adds elements at the front",
    )
    .keys(&[keyed(RW_INSERT, 1, 0, 1)])
    .runs(lists::lpush),
    Spec::new(
        "lpushx",
        -3,
        &["write", "denyoom", "fast"],
        "list",
        "2.2.0",
        "Adds elements at the front of a list that is there",
    )
    .keys(&[keyed(RW_INSERT, 1, 0, 1)])
    .runs(lists::lpushx),
    Spec::new("lrange", 4, READ, "list", "1.0.0", "Reads a part of a list")
        .keys(ONE_READ)
        .runs(lists::lrange),
    Spec::new("lrem", 4, &["write"], "list", "1.0.0", "Removes elements by their value")
        .keys(&[keyed(RW_DELETE, 1, 0, 1)])
        .runs(lists::lrem),
    Spec::new("lset", 4, GROW, "list", "1.0.0", "Gives an element another value")
        .keys(&[keyed(&["RW", "update"], 1, 0, 1)])
        .runs(lists::lset),
    Spec::new("ltrim", 4, &["write"], "list", "1.0.0", "Keeps only a part of a list")
        .keys(&[keyed(RW_DELETE, 1, 0, 1)])
        .runs(lists::ltrim),
    Spec::new("mget", -2, READ_FAST, "string", "1.0.0", "Reads values")
        .keys(&[keyed(RO_ACCESS, 1, -1, 1)])
        .tips(PER_SHARD)
        .runs(strings::mget),
    Spec::new("mset", -3, GROW, "string", "1.0.1", "Sets values, all at once")
        .keys(&[keyed(OW_UPDATE, 1, -1, 2)])
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .runs(strings::mset),
    Spec::new("msetnx", -3, GROW, "string", "1.0.1", "Sets values if no key exists")
        .keys(&[keyed(OW_INSERT, 1, -1, 2)])
        .tips(&["request_policy:multi_shard", "response_policy:agg_min"])
        .runs(strings::msetnx),
    Spec::new("multi", 1, STEPS, "transactions", "1.2.0", "Queues the commands up to EXEC")
        .runs(transaction::multi),
    Spec::new("object", -2, &[], "generic", "2.2.3", "Commands about how a value is kept")
        .family(OBJECTS),
    Spec::new("persist", 2, WRITE_FAST, "generic", "2.2.0", "Removes a key's deadline")
        .keys(ONE_UPDATED)
        .runs(expiry::persist),
    Spec::new(
        "pexpire",
        -3,
        WRITE_FAST,
        "generic",
        "2.6.0",
        "Lets a key live so many milliseconds",
    )
    .keys(ONE_UPDATED)
    .runs(expiry::pexpire),
    Spec::new(
        "pexpireat",
        -3,
        WRITE_FAST,
        "generic",
        "2.6.0",
        "Lets a key live until a millisecond",
    )
    .keys(ONE_UPDATED)
    .runs(expiry::pexpireat),
    Spec::new("pexpiretime", 2, READ_FAST, "generic", "7.0.0", "Tells when a key is gone, exactly")
        .keys(ONE_READ)
        .runs(expiry::pexpiretime),
    Spec::new("ping", -1, &["fast"], "connection", "1.0.0", "Answers")
        .tips(EVERY_SHARD)
        .runs(greeting::ping),
    Spec::new("psetex", 4, GROW, "string", "2.6.0", "Sets a value for so many milliseconds")
        .keys(ONE_REPLACED)
        .runs(strings::psetex),
    Spec::new(
        "pttl",
        2,
        READ_FAST,
        "generic",
        "2.6.0",
        "Tells how many milliseconds a key has left",
    )
    .keys(ONE_READ)
    .tips(SOME_OUTPUT)
    .runs(expiry::pttl),
    Spec::new("quit", -1, ANYONE, "connection", "1.0.0", "Ends the connection")
        .runs(greeting::quit),
    Spec::new("randomkey", 1, READ, "generic", "1.0.0", "Tells some key")
        .tips(&["request_policy:all_shards", "nondeterministic_output"])
        .runs(keys::randomkey),
    Spec::new("rename", 3, WRITE, "generic", "1.0.0", "Gives a key another name")
        .keys(&[keyed(RW_ACCESS_DELETE, 1, 0, 1), keyed(OW_UPDATE, 2, 0, 1)])
        .runs(keys::rename),
    Spec::new("renamenx", 3, WRITE_FAST, "generic", "1.0.0", "Gives a key a name that is free")
        .keys(&[keyed(RW_ACCESS_DELETE, 1, 0, 1), keyed(OW_INSERT, 2, 0, 1)])
        .runs(keys::renamenx),
    Spec::new("repl", -2, &[], "server", "0.1.0", "Commands about replication").family(REPL),
    Spec::new("reset", 1, ANYONE, "connection", "6.2.0", "Makes the connection as it began")
        .runs(greeting::reset),
    Spec::new(
        "role",
        1,
        &["noscript", "loading", "stale", "fast"],
        "server",
        "2.8.12",
        "Tells whether the node leads",
    )
    .categories(&["@admin", "@dangerous"])
    .runs(replication::role),
    Spec::new("rpop", -2, WRITE_FAST, "list", "1.0.0", "Removes elements at the end")
        .keys(&[keyed(RW_ACCESS_DELETE, 1, 0, 1)])
        .runs(lists::rpop),
    Spec::new(
        "rpoplpush",
        3,
        GROW,
        "list",
        "1.2.0",
        "Moves the last element to the front of another list",
    )
    .keys(&[keyed(RW_ACCESS_DELETE, 1, 0, 1), keyed(RW_INSERT, 2, 0, 1)])
    .runs(lists::rpoplpush),
    Spec::new(
        "rpush",
        -3,
        &["write", "denyoom", "fast"],
        "list",
        "1.0.0",
        "Adds elements at the end",
    )
    .keys(&[keyed(RW_INSERT, 1, 0, 1)])
    .runs(lists::rpush),
    Spec::new(
        "rpushx",
        -3,
        &["write", "denyoom", "fast"],
        "list",
        "2.2.0",
        "Adds elements at the end of a list that is there",
    )
    .keys(&[keyed(RW_INSERT, 1, 0, 1)])
    .runs(lists::rpushx),
    Spec::new("sadd", -3, GROW_FAST, "set", "1.0.0", "Adds members to a set")
        .keys(&[keyed(RW_INSERT, 1, 0, 1)])
        .runs(sets::sadd),
    Spec::new("scan", -2, READ, "generic", "2.8.0", "Lists keys step by step")
        .tips(&["nondeterministic_output", "request_policy:special"])
        .runs(keys::scan),
    Spec::new("scard", 2, READ_FAST, "set", "1.0.0", "Counts the members of a set")
        .keys(ONE_LOOKED_AT)
        .runs(sets::scard),
    Spec::new("sdiff", -2, READ, "set", "1.0.0", "What the first set has and no other")
        .keys(ALL_READ)
        .tips(UNORDERED)
        .runs(sets::sdiff),
    Spec::new("sdiffstore", -3, GROW, "set", "1.0.0", "Stores what the first set has and no other")
        .keys(STORED)
        .runs(sets::sdiffstore),
    Spec::new("select", 2, ALWAYS_FAST, "connection", "1.0.0", "Chooses the database, which is 0")
        .runs(greeting::select),
    Spec::new("set", -3, GROW, "string", "1.0.0", "Sets a value")
        .keys(&[KeySpec {
            notes: "RW and ACCESS due to the optional `GET` argument",
            ..keyed(&["RW", "access", "update", "variable_flags"], 1, 0, 1)
        }])
        .runs(strings::set),
    Spec::new("setex", 4, GROW, "string", "2.0.0", "Sets a value for so many seconds")
        .keys(ONE_REPLACED)
        .runs(strings::setex),
    Spec::new("setnx", 3, GROW_FAST, "string", "1.0.0", "Sets a value if the key is free")
        .keys(&[keyed(OW_INSERT, 1, 0, 1)])
        .runs(strings::setnx),
    Spec::new("setrange", 4, GROW, "string", "2.2.0", "Sets a part of a value")
        .keys(ONE_UPDATED)
        .runs(strings::setrange),
    Spec::new("sinter", -2, READ, "set", "1.0.0", "What all sets have")
        .keys(ALL_READ)
        .tips(UNORDERED)
        .runs(sets::sinter),
    Spec::new("sinterstore", -3, GROW, "set", "1.0.0", "Stores what all sets have")
        .keys(&[keyed(RW_UPDATE, 1, 0, 1), keyed(RO_ACCESS, 2, -1, 1)])
        .runs(sets::sinterstore),
    Spec::new("sismember", 3, READ_FAST, "set", "1.0.0", "Tells whether a set has a member")
        .keys(ONE_LOOKED_AT)
        .runs(sets::sismember),
    Spec::new("smembers", 2, READ, "set", "1.0.0", "Lists the members of a set")
        .keys(ONE_READ)
        .tips(UNORDERED)
        .runs(sets::smembers),
    Spec::new("smismember", -3, READ_FAST, "set", "6.2.0", "Tells which members a set has")
        .keys(ONE_READ)
        .runs(sets::smismember),
    Spec::new("smove", 4, WRITE_FAST, "set", "1.0.0", "Moves a member to another set")
        .keys(&[keyed(RW_ACCESS_DELETE, 1, 0, 1), keyed(RW_INSERT, 2, 0, 1)])
        .runs(sets::smove),
    Spec::new("spop", -2, WRITE_FAST, "set", "1.0.0", "Removes some members of a set")
        .keys(&[keyed(RW_ACCESS_DELETE, 1, 0, 1)])
        .tips(SOME_OUTPUT)
        .runs(sets::spop),
    Spec::new("srandmember", -2, READ, "set", "1.0.0", "Tells some members of a set")
        .keys(ONE_READ)
        .tips(SOME_OUTPUT)
        .runs(sets::srandmember),
    Spec::new("srem", -3, WRITE_FAST, "set", "1.0.0", "Removes members of a set")
        .keys(&[keyed(RW_DELETE, 1, 0, 1)])
        .runs(sets::srem),
    Spec::new("sscan", -3, READ, "set", "2.8.0", "Lists members of a set step by step")
        .keys(ONE_READ)
        .tips(SOME_OUTPUT)
        .runs(sets::sscan),
    Spec::new("strlen", 2, READ_FAST, "string", "2.2.0", "Tells the length of a value")
        .keys(ONE_LOOKED_AT)
        .runs(strings::strlen),
    Spec::new("substr", 4, READ, "string", "1.0.0", "Reads a part of a value")
        .keys(ONE_READ)
        .runs(strings::getrange),
    Spec::new("sunion", -2, READ, "set", "1.0.0", "What one of the sets has at least")
        .keys(ALL_READ)
        .tips(UNORDERED)
        .runs(sets::sunion),
    Spec::new("sunionstore", -3, GROW, "set", "1.0.0", "Stores what one of the sets has at least")
        .keys(STORED)
        .runs(sets::sunionstore),
    Spec::new("time", 1, ALWAYS_FAST, "server", "2.6.0", "Tells the node's time")
        .tips(SOME_OUTPUT)
        .runs(configuration::time),
    Spec::new("touch", -2, READ_FAST, "generic", "3.2.1", "Counts those of the keys that exist")
        .keys(ALL_LOOKED_AT)
        .tips(PER_SHARD_SUM)
        .runs(keys::exists),
    Spec::new("ttl", 2, READ_FAST, "generic", "1.0.0", "Tells how many seconds a key has left")
        .keys(ONE_READ)
        .tips(SOME_OUTPUT)
        .runs(expiry::ttl),
    Spec::new("type", 2, READ_FAST, "generic", "1.0.0", "Tells a key's type")
        .keys(ONE_LOOKED_AT)
        .runs(keys::kind),
    Spec::new("unlink", -2, WRITE_FAST, "generic", "4.0.0", "Removes keys")
        .keys(ALL_REMOVED)
        .tips(PER_SHARD_SUM)
        .runs(keys::del),
    Spec::new("unwatch", 1, STEPS, "transactions", "2.2.0", "Forgets what is watched")
        .runs(transaction::unwatch),
    Spec::new("wait", 3, &["noscript"], "generic", "3.0.0", "Waits for replicas")
        .categories(&["@connection"])
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .runs(replication::wait),
    Spec::new(
        "watch",
        -2,
        STEPS,
        "transactions",
        "2.2.0",
        "Makes EXEC depend on keys that do not change",
    )
    .keys(ALL_LOOKED_AT)
    .runs(transaction::watch),
    Spec::new(
        "zadd",
        -4,
        &["write", "denyoom", "fast"],
        "sorted-set",
        "1.2.0",
        "Gives members of a sorted set scores",
    )
    .keys(ONE_UPDATED)
    .runs(sorted::zadd),
    Spec::new("zcard", 2, READ_FAST, "sorted-set", "1.2.0", "Counts the members of a sorted set")
        .keys(ONE_LOOKED_AT)
        .runs(sorted::zcard),
    Spec::new("zcount", 4, READ_FAST, "sorted-set", "2.0.0", "Counts members by their scores")
        .keys(ONE_READ)
        .runs(sorted::zcount),
    Spec::new(
        "zincrby",
        4,
        &["write", "denyoom", "fast"],
        "sorted-set",
        "1.2.0",
        "Adds to the score of a member",
    )
    .keys(&[keyed(&["RW", "access", "update"], 1, 0, 1)])
    .runs(sorted::zincrby),
    Spec::new("zlexcount", 4, READ_FAST, "sorted-set", "2.8.9", "Counts members by their bytes")
        .keys(ONE_READ)
        .runs(sorted::zlexcount),
    Spec::new(
        "zmpop",
        -4,
        COUNTED,
        "sorted-set",
        "7.0.0",
        "Removes members of the first sorted set there is",
    )
    .keys(&[counted(RW_ACCESS_DELETE, 1)])
    .runs(blocking::zmpop),
    Spec::new("zmscore", -3, READ_FAST, "sorted-set", "6.2.0", "Tells the scores of members")
        .keys(ONE_READ)
        .runs(sorted::zmscore),
    Spec::new(
        "zpopmax",
        -2,
        WRITE_FAST,
        "sorted-set",
        "5.0.0",
        "Removes members with the highest scores",
    )
    .keys(&[keyed(RW_ACCESS_DELETE, 1, 0, 1)])
    .runs(sorted::zpopmax),
    Spec::new(
        "zpopmin",
        -2,
        WRITE_FAST,
        "sorted-set",
        "5.0.0",
        "Removes members with the lowest scores",
    )
    .keys(&[keyed(RW_ACCESS_DELETE, 1, 0, 1)])
    .runs(sorted::zpopmin),
    Spec::new("zrange", -4, READ, "sorted-set", "1.2.0", "Reads members in a range")
        .keys(ONE_READ)
        .runs(sorted::zrange),
    Spec::new("zrangebylex", -4, READ, "sorted-set", "2.8.9", "Reads members by their bytes")
        .keys(ONE_READ)
        .runs(sorted::zrangebylex),
    Spec::new("zrangebyscore", -4, READ, "sorted-set", "1.0.5", "Reads members by their scores")
        .keys(ONE_READ)
        .runs(sorted::zrangebyscore),
    Spec::new(
        "zrank",
        3,
        READ_FAST,
        "sorted-set",
        "2.0.0",
        "Tells how many members come before one",
    )
    .keys(ONE_READ)
    .runs(sorted::zrank),
    Spec::new("zrem", -3, WRITE_FAST, "sorted-set", "1.2.0", "Removes members of a sorted set")
        .keys(&[keyed(RW_DELETE, 1, 0, 1)])
        .runs(sorted::zrem),
    Spec::new(
        "zremrangebylex",
        4,
        &["write"],
        "sorted-set",
        "2.8.9",
        "Removes members by their bytes",
    )
    .keys(&[keyed(RW_DELETE, 1, 0, 1)])
    .runs(sorted::zremrangebylex),
    Spec::new(
        "zremrangebyrank",
        4,
        &["write"],
        "sorted-set",
        "2.0.0",
        "Removes members by their ranks",
    )
    .keys(&[keyed(RW_DELETE, 1, 0, 1)])
    .runs(sorted::zremrangebyrank),
    Spec::new(
        "zremrangebyscore",
        4,
        &["write"],
        "sorted-set",
        "1.2.0",
        "Removes members by their scores",
    )
    .keys(&[keyed(RW_DELETE, 1, 0, 1)])
    .runs(sorted::zremrangebyscore),
    Spec::new(
        "zrevrange",
        -4,
        READ,
        "sorted-set",
        "1.2.0",
        "Reads members in a range from the back",
    )
    .keys(ONE_READ)
    .runs(sorted::zrevrange),
    Spec::new(
        "zrevrangebylex",
        -4,
        READ,
        "sorted-set",
        "2.8.9",
        "Reads members by their bytes from the back",
    )
    .keys(ONE_READ)
    .runs(sorted::zrevrangebylex),
    Spec::new(
        "zrevrangebyscore",
        -4,
        READ,
        "sorted-set",
        "2.2.0",
        "Reads members by their scores from the back",
    )
    .keys(ONE_READ)
    .runs(sorted::zrevrangebyscore),
    Spec::new(
        "zrevrank",
        3,
        READ_FAST,
        "sorted-set",
        "2.0.0",
        "Tells how many members come behind one",
    )
    .keys(ONE_READ)
    .runs(sorted::zrevrank),
    Spec::new(
        "zscan",
        -3,
        READ,
        "sorted-set",
        "2.8.0",
        "Lists members of a sorted set step by step",
    )
    .keys(ONE_READ)
    .tips(SOME_OUTPUT)
    .runs(sorted::zscan),
    Spec::new("zscore", 3, READ_FAST, "sorted-set", "1.2.0", "Tells the score of a member")
        .keys(ONE_READ)
        .runs(sorted::zscore),
];

static CLIENT: &[Spec] = &[
    Spec::new("client|getname", 2, TALK, "connection", "2.6.9", "Tells this connection's name")
        .runs(client::getname),
    Spec::new("client|getredir", 2, TALK, "connection", "6.0.0", "Tells who is told of changes")
        .runs(client::getredir),
    Spec::new("client|help", 2, ALWAYS, "connection", "5.0.0", "Lists these commands")
        .runs(introspection::help),
    Spec::new("client|id", 2, TALK, "connection", "5.0.0", "Tells this connection's number")
        .runs(client::id),
    Spec::new("client|info", 2, TALK, "connection", "6.2.0", "Tells about this connection")
        .tips(SOME_OUTPUT)
        .runs(client::info),
    Spec::new("client|kill", -3, ADMIN, "connection", "2.4.0", "Ends connections")
        .runs(client::kill),
    Spec::new("client|list", -2, ADMIN, "connection", "2.4.0", "Lists the connections")
        .tips(SOME_OUTPUT)
        .runs(client::list),
    Spec::new("client|no-evict", 3, ADMIN, "connection", "7.0.0", "Does nothing: none is evicted")
        .runs(client::harmless_switch),
    Spec::new(
        "client|no-touch",
        3,
        TALK,
        "connection",
        "7.2.0",
        "Does nothing: reads leave no trace",
    )
    .runs(client::harmless_switch),
    Spec::new("client|reply", 3, TALK, "connection", "3.2.0", "Says whether replies are wanted")
        .runs(client::reply),
    Spec::new("client|setinfo", 4, TALK, "connection", "7.2.0", "Names the client's library")
        .runs(client::setinfo),
    Spec::new("client|setname", 3, TALK, "connection", "2.6.9", "Names this connection")
        .runs(client::setname),
    Spec::new("client|tracking", -3, TALK, "connection", "6.0.0", "Not supported")
        .runs(client::tracking),
    Spec::new(
        "client|trackinginfo",
        2,
        TALK,
        "connection",
        "6.2.0",
        "Tells that nothing is tracked",
    )
    .runs(client::trackinginfo),
    Spec::new("client|unblock", -3, UNBLOCKS, "connection", "5.0.0", "Ends the wait of a client")
        .runs(blocking::unblock),
];

static COMMAND: &[Spec] = &[
    Spec::new("command|count", 2, ALWAYS, "server", "2.8.13", "Counts the commands")
        .categories(&["@connection"])
        .runs(introspection::count),
    Spec::new("command|docs", -2, ALWAYS, "server", "7.0.0", "Tells what commands do")
        .categories(&["@connection"])
        .tips(SOME_ORDER)
        .runs(introspection::docs),
    Spec::new("command|getkeys", -4, ALWAYS, "server", "2.8.13", "Finds the keys in a command")
        .categories(&["@connection"])
        .runs(introspection::getkeys),
    Spec::new("command|help", 2, ALWAYS, "server", "5.0.0", "Lists these commands")
        .categories(&["@connection"])
        .runs(introspection::help),
    Spec::new("command|info", -2, ALWAYS, "server", "2.8.13", "Tells about some commands")
        .categories(&["@connection"])
        .tips(SOME_ORDER)
        .runs(introspection::some),
    Spec::new("command|list", -2, ALWAYS, "server", "7.0.0", "Lists the names of commands")
        .categories(&["@connection"])
        .tips(SOME_ORDER)
        .runs(introspection::list),
];

static CONFIG: &[Spec] = &[
    Spec::new("config|get", -3, ADMIN, "server", "2.0.0", "Tells settings")
        .runs(configuration::get),
    Spec::new("config|help", 2, ALWAYS, "server", "5.0.0", "Lists these commands")
        .runs(introspection::help),
    Spec::new("config|resetstat", 2, ADMIN, "server", "2.0.0", "Does nothing: counters only grow")
        .runs(configuration::resetstat),
    Spec::new("config|rewrite", 2, ADMIN, "server", "2.8.0", "Not supported")
        .runs(configuration::rewrite),
    Spec::new("config|set", -4, ADMIN, "server", "2.0.0", "Takes what is set already")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .runs(configuration::set),
];

static OBJECTS: &[Spec] = &[
    Spec::new("object|encoding", 3, READ, "generic", "2.2.3", "Tells how a value would be kept")
        .keys(OBJECT)
        .tips(SOME_OUTPUT)
        .runs(keys::encoding),
    Spec::new("object|freq", 3, READ, "generic", "4.0.0", "Not recorded")
        .keys(OBJECT)
        .tips(SOME_OUTPUT)
        .runs(keys::freq),
    Spec::new("object|help", 2, ALWAYS, "generic", "6.2.0", "Lists these commands")
        .runs(introspection::help),
    Spec::new("object|idletime", 3, READ, "generic", "2.2.3", "Not recorded: 0")
        .keys(OBJECT)
        .tips(SOME_OUTPUT)
        .runs(keys::idletime),
    Spec::new("object|refcount", 3, READ, "generic", "2.2.3", "1")
        .keys(OBJECT)
        .tips(SOME_OUTPUT)
        .runs(keys::refcount),
];

static REPL: &[Spec] = &[
    Spec::new(
        "repl|ack",
        -2,
        TALK,
        "server",
        "0.1.0",
        "When this connection's writes are acknowledged",
    )
    .runs(repl::ack),
    Spec::new("repl|conflicts", -2, TALK, "server", "0.1.0", "Not supported").runs(repl::not_yet),
    Spec::new(
        "repl|explain",
        2,
        TALK,
        "server",
        "0.1.0",
        "What this connection's settings give and cost",
    )
    .runs(repl::explain),
    Spec::new("repl|help", 2, ALWAYS, "server", "0.1.0", "Lists these commands")
        .runs(introspection::help),
    Spec::new("repl|last", -2, TALK, "server", "0.1.0", "What the last write has achieved")
        .runs(repl::last),
    Spec::new("repl|quota", -2, ADMIN, "server", "0.1.0", "How large the state may become")
        .runs(quota::quota),
    Spec::new("repl|read", -2, TALK, "server", "0.1.0", "How fresh this connection's reads are")
        .runs(repl::read),
    Spec::new("repl|resolve", 3, TALK, "server", "0.1.0", "Tells what became of a write")
        .runs(repl::resolve),
    Spec::new(
        "repl|snapshot",
        -2,
        TALK,
        "server",
        "0.1.0",
        "Whether this connection's reads see one state",
    )
    .runs(snapshot::snapshot),
    Spec::new("repl|status", 2, TALK, "server", "0.1.0", "Tells what the node knows of its group")
        .runs(replication::status),
    Spec::new("repl|token", -2, TALK, "server", "0.1.0", "What this session has seen and done")
        .runs(repl::token),
    Spec::new("repl|watch", -2, TALK, "server", "0.1.0", "Tells this connection of changes")
        .runs(feed::watch),
];
