use std::sync::atomic::AtomicUsize;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn phases_end_in_order() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let order = Arc::new(Mutex::new(Vec::new()));
    for phase in [Phase::Storage, Phase::Accept, Phase::Background, Phase::Ingest] {
        let order = Arc::clone(&order);
        tasks.spawn_once("phase", phase, OnError::Log, move |stop| async move {
            stop.cancelled().await;
            tokio::task::yield_now().await;
            order.lock().push(phase);
            Ok(())
        });
    }
    assert_eq!(tasks.running().len(), 4);
    let report = tasks.shutdown(DEADLINE).await;
    assert_eq!(report, ShutdownReport { finished: true, still_running: vec![] });
    assert_eq!(*order.lock(), Phase::ALL);
}

#[tokio::test]
async fn late_tasks_are_named() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    tasks.spawn_once("deaf", Phase::Ingest, OnError::Log, |_| std::future::pending::<TaskResult>());
    tasks.spawn_once("obedient", Phase::Storage, OnError::Log, |stop| async move {
        stop.cancelled().await;
        Ok(())
    });
    let report = tasks.shutdown(Duration::from_millis(20)).await;
    assert!(!report.finished);
    assert!(report.still_running.contains(&"deaf"));
    assert!(tasks.stop(Phase::Storage).is_cancelled());
}

#[tokio::test]
async fn failing_and_panicking_tasks_are_made_again() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let runs = Arc::new(AtomicUsize::new(0));
    let (done, mut finished) = watch::channel(false);
    let counter = Arc::clone(&runs);
    tasks.spawn("flaky", Phase::Background, OnError::Restart, move |_| {
        let run = counter.fetch_add(1, Ordering::SeqCst);
        assert_ne!(run, 0, "panics while it is made");
        let done = done.clone();
        async move {
            assert_ne!(run, 1, "panics while it runs");
            if run == 2 {
                return Err("third run fails".into());
            }
            done.send_replace(true);
            Ok(())
        }
    });
    finished.wait_for(|done| *done).await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 4);
    assert!(tasks.shutdown(DEADLINE).await.finished);
}

#[tokio::test]
async fn a_stop_task_brings_the_process_down() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    tasks.spawn_once("quiet", Phase::Ingest, OnError::Log, |_| async { Err("only logged".into()) });
    tasks.spawn_blocking_named("vital", Phase::Storage, OnError::Stop, |_| panic!("gone"));
    assert_eq!(tasks.failed().await, "vital");
    assert!(tasks.shutdown(DEADLINE).await.finished);
}
