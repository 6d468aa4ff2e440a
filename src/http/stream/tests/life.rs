//! How streams live and end.

use super::*;

#[tokio::test]
async fn an_idle_stream_pings_and_the_ping_has_a_cursor() {
    let world = World::open().await;
    world.create("t", 2).await;
    let heartbeat = Duration::from_millis(2);
    let hub = world.hub_with(StreamOptions { heartbeat, ..StreamOptions::default() });
    let mut client = Client::open(&hub, "t", "").await;
    let ping = client.until("ping").await;
    let expected = format!("{{\"ts\":{NOW},\"lag\":0,\"filtered\":0,\"filter_errors\":0}}");
    assert_eq!(ping.data, expected);
    assert_eq!(ping.id, client.header("stream-cursor"));
}

#[tokio::test]
async fn an_old_stream_ends_with_a_pause_even_while_it_flows() {
    let world = World::open().await;
    world.create("t", 1).await;
    let age_max = Duration::from_millis(20);
    let hub = world.hub_with(StreamOptions { age_max, ..StreamOptions::default() });
    let mut idle = Client::open(&hub, "t", "").await;
    let mut busy = Client::open(&hub, "t", "").await;
    loop {
        world.produce("t", 0, &["1"]);
        if busy.frame().await.is_none() {
            break;
        }
    }
    idle.rest().await;
    for client in [idle, busy] {
        let (_, retry) = parse(&client.bytes);
        assert!((250..=3000).contains(&retry.unwrap()), "{retry:?}");
        assert!(client.bytes.ends_with(b"\n\n"));
        assert_eq!(client.named("end").len(), 0);
    }
    assert_eq!(world.closed("age"), 2);
}

#[tokio::test]
async fn shutdown_ends_every_stream_with_a_pause() {
    let world = World::open().await;
    world.create("t", 1).await;
    let hub = world.hub();
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = Client::open(&hub, "t", "").await;
        client.until("caught-up").await;
        clients.push(client);
    }
    world.shutdown.stop();
    for client in &mut clients {
        client.rest().await;
        assert!((250..=3000).contains(&parse(&client.bytes).1.unwrap()));
    }
    assert_eq!(world.closed("shutdown"), 5);
    assert_eq!(world.metrics.streams_active.get(), 5, "bodies are still there");
    drop(clients);
    assert_eq!(world.metrics.streams_active.get(), 0);
}

#[tokio::test]
async fn a_deleted_topic_ends_its_streams() {
    let world = World::open().await;
    world.create("t", 2).await;
    world.produce("t", 0, &["1"]);
    let heartbeat = Duration::from_millis(2);
    let hub = world.hub_with(StreamOptions { heartbeat, ..StreamOptions::default() });
    let mut idle = Client::open(&hub, "t", "from=earliest").await;
    idle.records(1).await;
    idle.until("caught-up").await;
    let mut behind = Client::open(&hub, "t", "from=earliest&data=value").await;
    world.engine.topics.delete("t").await.unwrap();
    // A new topic of the name must not be taken for the old one.
    world.create("t", 2).await;
    world.produce("t", 0, &["\"new\"", "\"newer\""]);
    world.produce("t", 1, &["\"new\""]);
    for client in [&mut idle, &mut behind] {
        let events = client.rest().await;
        let text = String::from_utf8_lossy(&client.bytes);
        assert!(!text.contains("new"), "{text}");
        let [.., gap, end] = events.as_slice() else { panic!("{events:?}") };
        assert!(gap.data.ends_with("\"resumed\":null,\"reason\":\"deleted\"}"), "{gap:?}");
        assert_eq!(end.data, "{\"reason\":\"deleted\"}");
        assert_eq!(Client::resume(&hub, "t", "", &end.id).await.response.status(), 204);
    }
    assert_eq!(world.closed("deleted"), 2);
}
