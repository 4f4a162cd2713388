//! The conversations of `golden/*.txt` hold word by word. `OTTLA_GOLDEN=write` writes them anew, for review as text.

#![allow(clippy::disallowed_methods, reason = "this is the one place of the tests that reads and writes files")]

use crate::fetch_sessions;
use crate::script::Script;

fn holds(file: &str, replay: fn(&str) -> String) -> usize {
    let path = format!("{}/tests/golden/{file}.txt", env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read_to_string(&path).unwrap();
    let transcript: Vec<String> = golden.trim_end().split("\n\n").map(replay).collect();
    let conversations = transcript.iter().filter(|conversation| !conversation.starts_with("##")).count();
    let transcript = transcript.join("\n\n") + "\n";
    if std::env::var("OTTLA_GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(path, &transcript).unwrap();
        return conversations;
    }
    assert_eq!(transcript, golden, "{file}.txt");
    conversations
}

#[test]
fn conversations_with_classic_groups_hold() {
    assert!(holds("classic", Script::replay) >= 30);
}

#[test]
fn conversations_about_offsets_hold() {
    assert!(holds("offsets", Script::replay) >= 10);
}

#[test]
fn conversations_with_consumer_groups_hold() {
    assert!(holds("consumer", Script::replay) >= 20);
}

#[test]
fn conversations_about_migration_hold() {
    assert!(holds("migration", Script::replay) >= 10);
}

#[test]
fn conversations_about_fetch_sessions_hold() {
    assert!(holds("fetch_sessions", fetch_sessions::replay) >= 10);
}
