//! The same bytes to a real `redis-server` and to this one: the replies are the same bytes.

use common::env::SplitMix64;

use crate::support::{Client, RealRedis, Server, encode, words};

/// Both servers, with one connection to each.
struct Pair {
    ours: Client,
    real: Client,
    /// What was sent since the last flush, for the message.
    history: Vec<String>,
}

impl Pair {
    /// Sends a command to both; what differs, if it does.
    fn difference(&mut self, words: &[Vec<u8>]) -> Option<String> {
        self.history.push(words.iter().map(|w| w.escape_ascii().to_string() + " ").collect());
        let bytes = encode(words);
        self.ours.send(&bytes);
        self.real.send(&bytes);
        let (ours, real) = (self.ours.reply(), self.real.reply());
        let name = words[0].to_ascii_lowercase();
        let equal = match name.as_slice() {
            b"ttl" | b"expiretime" => near(&ours, &real, 1),
            b"pttl" | b"pexpiretime" => near(&ours, &real, 1_000),
            b"keys" | b"hgetall" | b"hkeys" | b"hvals" | b"hscan" | b"smembers" | b"sinter"
            | b"sunion" | b"sdiff" | b"sscan" | b"spop" | b"srandmember" => {
                sorted(&ours) == sorted(&real)
            }
            b"zscan" => numbered(&ours) == numbered(&real),
            _ => ours == real,
        };
        (!equal).then(|| {
            let command = self.history.last().map_or("", String::as_str);
            format!("{command}\n  ours: {}\n  real: {}\n", ours.escape_ascii(), real.escape_ascii())
        })
    }

    /// Sends a command to both and compares.
    fn compare(&mut self, words: &[Vec<u8>]) {
        if let Some(difference) = self.difference(words) {
            let from = self.history.len().saturating_sub(60);
            panic!("{difference}after:\n{}", self.history[from..].join("\n"));
        }
    }

    /// Sends commands to both, and tells all differences together.
    fn compare_all(&mut self, lines: impl IntoIterator<Item: AsRef<str>>) {
        let mut differences = String::new();
        for line in lines {
            differences.extend(self.difference(&words(line.as_ref())));
        }
        assert!(differences.is_empty(), "{differences}");
    }

    fn line(&mut self, line: &str) {
        self.compare(&words(line));
    }

    fn flush(&mut self) {
        self.history.clear();
        self.line("FLUSHALL");
    }
}

/// Equal, or times that differ by as much as two servers' clocks and rounding do.
fn near(ours: &[u8], real: &[u8], by: i64) -> bool {
    let number = |reply: &[u8]| {
        let text = std::str::from_utf8(reply).ok()?;
        text.strip_prefix(':')?.trim_end().parse::<i64>().ok().filter(|number| *number >= 0)
    };
    match (number(ours), number(real)) {
        (Some(ours), Some(real)) => ours.abs_diff(real) <= by.unsigned_abs(),
        _ => ours == real,
    }
}

fn sorted(reply: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = reply.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    lines.sort();
    lines
}

/// A scan of a sorted set: what is scanned, with numbers as numbers, since the way Redis keeps a
/// small set decides how it writes whole scores.
fn numbered(reply: &[u8]) -> Vec<Vec<u8>> {
    let text = |line: Vec<u8>| match String::from_utf8(line.clone()) {
        Ok(text) => text.trim().parse::<f64>().map_or(line, |n| n.to_string().into_bytes()),
        Err(_) => line,
    };
    let mut lines: Vec<Vec<u8>> =
        sorted(reply).into_iter().filter(|line| !line.starts_with(b"$")).map(text).collect();
    lines.sort();
    lines
}

/// Both servers; without a real one there is nothing to compare.
pub(crate) fn servers() -> Option<(RealRedis, Server)> {
    let real = RealRedis::start()?;
    if !real.is_of_our_release() {
        println!("skipped: redis-server is of another release than 7.0");
        return None;
    }
    Some((real, Server::start()))
}

fn pair(real: &RealRedis, ours: &Server) -> Pair {
    Pair { ours: ours.connect(), real: real.connect(), history: Vec::new() }
}

#[test]
fn a_table_of_commands_is_answered_as_by_redis() {
    let Some((real, ours)) = servers() else { return };
    let mut pair = pair(&real, &ours);
    pair.flush();
    let lines = TABLE.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    pair.compare_all(lines.filter(|line| {
        let pause = line.strip_prefix("!sleep ");
        if let Some(millis) = pause {
            let millis = millis.parse().expect("milliseconds");
            std::thread::sleep(std::time::Duration::from_millis(millis));
        }
        pause.is_none()
    }));
}

const TABLE: &str = include_str!("table.txt");

#[test]
fn generated_commands_are_answered_as_by_redis() {
    let Some((real, ours)) = servers() else { return };
    for seed in 0..40 {
        let mut pair = pair(&real, &ours);
        pair.flush();
        let random = Random(SplitMix64::new(seed));
        if seed % 4 == 3 {
            pair.line("HELLO 3 SETNAME x SETNAME"); // an error: the version stays
        }
        for _ in 0..250 {
            let command = random.command();
            pair.compare(&command);
        }
        pair.line("KEYS *");
    }
}

struct Random(SplitMix64);

impl Random {
    fn below(&self, limit: u64) -> u64 {
        use common::env::Rng;
        self.0.next_u64() % limit
    }

    fn between(&self, low: i64, high: i64) -> i64 {
        low.saturating_add_unsigned(self.below(high.abs_diff(low) + 1))
    }

    fn pick(&self, from: &[&str]) -> String {
        from[self.below(from.len() as u64) as usize].to_owned()
    }
}

impl Random {
    fn key(&self) -> String {
        self.pick(&["a", "b", "c", "d", "e", "f", "\"\""])
    }

    fn value(&self) -> String {
        let plain =
            ["1", "2", "-7", "10", "abc", "\"\"", "3.5", "9223372036854775807", "x1", "0.1"];
        self.pick(&plain)
    }

    fn number(&self) -> String {
        self.pick(&["0", "1", "-1", "5", "-3", "100", "x", "9223372036854775807", "1.5", "\"\""])
    }

    fn float(&self) -> String {
        match self.below(4) {
            0 => self.number(),
            1 => format!("{}.{}", self.below(100_000), self.below(1_000_000)),
            2 => format!("-0.{:09}", self.below(1_000_000_000)),
            _ => format!("{}e{}", self.below(100_000), self.between(-20, 20)),
        }
    }

    fn score(&self) -> String {
        match self.below(4) {
            0 => self.float(),
            _ => self.pick(&["0", "1", "-1", "2", "2.5", "0.1", "1e20", "inf", "-inf", "x", "nan"]),
        }
    }

    /// A span in seconds, or one that is refused. None ends while the test runs, and no two are so
    /// close that the moments of their commands decide which ends later.
    fn span(&self) -> String {
        match self.below(7) {
            0..=2 => (1000 + 60 * self.below(1_000_000)).to_string(),
            _ => self.pick(&["-1", "0", "x", "9223372036854775807"]),
        }
    }

    fn instant(&self) -> String {
        self.pick(&["33177117420", "33177117421", "33177117422", "1", "-5", "x"])
    }

    fn expiry(&self) -> String {
        match self.below(6) {
            0 => format!(" EX {}", self.span()),
            1 => format!(" PX {}000", 1 + self.below(3) * 1000),
            2 => format!(" EXAT {}", self.instant()),
            3 => format!(" PXAT {}000", 33_177_117_420 + self.below(3)),
            _ => String::new(),
        }
    }

    fn options(&self, from: &[&str]) -> String {
        (0..self.below(3)).flat_map(|_| [" ".to_owned(), self.pick(from)]).collect()
    }

    fn command(&self) -> Vec<Vec<u8>> {
        let (key, other, value) = (self.key(), self.key(), self.value());
        let field = ["f", "g", "h"][self.below(3) as usize];
        let line = match self.below(104) {
            0..=3 => format!(
                "SET {key} {value}{}{}",
                self.options(&["NX", "XX", "GET", "KEEPTTL", "nx", "get"]),
                self.expiry()
            ),
            4 => format!("GET {key}"),
            5 => format!("GETSET {key} {value}"),
            6 => format!("SETNX {key} {value}"),
            7 => format!("SETEX {key} {} {value}", self.span()),
            8 => format!("PSETEX {key} {}000 {value}", self.below(3) * 1000),
            9 => format!("GETEX {key}{}{}", self.options(&["PERSIST"]), self.expiry()),
            10 => format!("GETDEL {key}"),
            11 => format!("MSET {key} {value} {other} {}", self.value()),
            12 => format!("MSETNX {key} {value} {other} {}", self.value()),
            13 => format!("MGET {key} {other} {key}"),
            14 => format!("APPEND {key} {value}"),
            15 => format!("STRLEN {key}"),
            16 => format!("GETRANGE {key} {} {}", self.number(), self.number()),
            17 => format!("SETRANGE {key} {} {value}", self.between(-1, 10)),
            18 => format!("INCR {key}"),
            19 => format!("DECR {key}"),
            20 => format!("INCRBY {key} {}", self.number()),
            21 => format!("DECRBY {key} {}", self.number()),
            22..=24 => format!("INCRBYFLOAT {key} {}", self.float()),
            25 => {
                let conditions = self.options(&["NX", "XX", "GT", "LT"]);
                format!("EXPIRE {key} {}{conditions}", self.span())
            }
            26 => format!("PEXPIRE {key} {}000", self.below(4) * 1000),
            27 => {
                let conditions = self.options(&["NX", "XX", "GT", "LT"]);
                format!("EXPIREAT {key} {}{conditions}", self.instant())
            }
            28 => format!("TTL {key}"),
            29 => format!("PTTL {key}"),
            30 => format!("EXPIRETIME {key}"),
            31 => format!("PERSIST {key}"),
            32 => format!("DEL {key} {other}"),
            33 => format!("EXISTS {key} {other} {key}"),
            34 => format!("TYPE {key}"),
            35 => format!("RENAME {key} {other}"),
            36 => format!("RENAMENX {key} {other}"),
            37 => format!("COPY {key} {other}{}", self.options(&["REPLACE", "DB 0"])),
            40..=42 => format!("HSET {key} {field} {value} g {}", self.value()),
            43 => format!("HGET {key} {field}"),
            44 => format!("HDEL {key} {field} g"),
            45 => format!("HGETALL {key}"),
            46 => format!("HINCRBY {key} {field} {}", self.number()),
            47 => format!("HINCRBYFLOAT {key} {field} {}", self.float()),
            48 => format!("HSETNX {key} {field} {value}"),
            49 => format!("HMGET {key} {field} f g"),
            50 => format!("HLEN {key}"),
            51 => format!("HEXISTS {key} {field}"),
            52 => format!("HKEYS {key}"),
            53 => format!("HSCAN {key} 0 MATCH ?"),
            54..=56 => format!("SADD {key} {field} {value}"),
            57 => format!("SREM {key} {field} {value}"),
            58 => format!("SMEMBERS {key}"),
            59 => format!("SMISMEMBER {key} {field} {value}"),
            60 => format!("SMOVE {key} {other} {field}"),
            61 => format!("SINTERSTORE {} {key} {other}", self.key()),
            62 => format!("SUNIONSTORE {} {key} {other}", self.key()),
            63 => format!("SDIFFSTORE {} {key} {other}", self.key()),
            64 => format!("SUNION {key} {other}"),
            65 => format!("SPOP {key} 1000"),
            84..=87 => {
                let rules = self.options(&["NX", "XX", "GT", "LT", "CH", "INCR"]);
                let more = if self.below(2) == 0 { "" } else { " 2 g" };
                format!("ZADD {key}{rules} {} {field}{more}", self.score())
            }
            88 => format!("ZINCRBY {key} {} {field}", self.score()),
            89 => format!("ZREM {key} {field} g"),
            90 => format!("ZSCORE {key} {field}"),
            91 => format!("ZMSCORE {key} f g h"),
            92 => format!("{} {key} {field}", self.pick(&["ZRANK", "ZREVRANK"])),
            93 => format!("{} {key}", self.pick(&["ZCARD", "ZPOPMIN", "ZPOPMAX"])),
            94 => {
                format!("{} {key} {}", self.pick(&["ZPOPMIN", "ZPOPMAX"]), self.number())
            }
            95..=96 => {
                let scores = self.options(&["WITHSCORES"]);
                let name = self.pick(&["ZRANGE", "ZREVRANGE"]);
                format!("{name} {key} {} {}{scores}", self.number(), self.number())
            }
            97..=98 => {
                let limit = match self.below(3) {
                    0 => format!(" LIMIT {} {}", self.between(-1, 2), self.between(-1, 2)),
                    _ => String::new(),
                };
                let scores = self.options(&["WITHSCORES"]);
                let (low, high) = (self.score(), self.score());
                match self.below(3) {
                    0 => format!("ZRANGEBYSCORE {key} {low} ({high}{limit}{scores}"),
                    1 => format!("ZREVRANGEBYSCORE {key} {high} {low}{scores}{limit}"),
                    _ => {
                        let back = self.options(&["REV"]);
                        format!("ZRANGE {key} {low} {high} BYSCORE{back}{limit}{scores}")
                    }
                }
            }
            99 => format!("ZCOUNT {key} {} {}", self.score(), self.score()),
            100 => format!("ZREMRANGEBYRANK {key} {} {}", self.between(-3, 2), self.between(-3, 2)),
            101 => format!("ZREMRANGEBYSCORE {key} ({} {}", self.score(), self.score()),
            102..=103 => format!("ZSCAN {key} 0"),
            66..=68 => format!("RPUSH {key} {value} {field} {}", self.value()),
            69..=70 => format!("LPUSH {key} {field} {value}"),
            71 => format!("{} {key} {value}", self.pick(&["LPUSHX", "RPUSHX"])),
            72 => format!("{} {key} {}", self.pick(&["LPOP", "RPOP"]), self.number()),
            73 => format!("{} {key}", self.pick(&["LPOP", "RPOP", "LLEN"])),
            74..=75 => format!("LRANGE {key} {} {}", self.number(), self.number()),
            76 => format!("LINDEX {key} {}", self.number()),
            77 => format!("LSET {key} {} {value}", self.number()),
            78 => format!("LTRIM {key} {} {}", self.between(-4, 3), self.between(-3, 9)),
            79 => format!("LREM {key} {} {}", self.between(-2, 2), self.value()),
            80 => {
                let side = self.pick(&["BEFORE", "after", "beside"]);
                format!("LINSERT {key} {side} {field} {value}")
            }
            81 => {
                let (from, to) = (self.pick(&["LEFT", "right"]), self.pick(&["LEFT", "RIGHT"]));
                format!("LMOVE {key} {other} {from} {to}")
            }
            82 => format!("RPOPLPUSH {key} {other}"),
            83 => {
                let options = ["RANK", "COUNT", "MAXLEN"].map(|name| match self.below(3) {
                    0 => format!(" {name} {}", self.between(-2, 3)),
                    _ => String::new(),
                });
                format!("LPOS {key} {value}{}", options.concat())
            }
            38 => self.pick(&["KEYS *", "KEYS [a-c]", "TOUCH a b", "UNLINK c"]),
            _ => self.pick(&["GET", "SET a", "MSET a", "NOSUCH x", "CLIENT", "OBJECT FOO", "TTL"]),
        };
        words(&line)
    }
}

/// COMMAND INFO of every command and subcommand that Redis 7.0 has too.
#[test]
fn every_command_is_described_as_by_redis() {
    let Some((real, ours)) = servers() else { return };
    let mut pair = pair(&real, &ours);
    // Families have more members there; some members came with later releases.
    let others =
        ["repl", "client", "command", "config", "object", "client|no-touch", "client|setinfo"];
    let mut names = Vec::new();
    pair.ours.send(&encode(&["COMMAND", "LIST", "FILTERBY", "PATTERN", "*"]));
    let server::resp::Value::Array(found) = pair.ours.value() else { panic!("no list") };
    for name in found {
        let server::resp::Value::Bulk(name) = name else { panic!("no name") };
        let name = String::from_utf8(name.to_vec()).expect("a name");
        if !others.contains(&name.as_str()) && !name.starts_with("repl|") {
            names.push(name);
        }
    }
    names.sort();
    names.dedup();
    assert!(names.len() > 80, "{names:?}");
    for greeting in ["HELLO 2", "HELLO 3"] {
        pair.ours.say(greeting);
        pair.real.say(greeting);
        pair.compare_all(names.iter().map(|name| format!("COMMAND INFO {name}")));
    }
}

/// Maps, nulls and the like are what version 3 has for them.
#[test]
fn version_three_is_spoken_as_by_redis() {
    let Some((real, ours)) = servers() else { return };
    let mut pair = pair(&real, &ours);
    for connection in [&mut pair.ours, &mut pair.real] {
        connection.say("HELLO 3");
    }
    pair.flush();
    pair.compare_all([
        "GET nosuch",
        "MGET nosuch nosuch",
        "SET a 1 XX",
        "SET a 1 GET",
        "GETDEL a",
        "RANDOMKEY",
        "CONFIG GET save",
        "CONFIG GET nosuch",
        "COMMAND INFO nosuch",
        "COMMAND DOCS nosuch",
        "CLIENT GETNAME",
        "CLIENT TRACKINGINFO",
        "INFO nosuch",
        "INFO keyspace",
        "CLIENT LIST ID 9999",
        "OBJECT ENCODING nosuch",
        "COPY a b",
        "PING",
        "NOSUCH",
        "SCAN 0",
        "EXISTS a",
        "INCRBYFLOAT f 1.5",
        "TTL f",
        "RESET",
        "GET nosuch",
    ]);
}

/// Whole conversations, malformed ones among them: what comes back until the end is the same.
#[test]
fn malformed_streams_are_answered_as_by_redis() {
    let Some((real, ours)) = servers() else { return };
    let long = "x".repeat(70_000);
    let mut streams: Vec<Vec<u8>> = [
        "PING\r\n",
        "PING\n",
        "\r\nPING\r\n\n\n  \r\nPING\r\n",
        "PING hello\r\nECHO 'a b'\r\nECHO \"\\x41\\n\"\r\n",
        "ECHO \"open\r\n",
        "ECHO 'a'b\r\nPING\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "*1\n$4\nPING\n",
        "*0\r\n*-1\r\n*1\r\n$4\r\nPING\r\n",
        "*-5\r\nPING\r\n",
        "*x\r\nPING\r\n",
        "*\r\nPING\r\n",
        "* 1\r\n$4\r\nPING\r\n",
        "*+1\r\n$4\r\nPING\r\n",
        "*01\r\n$4\r\nPING\r\n",
        "*2147483648\r\n",
        "*99999999999999999999\r\n",
        "*1\r\n$x\r\n",
        "*1\r\n$-1\r\n",
        "*1\r\n$\r\n",
        "*1\r\n$ 4\r\nPING\r\n",
        "*1\r\n$536870913\r\n",
        "*1\r\n$99999999999999999999\r\n",
        "*1\r\nPING\r\n",
        "*1\r\n:4\r\nPING\r\n",
        "*1\r\n\r\n",
        "*1\r\n\n\r\n",
        "*2\r\n$4\r\nECHO\r\n+OK\r\n",
        "*1\r\n$4\r\nPINGxxPING\r\n",
        "*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI",
        "*2\r\n$4\r\nECHO\r\n$0\r\n\r\nPING\r\n",
        "*1\rX$4\rXPING\r\n",
        "PING\r\n*x\r\nPING\r\n",
        "QUIT\r\nPING\r\n",
        "POST / HTTP/1.1\r\nPING\r\n",
        "Host: example\r\nPING\r\n",
        "CLIENT REPLY OFF\r\nPING\r\nCLIENT REPLY ON\r\nPING\r\n",
        "CLIENT REPLY SKIP\r\nPING\r\nPING\r\n",
        "CLIENT REPLY SKIP\r\nCLIENT REPLY ON\r\nPING\r\n",
        "CLIENT REPLY OFF\r\nCLIENT REPLY SKIP\r\nPING\r\nCLIENT REPLY ON\r\n",
        "CLIENT REPLY SKIP\r\nCLIENT REPLY SKIP\r\nPING\r\nPING\r\n",
        "CLIENT REPLY SKIP\r\nCLIENT REPLY x\r\nPING\r\n",
        "CLIENT REPLY OFF\r\nQUIT\r\n",
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    streams.push(long.clone().into_bytes());
    streams.push(format!("*{long}").into_bytes());
    streams.push(format!("*1\r\n${long}").into_bytes());
    streams.push(format!("PING {}\r\n", &long[..60_000]).into_bytes());
    let random = Random(SplitMix64::new(7));
    for _ in 0..400 {
        let parts = [
            "*1\r\n",
            "*2\r\n",
            "$4\r\n",
            "PING",
            "\r\n",
            "$1\r\n",
            "ECHO",
            "a",
            "\n",
            "\r",
            "*",
            "$",
            " ",
            "\"",
            "'",
            "\\x4",
            "-1",
            "3",
            "*0\r\n",
            "GET a\r\n",
            "PING\r\n",
            "*1\r\n$4\r\nPING\r\n",
            "\u{7f}",
            "\\",
        ];
        streams.push((0..random.below(12)).map(|_| random.pick(&parts)).collect::<String>().into());
    }
    let mut differences = String::new();
    for stream in streams {
        let answer = |mut client: Client| {
            client.try_send(&stream);
            client.finish()
        };
        let (ours, real) = (answer(ours.connect()), answer(real.connect()));
        if ours != real {
            let shown = stream[..stream.len().min(200)].escape_ascii();
            let (ours, real) = (ours.escape_ascii(), real.escape_ascii());
            differences.extend([format!("{shown}\n  ours: {ours}\n  real: {real}\n")]);
        }
    }
    assert!(differences.is_empty(), "{differences}");
}
