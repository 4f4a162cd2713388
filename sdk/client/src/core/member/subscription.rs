//! What a member wants to read: topics by name, or all whose names match.

use std::sync::Arc;

use ottla_wire::Uuid;

/// A subscription.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Topics(Vec<Arc<str>>),
    Pattern(Pattern),
}

/// A topic of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) name: Arc<str>,
    pub(crate) id: Uuid,
    pub(crate) partitions: i32,
    pub(crate) internal: bool,
}

/// A regular expression that the whole name of a topic has to match.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(regex::bytes::Regex);

impl Wish {
    pub(super) fn names(&self) -> Option<Vec<Arc<str>>> {
        match self {
            Self::Topics(names) => {
                let mut names = names.clone();
                names.sort_unstable();
                names.dedup();
                Some(names)
            }
            Self::Pattern(_) => None,
        }
    }
}

impl Pattern {
    /// Reads a regular expression, or says what is wrong with it.
    pub(crate) fn new(expression: &str) -> Result<Self, String> {
        // Names of topics are ASCII: without Unicode the tables for it stay out of every client.
        let whole = format!("^(?:{expression})$");
        let regex = regex::bytes::RegexBuilder::new(&whole).unicode(false).build();
        regex.map(Self).map_err(|error| error.to_string())
    }

    /// The names that match, in order. Internal topics never do.
    pub(super) fn choose(&self, topics: &[Seen]) -> Vec<Arc<str>> {
        let chosen = topics.iter().filter(|topic| !topic.internal && self.0.is_match(topic.name.as_bytes()));
        let mut names: Vec<_> = chosen.map(|topic| Arc::clone(&topic.name)).collect();
        names.sort_unstable();
        names
    }
}
