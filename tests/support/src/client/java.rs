//! Apache's kafka-clients: `tests/clients/java/Member.java`, compiled against one of its versions.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::artifact;

/// Options as words NAME=VALUE: the JDK reads no JSON.
pub(super) fn command(version: &str, options: &Value) -> Command {
    let home = home(version);
    let classes = format!("{}:{}/*", home.join("classes").display(), home.join("jars").display());
    let mut command = Command::new("java");
    // A short life: the first compiler is enough, and several of them share two processors.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", &classes, "Member"]);
    for (name, value) in options.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        command.arg(format!("{name}={text}"));
    }
    command
}

pub(super) fn is_built(version: &str) -> bool {
    home(version).join("classes/Member.class").exists()
}

fn home(version: &str) -> PathBuf {
    artifact::root().join("target/java").join(version)
}
