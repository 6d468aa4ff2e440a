//! Partitions that cannot be read for a while.

use super::*;

const HEARTBEAT: Duration = Duration::from_millis(20);

async fn world() -> (World, StreamHub) {
    let world = World::open().await;
    world.create("t", 2).await;
    world.produce("t", 0, &["1", "2"]);
    world.produce("t", 1, &["3"]);
    *world.spy.failing.lock() = Some(0);
    let options = StreamOptions { heartbeat: HEARTBEAT, ..StreamOptions::default() };
    let hub = world.hub_with(options);
    (world, hub)
}

/// Reads until the log was asked so many times more.
async fn until_reads(world: &World, client: &mut Client, more: usize) {
    let wanted = world.reads() + more;
    while world.reads() < wanted {
        client.frame().await.expect("more frames");
    }
}

#[tokio::test]
async fn a_partition_that_can_be_read_again_goes_on_where_it_was() {
    let (world, hub) = world().await;
    let mut client = Client::open(&hub, "t", "from=earliest&ids=each").await;
    let gap = client.until("gap").await;
    assert!(
        gap.data.contains("\"requested\":0,\"resumed\":null,\"reason\":\"offline\""),
        "{gap:?}"
    );
    assert_eq!(places(&client.records(1).await), [(1, 0)]);
    let ping = client.until("ping").await;
    assert!(ping.data.contains("\"lag\":2,"), "{ping:?}");
    // It is tried again and again, and the client told once.
    until_reads(&world, &mut client, 3).await;
    assert_eq!((client.named("gap").len(), world.gaps("offline")), (1, 1));
    *world.spy.failing.lock() = None;
    let records = client.records(3).await;
    assert_eq!(places(&records), [(1, 0), (0, 0), (0, 1)]);
    world.produce("t", 0, &["4"]);
    let last = client.records(4).await.pop().unwrap();
    assert_eq!(place(&last), (0, 2));
    assert_eq!(client.named("gap").len(), 1);
    assert_eq!(Client::resume(&hub, "t", "", &last.id).await.header("stream-resume"), "exact");
    // The next time is news again.
    *world.spy.failing.lock() = Some(0);
    world.produce("t", 0, &["5"]);
    while client.named("gap").len() < 2 {
        client.frame().await.expect("more frames");
    }
}

#[tokio::test]
async fn a_stream_that_is_never_silent_tries_again_too() {
    let (world, hub) = world().await;
    let mut client = Client::open(&hub, "t", "from=earliest").await;
    client.until("gap").await;
    *world.spy.failing.lock() = None;
    while !places(&client.events()).contains(&(0, 0)) {
        world.produce("t", 1, &["3"]);
        client.frame().await.expect("more frames");
    }
    assert!(client.named("ping").is_empty(), "{:?}", client.named("ping"));
}

#[tokio::test]
async fn a_bounded_stream_tries_again_until_its_end() {
    let (world, hub) = world().await;
    let until = NOW + 1000;
    let mut client = Client::open(&hub, "t", &format!("from=earliest&until={until}")).await;
    client.until("gap").await;
    *world.spy.failing.lock() = None;
    let events = client.rest().await;
    assert_eq!(places(&events).len(), 3, "{events:?}");
    assert_eq!(events.last().unwrap().data, r#"{"reason":"until"}"#);
}
