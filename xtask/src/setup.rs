//! What the machine must have before anything is tested. Every step looks first and does nothing when it is done.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::guests;
use crate::shell::{cargo, shell};

/// Exact versions, so that a red test is about this project and not about a release from last night.
const PYTHON_PACKAGES: &[&str] = &[
    "confluent-kafka==2.16.1",
    "kafka-python==3.0.12",
    "aiokafka==0.14.0",
    // Codecs that the pure-Python clients load when they are there.
    "cramjam==2.14.0",
    "lz4==4.4.5",
    "python-snappy==0.7.3",
    "zstandard==0.25.0",
    "maturin==1.16.0",
    "pytest==9.2.0",
];
const KAFKAJS: &str = "kafkajs@2.2.4";
/// The newest kafka-clients, and the last before version 4. The harness of the tests names them too.
const KAFKA_CLIENTS: &[&str] = &["4.4.0", "3.9.2"];
const CARGO_DENY: &str = "0.20.2";
const PYTHON_AT_LEAST: (u32, u32) = (3, 11);
const NODE_AT_LEAST: u32 = 16;

/// Something that could not be had, and what it means. The chore that needs it says so, instead of failing oddly later.
pub(crate) struct Missing {
    pub(crate) what: &'static str,
    pub(crate) why: String,
}

type Step = (&'static str, fn(&Path) -> Result<String>);

const STEPS: &[Step] = &[
    ("system packages", system_packages),
    ("Python clients", python_clients),
    ("KafkaJS", kafkajs),
    ("Java clients", java_clients),
    ("Go clients", go_clients),
    ("rskafka", rskafka),
    ("Apache Kafka", kafka),
    ("package index", package_index),
    ("cargo-deny", cargo_deny),
    ("guest toolchain", |root| guests::setup(root).map(|()| "ready".to_owned())),
];

/// Runs all steps, says what each found, and returns what could not be had.
pub(crate) fn run(root: &Path) -> Result<Vec<Missing>> {
    fs::create_dir_all(root.join("target"))?;
    let mut missing = Vec::new();
    for (index, &(what, step)) in STEPS.iter().enumerate() {
        println!("[{}/{}] {what} …", index + 1, STEPS.len());
        match step(root) {
            Ok(found) => println!("      {found}"),
            Err(error) => {
                let why = format!("{error:#}");
                println!("      not installed: {why}");
                missing.push(Missing { what, why });
            }
        }
    }
    Ok(missing)
}

fn system_packages(_root: &Path) -> Result<String> {
    let mut packages = Vec::new();
    if !shell("kcat", &["-V"]).works() {
        packages.push("kcat");
    }
    if !shell("strace", &["-V"]).works() {
        packages.push("strace");
    }
    // Not on the path of every user; only root can use it anyway.
    if !Path::new("/usr/sbin/mkfs.xfs").exists() {
        packages.push("xfsprogs");
    }
    if !shell("python3", &["-c", "import venv, ensurepip"]).works() {
        packages.push("python3-venv");
    }
    if node_major().is_none_or(|major| major < NODE_AT_LEAST) {
        packages.push("nodejs");
        packages.push("npm");
    } else if !shell("npm", &["--version"]).works() {
        packages.push("npm");
    }
    if packages.is_empty() {
        return Ok("all here".to_owned());
    }
    apt_get_install(&packages)?;
    Ok(format!("installed {}", packages.join(", ")))
}

fn node_major() -> Option<u32> {
    let version = shell("node", &["--version"]).quiet().ok()?;
    version.trim().trim_start_matches('v').split('.').next()?.parse().ok()
}

fn apt_get_install(packages: &[&str]) -> Result<()> {
    let advice = || format!("as root, run: apt-get update && apt-get install {}", packages.join(" "));
    if !shell("apt-get", &["--version"]).works() {
        bail!("this machine has no apt-get; install {} in its own way", packages.join(", "));
    }
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    // Old lists name packages that are gone: one update and a second try is the whole cure.
    if as_root(&install).is_err() {
        as_root(&["update"]).with_context(advice)?;
        as_root(&install).with_context(advice)?;
    }
    Ok(())
}

/// `apt-get` as root: directly where we are root, through sudo (without asking for a password) elsewhere.
fn as_root(arguments: &[&str]) -> Result<()> {
    let root = shell("id", &["-u"]).quiet()?.trim() == "0";
    let command = if root { shell("apt-get", arguments) } else { shell("sudo", &["-n", "apt-get"]).args(arguments) };
    command.env("DEBIAN_FRONTEND", "noninteractive").quiet()?;
    Ok(())
}

fn python_clients(root: &Path) -> Result<String> {
    let version = shell("python3", &["-c", "import sys; print(*sys.version_info[:2])"])
        .quiet()
        .context("install Python 3.11 or newer (Debian 12: apt-get install python3 python3-venv)")?;
    let mut numbers = version.split_whitespace().filter_map(|number| number.parse().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < PYTHON_AT_LEAST {
        bail!("python3 is {}.{}; 3.11 or newer is needed", found.0, found.1);
    }

    let venv = root.join("target/venv");
    let wanted = PYTHON_PACKAGES.join("\n");
    let stamp = venv.join("installed");
    let python = venv.join("bin/python");
    let usable = shell(&python, &["-c", "import confluent_kafka, kafka, aiokafka"]);
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && usable.works() {
        return Ok(format!("all here: {}", PYTHON_PACKAGES[..3].join(", ")));
    }
    shell("python3", &["-m", "venv", "--clear"]).args(&[venv.to_string_lossy()]).quiet()?;
    shell(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(PYTHON_PACKAGES)
        .quiet()?;
    fs::write(stamp, &wanted)?;
    Ok(format!("installed {}", PYTHON_PACKAGES.join(", ")))
}

fn kafkajs(root: &Path) -> Result<String> {
    let directory = root.join("target/node");
    let stamp = directory.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == KAFKAJS) {
        return Ok(format!("all here: {KAFKAJS}"));
    }
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("package.json"), "{\"private\": true}\n")?;
    shell("npm", &["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", KAFKAJS])
        .at(&directory)
        .quiet()?;
    fs::write(stamp, KAFKAJS)?;
    Ok(format!("installed {KAFKAJS}"))
}

/// kafka-clients with Maven, and `tests/clients/java` compiled against it.
fn java_clients(root: &Path) -> Result<String> {
    let sources = root.join("tests/clients/java");
    let wanted = format!("{}{}", read(&sources.join("pom.xml"))?, read(&sources.join("Member.java"))?);
    for version in KAFKA_CLIENTS {
        let home = root.join("target/java").join(version);
        let stamp = home.join("installed");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            continue;
        }
        let path = |name: &str| home.join(name).to_string_lossy().into_owned();
        let (jars, classes) = (path("jars"), path("classes"));
        let settings = [format!("-Dkafka.version={version}"), format!("-DoutputDirectory={jars}")];
        shell("mvn", &["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"])
            .args(&settings)
            .at(&sources)
            .quiet()
            .context("install Maven and a JDK of version 17 or newer (Debian 12: apt-get install maven)")?;
        shell("javac", &["-d", &classes, "-cp", &format!("{jars}/*"), "Member.java"])
            .at(&sources)
            .quiet()
            .context("install a JDK of version 17 or newer (Debian 12: apt-get install openjdk-17-jdk-headless)")?;
        fs::write(stamp, &wanted)?;
    }
    Ok(format!("kafka-clients {}", KAFKA_CLIENTS.join(", ")))
}

/// franz-go, sarama and segmentio/kafka-go, in the programs of `tests/clients/go`. What is built already costs no time.
fn go_clients(root: &Path) -> Result<String> {
    let target = root.join("target/go");
    fs::create_dir_all(&target)?;
    let output = format!("{}/", target.display());
    shell("go", &["build", "-mod=readonly", "-o", &output, "./franz", "./sarama", "./segmentio"])
        .at(&root.join("tests/clients/go"))
        .quiet()
        .context("install Go 1.26 or newer")?;
    Ok("franz-go, sarama, segmentio/kafka-go".to_owned())
}

/// The program of `tests/clients/rskafka`, with the dependencies of a client and not ours.
fn rskafka(root: &Path) -> Result<String> {
    let target = root.join("target/rskafka");
    cargo(root, &["build", "--release", "--locked", "--quiet", "--manifest-path", "tests/clients/rskafka/Cargo.toml"])
        .env("CARGO_TARGET_DIR", target)
        .quiet()?;
    Ok("built".to_owned())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The jars of a Kafka cluster that our client is tested against. Without Java that suite does not run.
fn kafka(root: &Path) -> Result<String> {
    let home = root.join("target/kafka-4.4");
    let (pom, stamp) = (root.join("tests/kafka/pom.xml"), home.join("complete"));
    let wanted = fs::read_to_string(&pom)?;
    if fs::read_to_string(&stamp).is_ok_and(|fetched| fetched == wanted) {
        return Ok("all here".to_owned());
    }
    for (program, package) in [("java", "default-jre-headless"), ("mvn", "maven")] {
        if !shell(program, &["-version"]).works() {
            return Ok(format!("left out: it needs `{program}` (Debian: apt-get install {package})"));
        }
    }
    shell("mvn", &["--batch-mode", "--quiet", "dependency:copy-dependencies", "--file"])
        .args(&[pom.to_string_lossy(), format!("-DoutputDirectory={}", home.join("jars").display()).into()])
        .quiet()?;
    fs::write(stamp, &wanted)?;
    Ok("fetched 4.4.0".to_owned())
}

/// The real records of the end-to-end test. Without them the test makes records of the same shape, and says so.
fn package_index(_root: &Path) -> Result<String> {
    if index_files() == 0 {
        as_root(&["update"]).context("as root, run: apt-get update")?;
    }
    match index_files() {
        0 => bail!("no file matches /var/lib/apt/lists/*_Packages*; tests make records of the same shape"),
        files => Ok(format!("{files} files of the machine's package index")),
    }
}

fn index_files() -> usize {
    let Ok(lists) = fs::read_dir("/var/lib/apt/lists") else { return 0 };
    lists.flatten().filter(|file| file.file_name().to_string_lossy().contains("_Packages")).count()
}

fn cargo_deny(root: &Path) -> Result<String> {
    let tool = root.join("target/tools/bin/cargo-deny");
    let installed = shell(&tool, &["--version"]).quiet().unwrap_or_default();
    if installed.trim().ends_with(CARGO_DENY) {
        return Ok(format!("all here: {}", installed.trim()));
    }
    let tools = root.join("target/tools");
    // A development build: it runs for a second, and takes half the time to compile.
    cargo(root, &["install", "cargo-deny", "--version", CARGO_DENY, "--locked", "--debug", "--quiet"])
        .args(&["--root".into(), tools.to_string_lossy()])
        .env("CARGO_TARGET_DIR", tools.join("build"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .quiet()?;
    fs::remove_dir_all(tools.join("build")).ok();
    Ok(format!("installed cargo-deny {CARGO_DENY}"))
}
