//! Applying an edit to the entries that are set at one place.

use std::collections::{BTreeMap, BTreeSet};

use super::config_table::Definition;
use crate::engine::configs::{AlterConfigsError, ConfigChange, ConfigEdit, ConfigOperation};

/// Entries that are set at one place: names and checked values.
pub(super) type Entries = BTreeMap<String, String>;

/// What an edit needs to know of the place.
pub(super) trait Place {
    /// Finds an entry that may be set here.
    fn find(&self, name: &str) -> Result<&'static Definition, AlterConfigsError>;

    /// The value in force where nothing is set here, to which words of lists are added.
    fn inherited(&self, definition: &'static Definition) -> String;
}

/// Gives the entries after an edit, or why it cannot be made.
pub(super) fn apply(
    place: &impl Place,
    current: &Entries,
    edit: &ConfigEdit,
) -> Result<Entries, AlterConfigsError> {
    match edit {
        ConfigEdit::Replace(entries) => {
            once_each(entries.iter().map(|(name, _)| name))?;
            let mut set = Entries::new();
            for (name, value) in entries {
                check(place.find(name)?, name, value)?;
                set.insert(name.clone(), value.clone());
            }
            Ok(set)
        }
        ConfigEdit::Change(changes) => {
            once_each(changes.iter().map(|change| &change.name))?;
            let mut set = current.clone();
            for change in changes {
                apply_one(place, &mut set, change)?;
            }
            Ok(set)
        }
    }
}

fn apply_one(
    place: &impl Place,
    set: &mut Entries,
    change: &ConfigChange,
) -> Result<(), AlterConfigsError> {
    let name = &change.name;
    let definition = place.find(name)?;
    let words = || {
        if !definition.rule.is_list() {
            return Err(AlterConfigsError::NotAList(name.clone()));
        }
        let text = set.get(name).cloned().unwrap_or_else(|| place.inherited(definition));
        Ok(split(&text).map(str::to_owned).collect::<Vec<_>>())
    };
    let value = match &change.operation {
        ConfigOperation::Delete => {
            set.remove(name);
            return Ok(());
        }
        ConfigOperation::Set(value) => value.clone(),
        ConfigOperation::Append(more) => {
            let mut words = words()?;
            for word in split(more) {
                if !words.iter().any(|known| known == word) {
                    words.push(word.to_owned());
                }
            }
            words.join(",")
        }
        ConfigOperation::Subtract(less) => {
            let mut words = words()?;
            words.retain(|known| split(less).all(|word| word != known));
            words.join(",")
        }
    };
    check(definition, name, &value)?;
    set.insert(name.clone(), value);
    Ok(())
}

fn split(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

fn once_each<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), AlterConfigsError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(AlterConfigsError::Repeated(name.clone()));
        }
    }
    Ok(())
}

fn check(definition: &Definition, name: &str, value: &str) -> Result<(), AlterConfigsError> {
    definition.rule.check(value).map_err(|reason| AlterConfigsError::InvalidValue {
        name: name.to_owned(),
        value: value.to_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::embedded::config_table;

    struct Topic;

    impl Place for Topic {
        fn find(&self, name: &str) -> Result<&'static Definition, AlterConfigsError> {
            let unknown = || AlterConfigsError::UnknownConfig(name.to_owned());
            config_table::find_topic(name).ok_or_else(unknown)
        }

        fn inherited(&self, definition: &'static Definition) -> String {
            definition.default.to_owned()
        }
    }

    fn change(name: &str, operation: ConfigOperation) -> ConfigChange {
        ConfigChange { name: name.to_owned(), operation }
    }

    fn set(name: &str, value: &str) -> ConfigChange {
        change(name, ConfigOperation::Set(value.to_owned()))
    }

    fn edited(current: &[(&str, &str)], changes: &[ConfigChange]) -> Result<String, String> {
        let current = current.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let edited = apply(&Topic, &current, &ConfigEdit::Change(changes.to_vec()));
        let text = |entries: Entries| {
            let pairs = entries.into_iter().map(|(k, v)| format!("{k}={v}"));
            pairs.collect::<Vec<_>>().join(" ")
        };
        edited.map(text).map_err(|error| error.to_string())
    }

    #[test]
    fn changes_keep_what_they_do_not_name() {
        let now = [("retention.ms", "1"), ("segment.ms", "2")];
        let changes = [set("retention.ms", "5"), change("segment.ms", ConfigOperation::Delete)];
        assert_eq!(edited(&now, &changes).unwrap(), "retention.ms=5");
        assert_eq!(edited(&now, &[]).unwrap(), "retention.ms=1 segment.ms=2");
        let unset = change("retention.bytes", ConfigOperation::Delete);
        assert_eq!(edited(&[], &[unset]).unwrap(), "");
    }

    #[test]
    fn lists_grow_and_shrink_by_words() {
        let append = |word: &str| change("cleanup.policy", ConfigOperation::Append(word.into()));
        let subtract =
            |word: &str| change("cleanup.policy", ConfigOperation::Subtract(word.into()));
        assert_eq!(edited(&[], &[append("compact")]).unwrap(), "cleanup.policy=delete,compact");
        assert_eq!(edited(&[], &[append("delete")]).unwrap(), "cleanup.policy=delete");
        let both = [("cleanup.policy", "delete,compact")];
        assert_eq!(edited(&both, &[subtract("delete")]).unwrap(), "cleanup.policy=compact");
        assert!(edited(&[], &[subtract("delete")]).unwrap_err().contains("must be a list"));
        let number = change("retention.ms", ConfigOperation::Append("1".into()));
        assert!(edited(&[], &[number]).unwrap_err().contains("not a list"));
    }

    #[test]
    fn a_bad_change_is_refused_with_its_name() {
        assert!(edited(&[], &[set("no.such", "1")]).unwrap_err().contains("'no.such'"));
        let refused = edited(&[], &[set("retention.ms", "soon")]).unwrap_err();
        assert!(refused.contains("'retention.ms' = 'soon'"), "{refused}");
        let twice = [set("retention.ms", "1"), set("retention.ms", "2")];
        assert!(edited(&[], &twice).unwrap_err().contains("more than once"));
    }

    #[test]
    fn a_replacement_is_all_that_stays() {
        let current = Entries::from([("retention.ms".to_owned(), "1".to_owned())]);
        let edit = ConfigEdit::Replace(vec![("segment.ms".to_owned(), "7".to_owned())]);
        let expected = Entries::from([("segment.ms".to_owned(), "7".to_owned())]);
        assert_eq!(apply(&Topic, &current, &edit).unwrap(), expected);
    }
}
