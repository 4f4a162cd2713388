//! Guests written in WebAssembly text against the real contract, so that every way of misbehaving is a few words long.

use std::borrow::Cow;
use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

/// The contract of partitioners.
pub const CONTRACT: &str = include_str!("../../../plugins/wit/0.1/partitioner.wit");
/// The interface that they export.
pub const INTERFACE: &str = "ottla:plugin/partitioner@0.1.0";
const WORLD: &str = "partitioner-plugin";
/// The contracts of the other kinds.
const SERIALIZER: &str = include_str!("../../../plugins/wit/0.1/serializer.wit");
const DEAD_LETTER_POLICY: &str = include_str!("../../../plugins/wit/0.1/dead-letter-policy.wit");
/// Where the texts of the manifest begin, and where memory that the host asks for begins.
const TEXTS_AT: usize = 1024;
const HEAP_AT: usize = 65536;
/// What the work function does unless told otherwise: it computes an answer for each record.
const ANSWER_EACH: &str = "(call $answer_each (local.get $records) (local.get $partitions))";

/// What a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestKind {
    /// Its work function is `partition`.
    Partitioner,
    /// Its work function is `encode`; `decode` does the same.
    Serializer,
    /// Its work function is `decide`.
    DeadLetterPolicy,
}

impl GuestKind {
    /// As the manifest names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Partitioner => "partitioner",
            Self::Serializer => "serializer",
            Self::DeadLetterPolicy => "dead-letter-policy",
        }
    }

    /// The contract, the world in it, and the interface that it exports.
    const fn contract(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Partitioner => (CONTRACT, WORLD, INTERFACE),
            Self::Serializer => (SERIALIZER, "serializer-plugin", "ottla:plugin/serializer@0.1.0"),
            Self::DeadLetterPolicy => {
                (DEAD_LETTER_POLICY, "dead-letter-plugin", "ottla:plugin/dead-letter-policy@0.1.0")
            }
        }
    }

    /// The work functions.
    const fn work(self) -> &'static [&'static str] {
        match self {
            Self::Partitioner => &["partition"],
            Self::Serializer => &["encode", "decode"],
            Self::DeadLetterPolicy => &["decide"],
        }
    }
}

/// A guest that puts every record on partition 0, unless told otherwise.
#[derive(Debug, Clone)]
pub struct Guest {
    /// What it is.
    pub kind: GuestKind,
    /// Pairs of its manifest.
    pub manifest: Vec<(&'static str, String)>,
    /// What `manifest()` does before it answers.
    pub before_manifest: &'static str,
    /// What `init(config, assets)` does; `$config` and `$config_bytes`, `$assets` and `$asset_count` are at hand.
    pub init: &'static str,
    /// What the work function does; `$records` and, in a partitioner, `$partitions` are at hand, and `$columns`.
    /// `$fill(partition, count)` answers for a partitioner, `$answer(numbers, count, columns, count)` for all. Unless told
    /// otherwise it computes `count` answers by `answer`.
    pub partition: &'static str,
    /// Instructions that leave the partition of record `$index`; `$records` and `$partitions` are at hand.
    pub answer: Cow<'static, str>,
    /// Instructions that leave the number of answers; the same are at hand.
    pub count: &'static str,
    /// Whether it wants a clock, which the broker does not grant.
    pub wants_clock: bool,
    /// What `cabi_realloc` does; `$size` is at hand.
    pub realloc: &'static str,
    /// More fields of the module.
    pub fields: &'static str,
    /// Pages of memory at the start.
    pub pages: u32,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            kind: GuestKind::Partitioner,
            manifest: vec![("kind", "partitioner".to_owned()), ("reads", "key".to_owned())],
            before_manifest: "",
            init: "(call $ok (i32.const 0) (i32.const 0))",
            partition: "(call $fill (i32.const 0) (local.get $records))",
            answer: "(i32.const 0)".into(),
            count: "(local.get $records)",
            wants_clock: false,
            realloc: "(call $alloc (local.get $size))",
            fields: "",
            pages: 2,
        }
    }
}

impl Guest {
    /// A plugin of a kind that does this when it is called, and reads these parts.
    pub fn of(kind: GuestKind, reads: &str, work: &'static str) -> Self {
        let manifest = vec![("kind", kind.name().to_owned()), ("reads", reads.to_owned())];
        Self { kind, manifest, ..Self::that(work) }
    }

    /// One that misbehaves when it is called.
    pub fn that(partition: &'static str) -> Self {
        Self { partition, ..Self::default() }
    }

    /// One that computes an answer for each record.
    pub fn answers(answer: impl Into<Cow<'static, str>>) -> Self {
        Self { answer: answer.into(), ..Self::that(ANSWER_EACH) }
    }

    /// Spreads the records of each batch: the first to partition 0, the second to 1, and so on.
    pub fn round_robin() -> Self {
        Self::answers("(i32.rem_u (local.get $index) (local.get $partitions))")
    }

    /// The same with one more pair in its manifest.
    #[must_use]
    pub fn with(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.manifest.push((name, text.into()));
        self
    }

    /// The finished component.
    pub fn component(&self) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let (text, name, interface) = self.kind.contract();
        let contract = resolve.push_str("contract.wit", text).expect("the contract");
        let world = if self.wants_clock {
            let text = format!(
                "package test:greedy;\ninterface clock {{ now: func() -> u64; }}\n\
                 world greedy {{ import clock; export {interface}; }}\n"
            );
            let package = resolve.push_str("greedy.wit", &text).expect("WIT");
            resolve.select_world(&[package], Some("greedy"))
        } else {
            resolve.select_world(&[contract], Some(name))
        };
        encode(self.module(interface), &resolve, world.expect("the world"))
    }

    /// The core module inside, which is not a component.
    pub fn module(&self, interface: &str) -> Vec<u8> {
        wat::parse_str(self.text(interface)).expect("the text of a test guest")
    }

    /// The function behind [`ANSWER_EACH`].
    fn answer_each(&self) -> String {
        let Self { answer, count, .. } = self;
        if self.partition != ANSWER_EACH {
            return String::new();
        }
        format!(
            "(func $answer_each (param $records i32) (param $partitions i32) (result i32)
            (local $index i32) (local $count i32) (local $at i32)
            (local.set $count {count})
            (local.set $at (call $alloc (i32.mul (local.get $count) (i32.const 4))))
            (block $done (loop $next_one
              (br_if $done (i32.ge_u (local.get $index) (local.get $count)))
              (i32.store (i32.add (local.get $at) (i32.mul (local.get $index) (i32.const 4))) {answer})
              (local.set $index (i32.add (local.get $index) (i32.const 1)))
              (br $next_one)))
            (call $ok (local.get $at) (local.get $count)))"
        )
    }

    /// The parameter that only partitioners have.
    fn partitions(&self) -> &'static str {
        if self.kind == GuestKind::Partitioner { "(param $partitions i32)" } else { "" }
    }

    /// Work functions besides the first, which do the same.
    fn more_work(&self, interface: &str, work: &str) -> String {
        let partitions = self.partitions();
        let given = if partitions.is_empty() { "" } else { "(local.get $partitions)" };
        let function = |function: &&str| {
            format!(
                r#"(func (export "{interface}#{function}")
                  (param $context i32) (param $contexts i32) (param $records i32) {partitions}
                  (param $columns i32) (param $column_count i32) (result i32)
                  (call ${work} (local.get $context) (local.get $contexts) (local.get $records) {given}
                    (local.get $columns) (local.get $column_count)))
                (func (export "cabi_post_{interface}#{function}") (param i32) (global.set $next (i32.const {HEAP_AT})))"#
            )
        };
        self.kind.work().iter().skip(1).map(function).collect()
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
        let (import, use_import) = if self.wants_clock {
            (r#"(import "test:greedy/clock" "now" (func $now (result i64)))"#, "(drop (call $now))")
        } else {
            ("", "")
        };
        let answer_each = self.answer_each();
        let work = self.kind.work().first().copied().unwrap_or_default();
        let partitions = self.partitions();
        let more = self.more_work(interface, work);
        let mut text = String::new();
        write!(
            text,
            r#"(module
              {import}
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
                (i32.store (i32.const 28) (i32.const 0))
                (i32.store (i32.const 32) (i32.const 0))
                (i32.const 16))
              (func $answer (param $at i32) (param $length i32) (param $columns i32) (param $column_count i32) (result i32)
                (drop (call $ok (local.get $at) (local.get $length)))
                (i32.store (i32.const 28) (local.get $columns))
                (i32.store (i32.const 32) (local.get $column_count))
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
                (i32.store (i32.const 48) (i32.const {pairs_at}))
                (i32.store (i32.const 52) (i32.const {pairs}))
                (i32.const 48))
              (func (export "{interface}#init")
                (param $config i32) (param $config_bytes i32) (param $assets i32) (param $asset_count i32) (result i32)
                {use_import} {init})
              (func ${work} (export "{interface}#{work}")
                (param $context i32) (param $contexts i32) (param $records i32) {partitions}
                (param $columns i32) (param $column_count i32) (result i32) {partition})
              (func (export "cabi_post_{interface}#{work}") (param i32) (global.set $next (i32.const {HEAP_AT})))
              {more}
              {answer_each}
              {fields})"#
        )
        .expect("text");
        text
    }
}

/// A component of another contract: the guest's functions under another interface.
pub fn component_of(wit: &str, interface: &str, guest: &Guest) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("other.wit", wit).expect("WIT");
    let world = resolve.select_world(&[package], Some(WORLD)).expect("the world");
    encode(guest.module(interface), &resolve, world)
}

fn encode(mut module: Vec<u8>, resolve: &Resolve, world: WorldId) -> Vec<u8> {
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).expect("metadata");
    let mut encoder = ComponentEncoder::default();
    encoder.module(&module).expect("a module").validate(true);
    encoder.encode().expect("a component")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How every component begins: magic, version 13, layer 1.
    const COMPONENT_HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn guests_become_components() {
        for guest in [Guest::default(), Guest::round_robin()] {
            assert!(guest.component().starts_with(COMPONENT_HEADER));
        }
    }

    #[test]
    fn the_greedy_one_names_its_import() {
        let component = Guest { wants_clock: true, ..Guest::round_robin() }.component();
        let name = b"test:greedy/clock";
        assert!(component.windows(name.len()).any(|window| window == name));
    }
}
