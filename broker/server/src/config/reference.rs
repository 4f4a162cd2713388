//! The settings as text for people: `ottla serve --help` and the documentation read this and nothing else.

use super::topic::{Effect, TOPIC_SETTINGS, TopicSettings};
use super::{Config, SETTINGS};

const WIDTH: usize = 100;

/// Every broker setting: name, default, what it does.
pub fn broker_reference() -> String {
    let defaults = Config::default();
    let mut text = String::new();
    for setting in SETTINGS {
        entry(&mut text, setting.name, &(setting.show)(&defaults), &[setting.doc]);
    }
    text
}

/// Every topic setting: name, default, what it does, and whether it does it yet.
pub fn topic_reference() -> String {
    let defaults = TopicSettings::defaults(&Config::default());
    let mut text = String::new();
    for setting in TOPIC_SETTINGS.iter().filter(|setting| !setting.is_internal()) {
        let effect = match setting.effect {
            Effect::Now => "",
            Effect::NotYet => "(Kept and shown; nothing acts on it.)",
        };
        entry(&mut text, setting.name, &(setting.show)(&defaults), &[setting.doc, effect]);
    }
    text
}

fn entry(text: &mut String, name: &str, default: &str, doc: &[&str]) {
    text.push_str("  ");
    text.push_str(name);
    if !default.is_empty() {
        text.push_str(" = ");
        text.push_str(default);
    }
    let mut column = WIDTH;
    for word in doc.iter().flat_map(|part| part.split_whitespace()) {
        if column + 1 + word.len() > WIDTH {
            text.push_str("\n     ");
            column = 5;
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + word.len();
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_names_every_setting_and_keeps_its_width() {
        let text = broker_reference() + &topic_reference();
        let topic_names = TOPIC_SETTINGS.iter().filter(|s| !s.is_internal()).map(|s| s.name);
        for name in SETTINGS.iter().map(|s| s.name).chain(topic_names) {
            assert!(text.contains(&format!("  {name}")), "{name}");
        }
        assert!(!text.contains("internal."));
        assert!(text.lines().all(|line| line.len() <= WIDTH + 1));
    }
}
