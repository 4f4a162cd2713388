//! The settings as text for people: `ottla serve --help` and the documentation read this and nothing else.

use super::topic::{TOPIC_SETTINGS, TopicSettings};
use super::{Config, SETTINGS};

const WIDTH: usize = 100;

/// Every broker setting: name, default, what it does.
pub fn broker_reference() -> String {
    let defaults = Config::default();
    let mut text = String::new();
    for setting in SETTINGS {
        entry(&mut text, setting.name, &(setting.show)(&defaults), setting.doc);
    }
    text
}

/// Every topic setting: name, default, what it does.
pub fn topic_reference() -> String {
    let defaults = TopicSettings::defaults(&Config::default());
    let mut text = String::new();
    for setting in TOPIC_SETTINGS {
        entry(&mut text, setting.name, &(setting.show)(&defaults), setting.doc);
    }
    text
}

fn entry(text: &mut String, name: &str, default: &str, doc: &str) {
    text.push_str("  ");
    text.push_str(name);
    if !default.is_empty() {
        text.push_str(" = ");
        text.push_str(default);
    }
    let mut column = WIDTH;
    for word in doc.split_whitespace() {
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
        for name in SETTINGS.iter().map(|s| s.name).chain(TOPIC_SETTINGS.iter().map(|s| s.name)) {
            assert!(text.contains(&format!("  {name}")), "{name}");
        }
        assert!(text.lines().all(|line| line.len() <= WIDTH + 1));
    }
}
