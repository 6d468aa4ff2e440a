//! Who has streams open, how many, and how they are ended.

use std::net::SocketAddr;

use super::*;
use crate::http::state::StreamsPerIp;

async fn open_from(hub: &StreamHub, client: &str, query: &str) -> ApiResult<Response> {
    let client: SocketAddr = client.parse().unwrap();
    let headers = HeaderMap::new();
    let query = Some(query);
    let ask = Ask { topic: Some("t"), query, body: None, headers: &headers, client: Some(client) };
    hub.open(ask).await
}

#[tokio::test]
async fn an_address_has_so_many_streams() {
    let world = World::open().await;
    world.create("t", 1).await;
    for (limit, client, most) in [
        (StreamsPerIp::Remote(2), "192.0.2.1:1", 2),
        (StreamsPerIp::Remote(2), "[::ffff:192.0.2.1]:1", 2),
        (StreamsPerIp::Remote(2), "127.0.0.1:1", 5),
        (StreamsPerIp::All(2), "127.0.0.1:1", 2),
        (StreamsPerIp::All(0), "192.0.2.1:1", 5),
    ] {
        let options = StreamOptions { streams_per_ip: limit, ..StreamOptions::default() };
        let hub = world.hub_with(options);
        let mut open = Vec::new();
        for _ in 0..5 {
            match open_from(&hub, client, "").await {
                Ok(response) => open.push(response),
                Err(error) => assert_eq!(error.code, 429),
            }
        }
        assert_eq!(open.len(), most, "{limit:?}");
        assert!(
            open_from(&hub, "192.0.2.9:1", "").await.is_ok(),
            "others have places of their own"
        );
        open.clear();
        assert!(open_from(&hub, client, "").await.is_ok(), "places come back");
    }
}

#[tokio::test]
async fn a_refusal_may_be_soft() {
    let world = World::open().await;
    world.create("t", 1).await;
    let hub = world.hub_with(StreamOptions { streams_max: 0, ..StreamOptions::default() });
    let mut client = Client::open(&hub, "t", "soft_errors=1").await;
    assert_eq!(client.response.status(), 200);
    let events = client.rest().await;
    assert!(events[0].data.contains(r#""status":429"#), "{events:?}");
    assert!(events[0].data.ends_with(r#""retriable":true}"#), "{events:?}");
    assert!(parse(&client.bytes).1.is_some());
    // What will not pass by itself stays a status.
    let hub = world.hub();
    let refused = Client::try_open(&hub, "none", "soft_errors=1", None).await.err().unwrap();
    assert_eq!(refused.code, 40401);
}

#[tokio::test]
async fn an_administrator_ends_a_stream() {
    let world = World::open().await;
    world.create("t", 1).await;
    let hub = world.hub();
    let mut client = Client::open(&hub, "t", "").await;
    client.until("caught-up").await;
    assert!(client.is_idle().await);
    let id = client.header("stream-id").to_owned();
    world.produce("t", 0, &["1"]);
    client.records(1).await;
    let progress = hub.0.open.find(&id).unwrap().progress();
    assert_eq!((progress.spots[0].next, progress.records), (1, 1));
    assert_eq!(progress.bytes, client.bytes.len() as u64);
    assert_eq!(hub.0.open.list("", 10).len(), 1);
    assert!(hub.0.open.list(&id, 10).is_empty());

    let ending = tokio::join!(client.rest(), async {
        assert!(hub.0.open.condemn(&id));
    });
    let [.., fault, end] = ending.0.as_slice() else { panic!("{:?}", ending.0) };
    assert!(fault.data.contains("closed by administrator"), "{fault:?}");
    assert_eq!(Client::resume(&hub, "t", "", &end.id).await.response.status(), 204);
    assert_eq!(world.closed("fault"), 1);
    drop(client);
    assert!(!hub.0.open.condemn(&id));
}
