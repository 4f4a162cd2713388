//! Regular expressions over topic names: what the crate `regex` and RE2 have in common, with a bound on memory and, since
//! neither goes back, on time.

use std::collections::BTreeSet;

use regex::bytes::{Regex, RegexBuilder};

use super::super::effect::Record;
use super::super::topics::Topics;
use super::super::{Context, Text};
use super::{ConsumerGroup, Resolved};

/// How long topics may keep changing before expressions are tried again.
const REFRESH_INTERVAL_MIN_MS: i64 = 10_000;

/// How deep an expression may nest.
const NESTING_MAX: u32 = 50;

/// An expression that has to match a whole name. The error says what is wrong with it.
pub(super) fn compiled(expression: &str, size_max_bytes: usize) -> Result<Regex, String> {
    let build = |expression: &str| {
        RegexBuilder::new(expression)
            .unicode(false)
            .size_limit(size_max_bytes)
            .dfa_size_limit(size_max_bytes)
            .nest_limit(NESTING_MAX)
            .build()
    };
    // By itself first, so that the frame around it cannot make sense of what makes none.
    build(expression).and_then(|_| build(&format!(r"\A(?:{expression})\z"))).map_err(|error| {
        // The crate draws several lines; the last one has the reason.
        let text = error.to_string();
        let what = text.lines().last().unwrap_or_default();
        let what = what.trim_start_matches("error: ").trim_end_matches('.');
        format!("SubscribedTopicRegex `{expression}` is not a valid regular expression: {what}.")
    })
}

fn resolve(regex: &Regex, topics: &Topics, now_ms: i64) -> Resolved {
    let names = topics.iter().map(|topic| &topic.name).filter(|name| regex.is_match(name.as_bytes()));
    Resolved { topics: names.cloned().collect(), at_ms: now_ms }
}

impl ConsumerGroup {
    fn is_current(&self, cx: &Context, known: &Resolved) -> bool {
        let age_ms = cx.now_ms.saturating_sub(known.at_ms);
        let refresh_ms = i64::from(cx.config.regex_refresh_interval_ms);
        let topics_changed = self.topics_changed_at_ms.is_some_and(|at_ms| at_ms >= known.at_ms);
        age_ms < if topics_changed { REFRESH_INTERVAL_MIN_MS.min(refresh_ms) } else { refresh_ms }
    }

    /// Whether no answer may be out of date.
    pub(super) fn are_regexes_current(&self, cx: &Context) -> bool {
        self.resolved.values().all(|known| self.is_current(cx, known))
    }

    /// Tries every expression that is new, or whose answer may be out of date, and forgets those that no member has. `true`
    /// if an answer changed.
    pub(super) fn refresh_regexes(&mut self, cx: &Context, records: &mut Vec<Record>) -> bool {
        let wanted: BTreeSet<Text> = self.members.values().filter_map(|member| member.regex.clone()).collect();
        let unwanted: Vec<Text> =
            self.resolved.keys().filter(|regex| !wanted.contains(*regex)).map(Text::clone).collect();
        for regex in unwanted {
            self.resolved.remove(&regex);
            records.push(self.regex_record(&regex, None));
        }
        let mut changed = false;
        for expression in wanted {
            let known = self.resolved.get(&expression);
            if known.is_some_and(|known| self.is_current(cx, known)) {
                continue;
            }
            // Members are let in with valid expressions alone; one out of the log of another broker matches nothing.
            let Ok(regex) = compiled(&expression, cx.config.regex_size_max_bytes) else { continue };
            let resolved = resolve(&regex, &cx.topics, cx.now_ms);
            changed |= known.is_none_or(|known| known.topics != resolved.topics);
            records.push(self.regex_record(&expression, Some(&resolved)));
            self.resolved.insert(expression, resolved);
        }
        changed
    }
}
