//! The settings as text for people: `ottla serve --help` and `docs/settings.md` read this and nothing else.

use super::kafka::{KAFKA_BROKER_SETTINGS, KAFKA_TOPIC_SETTINGS, KafkaSettings, Standing};
use super::topic::{Effect, TOPIC_SETTINGS, TopicSettings};
use super::{CLIENT_METRICS_SETTINGS, Config, GROUP_SETTINGS, SETTINGS, Setting, is_live};

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

/// The page of all settings, `docs/settings.md`.
pub fn settings_page() -> String {
    let mut page = String::from(INTRODUCTION);
    let defaults = Config::default();
    let honoured = |setting: &&Setting| !is_without_effect(setting);
    page.push_str("\n## Broker\n\n| setting | default | changes | what |\n|---|---|---|---|\n");
    for setting in SETTINGS.iter().filter(honoured) {
        row(&mut page, &[&code(setting.name), &code(&(setting.show)(&defaults)), changes(setting), setting.doc]);
    }
    page.push_str("\n### Accepted without effect\n\n| setting | default | why |\n|---|---|---|\n");
    for setting in SETTINGS.iter().filter(|setting| !honoured(setting)) {
        row(&mut page, &[&code(setting.name), &code(&(setting.show)(&defaults)), setting.doc]);
    }
    kafka_table(&mut page, KAFKA_BROKER_SETTINGS, Standing::WithoutEffect, None);
    kafka_table(&mut page, KAFKA_BROKER_SETTINGS, Standing::Refused, Some("### Refused"));
    page.push_str("\n## Topics\n\n| setting | default | from | what |\n|---|---|---|---|\n");
    let topic_defaults = TopicSettings::defaults(&defaults);
    let shown = |effect: Effect| TOPIC_SETTINGS.iter().filter(move |it| !it.is_internal() && it.effect == effect);
    for setting in shown(Effect::Now) {
        let names: Vec<_> = setting.broker_names.iter().map(|name| code(name)).collect();
        let default = code(&(setting.show)(&topic_defaults));
        row(&mut page, &[&code(setting.name), &default, &names.join(", "), setting.doc]);
    }
    page.push_str("\n### Accepted without effect\n\n| setting | default | why |\n|---|---|---|\n");
    for setting in shown(Effect::NotYet) {
        row(&mut page, &[&code(setting.name), &code(&(setting.show)(&topic_defaults)), setting.doc]);
    }
    kafka_table(&mut page, KAFKA_TOPIC_SETTINGS, Standing::Refused, Some("### Refused"));
    page.push_str("\n## Groups\n\n| setting | default | from | what |\n|---|---|---|---|\n");
    for setting in GROUP_SETTINGS {
        let default = code(&(setting.default)(&defaults).to_string());
        let [min, max] = setting.bound_names;
        let what = format!("{} Between `{min}` and `{max}`.", setting.doc);
        row(&mut page, &[&code(setting.name), &default, &code(setting.broker_name), &what]);
    }
    page.push_str("\n## Client metrics\n\n| setting | default | what |\n|---|---|---|\n");
    for setting in CLIENT_METRICS_SETTINGS {
        row(&mut page, &[&code(setting.name), &code(setting.default), setting.doc]);
    }
    page
}

const INTRODUCTION: &str = "\
# Settings

Made from the tables in the code; a test keeps it true (`OTTLA_DOCS=write cargo test -p ottla-broker --lib settings_page`). Names, defaults and
ranges are Kafka's where Kafka has the setting. `ottla config describe` shows the values in force and where each comes from.

The broker takes settings from a TOML file (`ottla serve --config`) and from `--set KEY=VALUE`, later ones win. Those that change *at once* can
also be set while it runs, on this broker or on all (`ottla config set`, `kafka-configs.sh --entity-type brokers`); that is kept in the metadata
and counts more than the file. Those of topics, groups and client metrics change at once.
";

/// Whether nothing acts on a broker setting: so it is with the topic setting that it gives a default to.
fn is_without_effect(setting: &Setting) -> bool {
    TOPIC_SETTINGS.iter().any(|it| it.effect == Effect::NotYet && it.broker_names.contains(&setting.name))
}

fn changes(setting: &Setting) -> &'static str {
    if is_live(setting) { "at once" } else { "at the start" }
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

fn row(page: &mut String, cells: &[&str]) {
    for cell in cells {
        page.push_str("| ");
        let words: Vec<_> = cell.split_whitespace().collect();
        page.push_str(&words.join(" "));
        page.push(' ');
    }
    page.push_str("|\n");
}

fn kafka_table(page: &mut String, all: &[KafkaSettings], standing: Standing, head: Option<&str>) {
    let rows = all.iter().filter(|settings| settings.standing == standing);
    if let Some(head) = head {
        page.push('\n');
        page.push_str(head);
        page.push('\n');
    }
    page.push_str("\n| settings of Kafka | why |\n|---|---|\n");
    for KafkaSettings { names, why, .. } in rows {
        let names: Vec<_> = names.iter().map(|name| code(name)).collect();
        row(page, &[&names.join(", "), why]);
    }
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

    #[test]
    fn the_settings_page_says_what_the_tables_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
        let page = settings_page();
        if std::env::var("OTTLA_DOCS").is_ok_and(|value| value == "write") {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), page, "OTTLA_DOCS=write writes it anew");
    }
}
