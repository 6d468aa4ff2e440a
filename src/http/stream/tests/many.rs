//! Streams of several topics, which come and go.

use std::collections::HashMap;

use tokio::sync::oneshot;

use super::*;
use crate::base::registered::use_up_budget;
use crate::http::stream::source::{Change, Source, TopicsSource};
use crate::http::stream::wanted::Wanted;

fn topics_of(event: &Event) -> Vec<(String, i64, i64)> {
    let json: serde_json::Value = serde_json::from_str(&event.data).unwrap();
    let list = json.get("positions").or_else(|| json.get("partitions")).unwrap();
    let place = |p: &serde_json::Value| {
        let topic = p["topic"].as_str().unwrap().to_owned();
        (topic, p["partition"].as_i64().unwrap(), p["offset"].as_i64().unwrap())
    };
    list.as_array().unwrap().iter().map(place).collect()
}

fn at(topic: &str, partition: i64, offset: i64) -> (String, i64, i64) {
    (topic.to_owned(), partition, offset)
}

#[tokio::test]
async fn several_topics_share_a_stream_and_a_cursor() {
    let world = World::open().await;
    for (name, partitions) in [("b", 2), ("a", 1), ("c", 1)] {
        world.create(name, partitions).await;
        world.produce(name, 0, &["1", "2"]);
    }
    let hub = world.hub();
    let query = "topics=a,b&from=earliest&until=end&ids=each";
    let mut client = Client::open(&hub, SEVERAL, query).await;
    let ready = client.until("ready").await;
    // In the order of creation, as cursors have them.
    assert_eq!(topics_of(&ready), [at("b", 0, 0), at("b", 1, 0), at("a", 0, 0)]);
    let events = client.rest().await;
    let records: Vec<_> = events.iter().filter(|event| event.name == "message").collect();
    assert_eq!(records.len(), 4);
    for (seen, record) in records.iter().enumerate() {
        let again = Client::resume(&hub, SEVERAL, query, &record.id).await.rest().await;
        assert_eq!(places(&again).len(), 3 - seen);
    }
    // A cursor never widens a request, and a topic that it does not know is read from its start.
    let mut client = Client::resume(&hub, SEVERAL, "topics=a,c&until=end", &records[3].id).await;
    assert_eq!(client.header("stream-resume"), "exact");
    assert_eq!(places(&client.rest().await), [(0, 0), (0, 1)]);
}

#[tokio::test]
async fn starts_may_name_topics() {
    let world = World::open().await;
    for name in ["a", "b"] {
        world.create(name, 2).await;
        world.produce(name, 1, &["1", "2", "3"]);
    }
    let hub = world.hub();
    for (query, expected) in [
        ("topics=a,b&from=offset:a:1=2,b:0=0", [0, 2, 0, 3]),
        ("pattern=a|b&from=earliest&offsets=b:1=1", [0, 0, 0, 1]),
        ("pattern=.&from=-1", [0, 2, 0, 2]),
    ] {
        let ready = Client::open(&hub, SEVERAL, query).await.until("ready").await;
        let offsets: Vec<_> = topics_of(&ready).into_iter().map(|(_, _, offset)| offset).collect();
        assert_eq!(offsets, expected, "{query}");
    }
    for (query, code) in [
        ("topics=a,b&from=offset:1=2", 400),
        ("topics=a,b&from=offset:c:1=2", 40401),
        ("topics=a,b&from=offset:a:7=2", 40402),
        ("topics=a,b&partitions=0", 400),
        ("topics=a,none", 40401),
        ("topics=a,__cluster_metadata", 400),
        ("", 400),
    ] {
        let refused = Client::try_open(&hub, SEVERAL, query, None).await.err().unwrap();
        assert_eq!(refused.code, code, "{query}: {}", refused.message);
    }
    let refused = Client::try_open(&hub, "a", "topics=b", None).await.err().unwrap();
    assert!(refused.message.contains("topics 'b'"), "{}", refused.message);
}

#[tokio::test]
async fn topics_that_come_to_match_join_from_their_first_record() {
    let world = World::open().await;
    let hub = world.hub();
    // Not even one topic yet.
    let mut client = Client::open(&hub, SEVERAL, "pattern=orders\\..*&from=latest").await;
    client.until("caught-up").await;
    world.create("orders.eu", 2).await;
    world.create("others", 1).await;
    world.produce("orders.eu", 0, &["1"]);
    world.produce("others", 0, &["\"other\""]);
    let assigned = client.until("assigned").await;
    assert_eq!(topics_of(&assigned), [at("orders.eu", 0, 0), at("orders.eu", 1, 0)]);
    let first = client.records(1).await.remove(0);
    assert_eq!(values(std::slice::from_ref(&first)), ["1"]);
    world.create("orders.us", 1).await;
    world.produce("orders.us", 0, &["2"]);
    let second = client.records(2).await.remove(1);
    assert_eq!(client.named("assigned").len(), 2);
    assert!(second.data.contains("\"orders.us\""), "{second:?}");
    world.produce("orders.eu", 1, &["3"]);
    let third = client.records(3).await.remove(2);
    // It is part of the cursor: nothing comes twice, and what came meanwhile does come.
    world.create("orders.asia", 1).await;
    world.produce("orders.asia", 0, &["4"]);
    let query = "pattern=orders\\..*&until=end";
    let mut client = Client::resume(&hub, SEVERAL, query, &third.id).await;
    assert_eq!(client.header("stream-resume"), "exact");
    assert_eq!(values(&client.rest().await), ["4"]);
}

#[tokio::test]
async fn deleted_topics_leave_and_the_others_go_on() {
    let world = World::open().await;
    for name in ["a", "b"] {
        world.create(name, 2).await;
        world.produce(name, 0, &["1"]);
    }
    let hub = world.hub();
    let mut named = Client::open(&hub, SEVERAL, "topics=a,b&from=earliest").await;
    let mut matched = Client::open(&hub, SEVERAL, "pattern=a|b&from=earliest").await;
    for client in [&mut named, &mut matched] {
        client.records(2).await;
        client.until("caught-up").await;
    }
    let before = named.named("caught-up")[0].id.clone();
    world.engine.topics.delete("a").await.unwrap();
    for client in [&mut named, &mut matched] {
        let gap = client.until("gap").await;
        let expected = r#""requested":1,"resumed":null,"reason":"deleted"}"#;
        assert!(gap.data.contains(r#""topic":"a","partition":0"#), "{gap:?}");
        assert!(gap.data.ends_with(expected), "{gap:?}");
        assert_eq!(client.named("gap").len(), 2, "one for each partition");
    }
    world.produce("b", 1, &["2"]);
    for client in [&mut named, &mut matched] {
        assert_eq!(values(&client.records(3).await)[2], "2");
    }
    // A new topic of the name joins as what it is: another one.
    world.create("a", 1).await;
    world.produce("a", 0, &["3"]);
    for client in [&mut named, &mut matched] {
        assert_eq!(values(&client.records(4).await)[3], "3");
        assert_eq!(topics_of(&client.named("assigned")[0]), [at("a", 0, 0)]);
    }
    // Who was away meanwhile is told that records are missing.
    let query = "topics=a,b&until=end";
    let mut away = Client::resume(&hub, SEVERAL, query, &before).await;
    assert_eq!(away.header("stream-resume"), "gap");
    assert_eq!(values(&away.rest().await).len(), 2);
    let gap = r#"{"topic":null,"partition":null,"requested":null,"resumed":null,"#;
    assert!(away.named("gap")[0].data.starts_with(gap), "{:?}", away.named("gap"));

    for name in ["a", "b"] {
        world.engine.topics.delete(name).await.unwrap();
    }
    let events = named.rest().await;
    assert_eq!(events.last().unwrap().data, r#"{"reason":"deleted"}"#);
    while matched.named("gap").len() < 5 {
        matched.frame().await.expect("the pattern's stream goes on");
    }
    world.create("a", 1).await;
    world.produce("a", 0, &["4"]);
    assert_eq!(values(&matched.records(5).await)[4], "4");
}

#[tokio::test]
async fn a_cursor_of_a_vanished_topic_goes_on_with_the_others() {
    let world = World::open().await;
    for name in ["a", "b"] {
        world.create(name, 1).await;
        world.produce(name, 0, &["1"]);
    }
    let hub = world.hub();
    let client = Client::open(&hub, SEVERAL, "topics=a,b&from=earliest").await;
    let cursor = client.header("stream-cursor").to_owned();
    world.engine.topics.delete("a").await.unwrap();
    let mut client = Client::resume(&hub, SEVERAL, "topics=a,b&until=end", &cursor).await;
    assert_eq!(values(&client.rest().await), ["1"]);
    assert!(client.named("gap")[0].data.contains(r#""topic":"a","partition":null"#));
    let query = "topics=a,b&on_gap=fail";
    let refused = Client::try_open(&hub, SEVERAL, query, Some(&cursor)).await.err().unwrap();
    assert_eq!(refused.code, 410);
    world.engine.topics.delete("b").await.unwrap();
    let refused = Client::try_open(&hub, SEVERAL, "topics=a,b", Some(&cursor)).await.err().unwrap();
    assert_eq!(refused.code, 40401);
}

#[tokio::test]
async fn a_stream_that_outgrows_its_cursor_has_it_stored() {
    let world = World::open().await;
    world.create("wide-a", 300).await;
    let hub = world.hub();
    let mut client = Client::open(&hub, SEVERAL, "pattern=wide.*").await;
    assert!(client.until("caught-up").await.id.starts_with("1."));
    world.create("wide-b", 300).await;
    let assigned = client.until("assigned").await;
    assert!(assigned.id.starts_with("2."), "{assigned:?}");
    world.produce("wide-b", 299, &["1"]);
    assert_eq!(values(&client.records(1).await), ["1"]);
    let query = "pattern=wide.*";
    let mut again = Client::try_open(&hub, SEVERAL, query, Some(&assigned.id)).await.unwrap();
    assert_eq!(values(&again.records(1).await), ["1"]);
}

#[tokio::test]
async fn a_stream_that_falls_behind_may_go_on_at_the_end() {
    let world = World::open().await;
    world.create("t", 1).await;
    let hub = world.hub();
    let mut client = Client::open(&hub, "t", "overflow=latest&max_lag=3").await;
    client.until("caught-up").await;
    world.produce("t", 0, &["1", "2", "3"]);
    assert_eq!(client.records(3).await.len(), 3);
    world.produce("t", 0, &["4", "5", "6", "7"]);
    let gap = client.until("gap").await;
    let expected = r#"{"topic":"t","partition":0,"requested":3,"resumed":7,"reason":"overflow"}"#;
    assert_eq!(gap.data, expected);
    world.produce("t", 0, &["8"]);
    assert_eq!(values(&client.records(4).await)[3], "8");
    assert_eq!(world.gaps("overflow"), 1);
    let mut failing = Client::open(&hub, "t", "from=0&overflow=latest&max_lag=3&on_gap=fail").await;
    assert!(failing.rest().await.iter().any(|event| event.name == "fault"));
}

#[tokio::test]
async fn bytes_may_be_bounded_across_connections() {
    let world = World::open().await;
    world.create("t", 2).await;
    for partition in [0, 1] {
        world.produce("t", partition, &["1", "2", "3", "4", "5", "6"]);
    }
    let hub = world.hub();
    let event = "data: 1\n\n".len();
    let query = format!("from=earliest&data=value&max_bytes={}", 3 * event + 1);
    let all = Client::open(&hub, "t", &query).await.rest().await;
    assert_eq!(all.iter().filter(|event| event.name == "message").count(), 4);
    assert_eq!(all.last().unwrap().data, r#"{"reason":"max_bytes"}"#);
    let first = all.iter().find(|event| event.name == "message").unwrap();
    let rest = Client::resume(&hub, "t", &query, &first.id).await.rest().await;
    assert_eq!(rest.iter().filter(|event| event.name == "message").count(), 3);
    let end = &rest.last().unwrap().id;
    assert_eq!(Client::resume(&hub, "t", &query, end).await.response.status(), 204);
}

#[tokio::test]
async fn isolation_is_part_of_the_cursor() {
    use crate::http::record::cursor;
    let world = World::open().await;
    world.create("t", 1).await;
    let hub = world.hub();
    for (query, isolation) in [
        ("", Isolation::ReadCommitted),
        ("isolation=read_committed", Isolation::ReadCommitted),
        ("isolation=read_uncommitted", Isolation::ReadUncommitted),
    ] {
        let text = Client::open(&hub, "t", query).await.header("stream-cursor").to_owned();
        assert_eq!(cursor::read(&text).unwrap().head.isolation, isolation, "{query}");
        let again = Client::resume(&hub, "t", "", &text).await;
        assert_eq!(again.header("stream-cursor"), text);
    }
}

#[tokio::test]
async fn topics_are_heard_of_by_a_task_that_had_no_budget_left() {
    let world = World::open().await;
    world.create("t", 1).await;
    let topics = Arc::clone(&world.engine.topics);
    let mut changes = topics.watch_changes();
    changes.borrow_and_update();
    let known = HashMap::from([(topics.find("t").unwrap().id, 1)]);
    let wanted = ["t", "u"].map(|name| TopicName::parse(name).unwrap());
    let mut source = TopicsSource::new(Wanted::Names(wanted.into()), topics, known, changes);
    let (waiting, is_waiting) = oneshot::channel();
    let (changed, change) = oneshot::channel();
    let (mut waiting, mut polls) = (Some(waiting), 0);
    // By itself: whatever else wakes its task lets it look.
    world.shutdown.spawn(async move {
        let change = std::future::poll_fn(|context| {
            polls += 1;
            if polls == 1 {
                use_up_budget(context);
            }
            let polled = source.poll_change(context);
            if polls == 2 {
                waiting.take().unwrap().send(()).unwrap();
            }
            polled
        });
        changed.send(change.await).unwrap();
    });
    is_waiting.await.unwrap();
    world.create("u", 1).await;
    let change = tokio::time::timeout(Duration::from_secs(20), change).await;
    let Ok(Ok(Change::Joined { parts, .. })) = change else { panic!("{change:?}") };
    assert_eq!(parts[0].topic.name.as_str(), "u");
}
