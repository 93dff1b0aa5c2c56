//! What can be asked of the machine, and what it answers.
//!
//! These are in logs and on the wire: a variant is added at the end, and none is changed.

use bytes::Bytes;
use leader::key_value::Revision;
use serde::{Deserialize, Serialize};

use super::record::Kind;
use super::sorted::{Part, Rules, Score, Span};

/// A command: what is replicated as one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// The key gets a string, whatever type it had. SET, SETNX, SETEX, PSETEX, GETSET.
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When it takes place.
        condition: Condition,
        /// What becomes of the key's deadline.
        lifetime: Lifetime,
        /// What is answered. Asked for the previous value, a key of another type is refused.
        answer: Answer,
    },
    /// The key is gone; answers its value. GETDEL.
    GetDelete {
        /// The key.
        key: Bytes,
    },
    /// The key's deadline changes; answers its value. GETEX.
    GetExpire {
        /// The key.
        key: Bytes,
        /// What becomes of the deadline.
        lifetime: Lifetime,
    },
    /// Every key gets its value, or none does. MSET, MSETNX.
    SetMany {
        /// Keys and values, the last one winning where a key is named twice.
        pairs: Vec<(Bytes, Bytes)>,
        /// When they do: [`Condition::IfAbsent`] asks it of every key.
        condition: Condition,
    },
    /// Adds bytes at the end of a value; answers its length. APPEND.
    Append {
        /// The key.
        key: Bytes,
        /// What is added.
        value: Bytes,
    },
    /// Replaces bytes of a value, zeros before them where there are none; answers its length.
    /// SETRANGE.
    SetRange {
        /// The key.
        key: Bytes,
        /// Where.
        offset: u64,
        /// By what. Nothing changes nothing.
        value: Bytes,
    },
    /// Adds to a decimal number, absent being 0; answers the sum. INCR, INCRBY, DECR, DECRBY.
    Increment {
        /// The key.
        key: Bytes,
        /// How much.
        by: i64,
    },
    /// Adds to a number with a fraction, absent being 0; answers the sum's text. INCRBYFLOAT.
    IncrementFloat {
        /// The key.
        key: Bytes,
        /// How much, as text: a text that is no number is refused after the key's type is.
        by: Bytes,
    },
    /// The keys are gone; answers how many were there. DEL, UNLINK.
    Delete {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// The key gets a deadline; answers 1 if it has. EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT.
    Expire {
        /// The key.
        key: Bytes,
        /// When it is gone. If that is now or past, it is gone at once.
        at: Moment,
        /// When it takes place.
        condition: ExpireCondition,
    },
    /// The key loses its deadline; answers 1 if it had one. PERSIST.
    Persist {
        /// The key.
        key: Bytes,
    },
    /// The key gets another name, with its deadline; what had that name is gone. RENAME, RENAMENX.
    Rename {
        /// Its name.
        from: Bytes,
        /// Its new name.
        to: Bytes,
        /// When it takes place, by what has the new name.
        condition: Condition,
    },
    /// Another key becomes equal, deadline included; answers 1 if it has. COPY.
    Copy {
        /// The key.
        from: Bytes,
        /// The other.
        to: Bytes,
        /// When it takes place, by what has the other name.
        condition: Condition,
    },
    /// No key is left. FLUSHALL, FLUSHDB.
    Flush,
    /// Removes rows that are due and rows that a flush has left; answers how many. The leader
    /// proposes it by itself.
    Sweep {
        /// At most this many rows, and at most [`MAX_SWEEP`](super::MAX_SWEEP).
        limit: u32,
    },
    /// Changes nothing: a read at this place in the order.
    Query(Query),
    /// All of these in order, as one step; answers [`Reply::Many`], or [`Reply::NotDone`] if a
    /// watched key is not as it was. EXEC.
    Transaction {
        /// Keys with the revision that they must have; none stands for an absent key.
        watched: Vec<(Bytes, Option<Revision>)>,
        /// Encoded commands, at most [`MAX_STEPS`](super::MAX_STEPS).
        steps: Vec<Bytes>,
    },
    /// Fields of a hash get values; answers how many are new. HSET, HMSET, HSETNX.
    HashSet {
        /// The key.
        key: Bytes,
        /// Fields and values, the last one winning where a field is named twice.
        pairs: Vec<(Bytes, Bytes)>,
        /// When it takes place, by every field.
        condition: Condition,
    },
    /// Fields of a hash are gone; answers how many were there. HDEL.
    HashDelete {
        /// The key.
        key: Bytes,
        /// The fields.
        fields: Vec<Bytes>,
    },
    /// Adds to a decimal number in a field, absent being 0; answers the sum. HINCRBY.
    HashIncrement {
        /// The key.
        key: Bytes,
        /// The field.
        field: Bytes,
        /// How much.
        by: i64,
    },
    /// Adds to a number with a fraction in a field; answers the sum's text. HINCRBYFLOAT.
    HashIncrementFloat {
        /// The key.
        key: Bytes,
        /// The field.
        field: Bytes,
        /// How much, as text.
        by: Bytes,
    },
    /// A set gets members; answers how many are new. SADD.
    SetAdd {
        /// The key.
        key: Bytes,
        /// The members.
        members: Vec<Bytes>,
    },
    /// A set loses members; answers how many were there. SREM.
    SetRemove {
        /// The key.
        key: Bytes,
        /// The members.
        members: Vec<Bytes>,
    },
    /// A member goes from one set to another; answers 1 if it was there. SMOVE.
    SetMove {
        /// Its set.
        from: Bytes,
        /// Its new set.
        to: Bytes,
        /// The member.
        member: Bytes,
    },
    /// Some members are gone; answers them. SPOP.
    SetPop {
        /// The key.
        key: Bytes,
        /// How many at most.
        count: u64,
        /// Drawn by whoever asks, so that every member of the cluster removes the same.
        seed: u64,
    },
    /// A key gets what several sets have together; answers how much that is. SINTERSTORE,
    /// SUNIONSTORE, SDIFFSTORE.
    SetStore {
        /// How.
        how: Combine,
        /// The key that gets it, whatever it held.
        to: Bytes,
        /// The sets.
        keys: Vec<Bytes>,
    },
    /// A list gets values at an end, one after the other; answers its length. LPUSH, RPUSH, LPUSHX,
    /// RPUSHX.
    ListPush {
        /// The key.
        key: Bytes,
        /// Where.
        end: End,
        /// The values.
        values: Vec<Bytes>,
        /// Only if there is a list.
        only_existing: bool,
    },
    /// A list loses values at an end; answers them, or [`Reply::NotDone`] without a list. LPOP, RPOP.
    ListPop {
        /// The key.
        key: Bytes,
        /// Where.
        end: End,
        /// How many at most.
        count: u64,
    },
    /// An element gets another value. LSET.
    ListSet {
        /// The key.
        key: Bytes,
        /// Which, as text: it is read after the key's type is.
        index: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// Only a part of a list is left, ends included, negative ones counted from its end. LTRIM.
    ListTrim {
        /// The key.
        key: Bytes,
        /// Its first element.
        start: i64,
        /// Its last one.
        stop: i64,
    },
    /// Elements equal to a value are gone; answers how many. LREM.
    ListRemove {
        /// The key.
        key: Bytes,
        /// How many from the front, from the back if negative; 0 for all.
        count: i64,
        /// The value.
        value: Bytes,
    },
    /// A value comes beside the first one that is equal to another; answers the length, or -1 if
    /// there is none. LINSERT.
    ListInsert {
        /// The key.
        key: Bytes,
        /// Before or behind it.
        side: End,
        /// The other.
        pivot: Bytes,
        /// The value.
        value: Bytes,
    },
    /// An element goes from an end of a list to an end of another, or of itself; answers it. LMOVE,
    /// RPOPLPUSH.
    ListMove {
        /// Its list and its end.
        from: (Bytes, End),
        /// Its new list and end.
        to: (Bytes, End),
    },
    /// Members of a sorted set get scores; answers how many are new, or new and changed. ZADD.
    SortedAdd {
        /// The key.
        key: Bytes,
        /// Scores and members.
        pairs: Vec<(Score, Bytes)>,
        /// When.
        rules: Rules,
    },
    /// Adds to a member's score, absent being 0; answers it as [`Reply::Scores`], or none where the
    /// rules forbid it. ZINCRBY, ZADD INCR.
    SortedIncrement {
        /// The key.
        key: Bytes,
        /// The member.
        member: Bytes,
        /// How much.
        by: Score,
        /// When.
        rules: Rules,
    },
    /// Members are gone; answers how many were there. ZREM.
    SortedRemove {
        /// The key.
        key: Bytes,
        /// The members.
        members: Vec<Bytes>,
    },
    /// The members of a span are gone; answers how many. ZREMRANGEBYRANK, ZREMRANGEBYSCORE,
    /// ZREMRANGEBYLEX.
    SortedRemoveSpan {
        /// The key.
        key: Bytes,
        /// Which.
        span: Span,
    },
    /// Members with the lowest or the highest scores are gone; answers them as [`Reply::Scored`].
    /// ZPOPMIN, ZPOPMAX.
    SortedPop {
        /// The key.
        key: Bytes,
        /// The lowest are in front.
        end: End,
        /// How many at most.
        count: u64,
    },
    /// The first of these keys that is there loses elements; answers them with the key as
    /// [`Reply::TakenFrom`] or [`Reply::ScoredFrom`], or [`Reply::NotDone`] if none is. LMPOP, ZMPOP,
    /// and the pops that wait.
    PopFirst {
        /// The keys.
        keys: Vec<Bytes>,
        /// What they must be: lists or sorted sets.
        kind: Kind,
        /// Where; the lowest scores are in front.
        end: End,
        /// How many at most.
        count: u64,
    },
}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// Where its first element is.
    Front,
    /// Where its last one is.
    Back,
}

/// What several sets have together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Combine {
    /// What all have.
    Intersection,
    /// What one has at least.
    Union,
    /// What the first has and no other.
    Difference,
}

/// A read that costs little enough to be ordered among writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Query {
    /// A string's value. GET.
    Get {
        /// The key.
        key: Bytes,
    },
    /// The values of strings; none for keys of other types. MGET.
    GetMany {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// A string's length. STRLEN.
    Length {
        /// The key.
        key: Bytes,
    },
    /// A part of a string, ends included, negative ones counted from its end. GETRANGE.
    Range {
        /// The key.
        key: Bytes,
        /// Its first byte.
        start: i64,
        /// Its last byte.
        end: i64,
    },
    /// How many of the keys are there, counting repeated ones again. EXISTS, TOUCH.
    Exists {
        /// The keys.
        keys: Vec<Bytes>,
    },
    /// A key's type. TYPE.
    Kind {
        /// The key.
        key: Bytes,
    },
    /// Milliseconds to the deadline; -1 without one, -2 without the key. TTL, PTTL.
    Remaining {
        /// The key.
        key: Bytes,
    },
    /// The deadline in milliseconds since the Unix epoch; -1 and -2 as above. EXPIRETIME.
    Deadline {
        /// The key.
        key: Bytes,
    },
    /// How many keys there are; some of them may be due. DBSIZE.
    Count,
    /// Values of fields of a hash. HGET, HMGET, HEXISTS, HSTRLEN.
    HashGet {
        /// The key.
        key: Bytes,
        /// The fields.
        fields: Vec<Bytes>,
    },
    /// How many fields a hash has. HLEN.
    HashCount {
        /// The key.
        key: Bytes,
    },
    /// All fields of a hash, each followed by its value. HGETALL, HKEYS, HVALS.
    HashAll {
        /// The key.
        key: Bytes,
    },
    /// About so many fields of a hash from a cursor on: the next cursor as text, then fields, each
    /// followed by its value. HSCAN.
    HashStep {
        /// The key.
        key: Bytes,
        /// Where to go on; 0 begins.
        cursor: u64,
        /// About how many.
        count: u64,
        /// What fields must match.
        pattern: Option<Bytes>,
    },
    /// Which of these a set has: an empty value for each that it has. SISMEMBER, SMISMEMBER.
    SetHas {
        /// The key.
        key: Bytes,
        /// The members.
        members: Vec<Bytes>,
    },
    /// How many members a set has. SCARD.
    SetCount {
        /// The key.
        key: Bytes,
    },
    /// About so many members of a set from a cursor on, after the next cursor as text. SSCAN.
    SetStep {
        /// The key.
        key: Bytes,
        /// Where to go on; 0 begins.
        cursor: u64,
        /// About how many.
        count: u64,
        /// What members must match.
        pattern: Option<Bytes>,
    },
    /// Some members of a set, from a place that the seed gives. SRANDMEMBER.
    SetSample {
        /// The key.
        key: Bytes,
        /// How many at most.
        count: u64,
        /// Whether the same one may come again: then each is drawn by itself.
        again: bool,
        /// Drawn by whoever asks.
        seed: u64,
    },
    /// What several sets have together. SMEMBERS, SINTER, SUNION, SDIFF.
    SetCombine {
        /// How.
        how: Combine,
        /// The sets.
        keys: Vec<Bytes>,
    },
    /// How many elements a list has. LLEN.
    ListLength {
        /// The key.
        key: Bytes,
    },
    /// An element of a list. LINDEX.
    ListIndex {
        /// The key.
        key: Bytes,
        /// Which, as text: it is read after the key's type is.
        index: Bytes,
    },
    /// A part of a list, ends included, negative ones counted from its end. LRANGE.
    ListRange {
        /// The key.
        key: Bytes,
        /// Its first element.
        start: i64,
        /// Its last one.
        stop: i64,
    },
    /// Where elements equal to a value are; answers [`Reply::Integers`]. LPOS.
    ListPositions {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// The first match that counts, from 1; negative ones are counted from the end.
        rank: i64,
        /// How many at most; 0 for all.
        count: u64,
        /// How many elements are looked at; 0 for all.
        most: u64,
    },
    /// How many members a sorted set has. ZCARD.
    SortedCount {
        /// The key.
        key: Bytes,
    },
    /// Scores of members; answers [`Reply::Scores`]. ZSCORE, ZMSCORE.
    SortedScores {
        /// The key.
        key: Bytes,
        /// The members.
        members: Vec<Bytes>,
    },
    /// How many members come before one. ZRANK, ZREVRANK.
    SortedRank {
        /// The key.
        key: Bytes,
        /// The member.
        member: Bytes,
        /// Counted from the highest score.
        reverse: bool,
    },
    /// A part of a span of members; answers [`Reply::Scored`]. ZRANGE and the like, ZCOUNT.
    SortedSpan {
        /// The key.
        key: Bytes,
        /// Which.
        span: Span,
        /// What of it.
        part: Part,
    },
    /// About so many members from a cursor on: the next cursor as text, then members, each followed by
    /// its score. ZSCAN.
    SortedStep {
        /// The key.
        key: Bytes,
        /// Where to go on; 0 begins.
        cursor: u64,
        /// About how many.
        count: u64,
        /// What members must match.
        pattern: Option<Bytes>,
    },
}

/// When a write takes place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Whatever is there.
    #[default]
    Always,
    /// The key is absent.
    IfAbsent,
    /// The key is present.
    IfPresent,
}

/// When a deadline is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExpireCondition {
    /// Whatever deadline there is. It takes a key that is there in any case.
    #[default]
    Always,
    /// There is none. NX.
    IfNone,
    /// There is one. XX.
    IfSome,
    /// It is earlier than the new one; none is never earlier. GT, with XX or without.
    IfEarlier,
    /// It is later than the new one; none is later than any. LT.
    IfLater,
    /// There is one, and it is later than the new one. XX LT.
    IfSomeAndLater,
}

/// An instant, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// Since the Unix epoch.
    At(i64),
    /// After the stamp of the command.
    After(i64),
}

/// What a write does to a key's deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// There is none from now on.
    #[default]
    Clear,
    /// It stays as it is.
    Keep,
    /// The key is gone from this instant on; if that is now or past, at once.
    Until(Moment),
}

/// What a set answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Whether it took place: [`Reply::Done`] or [`Reply::NotDone`].
    #[default]
    Done,
    /// What was there before, whether it took place or not.
    Previous,
}

/// What the machine answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reply {
    /// It is done.
    Done,
    /// The condition did not hold. Nothing changed.
    NotDone,
    /// A value, or none.
    Value(Option<Bytes>),
    /// Values, in the order of the keys.
    Values(Vec<Option<Bytes>>),
    /// A number.
    Integer(i64),
    /// A type, or none.
    Kind(Option<Kind>),
    /// The command cannot be done. Nothing changed.
    Refused(Refusal),
    /// Encoded replies, one per command of a transaction.
    Many(Vec<Bytes>),
    /// Numbers.
    Integers(Vec<i64>),
    /// Scores, in the order of the members.
    Scores(Vec<Option<Score>>),
    /// Members with their scores.
    Scored(Vec<(Bytes, Score)>),
    /// A list, and elements that it has lost.
    TakenFrom(Bytes, Vec<Bytes>),
    /// A sorted set, and members that it has lost, with their scores.
    ScoredFrom(Bytes, Vec<(Bytes, Score)>),
}

/// Why a command cannot be done. Its text is Redis's, the word that clients know first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The key holds another type.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// The value is not the text of a 64-bit number.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// The sum does not fit into 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// The value, or the increment, is not the text of a number.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// The sum is too large for a number.
    #[error("ERR increment would produce NaN or Infinity")]
    NotFinite,
    /// The value would be longer than [`MAX_VALUE_BYTES`](super::MAX_VALUE_BYTES).
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    TooLong,
    /// There is no such key.
    #[error("ERR no such key")]
    NoSuchKey,
    /// The values together are longer than [`MAX_REPLY_BYTES`](super::MAX_REPLY_BYTES).
    #[error("ERR the reply would be over 64 MiB; ask for fewer keys at once")]
    ReplyTooLong,
    /// The command does not pass admission; it should not have been proposed.
    #[error("ERR the command was not admitted; nothing changed")]
    Inadmissible,
    /// The field's value is not the text of a 64-bit number.
    #[error("ERR hash value is not an integer")]
    HashNotAnInteger,
    /// The field's value is not the text of a number.
    #[error("ERR hash value is not a float")]
    HashNotAFloat,
    /// The increment is not a finite number.
    #[error("ERR value is NaN or Infinity")]
    NanOrInfinity,
    /// There are more elements than one command may copy or combine.
    #[error("ERR there are too many elements for one step; take them in parts")]
    TooManyElements,
    /// The list has no element there.
    #[error("ERR index out of range")]
    IndexOutOfRange,
    /// Infinities of both signs have no sum.
    #[error("ERR resulting score is not a number (NaN)")]
    NotANumber,
}
