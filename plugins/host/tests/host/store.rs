//! Restarts and damage on disk.

use std::fs;
use std::path::PathBuf;

use ottla_plugin_host::{AdmitError, CompileError, Compiler, LoadError};
use ottla_tests::guest::Guest;

use crate::home::{Home, ask, compiler, no_compiler};

fn compiled_file(home: &Home) -> PathBuf {
    fs::read_dir(home.store().join("compiled")).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn after_a_restart_plugins_are_there_without_compiling() {
    let home = Home::new();
    let digest = home.admit(&Guest::default().component()).unwrap().digest;
    let host = home.restart(no_compiler());
    assert_eq!(host.digests().unwrap(), [digest]);
    assert_eq!(host.manifest(&digest).unwrap().reads.names(), ["key"]);
    assert_eq!(ask(&host.partitioner(&digest, "").unwrap(), &["a"]), Ok(vec![0]));
}

#[test]
fn compiled_code_that_is_gone_or_damaged_is_made_again() {
    let home = Home::new();
    let digest = home.admit(&Guest::default().component()).unwrap().digest;
    let path = compiled_file(&home);
    let good = fs::read(&path).unwrap();
    let damage: [&dyn Fn(); 4] = [
        &|| fs::remove_file(&path).unwrap(),
        &|| fs::write(&path, b"").unwrap(),
        &|| fs::write(&path, &good[..good.len() / 2]).unwrap(),
        &|| {
            let mut flipped = good.clone();
            flipped[good.len() / 2] ^= 4;
            fs::write(&path, flipped).unwrap();
        },
    ];
    for damage in damage {
        damage();
        // Without a compiler the damage is an error and nothing is executed.
        let error = home.restart(no_compiler()).partitioner(&digest, "").unwrap_err();
        assert!(matches!(error, LoadError::Compile(CompileError::Start { .. })), "{error}");
        let host = home.restart(compiler());
        assert_eq!(ask(&host.partitioner(&digest, "").unwrap(), &["a"]), Ok(vec![0]));
        // And it is on disk again.
        home.restart(no_compiler()).partitioner(&digest, "").unwrap();
    }
}

#[test]
fn a_component_that_changed_on_disk_is_refused() {
    let home = Home::new();
    let digest = home.admit(&Guest::default().component()).unwrap().digest;
    let other = Guest::that("(call $fill (i32.const 1) (local.get $records))").component();
    fs::write(home.store().join("wasm").join(format!("{digest}.wasm")), other).unwrap();
    fs::remove_file(compiled_file(&home)).unwrap();
    let error = home.restart(compiler()).partitioner(&digest, "").unwrap_err();
    assert!(error.to_string().contains("does not match its name"), "{error}");
}

/// Loading after a restart does not queue behind an expensive upload of another client.
#[test]
fn a_topic_does_not_wait_for_an_upload_to_compile() {
    let home = Home::new();
    let digest = home.admit(&Guest::default().component()).unwrap().digest;
    // A compiler that goes on until the test lets it end, in its work directory.
    let args = ["-c", "until [ -e enough ]; do sleep 0.01; done"].map(Into::into).to_vec();
    let host = home.restart(Compiler { program: "/bin/sh".into(), args });
    let slow = Guest::default().with("x-n", "slow").component();
    std::thread::scope(|scope| {
        let upload = scope.spawn(|| host.admit(&slow));
        let work = home.store().join("work/0");
        while !work.join("output.txt").exists() {
            std::thread::yield_now();
        }
        assert_eq!(ask(&host.partitioner(&digest, "").unwrap(), &["a"]), Ok(vec![0]));
        assert!(!upload.is_finished());
        fs::write(work.join("enough"), "").unwrap();
        // It ended without a result, which is no refusal of the plugin.
        assert!(!upload.join().unwrap().unwrap_err().is_refusal());
    });
}

/// An operator, or a machine short of memory: the plugin has nothing to do with it.
#[test]
fn a_compiler_that_is_killed_is_no_refusal_of_the_plugin_and_the_next_upload_is_taken() {
    let home = Home::new();
    let component = Guest::default().component();
    for signal in ["KILL", "TERM"] {
        let args = vec!["-c".into(), format!("kill -{signal} $$").into()];
        let error = home.restart(Compiler { program: "/bin/sh".into(), args }).admit(&component).unwrap_err();
        assert!(matches!(error, AdmitError::Compile(CompileError::Interrupted { .. })), "{error}");
        assert!(!error.is_refusal(), "{error}");
    }
    home.admit(&component).unwrap();
}

#[test]
fn a_removed_plugin_can_be_uploaded_again() {
    let home = Home::new();
    let component = Guest::default().component();
    let digest = home.admit(&component).unwrap().digest;
    home.host.remove(&digest).unwrap();
    assert!(!home.host.contains(&digest));
    assert!(matches!(home.host.component(&digest), Err(LoadError::NotStored { .. })));
    assert_eq!(home.admit(&component).unwrap().digest, digest);
    assert_eq!(ask(&home.host.partitioner(&digest, "").unwrap(), &["a"]), Ok(vec![0]));
}

#[test]
fn files_of_the_store_are_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    home.admit(&Guest::default().component()).unwrap();
    for path in [home.store(), home.store().join("seal.key"), compiled_file(&home)] {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
}

#[test]
fn a_host_without_plugins_touches_nothing() {
    let home = Home::new();
    assert_eq!(home.host.digests().unwrap(), []);
    assert!(!home.store().exists());
}
