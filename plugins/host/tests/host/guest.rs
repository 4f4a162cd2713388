//! Guests written in WebAssembly text against the real contract, so that every way of misbehaving is a few words long.

use std::fmt::Write as _;
use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve};

const INTERFACE: &str = "ottla:plugin/partitioner@0.1.0-draft";
const WORLD: &str = "partitioner-plugin";
/// Where the texts of the manifest begin, and where memory that the host asks for begins.
const TEXTS_AT: usize = 1024;
const HEAP_AT: usize = 65536;

/// A guest that puts every record on partition 0, unless told otherwise.
#[derive(Clone)]
pub(crate) struct Guest {
    /// Pairs of its manifest.
    pub(crate) manifest: Vec<(&'static str, String)>,
    /// What `manifest()` does before it answers.
    pub(crate) before_manifest: &'static str,
    /// What `init(config)` does; `$config` and `$config_bytes` are at hand.
    pub(crate) init: &'static str,
    /// What `partition(…)` does; `$records` and `$partitions` are at hand, `$fill(partition, count)` answers.
    pub(crate) partition: &'static str,
    /// What `cabi_realloc` does; `$size` is at hand.
    pub(crate) realloc: &'static str,
    /// More fields of the module.
    pub(crate) fields: &'static str,
    /// Pages of memory at the start.
    pub(crate) pages: u32,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            manifest: vec![("kind", "partitioner".to_owned()), ("reads", "key".to_owned())],
            before_manifest: "",
            init: "(call $ok (i32.const 0) (i32.const 0))",
            partition: "(call $fill (i32.const 0) (local.get $records))",
            realloc: "(call $alloc (local.get $size))",
            fields: "",
            pages: 2,
        }
    }
}

impl Guest {
    /// One that misbehaves when it is called.
    pub(crate) fn that(partition: &'static str) -> Self {
        Self { partition, ..Self::default() }
    }

    /// The same with one more pair in its manifest.
    pub(crate) fn with(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.manifest.push((name, text.into()));
        self
    }

    /// The finished component.
    pub(crate) fn component(&self) -> Vec<u8> {
        let (resolve, package) = contract();
        encode(&self.module(INTERFACE), &resolve, package)
    }

    /// The core module inside, which is not a component.
    pub(crate) fn module(&self, interface: &str) -> Vec<u8> {
        wat::parse_str(self.text(interface)).expect("the text of a test guest")
    }

    fn text(&self, interface: &str) -> String {
        let (mut texts, mut table) = (String::new(), String::new());
        let pairs_at = TEXTS_AT + self.manifest.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>();
        let mut at = TEXTS_AT;
        for text in self.manifest.iter().flat_map(|(name, text)| [*name, text.as_str()]) {
            texts.extend(text.bytes().map(|byte| format!("\\{byte:02x}")));
            for number in [at as u32, text.len() as u32] {
                table.extend(number.to_le_bytes().map(|byte| format!("\\{byte:02x}")));
            }
            at += text.len();
        }
        // Pairs are read as 32-bit numbers, so they begin where such numbers may.
        let padding = pairs_at.next_multiple_of(4) - pairs_at;
        for _ in 0..padding {
            texts.push_str("\\00");
        }
        let (pairs_at, pairs) = (pairs_at + padding, self.manifest.len());
        let Self { before_manifest, init, partition, realloc, fields, pages, .. } = self;
        let mut text = String::new();
        write!(
            text,
            r#"(module
              (memory (export "memory") {pages})
              (data (i32.const {TEXTS_AT}) "{texts}{table}")
              (global $next (mut i32) (i32.const {HEAP_AT}))
              (func $alloc (param $size i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.set $next (i32.add (local.get $at) (local.get $size)))
                (block $enough (loop $more
                  (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
                  (br_if $enough (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
                  (br $more)))
                (local.get $at))
              (func $result (param $tag i32) (param $at i32) (param $length i32) (result i32)
                (i32.store (i32.const 16) (local.get $tag))
                (i32.store (i32.const 20) (local.get $at))
                (i32.store (i32.const 24) (local.get $length))
                (i32.const 16))
              (func $ok (param $at i32) (param $length i32) (result i32)
                (call $result (i32.const 0) (local.get $at) (local.get $length)))
              (func $err (param $at i32) (param $length i32) (result i32)
                (call $result (i32.const 1) (local.get $at) (local.get $length)))
              (func $fill (param $value i32) (param $count i32) (result i32)
                (local $at i32) (local $left i32)
                (local.set $at (call $alloc (i32.mul (local.get $count) (i32.const 4))))
                (local.set $left (local.get $count))
                (block $done (loop $next_one
                  (br_if $done (i32.eqz (local.get $left)))
                  (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                  (i32.store (i32.add (local.get $at) (i32.mul (local.get $left) (i32.const 4))) (local.get $value))
                  (br $next_one)))
                (call $ok (local.get $at) (local.get $count)))
              (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32)
                (result i32) {realloc})
              (func (export "{interface}#manifest") (result i32)
                {before_manifest}
                (i32.store (i32.const 32) (i32.const {pairs_at}))
                (i32.store (i32.const 36) (i32.const {pairs}))
                (i32.const 32))
              (func (export "{interface}#init") (param $config i32) (param $config_bytes i32) (result i32) {init})
              (func $partition (export "{interface}#partition")
                (param $context i32) (param $contexts i32) (param $records i32) (param $partitions i32)
                (param $columns i32) (param $column_count i32) (result i32) {partition})
              (func (export "cabi_post_{interface}#partition") (param i32) (global.set $next (i32.const {HEAP_AT})))
              {fields})"#
        )
        .expect("text");
        text
    }
}

/// A component of another contract: the default guest's functions under another interface.
pub(crate) fn component_of(wit: &str, interface: &str, guest: &Guest) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("other.wit", wit).expect("WIT");
    encode(&guest.module(interface), &resolve, package)
}

/// The contract's text, to be changed by a test.
pub(crate) fn contract_text() -> String {
    std::fs::read_to_string(contract_dir().join("partitioner.wit")).expect("the contract")
}

/// The contract's folder, seen from this crate or from the broker's, whose tests use these guests as well.
fn contract_dir() -> std::path::PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = [here.join("../wit/draft-0.1"), here.join("../../plugins/wit/draft-0.1")];
    candidates.into_iter().find(|folder| folder.is_dir()).expect("the contract's folder")
}

fn contract() -> (Resolve, PackageId) {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(contract_dir()).expect("the contract");
    (resolve, package)
}

fn encode(module: &[u8], resolve: &Resolve, package: PackageId) -> Vec<u8> {
    let world = resolve.select_world(&[package], Some(WORLD)).expect("the world");
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).expect("metadata");
    let mut encoder = ComponentEncoder::default();
    encoder.module(&module).expect("a module").validate(true);
    encoder.encode().expect("a component")
}
