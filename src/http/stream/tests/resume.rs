//! Where streams begin and continue.

use super::*;

fn sorted(mut places: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    places.sort_unstable();
    places
}

async fn filled(partitions: i32) -> World {
    let world = World::open().await;
    world.create("t", partitions).await;
    for partition in 0..partitions {
        world.produce("t", partition, &["1", "2", "3"]);
        world.produce("t", partition, &["4"]);
        world.produce("t", partition, &["5", "6"]);
    }
    world
}

#[tokio::test]
async fn resume_at_every_record_misses_nothing_and_repeats_nothing() {
    for (partitions, ids) in [(1, "each"), (3, "each"), (1, "flush"), (3, "flush")] {
        let world = filled(partitions).await;
        let hub = world.hub();
        let query = format!("from=earliest&until=end&ids={ids}");
        let all = Client::open(&hub, "t", &query).await.rest().await;
        let every = places(&all);
        assert_eq!(every.len(), 6 * usize::try_from(partitions).unwrap());
        let records: Vec<_> = all.iter().filter(|event| event.name == "message").collect();
        for (at, record) in records.iter().enumerate() {
            let again = Client::resume(&hub, "t", &query, &record.id).await.rest().await;
            let mut seen = places(&again);
            if ids == "each" {
                seen.extend(&every[..=at]);
                assert_eq!(sorted(seen), sorted(every.clone()), "{partitions} {at}");
            } else {
                let missed = every[at + 1..].iter().any(|place| !seen.contains(place));
                assert!(!missed, "{partitions} {at}");
            }
        }
    }
}

#[tokio::test]
async fn reconnect_at_every_byte_delivers_every_record_once() {
    for partitions in [1, 2] {
        let world = filled(partitions).await;
        let hub = world.hub();
        let query = "from=earliest&until=end&ids=each";
        let mut client = Client::open(&hub, "t", query).await;
        let every = places(&client.rest().await);
        let body = std::mem::take(&mut client.bytes);
        for cut in 0..body.len() {
            let (before, _) = parse(&body[..cut]);
            let id = before.last().map_or("", |event| event.id.as_str());
            let mut seen = places(&before);
            match Client::try_open(&hub, "t", query, Some(id)).await {
                Ok(mut client) if client.response.status() == 200 => {
                    seen.extend(places(&client.rest().await));
                }
                Ok(_) => {}
                Err(error) => panic!("{error:?}"),
            }
            assert_eq!(sorted(seen), sorted(every.clone()), "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn every_start_is_resolved() {
    let world = filled(2).await;
    let hub = world.hub();
    let topic = TopicName::parse("t").unwrap();
    world.clock.advance(1000);
    let mut builder = BatchBuilder::new();
    builder.push(NOW + 500, None, Some(b"7"), std::iter::empty());
    world.append("t", 1, builder.finish());
    assert_eq!(world.engine.log.bounds(&topic, 1).unwrap().high_watermark, 7);
    for (from, first) in [
        ("latest", [6, 7]),
        ("earliest", [0, 0]),
        ("-2", [4, 5]),
        ("-100", [0, 0]),
        ("offset:0=3", [3, 7]),
        ("offset:0=6,1=1", [6, 1]),
        ("1790000000000", [0, 0]),
        ("1790000000001", [6, 6]),
        ("2026-09-21T14:13:20.5Z", [6, 6]),
    ] {
        let mut client = Client::open(&hub, "t", &format!("from={from}")).await;
        let ready: serde_json::Value =
            serde_json::from_str(&client.until("ready").await.data).unwrap();
        let offsets = [0, 1].map(|p| ready["positions"][p]["offset"].as_i64().unwrap());
        assert_eq!(offsets, first, "{from}");
        assert_eq!((client.header("stream-resume"), &ready["resume"]), ("fresh", &"fresh".into()));
    }
    let list = r#"[{"topic":"t","partition":0,"offset":4},{"topic":"u","partition":1,"offset":1},
        {"topic":"t","partition":1,"timestamp":1790000000400}]"#;
    let mut client = Client::resume(&hub, "t", "until=end", &list.replace('\n', "")).await;
    assert_eq!(client.header("stream-resume"), "exact");
    assert_eq!(sorted(places(&client.rest().await)), [(0, 4), (0, 5), (1, 6)]);
}

#[tokio::test]
async fn a_cursor_knows_every_partition_and_never_widens() {
    let world = filled(2).await;
    let hub = world.hub();
    // Nothing was delivered, but the positions are fixed already.
    let client = Client::open(&hub, "t", "from=latest").await;
    let cursor = client.header("stream-cursor").to_owned();
    drop(client);
    world.produce("t", 1, &["7"]);
    let mut client = Client::resume(&hub, "t", "until=end", &cursor).await;
    assert_eq!(places(&client.rest().await), [(1, 6)]);
    let mut client = Client::resume(&hub, "t", "until=end&partitions=0", &cursor).await;
    assert_eq!(places(&client.rest().await), []);
    // A partition that the cursor does not know begins at its first record.
    let client = Client::open(&hub, "t", "from=latest&partitions=0").await;
    let cursor = client.header("stream-cursor").to_owned();
    let mut client = Client::resume(&hub, "t", "until=end", &cursor).await;
    assert_eq!(places(&client.rest().await).len(), 7);
}

#[tokio::test]
async fn a_bound_ends_the_stream_for_good() {
    let world = filled(1).await;
    let hub = world.hub();
    let query = "from=earliest&limit=4";
    let mut client = Client::open(&hub, "t", query).await;
    let records = client.records(2).await;
    let mut rest = Client::resume(&hub, "t", query, &records[1].id).await;
    let events = rest.rest().await;
    assert_eq!(places(&events), [(0, 2), (0, 3)]);
    let end = events.last().unwrap();
    assert_eq!((end.name.as_str(), end.data.as_str()), ("end", r#"{"reason":"limit"}"#));
    for query in [query, "", "from=earliest"] {
        let done = Client::resume(&hub, "t", query, &end.id).await;
        assert_eq!(done.response.status(), 204);
    }
    let until = Client::open(&hub, "t", "until=end").await.rest().await;
    let names: Vec<_> = until.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["ready", "end"]);
    let gone = Client::resume(&hub, "nothing", "", &until[1].id).await;
    assert_eq!(gone.response.status(), 204);
    assert_eq!(world.closed("end"), 2);
}

#[tokio::test]
async fn until_a_moment_ends_at_the_first_newer_record() {
    let world = filled(1).await;
    let hub = world.hub();
    let until = NOW + 50;
    let mut client = Client::open(&hub, "t", &format!("from=earliest&until={until}")).await;
    client.until("caught-up").await;
    let mut builder = BatchBuilder::new();
    for at in [10, 49, 50, 60] {
        builder.push(NOW + at, None, Some(b"x"), std::iter::empty());
    }
    world.append("t", 0, builder.finish());
    let events = client.rest().await;
    assert_eq!(places(&events).len(), 8);
    assert_eq!(events.last().unwrap().data, r#"{"reason":"until"}"#);
    // Without a newer record the moment itself ends the stream.
    let until = NOW + 61;
    let mut client = Client::open(&hub, "t", &format!("from=latest&until={until}")).await;
    assert_eq!(client.rest().await.last().unwrap().name, "end");
}

#[tokio::test]
async fn retention_makes_a_gap() {
    let world = World::with_janitor(Duration::from_millis(1)).await;
    let small = [("segment.bytes", "14"), ("retention.bytes", "1")];
    world.create_with("t", 1, &small).await;
    let hub = world.hub();
    // Behind by everything, but not reading.
    let mut slow = Client::open(&hub, "t", "from=latest").await;
    let mut failing = Client::open(&hub, "t", "from=latest&on_gap=fail").await;
    let cursor = slow.header("stream-cursor").to_owned();
    for value in ["1", "2", "3"] {
        world.produce("t", 0, &[value]);
    }
    let topic = TopicName::parse("t").unwrap();
    while world.engine.log.bounds(&topic, 0).unwrap().log_start_offset < 2 {
        tokio::task::yield_now().await;
    }
    let gap = r#"{"topic":"t","partition":0,"requested":0,"resumed":2,"reason":"retention"}"#;
    let mut client = Client::resume(&hub, "t", "", &cursor).await;
    assert_eq!(client.header("stream-resume"), "gap");
    assert_eq!(values(&client.records(1).await), ["3"]);
    assert_eq!(client.named("gap")[0].data, gap);
    assert_eq!(values(&slow.records(1).await), ["3"]);
    assert_eq!(slow.named("gap")[0].data, gap);
    assert_eq!(world.gaps("retention"), 2);

    let refused = Client::try_open(&hub, "t", "on_gap=fail", Some(&cursor)).await.err().unwrap();
    assert_eq!((refused.code, refused.message.contains("retention")), (410, true));
    let events = failing.rest().await;
    let [.., fault, _end] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(fault.name, "fault");
    assert!(fault.data.contains(r#""status":410"#));
    assert_eq!(world.closed("fault"), 1);
}

#[tokio::test]
async fn a_new_topic_of_the_same_name_makes_a_gap() {
    let world = filled(1).await;
    let hub = world.hub();
    let cursor = Client::open(&hub, "t", "from=-1").await.header("stream-cursor").to_owned();
    world.engine.topics.delete("t").await.unwrap();
    world.create("t", 1).await;
    world.produce("t", 0, &["\"new\""]);
    let mut client = Client::resume(&hub, "t", "until=end", &cursor).await;
    assert_eq!(client.header("stream-resume"), "gap");
    let events = client.rest().await;
    assert_eq!(values(&events), ["\"new\""]);
    let gap = r#"{"topic":"t","partition":0,"requested":5,"resumed":0,"reason":"recreated"}"#;
    assert_eq!(client.named("gap")[0].data, gap);
    let mut client = Client::resume(&hub, "t", "from=latest&until=end", &cursor).await;
    assert_eq!(places(&client.rest().await), []);
}

#[tokio::test]
async fn a_position_beyond_the_end_makes_a_gap() {
    let world = filled(1).await;
    let hub = world.hub();
    let mut client = Client::open(&hub, "t", "from=offset:0=99").await;
    client.until("caught-up").await;
    let gap = r#"{"topic":"t","partition":0,"requested":99,"resumed":6,"reason":"truncated"}"#;
    assert_eq!(client.named("gap")[0].data, gap);
    world.produce("t", 0, &["7"]);
    assert_eq!(values(&client.records(1).await), ["7"]);
}

#[tokio::test]
async fn refusals_come_before_the_first_byte() {
    let world = filled(1).await;
    let hub = world.hub_with(StreamOptions { streams_max: 1, ..StreamOptions::default() });
    let refuse = async |topic: &str, query: &str| {
        let refused = Client::try_open(&hub, topic, query, None).await.err().unwrap();
        (refused.status.as_u16(), refused.code)
    };
    assert_eq!(refuse("none", "").await, (404, 40401));
    assert_eq!(refuse("t", "partitions=0,1").await, (404, 40402));
    assert_eq!(refuse("t", "from=offset:7=1").await, (404, 40402));
    assert_eq!(refuse("t", "last_event_id=1.AAAA").await, (400, 400));
    let open = Client::open(&hub, "t", "").await;
    assert_eq!(refuse("t", "").await, (429, 429));
    drop(open);
    assert!(Client::try_open(&hub, "t", "", None).await.is_ok());
    assert_eq!((world.closed("client"), world.metrics.streams_active.get()), (2, 0));
}

#[tokio::test]
async fn only_a_cursor_that_is_too_long_is_stored() {
    let world = World::open().await;
    world.create("wide", 600).await;
    let hub = world.hub();
    let mut all = Client::open(&hub, "wide", "").await;
    assert!(all.until("ready").await.id.starts_with("2."));
    let some: Vec<_> = (0..300).map(|p: i32| p.to_string()).collect();
    let query = format!("partitions={}", some.join(","));
    let mut some = Client::open(&hub, "wide", &query).await;
    assert!(some.until("ready").await.id.starts_with("1."));
}
