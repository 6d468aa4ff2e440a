//! Where a request of this API points to: the cluster, the parameters of the path, and the links
//! that the answer has.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OriginalUri, RawPathParams};
use http::request::Parts;

use super::error::{V3Error, V3Result};
use crate::engine::topics::Topic;
use crate::http::state::AppState;
use crate::http::{link, media, query};

/// The prefix under which the proxy inside a broker serves this API.
const EMBEDDED_PREFIX: &str = "/kafka";

/// What a request points to. Taking it as an argument refuses unknown clusters (404/404) and
/// media types that nobody can serve (406).
#[derive(Debug, Clone)]
pub struct Scope {
    /// The one cluster there is.
    pub cluster_id: String,
    /// Scheme, authority and prefix of links.
    base: String,
    params: Vec<(String, String)>,
    query: Option<String>,
}

impl FromRequestParts<AppState> for Scope {
    type Rejection = V3Error;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> V3Result<Self> {
        let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
        let is_embedded =
            uri.path().strip_prefix(EMBEDDED_PREFIX).is_some_and(|rest| rest.starts_with("/v3/"));
        let mut base = link::base(uri, &parts.headers, &state.options);
        if is_embedded {
            base.push_str(EMBEDDED_PREFIX);
        }
        let query = uri.query().map(str::to_owned);
        let params = RawPathParams::from_request_parts(parts, state).await;
        let unreadable = |error| {
            V3Error::bad_request(format!("path '{}' cannot be read: {error}", parts.uri.path()))
        };
        let params = params.map_err(unreadable)?;
        let params = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let cluster_id = state.engine.node.cluster_id.clone();
        let scope = Self { cluster_id, base, params: params.collect(), query };
        scope.check_cluster()?;
        media::accepted(&parts.headers)?;
        Ok(scope)
    }
}

impl Scope {
    fn check_cluster(&self) -> V3Result<()> {
        let wanted = self.params.iter().find(|(name, _)| name == "cluster_id");
        match wanted {
            Some((_, id)) if *id != self.cluster_id => {
                Err(V3Error::not_found(format!("cluster '{id}' does not exist")))
            }
            _ => Ok(()),
        }
    }

    /// A parameter of the path, decoded; empty for a name that the route does not have.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        let found = self.params.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// A number in the path.
    ///
    /// # Errors
    /// 404/404 for text that is not a number: there is no such resource.
    pub fn number(&self, name: &str) -> V3Result<i32> {
        let text = self.text(name);
        text.parse().map_err(|_| V3Error::not_found(format!("{name} '{text}' is not a number")))
    }

    /// A parameter of the query, decoded.
    ///
    /// # Errors
    /// 400/400 for text that is not percent-encoded UTF-8.
    pub fn query(&self, name: &str) -> V3Result<Option<String>> {
        Ok(query::find(self.query.as_deref(), name)?)
    }

    /// The topic of the path.
    ///
    /// # Errors
    /// 404/40403.
    pub fn topic(&self, state: &AppState) -> V3Result<Arc<Topic>> {
        let name = self.text("topic_name");
        state.engine.topics.find(name).ok_or_else(|| V3Error::topic_not_found(name))
    }

    /// The topic and the partition of the path.
    ///
    /// # Errors
    /// 404/40403 and 404/40402; 404/404 for a partition that is not a number.
    pub fn partition(&self, state: &AppState) -> V3Result<(Arc<Topic>, i32)> {
        let topic = self.topic(state)?;
        let partition = self.number("partition_id")?;
        if (0..topic.partition_count).contains(&partition) {
            Ok((topic, partition))
        } else {
            Err(V3Error::partition_not_found(topic.name.as_str(), partition))
        }
    }

    /// Checks that a broker is the one there is.
    ///
    /// # Errors
    /// 404/404.
    pub fn broker(&self, state: &AppState) -> V3Result<i32> {
        let broker = self.number("broker_id")?;
        if broker == state.engine.node.id {
            Ok(broker)
        } else {
            Err(V3Error::not_found(format!("broker {broker} does not exist")))
        }
    }

    /// The URL of the list of clusters.
    #[must_use]
    pub fn clusters_url(&self) -> String {
        format!("{}/v3/clusters", self.base)
    }

    /// The URL of a path below the cluster; the cluster itself for an empty path.
    #[must_use]
    pub fn url(&self, path: &[&str]) -> String {
        let mut url = format!("{}/{}", self.clusters_url(), link::segment(&self.cluster_id));
        for segment in path {
            url.push('/');
            url.push_str(&link::segment(segment));
        }
        url
    }

    /// The Confluent resource name of a resource of the cluster; its segments follow `kafka=`.
    #[must_use]
    pub fn crn(&self, segments: &[(&str, &str)]) -> String {
        let mut crn = format!("crn:///kafka={}", link::segment(&self.cluster_id));
        for (kind, name) in segments {
            crn.push('/');
            crn.push_str(kind);
            if !name.is_empty() {
                crn.push('=');
                crn.push_str(&link::segment(name));
            }
        }
        crn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(params: &[(&str, &str)]) -> Scope {
        let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Scope {
            cluster_id: "c1".to_owned(),
            base: "http://h:1/kafka".to_owned(),
            params: params.collect(),
            query: Some("a=x%20y".to_owned()),
        }
    }

    #[test]
    fn links_and_names_are_encoded() {
        let scope = scope(&[]);
        assert_eq!(scope.url(&[]), "http://h:1/kafka/v3/clusters/c1");
        let url = scope.url(&["consumer-groups", "a/b c"]);
        assert_eq!(url, "http://h:1/kafka/v3/clusters/c1/consumer-groups/a%2Fb%20c");
        assert_eq!(scope.crn(&[]), "crn:///kafka=c1");
        let reassignment = [("topic", "t"), ("partition", "0"), ("reassignment", "")];
        assert_eq!(scope.crn(&reassignment), "crn:///kafka=c1/topic=t/partition=0/reassignment");
    }

    #[test]
    fn parameters_are_found_and_checked() {
        let scope = scope(&[("cluster_id", "c1"), ("broker_id", "x"), ("partition_id", "3")]);
        assert!(scope.check_cluster().is_ok());
        assert_eq!(scope.number("partition_id").unwrap(), 3);
        let refused = scope.number("broker_id").unwrap_err();
        assert_eq!((refused.api().status.as_u16(), refused.api().code), (404, 404));
        assert!(refused.api().message.contains("broker_id 'x'"));
        assert_eq!(scope.query("a").unwrap().as_deref(), Some("x y"));
        let other = Scope { cluster_id: "c2".to_owned(), ..scope };
        assert_eq!(other.check_cluster().unwrap_err().api().code, 404);
    }
}
