//! The README's first screen and first five minutes, word by word: the commands are taken out of it, only the port is another one.

use std::path::Path;
use std::process::Command;

use ottla_tests::client::run;
use ottla_tests::{Broker, artifact};

/// The chapter behind the commands.
const NEXT_CHAPTER: &str = "\n## Guarantees";
/// Where the README has its broker.
const ADDRESS: &str = "127.0.0.1:9092";

#[test]
fn every_command_of_the_readme_works_as_written() {
    let readme = std::fs::read_to_string(artifact::root().join("README.md")).expect("the README");
    let broker = Broker::start();
    let script = script(&readme).replace(ADDRESS, &broker.bootstrap());
    assert!(script.contains("ottla topic create packages --partitions 6"), "{script}");
    assert!(script.contains("kcat -P"), "{script}");

    // What is made along the way stays out of the checkout.
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::os::unix::fs::symlink(artifact::root().join("target"), directory.path().join("target")).expect("a link");
    let wheels = newest_wheel(&artifact::root().join("target/wheels"));
    let script = script.replace("target/wheels/ottla-*.whl", &wheels);
    let mut command = Command::new("bash");
    command.args(["-euxo", "pipefail", "-c", &script]).current_dir(directory.path());
    command.env("OTTLA_BOOTSTRAP", broker.bootstrap());
    let finished = run(command, &[]).success();

    let output = finished.text();
    assert!(output.contains("hello"), "the first record of all is shown: {output}");
    assert!(output.contains("bash"), "kcat's record is shown: {output}");
    assert!(output.contains("zsh"), "the Python client's record is shown: {output}");
    let ends = broker.end_offsets("packages", 6);
    let mut filled = ends.iter().filter(|&&end| end > 0);
    assert_eq!((filled.next(), filled.next()), (Some(&2), None), "one section, one partition: {ends:?}");
}

#[test]
fn the_readmes_sentence_about_upgrade_and_rollback_works_as_written() {
    let readme = std::fs::read_to_string(artifact::root().join("README.md")).expect("the README");
    let sentence =
        readme.split_once("Upload its next version").expect("the sentence").1.split_once("\n\n").expect("its end").0;
    let commands: Vec<&str> = sentence.split('`').skip(1).step_by(2).collect();
    let [upgrade, rollback] = commands[..] else { panic!("two commands: {commands:?}") };

    let broker = Broker::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::copy(artifact::plugin("by-key"), directory.path().join("next.wasm")).expect("another plugin");
    let says = |line: &str| {
        let mut command = Command::new("bash");
        let path = format!("{}:{}", artifact::ottla().parent().expect("a folder").display(), env!("PATH"));
        command
            .args(["-euc", line])
            .current_dir(directory.path())
            .env("PATH", path)
            .env("OTTLA_BOOTSTRAP", broker.bootstrap());
        run(command, &[])
    };
    let first = format!("ottla plugin push {} --name by-section", artifact::plugin("by-section").display());
    let first = says(&first).success().text();
    assert!(first.contains("version 1, active, used by no topic yet: ottla topic set TOPIC"), "{first}");
    let upgraded = says(upgrade).success().text();
    assert!(upgraded.contains("version 2, active"), "{upgraded}");
    let back = says(rollback).success().text();
    assert!(back.contains("runs version 1; marked bad: 2"), "{back}");

    let again = says(rollback);
    assert!(!again.status.success() && again.stderr.contains("runs version 1"), "{}", again.stderr);
    assert!(again.stderr.contains("ottla plugin rollback by-section --to VERSION"), "{}", again.stderr);
    let pushed_again = says(upgrade);
    assert!(!pushed_again.status.success(), "the same bytes are the bad version: {}", pushed_again.text());
    assert!(pushed_again.stderr.contains("ottla plugin activate by-section 2"), "{}", pushed_again.stderr);
    let shown = says("ottla plugin show by-section --json").success().text();
    assert!(shown.contains("\"active\":1") && shown.matches("\"bad\":true").count() == 1, "{shown}");
    assert!(says("ottla plugin rollback by-section --to 2").success().text().contains("runs version 2; marked bad: 1"));
}

/// The shell blocks, one after the other. Starting the broker and building are not repeated.
fn script(readme: &str) -> String {
    let commands = readme.split_once(NEXT_CHAPTER).expect("the chapter behind the commands").0;
    let blocks = commands.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("\n```")).map(|(block, _)| block);
    let lines = blocks.flat_map(str::lines);
    let done = |line: &&str| !line.starts_with("cargo run ") && !line.starts_with("cargo xtask ");
    lines.filter(done).collect::<Vec<_>>().join("\n")
}

/// A machine that built more than one version has more than one wheel; a clean clone has one.
fn newest_wheel(wheels: &Path) -> String {
    let files = std::fs::read_dir(wheels).expect("target/wheels: run `cargo xtask wheel`").flatten();
    let wheels = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|kind| kind == "whl"));
    let newest = wheels.max_by_key(|path| path.metadata().and_then(|file| file.modified()).ok());
    newest.expect("a wheel: run `cargo xtask wheel`").display().to_string()
}
