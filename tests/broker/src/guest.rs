//! A plugin whose answer a test reads off its keys.

use ottla_tests::guest::Guest;

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
