//! Every page, over a socket, with a node that is not real.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;

use leader::{ChangeOptions, Changed};

use super::*;
use crate::client::http::{Answer, download, get, request};
use crate::status::{MemberReport, NodeRow};

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Fake {
    ready: Option<String>,
    refuse: Option<AdminError>,
    asked: Mutex<Vec<String>>,
}

impl Fake {
    fn outcome<T>(&self, what: String, good: T) -> Result<T, AdminError> {
        self.asked.lock().unwrap().push(what);
        self.refuse.clone().map_or(Ok(good), Err)
    }
}

impl Admin for Fake {
    fn report(&self) -> BoxFuture<'_, StatusReport> {
        let members = vec![MemberReport { id: 2, voter: true, ..MemberReport::default() }];
        let report = StatusReport {
            id: 2,
            role: "leader".into(),
            leader: Some(2),
            members,
            ..StatusReport::default()
        };
        Box::pin(async { report })
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { self.ready.clone().map_or(Ok(()), Err) })
    }

    fn cluster(&self) -> BoxFuture<'_, ClusterReport> {
        let nodes = vec![NodeRow { id: 2, error: Some("away".into()), ..NodeRow::default() }];
        Box::pin(async { ClusterReport { nodes } })
    }

    fn metrics(&self) -> BoxFuture<'_, String> {
        Box::pin(async { "tercet_up 1\n".to_owned() })
    }

    fn transfer(&self, to: Option<NodeId>) -> BoxFuture<'_, Result<NodeId, AdminError>> {
        Box::pin(async move { self.outcome(format!("transfer {to:?}"), NodeId(3)) })
    }

    fn backup(&self, level: ReadLevel) -> BoxFuture<'_, Result<Pieces, ReadError>> {
        Box::pin(async move {
            if level == ReadLevel::Strong {
                return Err(ReadError::NoLeader(PATIENCE));
            }
            let last = EngineError::Io("the disk is gone".into());
            let pieces = vec![Ok(Bytes::from_static(b"one ")), Ok(Bytes::from_static(b"two"))];
            let fails = self.ready.is_some();
            Ok(Box::new(pieces.into_iter().chain(fails.then_some(Err(last)))) as Pieces)
        })
    }

    fn check(&self, timeout: Duration) -> BoxFuture<'_, Result<CheckReport, AdminError>> {
        let report = CheckReport { differing: vec![3], ..CheckReport::default() };
        Box::pin(async move { self.outcome(format!("check {timeout:?}"), report) })
    }

    fn watch(&self, request: WatchRequest) -> Result<BoxStream<'static, String>, WatchRefused> {
        if request.prefix.as_deref() == Some("refused") {
            return Err(WatchRefused::Nobody);
        }
        let line = format!("{:?} {:?}\n", request.from, request.prefix);
        Ok(Box::pin(futures::stream::once(async { line })))
    }

    fn holds(&self) -> Vec<HoldReport> {
        vec![HoldReport { name: "mine".into(), after: "3.57".into(), ..HoldReport::default() }]
    }

    fn hold(&self, hold: Hold) -> Result<(), HoldError> {
        let after = hold.after;
        self.asked.lock().unwrap().push(format!("hold {} {}", hold.name, hold.lasts.as_secs()));
        if after.index > 1 { Ok(()) } else { Err(HoldError::Compacted { after }) }
    }

    fn release(&self, name: &str) -> bool {
        name == "mine"
    }

    fn rollbacks(&self) -> BoxFuture<'_, Result<Vec<RollbackReport>, RollbackError>> {
        let file = RollbackReport { name: "0-1-2-3".into(), ..RollbackReport::default() };
        Box::pin(async { Ok(vec![file]) })
    }

    fn rollback(&self, name: String) -> BoxFuture<'_, Result<Vec<LostReport>, RollbackError>> {
        Box::pin(async { Err(RollbackError::Unknown(name)) })
    }

    fn replay(
        &self,
        name: String,
        absent: AbsentKeys,
    ) -> BoxFuture<'_, Result<Replayed, RollbackError>> {
        self.asked.lock().unwrap().push(format!("replay {name} {absent:?}"));
        Box::pin(async { Ok(Replayed::default()) })
    }

    fn change(
        &self,
        change: Change,
        _: ChangeOptions,
    ) -> BoxFuture<'_, Result<Changed, AdminError>> {
        Box::pin(async move { self.outcome(format!("{change:?}"), Changed::default()) })
    }
}

async fn serve(stage: Stage) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router(stage)).await });
    address
}

async fn open(fake: Fake) -> (String, Arc<Fake>) {
    let (stage, fake) = (Stage::default(), Arc::new(fake));
    stage.enter(fake.clone());
    (serve(stage).await, fake)
}

async fn post(address: &str, path: &str, body: &str) -> Answer {
    request(address, "POST", path, Some(body), PATIENCE).await.unwrap()
}

fn value(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|e| panic!("{e}: {}", answer.body))
}

#[tokio::test]
async fn every_page_answers() {
    let (address, _) = open(Fake::default()).await;
    for (path, part) in [
        ("/", "<title>Tercet</title>"),
        ("/health", "\"alive\":true"),
        ("/ready", "\"ready\":true"),
        ("/status", "\"role\":\"leader\""),
        ("/cluster", "\"error\":\"away\""),
        ("/members", "\"voter\":true"),
        ("/metrics", "tercet_up 1"),
    ] {
        let answer = get(&address, path, PATIENCE).await.unwrap();
        assert_eq!(answer.code, 200, "{path}");
        assert!(answer.body.contains(part), "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn the_feed_comes_as_lines_and_holds_are_taken_and_released() {
    let (address, fake) = open(Fake::default()).await;
    let lines =
        crate::client::lines::Lines::get(&address, "/watch?from=3.57&prefix=a%20b", None, PATIENCE);
    let mut lines = lines.await.unwrap().unwrap();
    let line = lines.next().await.unwrap();
    assert_eq!(line.as_deref(), Some(r#"Some("3.57") Some("a b")"#));
    assert_eq!(lines.next().await.unwrap(), None);
    let refused = get(&address, "/watch?prefix=refused", PATIENCE).await.unwrap();
    assert_eq!(refused.code, 401, "{}", refused.body);
    assert_eq!(get(&address, "/watch?form=1", PATIENCE).await.unwrap().code, 400);
    let answer = get(&address, "/holds", PATIENCE).await.unwrap();
    assert_eq!(value(&answer)["holds"][0]["after"], "3.57");
    assert_eq!(post(&address, "/holds/mine", r#"{"after": "3.57"}"#).await.code, 200);
    assert_eq!(post(&address, "/holds/mine", r#"{"after": "3.1"}"#).await.code, 410);
    for wrong in ["{}", r#"{"after": "3"}"#, r#"{"after": "3.57", "seconds": 0}"#] {
        assert_eq!(post(&address, "/holds/mine", wrong).await.code, 400, "{wrong}");
    }
    assert_eq!(*fake.asked.lock().unwrap(), ["hold mine 3600", "hold mine 3600"]);
    let released = request(&address, "DELETE", "/holds/mine", None, PATIENCE).await.unwrap();
    assert_eq!(value(&released)["released"], true);
}

#[tokio::test]
async fn a_node_that_starts_lives_but_is_not_ready() {
    let stage = Stage::default();
    let address = serve(stage.clone()).await;
    assert_eq!(get(&address, "/health", PATIENCE).await.unwrap().code, 200);
    for path in ["/ready", "/status", "/cluster", "/members", "/metrics"] {
        let answer = get(&address, path, PATIENCE).await.unwrap();
        assert_eq!(answer.code, 503, "{path}");
        assert!(value(&answer)["error"].as_str().unwrap().contains("starting"), "{path}");
    }
    stage.enter(Arc::new(Fake::default()));
    assert_eq!(get(&address, "/ready", PATIENCE).await.unwrap().code, 200);
}

#[tokio::test]
async fn a_node_that_cannot_serve_says_why() {
    let ready = Some("no leader is known".to_owned());
    let (address, _) = open(Fake { ready, ..Fake::default() }).await;
    let answer = get(&address, "/ready", PATIENCE).await.unwrap();
    assert_eq!(answer.code, 503);
    assert_eq!(value(&answer)["error"], "no leader is known");
}

#[tokio::test]
async fn wrong_paths_and_methods_get_errors_as_json_with_a_hint() {
    let (address, fake) = open(Fake::default()).await;
    for (method, path, code, hint) in [
        ("GET", "/statsu", 404, "/status"),
        ("POST", "/status", 405, "use GET"),
        ("GET", "/transfer", 405, "use POST"),
        ("DELETE", "/members", 405, "use GET or POST"),
    ] {
        let answer = request(&address, method, path, None, PATIENCE).await.unwrap();
        assert_eq!(answer.code, code, "{method} {path}");
        assert!(value(&answer)["hint"].as_str().unwrap().contains(hint), "{}", answer.body);
    }
    for (path, body) in [
        ("/members", "{"),
        ("/members", r#"{"promote": "four"}"#),
        ("/members", r#"{"evict": 4}"#),
        ("/members", r#"{"add": {"id": 4}}"#),
        ("/transfer", r#"{"too": 2}"#),
    ] {
        let answer = post(&address, path, body).await;
        assert_eq!(answer.code, 400, "{path} {body}: {}", answer.body);
        assert!(value(&answer)["hint"].as_str().unwrap().contains("nothing was changed"));
    }
    let large = format!("{{\"to\": {}1}}", " ".repeat(100_000));
    assert_eq!(post(&address, "/transfer", &large).await.code, 413);
    assert!(fake.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn members_and_leadership_change_by_post() {
    let (address, fake) = open(Fake::default()).await;
    let add = post(&address, "/members", r#"{"add": {"id": 4, "address": "10.0.0.4:7379"}}"#).await;
    assert_eq!(add.code, 200);
    assert_eq!(value(&add)["members"][0]["id"], 2);
    post(&address, "/members", r#"{"promote": 4}"#).await;
    post(&address, "/members", r#"{"remove": 4}"#).await;
    assert_eq!(value(&post(&address, "/transfer", "").await)["leader"], 3);
    post(&address, "/transfer", r#"{"to": 2}"#).await;
    let asked = fake.asked.lock().unwrap();
    let expected = [
        r#"Add(Member { id: n4, address: "10.0.0.4:7379" })"#,
        "Promote(n4)",
        "Remove(n4)",
        "transfer None",
        "transfer Some(n2)",
    ];
    assert_eq!(*asked, expected);
}

#[tokio::test]
async fn a_refused_change_says_whether_it_was_made() {
    let this = NodeId(2);
    for (problem, code, hint) in [
        (AdminError::Refused("no".into()), 409, "nothing was changed"),
        (AdminError::NotLeader { this, leader: Some(NodeId(1)) }, 421, "to the leader"),
        (AdminError::TimedOut(PATIENCE), 504, "may still take effect"),
        (AdminError::Stopping(this), 503, "ask another node"),
    ] {
        let refuse = Some(problem.clone());
        let (address, _) = open(Fake { refuse, ..Fake::default() }).await;
        for (path, body) in [("/members", r#"{"remove": 4}"#), ("/transfer", "{}")] {
            let answer = post(&address, path, body).await;
            assert_eq!(answer.code, code, "{problem}");
            assert_eq!(value(&answer)["error"], problem.to_string());
            assert!(value(&answer)["hint"].as_str().unwrap().contains(hint), "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn rollback_files_are_listed_shown_and_replayed() {
    let (address, fake) = open(Fake::default()).await;
    let listed = get(&address, "/rollbacks", PATIENCE).await.unwrap();
    assert_eq!(value(&listed)["rollbacks"][0]["name"], "0-1-2-3");
    let unknown = get(&address, "/rollbacks/7", PATIENCE).await.unwrap();
    assert_eq!(unknown.code, 404);
    for body in ["{}", r#"{"absent": "written"}"#] {
        assert_eq!(post(&address, "/rollbacks/0-1-2-3", body).await.code, 200);
    }
    assert_eq!(post(&address, "/rollbacks/0-1-2-3", r#"{"absent": "x"}"#).await.code, 400);
    assert_eq!(*fake.asked.lock().unwrap(), ["replay 0-1-2-3 Stay", "replay 0-1-2-3 Written"]);
}

#[tokio::test]
async fn a_backup_comes_in_pieces_and_one_that_breaks_off_has_no_end() {
    async fn all(address: &str, path: &str) -> Result<Vec<u8>, String> {
        let mut coming = download(address, path, PATIENCE).await.map_err(|e| e.to_string())?;
        let mut all = Vec::new();
        while let Some(piece) = coming.next().await.map_err(|e| e.to_string())? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
    let (address, _) = open(Fake::default()).await;
    assert_eq!(all(&address, "/backup?level=eventual").await.unwrap(), b"one two");
    let refused = all(&address, "/backup").await.unwrap_err();
    assert!(
        refused.contains("no leader confirmed") && refused.contains("level=eventual"),
        "{refused}"
    );
    let wrong = get(&address, "/backup?level=best", PATIENCE).await.unwrap();
    assert_eq!(wrong.code, 400, "{}", wrong.body);
    let ready = Some("its disk fails".to_owned());
    let (address, _) = open(Fake { ready, ..Fake::default() }).await;
    if let Ok(all) = all(&address, "/backup?level=eventual").await {
        assert!(b"one two".starts_with(&all), "{all:?}");
    }
}

#[tokio::test]
async fn a_check_says_who_differs_and_takes_the_time_that_it_is_given() {
    let (address, fake) = open(Fake::default()).await;
    assert_eq!(value(&post(&address, "/check", "").await)["differing"][0], 3);
    post(&address, "/check", r#"{"seconds": 5}"#).await;
    assert_eq!(post(&address, "/check", r#"{"minutes": 5}"#).await.code, 400);
    assert_eq!(*fake.asked.lock().unwrap(), ["check 60s", "check 5s"]);
    let refuse = Some(AdminError::TimedOut(PATIENCE));
    let (address, _) = open(Fake { refuse, ..Fake::default() }).await;
    let late = post(&address, "/check", "").await;
    assert!(late.code == 504 && late.body.contains("not compared within"), "{}", late.body);
}
