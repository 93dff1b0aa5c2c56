//! The client against a socket that a test serves by hand.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// Accepts one connection, reads `expect` bytes, and sends `chunks` one after the other.
async fn serve(expect: usize, chunks: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = vec![0; expect];
        stream.read_exact(&mut read).await.unwrap();
        for chunk in chunks {
            stream.write_all(&chunk).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    address
}

#[test]
fn every_kind_of_reply_is_read_and_partial_ones_wait() {
    let whole = b"*6\r\n+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n";
    let expected = Reply::Several(vec![
        Reply::Status("OK".into()),
        Reply::Error("ERR no".into()),
        Reply::Number(-7),
        Reply::Value(b"a\r\n".to_vec()),
        Reply::Nothing,
        Reply::Nothing,
    ]);
    assert_eq!(parse(whole), Ok(Some((expected, whole.len()))));
    for cut in 0..whole.len() {
        assert_eq!(parse(&whole[..cut]), Ok(None), "cut at {cut}");
    }
}

#[test]
fn what_is_no_reply_is_refused() {
    let deep = "*1\r\n".repeat(40);
    for bad in ["HTTP/1.1 400\r\n", ":x\r\n", "$9x\r\n", "$1\r\nabc\r\n", "$-2\r\n", "\r\n", &deep]
    {
        assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn commands_are_sent_as_arrays_and_replies_come_back_in_order() {
    let mut sent = Vec::new();
    encode(&[b"SET", b"k", b"v"], &mut sent);
    assert_eq!(sent, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
    encode(&[b"GET", b"k"], &mut sent);
    let address =
        serve(sent.len(), vec![b"+O".to_vec(), b"K\r\n$1\r\n".to_vec(), b"v\r\n".to_vec()]);
    let mut client = Client::connect(&address.await, PATIENCE).await.unwrap();
    let mut replies = Vec::new();
    client.exchange(&sent, 2, |reply| replies.push(reply)).await.unwrap();
    assert_eq!(replies, [Reply::Status("OK".into()), Reply::Value(b"v".to_vec())]);
}

#[tokio::test]
async fn a_closed_connection_a_wrong_protocol_and_silence_are_told_apart() {
    let address = serve(1, vec![]).await;
    let mut client = Client::connect(&address, PATIENCE).await.unwrap();
    let error = client.line("PING").await.unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }) && !error.never_sent(), "{error}");

    let address = serve(1, vec![b"HTTP/1.1 400 Bad Request\r\n".to_vec()]).await;
    let mut client = Client::connect(&address, PATIENCE).await.unwrap();
    let error = client.line("PING").await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error}");

    let address = serve(usize::from(u16::MAX), vec![]).await;
    let mut client = Client::connect(&address, Duration::from_millis(20)).await.unwrap();
    let error = client.line("PING").await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Client::connect(&address, PATIENCE).await.unwrap_err();
    assert!(error.never_sent() && error.to_string().contains(&address), "{error}");
}
