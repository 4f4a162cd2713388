//! Plugins whose answers a test reads off its keys.

use ottla_tests::guest::{Guest, GuestKind};

/// A partitioner that sends a record to the partition that its key, one digit, names, moved on by `shift`; a `t` makes
/// it fail.
pub fn digit(shift: u32) -> Vec<u8> {
    let guest = Guest::that(
        "(local $at i32) (local $i i32) (local $bytes i32) (local $digit i32)
         (local.set $bytes (i32.load offset=4 (local.get $columns)))
         (local.set $at (call $alloc (i32.mul (local.get $records) (i32.const 4))))
         (block $done (loop $more
           (br_if $done (i32.ge_u (local.get $i) (local.get $records)))
           (local.set $digit
             (i32.sub (i32.load8_u (i32.add (local.get $bytes) (local.get $i))) (i32.const 48)))
           (if (i32.eq (local.get $digit) (i32.const 68)) (then unreachable))
           (if (i32.lt_u (local.get $digit) (local.get $partitions)) (then
             (local.set $digit
               (i32.rem_u (i32.add (local.get $digit) (call $shift)) (local.get $partitions)))))
           (i32.store (i32.add (local.get $at) (i32.mul (local.get $i) (i32.const 4))) (local.get $digit))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br $more)))
         (call $ok (local.get $at) (local.get $records))",
    );
    let shift = match shift {
        0 => "(func $shift (result i32) (i32.const 0))",
        1 => "(func $shift (result i32) (i32.const 1))",
        _ => "(func $shift (result i32) (i32.const 2))",
    };
    Guest { fields: shift, ..guest }.component()
}

/// A serializer that does with a record what its key, one digit, says: 0 accepts it, 1 gives it the value `new`, 2 rejects and
/// 3 dead-letters it, both with the code `code` and the reason `bad!`; a `t` makes it fail.
pub fn verdict() -> Vec<u8> {
    let work = "(local $i i32) (local $keys i32) (local $digit i32) (local $numbers i32) (local $columns_at i32)
         (local $values i32) (local $value_lengths i32) (local $value_bytes i32)
         (local $reasons i32) (local $codes i32) (local $reason_lengths i32) (local $reason_bytes i32)
         (local.set $keys (i32.load offset=4 (local.get $columns)))
         (local.set $numbers (call $alloc (local.get $records)))
         (local.set $values (call $alloc (i32.mul (i32.add (local.get $records) (i32.const 1)) (i32.const 4))))
         (local.set $value_lengths (call $alloc (i32.mul (local.get $records) (i32.const 4))))
         (local.set $reasons (call $alloc (i32.mul (local.get $records) (i32.const 4))))
         (local.set $codes (call $alloc (i32.mul (local.get $records) (i32.const 4))))
         (local.set $reason_lengths (call $alloc (i32.mul (local.get $records) (i32.const 4))))
         (local.set $columns_at (call $alloc (i32.const 60)))
         (block $done (loop $more
           (br_if $done (i32.ge_u (local.get $i) (local.get $records)))
           (local.set $digit (i32.sub (i32.load8_u (i32.add (local.get $keys) (local.get $i))) (i32.const 48)))
           (if (i32.eq (local.get $digit) (i32.const 68)) (then unreachable))
           (i32.store8 (i32.add (local.get $numbers) (local.get $i)) (local.get $digit))
           (i32.store (call $at (local.get $value_lengths) (local.get $i)) (i32.const -2))
           (i32.store (call $at (local.get $reason_lengths) (local.get $i)) (i32.const -2))
           (if (i32.eq (local.get $digit) (i32.const 1)) (then
             (i32.store (call $at (local.get $value_lengths) (local.get $i)) (i32.const 3))
             (i32.store (i32.add (local.get $values) (local.get $value_bytes)) (i32.const 0x77656e))
             (local.set $value_bytes (i32.add (local.get $value_bytes) (i32.const 3)))))
           (if (i32.gt_u (local.get $digit) (i32.const 1)) (then
             (i32.store (call $at (local.get $reason_lengths) (local.get $i)) (i32.const 4))
             (i32.store (i32.add (local.get $reasons) (local.get $reason_bytes)) (i32.const 0x21646162))
             (i32.store (i32.add (local.get $codes) (local.get $reason_bytes)) (i32.const 0x65646f63))
             (local.set $reason_bytes (i32.add (local.get $reason_bytes) (i32.const 4)))))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br $more)))
         (call $column (local.get $columns_at) (i32.const 2) (local.get $values) (local.get $value_bytes)
           (local.get $value_lengths) (local.get $records))
         (call $column (i32.add (local.get $columns_at) (i32.const 20)) (i32.const 40) (local.get $reasons)
           (local.get $reason_bytes) (local.get $reason_lengths) (local.get $records))
         (call $column (i32.add (local.get $columns_at) (i32.const 40)) (i32.const 41) (local.get $codes)
           (local.get $reason_bytes) (local.get $reason_lengths) (local.get $records))
         (call $answer (local.get $numbers) (local.get $records) (local.get $columns_at) (i32.const 3))";
    let fields = "(func $at (param $base i32) (param $i i32) (result i32)
           (i32.add (local.get $base) (i32.mul (local.get $i) (i32.const 4))))
         (func $column (param $at i32) (param $kind i32) (param $bytes i32) (param $count i32) (param $lengths i32)
           (param $entries i32)
           (i32.store (local.get $at) (local.get $kind))
           (i32.store offset=4 (local.get $at) (local.get $bytes))
           (i32.store offset=8 (local.get $at) (local.get $count))
           (i32.store offset=12 (local.get $at) (local.get $lengths))
           (i32.store offset=16 (local.get $at) (local.get $entries)))";
    Guest { fields, ..Guest::of(GuestKind::Serializer, "key", work) }.with("codes", "code").component()
}
