//! The conversations of `golden/*.txt` hold word by word. `OTTLA_GOLDEN=write` writes them anew, for review as text.

use crate::script::Script;

fn holds(file: &str) -> usize {
    let path = format!("{}/tests/golden/{file}.txt", env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read_to_string(&path).unwrap();
    let transcript: Vec<String> = golden.trim_end().split("\n\n").map(Script::replay).collect();
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
    assert!(holds("classic") >= 30);
}

#[test]
fn conversations_about_offsets_hold() {
    assert!(holds("offsets") >= 10);
}
