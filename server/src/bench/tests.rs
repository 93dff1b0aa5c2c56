//! The load against a server that is made by hand.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// What the server answers to the commands of one read: one line per `GET` and `SET`.
fn answers(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let mut answers = Vec::new();
    for word in text.split("\r\n") {
        match word {
            "GET" => answers.extend_from_slice(b"$1\r\nx\r\n"),
            "SET" => answers.extend_from_slice(b"+OK\r\n"),
            "WAIT" => answers.extend_from_slice(b":1\r\n"),
            _ => {}
        }
    }
    answers
}

/// A server that answers every command, and refuses every SET if it is told to.
async fn serve(refuse: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = vec![0; 1 << 20];
                while let Ok(length) = stream.read(&mut bytes).await {
                    if length == 0 {
                        break;
                    }
                    let mut reply = answers(&bytes[..length]);
                    if refuse {
                        let text = String::from_utf8_lossy(&reply).replace("+OK", "-NOREPLICAS no");
                        reply = text.into_bytes();
                    }
                    let _ = stream.write_all(&reply).await;
                }
            });
        }
    });
    address
}

fn load(addresses: Vec<String>, read_share: f64) -> Load {
    Load {
        addresses,
        clients: 4,
        protocol: Protocol::Redis,
        wait: None,
        pipeline: 3,
        value_size: 16,
        read_share,
        user: None,
        ack: None,
        tls: None,
        read: None,
        keys: 50,
        end: End::Requests(1000),
    }
}

#[tokio::test]
async fn every_request_is_counted_once_as_read_write_or_error() {
    let report = run(load(vec![serve(false).await], 0.5)).await.unwrap();
    assert_eq!(report.reads.count + report.writes.count, 1000);
    assert!(report.reads.count > 300 && report.writes.count > 300, "{report:?}");
    assert!(report.errors.is_empty());
    assert!(report.reads.p50_us > 0.0 && report.reads.p50_us <= report.reads.p99_us);
    assert!(report.reads.p99_us <= report.reads.max_us);
    let text = report.text();
    assert!(
        text.contains("no errors") && text.contains("reads") && text.contains("writes"),
        "{text}"
    );

    let report = run(load(vec![serve(true).await], 0.0)).await;
    let error = report.unwrap_err().to_string();
    assert!(error.contains("1000 x NOREPLICAS"), "{error}");
}

#[tokio::test]
async fn a_run_against_nobody_ends_with_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = run(load(vec![address.clone()], 0.5)).await.unwrap_err().to_string();
    assert!(error.contains("is a cluster running there") && error.contains(&address), "{error}");
    let error = run(load(vec![address], 0.0)).await.unwrap_err().to_string();
    assert!(error.contains("1000 x no connection"), "{error}");
}

#[tokio::test]
async fn a_run_by_time_ends_in_time_and_its_report_is_json() {
    let end = End::After(Duration::from_millis(200));
    let report = run(Load { end, ..load(vec![serve(false).await], 1.0) }).await.unwrap();
    assert!(report.seconds >= 0.2 && report.seconds < 5.0, "{}", report.seconds);
    assert_eq!(report.writes.count, 0);
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

#[tokio::test]
async fn writes_that_wait_count_when_enough_replicas_are_reached() {
    let waiting = |replicas, address| Load {
        wait: Some(replicas),
        end: End::Requests(100),
        ..load(vec![address], 0.5)
    };
    let report = run(waiting(1, serve(false).await)).await.unwrap();
    assert_eq!(report.reads.count + report.writes.count, 100, "{report:?}");
    assert_eq!(report.wait, Some(1));

    let load = Load { read_share: 0.0, ..waiting(2, serve(false).await) };
    let error = run(load).await.unwrap_err().to_string();
    assert!(error.contains("100 x too few replicas"), "{error}");
}
