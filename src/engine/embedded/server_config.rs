//! Settings of the server: what it was started with, and what was changed at runtime over that.

use std::sync::Arc;

use parking_lot::RwLock;

use super::config_edit::{Entries, Place};
use super::config_table::{self, Definition};
use crate::engine::configs::{
    AlterConfigsError, ConfigEntry, ConfigKind, ConfigSource, ConfigSynonym, Mutability,
    ServerScope,
};

/// One setting as the server was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSetting {
    /// Kafka's name.
    pub name: &'static str,
    /// What the text means.
    pub kind: ConfigKind,
    /// Its value.
    pub value: String,
    /// The value that is built in; none when there is none that would do for every server.
    pub default: Option<String>,
}

impl ServerSetting {
    /// A setting that is the same on every server.
    #[must_use]
    pub fn fixed(name: &'static str, kind: ConfigKind, value: &impl ToString) -> Self {
        let value = value.to_string();
        Self { name, kind, default: Some(value.clone()), value }
    }

    /// A setting that somebody chose for this server.
    #[must_use]
    pub fn own(name: &'static str, kind: ConfigKind, value: &impl ToString) -> Self {
        Self { name, kind, value: value.to_string(), default: None }
    }

    /// A setting that has a default and may have been chosen otherwise.
    #[must_use]
    pub fn chosen<T: ToString>(
        name: &'static str,
        kind: ConfigKind,
        value: &T,
        default: &T,
    ) -> Self {
        Self { name, kind, value: value.to_string(), default: Some(default.to_string()) }
    }
}

/// What was set at runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layers {
    /// For all brokers.
    pub(super) cluster: Entries,
    /// For this broker: stronger.
    pub(super) broker: Entries,
}

impl Layers {
    /// The entries of a scope.
    pub(super) const fn of(&self, scope: ServerScope) -> &Entries {
        match scope {
            ServerScope::Cluster => &self.cluster,
            ServerScope::Broker => &self.broker,
        }
    }

    /// The entries of a scope, to be changed.
    pub(super) const fn of_mut(&mut self, scope: ServerScope) -> &mut Entries {
        match scope {
            ServerScope::Cluster => &mut self.cluster,
            ServerScope::Broker => &mut self.broker,
        }
    }

    /// The value set at runtime that is in force.
    pub(super) fn get(&self, server_name: &str) -> Option<&str> {
        let found = self.broker.get(server_name).or_else(|| self.cluster.get(server_name));
        found.map(String::as_str)
    }

    /// Where a setting has values at runtime, the strongest first.
    fn synonyms(&self, name: &'static str) -> impl Iterator<Item = ConfigSynonym> {
        let layers = [(&self.broker, ConfigSource::Broker), (&self.cluster, ConfigSource::Cluster)];
        layers.into_iter().filter_map(move |(entries, source)| {
            Some(ConfigSynonym { name, value: entries.get(name)?.clone(), source })
        })
    }
}

/// All settings of the server.
#[derive(Debug)]
pub(super) struct ServerConfig {
    started: Vec<ServerSetting>,
    layers: RwLock<Arc<Layers>>,
}

impl ServerConfig {
    /// Puts what the server was started with under what was changed at runtime.
    pub(super) fn new(mut started: Vec<ServerSetting>, layers: Layers) -> Self {
        for definition in config_table::SERVER {
            if started.iter().all(|setting| setting.name != definition.name) {
                let (name, kind) = (definition.name, definition.rule.kind());
                let value = definition.default.to_owned();
                started.push(ServerSetting { name, kind, default: Some(value.clone()), value });
            }
        }
        Self { started, layers: RwLock::new(Arc::new(layers)) }
    }

    /// What is set at runtime.
    pub(super) fn layers(&self) -> Arc<Layers> {
        Arc::clone(&self.layers.read())
    }

    pub(super) fn replace(&self, layers: Layers) -> Arc<Layers> {
        let layers = Arc::new(layers);
        *self.layers.write() = Arc::clone(&layers);
        layers
    }

    /// The value in force of a setting that every server has.
    fn value(&self, name: &str) -> Option<String> {
        let layers = self.layers();
        let at_runtime = layers.get(name).map(str::to_owned);
        at_runtime.or_else(|| self.started(name).map(|setting| setting.value.clone()))
    }

    fn started(&self, name: &str) -> Option<&ServerSetting> {
        self.started.iter().find(|setting| setting.name == name)
    }

    /// Partitions of a topic whose creator named no number.
    pub(super) fn num_partitions(&self) -> i32 {
        self.value(config_table::NUM_PARTITIONS).and_then(|text| text.parse().ok()).unwrap_or(1)
    }

    /// Whether topics come into being by being asked for.
    pub(super) fn auto_creates_topics(&self) -> bool {
        self.value(config_table::AUTO_CREATE).is_some_and(|text| text == "true")
    }

    /// Every setting with the value in force, by name.
    pub(super) fn describe(&self) -> Vec<ConfigEntry> {
        let layers = self.layers();
        let topic_defaults = config_table::TOPIC.iter().map(|definition| {
            describe_dynamic(
                definition,
                layers.synonyms(definition.server_name),
                default_of(definition),
            )
        });
        let started = self.started.iter().map(|setting| self.describe_started(setting, &layers));
        let mut entries: Vec<_> = topic_defaults.chain(started).collect();
        entries.sort_by_key(|entry| entry.name);
        entries
    }

    fn describe_started(&self, setting: &ServerSetting, layers: &Layers) -> ConfigEntry {
        let name = setting.name;
        let synonym = |value: &String, source| ConfigSynonym { name, value: value.clone(), source };
        let is_set = setting.default.as_ref() != Some(&setting.value);
        let start = is_set.then(|| synonym(&setting.value, ConfigSource::Start));
        let default = setting.default.as_ref().map(|v| synonym(v, ConfigSource::Default));
        let weak = start.into_iter().chain(default);
        if let Some(definition) = config_table::find_server(name) {
            return describe_dynamic(definition, layers.synonyms(name), weak);
        }
        from_synonyms(name, setting.kind, Mutability::ReadOnly, weak.collect())
    }

    /// What is set at runtime for all brokers, by name.
    pub(super) fn describe_cluster(&self) -> Vec<ConfigEntry> {
        let layers = self.layers();
        let set = layers.cluster.iter().filter_map(|(name, value)| {
            let definition = config_table::find_server(name)?;
            let (name, source) = (definition.server_name, ConfigSource::Cluster);
            let synonym = ConfigSynonym { name, value: value.clone(), source };
            Some(describe_dynamic(definition, [synonym], None))
        });
        set.collect()
    }
}

/// The synonyms of an entry of topics below the topic itself, the strongest first.
pub(super) fn topic_synonyms(
    definition: &'static Definition,
    layers: &Layers,
) -> impl Iterator<Item = ConfigSynonym> {
    layers.synonyms(definition.server_name).chain(default_of(definition))
}

fn default_of(definition: &'static Definition) -> Option<ConfigSynonym> {
    let (name, value) = (definition.server_name, definition.default.to_owned());
    Some(ConfigSynonym { name, value, source: ConfigSource::Default })
}

fn describe_dynamic(
    definition: &'static Definition,
    strong: impl IntoIterator<Item = ConfigSynonym>,
    weak: impl IntoIterator<Item = ConfigSynonym>,
) -> ConfigEntry {
    let synonyms = strong.into_iter().chain(weak).collect();
    let kind = definition.rule.kind();
    from_synonyms(definition.server_name, kind, Mutability::Dynamic, synonyms)
}

/// The entry whose places are known; the first one is in force.
pub(super) fn from_synonyms(
    name: &'static str,
    kind: ConfigKind,
    mutability: Mutability,
    synonyms: Vec<ConfigSynonym>,
) -> ConfigEntry {
    let first = synonyms.first();
    let value = first.map(|synonym| synonym.value.clone()).unwrap_or_default();
    let source = first.map_or(ConfigSource::Default, |synonym| synonym.source);
    ConfigEntry { name, value, source, kind, mutability, synonyms }
}

impl Place for ServerConfig {
    fn find(&self, name: &str) -> Result<&'static Definition, AlterConfigsError> {
        if let Some(definition) = config_table::find_server(name) {
            return Ok(definition);
        }
        Err(match self.started(name) {
            Some(_) => AlterConfigsError::ReadOnly(name.to_owned()),
            None => AlterConfigsError::UnknownConfig(name.to_owned()),
        })
    }

    fn inherited(&self, definition: &'static Definition) -> String {
        let layers = self.layers();
        layers.get(definition.server_name).unwrap_or(definition.default).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::configs::{ConfigChange, ConfigEdit, ConfigOperation};
    use crate::engine::embedded::config_edit;

    fn setting(name: &'static str, value: &str, default: Option<&str>) -> ServerSetting {
        let (value, default) = (value.to_owned(), default.map(str::to_owned));
        ServerSetting { name, kind: ConfigKind::Text, value, default }
    }

    fn config(cluster: &[(&str, &str)], broker: &[(&str, &str)]) -> ServerConfig {
        let entries = |list: &[(&str, &str)]| {
            list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let started = vec![
            setting("num.partitions", "8", Some("4")),
            setting("auto.create.topics.enable", "false", Some("false")),
            setting("broker.id", "0", None),
        ];
        ServerConfig::new(started, Layers { cluster: entries(cluster), broker: entries(broker) })
    }

    fn sources(config: &ServerConfig, name: &str) -> Vec<(String, ConfigSource)> {
        let entry = config.describe().into_iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(
            (&entry.value, entry.source),
            (&entry.synonyms[0].value, entry.synonyms[0].source)
        );
        entry.synonyms.into_iter().map(|synonym| (synonym.value, synonym.source)).collect()
    }

    #[test]
    fn the_strongest_place_counts() {
        let plain = config(&[], &[]);
        assert_eq!((plain.num_partitions(), plain.auto_creates_topics()), (8, false));
        let start =
            [("8".to_owned(), ConfigSource::Start), ("4".to_owned(), ConfigSource::Default)];
        assert_eq!(sources(&plain, "num.partitions"), start);
        let layered = config(&[("num.partitions", "2")], &[("num.partitions", "3")]);
        assert_eq!(layered.num_partitions(), 3);
        let all = sources(&layered, "num.partitions");
        let places: Vec<_> = all.iter().map(|(_, source)| *source).collect();
        let expected = [
            ConfigSource::Broker,
            ConfigSource::Cluster,
            ConfigSource::Start,
            ConfigSource::Default,
        ];
        assert_eq!(places, expected);
        assert_eq!(layered.describe_cluster()[0].value, "2");
    }

    #[test]
    fn every_name_is_listed_once_in_order() {
        let names: Vec<_> = config(&[], &[]).describe().iter().map(|entry| entry.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        assert!(names.contains(&"log.retention.ms") && names.contains(&"broker.id"));
    }

    #[test]
    fn what_is_fixed_at_the_start_is_read_only() {
        let config = config(&[], &[]);
        let set = |name: &str, value: &str| {
            let operation = ConfigOperation::Set(value.to_owned());
            let change = ConfigChange { name: name.to_owned(), operation };
            config_edit::apply(&config, &Entries::new(), &ConfigEdit::Change(vec![change]))
        };
        assert!(matches!(set("broker.id", "1"), Err(AlterConfigsError::ReadOnly(_))));
        assert!(matches!(set("no.such", "1"), Err(AlterConfigsError::UnknownConfig(_))));
        assert!(matches!(set("num.partitions", "0"), Err(AlterConfigsError::InvalidValue { .. })));
        assert!(set("log.retention.ms", "1000").is_ok());
        let entry = config.describe().into_iter().find(|entry| entry.name == "broker.id").unwrap();
        assert_eq!((entry.mutability, entry.source), (Mutability::ReadOnly, ConfigSource::Start));
    }
}
