//! The gate of queries: so many at once, so many that wait, and an end for those whose client has left.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use trefoil_api::gate::as_client;
use trefoil_api::{ApiError, ErrorKind, run_query};
use trefoil_model::QueryBudget;

use crate::support::TestServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_wait_their_turn_and_are_canceled() {
    let limits = "  limits: {query_concurrency: 1, query_queue_max: 1, query_queue_wait: 10s}\n";
    let server = TestServer::start(limits).await;
    let (entered, has_entered) = mpsc::channel();
    let (ended, has_ended) = mpsc::channel();
    // Runs until it is canceled.
    let endless = run_query(&server.state, None, move |context| {
        entered.send(()).expect("the test waits");
        let error = loop {
            if let Err(error) = context.check() {
                break error;
            }
            std::thread::yield_now();
        };
        ended.send(error.to_string()).expect("the test waits");
        Err::<(), _>(ApiError::from(error))
    });
    let mut endless = Box::pin(endless);
    assert!(futures::poll!(endless.as_mut()).is_pending());
    has_entered.recv_timeout(Duration::from_secs(10)).expect("the first query runs");
    let mut second = Box::pin(run_query(&server.state, None, |_| Ok(2)));
    assert!(futures::poll!(second.as_mut()).is_pending());
    let third = run_query(&server.state, None, |_| Ok(3)).await.expect_err("the queue is full");
    assert_eq!(third.kind, ErrorKind::Unavailable);
    assert!(third.message.contains("query_queue_max") && third.retry_after.is_some(), "{third:?}");
    drop(endless);
    assert_eq!(second.await, Ok(2));
    assert_eq!(has_ended.recv_timeout(Duration::from_secs(10)).expect("it ended"), "query was canceled");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_and_panics_become_errors() {
    let server = TestServer::start("").await;
    let slow = run_query(&server.state, Some(Duration::from_millis(20)), |context| {
        loop {
            context.check()?;
            std::thread::yield_now();
        }
        #[expect(unreachable_code, reason = "the type of the result")]
        Ok(())
    });
    let error = slow.await.expect_err("it has a deadline");
    assert_eq!(error.kind, ErrorKind::Timeout);
    assert!(error.message.contains("query_timeout"), "{error}");
    let broken = run_query(&server.state, None, |_| -> Result<(), ApiError> { panic!("a bug") }).await;
    assert_eq!(broken.expect_err("it panics").kind, ErrorKind::Internal);
    assert_eq!(run_query(&server.state, None, |_| Ok(1)).await, Ok(1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_take_turns() {
    let server = TestServer::start("  limits: {query_concurrency: 1, query_queue_max: 10}\n").await;
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let order = Arc::new(Mutex::new(Vec::new()));
    let first = as_client(
        "heavy".into(),
        run_query(&server.state, None, move |_| {
            held.lock().recv().ok();
            Ok(())
        }),
    );
    let mut first = Box::pin(first);
    assert!(futures::poll!(first.as_mut()).is_pending());
    let mut waiting = Vec::new();
    for client in ["heavy", "heavy", "heavy", "light", "light"] {
        let order = Arc::clone(&order);
        let note = move |_: &_| {
            order.lock().push(client);
            Ok(())
        };
        let mut query = Box::pin(as_client(client.into(), run_query(&server.state, None, note)));
        assert!(futures::poll!(query.as_mut()).is_pending());
        waiting.push(query);
    }
    release.send(()).expect("the first query waits");
    assert_eq!(first.await, Ok(()));
    assert!(futures::future::join_all(waiting).await.iter().all(Result::is_ok));
    // Not the order in which they came: who sends one query at a time does not wait for all of another's.
    assert_eq!(*order.lock(), ["light", "heavy", "light", "heavy", "heavy"]);
    server.stop().await;
}
