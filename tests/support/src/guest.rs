//! Small plugins, right and wrong ones, assembled here: no toolchain is needed, and each does exactly what its name says.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The contract that ready-made plugins are built against.
const CONTRACT: &str = include_str!("../../../plugins/wit/draft-0.1/partitioner.wit");
const INTERFACE: &str = "ottla:plugin/partitioner@0.1.0-draft";

/// A partitioner, by what it computes. Instructions have `$index`, `$records` and `$partitions` to work with.
#[derive(Debug, Clone, Copy)]
pub struct Guest<'a> {
    /// Instructions that leave the partition of record `$index`.
    pub answer: &'a str,
    /// Instructions that leave the number of answers.
    pub count: &'a str,
    /// Whether it wants a clock, which the broker does not grant.
    pub wants_clock: bool,
}

/// Spreads the records of each batch: the first to partition 0, the second to 1, and so on.
pub const ROUND_ROBIN: Guest<'_> = Guest {
    answer: "(i32.rem_u (local.get $index) (local.get $partitions))",
    count: "(local.get $records)",
    wants_clock: false,
};

impl Guest<'_> {
    /// The component.
    pub fn component(&self) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let contract = resolve.push_str("partitioner.wit", CONTRACT).expect("the contract is WIT");
        let world = if self.wants_clock {
            let text = format!(
                "package test:greedy;\ninterface clock {{ now: func() -> u64; }}\n\
                 world greedy {{ import clock; export {INTERFACE}; }}\n"
            );
            let package = resolve.push_str("greedy.wit", &text).expect("the world is WIT");
            resolve.select_world(&[package], Some("greedy")).expect("the world is there")
        } else {
            resolve.select_world(&[contract], None).expect("the contract has one world")
        };
        let mut module = wat::parse_str(self.module()).expect("the module is WAT");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .expect("the world fits the module");
        let mut encoder = ComponentEncoder::default();
        let encoder = encoder.validate(true).module(&module).expect("the module fits its world");
        encoder.encode().expect("a component")
    }

    /// The core module: strings and the manifest at fixed places, everything that travels above 4096, taken back after
    /// each call.
    pub fn module(&self) -> String {
        let Guest { answer, count, wants_clock } = self;
        let import = if *wants_clock { r#"(import "test:greedy/clock" "now" (func $now (result i64)))"# } else { "" };
        let use_import = if *wants_clock { "(drop (call $now))" } else { "" };
        format!(
            r#"(module
  {import}
  (memory (export "memory") 1)
  (global $free (mut i32) (i32.const 4096))
  (data (i32.const 16) "kindpartitionerreadskey")
  ;; The manifest: a list of two pairs of texts.
  (data (i32.const 256) "\10\00\00\00\04\00\00\00" "\14\00\00\00\0b\00\00\00" "\1f\00\00\00\05\00\00\00" "\24\00\00\00\03\00\00\00")
  (data (i32.const 320) "\00\01\00\00\02\00\00\00")
  (func $take (param $bytes i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
    (global.set $free (i32.add (local.get $at) (local.get $bytes)))
    (loop $grow
      (if (i32.gt_u (global.get $free) (i32.mul (memory.size) (i32.const 65536)))
        (then (br_if $grow (i32.ne (memory.grow (i32.const 16)) (i32.const -1))) (unreachable))))
    (local.get $at))
  (func (export "cabi_realloc") (param $old i32) (param $old_bytes i32) (param $align i32) (param $bytes i32) (result i32)
    (local $at i32)
    (local.set $at (call $take (local.get $bytes)))
    (memory.copy (local.get $at) (local.get $old) (local.get $old_bytes))
    (local.get $at))
  (func (export "{INTERFACE}#manifest") (result i32) (i32.const 320))
  (func (export "{INTERFACE}#init") (param i32 i32) (result i32)
    {use_import}
    (i32.store8 (i32.const 336) (i32.const 0))
    (i32.const 336))
  (func (export "{INTERFACE}#partition")
    (param $context i32) (param $contexts i32) (param $records i32) (param $partitions i32)
    (param $columns i32) (param $column_count i32) (result i32)
    (local $index i32) (local $count i32) (local $at i32)
    (local.set $count {count})
    (local.set $at (call $take (i32.mul (local.get $count) (i32.const 4))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $index) (local.get $count)))
        (i32.store (i32.add (local.get $at) (i32.mul (local.get $index) (i32.const 4))) {answer})
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    ;; ok(list)
    (i32.store8 (i32.const 352) (i32.const 0))
    (i32.store (i32.const 356) (local.get $at))
    (i32.store (i32.const 360) (local.get $count))
    (i32.const 352))
  (func (export "cabi_post_{INTERFACE}#partition") (param i32) (global.set $free (i32.const 4096))))"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How every component begins: magic, version 13, layer 1.
    const COMPONENT_HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn guests_become_components() {
        assert!(ROUND_ROBIN.component().starts_with(COMPONENT_HEADER));
    }

    #[test]
    fn the_greedy_one_names_its_import() {
        let component = Guest { wants_clock: true, ..ROUND_ROBIN }.component();
        let name = b"test:greedy/clock";
        assert!(component.windows(name.len()).any(|window| window == name));
    }
}
