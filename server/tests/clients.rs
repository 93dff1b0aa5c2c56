//! The clients that people have work unmodified, against the leader and against a follower.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::process::Command;

use common::{PATIENCE, finish, has, has_redis_cli, host_port, said, script, three_nodes};

/// Addresses of the leader and of a follower.
async fn seats(cluster: &server::cluster::Cluster) -> [(&'static str, String); 2] {
    let leader = cluster.leader().await.expect("a ready cluster has a leader");
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    [("leader", cluster.resp(leader).to_owned()), ("follower", cluster.resp(follower).to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_cli_works_against_any_node() {
    if !has_redis_cli() {
        return;
    }
    let cluster = three_nodes().await;
    for (seat, address) in seats(&cluster).await {
        let (host, port) = host_port(&address);
        let cli = |line: &str| {
            let mut command = Command::new("redis-cli");
            command.args(["-h", &host, "-p", &port]).args(line.split(' '));
            let output = finish(&mut command);
            assert!(output.status.success(), "{seat}: {line}: {}", said(&output));
            String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
        };
        for (line, expected) in [
            ("PING", "PONG"),
            ("FLUSHALL", "OK"),
            ("SET greeting hello", "OK"),
            ("GET greeting", "hello"),
            ("GET nothing", ""),
            ("SET greeting again NX", ""),
            ("APPEND greeting -world", "11"),
            ("STRLEN greeting", "11"),
            ("GETRANGE greeting 0 4", "hello"),
            ("INCR counter", "1"),
            ("INCRBY counter 41", "42"),
            ("INCRBYFLOAT price 10.5", "10.5"),
            ("MSET a 1 b 2 c 3", "OK"),
            ("MGET a b c d", "1\n2\n3"),
            ("EXISTS a b nothing", "2"),
            ("TYPE a", "string"),
            ("EXPIRE a 1000", "1"),
            ("PERSIST a", "1"),
            ("TTL a", "-1"),
            ("RENAME a z", "OK"),
            ("DEL b z", "2"),
            ("DBSIZE", "4"),
            ("SELECT 0", "OK"),
            ("ECHO echo", "echo"),
            ("-3 GET greeting", "hello-world"),
        ] {
            assert_eq!(cli(line), expected, "{seat}: {line}");
        }
        let unknown = cli("NONSENSE a");
        assert!(unknown.contains("unknown command"), "{seat}: {unknown}");
        let mut keys: Vec<String> = cli("--scan").lines().map(str::to_owned).collect();
        keys.sort();
        assert_eq!(keys, ["c", "counter", "greeting", "price"], "{seat}");
        assert!(cli("INFO").contains("role:"), "{seat}");
        assert!(!cli("ROLE").is_empty(), "{seat}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_py_works_against_any_node() {
    if !has("redis-py", Command::new("python3").args(["-c", "import redis"])) {
        return;
    }
    let cluster = three_nodes().await;
    for (seat, address) in seats(&cluster).await {
        let (host, port) = host_port(&address);
        for protocol in ["2", "3"] {
            let mut command = Command::new("python3");
            command.arg(script("clients.py")).args([&host, &port, protocol]);
            let output = finish(&mut command);
            assert!(output.status.success(), "{seat}, RESP{protocol}: {}", said(&output));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_rs_works_against_any_node() {
    let cluster = three_nodes().await;
    for (seat, address) in seats(&cluster).await {
        for protocol in ["", "?protocol=resp3"] {
            let client = redis::Client::open(format!("redis://{address}/{protocol}")).unwrap();
            let connected = client.get_multiplexed_async_connection().await;
            let mut connection = connected.unwrap_or_else(|e| panic!("{seat}{protocol}: {e}"));
            let () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
            let (first, second, many): ((), i64, Vec<Option<String>>) = redis::pipe()
                .cmd("SET")
                .arg("key")
                .arg("wert ü \r\n")
                .cmd("INCR")
                .arg("count")
                .cmd("MGET")
                .arg(&["key", "nothing"])
                .query_async(&mut connection)
                .await
                .unwrap_or_else(|e| panic!("{seat}{protocol}: {e}"));
            let () = first;
            assert_eq!((second, many), (1, vec![Some("wert ü \r\n".to_owned()), None]), "{seat}");
            let wrong: redis::RedisResult<i64> =
                redis::cmd("INCR").arg("key").query_async(&mut connection).await;
            let error = wrong.unwrap_err().to_string();
            assert!(error.contains("not an integer"), "{seat}: {error}");
            let size: i64 = redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap();
            assert_eq!(size, 2, "{seat}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_benchmark_works_against_any_node() {
    if !has("redis-benchmark", Command::new("redis-benchmark").arg("--version")) {
        return;
    }
    let cluster = three_nodes().await;
    for (seat, address) in seats(&cluster).await {
        let (host, port) = host_port(&address);
        let mut command = Command::new("redis-benchmark");
        command.args(["-h", &host, "-p", &port, "-t", "ping,set,get,incr,mset"]);
        command.args(["-n", "2000", "-c", "20", "-P", "4", "--csv"]);
        let output = finish(&mut command);
        assert!(output.status.success(), "{seat}: {}", said(&output));
        let text = String::from_utf8_lossy(&output.stdout);
        for test in ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"] {
            assert!(text.contains(&format!("\"{test}\",")), "{seat}: no {test} in {text}");
        }
        let client = cluster.connect(1, PATIENCE).await;
        let count = client.unwrap().line("GET counter:__rand_int__").await.unwrap();
        assert!(count.value().is_some(), "{seat}: INCR left no counter: {count}");
    }
}
