//! What flows through streams: bytes, sharing, bounds of memory.

use super::*;

#[tokio::test]
async fn the_bytes_of_a_stream() {
    let world = World::open().await;
    world.create("t", 1).await;
    let mut builder = BatchBuilder::new();
    let headers: [(&[u8], Option<&[u8]>); 2] = [(b"h\n", Some(b"\r\n\0")), (b"h\n", None)];
    builder.push(NOW, Some(b"k\r\nid: 1"), Some(b"v\r\ndata: x\0"), headers.into_iter());
    builder.push(NOW + 1, Some(b"k"), None, std::iter::empty());
    world.append("t", 0, builder.finish());
    let hub = world.hub();
    let mut client = Client::open(&hub, "t", "from=earliest&until=end").await;
    for (name, value) in [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-cache, no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("vary", "accept, origin"),
        ("stream-resume", "fresh"),
    ] {
        assert_eq!(client.header(name), value);
    }
    assert!(client.response.headers().get("content-length").is_none());
    let stream = client.header("stream-id").to_owned();
    let first = client.header("stream-cursor").to_owned();
    let events = client.rest().await;
    let text = String::from_utf8(client.bytes.clone()).unwrap();
    let (second, third, last) = (&events[1].id, &events[2].id, &events[3].id);
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "retry: 2000\nevent: ready\nid: {first}\n\
         data: {{\"stream\":\"{stream}\",\"resume\":\"fresh\",\"positions\":[{{\"topic\":\"t\",\
         \"partition\":0,\"offset\":0}}],\"server\":\"hydrant/{version}\"}}\n\n\
         id: {second}\n\
         data: {{\"topic\":\"t\",\"partition\":0,\"offset\":0,\"timestamp\":1790000000000,\
         \"timestamp_type\":\"create\",\"key\":\"k\\r\\nid: 1\",\
         \"headers\":[[\"h\\n\",\"\\r\\n\\u0000\"],[\"h\\n\",null]],\
         \"value\":\"v\\r\\ndata: x\\u0000\"}}\n\n\
         id: {third}\n\
         data: {{\"topic\":\"t\",\"partition\":0,\"offset\":1,\"timestamp\":1790000000001,\
         \"timestamp_type\":\"create\",\"key\":\"k\",\"headers\":[],\
         \"value\":null,\"tombstone\":true}}\n\n\
         event: end\nid: {last}\ndata: {{\"reason\":\"until\"}}\n\n"
    );
    assert_eq!(text, expected);
    assert_eq!(world.metrics.stream_records.get(), 2);
    assert_eq!(world.metrics.stream_bytes.get(), text.len() as u64);

    let mut client = Client::open(&hub, "t", "from=earliest&until=end&data=value").await;
    let data: Vec<_> = client.rest().await.into_iter().map(|event| event.data).collect();
    assert_eq!(data[1..3], ["v\ndata: x\0".to_owned(), "null".to_owned()]);
}

#[tokio::test]
async fn records_come_as_they_are_appended() {
    for partitions in [1, 3] {
        let world = World::open().await;
        world.create("t", partitions).await;
        let hub = world.hub();
        let mut client = Client::open(&hub, "t", "").await;
        client.until("caught-up").await;
        for round in 1..=3 {
            assert!(client.is_idle().await);
            for partition in 0..partitions {
                world.produce("t", partition, &["1", "2"]);
            }
            let count = round * 2 * usize::try_from(partitions).unwrap();
            assert_eq!(client.records(count).await.len(), count);
        }
        assert_eq!(client.named("caught-up").len(), 1);
    }
}

#[tokio::test]
async fn a_thousand_streams_read_and_encode_once() {
    let world = World::open().await;
    world.create("t", 1).await;
    let hub = world.hub();
    let mut clients = Vec::new();
    for _ in 0..1000 {
        let mut client = Client::open(&hub, "t", "").await;
        client.until("caught-up").await;
        assert!(client.is_idle().await);
        clients.push(client);
    }
    for round in 1..=3 {
        world.produce("t", 0, &["1", "2"]);
        let mut pieces = Vec::new();
        for client in &mut clients {
            pieces.push(client.frame().await.unwrap());
            assert!(client.is_idle().await);
        }
        assert_eq!(world.reads(), round);
        // Not only read once: all of them send the very same bytes.
        assert!(pieces.iter().all(|piece| piece.as_ptr() == pieces[0].as_ptr()));
    }
    assert_eq!(places(&clients[999].events()).len(), 6);
    let own_ids = Client::open(&hub, "t", "from=earliest&limit=5").await.rest().await;
    assert_eq!((places(&own_ids).len(), world.reads()), (5, 3));
    assert!(hub.0.tails.bytes() > 0);
    drop(clients);
    assert_eq!(hub.0.tails.bytes(), 0);
}

fn gzip(batch: &[u8]) -> Bytes {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&batch[61..]).unwrap();
    let mut out = batch[..61].to_vec();
    out.extend(encoder.finish().unwrap());
    let length = i32::try_from(out.len() - 12).unwrap();
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[22] |= 1;
    let crc = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.into()
}

#[tokio::test]
async fn compressed_batches_are_decoded_once_for_all() {
    let world = World::open().await;
    world.create("t", 1).await;
    let hub = world.hub();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::open(&hub, "t", "").await;
        client.until("caught-up").await;
        assert!(client.is_idle().await);
        clients.push(client);
    }
    let mut builder = BatchBuilder::new();
    let value = "x".repeat(1000);
    for _ in 0..300 {
        builder.push(NOW, None, Some(value.as_bytes()), std::iter::empty());
    }
    world.append("t", 0, gzip(&builder.finish()));
    let mut reading: Vec<_> = clients.iter_mut().map(|client| client.records(300)).collect();
    let done = futures_util::future::join_all(reading.drain(..)).await;
    let expected: Vec<_> = (0..300).map(|offset| (0, offset)).collect();
    assert!(done.iter().all(|events| places(events) == expected));
    // One read; what one chunk did not take was kept decoded for the next.
    assert_eq!(world.reads(), 1);
}

#[tokio::test]
async fn a_slow_reader_holds_one_frame() {
    let world = World::open().await;
    world.create("t", 2).await;
    let value = format!("\"{}\"", "x".repeat(2000));
    let batch = vec![value.as_str(); 100];
    for _ in 0..10 {
        world.produce("t", 0, &batch);
        world.produce("t", 1, &batch);
    }
    let hub = world.hub();
    let mut client = Client::open(&hub, "t", "from=earliest&until=end").await;
    client.frame().await.unwrap();
    assert_eq!(world.reads(), 0, "nothing is read before it is asked for");
    let mut reads = 0;
    while let Some(frame) = client.frame().await {
        assert!(frame.len() <= super::super::frame::FRAME_BYTES_MAX);
        let more = world.reads() - reads;
        assert!(more <= 5, "{more} reads for one frame");
        reads = world.reads();
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.reads(), reads, "nothing is read ahead");
    }
    let seen = places(&client.events());
    assert_eq!(seen.len(), 2000);
    // Partitions take turns: neither waits for the other to end.
    let half = &seen[..1000];
    assert!(half.iter().filter(|(partition, _)| *partition == 1).count() > 300);
}

#[tokio::test]
async fn records_larger_than_a_frame_are_sent_in_pieces() {
    let world = World::open().await;
    world.create("t", 2).await;
    let large = format!("\"{}\"", "y".repeat(700_000));
    for partition in [0, 1] {
        world.produce("t", partition, &["1"]);
        world.produce("t", partition, &[&large]);
        world.produce("t", partition, &["2"]);
    }
    let hub = world.hub();
    for query in
        ["partitions=0", "partitions=0&limit=3", "partitions=0&ids=flush", "partitions=0,1"]
    {
        let query = format!("from=earliest&until=end&{query}");
        let mut client = Client::open(&hub, "t", &query).await;
        while let Some(frame) = client.frame().await {
            assert!(frame.len() <= super::super::frame::FRAME_BYTES_MAX);
        }
        let mut seen = values(&client.events());
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 3, "{query}");
        assert_eq!(seen[0].len(), large.len());
    }
}

#[tokio::test]
async fn a_flush_has_one_id_at_its_end() {
    let world = World::open().await;
    world.create("t", 9).await;
    for partition in 0..9 {
        world.produce("t", partition, &["1", "2"]);
    }
    let hub = world.hub();
    let mut client = Client::open(&hub, "t", "from=earliest").await;
    client.frame().await.unwrap();
    let frame = String::from_utf8(client.frame().await.unwrap().to_vec()).unwrap();
    assert_eq!(frame.matches("data: ").count(), 18);
    assert_eq!(frame.matches("id: ").count(), 1);
    let last = frame.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("id: 1."), "{last}");
    let id = client.named("message").pop().unwrap().id;
    let mut client = Client::resume(&hub, "t", "until=end", &id).await;
    assert_eq!(places(&client.rest().await), []);
}

#[tokio::test]
async fn a_damaged_batch_is_never_served() {
    let world = World::open().await;
    world.create("t", 1).await;
    for value in ["1", "2", "3"] {
        world.produce("t", 0, &[value]);
    }
    let hub = world.hub();
    let mut client = Client::open(&hub, "t", "from=earliest").await;
    assert_eq!(client.records(3).await.len(), 3);
    *world.spy.damage.lock() = Some(3);
    world.produce("t", 0, &["4"]);
    let events = client.rest().await;
    assert_eq!(places(&events).len(), 3);
    let [.., fault, end] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((fault.name.as_str(), end.data.as_str()), ("fault", r#"{"reason":"fault"}"#));
    assert!(fault.data.contains("\"retriable\":false") && fault.data.contains("crc"), "{fault:?}");
    assert_eq!(world.closed("fault"), 1);
    // An EventSource comes back with this id, and must not meet the same batch for ever.
    assert_eq!(Client::resume(&hub, "t", "", &end.id).await.response.status(), 204);
}
